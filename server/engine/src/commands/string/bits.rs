//! Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS. Bit 0 is the highest of byte 0.

use super::basic::{string_bytes, string_len};
use super::range::rewrite;
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::integer_text;

/// `ERR bit offset is not an integer or out of range`
pub(super) const BAD_OFFSET: CommandError =
    CommandError::known("ERR bit offset is not an integer or out of range");

/// A bit offset, whose byte must lie in the longest string allowed.
pub(super) fn bit_offset(view: &View<'_>, arg: &[u8]) -> Result<u64, CommandError> {
    let offset = integer_text(arg).and_then(|offset| u64::try_from(offset).ok());
    offset.filter(|offset| fits(view, *offset)).ok_or(BAD_OFFSET)
}

/// Whether a string that holds the bit at `offset` is not too long.
pub(super) fn fits(view: &View<'_>, offset: u64) -> bool {
    i64::try_from(offset >> 3).is_ok_and(|byte| byte < view.limits().proto_max_bulk_len())
}

fn bit_at(bytes: &[u8], offset: u64) -> bool {
    bytes.get((offset >> 3) as usize).is_some_and(|byte| byte >> (7 - (offset & 7)) & 1 == 1)
}

/// `SETBIT key offset value`: the bit before. The string grows to hold it. O(1).
fn setbit(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let offset = bit_offset(view, args[2])?;
    let on = match integer_text(args[3]) {
        Some(bit @ 0..=1) => bit == 1,
        _ => return Err(CommandError::known("ERR bit is not an integer or out of range")),
    };
    let byte = (offset >> 3) as usize;
    let (len, before) = match view.peek(key) {
        Some(record) => {
            let mut digits = itoa::Buffer::new();
            let bytes = string_bytes(record, &mut digits)?;
            (bytes.len(), bit_at(bytes, offset))
        }
        None => (0, false),
    };
    let grows = byte >= len;
    let differs = grows || before != on;
    rewrite(view, key, len.max(byte + 1), effects, |bytes| {
        if grows {
            bytes.resize(byte + 1, 0);
        }
        let mask = 1 << (7 - (offset & 7));
        if on {
            bytes[byte] |= mask;
        } else {
            bytes[byte] &= !mask;
        }
    })?;
    if differs {
        effects.changed(1);
        effects.event(EventClass::STRING, "setbit", view.db(), key);
    }
    Ok(Reply::flag(before))
}

/// `GETBIT key offset`: the bit, 0 beyond the end. O(1).
fn getbit(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let offset = bit_offset(view, args[2])?;
    let Some(record) = view.get(args[1]) else {
        return Ok(Reply::Integer(0));
    };
    let mut digits = itoa::Buffer::new();
    Ok(Reply::flag(bit_at(string_bytes(record, &mut digits)?, offset)))
}

/// What the numbers of a range count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(arg: Option<&&[u8]>) -> Result<Self, CommandError> {
        match arg {
            None => Ok(Self::Byte),
            Some(arg) if is(arg, "BYTE") => Ok(Self::Byte),
            Some(arg) if is(arg, "BIT") => Ok(Self::Bit),
            Some(_) => Err(CommandError::SYNTAX),
        }
    }

    /// The bits from `start` to `end`, both included and negative from the end, of `len` bytes.
    fn bits(self, len: usize, start: i64, end: Option<i64>) -> std::ops::Range<u64> {
        let total = len as i64 * if self == Self::Bit { 8 } else { 1 };
        let absolute = |index: i64| if index < 0 { (total + index).max(0) } else { index };
        let (start, end) = (absolute(start), absolute(end.unwrap_or(-1)).min(total - 1));
        if start > end {
            return 0..0;
        }
        let (start, end) = (start as u64, end as u64 + 1);
        if self == Self::Bit { start..end } else { start * 8..end * 8 }
    }
}

