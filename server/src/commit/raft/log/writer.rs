//! The one thread that writes the log: drain, one write, one sync, callbacks in order.
//!
//! Whatever queues up while the disk syncs goes into the next frame. After a failed write nothing
//! is written any more: what the disk holds is then unknown, and the node must stop.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::record::{self, Record, SEGMENT_HEADER_LEN, State};
use super::segment::{self, SEGMENT_LEN, Spares};
use super::{Index, Place, recover};
use crate::commit::raft::types::LogId;

/// A frame takes up no more once it is so long.
const FRAME_LEN_MAX: usize = 16 << 20;
/// What needs no sync is written after so long at the latest.
const LAZY_AFTER: Duration = Duration::from_millis(200);

/// Told once what it belongs to is on disk, or never will be.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Something to write.
pub(super) struct Order {
    pub(super) records: Vec<Record>,
    pub(super) done: Option<Done>,
}

impl Order {
    /// Whether it can wait for the next write that cannot: a commit index is only a hint.
    fn is_lazy(&self) -> bool {
        self.done.is_none() && self.records.iter().all(|r| matches!(r, Record::Committed(_)))
    }
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) orders: Receiver<Order>,
    pub(super) index: Arc<Mutex<Index>>,
    pub(super) spares: Spares,
    pub(super) file: Arc<File>,
    /// The number of the segment's first frame.
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) next_frame: u64,
    pub(super) tail: File,
    /// What the next segment will begin with.
    pub(super) state: State,
    /// The greatest index of the entries of each segment.
    pub(super) greatest: BTreeMap<u64, u64>,
    pub(super) failed: Option<io::Error>,
}

fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

impl Writer {
    /// Runs until the store is dropped.
    pub(super) fn run(mut self) {
        let mut group = Vec::new();
        loop {
            let wait = if group.is_empty() { Duration::from_secs(3600) } else { LAZY_AFTER };
            let mut ended = false;
            match self.orders.recv_timeout(wait) {
                Ok(order) => {
                    let lazy = order.is_lazy();
                    group.push(order);
                    if lazy {
                        continue;
                    }
                    self.drain(&mut group);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ended = true,
            }
            if !group.is_empty() {
                self.write(std::mem::take(&mut group));
            }
            if ended {
                return;
            }
        }
    }

    fn drain(&mut self, group: &mut Vec<Order>) {
        let len = |order: &Order| -> usize { order.records.iter().map(len_of).sum() };
        let mut total: usize = group.iter().map(len).sum();
        while total < FRAME_LEN_MAX
            && let Ok(order) = self.orders.try_recv()
        {
            total += len(&order);
            group.push(order);
        }
    }

    fn write(&mut self, group: Vec<Order>) {
        let written = match &self.failed {
            Some(error) => Err(copy_of(error)),
            None => self.write_frame(&group),
        };
        if let Err(error) = &written
            && self.failed.is_none()
        {
            tracing::error!("the Raft log in {} cannot be written: {error}", self.dir.display());
            self.failed = Some(copy_of(error));
        }
        for order in group {
            if let Some(done) = order.done {
                done(match &written {
                    Ok(()) => Ok(()),
                    Err(error) => Err(copy_of(error)),
                });
            }
        }
    }

    fn write_frame(&mut self, group: &[Order]) -> io::Result<()> {
        if self.offset >= SEGMENT_LEN {
            self.rotate()?;
        }
        let mut buffer = Vec::new();
        record::begin_frame(&mut buffer);
        let mut entries: Vec<(LogId, Range<usize>)> = Vec::new();
        let mut sync = false;
        for order in group {
            sync |= !order.is_lazy();
            for item in &order.records {
                let bytes = record::put(&mut buffer, item);
                self.note(item);
                if let (Record::Entry(entry), Some(bytes)) = (item, bytes) {
                    entries.push((entry.log_id, bytes));
                }
            }
        }
        self.put_frame(&mut buffer, sync)?;
        let start = self.offset - buffer.len() as u64;
        if let Some((last, _)) = entries.iter().max_by_key(|(id, _)| id.index) {
            let greatest = self.greatest.entry(self.segment).or_default();
            *greatest = (*greatest).max(last.index);
        }
        {
            let mut index = super::locked(&self.index);
            for (id, bytes) in entries {
                let place = Place {
                    segment: self.segment,
                    offset: start + bytes.start as u64,
                    len: bytes.len() as u32,
                };
                index.written(id, place);
            }
        }
        self.delete_purged()
    }

    /// Writes the frame in `buffer` and, if asked to, syncs it.
    fn put_frame(&mut self, buffer: &mut [u8], sync: bool) -> io::Result<()> {
        record::end_frame(buffer, self.next_frame);
        self.file.write_all_at(buffer, self.offset)?;
        if sync {
            self.file.sync_data()?;
            recover::write_tail(&self.tail, self.next_frame)?;
        }
        self.offset += buffer.len() as u64;
        self.next_frame += 1;
        Ok(())
    }

    /// Keeps the state that the next segment will begin with.
    fn note(&mut self, record: &Record) {
        let state = &mut self.state;
        match record {
            Record::Entry(entry) => state.last = Some(entry.log_id),
            Record::Vote(vote) => state.vote = Some(*vote),
            Record::Committed(id) => state.committed = *id,
            Record::Truncate(id) => state.last = *id,
            Record::Purge(id) => {
                state.purged = Some(*id);
                state.last = state.last.max(Some(*id));
            }
            Record::State(_) => {}
        }
    }

    /// Closes the segment and begins the next.
    fn rotate(&mut self) -> io::Result<()> {
        // The frame before may have needed no sync; a closed segment is whole on disk.
        self.file.sync_data()?;
        let file = Arc::new(self.spares.open(self.next_frame)?);
        self.segment = self.next_frame;
        self.offset = SEGMENT_HEADER_LEN as u64;
        self.file = Arc::clone(&file);
        self.greatest.insert(self.segment, 0);
        super::locked(&self.index).files.insert(self.segment, file);
        let mut buffer = Vec::new();
        record::begin_frame(&mut buffer);
        record::put(&mut buffer, &Record::State(self.state));
        self.put_frame(&mut buffer, true)
    }

    /// Deletes the oldest segments, all of whose entries are purged.
    fn delete_purged(&mut self) -> io::Result<()> {
        let Some(purged) = self.state.purged else { return Ok(()) };
        while let Some((oldest, greatest)) = self.greatest.first_key_value()
            && *oldest != self.segment
            && *greatest <= purged.index
        {
            let oldest = *oldest;
            std::fs::remove_file(segment::path(&self.dir, oldest))?;
            self.greatest.remove(&oldest);
            super::locked(&self.index).files.remove(&oldest);
        }
        Ok(())
    }
}

fn len_of(record: &Record) -> usize {
    match record {
        Record::Entry(entry) => crate::commit::raft::wire::entry_len(entry),
        _ => 32,
    }
}
