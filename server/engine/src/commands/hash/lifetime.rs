//! Values and lifetimes of fields together, as Redis 8 has them: HGETDEL, HGETEX, HSETEX.

use super::expire::{BAD_COUNT, EXPIRY_MAX, parse_fields};
use super::{change, change_or_create, find};
use crate::command::options::{ExpiryArg, ExpiryForm, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::hash::{FieldExpiry, Hash};

fn values_of(hash: Option<&Hash>, fields: Args<'_>, now: UnixMillis) -> BulkList {
    let mut values = BulkList::with_capacity(fields.len(), 16);
    for field in fields {
        match hash.and_then(|hash| hash.get(field, now)) {
            Some(value) => value.push_to(&mut values),
            None => values.push_nil(),
        }
    }
    values
}

/// `HGETDEL key FIELDS numfields field [field …]`: the values, nil where there is none; the
/// fields go. O(N).
fn hgetdel(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let fields = parse_fields(&args[2..], BAD_COUNT)?;
    let values = values_of(find(view, args[1])?, fields, view.now());
    if values.iter().all(|value| value.is_none()) {
        return Ok(Reply::Bulks(values));
    }
    let removed = change(view, args[1], Some("hdel"), effects, |draft| {
        let hash = draft.swept();
        Ok(Edit::Made(fields.iter().filter(|field| hash.remove(field)).count()))
    })?;
    effects.changed(removed.unwrap_or(0) as u64);
    Ok(Reply::Bulks(values))
}

/// What becomes of the fields' expiries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    /// Nothing is said of them.
    Unsaid,
    /// `PERSIST`: they go.
    Forever,
    /// `KEEPTTL`: they stay, though the values change.
    Kept,
    /// They expire then.
    Until(UnixMillis),
}

/// `EX`, `PX`, `EXAT` or `PXAT` with its number, at the front of `args`.
fn parse_until<'a>(
    args: Args<'a>,
    view: &View<'_>,
    command: &str,
) -> Result<Option<(UnixMillis, Args<'a>)>, CommandError> {
    let [word, text, rest @ ..] = args else {
        return Ok(None);
    };
    let Some(form) = ExpiryForm::of_option(word) else {
        return Ok(None);
    };
    let at = ExpiryArg { form, text }.resolve(view.now(), command)?;
    if at > EXPIRY_MAX {
        return Err(CommandError::invalid_expire(command));
    }
    Ok(Some((at, rest)))
}

/// `HGETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] FIELDS numfields field [field …]`:
/// the values, nil where there is none; the fields' expiries change. O(N).
fn hgetex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (lifetime, rest) = match parse_until(&args[2..], view, "hgetex")? {
        Some((at, rest)) => (Lifetime::Until(at), rest),
        None if is(args[2], "PERSIST") => (Lifetime::Forever, &args[3..]),
        None => (Lifetime::Unsaid, &args[2..]),
    };
    let fields = parse_fields(rest, BAD_COUNT)?;
    let (hash, now) = (find(view, args[1])?, view.now());
    let values = values_of(hash, fields, now);
    let passed = matches!(lifetime, Lifetime::Until(at) if at <= now);
    let is_changed = |field: &&&[u8]| {
        hash.is_some_and(|hash| {
            hash.get(field, now).is_some()
                && (lifetime != Lifetime::Forever || hash.field_expiry(field).is_some())
        })
    };
    let touched: Vec<&[u8]> = fields.iter().filter(is_changed).copied().collect();
    if lifetime == Lifetime::Unsaid || touched.is_empty() {
        return Ok(Reply::Bulks(values));
    }
    let event = match lifetime {
        Lifetime::Until(_) if passed => "hdel",
        Lifetime::Until(_) => "hexpire",
        _ => "hpersist",
    };
    change(view, args[1], Some(event), effects, |draft| {
        let hash = draft.swept();
        for field in &touched {
            match lifetime {
                Lifetime::Until(_) if passed => {
                    hash.remove(field);
                }
                // A field named twice was removed or not the first time, never in between.
                Lifetime::Until(at) => hash.set_field_expiry(field, Some(at)),
                _ => hash.set_field_expiry(field, None),
            }
        }
        Ok(Edit::Made(()))
    })?;
    effects.changed(touched.len() as u64);
    Ok(Reply::Bulks(values))
}

/// HSETEX's `FNX` and `FXX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    NoneThere,
    AllThere,
}

