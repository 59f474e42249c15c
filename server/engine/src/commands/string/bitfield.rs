//! BITFIELD and BITFIELD_RO: integers of any width at any bit of a string.

use super::basic::string_bytes;
use super::bits::{BAD_OFFSET, fits, len_of};
use super::range::rewrite;
use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::integer_text;

/// The widest integers: one bit of an unsigned one goes to the sign of its reply.
const SIGNED_BITS_MAX: u32 = 64;
const UNSIGNED_BITS_MAX: u32 = 63;

/// An integer's form: `i5`, `u8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Encoding {
    signed: bool,
    bits: u32,
}

impl Encoding {
    fn parse(arg: &[u8]) -> Result<Self, CommandError> {
        let parsed = match arg.split_first() {
            Some((b'i', digits)) => integer_text(digits).map(|bits| (true, bits)),
            Some((b'u', digits)) => integer_text(digits).map(|bits| (false, bits)),
            _ => None,
        };
        parsed
            .and_then(|(signed, bits)| Some(Self { signed, bits: u32::try_from(bits).ok()? }))
            .filter(|found| {
                let max = if found.signed { SIGNED_BITS_MAX } else { UNSIGNED_BITS_MAX };
                (1..=max).contains(&found.bits)
            })
            .ok_or(CommandError::known(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            ))
    }

    const fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    const fn max(self) -> i128 {
        (1 << (self.bits - self.signed as u32)) - 1
    }

    /// The number whose lowest bits are those of `number`.
    const fn wrap(self, number: i128) -> i64 {
        let low = number & ((1 << self.bits) - 1);
        (if low > self.max() { low - (1 << self.bits) } else { low }) as i64
    }

    /// The integer at bit `offset`; beyond the end are zeros.
    fn read(self, bytes: &[u8], offset: u64) -> i64 {
        let mut value = 0_u128;
        let (first, last) = (offset >> 3, (offset + u64::from(self.bits) - 1) >> 3);
        for at in first..=last {
            value = value << 8 | u128::from(bytes.get(at as usize).copied().unwrap_or(0));
        }
        let below = 7 - ((offset + u64::from(self.bits) - 1) & 7);
        self.wrap((value >> below) as i128)
    }

    /// Writes the integer at bit `offset`, for which there must be room.
    fn write(self, bytes: &mut [u8], offset: u64, value: i64) {
        for nth in 0..self.bits {
            let at = offset + u64::from(nth);
            let mask = 1_u8 << (7 - (at & 7));
            if value >> (self.bits - 1 - nth) & 1 == 1 {
                bytes[(at >> 3) as usize] |= mask;
            } else {
                bytes[(at >> 3) as usize] &= !mask;
            }
        }
    }
}

/// What becomes of a number that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

impl Overflow {
    fn parse(arg: &[u8]) -> Result<Self, CommandError> {
        [("WRAP", Self::Wrap), ("SAT", Self::Saturate), ("FAIL", Self::Fail)]
            .into_iter()
            .find_map(|(name, overflow)| is(arg, name).then_some(overflow))
            .ok_or(CommandError::known("ERR Invalid OVERFLOW type specified"))
    }

