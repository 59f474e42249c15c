//! Snapshots: every key as it was at one moment, read while commands go on.
//!
//! At the cut all shards are locked together for some microseconds, so no command is half
//! before it and half after; each shard that holds keys then gets a [`Capture`]. A walker visits
//! the shards, a few keys per lock. Whoever is about to change a key that the walk has not yet
//! seen saves its old record first, into the shard's capture: a small one as bytes, a large one
//! as a copy. FLUSHALL hands whole tables over, SWAPDB moves captures along.
//!
//! Invariant: a key of the cut is emitted exactly once: by the walk, by its first change, or
//! with the table of a flushed shard.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::lock::HeldShard;
use super::{Keyspace, LockMode, Place, Plan, SHARDS};
use crate::collections::FixedMap;
use crate::dump::Sink;
use crate::dump::record::{Chunk, Detail};
use crate::error::CommandError;
use crate::host::{Alone, Host};
use crate::raw::{Record, Table, Value, iterate};
use crate::time::DbIndex;
use crate::value::Object;

/// Keys and bytes written per lock of a shard: some ten microseconds.
const KEYS_PER_LOCK: usize = 128;
const BYTES_PER_LOCK: usize = 16 * 1024;

/// What commands do besides their work; a byte that they read once they hold their locks.
pub(crate) mod hooks {
    /// A snapshot is being taken.
    pub(crate) const CAPTURE: u8 = 1;
    /// Changes are recorded.
    pub(crate) const JOURNAL: u8 = 2;
    /// Changes are refused.
    pub(crate) const REFUSE: u8 = 4;
}

/// What a shard still owes the snapshot.
pub(super) struct Capture {
    /// The database it belonged to at the cut.
    origin: DbIndex,
    /// Hashes of the keys that are written, saved or newer than the cut.
    seen: FixedMap<u64, ()>,
    /// Old records of keys that were changed since.
    saved: Chunk,
    large: Vec<Record>,
    /// Hashes of the keys that the walk has yet to visit, once it has begun here.
    left: Option<Vec<u64>>,
}

/// A shard that was flushed before the walk was through.
pub(super) struct Orphan {
    capture: Box<Capture>,
    table: Table,
}

/// Whether a record is rather copied than written under the lock.
fn is_large(record: &Record) -> bool {
    const STEPS: usize = 512;
    const NODES: usize = 16;
    match record.value() {
        // Shared, so that a copy costs nothing.
        Value::Object(Object::String(_)) => true,
        Value::Object(Object::List(list)) => list.free_effort() > NODES,
        Value::Object(object) => object.free_effort() > STEPS,
        Value::Integer(_) | Value::String(_) => false,
    }
}

impl Capture {
    fn new(origin: DbIndex, detail: Detail) -> Box<Self> {
        Box::new(Self {
            origin,
            seen: FixedMap::default(),
            saved: Chunk::new(origin, detail, Sink::plain()),
            large: Vec::new(),
            left: None,
        })
    }

    /// Saves what stands under a hash that is about to be changed for the first time.
    fn save(&mut self, keyspace: &Keyspace, table: &Table, hash: u64) {
        if self.seen.insert(hash, ()).is_some() {
            return;
        }
        each_of_hash(keyspace, table, hash, |record| {
            if is_large(record) {
                self.large.push(record.copy_under(record.key()));
            } else {
                self.saved.push(record);
            }
        });
    }
}

/// Calls `found` with every record of a hash.
fn each_of_hash(keyspace: &Keyspace, table: &Table, hash: u64, mut found: impl FnMut(&Record)) {
    // The comparison never succeeds, so that it meets all candidates.
    let _ = table.find(hash, |(record, _)| {
        if keyspace.hash(record.key()) == hash {
            found(record);
        }
        false
    });
}

/// Saves the old state of the keys of a hash in a shard that is held for writing.
#[cold]
pub(super) fn save_before_change(keyspace: &Keyspace, held: &HeldShard<'_>, hash: u64) {
    let mut inner = held.db.sides[usize::from(held.place.shard)].inner();
    if let Some(capture) = &mut inner.capture {
        capture.save(keyspace, held.guard.table(), hash);
    }
}

/// How many keys a database held at the cut, and how many of them expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeAtCut {
    /// The database.
    pub db: DbIndex,
    /// Its keys.
    pub keys: usize,
    /// Those with an expiry.
    pub expires: usize,
}

/// The marks of deleted keys of one shard, for replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// The database.
    pub db: DbIndex,
    /// The shard.
    pub shard: u16,
    /// The marks; see `Side`.
    pub marks: Vec<u64>,
}

/// Why no snapshot could be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotError {
    /// Another is being taken.
    InProgress,
    /// The shards could not be had.
    Busy(CommandError),
}

/// The keys of one moment; ends when it is dropped.
pub struct Snapshot<'k> {
    keyspace: &'k Keyspace,
    detail: Detail,
    sizes: Vec<SizeAtCut>,
    marks: Vec<Marks>,
    /// Captures that are not yet emitted.
    left: usize,
    next: Place,
    large: Vec<(DbIndex, Record)>,
    chunk: Chunk,
}

