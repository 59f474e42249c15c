//! Reading the log at the start: what it holds, and whether it is whole.
//!
//! A torn tail (the last frame, of a write that a crash cut short) is dropped, for nobody was told
//! of it. Anything else that is not sound is refused. The file `tail` names the last frame that was
//! synced; it is written after the frame and never synced itself, so it is never ahead of what the
//! disk was told to keep, and a log that ends before it has lost something.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::super::types::LogId;
use super::super::wire::Reader;
use super::error::LogError;
use super::record::{self, FRAME_HEADER_LEN, Record, SEGMENT_HEADER_LEN, State};
use super::segment;
use super::{Place, Slot};

/// The log as it was found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) slots: VecDeque<Slot>,
    /// By the number of its first frame: its file, and the greatest index of its entries.
    pub(super) segments: BTreeMap<u64, (Arc<File>, u64)>,
    /// The number of the next frame, and where in the last segment it belongs.
    pub(super) next_frame: u64,
    pub(super) end: u64,
    /// What was dropped from the end, to be told.
    pub(super) torn: Option<String>,
}

impl Recovered {
    fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.state.last)
    }

    /// Takes a record in; the text says what is wrong with it.
    fn take(&mut self, record: Record, place: Place) -> Result<(), String> {
        match record {
            Record::Entry(entry) => {
                let expected = self.last().map_or(0, |last| last.index + 1);
                // The very first entries may begin anywhere: those before came by a snapshot.
                let index = entry.log_id.index;
                if self.last().is_some() && index != expected {
                    return Err(format!("entry {index} stands where {expected} belongs"));
                }
                if let Some(segment) = self.segments.get_mut(&place.segment) {
                    segment.1 = segment.1.max(index);
                }
                self.slots.push_back(Slot {
                    log_id: entry.log_id,
                    place: Some(place),
                    entry: None,
                });
            }
            Record::Vote(vote) => self.state.vote = Some(vote),
            Record::Committed(id) => self.state.committed = id,
            Record::Truncate(id) => {
                while self.slots.back().is_some_and(|slot| Some(slot.log_id) > id) {
                    self.slots.pop_back();
                }
                if self.slots.is_empty() {
                    self.state.last = id;
                }
            }
            Record::Purge(id) => {
                self.state.purged = Some(id);
                while self.slots.front().is_some_and(|slot| slot.log_id.index <= id.index) {
                    self.slots.pop_front();
                }
                if self.slots.is_empty() {
                    self.state.last = self.state.last.max(Some(id));
                }
            }
            Record::State(state) => {
                if self.segments.len() > 1 && state.last != self.last() {
                    return Err("the segment does not continue the one before it".into());
                }
                let last = if self.slots.is_empty() { state.last } else { self.state.last };
                self.state = State { last, ..state };
            }
        }
        Ok(())
    }
}

/// Reads every segment of `dir`.
pub(super) fn recover(dir: &Path) -> Result<Recovered, LogError> {
    let io = |error| LogError::Io(dir.to_owned(), error);
    let mut found = Recovered { next_frame: 1, ..Recovered::default() };
    let numbers = segment::list(dir).map_err(io)?;
    for (at, first_frame) in numbers.iter().enumerate() {
        let is_last = at + 1 == numbers.len();
        if at == 0 {
            found.next_frame = *first_frame;
        }
        let path = segment::path(dir, *first_frame);
        let io = |error| LogError::Io(path.clone(), error);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        if *first_frame != found.next_frame {
            return Err(LogError::Corrupt {
                file: path,
                offset: 0,
                what: format!("frame {} is missing: is a file gone?", found.next_frame),
            });
        }
        if bytes.get(..SEGMENT_HEADER_LEN) != Some(&segment::header(*first_frame)) {
            if is_last && record::find_frame(&bytes, found.next_frame).is_none() {
                // It was just being made.
                std::fs::remove_file(&path).map_err(io)?;
                break;
            }
            return Err(LogError::Corrupt {
                file: path,
                offset: 0,
                what: "the header is not a segment's".into(),
            });
        }
        found.segments.insert(*first_frame, (Arc::new(file), 0));
        let end = read_segment(&mut found, &path, *first_frame, &bytes, is_last)?;
        found.end = end as u64;
        if is_last {
            tidy_end(&found, *first_frame).map_err(io)?;
        }
    }
    check(dir, &found)?;
    Ok(found)
}

