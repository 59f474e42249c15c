//! The layout of a journal file, and telling a torn tail from damage.
//!
//! Header: `HOLDFAST-JOURNAL`, version u32, number of the file u64, CRC-32 of these u32. Then
//! frames: length of the payload u32, number of the frame u64, CRC-32 of the payload u32, CRC-32
//! of the three u32; the payload; a byte of 0xa5. A payload is records, each behind its length
//! as u32. All numbers are little-endian.
//!
//! A write that a crash cut short leaves too few bytes, or zeros at the end where the mark should
//! be: a torn tail. One that overwrites zeros (see `log_file`) leaves any of its sectors as zeros, so a
//! last frame of that length with a sector of nothing but zeros is one, too, if no later frame's header
//! is behind it. Zeros up to a multiple of
//! [`ROOM_STEP`] are room that was not used. Anything else that does not fit is damage, and nobody
//! drops that silently.

use std::io::{self, Read};

/// The head of every file.
const MAGIC: &[u8; 16] = b"HOLDFAST-JOURNAL";
/// The version of the layout.
const VERSION: u32 = 1;
/// Bytes of a file's header.
pub(super) const FILE_HEADER_LEN: usize = 32;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER_LEN: usize = 20;
/// Ends every frame, for a byte that was never written is 0.
pub(super) const END_MARK: u8 = 0xa5;
/// A frame takes records until its payload is so long.
pub(super) const PAYLOAD_LEN_AIM: usize = 1 << 20;
/// A frame that overwrites zeros is no longer, and no two such are unsynced at once.
pub(super) const OVERWRITE_LEN_MAX: usize = 64 << 10;
/// A file that has room behind its frames is a multiple of this long.
pub(super) const ROOM_STEP: u64 = 512 << 10;
/// What a disk writes whole or not at all.
const SECTOR_LEN: u64 = 512;

/// The header of the file of this number.
#[must_use]
pub(super) fn file_header(number: u64) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..16].copy_from_slice(MAGIC);
    header[16..20].copy_from_slice(&VERSION.to_le_bytes());
    header[20..28].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Appends a frame around `payload`.