impl Keyspace {
    /// Begins a snapshot of this moment, at which `at_cut` is called: no command runs then.
    ///
    /// # Errors
    /// When another is being taken, or a script holds shards for too long.
    pub fn begin_snapshot(
        &self,
        detail: Detail,
        sink: Sink,
        host: &dyn Host,
        at_cut: impl FnOnce(),
    ) -> Result<Snapshot<'_>, SnapshotError> {
        if self.snapshotting.swap(true, Ordering::AcqRel) {
            return Err(SnapshotError::InProgress);
        }
        // Readers go on: they change nothing, and captures are behind a mutex of their own.
        let held = self.lock(&Plan::All, LockMode::Read, host).map_err(|error| {
            self.snapshotting.store(false, Ordering::Release);
            SnapshotError::Busy(error)
        })?;
        let (mut sizes, mut marks, mut left): (Vec<SizeAtCut>, Vec<Marks>, usize) =
            (Vec::new(), Vec::new(), 0);
        for shard in &held.shards {
            let Place { db, shard: number } = shard.place;
            let side = &shard.db.sides[usize::from(number)];
            let keys = shard.guard.table().len();
            if detail == Detail::Replica
                && let Some(found) = side.marks()
            {
                marks.push(Marks { db, shard: number, marks: found });
            }
            if keys == 0 {
                continue;
            }
            let (expires, _) = side.expiry_totals();
            match sizes.last_mut() {
                Some(size) if size.db == db => {
                    size.keys += keys;
                    size.expires += expires;
                }
                _ => sizes.push(SizeAtCut { db, keys, expires }),
            }
            side.inner().capture = Some(Capture::new(db, detail));
            left += 1;
        }
        at_cut();
        self.hooks.fetch_or(hooks::CAPTURE, Ordering::Release);
        drop(held);
        let db = DbIndex(0);
        let chunk = Chunk::new(db, detail, sink);
        let next = Place { db, shard: 0 };
        Ok(Snapshot { keyspace: self, detail, sizes, marks, left, next, large: Vec::new(), chunk })
    }

    /// Takes over a shard's table that is being flushed, if a snapshot still needs it.
    pub(super) fn adopt(&self, capture: Box<Capture>, table: Table) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).push(Orphan { capture, table });
    }
}

impl Snapshot<'_> {
    /// The databases that held keys, ascending.
    #[must_use]
    pub fn sizes(&self) -> &[SizeAtCut] {
        &self.sizes
    }

    /// The marks of deleted keys, of a snapshot for replicas.
    #[must_use]
    pub fn marks(&self) -> &[Marks] {
        &self.marks
    }

    /// Whether versions travel with the keys.
    #[must_use]
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// The next run of keys; `None` when all have come.
    pub fn next_chunk(&mut self) -> Option<&Chunk> {
        loop {
            if let Some((db, record)) = self.large.pop() {
                self.chunk.clear(db);
                self.chunk.push(&record);
                return Some(&self.chunk);
            }
            if self.left == 0 {
                return None;
            }
            let orphan = self.keyspace.orphans.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match orphan {
                Some(orphan) => self.emit_orphan(orphan),
                None => self.visit(),
            }
            if !self.chunk.is_empty() {
                return Some(&self.chunk);
            }
        }
    }

    /// Visits some keys of the next shard that owes any.
    fn visit(&mut self) {
        self.chunk.clear(self.next.db);
        let place = self.next;
        if self.keyspace.existing(place.db).is_none() {
            self.next = self.place_after(Place { shard: SHARDS as u16 - 1, ..place });
            return;
        }
        let Ok(held) = self.keyspace.lock(&Plan::One(place), LockMode::Read, &Alone) else {
            return;
        };
        let [shard] = &held.shards[..] else { return };
        let (keyspace, table) = (self.keyspace, shard.guard.table());
        let mut inner = shard.db.sides[usize::from(place.shard)].inner();
        let Some(capture) = &mut inner.capture else {
            self.next = self.place_after(place);
            return;
        };
        self.chunk.clear(capture.origin);
        let Some(left) = &mut capture.left else {
            capture.seen.reserve(table.len());
            capture.left = Some(iterate(table).map(|record| keyspace.hash(record.key())).collect());
            return;
        };
        while let Some(hash) = left.pop() {
            if capture.seen.insert(hash, ()).is_some() {
                continue;
            }
            let mut large = false;
            each_of_hash(keyspace, table, hash, |record| {
                if is_large(record) {
                    large = true;
                    self.large.push((capture.origin, record.copy_under(record.key())));
                } else {
                    self.chunk.push(record);
                }
            });
            let enough = self.chunk.len() >= KEYS_PER_LOCK;
            if large || enough || self.chunk.len_bytes() >= BYTES_PER_LOCK {
                return;
            }
        }
        if let Some(capture) = inner.capture.take() {
            drop(inner);
            drop(held);
            self.next = self.place_after(place);
            self.finish(*capture);
        }
    }

    /// Emits what others have saved of a shard that the walk is through with.
    fn finish(&mut self, capture: Capture) {
        self.left -= 1;
        self.chunk.append(&capture.saved);
        self.large.extend(capture.large.into_iter().map(|record| (capture.origin, record)));
    }

    fn emit_orphan(&mut self, Orphan { capture, table }: Orphan) {
        self.chunk.clear(capture.origin);
        for record in iterate(&table) {
            if !capture.seen.contains_key(&self.keyspace.hash(record.key())) {
                self.chunk.push(record);
            }
        }
        self.finish(*capture);
    }

    /// The place behind this one; behind the last the first, for SWAPDB may have moved captures
    /// to where the walk has been.
    fn place_after(&self, place: Place) -> Place {
        if usize::from(place.shard) + 1 < SHARDS {
            return Place { shard: place.shard + 1, ..place };
        }
        let db = (place.db.0 + 1) % self.keyspace.databases();
        Place { db: DbIndex(db), shard: 0 }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let keyspace = self.keyspace;
        keyspace.hooks.fetch_and(!hooks::CAPTURE, Ordering::Release);
        if self.left > 0 {
            for db in keyspace.dbs.iter().filter_map(std::sync::OnceLock::get) {
                for side in &db.sides {
                    side.inner().capture = None;
                }
            }
        }
        keyspace.orphans.lock().unwrap_or_else(PoisonError::into_inner).clear();
        keyspace.snapshotting.store(false, Ordering::Release);
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
