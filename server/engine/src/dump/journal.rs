//! The record of a change, as a journal keeps it and replays it.
//!
//! `[now, i64 LE] [number of calls] [call]*`, a call `[db] [flags] [seed, u64 LE]? [number of
//! arguments] ([length] [bytes])*`; numbers are seven bits per byte, least first. A record
//! holds the calls of one command, transaction or script that changed something, with the time
//! they ran at and what they drew random numbers from: run again in order they change the same.
//! Scripts are recorded by the calls they made, so that a replay needs no interpreter.

use crate::command::Args;
use crate::context::Touch;
use crate::time::{DbIndex, UnixMillis};

/// The random numbers of the call begin with a seed of its own.
const HAS_SEED: u8 = 1;
/// The call did not count as a use of its keys.
const LEAVES_USE: u8 = 2;

/// One call that changed something.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The database it ran in.
    pub db: DbIndex,
    /// What it drew from, if it drew.
    pub seed: Option<u64>,
    /// Whether it counted as a use of its keys.
    pub touch: Touch,
    /// Its arguments, the name first.
    pub args: Args<'a>,
}

/// The calls of a script or transaction, collected.
#[derive(Debug, Default)]
pub struct Changes {
    count: u64,
    bytes: Vec<u8>,
}

impl Changes {
    /// Adds a call.
    pub fn push(&mut self, call: &Call<'_>) {
        self.count += 1;
        write_call(call, &mut self.bytes);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends them as one record.
    pub fn write(&self, now: UnixMillis, out: &mut Vec<u8>) {
        out.extend_from_slice(&now.0.to_le_bytes());
        write_number(self.count, out);
        out.extend_from_slice(&self.bytes);
    }
}

/// Appends the record of a single call.
pub fn write_single(now: UnixMillis, call: &Call<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&now.0.to_le_bytes());
    write_number(1, out);
    write_call(call, out);
}

#[inline]
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_call(call: &Call<'_>, out: &mut Vec<u8>) {
    write_number(call.db.0.into(), out);
    let mut flags = 0;
    if call.seed.is_some() {
        flags |= HAS_SEED;
    }
    if call.touch == Touch::Leaves {
        flags |= LEAVES_USE;
    }
    out.push(flags);
    if let Some(seed) = call.seed {
        out.extend_from_slice(&seed.to_le_bytes());
    }
    write_number(call.args.len() as u64, out);
    for arg in call.args {
        write_number(arg.len() as u64, out);
        out.extend_from_slice(arg);
    }
}

/// The calls of a record, read one by one.
#[derive(Debug)]
pub struct Reader<'a> {
    now: UnixMillis,
    left: u64,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Opens a record; `None` if it is not one.
    #[must_use]
    pub fn new(record: &'a [u8]) -> Option<Self> {
        let (now, mut rest) = record.split_first_chunk::<8>()?;
        let left = read_number(&mut rest)?;
        Some(Self { now: UnixMillis(i64::from_le_bytes(*now)), left, rest })
    }

    /// The time all its calls ran at.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// Reads the next call; its arguments go to `args`. `Ok(None)` at the end.
    ///
    /// # Errors
    /// When the record is damaged.
    #[allow(clippy::result_unit_err)]
    pub fn next_call(
        &mut self,
        args: &mut Vec<&'a [u8]>,
    ) -> Result<Option<(DbIndex, Option<u64>, Touch)>, ()> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(()) };
        }
        self.left -= 1;
        self.read_call(args).map(Some).ok_or(())
    }

    fn read_call(&mut self, args: &mut Vec<&'a [u8]>) -> Option<(DbIndex, Option<u64>, Touch)> {
        let db = DbIndex(u16::try_from(read_number(&mut self.rest)?).ok()?);
        let flags = take(&mut self.rest, 1)?[0];
        let seed = match flags & HAS_SEED {
            0 => None,
            _ => Some(u64::from_le_bytes(*take(&mut self.rest, 8)?.first_chunk()?)),
        };
        let touch = if flags & LEAVES_USE == 0 { Touch::Counts } else { Touch::Leaves };
        args.clear();
        for _ in 0..read_number(&mut self.rest)? {
            let len = usize::try_from(read_number(&mut self.rest)?).ok()?;
            args.push(take(&mut self.rest, len)?);
        }
        (!args.is_empty()).then_some((db, seed, touch))
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let first = Call {
            db: DbIndex(3),
            seed: Some(u64::MAX),
            touch: Touch::Leaves,
            args: &[b"SPOP", b"key", &[7; 300]],
        };
        let second = Call { db: DbIndex(0), seed: None, touch: Touch::Counts, args: &[b"DEL"] };
        let mut changes = Changes::default();
        changes.push(&first);
        changes.push(&second);
        let mut record = Vec::new();
        changes.write(UnixMillis(-5), &mut record);
        let mut reader = Reader::new(&record).expect("a record");
        assert_eq!(reader.now(), UnixMillis(-5));
        let mut args = Vec::new();
        for call in [first, second] {
            let read = reader.next_call(&mut args).expect("it is whole").expect("it is there");
            assert_eq!(read, (call.db, call.seed, call.touch));
            assert_eq!(args, call.args);
        }
        assert_eq!(reader.next_call(&mut args), Ok(None));
        for cut in 0..record.len() {
            let whole = Reader::new(&record[..cut]).is_some_and(|mut reader| {
                while let Ok(call) = reader.next_call(&mut args) {
                    if call.is_none() {
                        return true;
                    }
                }
                false
            });
            assert!(!whole, "cut at {cut}");
        }
    }
}
