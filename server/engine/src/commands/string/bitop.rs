//! BITOP: bitwise operations between strings.

use std::sync::Arc;

use super::basic::string_bytes;
use super::bits::len_of;
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::{INLINE_VALUE_LEN_MAX, StringValue};
use crate::reply::{CommandResult, Reply};
use crate::value::Object;

/// What is done with each byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

impl Operation {
    fn parse(arg: &[u8]) -> Result<Self, CommandError> {
        [("AND", Self::And), ("OR", Self::Or), ("XOR", Self::Xor), ("NOT", Self::Not)]
            .into_iter()
            .find_map(|(name, operation)| is(arg, name).then_some(operation))
            .ok_or(CommandError::SYNTAX)
    }

    /// Works a further string into the result, which is at least as long; where the string has
    /// ended it counts as zeros.
    fn apply(self, result: &mut [u8], bytes: &[u8]) {
        let (common, rest) = result.split_at_mut(bytes.len());
        for (to, from) in common.iter_mut().zip(bytes) {
            match self {
                Self::And => *to &= from,
                Self::Or => *to |= from,
                Self::Xor => *to ^= from,
                Self::Not => *to = !from,
            }
        }
        if self == Self::And {
            rest.fill(0);
        }
    }
}

/// `BITOP AND | OR | XOR | NOT destkey key [key ...]`: the length of the result, which is that
/// of the longest string; nothing is left at the destination if it is empty. O(N).
fn bitop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let operation = Operation::parse(args[1])?;
    let (destination, sources) = (args[2], &args[3..]);
    if operation == Operation::Not && sources.len() != 1 {
        return Err(CommandError::known("ERR BITOP NOT must be called with a single source key."));
    }
    let mut len = 0;
    for key in sources {
        len = len.max(len_of(view, key)?);
    }
    let mut result = vec![0; len];
    for (nth, key) in sources.iter().enumerate() {
        let mut digits = itoa::Buffer::new();
        let bytes = match view.get(key) {
            Some(record) => string_bytes(record, &mut digits)?,
            None => &[],
        };
        // The first string is the result so far, except where it is turned round.
        let how = if nth == 0 && operation != Operation::Not { Operation::Or } else { operation };
        how.apply(&mut result, bytes);
    }
    if len == 0 {
        if view.remove(destination, effects) {
            effects.changed(1);
            effects.event(EventClass::GENERIC, "del", view.db(), destination);
        }
        return Ok(Reply::Integer(0));
    }
    if len <= INLINE_VALUE_LEN_MAX {
        view.set_string(destination, StringValue::Raw(&result), None, effects);
    } else {
        view.set_object(destination, Object::String(Arc::new(result)), None, effects);
    }
    effects.changed(1);
    effects.event(EventClass::STRING, "set", view.db(), destination);
    Ok(Reply::count(len))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::write("bitop", -4, Group::Bitmap, bitop)
    .keys(&[KeySpec::one(2, Access::Overwrite), KeySpec::range(3, -1, 1, Access::Read)])
    .flags(Flags::DENYOOM)
    .doc(
        "2.6.0",
        "O(N)",
        "<AND | OR | XOR | NOT> destkey key [key ...]",
        "Performs bitwise operations on multiple strings, and stores the result.",
    )];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("SET a x", "0:new a, 0:set a", 1),
            ("BITOP OR d a none", "0:new d, 0:set d", 1),
            ("BITOP AND d none", "0:del d", 1),
            ("BITOP AND d none", "", 0),
        ]);
    }

    #[test]
    fn long_strings_are_worked_through_whole() {
        let mut bench = Bench::new();
        let (a, b) = ("U".repeat(10_000), "f".repeat(5_000));
        bench.run(&["SET", "a", &a]);
        bench.run(&["SET", "b", &b]);
        bench.check(&[
            ("BITOP AND d a b", "10000"),
            ("BITCOUNT d", "10000"),
            ("GETRANGE d 4999 5001", "\"D\\x00\\x00\""),
            ("BITOP XOR d a b a", "10000"),
            ("GETRANGE d 4999 5001", "\"f\\x00\\x00\""),
            ("BITOP NOT d d", "10000"),
            ("GETRANGE d 4999 5001", "\"\\x99\\xff\\xff\""),
        ]);
    }
}
