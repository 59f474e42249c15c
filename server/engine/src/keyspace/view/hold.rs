//! Which shards a view holds, and holding more.

use super::View;
use crate::keyspace::lock::{HeldShard, all_places, try_shard};
use crate::keyspace::snapshot::save_before_change;
use crate::keyspace::{Keyspace, Place, hooks};
use crate::time::DbIndex;

impl<'k> View<'k> {
    #[inline]
    pub(super) fn place(&self, hash: u64) -> Place {
        Place { db: self.context.db, shard: Keyspace::shard_of(hash) }
    }

    #[inline]
    pub(super) fn position(&self, place: Place) -> Option<usize> {
        match self.held.shards.as_slice() {
            [only] if only.place == place => Some(0),
            several => several.binary_search_by_key(&place, |held| held.place).ok(),
        }
    }

    /// Whether this view holds the key's shard.
    #[must_use]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.position(self.place(self.keyspace.hash(key))).is_some()
    }

    /// Whether this view holds every shard.
    #[must_use]
    pub fn covers_all(&self) -> bool {
        self.held.everything.is_some()
    }

    /// Tries to hold a further shard, without waiting. A script that has not declared a key
    /// calls this; see the invariant in `lock.rs`.
    #[must_use]
    pub fn widen_to(&mut self, place: Place) -> bool {
        let Err(at) = self.held.shards.binary_search_by_key(&place, |held| held.place) else {
            return true;
        };
        let db = match (self.keyspace.existing(place.db), &self.held.everything) {
            (Some(db), _) => db,
            (None, Some(_)) => self.keyspace.create(place.db),
            // Creating a database waits, which this view may not while it holds shards.
            (None, None) => match self.keyspace.try_guard_creation() {
                Some(_creating) => self.keyspace.create(place.db),
                None => return false,
            },
        };
        match try_shard(db, place, self.mode) {
            Some(shard) => {
                self.held.shards.insert(at, shard);
                // A view that held nothing may be older than a snapshot's cut.
                self.hooks = self.keyspace.hooks_for(self.mode);
                true
            }
            None => false,
        }
    }

    /// Tries to hold every shard, without waiting; what could be had is kept.
    #[must_use]
    pub fn widen_to_all(&mut self) -> bool {
        if self.covers_all() {
            return true;
        }
        let Some(creating) = self.keyspace.try_guard_creation() else { return false };
        for index in 0..self.keyspace.databases() {
            let db = DbIndex(index);
            if self.keyspace.existing(db).is_some()
                && !all_places(db).all(|place| self.widen_to(place))
            {
                return false;
            }
        }
        self.held.everything = Some(creating);
        true
    }

    /// Makes sure the current database is held, when all the others are: a script or a
    /// transaction that selected a database nobody had used yet.
    pub(super) fn hold_new_db(&mut self) {
        if self.covers_all() && self.keyspace.existing(self.context.db).is_none() {
            let db = self.keyspace.create(self.context.db);
            for place in all_places(self.context.db) {
                // Another command may have slipped in since the database appeared; it holds
                // its shard for a moment and waits for nothing.
                let shard = loop {
                    match try_shard(db, place, self.mode) {
                        Some(shard) => break shard,
                        None => std::thread::yield_now(),
                    }
                };
                self.held.shards.push(shard);
            }
            self.held.shards.sort_by_key(|held| held.place);
        }
    }

    #[inline]
    pub(super) fn shard(&self, hash: u64) -> &HeldShard<'k> {
        let place = self.place(hash);
        match self.position(place) {
            Some(index) => &self.held.shards[index],
            None => panic!("Invariant: {place:?} is locked before a handler looks into it"),
        }
    }

    #[inline]
    pub(super) fn shard_mut(&mut self, hash: u64) -> &mut HeldShard<'k> {
        let place = self.place(hash);
        if self.held.everything.is_some() {
            self.hold_new_db();
        }
        match self.position(place) {
            Some(index) => {
                let shard = &mut self.held.shards[index];
                if self.hooks & hooks::CAPTURE != 0 {
                    save_before_change(self.keyspace, shard, hash);
                }
                shard
            }
            None => panic!("Invariant: {place:?} is locked before a handler changes it"),
        }
    }
}
