//! Deleting a key only while it holds a certain value: what releases a lock in one command.

use super::basic::string_bytes;
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

/// Deletes the key if `yes`, and replies whether it did.
fn remove_if(yes: bool, view: &mut View<'_>, key: &[u8], effects: &mut Effects) -> Reply {
    let removed = yes && view.remove(key, effects);
    if removed {
        effects.changed(1);
        effects.event(EventClass::GENERIC, "del", view.db(), key);
    }
    Reply::flag(removed)
}

/// Whether the key holds `value`; `None` if there is no such key.
fn equals(view: &View<'_>, key: &[u8], value: &[u8]) -> Result<Option<bool>, CommandError> {
    let Some(record) = view.get(key) else {
        return Ok(None);
    };
    let mut digits = itoa::Buffer::new();
    Ok(Some(string_bytes(record, &mut digits)? == value))
}

/// `DELIFEQ key value`: 1 if the key held this very string and was deleted, else 0. O(1).
fn delifeq(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let equal = equals(view, args[1], args[2])?.unwrap_or(false);
    Ok(remove_if(equal, view, args[1], effects))
}

/// `DELEX key [IFEQ value | IFNE value]`: 1 if the key was deleted, else 0. O(1).
///
/// Without a condition any type is deleted, as by DEL. The digest conditions of Redis 8.4 are
/// refused.
fn delex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let (condition, value) = match args {
        [_, _] => return Ok(remove_if(true, view, key, effects)),
        [_, _, condition, value] => (*condition, *value),
        _ => return Err(CommandError::wrong_arity("delex")),
    };
    let wanted = if is(condition, "IFEQ") {
        true
    } else if is(condition, "IFNE") {
        false
    } else if is(condition, "IFDEQ") || is(condition, "IFDNE") {
        return Err(CommandError::known("ERR IFDEQ and IFDNE are not supported, use IFEQ or IFNE"));
    } else {
        return Err(CommandError::known("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"));
    };
    let equal = equals(view, key, value).map_err(|_| {
        CommandError::known("ERR Key should be of string type if conditions are specified")
    })?;
    Ok(remove_if(equal == Some(wanted), view, key, effects))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("delifeq", 3, Group::String, delifeq)
        .keys(&[KeySpec::one(1, Access::Take)])
        .flags(Flags::FAST)
        .doc("9.0.0", "O(1)", "key value", "Deletes a key if its value matches the given string.")
        .differs("Not in Redis; as Valkey 9."),
    Command::write("delex", -2, Group::String, delex)
        .keys(&[KeySpec::one(1, Access::Take)])
        .flags(Flags::FAST)
        .doc(
            "8.4.0",
            "O(1)",
            "key [IFEQ ifeq-value | IFNE ifne-value]",
            "Conditionally removes the specified key based on value comparison.",
        )
        .differs("Not in Redis 7.2; as Redis 8.4, without IFDEQ and IFDNE."),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn only_the_right_value_is_deleted() {
        Bench::new().check(&[
            ("DELIFEQ k v", "0"),
            ("SET k 12", "OK"),
            ("DELIFEQ k 012", "0"),
            ("DELIFEQ k 12", "1"),
            ("EXISTS k", "0"),
            ("DELEX k", "0"),
            ("SET k v", "OK"),
            ("DELEX k IFEQ w", "0"),
            ("DELEX k ifne v", "0"),
            ("DELEX k IFNE w", "1"),
            ("DELEX k IFNE w", "0"),
            ("SET k v", "OK"),
            ("DELEX k IFEQ v", "1"),
            ("SET k v", "OK"),
            ("DELEX k", "1"),
        ]);
    }

    #[test]
    fn bad_conditions_are_told() {
        Bench::new().check(&[
            ("SET k v", "OK"),
            ("DELEX k IFEQ", "-ERR wrong number of arguments for 'delex' command"),
            ("DELEX k FOO v", "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"),
            ("DELEX k IFDEQ 00", "-ERR IFDEQ and IFDNE are not supported, use IFEQ or IFNE"),
            ("GET k", "\"v\""),
        ]);
    }

    #[test]
    fn deletion_is_told() {
        Bench::new().check_events(&[
            ("SET k v", "0:new k, 0:set k", 1),
            ("DELIFEQ k w", "", 0),
            ("DELIFEQ k v", "0:del k", 1),
            ("SET k v", "0:new k, 0:set k", 1),
            ("DELEX k IFEQ v", "0:del k", 1),
        ]);
    }
}