    /// `number` as `encoding` holds it; `None` if it is refused.
    fn settle(self, encoding: Encoding, number: i128) -> Option<i64> {
        if (encoding.min()..=encoding.max()).contains(&number) {
            return Some(number as i64);
        }
        match self {
            Self::Wrap => Some(encoding.wrap(number)),
            Self::Saturate => Some(number.clamp(encoding.min(), encoding.max()) as i64),
            Self::Fail => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    IncrBy(i64, Overflow),
}

/// One operation on one integer.
#[derive(Debug, Clone, Copy)]
struct Operation {
    encoding: Encoding,
    offset: u64,
    action: Action,
}

impl Operation {
    /// The integer to write, or none, and what is answered.
    fn outcome(&self, bytes: &[u8]) -> (Option<i64>, Reply) {
        let before = self.encoding.read(bytes, self.offset);
        match self.action {
            Action::Get => (None, Reply::Integer(before)),
            Action::Set(value, overflow) => {
                // An unsigned number reads a negative one as the large one of the same bits.
                let number = if self.encoding.signed {
                    i128::from(value)
                } else {
                    i128::from(value.cast_unsigned())
                };
                match overflow.settle(self.encoding, number) {
                    Some(after) => (Some(after), Reply::Integer(before)),
                    None => (None, Reply::Nil),
                }
            }
            Action::IncrBy(increment, overflow) => {
                let number = i128::from(before) + i128::from(increment);
                match overflow.settle(self.encoding, number) {
                    Some(after) => (Some(after), Reply::Integer(after)),
                    None => (None, Reply::Nil),
                }
            }
        }
    }
}

/// The bit offset of an integer: in bits, or with `#` in integers of this width.
fn offset_of(view: &View<'_>, arg: &[u8], encoding: Encoding) -> Result<u64, CommandError> {
    let (digits, unit) = match arg.strip_prefix(b"#") {
        Some(digits) => (digits, u64::from(encoding.bits)),
        None => (arg, 1),
    };
    integer_text(digits)
        .and_then(|number| u64::try_from(number).ok()?.checked_mul(unit))
        .filter(|offset| fits(view, *offset) && i64::try_from(*offset).is_ok())
        .ok_or(BAD_OFFSET)
}

fn operations(view: &View<'_>, args: Args<'_>) -> Result<Vec<Operation>, CommandError> {
    let mut operations = Vec::with_capacity(args.len() / 3);
    let mut overflow = Overflow::Wrap;
    let mut options = Options::after(args, 2);
    while let Some(word) = options.next() {
        if is(word, "OVERFLOW") {
            overflow = Overflow::parse(options.value()?)?;
            continue;
        }
        let writes = is(word, "SET") || is(word, "INCRBY");
        if !writes && !is(word, "GET") {
            return Err(CommandError::SYNTAX);
        }
        let (encoding, offset) = (options.value()?, options.value()?);
        let value = if writes { Some(options.value()?) } else { None };
        let encoding = Encoding::parse(encoding)?;
        let offset = offset_of(view, offset, encoding)?;
        let action = match value {
            None => Action::Get,
            Some(value) if is(word, "SET") => Action::Set(integer(value)?, overflow),
            Some(value) => Action::IncrBy(integer(value)?, overflow),
        };
        operations.push(Operation { encoding, offset, action });
    }
    Ok(operations)
}

fn read_all(
    view: &View<'_>,
    key: &[u8],
    operations: &[Operation],
) -> Result<Vec<Reply>, CommandError> {
    let mut digits = itoa::Buffer::new();
    let bytes = match view.get(key) {
        Some(record) => string_bytes(record, &mut digits)?,
        None => &[],
    };
    Ok(operations.iter().map(|operation| operation.outcome(bytes).1).collect())
}

/// `BITFIELD key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL] SET encoding offset value |
/// INCRBY encoding offset increment ...]`: what each operation read or made. O(1) for each.
fn bitfield(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let operations = operations(view, args)?;
    let writes = operations.iter().filter(|one| !matches!(one.action, Action::Get));
    let Some(end) = writes.map(|one| one.offset + u64::from(one.encoding.bits)).max() else {
        return Ok(Reply::Array(read_all(view, key, &operations)?));
    };
    let before = len_of(view, key)?;
    let len = before.max(end.div_ceil(8) as usize);
    let replies = std::cell::RefCell::new(Vec::with_capacity(operations.len()));
    let changes = std::cell::Cell::new(0);
    rewrite(view, key, len, effects, |bytes| {
        bytes.resize(len, 0);
        for operation in &operations {
            let (after, reply) = operation.outcome(bytes);
            if let Some(after) = after {
                let differs = operation.encoding.read(bytes, operation.offset) != after;
                operation.encoding.write(bytes, operation.offset, after);
                changes.set(changes.get() + u64::from(differs || len > before));
            }
            replies.borrow_mut().push(reply);
        }
    })?;
    if changes.get() > 0 {
        effects.changed(changes.get());
        effects.event(EventClass::STRING, "setbit", view.db(), key);
    }
    Ok(Reply::Array(replies.into_inner()))
}

/// `BITFIELD_RO key [GET encoding offset ...]`: the integers. O(1) for each.
fn bitfield_ro(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let operations = operations(view, args)?;
    if operations.iter().any(|one| !matches!(one.action, Action::Get)) {
        return Err(CommandError::known("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    Ok(Reply::Array(read_all(view, args[1], &operations)?))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("bitfield", -2, Group::Bitmap, bitfield)
        .keys(&[KeySpec::one(1, Access::UpdateVaries)])
        .flags(Flags::DENYOOM)
        .doc(
            "3.2.0",
            "O(1) for each subcommand specified",
            "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]]",
            "Performs arbitrary bitfield integer operations on strings.",
        ),
    Command::read("bitfield_ro", -2, Group::Bitmap, bitfield_ro)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "6.0.0",
            "O(1) for each subcommand specified",
            "key [GET encoding offset [GET encoding offset ...]]",
            "Performs arbitrary read-only bitfield integer operations on strings.",
        ),
];

#[cfg(test)]
mod tests {
    use super::Encoding;
    use crate::testing::Bench;

    #[test]
    fn integers_of_every_width_read_back_at_every_bit() {
        for signed in [false, true] {
            for bits in 1..=if signed { 64 } else { 63 } {
                let encoding = Encoding { signed, bits };
                for offset in 0..9 {
                    for value in [encoding.min(), -1, 0, 1, encoding.max() / 3, encoding.max()] {
                        let value = encoding.wrap(value);
                        for fill in [0, 0xff] {
                            let mut bytes = [fill; 10];
                            encoding.write(&mut bytes, offset, value);
                            assert_eq!(encoding.read(&bytes, offset), value, "{encoding:?}");
                            encoding.write(
                                &mut bytes,
                                offset,
                                encoding.wrap(if fill == 0 { 0 } else { -1 }),
                            );
                            assert_eq!(bytes, [fill; 10]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        Bench::new().check(&[
            ("BITFIELD b SET u8 0 255 GET u8 0 GET i8 0", "[0 255 -1]"),
            ("BITFIELD b INCRBY u8 0 1", "[0]"),
            ("BITFIELD b OVERFLOW SAT INCRBY i8 0 1000 INCRBY i8 0 -10000", "[127 -128]"),
            ("BITFIELD b OVERFLOW FAIL INCRBY i8 0 -1 SET u4 0 16 SET u4 4 9", "[nil nil 0]"),
            ("BITFIELD b OVERFLOW SAT SET u8 0 -5 GET u8 0", "[137 255]"),
            ("BITFIELD b SET i64 0 9223372036854775807", "[-72057594037927936]"),
            ("BITFIELD b INCRBY i64 0 1", "[-9223372036854775808]"),
            ("BITFIELD b OVERFLOW SAT INCRBY i64 0 -1", "[-9223372036854775808]"),
            ("BITFIELD b SET u8 #9 7 GET u8 72", "[0 7]"),
        ]);
    }

    #[test]
    fn a_refused_write_still_makes_room() {
        Bench::new().check_events(&[
            ("BITFIELD b OVERFLOW FAIL SET u2 0 4", "0:new b", 0),
            ("BITFIELD b SET u2 0 3", "0:setbit b", 1),
            ("BITFIELD b SET u2 0 3", "", 0),
            ("BITFIELD b SET u2 8 0 SET u2 0 3", "0:setbit b", 2),
        ]);
    }
}
