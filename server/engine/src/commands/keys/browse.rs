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
fn matches(pattern: &Glob, key: &[u8]) -> bool {
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
        return if text.is_empty() {
            Ok(ScanCursor(0))
        } else {
            Err(invalid)
        };
    }
    let mut value = 0u64;
    for digit in digits {
        value = digit
            .is_ascii_digit()
            .then(|| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
            .flatten()
            .ok_or(CommandError::known("ERR invalid cursor"))?;
    }
    Ok(ScanCursor(if negative {
        value.wrapping_neg()
    } else {
        value
    }))
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
    Ok(Reply::bulk_or_nil(
        view.random_key().map(|record| record.key()),
    ))
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
