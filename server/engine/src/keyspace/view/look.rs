//! Looking: records, versions, counts. Nothing here changes what a client could see.

use super::View;
use crate::context::Touch;
use crate::keyspace::lock::HeldShard;
use crate::keyspace::side::Side;
use crate::keyspace::{Keyspace, Place};
use crate::raw::{Record, Table, iterate};

impl<'k> View<'k> {
    /// The record of a live key. Counts as a use of it.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        let record = self.peek(key);
        match record {
            Some(record) => {
                self.hits.set(self.hits.get() + 1);
                if self.context.touch == Touch::Counts {
                    record.touch(self.uses().after(record.access()));
                }
            }
            None => self.misses.set(self.misses.get() + 1),
        }
        record
    }

    /// As [`View::get`], but its idle time goes on: for commands that ask about a key rather
    /// than use it (EXISTS, TYPE, TTL).
    #[must_use]
    pub fn look(&self, key: &[u8]) -> Option<&Record> {
        let record = self.peek(key);
        let count = match record {
            Some(_) => &self.hits,
            None => &self.misses,
        };
        count.set(count.get() + 1);
        record
    }

    /// The record of a live key, without counting as a use.
    #[inline]
    #[must_use]
    pub fn peek(&self, key: &[u8]) -> Option<&Record> {
        let hash = self.keyspace.hash(key);
        let place = self.place(hash);
        // A database that nobody has used is empty, and not locked by a view of everything.
        let shard = match self.position(place) {
            Some(index) => &self.held.shards[index],
            None if self.covers_all() && self.keyspace.existing(place.db).is_none() => return None,
            None => self.shard(hash),
        };
        let (record, _) = shard.guard.table().get(hash, |(record, _)| record.key() == key)?;
        if record.is_expired(self.context.now) {
            self.overdue.set(true);
            return None;
        }
        Some(record)
    }

    /// The version WATCH compares: of a live key that of its last change, otherwise that of the
    /// last deletion near it. The lowest bit tells the two apart.
    #[must_use]
    pub fn version(&self, key: &[u8]) -> u64 {
        let hash = self.keyspace.hash(key);
        let Some(index) = self.position(self.place(hash)) else {
            return 1;
        };
        let side = self.side(index);
        match self.peek(key) {
            // Only equality of sequences means anything, so neither may hide the other.
            Some(record) => {
                let swapped = side.swapped().wrapping_mul(0x9e37_79b9_7f4a_7c15);
                record.version().wrapping_add(swapped) << 1
            }
            None => side.absent_version(hash) << 1 | 1,
        }
    }

    #[inline]
    pub(super) fn side(&self, index: usize) -> &'k Side {
        let held = &self.held.shards[index];
        &held.db.sides[usize::from(held.place.shard)]
    }

    /// Number of keys in the current database, which must be held whole.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.db_shards().map(|shard| shard.guard.table().len()).sum()
    }

    /// Number of live keys in the current database, which must be held whole. Unlike
    /// [`View::key_count`] it does not depend on which expired keys still stand, so that a
    /// replicated script may act on it.
    #[must_use]
    pub fn live_count(&self) -> usize {
        let overdue: usize = self
            .db_shards()
            .map(|shard| shard.db.sides[usize::from(shard.place.shard)].due_count(self.context.now))
            .sum();
        self.key_count() - overdue
    }

    pub(super) fn db_shards(&self) -> impl Iterator<Item = &HeldShard<'k>> {
        self.held.shards.iter().filter(|shard| shard.place.db == self.context.db)
    }

    /// The live records of the current database, which must be held whole.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let now = self.context.now;
        self.db_shards()
            .flat_map(|shard| iterate(shard.guard.table()))
            .filter(move |record| !record.is_expired(now))
    }

    /// A live key of the current database drawn evenly; the database must be held whole.
    #[must_use]
    pub fn random_key(&self) -> Option<&Record> {
        /// Draws that may meet an expired key before all live ones are counted.
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let total = self.key_count();
            if total == 0 {
                return None;
            }
            let mut nth = self.random_below(total);
            for shard in self.db_shards() {
                let table = shard.guard.table();
                if nth < table.len() {
                    match iterate(table).nth(nth) {
                        Some(record) if !record.is_expired(self.context.now) => {
                            return Some(record);
                        }
                        _ => break,
                    }
                }
                nth -= table.len();
            }
        }
        let live = self.records().count();
        (live > 0).then(|| self.records().nth(self.random_below(live)))?
    }

    /// Runs `work` on one shard of the current database: the held one, or one locked just for
    /// this when the view holds nothing (SCAN).
    pub(in crate::keyspace) fn with_shard<T>(
        &self,
        shard: u16,
        work: impl FnOnce(&Keyspace, &Table, &Side) -> T,
    ) -> T {
        let place = Place { db: self.context.db, shard };
        if let Some(index) = self.position(place) {
            return work(self.keyspace, self.held.shards[index].guard.table(), self.side(index));
        }
        match self.keyspace.existing(place.db) {
            Some(db) => {
                assert!(
                    self.held.shards.is_empty(),
                    "Invariant: whoever waits for a shard holds none"
                );
                let table = db.map.shards()[usize::from(shard)].read();
                work(self.keyspace, &table, &db.sides[usize::from(shard)])
            }
            None => work(self.keyspace, &Table::new(), &Side::default()),
        }
    }
}
