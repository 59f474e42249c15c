//! The Raft log on disk: openraft's `RaftLogStorage` over numbered segments.
//!
//! An own log, not `raft-engine`: that one takes entries only as messages of protobuf 2 (which has
//! an open advisory), drops a damaged last record in silence, and cannot have its segments made
//! ready ahead. This one is a few hundred lines with one writer thread, see `writer`; what the
//! files hold is told in `record`, what is checked at the start in `recover`.
//!
//! The newest entries stay in memory, where replication and the state machine read them; older
//! ones are read from their segment.

mod error;
mod record;
mod recover;
mod segment;
#[cfg(test)]
pub(super) mod tests;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

pub use error::LogError;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, RaftTypeConfig};
use record::Record;
use writer::{Order, Writer};

use super::types::{Entry, LogId, Types, Vote};
use super::wire::{self, Reader};
use crate::persist::files;

/// Entries are kept in memory up to about so many bytes.
const CACHE_LEN_MAX: usize = 64 << 20;
/// One append to a follower carries about so many bytes.
const APPEND_LEN_MAX: usize = 4 << 20;

/// Where an entry's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u64,
    offset: u64,
    len: u32,
}

#[derive(Debug)]
struct Slot {
    log_id: LogId,
    /// Known once it is written.
    place: Option<Place>,
    /// Present while it is in memory.
    entry: Option<Entry>,
}

/// What the log holds, entry by entry without gaps.
#[derive(Debug, Default)]
struct Index {
    slots: VecDeque<Slot>,
    files: BTreeMap<u64, Arc<File>>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// Bytes of the entries in memory.
    cached_len: usize,
    /// Entries before this index are not in memory.
    cached_from: u64,
}

fn locked(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    fn first(&self) -> u64 {
        self.slots.front().map_or(0, |slot| slot.log_id.index)
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        let at = index.checked_sub(self.slots.front()?.log_id.index)?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }

    fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.log_id).or(self.purged)
    }

    fn push(&mut self, entry: Entry) {
        if self.slots.is_empty() {
            self.cached_from = entry.log_id.index;
        }
        self.cached_len += wire::entry_len(&entry);
        self.slots.push_back(Slot { log_id: entry.log_id, place: None, entry: Some(entry) });
    }

    fn forget(&mut self, slot: Option<Slot>) {
        if let Some(entry) = slot.and_then(|slot| slot.entry) {
            self.cached_len -= wire::entry_len(&entry);
        }
    }

    /// Notes where an entry was written, and lets the oldest go from memory.
    fn written(&mut self, id: LogId, place: Place) {
        if let Some(slot) = self.slot(id.index).filter(|slot| slot.log_id == id) {
            slot.place = Some(place);
        }
        self.cached_from = self.cached_from.max(self.first());
        while self.cached_len > CACHE_LEN_MAX {
            let from = self.cached_from;
            let Some(slot) = self.slot(from).filter(|slot| slot.place.is_some()) else { return };
            let entry = slot.entry.take();
            self.cached_len -= entry.as_ref().map_or(0, wire::entry_len);
            self.cached_from += 1;
        }
    }

    fn truncate_after(&mut self, last: Option<LogId>) {
        let from = last.map_or(0, |last| last.index + 1);
        while self.slots.back().is_some_and(|slot| slot.log_id.index >= from) {
            let slot = self.slots.pop_back();
            self.forget(slot);
        }
        self.cached_from = self.cached_from.min(from);
    }

    fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|slot| slot.log_id.index <= upto.index) {
            let slot = self.slots.pop_front();
            self.forget(slot);
        }
        self.purged = self.purged.max(Some(upto));
    }
}

/// An entry, or where to read it.
enum Found {
    Here(Entry),
    There(Arc<File>, Place),
}

impl Found {
    fn load(self) -> io::Result<Entry> {
        match self {
            Self::Here(entry) => Ok(entry),
            Self::There(file, place) => {
                let mut bytes = vec![0; place.len as usize];
                file.read_exact_at(&mut bytes, place.offset)?;
                Ok(wire::entry(&mut Reader::new(&bytes))?)
            }
        }
    }
}

