//! A disk in memory: what was not synced when a node crashes may be gone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_sim::SimRuntime;

use super::super::types::{Entry, LogId, Vote};
use super::SimGroup;
use super::world::Random;

#[derive(Clone)]
enum Change {
    Entries(Vec<Entry>),
    Vote(Vote),
    Committed(Option<LogId>),
    Truncate(Option<LogId>),
    Purge(LogId),
}

#[derive(Default)]
struct Content {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

impl Content {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Entries(entries) => {
                self.entries
                    .extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            }
            Change::Vote(vote) => self.vote = Some(*vote),
            Change::Committed(id) => self.committed = *id,
            Change::Truncate(last) => {
                let _ = self.entries.split_off(&last.map_or(0, |last| last.index + 1));
            }
            Change::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(*upto));
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    /// Everything since the disk was new, and how much of it is synced.
    changes: Vec<Change>,
    synced: usize,
    now: Content,
    /// Crashes so far: a sync that was under way then is nobody's any more.
    crashes: u64,
    /// When the last sync that is under way ends, in milliseconds from its start.
    flushes: u64,
    done: u64,
}

/// A node's disk; clones share it.
#[derive(Clone)]
pub(super) struct Disk {
    inner: Arc<Mutex<Inner>>,
    random: Arc<Random>,
}

impl Disk {
    pub(super) fn new(random: Arc<Random>) -> Self {
        Self { inner: Arc::default(), random }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().expect("the disk"))
    }

    /// The power fails: of what was not synced, some of the beginning may be there all the same.
    pub(super) fn crash(&self) {
        let luck = self.random.below(4);
        self.with(|inner| {
            inner.crashes += 1;
            let unsynced = inner.changes.len() - inner.synced;
            let kept = if luck == 0 { unsynced / 2 } else { 0 };
            inner.changes.truncate(inner.synced + kept);
            inner.synced = inner.changes.len();
            inner.now = Content::default();
            for change in &inner.changes {
                inner.now.apply(change);
            }
        });
    }

    fn record(&self, change: Change) -> usize {
        self.with(|inner| {
            inner.now.apply(&change);
            inner.changes.push(change);
            inner.changes.len()
        })
    }

    /// Syncs what is recorded up to `len`; false if the node crashed meanwhile.
    async fn sync(&self, len: usize) -> bool {
        let (crashes, turn) = self.with(|inner| {
            inner.flushes += 1;
            (inner.crashes, inner.flushes)
        });
        let slow = self.random.below(200) == 0;
        let us = if slow { 30_000 } else { 200 + self.random.below(2_500) };
        SimRuntime::sleep(Duration::from_micros(us)).await;
        // One disk syncs in order.
        while self.with(|inner| inner.crashes == crashes && inner.done + 1 < turn) {
            SimRuntime::sleep(Duration::from_micros(50)).await;
        }
        self.with(|inner| {
            inner.done = inner.done.max(turn);
            if inner.crashes != crashes {
                return false;
            }
            inner.synced = inner.synced.max(len);
            true
        })
    }
}

impl RaftLogReader<SimGroup> for Disk {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self
            .with(|inner| inner.now.entries.range(range).map(|(_, entry)| entry.clone()).collect()))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.with(|inner| inner.now.vote))
    }
}

impl RaftLogStorage<SimGroup> for Disk {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<SimGroup>> {
        Ok(self.with(|inner| {
            let last = inner.now.entries.values().next_back().map(|entry| entry.log_id);
            let purged = inner.now.purged;
            LogState { last_purged_log_id: purged, last_log_id: last.or(purged) }
        }))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let len = self.record(Change::Vote(*vote));
        match self.sync(len).await {
            true => Ok(()),
            false => Err(io::Error::other("the node crashed")),
        }
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.record(Change::Committed(committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.with(|inner| {
            let last = inner.now.entries.values().next_back().map(|entry| entry.log_id);
            inner.now.committed.min(last.or(inner.now.purged))
        }))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<SimGroup>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let len = self.record(Change::Entries(entries.into_iter().collect()));
        let disk = self.clone();
        drop(SimRuntime::spawn(async move {
            let synced = disk.sync(len).await;
            let lost = || io::Error::other("the node crashed");
            callback.io_completed(if synced { Ok(()) } else { Err(lost()) });
        }));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let len = self.record(Change::Truncate(last));
        match self.sync(len).await {
            true => Ok(()),
            false => Err(io::Error::other("the node crashed")),
        }
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.record(Change::Purge(upto));
        Ok(())
    }
}