/// Reads the frames of a segment; where they end.
fn read_segment(
    found: &mut Recovered,
    path: &Path,
    first_frame: u64,
    bytes: &[u8],
    is_last: bool,
) -> Result<usize, LogError> {
    let corrupt = |at: usize, what: String| LogError::Corrupt {
        file: path.to_owned(),
        offset: at as u64,
        what,
    };
    let mut at = SEGMENT_HEADER_LEN;
    loop {
        let number = found.next_frame;
        let Some(records) = record::frame(&bytes[at..], |found| found == number) else {
            break;
        };
        let mut reader = Reader::new(records);
        while !reader.is_empty() {
            let before = reader.rest().len();
            let record =
                record::read(&mut reader).map_err(|error| corrupt(at, error.to_string()))?;
            let after = reader.rest().len();
            // Only used of an entry: its bytes come behind a kind and a length.
            let len = (before - after).saturating_sub(5);
            let offset = at + FRAME_HEADER_LEN + records.len() - after - len;
            let place = Place { segment: first_frame, offset: offset as u64, len: len as u32 };
            found.take(record, place).map_err(|what| corrupt(at, what))?;
        }
        at += FRAME_HEADER_LEN + records.len();
        found.next_frame += 1;
    }
    let rest = &bytes[at..];
    if let Some(sound) = record::find_frame(rest, found.next_frame) {
        return Err(corrupt(
            at,
            format!("frame {} is damaged, and a sound one follows at +{sound}", found.next_frame),
        ));
    }
    let dirty = rest.iter().any(|byte| *byte != 0);
    if dirty && !is_last {
        return Err(corrupt(at, format!("frame {} is damaged", found.next_frame)));
    }
    if dirty {
        found.torn = Some(format!(
            "{} at offset {at}: the torn end of a write that was never acknowledged",
            path.display()
        ));
    }
    Ok(at)
}

/// Wipes what stands behind the end, so that no old bytes follow what is written next.
fn tidy_end(found: &Recovered, segment: u64) -> std::io::Result<()> {
    let Some((file, _)) = found.segments.get(&segment) else { return Ok(()) };
    file.set_len(found.end)?;
    segment::reserve(file, super::segment::SEGMENT_LEN.max(found.end))?;
    file.sync_all()
}

fn check(dir: &Path, found: &Recovered) -> Result<(), LogError> {
    let short = |what: String| Err(LogError::TooShort { dir: dir.to_owned(), what });
    if let Some(synced) = read_tail(dir)
        && synced >= found.next_frame
    {
        return short(format!(
            "it ends with frame {}, but frame {synced} was synced",
            found.next_frame - 1
        ));
    }
    if found.state.committed > found.last().max(found.state.purged) {
        return short("entries that were committed are missing".to_owned());
    }
    let first = found.slots.front().map(|slot| slot.log_id.index);
    let purged = found.state.purged.map(|purged| purged.index);
    if let Some(first) = first
        && first > purged.map_or(0, |purged| purged + 1)
    {
        return short(format!("its entries begin with {first}"));
    }
    Ok(())
}

/// Notes the last synced frame.
pub(super) fn write_tail(file: &File, number: u64) -> std::io::Result<()> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&bytes, 0)
}

fn read_tail(dir: &Path) -> Option<u64> {
    let bytes = std::fs::read(dir.join("tail")).ok()?;
    let (number, crc) = bytes.get(..12)?.split_first_chunk::<8>()?;
    (crc == crc32fast::hash(number).to_le_bytes()).then(|| u64::from_le_bytes(*number))
}
