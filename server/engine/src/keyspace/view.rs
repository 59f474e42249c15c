//! The view: what a handler sees of the keyspace, a plain map over what is locked.
//!
//! A key that has expired is absent here, whether or not it still stands. Every change stamps
//! the record with the proposal's sequence (the version WATCH compares) and keeps the shard's
//! side in step. Handlers never lock; a key outside the locked shards is our own bug.

use std::cell::Cell;
use std::sync::Arc;

use dashmap::SharedValue;

use super::lock::{Held, HeldShard, all_places, try_shard};
use super::side::Side;
use super::snapshot::save_before_change;
use super::{Keyspace, Libraries, LockMode, Locks, Place, Plan, SHARDS, hooks, locks};
use crate::access::Uses;
use crate::command::Args;
use crate::context::{Context, Touch};
use crate::dump::journal::{Call as JournalCall, Changes, write_single};
use crate::effects::{Effects, EventClass, Notice};
use crate::error::CommandError;
use crate::host::Host;
use crate::limits::Limits;
use crate::raw::{Record, StringValue, Table, Value, iterate};
use crate::time::{DbIndex, UnixMillis};
use crate::value::Object;
use crate::value::lock::Lock;

/// Freeing a value of more steps than this is left to where no one waits.
const FREE_EFFORT_INLINE: usize = 64;

/// Something large to free off the hot path.
#[derive(Debug)]
pub enum Garbage {
    /// One record.
    Record(Record),
    /// All records of a shard.
    Table(GarbageTable),
}

/// What [`View::edit`]'s work did to the record, and what it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<T> {
    /// It changed it.
    Made(T),
    /// It left it as it was.
    Declined(T),
}

/// The table of a flushed shard.
pub struct GarbageTable(#[expect(dead_code, reason = "held to be dropped")] Table);

impl std::fmt::Debug for GarbageTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GarbageTable")
    }
}

/// The locked part of the keyspace with the context of the command that runs on it.
pub struct View<'k> {
    keyspace: &'k Keyspace,
    held: Held<'k>,
    host: &'k dyn Host,
    context: Context,
    mode: LockMode,
    random: Cell<u64>,
    hits: Cell<u32>,
    misses: Cell<u32>,
    overdue: Cell<bool>,
    wrote: bool,
    /// What a command that may write does besides; see [`hooks`].
    hooks: u8,
    /// What the calls of a script or transaction changed, for the journal.
    changes: Changes,
    /// The token that the current call was given, 0 for none.
    drawn: Cell<u64>,
}

impl<'k> View<'k> {
    /// Locks what `plan` names.
    ///
    /// # Errors
    /// `BUSY …` when a script holds it for too long.
    #[inline]
    pub fn lock(
        keyspace: &'k Keyspace,
        plan: &Plan,
        mode: LockMode,
        context: Context,
        host: &'k dyn Host,
    ) -> Result<Self, CommandError> {
        let held = keyspace.lock(plan, mode, host)?;
        Ok(Self {
            hooks: keyspace.hooks_for(mode),
            changes: Changes::default(),
            drawn: Cell::new(0),
            keyspace,
            held,
            host,
            context,
            mode,
            random: Cell::new(context.seed),
            hits: Cell::new(0),
            misses: Cell::new(0),
            overdue: Cell::new(false),
            wrote: false,
        })
    }

