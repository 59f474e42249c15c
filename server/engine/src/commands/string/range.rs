//! Parts of strings: APPEND, GETRANGE, SETRANGE.

use std::sync::Arc;

use super::basic::{part_reply, string_bytes, string_len};
use crate::command::options::integer;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{INLINE_VALUE_LEN_MAX, Record, StringValue};
use crate::reply::{CommandResult, Reply};
use crate::value::Object;

/// The length of a string of `len` bytes with `more` added.
pub(super) fn grown(view: &View<'_>, len: usize, more: usize) -> Result<usize, CommandError> {
    len.checked_add(more)
        .filter(|total| {
            i64::try_from(*total).is_ok_and(|n| n <= view.limits().proto_max_bulk_len())
        })
        .ok_or(CommandError::STRING_TOO_LONG)
}

/// The stored bytes of a long string, to change in place; copied first if a reply holds them.
fn long_string(record: &mut Record) -> Option<&mut Vec<u8>> {
    match record.object_mut() {
        Some(Object::String(bytes)) => Some(Arc::make_mut(bytes)),
        _ => None,
    }
}

/// Changes a string that is there by `work`, its expiry untouched. `len` is how long it will be.
pub(super) fn rewrite(
    view: &mut View<'_>,
    key: &[u8],
    len: usize,
    effects: &mut Effects,
    work: impl Fn(&mut Vec<u8>),
) -> Result<(), CommandError> {
    let made = view.edit(key, effects, |record| match long_string(record) {
        Some(bytes) => {
            work(bytes);
            Edit::Made(true)
        }
        None => Edit::Declined(false),
    });
    if made == Some(true) {
        return Ok(());
    }
    let (mut bytes, expires_at) = match view.peek(key) {
        Some(record) => {
            let mut bytes = Vec::with_capacity(len);
            bytes.extend_from_slice(string_bytes(record, &mut itoa::Buffer::new())?);
            (bytes, record.expires_at())
        }
        None => (Vec::with_capacity(len), None),
    };
    work(&mut bytes);
    if bytes.len() <= INLINE_VALUE_LEN_MAX {
        view.set_string(key, StringValue::Raw(&bytes), expires_at, effects);
    } else {
        view.set_object(key, Object::String(Arc::new(bytes)), expires_at, effects);
    }
    Ok(())
}

/// `APPEND key value`: the length afterwards. O(1) amortized.
fn append(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, value) = (args[1], args[2]);
    let before = view.peek(key).map(string_len).transpose()?;
    let len = grown(view, before.unwrap_or(0), value.len())?;
    match before {
        None => view.set_string(key, StringValue::Bytes(value), None, effects),
        Some(_) => rewrite(view, key, len, effects, |bytes| {
            bytes.extend_from_slice(value);
        })?,
    }
    effects.changed(1);
    effects.event(EventClass::STRING, "append", view.db(), key);
    Ok(Reply::count(len))
}

/// `SETRANGE key offset value`: the length afterwards. What lies between the old end and the
/// offset becomes zero bytes. O(length of the value).
fn setrange(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, value) = (args[1], args[3]);
    let offset = usize::try_from(integer(args[2])?)
        .map_err(|_| CommandError::known("ERR offset is out of range"))?;
    let before = view.peek(key).map_or(Ok(0), string_len)?;
    if value.is_empty() {
        return Ok(Reply::count(before));
    }
    let end = grown(view, offset, value.len())?;
    let len = before.max(end);
    rewrite(view, key, len, effects, |bytes| {
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(value);
    })?;
    effects.changed(1);
    effects.event(EventClass::STRING, "setrange", view.db(), key);
    Ok(Reply::count(len))
}

/// The bytes from `start` to `end`, both included and negative from the end, of `len` bytes.
fn part(len: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let size = i64::try_from(len).unwrap_or(i64::MAX);
    let absolute = |index: i64| {
        if index < 0 { (size + index).max(0) } else { index }
    };
    let (start, end) = (absolute(start), absolute(end).min(size - 1));
    if start > end {
        return 0..0;
    }
    // Both lie in 0..len now.
    start as usize..end as usize + 1
}

/// `GETRANGE key start end`: that part of the string, empty if there is none. O(N).
fn getrange(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    let Some(record) = view.get(args[1]) else {
        return Ok(Reply::bulk(b""));
    };
    part_reply(record, part(string_len(record)?, start, end))
}

