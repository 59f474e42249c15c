//! Expiries of fields, as Redis 7.4 has them: HEXPIRE, HTTL, HPERSIST and their forms.

use super::{change, find};
use crate::command::options::{ExpiryForm, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::hash::Hash;

/// The latest expiry a field can have: 46 bits, as in Redis.
pub(super) const EXPIRY_MAX: UnixMillis = UnixMillis((1 << 46) - 1);

/// There is no such field.
const NO_FIELD: i64 = -2;
/// The field has no expiry.
const NO_EXPIRY: i64 = -1;
/// A condition forbade it.
const FORBIDDEN: i64 = 0;
/// Done.
const DONE: i64 = 1;
/// The time has passed: the field was deleted.
const DELETED: i64 = 2;

/// The fields of `FIELDS numfields field [field …]`, which `args` must be to the end.
pub(super) fn parse_fields<'a>(
    args: Args<'a>,
    bad_count: &'static str,
) -> Result<Args<'a>, CommandError> {
    let [word, count, fields @ ..] = args else {
        return Err(CommandError::known(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    };
    if !is(word, "FIELDS") {
        return Err(CommandError::known(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = integer(count).ok().filter(|count| *count > 0);
    let count = count.ok_or(CommandError::known(bad_count))?;
    if count.unsigned_abs() != fields.len() as u64 {
        return Err(CommandError::known(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(fields)
}

/// What a bad count of fields is told where nothing but fields follow.
pub(super) const BAD_COUNT: &str = "ERR Number of fields must be a positive integer";

/// When HEXPIRE may set an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    fn of(word: &[u8]) -> Option<Self> {
        [("NX", Self::Nx), ("XX", Self::Xx), ("GT", Self::Gt), ("LT", Self::Lt)]
            .into_iter()
            .find_map(|(name, condition)| is(word, name).then_some(condition))
    }

    /// No expiry counts as one that never comes.
    fn allows(self, current: Option<UnixMillis>, wanted: UnixMillis) -> bool {
        match self {
            Self::Always => true,
            Self::Nx => current.is_none(),
            Self::Xx => current.is_some(),
            Self::Gt => current.is_some_and(|at| wanted > at),
            Self::Lt => current.is_none_or(|at| wanted < at),
        }
    }
}

/// The instant that HEXPIRE's number means.
fn parse_instant(
    arg: &[u8],
    form: ExpiryForm,
    view: &View<'_>,
    command: &str,
) -> Result<UnixMillis, CommandError> {
    let number = integer(arg)?;
    if number < 0 {
        return Err(CommandError::known("ERR invalid expire time, must be >= 0"));
    }
    form.instant(number, view.now())
        .filter(|at| *at <= EXPIRY_MAX)
        .ok_or_else(|| CommandError::invalid_expire(command))
}

fn set_expiry(
    view: &mut View<'_>,
    args: Args<'_>,
    (form, command): (ExpiryForm, &'static str),
    effects: &mut Effects,
) -> CommandResult {
    let at = parse_instant(args[2], form, view, command)?;
    let (condition, fields) = match Condition::of(args[3]) {
        Some(condition) => (condition, &args[4..]),
        None => (Condition::Always, &args[3..]),
    };
    let fields = parse_fields(fields, "ERR Parameter `numFields` should be greater than 0")?;
    let passed = at <= view.now();
    let event = if passed { "hdel" } else { "hexpire" };
    let codes = change(view, args[1], Some(event), effects, |draft| {
        let now = draft.now;
        let code_of = |hash: &Hash, field: &[u8]| match hash.get(field, now) {
            None => NO_FIELD,
            Some(_) if !condition.allows(hash.field_expiry(field), at) => FORBIDDEN,
            Some(_) if passed => DELETED,
            Some(_) => DONE,
        };
        if fields.iter().all(|field| code_of(draft.hash, field) <= FORBIDDEN) {
            let codes = fields.iter().map(|field| code_of(draft.hash, field)).collect();
            return Ok(Edit::Declined((codes, 0)));
        }
        let hash = draft.swept();
        let mut changes = 0;
        let mut set = |field: &&[u8]| {
            let code = code_of(hash, field);
            match code {
                DELETED => {
                    hash.remove(field);
                }
                DONE => hash.set_field_expiry(field, Some(at)),
                _ => return code,
            }
            changes += 1;
            code
        };
        let codes: Vec<i64> = fields.iter().map(&mut set).collect();
        Ok(Edit::Made((codes, changes)))
    })?;
    let (codes, changes) = codes.unwrap_or_else(|| (vec![NO_FIELD; fields.len()], 0));
    effects.changed(changes);
    Ok(Reply::Array(codes.into_iter().map(Reply::Integer).collect()))
}

/// `HEXPIRE key seconds [NX|XX|GT|LT] FIELDS numfields field [field …]`: per field -2 if it is
/// not there, 0 if a condition forbade it, 1 if it was set, 2 if it was deleted, for the time has
/// passed. O(N).
fn hexpire(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::InSeconds, "hexpire"), effects)
}

/// `HPEXPIRE key milliseconds …`, as HEXPIRE. O(N).
fn hpexpire(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::InMillis, "hpexpire"), effects)
}

/// `HEXPIREAT key unix-time-seconds …`, as HEXPIRE. O(N).
fn hexpireat(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::AtSecond, "hexpireat"), effects)
}

/// `HPEXPIREAT key unix-time-milliseconds …`, as HEXPIRE. O(N).
fn hpexpireat(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::AtMilli, "hpexpireat"), effects)
}

