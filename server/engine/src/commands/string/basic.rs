//! GET and SET's older relatives, one key or many; and how a string's record is read.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::{Record, StringValue, Value};
use crate::reply::{Blob, BulkList, CommandResult, Reply};
use crate::value::Object;

/// A string at least this long is shared with the reply; copying a shorter one is cheaper than
/// the share's bookkeeping, and leaves APPEND free to grow it in place.
const SHARE_FROM: usize = 16 << 10;

/// A stored string that a reply holds too.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of a long stored string for a reply, without a copy where that pays.
fn share(bytes: &Arc<Vec<u8>>) -> Bytes {
    if bytes.len() < SHARE_FROM {
        return Bytes::copy_from_slice(bytes);
    }
    Bytes::from_owner(Shared(Arc::clone(bytes)))
}

/// The reply that a string's record makes.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
#[inline]
pub fn string_reply(record: &Record) -> CommandResult {
    match record.value() {
        Value::Integer(number) => Ok(Reply::bulk(itoa::Buffer::new().format(number).as_bytes())),
        Value::String(bytes) => Ok(Reply::bulk(bytes)),
        Value::Object(Object::String(bytes)) => Ok(Reply::Bulk(Blob::Heap(share(bytes)))),
        Value::Object(_) => Err(CommandError::WRONG_TYPE),
    }
}

/// The reply that part of a string's record makes.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
pub(super) fn part_reply(record: &Record, part: std::ops::Range<usize>) -> CommandResult {
    if let Value::Object(Object::String(bytes)) = record.value()
        && part.len() >= SHARE_FROM
    {
        return Ok(Reply::Bulk(Blob::Heap(share(bytes).slice(part))));
    }
    let mut digits = itoa::Buffer::new();
    let bytes = string_bytes(record, &mut digits)?;
    Ok(Reply::bulk(bytes.get(part).unwrap_or_default()))
}

/// The bytes of a string's record; a number's are written to `digits`.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
#[inline]
pub fn string_bytes<'a>(
    record: &'a Record,
    digits: &'a mut itoa::Buffer,
) -> Result<&'a [u8], CommandError> {
    match record.value() {
        Value::Integer(number) => Ok(digits.format(number).as_bytes()),
        Value::String(bytes) => Ok(bytes),
        Value::Object(Object::String(bytes)) => Ok(bytes),
        Value::Object(_) => Err(CommandError::WRONG_TYPE),
    }
}

/// The length of a string's record.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
pub(super) fn string_len(record: &Record) -> Result<usize, CommandError> {
    string_bytes(record, &mut itoa::Buffer::new()).map(<[u8]>::len)
}

/// What GET answers, from within a write; says so when nothing was there, as Redis's looks do.
///
/// # Errors
/// `WRONGTYPE`
pub(super) fn read_for_reply(view: &View<'_>, key: &[u8], effects: &mut Effects) -> CommandResult {
    match view.get(key) {
        Some(record) => string_reply(record),
        None => {
            effects.event(EventClass::KEY_MISS, "keymiss", view.db(), key);
            Ok(Reply::Nil)
        }
    }
}

/// Sets a key to a string and says so.
#[inline]
fn assign(view: &mut View<'_>, key: &[u8], value: &[u8], effects: &mut Effects) {
    view.set_string(key, StringValue::Bytes(value), None, effects);
    effects.changed(1);
    effects.event(EventClass::STRING, "set", view.db(), key);
}

/// `GET key`: the value, or nil. O(1).
fn get(view: &View<'_>, args: Args<'_>) -> CommandResult {
    view.get(args[1]).map_or(Ok(Reply::Nil), string_reply)
}

/// `STRLEN key`: the length in bytes, 0 if there is no such key. O(1).
fn strlen(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let len = view.get(args[1]).map_or(Ok(0), string_len)?;
    Ok(Reply::count(len))
}

/// `GETSET key value`: the value before, or nil. The expiry goes. O(1).
fn getset(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let before = read_for_reply(view, args[1], effects)?;
    assign(view, args[1], args[2], effects);
    Ok(before)
}

