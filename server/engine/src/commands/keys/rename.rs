//! Giving a key another name: RENAME, RENAMENX.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

/// Moves the value and its expiry from one key to another, over whatever that held.
fn rename_to(view: &mut View<'_>, key: &[u8], new_key: &[u8], effects: &mut Effects) {
    // Removed rather than replaced, so that the new name is told as a new key, as in Redis.
    view.remove(new_key, effects);
    let Some(mut record) = view.take(key, effects) else {
        return;
    };
    record.set_key(new_key);
    view.put(record, effects);
    effects.changed(1);
    effects.event(EventClass::GENERIC, "rename_from", view.db(), key);
    effects.event(EventClass::GENERIC, "rename_to", view.db(), new_key);
}

/// `RENAME key newkey`: OK; an error if there is no such key. O(1).
fn rename(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, new_key) = (args[1], args[2]);
    if view.get(key).is_none() {
        return Err(CommandError::NO_SUCH_KEY);
    }
    if key != new_key {
        rename_to(view, key, new_key, effects);
    }
    Ok(Reply::Ok)
}

/// `RENAMENX key newkey`: 1, or 0 if the new name is taken; an error if there is no such key.
/// O(1).
fn renamenx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, new_key) = (args[1], args[2]);
    if view.get(key).is_none() {
        return Err(CommandError::NO_SUCH_KEY);
    }
    if view.peek(new_key).is_some() {
        return Ok(Reply::Integer(0));
    }
    rename_to(view, key, new_key, effects);
    Ok(Reply::Integer(1))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("rename", 3, Group::Generic, rename)
        .keys(&[
            KeySpec::one(1, Access::Take),
            KeySpec::one(2, Access::Overwrite),
        ])
        .doc(
            "1.0.0",
            "O(1)",
            "key newkey",
            "Renames a key and overwrites the destination.",
        ),
    Command::write("renamenx", 3, Group::Generic, renamenx)
        .keys(&[
            KeySpec::one(1, Access::Take),
            KeySpec::one(2, Access::Create),
        ])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(1)",
            "key newkey",
            "Renames a key only when the target key name doesn't exist.",
        ),
];
