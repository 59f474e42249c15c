//! Strings as numbers: INCR and its relatives.

use super::basic::string_bytes;
use crate::command::options::integer;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{Record, StringValue, Value};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::long_double::LongDouble;

/// A sum, and whether it already stands in the record.
enum Sum {
    Stored(i64),
    /// The record must be made anew, with this expiry.
    ToStore(i64, Option<UnixMillis>),
}

/// Adds to a record; a number changes in place.
fn add_to(record: &mut Record, delta: i64) -> Edit<Result<Sum, CommandError>> {
    if let Value::Integer(number) = record.value() {
        return match number.checked_add(delta) {
            Some(sum) => {
                record.overwrite(StringValue::Integer(sum));
                Edit::Made(Ok(Sum::Stored(sum)))
            }
            None => Edit::Declined(Err(CommandError::INCREMENT_OVERFLOW)),
        };
    }
    // Text that reads as a number is what APPEND and SETRANGE leave behind.
    let mut digits = itoa::Buffer::new();
    let sum = string_bytes(record, &mut digits)
        .and_then(integer)
        .and_then(|number| number.checked_add(delta).ok_or(CommandError::INCREMENT_OVERFLOW));
    let expires_at = record.expires_at();
    Edit::Declined(sum.map(|sum| Sum::ToStore(sum, expires_at)))
}

#[inline]
fn add(view: &mut View<'_>, key: &[u8], delta: i64, effects: &mut Effects) -> CommandResult {
    let sum = match view.edit(key, effects, |record| add_to(record, delta)) {
        Some(sum) => sum?,
        None => Sum::ToStore(delta, None),
    };
    let sum = match sum {
        Sum::Stored(sum) => sum,
        Sum::ToStore(sum, expires_at) => {
            view.set_string(key, StringValue::Integer(sum), expires_at, effects);
            sum
        }
    };
    effects.changed(1);
    effects.event(EventClass::STRING, "incrby", view.db(), key);
    Ok(Reply::Integer(sum))
}

/// `INCR key`: the number afterwards; an absent key counts as 0. O(1).
fn incr(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    add(view, args[1], 1, effects)
}

/// `DECR key`: the number afterwards. O(1).
fn decr(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    add(view, args[1], -1, effects)
}

/// `INCRBY key increment`: the number afterwards. O(1).
fn incrby(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    add(view, args[1], integer(args[2])?, effects)
}

/// `DECRBY key decrement`: the number afterwards. O(1).
fn decrby(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let delta = integer(args[2])?
        .checked_neg()
        .ok_or(CommandError::known("ERR decrement would overflow"))?;
    add(view, args[1], delta, effects)
}

/// `INCRBYFLOAT key increment`: the sum as a bulk. Computed in the precision of x86's long
/// double, as Redis does there, so that 0.1 + 0.2 is 0.3. O(1).
fn incrbyfloat(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let parse = |text: &[u8]| LongDouble::parse(text).ok_or(CommandError::NOT_A_FLOAT);
    // Redis looks at the stored value first, so a wrong type is told before a bad increment.
    let (number, expires_at) = match view.get(key) {
        Some(record) => {
            let mut digits = itoa::Buffer::new();
            let number = parse(string_bytes(record, &mut digits)?)?;
            (number, record.expires_at())
        }
        None => (LongDouble::ZERO, None),
    };
    let sum = number
        .checked_add(parse(args[2])?)
        .ok_or(CommandError::known("ERR increment would produce NaN or Infinity"))?
        .to_text();
    view.set_string(key, StringValue::Text(sum.as_bytes()), expires_at, effects);
    effects.changed(1);
    effects.event(EventClass::STRING, "incrbyfloat", view.db(), key);
    Ok(Reply::bulk(sum.as_bytes()))
}