/// `HPERSIST key FIELDS numfields field [field …]`: per field -2 if it is not there, -1 if it
/// has no expiry, 1 if that was removed. O(N).
fn hpersist(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let fields = parse_fields(&args[2..], BAD_COUNT)?;
    let codes = change(view, args[1], Some("hpersist"), effects, |draft| {
        let now = draft.now;
        let code_of = |hash: &Hash, field: &[u8]| match hash.get(field, now) {
            None => NO_FIELD,
            Some(_) if hash.field_expiry(field).is_none() => NO_EXPIRY,
            Some(_) => DONE,
        };
        if fields.iter().all(|field| code_of(draft.hash, field) != DONE) {
            let codes = fields.iter().map(|field| code_of(draft.hash, field)).collect();
            return Ok(Edit::Declined(codes));
        }
        let hash = draft.swept();
        let mut codes = Vec::with_capacity(fields.len());
        for field in fields {
            let code = code_of(hash, field);
            if code == DONE {
                hash.set_field_expiry(field, None);
            }
            codes.push(code);
        }
        Ok(Edit::Made(codes))
    })?;
    let codes: Vec<i64> = codes.unwrap_or_else(|| vec![NO_FIELD; fields.len()]);
    effects.changed(codes.iter().filter(|code| **code == DONE).count() as u64);
    Ok(Reply::Array(codes.into_iter().map(Reply::Integer).collect()))
}

/// What `tell` makes of the expiry of each field.
fn of_expiries(view: &View<'_>, args: Args<'_>, tell: impl Fn(UnixMillis) -> i64) -> CommandResult {
    let fields = parse_fields(&args[2..], BAD_COUNT)?;
    let hash = find(view, args[1])?;
    let code_of = |field: &&[u8]| {
        let Some(hash) = hash.filter(|hash| hash.get(field, view.now()).is_some()) else {
            return NO_FIELD;
        };
        hash.field_expiry(field).map_or(NO_EXPIRY, &tell)
    };
    Ok(Reply::Array(fields.iter().map(|field| Reply::Integer(code_of(field))).collect()))
}

/// Whole seconds, begun ones counted.
fn seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 > 0)
}

/// `HTTL key FIELDS numfields field [field …]`: per field the seconds left, rounded up; -1
/// without an expiry, -2 without a field. O(N).
fn httl(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiries(view, args, |at| seconds(at.ms_since(view.now())))
}

/// `HPTTL key FIELDS numfields field [field …]`: as HTTL, in milliseconds. O(N).
fn hpttl(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiries(view, args, |at| at.ms_since(view.now()))
}

/// `HEXPIRETIME key FIELDS numfields field [field …]`: per field the second it expires at,
/// rounded up; -1 and -2 as HTTL. O(N).
fn hexpiretime(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiries(view, args, |at| seconds(at.0))
}

/// `HPEXPIRETIME key FIELDS numfields field [field …]`: as HEXPIRETIME, in milliseconds. O(N).
fn hpexpiretime(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiries(view, args, |at| at.0)
}

const UPDATE: &[KeySpec] = &[KeySpec::one(1, Access::Modify)];
const READ: &[KeySpec] = &[KeySpec::one(1, Access::Read)];
const SET_FLAGS: Flags = Flags::DENYOOM.with(Flags::FAST);
const COMPLEXITY: &str = "O(N) where N is the number of specified fields";
const FIELDS: &str = "key FIELDS numfields field [field ...]";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("hexpire", -6, Group::Hash, hexpire).keys(UPDATE).flags(SET_FLAGS).doc(
        "7.4.0",
        COMPLEXITY,
        "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Set expiry for hash field using relative time to expire (seconds)",
    ),
    Command::write("hpexpire", -6, Group::Hash, hpexpire).keys(UPDATE).flags(SET_FLAGS).doc(
        "7.4.0",
        COMPLEXITY,
        "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Set expiry for hash field using relative time to expire (milliseconds)",
    ),
    Command::write("hexpireat", -6, Group::Hash, hexpireat).keys(UPDATE).flags(SET_FLAGS).doc(
        "7.4.0",
        COMPLEXITY,
        "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Set expiry for hash field using an absolute Unix timestamp (seconds)",
    ),
    Command::write("hpexpireat", -6, Group::Hash, hpexpireat).keys(UPDATE).flags(SET_FLAGS).doc(
        "7.4.0",
        COMPLEXITY,
        "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Set expiry for hash field using an absolute Unix timestamp (milliseconds)",
    ),
    Command::write("hpersist", -5, Group::Hash, hpersist).keys(UPDATE).flags(Flags::FAST).doc(
        "7.4.0",
        COMPLEXITY,
        FIELDS,
        "Removes the expiration time for each specified field",
    ),
    Command::read("httl", -5, Group::Hash, httl).keys(READ).flags(Flags::FAST).doc(
        "7.4.0",
        COMPLEXITY,
        FIELDS,
        "Returns the TTL in seconds of a hash field.",
    ),
    Command::read("hpttl", -5, Group::Hash, hpttl).keys(READ).flags(Flags::FAST).doc(
        "7.4.0",
        COMPLEXITY,
        FIELDS,
        "Returns the TTL in milliseconds of a hash field.",
    ),
    Command::read("hexpiretime", -5, Group::Hash, hexpiretime).keys(READ).flags(Flags::FAST).doc(
        "7.4.0",
        COMPLEXITY,
        FIELDS,
        "Returns the expiration time of a hash field as a Unix timestamp, in seconds.",
    ),
    Command::read("hpexpiretime", -5, Group::Hash, hpexpiretime).keys(READ).flags(Flags::FAST).doc(
        "7.4.0",
        COMPLEXITY,
        FIELDS,
        "Returns the expiration time of a hash field as a Unix timestamp, in msec.",
    ),
];
