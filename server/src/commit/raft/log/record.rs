//! What the log consists of: frames in segments, records in frames.
//!
//! A segment is `magic 8 | number of its first frame u64`, then frames, then zeros. A frame is
//! one synced write: `magic u32 | length u32 | number u64 | crc32 u32 | records`. Frames are
//! numbered without gaps through all segments. Because a frame is only written once the one
//! before it is synced, a frame that is torn by a crash can only be the very last: damage with a
//! sound frame behind it is corruption. Frozen: logs on disk hold these numbers.

use std::ops::Range;

use super::super::types::{Entry, LogId, Vote};
use super::super::wire::{self, Malformed, Reader};

pub(super) const SEGMENT_MAGIC: &[u8; 8] = b"HFRAFT\x00\x01";
pub(super) const SEGMENT_HEADER_LEN: usize = 16;
const FRAME_MAGIC: u32 = 0x484f_4c44;
pub(super) const FRAME_HEADER_LEN: usize = 20;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const STATE: u8 = 6;

/// The facts a segment begins with, so that those before it can be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The last entry before this segment, or what was purged last if there is none.
    pub(super) last: Option<LogId>,
}

/// One record; an entry is borrowed from its caller when written.
#[derive(Debug)]
pub(super) enum Record {
    Entry(Entry),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Entries after this one are gone.
    Truncate(Option<LogId>),
    /// Entries up to this one are gone.
    Purge(LogId),
    State(State),
}

/// Begins a frame: room for its header.
pub(super) fn begin_frame(out: &mut Vec<u8>) {
    out.clear();
    out.resize(FRAME_HEADER_LEN, 0);
}

/// Appends a record; of an entry, returns where its bytes stand in `out`.
pub(super) fn put(out: &mut Vec<u8>, record: &Record) -> Option<Range<usize>> {
    match record {
        Record::Entry(entry) => {
            out.push(ENTRY);
            let len_at = out.len();
            wire::put_u32(out, 0);
            let from = out.len();
            wire::put_entry(out, entry);
            let len = (out.len() - from) as u32;
            out[len_at..from].copy_from_slice(&len.to_le_bytes());
            return Some(from..out.len());
        }
        Record::Vote(vote) => {
            out.push(VOTE);
            wire::put_vote(out, *vote);
        }
        Record::Committed(id) => {
            out.push(COMMITTED);
            wire::put_option(out, *id, wire::put_log_id);
        }
        Record::Truncate(id) => {
            out.push(TRUNCATE);
            wire::put_option(out, *id, wire::put_log_id);
        }
        Record::Purge(id) => {
            out.push(PURGE);
            wire::put_log_id(out, *id);
        }
        Record::State(state) => {
            out.push(STATE);
            wire::put_option(out, state.vote, wire::put_vote);
            for id in [state.committed, state.purged, state.last] {
                wire::put_option(out, id, wire::put_log_id);
            }
        }
    }
    None
}

fn checksum(len: u32, number: u64, records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(records);
    hasher.finalize()
}

/// Fills in the header of a frame whose records follow it in `out`.
pub(super) fn end_frame(out: &mut [u8], number: u64) {
    let (header, records) = out.split_at_mut(FRAME_HEADER_LEN);
    let len = records.len() as u32;
    let crc = checksum(len, number, records);
    header[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..].copy_from_slice(&crc.to_le_bytes());
}

/// The records of the frame at the front of `bytes`, if it is sound and bears a number that
/// `accept` takes.
pub(super) fn frame(bytes: &[u8], accept: impl Fn(u64) -> bool) -> Option<&[u8]> {
    let mut header = Reader::new(bytes);
    let magic = header.u32("frame").ok()?;
    let len = header.u32("frame").ok()?;
    let number = header.u64("frame").ok()?;
    let crc = header.u32("frame").ok()?;
    let records = header.rest().get(..len as usize)?;
    let sound = magic == FRAME_MAGIC && accept(number) && checksum(len, number, records) == crc;
    sound.then_some(records)
}

/// Where in `bytes` a sound frame begins whose number is at least `number`.
pub(super) fn find_frame(bytes: &[u8], number: u64) -> Option<usize> {
    let magic = FRAME_MAGIC.to_le_bytes();
    memchr::memmem::find_iter(bytes, &magic)
        .find(|at| frame(&bytes[*at..], |found| found >= number).is_some())
}

/// Reads the next record; of an entry, also says where its bytes end in what `from` reads.
pub(super) fn read(from: &mut Reader<'_>) -> Result<Record, Malformed> {
    Ok(match from.u8("record")? {
        ENTRY => {
            let mut inside = Reader::new(from.bytes("entry")?);
            let entry = wire::entry(&mut inside)?;
            if !inside.is_empty() {
                return Err(Malformed("entry"));
            }
            Record::Entry(entry)
        }
        VOTE => Record::Vote(wire::vote(from)?),
        COMMITTED => Record::Committed(wire::option(from, wire::log_id)?),
        TRUNCATE => Record::Truncate(wire::option(from, wire::log_id)?),
        PURGE => Record::Purge(wire::log_id(from)?),
        STATE => Record::State(State {
            vote: wire::option(from, wire::vote)?,
            committed: wire::option(from, wire::log_id)?,
            purged: wire::option(from, wire::log_id)?,
            last: wire::option(from, wire::log_id)?,
        }),
        _ => return Err(Malformed("record")),
    })
}
