//! Fields that are numbers: HINCRBY and HINCRBYFLOAT.

use super::{Draft, change_or_create};
use crate::command::options::integer;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::value::hash::FieldExpiry;
use crate::value::long_double::LongDouble;

/// Sets the field to a new sum; its expiry stays.
fn store(draft: &mut Draft<'_>, field: &[u8], sum: &[u8]) {
    let limits = draft.limits;
    draft.swept().set(field, sum, FieldExpiry::Kept, limits);
}

/// `HINCRBY key field increment`: the sum. O(1).
fn hincrby(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let increment = integer(args[3])?;
    let sum = change_or_create(view, args[1], "hincrby", effects, |draft| {
        let number = match draft.hash.get(args[2], draft.now) {
            Some(value) => integer(value.text(&mut itoa::Buffer::new()))
                .map_err(|_| CommandError::known("ERR hash value is not an integer"))?,
            None => 0,
        };
        let sum = number.checked_add(increment).ok_or(CommandError::INCREMENT_OVERFLOW)?;
        store(draft, args[2], itoa::Buffer::new().format(sum).as_bytes());
        Ok(Edit::Made(sum))
    })?;
    effects.changed(1);
    Ok(Reply::Integer(sum))
}

/// `HINCRBYFLOAT key field increment`: the sum as a bulk, computed as INCRBYFLOAT does. O(1).
fn hincrbyfloat(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let increment = LongDouble::parse(args[3]).ok_or(CommandError::NOT_A_FLOAT)?;
    if increment.checked_add(LongDouble::ZERO).is_none() {
        return Err(CommandError::known("ERR value is NaN or Infinity"));
    }
    let sum = change_or_create(view, args[1], "hincrbyfloat", effects, |draft| {
        let number = match draft.hash.get(args[2], draft.now) {
            Some(value) => LongDouble::parse(value.text(&mut itoa::Buffer::new()))
                .ok_or(CommandError::known("ERR hash value is not a float"))?,
            None => LongDouble::ZERO,
        };
        let sum = number
            .checked_add(increment)
            .ok_or(CommandError::known("ERR increment would produce NaN or Infinity"))?
            .to_text();
        store(draft, args[2], sum.as_bytes());
        Ok(Edit::Made(sum))
    })?;
    effects.changed(1);
    Ok(Reply::bulk(sum.as_bytes()))
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Update)];
const FLAGS: Flags = Flags::DENYOOM.with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("hincrby", 4, Group::Hash, hincrby).keys(KEY).flags(FLAGS).doc(
        "2.0.0",
        "O(1)",
        "key field increment",
        "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
    ),
    Command::write("hincrbyfloat", 4, Group::Hash, hincrbyfloat).keys(KEY).flags(FLAGS).doc(
        "2.6.0",
        "O(1)",
        "key field increment",
        "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
    ),
];