const FLAGS: Flags = Flags::DENYOOM.with(Flags::FAST);
const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Update)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("incr", 2, Group::String, incr)
        .keys(KEY)
        .flags(FLAGS)
        .doc(
            "1.0.0",
            "O(1)",
            "key",
            "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        ),
    Command::write("decr", 2, Group::String, decr)
        .keys(KEY)
        .flags(FLAGS)
        .doc(
            "1.0.0",
            "O(1)",
            "key",
            "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        ),
    Command::write("incrby", 3, Group::String, incrby)
        .keys(KEY)
        .flags(FLAGS)
        .doc(
            "1.0.0",
            "O(1)",
            "key increment",
            "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        ),
    Command::write("decrby", 3, Group::String, decrby)
        .keys(KEY)
        .flags(FLAGS)
        .doc(
            "1.0.0",
            "O(1)",
            "key decrement",
            "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.",
        ),
    Command::write("incrbyfloat", 3, Group::String, incrbyfloat)
        .keys(KEY)
        .flags(FLAGS)
        .doc(
            "2.6.0",
            "O(1)",
            "key increment",
            "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";

    #[test]
    fn integers_count() {
        Bench::new().check(&[
            ("INCR k", "1"),
            ("INCRBY k 9", "10"),
            ("DECR k", "9"),
            ("DECRBY k 10", "-1"),
            ("DECRBY k -1", "0"),
            ("GET k", "\"0\""),
            ("DECR other", "-1"),
            ("SET k 9223372036854775806", "OK"),
            ("INCR k", "9223372036854775807"),
            ("INCR k", "-ERR increment or decrement would overflow"),
            ("GET k", "\"9223372036854775807\""),
            ("INCRBY n -9223372036854775808", "-9223372036854775808"),
            ("DECR n", "-ERR increment or decrement would overflow"),
            ("INCRBY n x", NOT_AN_INTEGER),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
            ("SET k 007", "OK"),
            ("INCR k", NOT_AN_INTEGER),
        ]);
    }

    #[test]
    fn text_that_reads_as_a_number_becomes_one() {
        Bench::new().check(&[
            ("SET k 1", "OK"),
            ("APPEND k 2", "2"),
            ("OBJECT ENCODING k", "\"raw\""),
            ("EXPIRE k 100", "1"),
            ("INCR k", "13"),
            ("OBJECT ENCODING k", "\"int\""),
            ("TTL k", "100"),
            ("INCR k", "14"),
            ("TTL k", "100"),
        ]);
    }

    #[test]
    fn floats_add_as_long_doubles() {
        Bench::new().check(&[
            ("INCRBYFLOAT f 0.1", "\"0.1\""),
            ("INCRBYFLOAT f 0.2", "\"0.3\""),
            ("EXPIRE f 100", "1"),
            ("INCRBYFLOAT f 5.0e3", "\"5000.29999999999999982\""),
            ("TTL f", "100"),
            ("SET n 3", "OK"),
            ("INCRBYFLOAT n -1", "\"2\""),
            ("OBJECT ENCODING n", "\"embstr\""),
            ("COPY n copy", "1"),
            ("OBJECT ENCODING copy", "\"embstr\""),
            ("INCR copy", "3"),
            ("OBJECT ENCODING copy", "\"int\""),
            ("INCRBYFLOAT n x", "-ERR value is not a valid float"),
            ("SET s x", "OK"),
            ("INCRBYFLOAT s 1", "-ERR value is not a valid float"),
            ("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity"),
            ("GET n", "\"2\""),
        ]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("INCR n", "0:new n, 0:incrby n", 1),
            ("DECRBY n 5", "0:incrby n", 1),
            ("INCRBYFLOAT n 1.5", "0:incrbyfloat n", 1),
            ("INCR n", "", 0),
        ]);
    }

    #[test]
    fn counting_makes_a_new_version() {
        let mut bench = Bench::new();
        bench.line("SET n 1");
        let watch = bench.watch("n");
        bench.line("INCR n");
        assert_eq!(bench.transaction(&["GET n"], &[watch]), None);
        let watch = bench.watch("n");
        bench.line("INCRBY n x");
        assert!(bench.transaction(&["GET n"], &[watch]).is_some());
    }
}