/// The log; clones share it.
#[derive(Clone)]
pub struct LogStore {
    index: Arc<Mutex<Index>>,
    orders: mpsc::Sender<Order>,
    /// Bytes of the entries appended since the start.
    written: Arc<AtomicU64>,
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore").finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens the log in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// When the disk refuses, or the log is not whole.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let io = |error| LogError::Io(dir.to_owned(), error);
        files::create_dir(dir).map_err(io)?;
        let mut found = recover::recover(dir)?;
        if let Some(torn) = found.torn.take() {
            tracing::warn!("dropped from the Raft log: {torn}");
        }
        let spares = segment::Spares::start(dir).map_err(io)?;
        let mut greatest = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (number, (file, last)) in found.segments {
            greatest.insert(number, last);
            files.insert(number, file);
        }
        let (segment, file, offset) = match files.last_key_value() {
            Some((number, file)) => (*number, Arc::clone(file), found.end),
            None => {
                let file = Arc::new(spares.open(found.next_frame).map_err(io)?);
                files.insert(found.next_frame, Arc::clone(&file));
                greatest.insert(found.next_frame, 0);
                (found.next_frame, file, record::SEGMENT_HEADER_LEN as u64)
            }
        };
        let tail = files::private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("tail"))
            .map_err(io)?;
        let mut state = found.state;
        state.last = found.slots.back().map(|slot| slot.log_id).or(state.last);
        let index = Arc::new(Mutex::new(Index {
            cached_from: state.last.map_or(0, |last| last.index + 1),
            slots: found.slots,
            files,
            purged: state.purged,
            vote: state.vote,
            committed: state.committed,
            cached_len: 0,
        }));
        let (orders, received) = mpsc::channel();
        let writer = Writer {
            dir: dir.to_owned(),
            orders: received,
            index: Arc::clone(&index),
            spares,
            file,
            segment,
            offset,
            next_frame: found.next_frame,
            tail,
            state,
            greatest,
            failed: None,
        };
        std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run())
            .map_err(io)?;
        Ok(Self { index, orders, written: Arc::default() })
    }

    /// The number of entries kept, and the bytes of those in memory.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let index = locked(&self.index);
        (index.slots.len(), index.cached_len)
    }

    /// Bytes of the entries appended since the start.
    #[must_use]
    pub fn written_len(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The number of its files, and the bytes of each.
    #[must_use]
    pub fn segments(&self) -> (u64, u64) {
        (locked(&self.index).files.len() as u64, segment::SEGMENT_LEN)
    }

    /// Whether it has ever held anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let index = locked(&self.index);
        index.vote.is_none() && index.last().is_none()
    }

    fn send(&self, records: Vec<Record>, done: Option<writer::Done>) -> io::Result<()> {
        self.orders
            .send(Order { records, done })
            .map_err(|_| io::Error::other("the Raft log's writer has ended"))
    }

    /// The entries of a range, as many as fit into `len_max` bytes but at least one.
    fn entries(&self, from: u64, to: u64, len_max: usize) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut len = 0;
        {
            let mut index = locked(&self.index);
            for at in from.max(index.first())..to {
                let Some(slot) = index.slot(at) else { break };
                if let Some(entry) = &slot.entry {
                    len += wire::entry_len(entry);
                    found.push(Found::Here(entry.clone()));
                } else if let Some(place) = slot.place {
                    len += place.len as usize;
                    let file = index.files.get(&place.segment);
                    let file = file.ok_or_else(|| io::Error::other("a segment is gone"))?;
                    found.push(Found::There(Arc::clone(file), place));
                }
                if len >= len_max {
                    break;
                }
            }
        }
        found.into_iter().map(Found::load).collect()
    }
}

fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl<C: Types> RaftLogReader<C> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = bounds(range);
        self.entries(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start, end, APPEND_LEN_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(locked(&self.index).vote)
    }
}

impl<C: Types> RaftLogStorage<C> for LogStore
where
    IOFlushed<C>: Send,
{
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let index = locked(&self.index);
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, written) = futures_channel();
        locked(&self.index).vote = Some(*vote);
        self.send(vec![Record::Vote(*vote)], Some(done))?;
        written.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        locked(&self.index).committed = committed;
        self.send(vec![Record::Committed(committed)], None)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(locked(&self.index).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = <C as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut index = locked(&self.index);
            for entry in entries {
                self.written.fetch_add(wire::entry_len(&entry) as u64, Relaxed);
                index.push(entry.clone());
                records.push(Record::Entry(entry));
            }
        }
        self.send(records, Some(Box::new(move |written| callback.io_completed(written))))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        // On disk before anything else happens: a snapshot that replaces what was here must not be
        // found beside entries that contradict it.
        let (done, written) = futures_channel();
        locked(&self.index).truncate_after(last);
        self.send(vec![Record::Truncate(last)], Some(done))?;
        written.await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        locked(&self.index).purge(upto);
        self.send(vec![Record::Purge(upto)], None)
    }
}

/// A callback, and a future of what it is told.
fn futures_channel() -> (writer::Done, impl Future<Output = io::Result<()>> + Send) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let done: writer::Done = Box::new(move |written| {
        let _ = tell.send(written);
    });
    let future = async move {
        told.await.unwrap_or_else(|_| Err(io::Error::other("the Raft log's writer has ended")))
    };
    (done, future)
}
