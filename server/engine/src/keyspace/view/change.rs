//! Changing one key: every change stamps the record and keeps the shard's side in step.

use dashmap::SharedValue;

use super::garbage::{bury_expired, drop_later, is_lock, is_stream};
use super::{Edit, View};
use crate::context::Touch;
use crate::effects::{Effects, EventClass};
use crate::raw::{Record, StringValue, Value};
use crate::time::UnixMillis;
use crate::value::Object;

impl View<'_> {
    /// The record of a live key, to change. An expired one is removed first. The caller says by
    /// [`View::changed`] that it did change it.
    #[inline]
    pub fn get_mut(&mut self, key: &[u8], effects: &mut Effects) -> Option<&mut Record> {
        let hash = self.keyspace.hash(key);
        if self.remove_if_expired(key, hash, effects) {
            self.misses.set(self.misses.get() + 1);
            return None;
        }
        let (context, uses) = (self.context, self.uses());
        let (hits, misses) = (self.hits.get(), self.misses.get());
        // Counted before the look, for the record's borrow outlives it.
        self.hits.set(hits + 1);
        let place = self.place(hash);
        let index = self.position(place)?;
        let table = self.held.shards[index].guard.table_mut();
        match table.get_mut(hash, |(record, _)| record.key() == key) {
            Some((record, _)) => {
                if context.touch == Touch::Counts {
                    record.touch(uses.after(record.access()));
                }
                Some(record)
            }
            None => {
                self.hits.set(hits);
                self.misses.set(misses + 1);
                None
            }
        }
    }

    /// Lets `work` change a live key's record in place, with a single look: for the hottest
    /// writes (INCR). `None` if there is no such key. Not for the expiry: see
    /// [`View::set_expiry`].
    #[inline]
    pub fn edit<T>(
        &mut self,
        key: &[u8],
        effects: &mut Effects,
        work: impl FnOnce(&mut Record) -> Edit<T>,
    ) -> Option<T> {
        let hash = self.keyspace.hash(key);
        let (context, uses) = (self.context, self.uses());
        let table = self.shard_mut(hash).guard.table_mut();
        let Some((record, _)) = table.get_mut(hash, |(record, _)| record.key() == key) else {
            self.misses.set(self.misses.get() + 1);
            return None;
        };
        if record.is_expired(context.now) {
            self.misses.set(self.misses.get() + 1);
            self.remove_expired(key, hash, effects);
            return None;
        }
        if context.touch == Touch::Counts {
            record.touch(uses.after(record.access()));
        }
        let result = match work(record) {
            Edit::Made(result) => {
                record.set_version(context.sequence);
                self.wrote = true;
                result
            }
            Edit::Bookkeeping(result) => {
                self.wrote = true;
                result
            }
            Edit::Declined(result) => result,
        };
        self.hits.set(self.hits.get() + 1);
        Some(result)
    }

    /// Stamps a live key as changed by this proposal.
    #[inline]
    pub fn changed(&mut self, key: &[u8]) {
        let hash = self.keyspace.hash(key);
        let sequence = self.context.sequence;
        self.wrote = true;
        if let Some((record, _)) =
            self.shard_mut(hash).guard.table_mut().get_mut(hash, |(record, _)| record.key() == key)
        {
            record.set_version(sequence);
        }
    }

    /// Removes the key if it has expired, and says so.
    #[inline]
    pub(super) fn remove_if_expired(
        &mut self,
        key: &[u8],
        hash: u64,
        effects: &mut Effects,
    ) -> bool {
        let now = self.context.now;
        let table = self.shard_mut(hash).guard.table_mut();
        let expired = table
            .get(hash, |(record, _)| record.key() == key)
            .is_some_and(|(record, _)| record.is_expired(now));
        if expired {
            self.remove_expired(key, hash, effects);
        }
        expired
    }

    #[cold]
    pub(super) fn remove_expired(&mut self, key: &[u8], hash: u64, effects: &mut Effects) {
        let (db, keyspace) = (self.context.db, self.keyspace);
        let shard = self.shard_mut(hash);
        let removed = shard.guard.table_mut().remove_entry(hash, |(record, _)| record.key() == key);
        if let Some((record, _)) = removed {
            shard.db.sides[usize::from(shard.place.shard)].move_expiry(
                hash,
                record.expires_at(),
                None,
            );
            bury_expired(keyspace, record, db, effects);
        }
    }

    /// Sets a key that is no lock to a string, whatever it held, with this expiry or none.
    pub fn set_string(
        &mut self,
        key: &[u8],
        value: StringValue<'_>,
        expires_at: Option<UnixMillis>,
        effects: &mut Effects,
    ) {
        let set = self.try_set_string(key, value, expires_at, effects);
        debug_assert!(set, "Invariant: who sets any key has seen that it is no lock");
    }

    /// As [`View::set_string`], but leaves a lock as it is; whether it was set.
    pub fn try_set_string(
        &mut self,
        key: &[u8],
        value: StringValue<'_>,
        expires_at: Option<UnixMillis>,
        effects: &mut Effects,
    ) -> bool {
        let hash = self.keyspace.hash(key);
        let (context, uses) = (self.context, self.uses());
        self.wrote = true;
        let shard = self.shard_mut(hash);
        if let Some((record, _)) =
            shard.guard.table_mut().get_mut(hash, |(record, _)| record.key() == key)
        {
            let before = record.expires_at();
            let simple = before.is_none() || before.is_some_and(|at| at > context.now);
            if simple {
                if before != expires_at || !record.overwrite(value) {
                    if is_lock(record) {
                        return false;
                    }
                    let mut next = Record::string(key, value, expires_at);
                    next.touch(uses.after(record.access()));
                    std::mem::swap(record, &mut next);
                    record.set_version(context.sequence);
                    shard.db.sides[usize::from(shard.place.shard)].set_expiry(
                        hash,
                        (before, expires_at),
                        context.sequence,
                    );
                    if is_stream(&next) && self.host.has_blocked_clients() {
                        effects.ready(context.db, key);
                    }
                    drop_later(next, effects);
                } else {
                    record.set_version(context.sequence);
                    record.touch(uses.after(record.access()));
                }
                return true;
            }
            self.remove_expired(key, hash, effects);
        }
        self.insert_new(hash, Record::string(key, value, expires_at), effects);
        true
    }

    /// Puts an object in the place of whatever the key held.
    pub fn set_object(
        &mut self,
        key: &[u8],
        object: Object,
        expires_at: Option<UnixMillis>,
        effects: &mut Effects,
    ) {
        self.put(Record::object(key, object, expires_at), effects);
    }

    /// Puts a record in the place of whatever its key held.
    pub fn put(&mut self, mut record: Record, effects: &mut Effects) {
        let hash = self.keyspace.hash(record.key());
        let (context, uses) = (self.context, self.uses());
        self.wrote = true;
        self.remove_if_expired(record.key(), hash, effects);
        let shard = self.shard_mut(hash);
        let table = shard.guard.table_mut();
        if let Some((place, _)) = table.get_mut(hash, |(old, _)| old.key() == record.key()) {
            record.set_version(context.sequence);
            record.touch(uses.after(place.access()));
            let (before, after) = (place.expires_at(), record.expires_at());
            let concerns_readers = is_stream(place) || is_stream(&record);
            let old = std::mem::replace(place, record);
            shard.db.sides[usize::from(shard.place.shard)].set_expiry(
                hash,
                (before, after),
                context.sequence,
            );
            if concerns_readers && self.host.has_blocked_clients() {
                effects.ready(context.db, old.key());
            }
            drop_later(old, effects);
            return;
        }
        self.insert_new(hash, record, effects);
    }

    pub(super) fn insert_new(&mut self, hash: u64, mut record: Record, effects: &mut Effects) {
        let (context, uses) = (self.context, self.uses());
        let keyspace = self.keyspace;
        record.set_version(context.sequence);
        record.touch(uses.of_new());
        effects.event(EventClass::NEW, "new", context.db, record.key());
        // Whoever waits for a key waits for it to appear: a list or sorted set is never empty.
        if matches!(record.value(), Value::Object(_)) && self.host.has_blocked_clients() {
            effects.ready(context.db, record.key());
        }
        let shard = self.shard_mut(hash);
        let side = &shard.db.sides[usize::from(shard.place.shard)];
        side.set_expiry(hash, (None, record.expires_at()), context.sequence);
        if side.is_scanning()
            && let Some(scan) = &mut side.inner().scan
        {
            scan.insert(hash);
        }
        shard.guard.table_mut().insert(hash, (record, SharedValue::new(())), |(record, _)| {
            keyspace.hash(record.key())
        });
    }

    /// Removes a live key and returns its record.
    pub fn take(&mut self, key: &[u8], effects: &mut Effects) -> Option<Record> {
        let hash = self.keyspace.hash(key);
        if self.remove_if_expired(key, hash, effects) {
            return None;
        }
        let sequence = self.context.sequence;
        let shard = self.shard_mut(hash);
        let (record, _) =
            shard.guard.table_mut().remove_entry(hash, |(record, _)| record.key() == key)?;
        let side = &shard.db.sides[usize::from(shard.place.shard)];
        side.move_expiry(hash, record.expires_at(), None);
        side.note_deletion(hash, sequence);
        self.wrote = true;
        let is_awaited = self.host.has_lock_waiters()
            // Who reads it for a group is told that it has gone.
            || is_stream(&record) && self.host.has_blocked_clients();
        if is_awaited {
            effects.ready(self.context.db, key);
        }
        Some(record)
    }

    /// Removes a live key; whether it was there.
    pub fn remove(&mut self, key: &[u8], effects: &mut Effects) -> bool {
        match self.take(key, effects) {
            Some(record) => {
                drop_later(record, effects);
                true
            }
            None => false,
        }
    }

    /// Sets or clears the own expiry of a live key; whether it was there. A hash whose fields
    /// all expire may make its record's expiry an earlier one.
    pub fn set_expiry(
        &mut self,
        key: &[u8],
        expires_at: Option<UnixMillis>,
        effects: &mut Effects,
    ) -> bool {
        let hash = self.keyspace.hash(key);
        if self.remove_if_expired(key, hash, effects) {
            return false;
        }
        let sequence = self.context.sequence;
        let shard = self.shard_mut(hash);
        let table = shard.guard.table_mut();
        let Some((record, _)) = table.get_mut(hash, |(record, _)| record.key() == key) else {
            return false;
        };
        let before = record.expires_at();
        let expires_at = match record.object_mut() {
            Some(Object::Hash(hash)) => hash.settle_expiry(expires_at),
            _ => expires_at,
        };
        record.set_expiry(expires_at);
        record.set_version(sequence);
        shard.db.sides[usize::from(shard.place.shard)].set_expiry(
            hash,
            (before, expires_at),
            sequence,
        );
        self.wrote = true;
        true
    }
}
