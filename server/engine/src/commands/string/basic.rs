//! GET and SET's older relatives, one key or many; and how a string's record is read.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::lock::spare_lock;
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
        match view.get(key).map(|record| string_bytes(record, &mut digits)) {
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
    if crate::value::lock::count() > 0 {
        pairs(args, "mset")?.try_for_each(|(key, _)| spare_lock(view, key))?;
    }
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

#[cfg(test)]
mod tests {
    use crate::reply::{Blob, Reply};
    use crate::testing::{Bench, show};

    #[test]
    fn values_come_back_as_they_went_in() {
        let mut bench = Bench::new();
        let long = "x".repeat(100_000);
        for value in ["", "hello", "42", "-1", "007", "9223372036854775808", &long] {
            assert_eq!(bench.run(&["SET", "k", value]), Reply::Ok);
            assert_eq!(bench.run(&["GET", "k"]), Reply::bulk(value.as_bytes()));
            assert_eq!(bench.run(&["STRLEN", "k"]), Reply::count(value.len()));
        }
        bench.check(&[("GET none", "nil"), ("STRLEN none", "0")]);
        assert_eq!(bench.run(&[&b"SET"[..], b"\0\xff", b"\r\n\0"]), Reply::Ok);
        assert_eq!(bench.run(&[&b"GET"[..], b"\0\xff"]), Reply::bulk(b"\r\n\0"));
    }

    #[test]
    fn a_long_value_is_shared_and_a_later_change_does_not_show_in_the_reply() {
        let mut bench = Bench::new();
        let long = vec![b'x'; super::SHARE_FROM];
        bench.run(&[&b"SET"[..], b"k", &long]);
        let first = bench.run(&["GET", "k"]);
        let second = bench.run(&["GET", "k"]);
        let address = |reply: &Reply| match reply {
            Reply::Bulk(Blob::Heap(bytes)) => bytes.as_ptr(),
            other => panic!("{other:?}"),
        };
        assert_eq!(address(&first), address(&second));
        bench.line("SETRANGE k 0 changed");
        bench.line("APPEND k more");
        assert_eq!(first, Reply::bulk(&long));
        assert!(show(&bench.line("GET k")).starts_with("\"changedxxx"));
    }

    #[test]
    fn get_and_set_in_one() {
        let mut bench = Bench::new();
        bench.check(&[
            ("GETSET k 1", "nil"),
            ("GETSET k 2", "\"1\""),
            ("EXPIRE k 10", "1"),
            ("GETSET k 3", "\"2\""),
            ("TTL k", "-1"),
            ("GETDEL k", "\"3\""),
            ("GETDEL k", "nil"),
            ("SETNX k a", "1"),
            ("SETNX k b", "0"),
            ("GET k", "\"a\""),
        ]);
    }

    #[test]
    fn many_keys_at_once() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSET a 1 b 2 a 3", "OK"),
            ("MGET a none b", "[\"3\" nil \"2\"]"),
            ("MSETNX c 1 a 2", "0"),
            ("EXISTS c", "0"),
            ("MSETNX c 1 c 2", "1"),
            ("GET c", "\"2\""),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"),
            ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
        ]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("SET a 1", "0:new a, 0:set a", 1),
            ("SET a 2", "0:set a", 1),
            ("SETNX a 2", "", 0),
            ("MSET a 1 d 2", "0:set a, 0:new d, 0:set d", 2),
            ("MSETNX a 1 z 2", "", 0),
            ("MSETNX y 1 y 2", "0:new y, 0:set y, 0:set y", 2),
            ("GETSET a 7", "0:set a", 1),
            ("GETDEL a", "0:del a", 1),
            ("GETDEL a", "0:keymiss a", 0),
            ("GETSET a 7", "0:keymiss a, 0:new a, 0:set a", 1),
        ]);
    }

    #[test]
    fn other_types_are_refused_and_untouched() {
        let mut bench = Bench::new();
        bench.put_a_set("s");
        let before = bench.engine.keyspace().digest(bench.now);
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        for line in [
            "GET s",
            "STRLEN s",
            "GETSET s x",
            "GETDEL s",
            "GETEX s",
            "GETEX s EX 0",
            "SET s x GET",
            "SET s x NX GET",
            "SET s x IFEQ y",
            "SET s x IFNE y",
            "DELIFEQ s x",
            "APPEND s x",
            "SETRANGE s 0 x",
            "SETRANGE s 1 ",
            "GETRANGE s 0 1",
            "SUBSTR s 0 1",
            "INCR s",
            "INCRBYFLOAT s 1",
            "INCRBYFLOAT s x",
        ] {
            bench.check(&[(line, wrong)]);
        }
        let keys = "-ERR The specified keys must contain string values";
        let condition = "-ERR Key should be of string type if conditions are specified";
        bench.check(&[
            ("LCS s k FOO", keys),
            ("LCS k s", keys),
            ("DELEX s IFEQ x", condition),
            ("MGET s k", "[nil nil]"),
            ("SETNX s x", "0"),
            ("SETRANGE s -1 x", "-ERR offset is out of range"),
            ("GETRANGE s x 1", "-ERR value is not an integer or out of range"),
            ("TYPE s", "set"),
        ]);
        assert_eq!(bench.engine.keyspace().digest(bench.now), before);
        bench.check(&[("SET s x", "OK"), ("GET s", "\"x\"")]);
        bench.put_a_set("t");
        bench.check(&[("DELEX t", "1"), ("EXISTS t", "0")]);
    }
}