/// The bytes that `bits` touch, the bits outside cleared: the first byte, whole bytes, the last.
fn pieces(bytes: &[u8], bits: std::ops::Range<u64>) -> (u8, &[u8], u8) {
    let (first, last) = ((bits.start >> 3) as usize, ((bits.end - 1) >> 3) as usize);
    let head = 0xff_u8 >> (bits.start & 7);
    let tail = 0xff_u8 << (7 - ((bits.end - 1) & 7));
    if first == last {
        return (bytes[first] & head & tail, &[], 0);
    }
    (bytes[first] & head, &bytes[first + 1..last], bytes[last] & tail)
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u64 =
        words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    words + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// `BITCOUNT key [start end [BYTE | BIT]]`: how many bits are set. O(N).
fn bitcount(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let range = match args {
        [_, _] => None,
        [_, _, start, end, unit @ ..] if unit.len() <= 1 => {
            Some((integer(start)?, integer(end)?, Unit::parse(unit.first())?))
        }
        _ => return Err(CommandError::SYNTAX),
    };
    let Some(record) = view.get(args[1]) else {
        return Ok(Reply::Integer(0));
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string_bytes(record, &mut digits)?;
    let bits = match range {
        None => 0..bytes.len() as u64 * 8,
        // Both from the end and the wrong way round: nothing, even where clamping would make
        // them meet.
        Some((start, end, _)) if start < 0 && end < 0 && start > end => 0..0,
        Some((start, end, unit)) => unit.bits(bytes.len(), start, Some(end)),
    };
    if bits.is_empty() {
        return Ok(Reply::Integer(0));
    }
    let (head, whole, tail) = pieces(bytes, bits);
    let count = u64::from(head.count_ones()) + ones(whole) + u64::from(tail.count_ones());
    Ok(Reply::count(count as usize))
}

/// The first bit among `bits` that is `wanted`.
fn position(bytes: &[u8], bits: std::ops::Range<u64>, wanted: bool) -> Option<u64> {
    // Looks for ones; a search for a zero looks at the complement.
    let flip = if wanted { 0 } else { 0xff };
    let (first, last) = ((bits.start >> 3) as usize, ((bits.end - 1) >> 3) as usize);
    let found = |index: usize, byte: u8| index as u64 * 8 + u64::from(byte.leading_zeros());
    let head = (bytes[first] ^ flip) & 0xff >> (bits.start & 7);
    if head != 0 {
        return Some(found(first, head)).filter(|at| *at < bits.end);
    }
    let middle = bytes.get(first + 1..=last)?;
    let skipped = middle.iter().position(|byte| byte ^ flip != 0)?;
    let at = first + 1 + skipped;
    Some(found(at, bytes[at] ^ flip)).filter(|at| *at < bits.end)
}

/// `BITPOS key bit [start [end [BYTE | BIT]]]`: where the first such bit is, or -1. Without an
/// end the string counts as followed by zeros. O(N).
fn bitpos(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let wanted = match integer(args[2])? {
        bit @ 0..=1 => bit == 1,
        _ => return Err(CommandError::known("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(CommandError::SYNTAX);
    }
    let start = args.get(3).map_or(Ok(0), |arg| integer(arg))?;
    let unit = Unit::parse(args.get(5))?;
    let end = args.get(4).map(|arg| integer(arg)).transpose()?;
    let Some(record) = view.get(args[1]) else {
        return Ok(Reply::Integer(if wanted { -1 } else { 0 }));
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string_bytes(record, &mut digits)?;
    let bits = unit.bits(bytes.len(), start, end);
    if bits.is_empty() {
        return Ok(Reply::Integer(-1));
    }
    Ok(match position(bytes, bits.clone(), wanted) {
        Some(at) => Reply::count(at as usize),
        None if !wanted && end.is_none() => Reply::count(bits.end as usize),
        None => Reply::Integer(-1),
    })
}

/// Bytes of a key, empty if there is none; for the other files of bits.
pub(super) fn len_of(view: &View<'_>, key: &[u8]) -> Result<usize, CommandError> {
    view.peek(key).map_or(Ok(0), string_len)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("setbit", 4, Group::Bitmap, setbit)
        .keys(&[KeySpec::one(1, Access::Update)])
        .flags(Flags::DENYOOM)
        .doc(
            "2.2.0",
            "O(1)",
            "key offset value",
            "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist.",
        ),
    Command::read("getbit", 3, Group::Bitmap, getbit)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc("2.2.0", "O(1)", "key offset", "Returns a bit value by offset."),
    Command::read("bitcount", -2, Group::Bitmap, bitcount)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "2.6.0",
            "O(N)",
            "key [start end [BYTE | BIT]]",
            "Counts the number of set bits (population counting) in a string.",
        ),
    Command::read("bitpos", -3, Group::Bitmap, bitpos)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "2.8.7",
            "O(N)",
            "key bit [start [end [BYTE | BIT]]]",
            "Finds the first set (1) or clear (0) bit in a string.",
        ),
];

#[cfg(test)]
mod tests {
    use super::{Unit, pieces, position};
    use crate::testing::Bench;

    #[test]
    fn ranges_of_bits_agree_with_a_walk_over_them() {
        let bytes: Vec<u8> = (0..9u32).map(|n| (n * 151 % 256) as u8).collect();
        let all: Vec<bool> = (0..72).map(|at| bytes[at / 8] >> (7 - at % 8) & 1 == 1).collect();
        for start in 0..72u64 {
            for end in start + 1..=72 {
                let (head, whole, tail) = pieces(&bytes, start..end);
                let walked = all[start as usize..end as usize].iter().filter(|bit| **bit).count();
                let counted = super::ones(&[head, tail]) + super::ones(whole);
                assert_eq!(counted as usize, walked, "{start}..{end}");
                for wanted in [false, true] {
                    let walked = (start..end).find(|at| all[*at as usize] == wanted);
                    assert_eq!(position(&bytes, start..end, wanted), walked, "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn ranges_are_clamped() {
        assert_eq!(Unit::Byte.bits(3, 0, None), 0..24);
        assert_eq!(Unit::Byte.bits(3, -1, None), 16..24);
        assert_eq!(Unit::Byte.bits(3, 1, Some(99)), 8..24);
        assert_eq!(Unit::Bit.bits(3, -5, Some(-2)), 19..23);
        assert_eq!(Unit::Bit.bits(3, 5, Some(4)), 0..0);
        assert_eq!(Unit::Byte.bits(0, 0, None), 0..0);
        assert_eq!(Unit::Bit.bits(3, i64::MIN, Some(i64::MAX)), 0..24);
    }

    #[test]
    fn changes_and_events_are_counted_as_in_redis() {
        Bench::new().check_events(&[
            ("SETBIT b 9 1", "0:new b, 0:setbit b", 1),
            ("SETBIT b 9 1", "", 0),
            ("SETBIT b 9 0", "0:setbit b", 1),
            ("SETBIT b 20 0", "0:setbit b", 1),
            ("GETBIT none 1", "", 0),
        ]);
    }

    #[test]
    fn a_bitmap_grows_no_larger_than_a_string_may() {
        let mut bench = Bench::new();
        bench.engine.keyspace().limits().set("proto-max-bulk-len", 10);
        let bad = "-ERR bit offset is not an integer or out of range";
        bench.check(&[
            ("SETBIT b 79 1", "0"),
            ("SETBIT b 80 1", bad),
            ("SETBIT b -1 1", bad),
            ("SETBIT b 18446744073709551616 1", bad),
            ("GETBIT b 80", bad),
            ("STRLEN b", "10"),
        ]);
    }
}