    /// The context of the running command.
    #[inline]
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The time by which expiry is judged.
    #[inline]
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.context.now
    }

    /// The selected database.
    #[inline]
    #[must_use]
    pub fn db(&self) -> DbIndex {
        self.context.db
    }

    /// Selects another database for what follows (a transaction's SELECT, COPY's destination).
    pub fn select(&mut self, db: DbIndex) {
        self.context.db = db;
    }

    /// How many databases there are.
    #[must_use]
    pub fn databases(&self) -> u16 {
        self.keyspace.databases()
    }

    /// Thresholds of encodings and sizes.
    #[must_use]
    pub fn limits(&self) -> &'k Limits {
        self.keyspace.limits()
    }

    /// The token counter and the leases.
    #[must_use]
    pub fn locks(&self) -> &'k Locks {
        self.keyspace.locks()
    }

    /// A fencing token greater than all before; the journal records which.
    #[must_use]
    pub fn draw_token(&self) -> u64 {
        let token = self.locks().next_token();
        self.drawn.set(token);
        token
    }

    /// Notes a change of the state that is none of a key (a lease).
    pub fn note_write(&mut self) {
        self.wrote = true;
    }

    /// The libraries of functions.
    #[must_use]
    pub fn libraries(&self) -> Arc<Libraries> {
        self.keyspace.libraries()
    }

    /// Puts others in their place.
    pub fn set_libraries(&mut self, libraries: Libraries) {
        assert!(self.covers_all(), "Invariant: libraries change while every shard is held");
        self.wrote = true;
        self.keyspace.set_libraries(libraries);
    }

    /// The world outside.
    #[must_use]
    pub fn host(&self) -> &'k dyn Host {
        self.host
    }

    /// Whether anything was changed through this view.
    #[must_use]
    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// Looks of this view that found a key, looks that found none, and whether an expired key
    /// was met that still stands.
    #[must_use]
    pub fn lookups(&self) -> (u32, u32, bool) {
        (self.hits.get(), self.misses.get(), self.overdue.get())
    }

    /// The next number of the sequence that the proposal's seed begins (splitmix64).
    #[must_use]
    pub fn random(&self) -> u64 {
        let mut state = self.random.get();
        let number = crate::random::next(&mut state);
        self.random.set(state);
        number
    }

    /// A number below `bound`, which must not be 0, without bias worth speaking of.
    #[must_use]
    pub fn random_below(&self, bound: usize) -> usize {
        ((u128::from(self.random()) * bound as u128) >> 64) as usize
    }

    #[inline]
    fn place(&self, hash: u64) -> Place {
        Place { db: self.context.db, shard: Keyspace::shard_of(hash) }
    }

    #[inline]
    fn position(&self, place: Place) -> Option<usize> {
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
    fn hold_new_db(&mut self) {
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
    fn shard(&self, hash: u64) -> &HeldShard<'k> {
        let place = self.place(hash);
        match self.position(place) {
            Some(index) => &self.held.shards[index],
            None => panic!("Invariant: {place:?} is locked before a handler looks into it"),
        }
    }

    #[inline]
    fn shard_mut(&mut self, hash: u64) -> &mut HeldShard<'k> {
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

    /// See [`hooks`].
    #[inline]
    pub(crate) fn hooks(&self) -> u8 {
        self.hooks
    }

    /// Runs a call and notes it for the journal if it changed anything.
    pub(crate) fn note_call<T>(&mut self, args: Args<'_>, call: impl FnOnce(&mut Self) -> T) -> T {
        let (seed, db) = (self.random.get(), self.context.db);
        let wrote = std::mem::replace(&mut self.wrote, false);
        let result = call(self);
        if self.wrote {
            let seed = (self.random.get() != seed).then_some(seed);
            let touch = self.context.touch;
            let token = Some(self.drawn.take()).filter(|token| *token != 0);
            self.changes.push(&JournalCall { db, seed, token, touch, args });
        }
        self.wrote |= wrote;
        result
    }

    /// Hands what the calls changed to the journal, while the shards are still held.
    pub(crate) fn journal_calls(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            let now = self.context.now;
            self.host.journal(&mut |out| changes.write(now, out));
        }
    }

    /// Hands the one command of this view to the journal if it changed anything.
    pub(crate) fn journal_command(&self, args: Args<'_>) {
        if self.wrote {
            let Context { db, now, touch, .. } = self.context;
            let seed = (self.random.get() != self.context.seed).then_some(self.context.seed);
            let token = Some(self.drawn.get()).filter(|token| *token != 0);
            let call = JournalCall { db, seed, token, touch, args };
            self.host.journal(&mut |out| write_single(now, &call, out));
        }
    }

    /// How uses are noted now: by the time, or by a counter under an LFU policy.
    #[inline]
    fn uses(&self) -> Uses {
        if self.keyspace.limits().lfu_policy() == 0 {
            return Uses::Clock(self.context.access_clock());
        }
        Uses::Counter(self.context.now, self.random())
    }

    // ---- Looking -------------------------------------------------------------------------

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
    fn side(&self, index: usize) -> &'k Side {
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

    fn db_shards(&self) -> impl Iterator<Item = &HeldShard<'k>> {
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
    pub(super) fn with_shard<T>(
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

    // ---- Changing ------------------------------------------------------------------------

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
    fn remove_if_expired(&mut self, key: &[u8], hash: u64, effects: &mut Effects) -> bool {
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
    fn remove_expired(&mut self, key: &[u8], hash: u64, effects: &mut Effects) {
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
            let old = std::mem::replace(place, record);
            shard.db.sides[usize::from(shard.place.shard)].set_expiry(
                hash,
                (before, after),
                context.sequence,
            );
            drop_later(old, effects);
            return;
        }
        self.insert_new(hash, record, effects);
    }

    fn insert_new(&mut self, hash: u64, mut record: Record, effects: &mut Effects) {
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
        if self.host.has_lock_waiters() {
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

    /// Removes every key of the current database, which must be held whole. Returns how many
    /// were live: how many expired ones still stood is not the same on every node.
    pub fn clear_db(&mut self, effects: &mut Effects) -> usize {
        let Context { db, sequence, now, .. } = self.context;
        let keyspace = self.keyspace;
        let mut removed = 0;
        for shard in self.held.shards.iter_mut().filter(|shard| shard.place.db == db) {
            let table = shard.guard.table_mut();
            if table.is_empty() {
                continue;
            }
            let side = &shard.db.sides[usize::from(shard.place.shard)];
            removed += table.len() - side.due_count(now);
            note_gone(keyspace, table, side, (now, sequence));
            let mut inner = side.inner();
            match inner.capture.take() {
                Some(capture) => keyspace.adopt(capture, std::mem::take(table)),
                None => {
                    effects.garbage.push(Garbage::Table(GarbageTable(std::mem::take(table))));
                }
            }
            inner.clear_expiries();
            inner.scan = None;
            side.note_next(&inner);
            side.set_scanning(false);
        }
        self.wrote |= removed > 0;
        removed
    }

    /// Exchanges the content of two databases; every shard must be held.
    pub fn swap_dbs(&mut self, a: DbIndex, b: DbIndex, effects: &mut Effects) {
        let selected = self.context.db;
        for db in [a, b] {
            if self.host.has_blocked_clients() {
                effects.notices.push(Notice::ReadyDb(db));
            }
            self.context.db = db;
            self.hold_new_db();
        }
        self.context.db = selected;
        self.wrote = true;
        let (low, high) = (a.min(b), a.max(b));
        if low == high {
            return;
        }
        let start = |db| self.held.shards.partition_point(|held| held.place.db < db);
        let (low_start, high_start) = (start(low), start(high));
        let (keyspace, at) = (self.keyspace, (self.context.now, self.context.sequence));
        let (left, right) = self.held.shards.split_at_mut(high_start);
        for (one, other) in left[low_start..].iter_mut().zip(right).take(SHARDS) {
            debug_assert_eq!(one.place.shard, other.place.shard);
            swap_shards(keyspace, one, other, at);
        }
    }
}

/// Marks the live keys of a table as changed for whoever watches their absence: here they go, or
/// (SWAPDB) were not before and are now. A large table marks its whole shard, at worst failing
/// a WATCH without need.
fn note_gone(keyspace: &Keyspace, table: &Table, side: &Side, (now, sequence): (UnixMillis, u64)) {
    /// With more keys than this nearly every mark would be hit anyway.
    const EXACT_UP_TO: usize = 64;
    // How many expired keys still stand is not the same on every node.
    let live = || iterate(table).filter(|record| !record.is_expired(now));
    if table.len() > EXACT_UP_TO && live().nth(EXACT_UP_TO).is_some() {
        side.note_all_deleted(sequence);
        return;
    }
    for record in live() {
        side.note_deletion(keyspace.hash(record.key()), sequence);
    }
}

fn swap_shards(
    keyspace: &Keyspace,
    one: &mut HeldShard<'_>,
    other: &mut HeldShard<'_>,
    at: (UnixMillis, u64),
) {
    let shard = usize::from(one.place.shard);
    let (one_side, other_side) = (&one.db.sides[shard], &other.db.sides[shard]);
    for side in [one_side, other_side] {
        for table in [one.guard.table(), other.guard.table()] {
            note_gone(keyspace, table, side, at);
        }
        side.note_swap(at.1);
    }
    std::mem::swap(one.guard.table_mut(), other.guard.table_mut());
    let (mut one_inner, mut other_inner) = (one_side.inner(), other_side.inner());
    one_inner.swap_expiries(&mut other_inner);
    let inners = (&mut *one_inner, &mut *other_inner);
    std::mem::swap(&mut inners.0.capture, &mut inners.1.capture);
    for (side, inner) in [(one_side, &mut one_inner), (other_side, &mut other_inner)] {
        inner.scan = None;
        side.set_scanning(false);
        side.note_next(inner);
    }
}

/// Whether a record is a lock.
pub(crate) fn is_lock(record: &Record) -> bool {
    matches!(record.value(), Value::Object(Object::ShortLock(_) | Object::Lock(_)))
}

/// Tells of a record that has expired, and drops it.
pub(super) fn bury_expired(
    keyspace: &Keyspace,
    record: Record,
    db: DbIndex,
    effects: &mut Effects,
) {
    effects.expired_keys += 1;
    effects.event(EventClass::EXPIRED, "expired", db, record.key());
    if let Value::Object(object) = record.value()
        && let Some(lock) = Lock::of(object)
    {
        // Those that were left: earlier ones have been told when they were removed.
        let left = lock.holders(UnixMillis(i64::MAX), UnixMillis(i64::MIN)).count();
        locks::count(&keyspace.locks().counts.expired, left);
        for _ in 0..left {
            effects.event(EventClass::LOCK, "lock.expired", db, record.key());
        }
    }
    drop_later(record, effects);
}

/// Drops a record, or leaves that to where no one waits if it takes long.
#[inline]
pub(super) fn drop_later(record: Record, effects: &mut Effects) {
    if record.free_effort() > FREE_EFFORT_INLINE {
        effects.garbage.push(Garbage::Record(record));
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("context", &self.context)
            .field("shards", &self.held.shards.len())
            .finish_non_exhaustive()
    }
}
