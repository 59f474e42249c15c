//! Single fields: setting, getting, removing, asking.

use super::{change, change_or_create, find};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::hash::{FieldExpiry, FieldSet};
use crate::value::listpack::Entry;

/// Sets fields and values in turn; how many fields are new.
fn set_all(
    view: &mut View<'_>,
    key: &[u8],
    pairs: &[&[u8]],
    effects: &mut Effects,
) -> Result<usize, CommandError> {
    let created = change_or_create(view, key, "hset", effects, |draft| {
        let limits = draft.limits;
        let hash = draft.swept();
        hash.prepare(pairs, limits);
        let set = pairs.chunks_exact(2).map(|pair| {
            let set = hash.set(pair[0], pair[1], FieldExpiry::Dropped, limits);
            usize::from(set == FieldSet::Created)
        });
        Ok(Edit::Made(set.sum()))
    })?;
    effects.changed(pairs.len() as u64 / 2);
    Ok(created)
}

/// `HSET key field value [field value …]`: how many fields are new. O(1) per field.
fn hset(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity("hset"));
    }
    Ok(Reply::count(set_all(view, args[1], &args[2..], effects)?))
}

/// `HMSET key field value [field value …]`: OK. O(1) per field.
fn hmset(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity("hmset"));
    }
    set_all(view, args[1], &args[2..], effects)?;
    Ok(Reply::Ok)
}

/// `HSETNX key field value`: 1 if it was set, 0 if the field was there. O(1).
fn hsetnx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, field, value) = (args[1], args[2], args[3]);
    let set = change_or_create(view, key, "hset", effects, |draft| {
        if draft.hash.get(field, draft.now).is_some() {
            return Ok(Edit::Declined(false));
        }
        let limits = draft.limits;
        let hash = draft.swept();
        hash.prepare(&args[2..4], limits);
        hash.set(field, value, FieldExpiry::Dropped, limits);
        Ok(Edit::Made(true))
    })?;
    effects.changed(u64::from(set));
    Ok(Reply::flag(set))
}

/// `HGET key field`: the value, or nil. O(1).
fn hget(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let value = find(view, args[1])?.and_then(|hash| hash.get(args[2], view.now()));
    Ok(value.map_or(Reply::Nil, Entry::reply))
}

/// `HMGET key field [field …]`: the values, nil where there is none. O(1) per field.
fn hmget(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let hash = find(view, args[1])?;
    let mut values = BulkList::with_capacity(args.len() - 2, 16);
    for field in &args[2..] {
        match hash.and_then(|hash| hash.get(field, view.now())) {
            Some(value) => value.push_to(&mut values),
            None => values.push_nil(),
        }
    }
    Ok(Reply::Bulks(values))
}

/// `HDEL key field [field …]`: how many were removed. O(1) per field.
fn hdel(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let removed = change(view, args[1], Some("hdel"), effects, |draft| {
        let (fields, now) = (&args[2..], draft.now);
        if draft.hash.expiries().is_some_and(|expiries| expiries.is_due(now))
            && !fields.iter().any(|field| draft.hash.get(field, now).is_some())
        {
            return Ok(Edit::Declined(0));
        }
        let hash = draft.swept();
        let removed = fields.iter().filter(|field| hash.remove(field)).count();
        Ok(if removed > 0 { Edit::Made(removed) } else { Edit::Declined(0) })
    })?;
    let removed = removed.unwrap_or(0);
    effects.changed(removed as u64);
    Ok(Reply::count(removed))
}

/// `HEXISTS key field`: 1 or 0. O(1).
fn hexists(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let found = find(view, args[1])?.is_some_and(|hash| hash.get(args[2], view.now()).is_some());
    Ok(Reply::flag(found))
}

/// `HLEN key`: how many fields; those that have expired do not count, unlike in Redis 7.4. O(1).
fn hlen(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::count(find(view, args[1])?.map_or(0, |hash| hash.len(view.now()))))
}

/// `HSTRLEN key field`: the length of the value, 0 if there is none. O(1).
fn hstrlen(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let value = find(view, args[1])?.and_then(|hash| hash.get(args[2], view.now()));
    Ok(Reply::count(value.map_or(0, Entry::text_len)))
}

const MODIFY: &[KeySpec] = &[KeySpec::one(1, Access::Modify)];
const READ: &[KeySpec] = &[KeySpec::one(1, Access::Read)];
const LOOK: &[KeySpec] = &[KeySpec::one(1, Access::Look)];
const SET_FLAGS: Flags = Flags::DENYOOM.with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("hset", -4, Group::Hash, hset).keys(MODIFY).flags(SET_FLAGS).doc(
        "2.0.0",
        "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
        "key field value [field value ...]",
        "Creates or modifies the value of a field in a hash.",
    ),
    Command::write("hmset", -4, Group::Hash, hmset).keys(MODIFY).flags(SET_FLAGS).doc(
        "2.0.0",
        "O(N) where N is the number of fields being set.",
        "key field value [field value ...]",
        "Sets the values of multiple fields.",
    ),
    Command::write("hsetnx", 4, Group::Hash, hsetnx)
        .keys(&[KeySpec::one(1, Access::Insert)])
        .flags(SET_FLAGS)
        .doc(
            "2.0.0",
            "O(1)",
            "key field value",
            "Sets the value of a field in a hash only when the field doesn't exist.",
        ),
    Command::read("hget", 3, Group::Hash, hget).keys(READ).flags(Flags::FAST).doc(
        "2.0.0",
        "O(1)",
        "key field",
        "Returns the value of a field in a hash.",
    ),
    Command::read("hmget", -3, Group::Hash, hmget).keys(READ).flags(Flags::FAST).doc(
        "2.0.0",
        "O(N) where N is the number of fields being requested.",
        "key field [field ...]",
        "Returns the values of all fields in a hash.",
    ),
    Command::write("hdel", -3, Group::Hash, hdel)
        .keys(&[KeySpec::one(1, Access::Remove)])
        .flags(Flags::FAST)
        .doc(
            "2.0.0",
            "O(N) where N is the number of fields to be removed.",
            "key field [field ...]",
            "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
        ),
    Command::read("hexists", 3, Group::Hash, hexists).keys(LOOK).flags(Flags::FAST).doc(
        "2.0.0",
        "O(1)",
        "key field",
        "Determines whether a field exists in a hash.",
    ),
    Command::read("hlen", 2, Group::Hash, hlen).keys(LOOK).flags(Flags::FAST).doc(
        "2.0.0",
        "O(1)",
        "key",
        "Returns the number of fields in a hash.",
    ),
    Command::read("hstrlen", 3, Group::Hash, hstrlen).keys(LOOK).flags(Flags::FAST).doc(
        "3.2.0",
        "O(1)",
        "key field",
        "Returns the length of the value of a field.",
    ),
];
