//! Finding keys: KEYS, SCAN, RANDOMKEY, DBSIZE.

use super::basic::type_name;
use crate::command::options::{Options, integer, is};
use crate::command::{Args, Command, Flags, Group, Scope};
use crate::error::CommandError;
use crate::keyspace::{ScanCursor, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::glob::Glob;

/// How many keys SCAN visits unless told.
const SCAN_COUNT: usize = 10;

/// Whether a pattern of KEYS or SCAN matches. `*` matches even the empty key, which the matcher
/// itself holds back.
pub(crate) fn matches(pattern: &Glob, key: &[u8]) -> bool {
    pattern.is_any() || pattern.matches(key)
}

/// `KEYS pattern`: the keys of the database that match, in no order. O(N).
fn keys(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let pattern = Glob::new(args[1]);
    let mut found = BulkList::default();
    // A pattern without metacharacters names one key.
    if let Some(key) = pattern.exact() {
        if view.peek(key).is_some() {
            found.push(key);
        }
        return Ok(Reply::Bulks(found));
    }
    for record in view.records() {
        if matches(&pattern, record.key()) {
            found.push(record.key());
        }
    }
    Ok(Reply::Bulks(found))
}

/// A cursor, as C's `strtoul` reads it: perhaps signed, nothing around it, empty for 0.
///
/// # Errors
/// `ERR invalid cursor`
pub(crate) fn parse_cursor(text: &[u8]) -> Result<ScanCursor, CommandError> {
    let invalid = CommandError::known("ERR invalid cursor");
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return if text.is_empty() { Ok(ScanCursor(0)) } else { Err(invalid) };
    }
    let mut value = 0u64;
    for digit in digits {
        value = digit
            .is_ascii_digit()
            .then(|| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
            .flatten()
            .ok_or(CommandError::known("ERR invalid cursor"))?;
    }
    Ok(ScanCursor(if negative { value.wrapping_neg() } else { value }))
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: the next cursor, 0 at the end, and
/// some keys. O(1) a call, O(N) a whole iteration.
///
/// A key that is there from the first call to the last is told; since cursors follow the order
/// of hashes it is told once, however the database grows or shrinks meanwhile.
fn scan(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args[1])?;
    let (mut pattern, mut count, mut wanted_type) = (None, SCAN_COUNT, None);
    let mut options = Options::after(args, 2);
    while let Some(option) = options.next() {
        let value = options.value()?;
        if is(option, "COUNT") {
            count = usize::try_from(integer(value)?)
                .ok()
                .filter(|count| *count > 0)
                .ok_or(CommandError::SYNTAX)?;
        } else if is(option, "MATCH") {
            pattern = Some(Glob::new(value));
        } else if is(option, "TYPE") {
            wanted_type = Some(value);
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    let mut found = BulkList::default();
    let next = view.scan(cursor, count, |record| {
        let key = record.key();
        if pattern.as_ref().is_none_or(|pattern| matches(pattern, key))
            && wanted_type.is_none_or(|wanted| is(wanted, type_name(record)))
        {
            found.push(key);
        }
    });
    let next = Reply::bulk(itoa::Buffer::new().format(next.0).as_bytes());
    Ok(Reply::Array(vec![next, Reply::Bulks(found)]))
}

/// `RANDOMKEY`: some key of the database, or nil if it is empty. O(1), plus the way to the key
/// within its shard.
fn randomkey(view: &View<'_>, _args: Args<'_>) -> CommandResult {
    Ok(Reply::bulk_or_nil(view.random_key().map(|record| record.key())))
}

/// `DBSIZE`: how many keys the database has. O(shards).
///
/// Keys that have expired do not count, even before their memory is given back: every replica
/// answers the same.
fn dbsize(view: &View<'_>, _args: Args<'_>) -> CommandResult {
    Ok(Reply::count(view.live_count()))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("keys", 2, Group::Generic, keys)
        .scope(Scope::Db)
        .flags(Flags::KEYSPACE.with(Flags::DANGEROUS).with(Flags::UNORDERED))
        .doc(
            "1.0.0",
            "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
            "pattern",
            "Returns all key names that match a pattern.",
        ),
    Command::read("scan", -2, Group::Generic, scan)
        .scope(Scope::Free)
        .flags(Flags::KEYSPACE.with(Flags::UNORDERED))
        .doc(
            "2.8.0",
            "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            "cursor [MATCH pattern] [COUNT count] [TYPE type]",
            "Iterates over the key names in the database.",
        ),
    Command::read("randomkey", 1, Group::Generic, randomkey)
        .scope(Scope::Db)
        .flags(Flags::KEYSPACE.with(Flags::UNORDERED))
        .doc(
            "1.0.0",
            "O(1)",
            "",
            "Returns a random key name from the database.",
        ),
    Command::read("dbsize", 1, Group::Server, dbsize)
        .scope(Scope::Db)
        .flags(Flags::KEYSPACE.with(Flags::FAST))
        .doc(
            "1.0.0",
            "O(1)",
            "",
            "Returns the number of keys in the database.",
        )
        .differs("Keys that have expired never count."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::reply::Reply;
    use crate::testing::Bench;

    /// One call of SCAN: the next cursor and the keys.
    fn step(bench: &mut Bench, line: &str) -> (String, Vec<String>) {
        let Reply::Array(parts) = bench.line(line) else { panic!("{line}") };
        let [Reply::Bulk(cursor), Reply::Bulks(keys)] = parts.as_slice() else {
            panic!("{parts:?}")
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(cursor), keys.iter().flatten().map(text).collect())
    }

    #[test]
    fn a_scan_tells_every_key_once_while_the_database_grows_and_shrinks() {
        let mut bench = Bench::new();
        for n in 0..3_000 {
            bench.run(&["SET".to_owned(), format!("stay:{n}"), "v".to_owned()]);
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let (mut cursor, mut round) = ("0".to_owned(), 0);
        loop {
            let (next, keys) = step(&mut bench, &format!("SCAN {cursor} COUNT 17"));
            for key in keys {
                *seen.entry(key).or_default() += 1;
            }
            // Grows tenfold, then shrinks again, then its tables are rebuilt.
            for n in 0..200 {
                let key = format!("go:{}", round * 200 + n);
                match round {
                    0..100 => bench.run(&["SET", &key, "v"]),
                    _ => bench.run(&["DEL", &format!("go:{}", (round - 100) * 200 + n)]),
                };
            }
            if round % 50 == 0 {
                bench.engine.keyspace().shrink();
            }
            round += 1;
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        assert!(round > 150, "{round}");
        let stay = seen.iter().filter(|(key, _)| key.starts_with("stay:"));
        assert!(stay.clone().all(|(_, times)| *times == 1));
        assert_eq!(stay.count(), 3_000);
    }

    #[test]
    fn options_narrow_a_scan() {
        let mut bench = Bench::new();
        for n in 0..50 {
            bench.run(&["SET".to_owned(), format!("k:{n}"), n.to_string()]);
        }
        let (cursor, keys) = step(&mut bench, "SCAN 0 MATCH k:1? COUNT 1000");
        assert_eq!((cursor.as_str(), keys.len()), ("0", 10));
        let (_, keys) = step(&mut bench, "SCAN 0 COUNT 1000 TYPE STRING");
        assert_eq!(keys.len(), 50);
        let (_, keys) = step(&mut bench, "SCAN 0 COUNT 1000 TYPE zset");
        assert!(keys.is_empty());
        let (cursor, keys) = step(&mut bench, "SCAN 0");
        assert!(cursor != "0" && keys.len() >= 10 && keys.len() < 20);
        assert!(cursor.parse::<u64>().is_ok_and(|cursor| cursor < 1 << 53));
    }

    #[test]
    fn cursors_and_options_are_checked() {
        let invalid = "-ERR invalid cursor";
        let syntax = "-ERR syntax error";
        Bench::new().check(&[
            ("SCAN x", invalid),
            ("SCAN 1x", invalid),
            ("SCAN -", invalid),
            ("SCAN 99999999999999999999", invalid),
            ("SCAN ", "[\"0\" []]"),
            ("SCAN -1", "[\"0\" []]"),
            ("SCAN +0", "[\"0\" []]"),
            ("SCAN 18446744073709551615", "[\"0\" []]"),
            ("SCAN 0 COUNT 0", syntax),
            ("SCAN 0 COUNT -1", syntax),
            ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
            ("SCAN 0 TYPE foo", "[\"0\" []]"),
            ("SCAN 0 MATCH", syntax),
            ("SCAN 0 FOO 1", syntax),
        ]);
    }

    #[test]
    fn keys_by_pattern_and_by_chance() {
        let mut bench = Bench::new();
        bench.check(&[
            ("RANDOMKEY", "nil"),
            ("DBSIZE", "0"),
            ("MSET one 1 two 2 three 3", "OK"),
            ("KEYS one", "[\"one\"]"),
            ("KEYS none", "[]"),
            ("KEYS t[^h]*", "[\"two\"]"),
            ("DBSIZE", "3"),
        ]);
        bench.run(&["SET", "", "empty"]);
        for (pattern, count) in [("*", 4), ("t*", 2), ("?*", 3)] {
            let Reply::Bulks(found) = bench.run(&["KEYS", pattern]) else { panic!() };
            assert_eq!(found.len(), count, "{pattern}");
        }
        let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..200 {
            *drawn.entry(bench.show("RANDOMKEY")).or_default() += 1;
        }
        assert_eq!(drawn.len(), 4);
        assert!(drawn.values().all(|times| *times > 20), "{drawn:?}");
    }
}