/// `HSETEX key [FNX | FXX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] FIELDS numfields field
/// value [field value …]`: 1, or 0 if the condition forbade it. O(N).
fn hsetex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (condition, lifetime, rest) = parse_hsetex(view, args)?;
    let pairs = parse_pairs(rest)?;
    let now = view.now();
    let passed = matches!(lifetime, Lifetime::Until(at) if at <= now);
    if passed && view.peek(args[1]).is_none() {
        // Fields that never live make no key.
        return Ok(Reply::flag(condition != Condition::AllThere));
    }
    let expiry = if lifetime == Lifetime::Kept { FieldExpiry::Kept } else { FieldExpiry::Dropped };
    let set = change_or_create(view, args[1], "hset", effects, |draft| {
        let there = |pair: &[&[u8]]| draft.hash.get(pair[0], now).is_some();
        let allowed = match condition {
            Condition::Always => true,
            Condition::NoneThere => !pairs.chunks_exact(2).any(there),
            Condition::AllThere => pairs.chunks_exact(2).all(there),
        };
        if !allowed {
            return Ok(Edit::Declined(false));
        }
        let limits = draft.limits;
        let hash = draft.swept();
        hash.prepare(pairs, limits);
        for pair in pairs.chunks_exact(2) {
            hash.set(pair[0], pair[1], expiry, limits);
            if let Lifetime::Until(at) = lifetime {
                if passed {
                    hash.remove(pair[0]);
                } else {
                    hash.set_field_expiry(pair[0], Some(at));
                }
            }
        }
        Ok(Edit::Made(true))
    })?;
    if set {
        effects.changed(pairs.len() as u64 / 2);
        if matches!(lifetime, Lifetime::Until(_)) {
            let event = if passed { "hdel" } else { "hexpire" };
            effects.event(EventClass::HASH, event, view.db(), args[1]);
        }
    }
    Ok(Reply::flag(set))
}

/// The options of HSETEX, in any order, and what follows them.
fn parse_hsetex<'a>(
    view: &View<'_>,
    args: Args<'a>,
) -> Result<(Condition, Lifetime, Args<'a>), CommandError> {
    let (mut condition, mut lifetime) = (Condition::Always, Lifetime::Unsaid);
    let mut rest = &args[2..];
    while let [word, after @ ..] = rest
        && !is(word, "FIELDS")
    {
        let named = match () {
            () if is(word, "FNX") => Some(Condition::NoneThere),
            () if is(word, "FXX") => Some(Condition::AllThere),
            () => None,
        };
        if let Some(named) = named {
            if condition != Condition::Always {
                return Err(CommandError::SYNTAX);
            }
            (condition, rest) = (named, after);
            continue;
        }
        if lifetime != Lifetime::Unsaid {
            return Err(CommandError::SYNTAX);
        }
        (lifetime, rest) = match parse_until(rest, view, "hsetex")? {
            Some((at, after)) => (Lifetime::Until(at), after),
            None if is(word, "KEEPTTL") => (Lifetime::Kept, after),
            None => {
                return Err(CommandError::new(format!(
                    "ERR unknown argument: {}",
                    String::from_utf8_lossy(word)
                )));
            }
        };
    }
    Ok((condition, lifetime, rest))
}

/// The pairs of `FIELDS numfields field value [field value …]`.
fn parse_pairs(args: Args<'_>) -> Result<Args<'_>, CommandError> {
    let [_, count, pairs @ ..] = args else {
        return Err(CommandError::SYNTAX);
    };
    let count = crate::value::integer_text(count)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(CommandError::known("ERR invalid number of fields"))?;
    if count.checked_mul(2) != Some(pairs.len()) {
        return Err(CommandError::wrong_arity("hsetex"));
    }
    Ok(pairs)
}

const COMPLEXITY: &str = "O(N) where N is the number of specified fields";
const FLAGS: Flags = Flags::DENYOOM.with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("hgetdel", -5, Group::Hash, hgetdel)
        .keys(&[KeySpec::one(1, Access::Take)])
        .flags(Flags::FAST)
        .doc(
            "8.0.0",
            COMPLEXITY,
            "key FIELDS numfields field [field ...]",
            "Returns the value of a field and deletes it from the hash.",
        ),
    Command::write("hgetex", -5, Group::Hash, hgetex)
        .keys(&[KeySpec::one(1, Access::Update)])
        .flags(Flags::FAST)
        .doc(
            "8.0.0",
            COMPLEXITY,
            "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
            "Get the value of one or more fields of a given hash key, and optionally set their expiration.",
        ),
    Command::write("hsetex", -6, Group::Hash, hsetex)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(FLAGS)
        .doc(
            "8.0.0",
            COMPLEXITY,
            "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
            "Set the value of one or more fields of a given hash key, and optionally set their expiration.",
        ),
];