/// `GETDEL key`: the value, or nil; the key is gone afterwards. O(1).
fn getdel(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let value = read_for_reply(view, args[1], effects)?;
    if view.remove(args[1], effects) {
        effects.changed(1);
        effects.event(EventClass::GENERIC, "del", view.db(), args[1]);
    }
    Ok(value)
}

/// `SETNX key value`: 1 if it was set, 0 if something was there. O(1).
fn setnx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let absent = view.get(args[1]).is_none();
    if absent {
        assign(view, args[1], args[2], effects);
    }
    Ok(Reply::flag(absent))
}

/// `MGET key [key ...]`: the values in order, nil for what is absent or no string. O(N).
fn mget(view: &View<'_>, args: Args<'_>) -> CommandResult {
    /// A guess at the usual length of a value.
    const VALUE_LEN: usize = 32;
    let mut values = BulkList::with_capacity(args.len() - 1, VALUE_LEN);
    for key in &args[1..] {
        let mut digits = itoa::Buffer::new();
        match view
            .get(key)
            .map(|record| string_bytes(record, &mut digits))
        {
            Some(Ok(bytes)) => values.push(bytes),
            Some(Err(_)) | None => values.push_nil(),
        }
    }
    Ok(Reply::Bulks(values))
}

/// The keys and values of MSET's arguments.
fn pairs<'a>(
    args: Args<'a>,
    command: &str,
) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])>, CommandError> {
    let (pairs, rest) = args[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::wrong_arity(command));
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)))
}

/// `MSET key value [key value ...]`: OK. O(N), atomic.
fn mset(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    for (key, value) in pairs(args, "mset")? {
        assign(view, key, value, effects);
    }
    Ok(Reply::Ok)
}

/// `MSETNX key value [key value ...]`: 1 if all were set, 0 if any key was there. O(N).
fn msetnx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    if pairs(args, "msetnx")?.any(|(key, _)| view.get(key).is_some()) {
        return Ok(Reply::Integer(0));
    }
    for (key, value) in pairs(args, "msetnx")? {
        assign(view, key, value, effects);
    }
    Ok(Reply::Integer(1))
}

const WRITES: Flags = Flags::DENYOOM.with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("get", 2, Group::String, get)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc("1.0.0", "O(1)", "key", "Returns the string value of a key."),
    Command::read("strlen", 2, Group::String, strlen)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc(
            "2.2.0",
            "O(1)",
            "key",
            "Returns the length of a string value.",
        ),
    Command::write("getset", 3, Group::String, getset)
        .keys(&[KeySpec::one(1, Access::Update)])
        .flags(WRITES)
        .doc(
            "1.0.0",
            "O(1)",
            "key value",
            "Returns the previous string value of a key after setting it to a new value.",
        ),
    Command::write("getdel", 2, Group::String, getdel)
        .keys(&[KeySpec::one(1, Access::Take)])
        .flags(Flags::FAST)
        .doc(
            "6.2.0",
            "O(1)",
            "key",
            "Returns the string value of a key after deleting the key.",
        ),
    Command::write("setnx", 3, Group::String, setnx)
        .keys(&[KeySpec::one(1, Access::Create)])
        .flags(WRITES)
        .doc(
            "1.0.0",
            "O(1)",
            "key value",
            "Set the string value of a key only when the key doesn't exist.",
        ),
    Command::read("mget", -2, Group::String, mget)
        .keys(&[KeySpec::range(1, -1, 1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(N) where N is the number of keys to retrieve.",
            "key [key ...]",
            "Atomically returns the string values of one or more keys.",
        ),
    Command::write("mset", -3, Group::String, mset)
        .keys(&[KeySpec::range(1, -1, 2, Access::Overwrite)])
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.1",
            "O(N) where N is the number of keys to set.",
            "key value [key value ...]",
            "Atomically creates or modifies the string values of one or more keys.",
        ),
    Command::write("msetnx", -3, Group::String, msetnx)
        .keys(&[KeySpec::range(1, -1, 2, Access::Create)])
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.1",
            "O(N) where N is the number of keys to set.",
            "key value [key value ...]",
            "Atomically modifies the string values of one or more keys only when all keys don't exist.",
        ),
];
