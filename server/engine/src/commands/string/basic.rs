//! GET, SET and their older spellings.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::{Record, StringValue, Value};
use crate::reply::{CommandResult, Reply};
use crate::value::Object;

/// The reply that a string's record makes.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
pub fn string_reply(record: &Record) -> CommandResult {
    match record.value() {
        Value::Integer(number) => Ok(Reply::bulk(itoa::Buffer::new().format(number).as_bytes())),
        Value::String(bytes) => Ok(Reply::bulk(bytes)),
        Value::Object(Object::String(bytes)) => Ok(Reply::bulk(bytes)),
        Value::Object(_) => Err(CommandError::WRONG_TYPE),
    }
}

/// `GET key`: the value, or nil.
fn get(view: &View<'_>, args: Args<'_>) -> CommandResult {
    view.get(args[1]).map_or(Ok(Reply::Nil), string_reply)
}

fn set(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::SYNTAX);
    }
    view.set_string(args[1], StringValue::Bytes(args[2]), None, effects);
    effects.changed(1);
    effects.event(EventClass::STRING, "set", view.db(), args[1]);
    Ok(Reply::Ok)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("get", 2, Group::String, get)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc("1.0.0", "O(1)", "key", "Returns the string value of a key."),
    Command::write("set", -3, Group::String, set)
        .keys(&[KeySpec::one(1, Access::Update)])
        .flags(Flags::DENYOOM)
        .doc("1.0.0", "O(1)", "key value", "Sets the string value of a key."),
];