const RANGE_COMPLEXITY: &str = "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("append", 3, Group::String, append)
        .keys(&[KeySpec::one(1, Access::Insert)])
        .flags(Flags::DENYOOM.with(Flags::FAST))
        .doc(
            "2.0.0",
            "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by Redis will double the free space available on every reallocation.",
            "key value",
            "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        ),
    Command::write("setrange", 4, Group::String, setrange)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(Flags::DENYOOM)
        .doc(
            "2.2.0",
            "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
            "key offset value",
            "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
        ),
    Command::read("getrange", 4, Group::String, getrange)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "2.4.0",
            RANGE_COMPLEXITY,
            "key start end",
            "Returns a substring of the string stored at a key.",
        ),
    Command::read("substr", 4, Group::String, getrange)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "1.0.0",
            RANGE_COMPLEXITY,
            "key start end",
            "Returns a substring from a string value.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::reply::Reply;
    use crate::testing::Bench;

    const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";

    #[test]
    fn parts_are_counted_from_either_end() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k Hello", "OK"),
            ("GETRANGE k 0 -1", "\"Hello\""),
            ("GETRANGE k 1 2", "\"el\""),
            ("SUBSTR k -3 -2", "\"ll\""),
            ("GETRANGE k -100 100", "\"Hello\""),
            ("GETRANGE k 3 1", "\"\""),
            ("GETRANGE k -1 -3", "\"\""),
            ("GETRANGE k 5 9", "\"\""),
            ("GETRANGE k -100 -99", "\"H\""),
            ("GETRANGE none 0 -1", "\"\""),
            ("SET n 12345", "OK"),
            ("GETRANGE n 1 2", "\"23\""),
            ("SET e x", "OK"),
            ("SETRANGE e 0 y", "1"),
            ("GETRANGE e 0 9223372036854775807", "\"y\""),
            ("GETRANGE e -9223372036854775808 0", "\"y\""),
            ("GETRANGE k x 1", "-ERR value is not an integer or out of range"),
        ]);
        let long: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        bench.run(&[&b"SET"[..], b"l", &long]);
        assert_eq!(bench.line("GETRANGE l 10 -11"), Reply::bulk(&long[10..long.len() - 10]));
    }

    #[test]
    fn appending_grows_through_every_encoding() {
        let mut bench = Bench::new();
        let mut expected = String::new();
        let piece = "0123456789".repeat(50);
        bench.check(&[("APPEND k 12", "2"), ("OBJECT ENCODING k", "\"int\"")]);
        expected.push_str("12");
        for _ in 0..40 {
            expected.push_str(&piece);
            assert_eq!(bench.run(&["APPEND", "k", &piece]), Reply::count(expected.len()));
            assert_eq!(bench.line("GET k"), Reply::bulk(expected.as_bytes()));
        }
        bench.check(&[("OBJECT ENCODING k", "\"raw\""), ("APPEND e ", "0"), ("EXISTS e", "1")]);
    }

    #[test]
    fn setrange_fills_with_zeros_and_keeps_the_expiry() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SETRANGE k 2 ab", "4"),
            ("GET k", "\"\\x00\\x00ab\""),
            ("OBJECT ENCODING k", "\"raw\""),
            ("EXPIRE k 100", "1"),
            ("SETRANGE k 1 xyz9", "5"),
            ("GET k", "\"\\x00xyz9\""),
            ("TTL k", "100"),
            ("SET n 1234", "OK"),
            ("SETRANGE n 1 0", "4"),
            ("INCR n", "1035"),
            ("SETRANGE k 10000 end", "10003"),
            ("STRLEN k", "10003"),
            ("TTL k", "100"),
            ("SETRANGE k 0 Z", "10003"),
            ("GETRANGE k 0 2", "\"Zxy\""),
        ]);
    }

    #[test]
    fn sizes_have_a_limit() {
        let mut bench = Bench::new();
        bench.engine.keyspace().limits().set("proto-max-bulk-len", 10);
        bench.check(&[
            ("SETRANGE k 10 x", TOO_LONG),
            ("SETRANGE k 9 x", "10"),
            ("APPEND k x", TOO_LONG),
            ("SETRANGE k 9223372036854775807 x", TOO_LONG),
            ("SETRANGE k -1 x", "-ERR offset is out of range"),
            ("SETRANGE k x x", "-ERR value is not an integer or out of range"),
            ("SETRANGE k 99 ", "10"),
            ("SETRANGE none 99 ", "0"),
            ("EXISTS none", "0"),
            ("STRLEN k", "10"),
        ]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("APPEND a x", "0:new a, 0:append a", 1),
            ("APPEND a x", "0:append a", 1),
            ("SETRANGE a 1 zz", "0:setrange a", 1),
            ("SETRANGE a 1 ", "", 0),
            ("SETRANGE c 2 x", "0:new c, 0:setrange c", 1),
        ]);
    }

    #[test]
    fn a_change_in_place_makes_a_new_version() {
        let mut bench = Bench::new();
        let long = "x".repeat(10_000);
        bench.run(&["SET", "k", &long]);
        for line in ["APPEND k y", "SETRANGE k 0 z"] {
            let watch = bench.watch("k");
            bench.line(line);
            assert_eq!(bench.transaction(&["GET k"], &[watch]), None, "{line}");
        }
    }

    #[test]
    fn a_change_after_swapdb_is_seen_by_watch_whatever_thread_made_it() {
        // Threads number their proposals in ranges that have no order.
        const HIGHER_RANGE: u64 = 3 << 38;
        let mut bench = Bench::new();
        bench.go_on_at(HIGHER_RANGE);
        bench.line("SWAPDB 0 1");
        bench.go_on_at(10);
        bench.line("SET k 1");
        let watch = bench.watch("k");
        bench.line("SET k 2");
        assert_eq!(bench.transaction(&["GET k"], &[watch]), None);
        let watch = bench.watch("k");
        assert!(bench.transaction(&["GET k"], &[watch]).is_some(), "nothing has changed");
    }
}
