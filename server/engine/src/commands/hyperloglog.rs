//! PFADD, PFCOUNT, PFMERGE and what tests them.

use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec, Scope};
use crate::commands::string::basic::string_bytes;
use crate::commands::string::range::rewrite;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::hyperloglog::{self as hll, Corrupt, Encoding, REGISTERS};

const INVALID: CommandError =
    CommandError::known("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPT: CommandError = CommandError::known("INVALIDOBJ Corrupted HLL object detected");

impl From<Corrupt> for CommandError {
    fn from(_: Corrupt) -> Self {
        CORRUPT
    }
}

/// The bytes of the HyperLogLog at a key; `None` if there is no key.
fn bytes_at(view: &View<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, CommandError> {
    let Some(record) = view.get(key) else { return Ok(None) };
    let bytes = string_bytes(record, &mut itoa::Buffer::new())?.to_vec();
    if hll::encoding_of(&bytes).is_some() { Ok(Some(bytes)) } else { Err(INVALID) }
}

/// Puts changed bytes in the place of those that were there; the expiry stays.
fn put(
    view: &mut View<'_>,
    key: &[u8],
    bytes: &[u8],
    effects: &mut Effects,
) -> Result<(), CommandError> {
    rewrite(view, key, bytes.len(), effects, |place| {
        place.clear();
        place.extend_from_slice(bytes);
    })
}

fn sparse_len_max(view: &View<'_>) -> usize {
    usize::try_from(view.limits().hll_sparse_max_bytes()).unwrap_or(0)
}

/// The registers that elements would raise in a dense one, found without a copy of it; `None` if
/// the key holds anything else.
fn raised_in_dense(view: &View<'_>, args: Args<'_>) -> Option<Vec<(usize, u8)>> {
    let record = view.peek(args[1])?;
    let mut digits = itoa::Buffer::new();
    let bytes = string_bytes(record, &mut digits).ok()?;
    if hll::encoding_of(bytes)? == Encoding::Sparse {
        return None;
    }
    let raised = args[2..].iter().map(|element| hll::register_of(element));
    Some(raised.filter(|(index, value)| hll::dense_get(bytes, *index) < *value).collect())
}

/// `PFADD key [element [element ...]]`: whether the estimate may be another now. O(1) each.
fn pfadd(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let mut updates = 0;
    if let Some(raised) = raised_in_dense(view, args) {
        if raised.is_empty() {
            return Ok(Reply::Integer(0));
        }
        rewrite(view, key, hll::DENSE_LEN, effects, |bytes| {
            for (index, value) in &raised {
                let value = hll::dense_get(bytes, *index).max(*value);
                hll::dense_set(bytes, *index, value);
            }
            hll::invalidate(bytes);
        })?;
        updates += raised.len();
    } else {
        let max = sparse_len_max(view);
        let mut bytes = match bytes_at(view, key)? {
            Some(bytes) => bytes,
            None => {
                updates += 1;
                hll::empty()
            }
        };
        for element in &args[2..] {
            updates += usize::from(hll::raise(&mut bytes, hll::register_of(element), max)?);
        }
        if updates == 0 {
            return Ok(Reply::Integer(0));
        }
        hll::invalidate(&mut bytes);
        put(view, key, &bytes, effects)?;
    }
    effects.event(EventClass::STRING, "pfadd", view.db(), key);
    effects.changed(updates as u64);
    Ok(Reply::Integer(1))
}

/// `PFCOUNT key [key ...]`: the estimate of how many different elements were added; of several
/// keys, to any of them. Of one key it is kept in the key until the next change. O(1) then.
fn pfcount(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let [_, key] = args else {
        let mut registers = Box::new([0; REGISTERS]);
        for key in &args[1..] {
            if let Some(bytes) = bytes_at(view, key)? {
                hll::merge(&mut registers, &bytes)?;
            }
        }
        return Ok(Reply::Integer(hll::estimate_registers(&registers) as i64));
    };
    let Some(bytes) = bytes_at(view, key)? else { return Ok(Reply::Integer(0)) };
    if let Some(estimate) = hll::cached(&bytes) {
        return Ok(Reply::Integer(estimate as i64));
    }
    let estimate = hll::estimate(&bytes)?;
    rewrite(view, key, bytes.len(), effects, |bytes| hll::cache(bytes, estimate))?;
    effects.changed(1);
    Ok(Reply::Integer(estimate as i64))
}

/// `PFMERGE destkey [sourcekey [sourcekey ...]]`: OK; the destination has then seen all that any
/// of them has. O(N).
fn pfmerge(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let (mut registers, mut dense) = (Box::new([0; REGISTERS]), false);
    let mut destination = None;
    for (nth, source) in args[1..].iter().enumerate() {
        let Some(bytes) = bytes_at(view, source)? else { continue };
        dense |= hll::encoding_of(&bytes) == Some(Encoding::Dense);
        hll::merge(&mut registers, &bytes)?;
        if nth == 0 {
            destination = Some(bytes);
        }
    }
    let mut bytes = destination.unwrap_or_else(hll::empty);
    if dense {
        hll::make_dense(&mut bytes)?;
    }
    let max = sparse_len_max(view);
    for (index, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        hll::raise(&mut bytes, (index, *value), max)?;
    }
    hll::invalidate(&mut bytes);
    put(view, key, &bytes, effects)?;
    effects.event(EventClass::STRING, "pfadd", view.db(), key);
    effects.changed(1);
    Ok(Reply::Ok)
}

/// `PFDEBUG GETREG | DECODE | ENCODING | TODENSE key`: how it is kept.
fn pfdebug(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (what, key) = (args[1], args[2]);
    if view.peek(key).is_none() {
        return Err(CommandError::known("ERR The specified key does not exist"));
    }
    let mut bytes = bytes_at(view, key)?.unwrap_or_default();
    let encoding = hll::encoding_of(&bytes);
    if is(what, "ENCODING") {
        let sparse = encoding == Some(Encoding::Sparse);
        return Ok(Reply::simple(if sparse { "sparse" } else { "dense" }));
    }
    if is(what, "DECODE") {
        if encoding != Some(Encoding::Sparse) {
            return Err(CommandError::known("ERR HLL encoding is not sparse"));
        }
        let shown = hll::runs(&bytes).map(|run| match (run.value, run.code_len) {
            (0, 1) => format!("z:{}", run.count),
            (0, _) => format!("Z:{}", run.count),
            (value, _) => format!("v:{value},{}", run.count),
        });
        return Ok(Reply::bulk(shown.collect::<Vec<_>>().join(" ").as_bytes()));
    }
    if !is(what, "GETREG") && !is(what, "TODENSE") {
        let what = String::from_utf8_lossy(what);
        return Err(CommandError::new(format!("ERR Unknown PFDEBUG subcommand '{what}'")));
    }
    let made_dense = hll::make_dense(&mut bytes)?;
    if made_dense {
        put(view, key, &bytes, effects)?;
        effects.changed(1);
    }
    if is(what, "TODENSE") {
        return Ok(Reply::flag(made_dense));
    }
    let registers = (0..REGISTERS).map(|index| i64::from(hll::dense_get(&bytes, index)));
    Ok(Reply::Array(registers.map(Reply::Integer).collect()))
}

/// `PFSELFTEST`: OK if registers hold what is put into them, and estimates are near.
fn pfselftest(_view: &View<'_>, _args: Args<'_>) -> CommandResult {
    const ELEMENTS: u64 = 100_000;
    /// Three standard errors of so many registers.
    const ERROR_MAX: f64 = 0.03;
    let failed = |what: &str| Err(CommandError::new(format!("ERR TESTFAILED {what}")));
    let mut dense = hll::empty();
    hll::make_dense(&mut dense)?;
    let expected = |index: usize| (index * 7 % 64) as u8;
    (0..REGISTERS).for_each(|index| hll::dense_set(&mut dense, index, expected(index)));
    if let Some(index) = (0..REGISTERS).find(|i| hll::dense_get(&dense, *i) != expected(*i)) {
        return failed(&format!("Register {index} does not hold what was set"));
    }
    let (mut sparse, mut dense) = (hll::empty(), hll::empty());
    hll::make_dense(&mut dense)?;
    let mut next_look = 1;
    for count in 1..=ELEMENTS {
        let register = hll::register_of(&count.to_le_bytes());
        hll::raise(&mut dense, register, 0)?;
        hll::raise(&mut sparse, register, 3000)?;
        if count == next_look {
            next_look *= 10;
            let estimate = hll::estimate(&dense)?;
            if hll::estimate(&sparse)? != estimate {
                return failed("dense/sparse disagree");
            }
            if estimate.abs_diff(count) as f64 > count as f64 * ERROR_MAX + 1.0 {
                return failed(&format!("Too big error. card:{count} estimate:{estimate}"));
            }
        }
    }
    Ok(Reply::Ok)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("pfadd", -2, Group::HyperLogLog, pfadd)
        .keys(&[KeySpec::one(1, Access::Insert)])
        .flags(Flags::DENYOOM.with(Flags::FAST))
        .doc(
            "2.8.9",
            "O(1) to add every element.",
            "key [element [element ...]]",
            "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.",
        ),
    Command::write("pfcount", -2, Group::HyperLogLog, pfcount)
        .keys(&[KeySpec::range(1, -1, 1, Access::ReadInPlace)])
        .without_key_flags()
        .flags(Flags::READONLY.with(Flags::MAY_REPLICATE))
        .doc(
            "2.8.9",
            "O(1) with a very small average constant time when called with a single key. O(N) with N being the number of keys, and much bigger constant times, when called with multiple keys.",
            "key [key ...]",
            "Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s).",
        )
        .differs("not from read-only scripts, for it keeps what it counted"),
    Command::write("pfdebug", 3, Group::HyperLogLog, pfdebug)
        .keys(&[KeySpec::one(2, Access::ReadInPlace)])
        .flags(Flags::DENYOOM.with(Flags::ADMIN))
        .doc(
            "2.8.9",
            "N/A",
            "subcommand key",
            "Internal commands for debugging HyperLogLog values.",
        ),
    Command::write("pfmerge", -2, Group::HyperLogLog, pfmerge)
        .keys(&[KeySpec::one(1, Access::Merge), KeySpec::range(2, -1, 1, Access::Read)])
        .flags(Flags::DENYOOM)
        .doc(
            "2.8.9",
            "O(N) to merge N HyperLogLogs, but with high constant times.",
            "destkey [sourcekey [sourcekey ...]]",
            "Merges one or more HyperLogLog values into a single key.",
        ),
    Command::read("pfselftest", 1, Group::HyperLogLog, pfselftest)
        .without_key_flags()
        .flags(Flags::ADMIN)
        .scope(Scope::Free)
        .doc("2.8.9", "N/A", "", "An internal command for testing HyperLogLog values."),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn estimates_are_cached_until_the_next_change() {
        Bench::new().check(&[
            ("PFADD h", "1"),
            ("PFADD h", "0"),
            ("PFCOUNT h", "0"),
            ("PFADD h a b c", "1"),
            ("PFADD h a b c", "0"),
            ("GETRANGE h 15 15", "\"\\x80\""),
            ("PFCOUNT h", "3"),
            ("GETRANGE h 15 15", "\"\\x00\""),
            ("PFADD g c d", "1"),
            ("PFCOUNT h g none", "4"),
            ("PFMERGE d h g", "OK"),
            ("PFCOUNT d", "4"),
            ("PFDEBUG ENCODING d", "sparse"),
            ("PFDEBUG TODENSE d", "1"),
            ("PFDEBUG TODENSE d", "0"),
            ("PFADD d a b c d", "0"),
            ("PFADD d e", "1"),
            ("PFCOUNT d", "5"),
            ("STRLEN d", "12304"),
            ("PFMERGE h d", "OK"),
            ("PFDEBUG ENCODING h", "dense"),
            ("PFCOUNT h", "5"),
            ("PFSELFTEST", "OK"),
        ]);
    }

    #[test]
    fn the_expiry_stays() {
        Bench::new().check(&[
            ("PFADD h a", "1"),
            ("EXPIRE h 100", "1"),
            ("PFADD h b", "1"),
            ("PFCOUNT h", "2"),
            ("PFDEBUG TODENSE h", "1"),
            ("PFADD h c", "1"),
            ("TTL h", "100"),
        ]);
    }

    #[test]
    fn other_strings_are_refused() {
        let invalid = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
        Bench::new().check(&[
            ("SET s x", "OK"),
            ("SET n 12", "OK"),
            ("RPUSH l x", "1"),
            ("PFADD s a", invalid),
            ("PFCOUNT n", invalid),
            ("PFCOUNT l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("PFMERGE d s", invalid),
            ("PFMERGE s d", invalid),
            ("PFADD h a b", "1"),
            ("APPEND h xyz", "27"),
            ("PFCOUNT h", "-INVALIDOBJ Corrupted HLL object detected"),
            ("PFDEBUG GETREG none", "-ERR The specified key does not exist"),
            ("PFDEBUG NOSUCH h", "-ERR Unknown PFDEBUG subcommand 'NOSUCH'"),
        ]);
    }

    #[test]
    fn changes_and_events_are_those_of_redis() {
        Bench::new().check_events(&[
            ("PFADD h a b", "0:new h, 0:pfadd h", 3),
            ("PFADD h a b", "", 0),
            ("PFCOUNT h", "", 1),
            ("PFCOUNT h", "", 0),
            ("PFMERGE d h", "0:new d, 0:pfadd d", 1),
        ]);
    }
}