pub(super) fn push_frame(number: u64, payload: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = crc32fast::hash(&out[begin..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out.push(END_MARK);
}

/// Appends the frames of queued records, each behind its length, and returns the number that
/// the next frame bears.
pub(super) fn push_records(mut number: u64, records: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut rest = records;
    while !rest.is_empty() {
        let mut len = 0;
        while let Some(head) = rest.get(len..).and_then(<[u8]>::first_chunk::<4>) {
            let record = 4 + u32::from_le_bytes(*head) as usize;
            if len > 0 && len + record > PAYLOAD_LEN_AIM {
                break;
            }
            len += record;
        }
        let (payload, after) = rest.split_at(len.clamp(1, rest.len()));
        push_frame(number, payload, out);
        number += 1;
        rest = after;
    }
    number
}

/// What a file is found to be wrong with.
#[derive(Debug)]
pub(super) enum Fault {
    /// The last write was cut short: the file is good up to this offset.
    Torn {
        /// Bytes that are good.
        good: u64,
    },
    /// Something was damaged after it was written.
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// It could not be read.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A file's frames, one by one.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    inner: R,
    /// Bytes of the file.
    len: u64,
    /// Bytes read, all good.
    offset: u64,
    next: u64,
}

fn damaged(offset: u64, reason: &str) -> Fault {
    Fault::Damaged { offset, reason: reason.to_owned() }
}

impl<R: Read> FrameReader<R> {
    /// Opens the file of this number, `len` bytes long.
    ///
    /// # Errors
    /// When its header is not what it should be.
    pub(super) fn new(mut inner: R, len: u64, number: u64) -> Result<Self, Fault> {
        let have = len.min(FILE_HEADER_LEN as u64) as usize;
        let mut header = [0; FILE_HEADER_LEN];
        inner.read_exact(&mut header[..have])?;
        if header[..have] != file_header(number)[..have] {
            // A file that was created and never written to is zeros.
            if len <= FILE_HEADER_LEN as u64 && header.iter().all(|byte| *byte == 0) {
                return Err(Fault::Torn { good: 0 });
            }
            return Err(damaged(0, "this is not the header of the journal file of this number"));
        }
        if have < FILE_HEADER_LEN {
            return Err(Fault::Torn { good: 0 });
        }
        Ok(Self { inner, len, offset: FILE_HEADER_LEN as u64, next: 1 })
    }

    /// Bytes read so far.
    #[must_use]
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of the next frame.
    #[must_use]
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Reads the payload of the next frame; `false` at the end.
    ///
    /// # Errors
    /// When the rest is no frame.
    pub(super) fn next_frame(&mut self, payload: &mut Vec<u8>) -> Result<bool, Fault> {
        let left = self.len - self.offset;
        if left == 0 {
            return Ok(false);
        }
        let mut header = [0; FRAME_HEADER_LEN];
        let have = left.min(FRAME_HEADER_LEN as u64) as usize;
        self.inner.read_exact(&mut header[..have])?;
        if have < FRAME_HEADER_LEN {
            return self.end(header[..have].to_vec(), left, "the header of a frame is cut short");
        }
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if crc32fast::hash(&header[..16]) != word(16) {
            return self.end(header.to_vec(), left, "the header of a frame is damaged");
        }
        let number = u64::from(word(4)) | u64::from(word(8)) << 32;
        if number != self.next {
            let reason = format!("frame {number} stands where {} should", self.next);
            return Err(Fault::Damaged { offset: self.offset, reason });
        }
        let len = word(0) as usize;
        if ((left - FRAME_HEADER_LEN as u64) as usize) < len + 1 {
            return Err(Fault::Torn { good: self.offset });
        }
        payload.resize(len + 1, 0);
        self.inner.read_exact(payload)?;
        let whole = crc32fast::hash(&payload[..len]) == word(12);
        if !whole || payload[len] != END_MARK {
            let frame_len = (FRAME_HEADER_LEN + len + 1) as u64;
            let unmarked = whole && payload[len] == 0;
            self.end(
                [&header, &payload[..]].concat(),
                frame_len,
                "the content of a frame is damaged",
            )
            .or_else(|fault| match fault {
                // No more than its mark is missing, and that is written anew.
                Fault::Torn { .. } if unmarked => Ok(false),
                fault => Err(fault),
            })?;
            self.len = self.offset + frame_len;
        }
        payload.truncate(len);
        self.offset += (FRAME_HEADER_LEN + len + 1) as u64;
        self.next += 1;
        Ok(true)
    }

    /// What begins with `tail` and goes on in the rest of the file is no frame: `false` if it is
    /// unused room, a torn tail if it can be what a write left that was cut short, else damage. A
    /// frame would have been `frame_len_max` bytes long at most.
    fn end(&mut self, mut tail: Vec<u8>, frame_len_max: u64, reason: &str) -> Result<bool, Fault> {
        let begun = tail.len();
        let mut buffer = [0; 4096];
        let mut at = begun as u64;
        // Behind the last byte that is not zero.
        let mut end = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        loop {
            let read = self.inner.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            if tail.len() < OVERWRITE_LEN_MAX {
                tail.extend_from_slice(&buffer[..read]);
            }
            if let Some(last) = buffer[..read].iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += read as u64;
        }
        if end == 0 && self.len.is_multiple_of(ROOM_STEP) {
            return Ok(false);
        }
        let overwritten_len_max = frame_len_max.min(OVERWRITE_LEN_MAX as u64);
        let short = at < FRAME_HEADER_LEN as u64;
        // No more was written than its beginning, or any part of it.
        let torn = short
            || end < begun as u64
            || end <= overwritten_len_max
                && has_zero_sector(&tail[..end as usize], self.offset)
                && !holds_later_frame(&tail[..end as usize], self.next);
        Err(if torn { Fault::Torn { good: self.offset } } else { damaged(self.offset, reason) })
    }
}

/// Whether the header of a frame behind number `next` is in `bytes`: it was written when that one was
/// synced, which can be no torn write then.
fn holds_later_frame(bytes: &[u8], next: u64) -> bool {
    let later = next + 1..=next + (OVERWRITE_LEN_MAX / FRAME_HEADER_LEN) as u64;
    bytes.windows(FRAME_HEADER_LEN).any(|header| {
        let (numbers, crc) = header.split_at(16);
        let number = numbers[4..12].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        later.contains(&number) && crc32fast::hash(numbers).to_le_bytes() == crc
    })
}

/// Whether all of `bytes` that lie in some sector are zeros; they begin at `offset`.
fn has_zero_sector(bytes: &[u8], offset: u64) -> bool {
    let first = bytes.len().min((SECTOR_LEN - offset % SECTOR_LEN) as usize);
    let (head, rest) = bytes.split_at(first);
    let is_zero = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
    !head.is_empty() && is_zero(head) || rest.chunks(SECTOR_LEN as usize).any(is_zero)
}

/// The records of a payload.
pub(super) fn records(mut payload: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let split = payload
            .split_first_chunk::<4>()
            .and_then(|(len, rest)| rest.split_at_checked(u32::from_le_bytes(*len) as usize));
        payload = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(record, _)| record))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = file_header(7).to_vec();
        for (nth, payload) in frames.iter().enumerate() {
            push_frame(nth as u64 + 1, payload, &mut bytes);
        }
        bytes
    }

    /// The frames that can be read, and what ends them.
    fn read(bytes: &[u8]) -> (usize, Result<(), Fault>) {
        let mut reader = match FrameReader::new(bytes, bytes.len() as u64, 7) {
            Ok(reader) => reader,
            Err(fault) => return (0, Err(fault)),
        };
        let (mut count, mut payload) = (0, Vec::new());
        loop {
            match reader.next_frame(&mut payload) {
                Ok(true) => count += 1,
                Ok(false) => return (count, Ok(())),
                Err(fault) => return (count, Err(fault)),
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_has_a_torn_tail_and_keeps_what_is_before() {
        let bytes = file(&[b"first", b"two", b"third payload"]);
        assert!(matches!(read(&bytes), (3, Ok(()))));
        let ends = [FILE_HEADER_LEN, FILE_HEADER_LEN + 26, FILE_HEADER_LEN + 26 + 24, bytes.len()];
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            let (count, end) = read(&bytes[..cut]);
            assert_eq!(count, whole, "cut at {cut}");
            let good = if ends.contains(&cut) {
                assert!(end.is_ok(), "cut at {cut}: {end:?}");
                continue;
            } else {
                ends.iter().rev().find(|end| **end <= cut).map_or(0, |end| *end as u64)
            };
            assert!(
                matches!(end, Err(Fault::Torn { good: told }) if told == good),
                "{cut} {end:?}"
            );
            // A file system may give zeros for what was not written.
            if cut >= FILE_HEADER_LEN {
                let mut zeroed = bytes[..cut].to_vec();
                zeroed.resize(bytes.len().max(cut + 1) + 30, 0);
                let (count, end) = read(&zeroed);
                // A frame that lacks its mark alone is whole.
                let marked = ends.contains(&(cut + 1));
                assert_eq!(count, whole + usize::from(marked), "zeroed at {cut}");
                assert_eq!(end.is_ok(), marked, "zeroed at {cut}");
            }
        }
    }

    #[test]
    fn a_lost_sector_is_damage_if_a_frame_follows() {
        // The second frame begins with a sector.
        let first = vec![7; SECTOR_LEN as usize - FILE_HEADER_LEN - FRAME_HEADER_LEN - 1];
        let mut bytes = file(&[&first, &[8; 600], &[9; 600]]);
        bytes.resize(ROOM_STEP as usize, 0);
        bytes[SECTOR_LEN as usize..2 * SECTOR_LEN as usize].fill(0);
        assert!(matches!(read(&bytes), (1, Err(Fault::Damaged { offset: SECTOR_LEN, .. }))));
    }

    #[test]
    fn unused_room_is_no_fault_and_other_zeros_are() {
        let mut bytes = file(&[b"first", b"second"]);
        let good = bytes.len() as u64;
        bytes.resize(ROOM_STEP as usize, 0);
        assert!(matches!(read(&bytes), (2, Ok(()))));
        bytes.push(0);
        assert!(matches!(read(&bytes), (2, Err(Fault::Torn { good: told })) if told == good));
        // Nobody writes so far behind the end.
        bytes.resize(2 * ROOM_STEP as usize, 0);
        bytes[good as usize + OVERWRITE_LEN_MAX] = 1;
        assert!(matches!(read(&bytes), (2, Err(Fault::Damaged { .. }))));
    }

    proptest! {
        /// The power fails while a frame overwrites zeros: some of its sectors are not there.
        #[test]
        fn a_frame_that_lacks_any_of_its_sectors_is_torn(
            before in 0..1200_usize,
            len in 1..5000_usize,
            lost in prop::collection::vec(any::<bool>(), 12),
        ) {
            let mut bytes = file(&[&vec![7; before]]);
            let good = bytes.len();
            push_frame(2, &vec![9; len], &mut bytes);
            let end = bytes.len();
            bytes.resize(ROOM_STEP as usize, 0);
            let first = good / SECTOR_LEN as usize;
            let mut whole = true;
            for (nth, _) in lost.iter().enumerate().filter(|(_, lost)| **lost) {
                let from = (first + nth) * SECTOR_LEN as usize;
                let sector = from.max(good)..(from + SECTOR_LEN as usize).min(end);
                // One that holds nothing but the mark is not missed.
                whole &= sector.len() <= 1;
                if !sector.is_empty() {
                    bytes[sector].fill(0);
                }
            }
            let (count, found) = read(&bytes);
            prop_assert_eq!(count, 1 + usize::from(whole));
            match found {
                Ok(()) => prop_assert!(whole || bytes[good..].iter().all(|byte| *byte == 0)),
                Err(Fault::Torn { good: told }) => {
                    prop_assert!(!whole && told == good as u64);
                }
                Err(fault) => prop_assert!(false, "{:?}", fault),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_wherever_it_is() {
        let bytes = file(&[b"first", b"second"]);
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bit;
                let (_, end) = read(&flipped);
                assert!(matches!(end, Err(Fault::Damaged { .. })), "byte {at}: {end:?}");
            }
        }
    }

    #[test]
    fn queued_records_become_frames() {
        let mut queued = Vec::new();
        for len in [0usize, 5, 400_000, 700_000, 3_000_000, 1] {
            queued.extend_from_slice(&(len as u32).to_le_bytes());
            queued.resize(queued.len() + len, len as u8);
        }
        let mut bytes = file_header(7).to_vec();
        assert_eq!(push_records(1, &queued, &mut bytes), 5);
        let mut reader = FrameReader::new(&bytes[..], bytes.len() as u64, 7).expect("a header");
        let (mut payload, mut lens) = (Vec::new(), Vec::new());
        while reader.next_frame(&mut payload).expect("all is well") {
            lens.extend(records(&payload).map(|record| record.map(<[u8]>::len)));
        }
        let expected = [0usize, 5, 400_000, 700_000, 3_000_000, 1].map(Some);
        assert_eq!(lens, expected);
    }
}
