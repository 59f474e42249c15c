//! Putting back what a snapshot held, and what commands do besides while it is persisted.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Keyspace, Libraries, LockMode, Marks, Place, Plan, SHARDS, View, hooks};
use crate::context::{Context, Touch};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::host::{Alone, Host};
use crate::raw::Record;
use crate::time::{DbIndex, UnixMillis};

impl Keyspace {
    /// What a command that has just locked its shards does besides; nothing if it only reads.
    #[inline]
    pub(super) fn hooks_for(&self, mode: LockMode) -> u8 {
        match mode {
            LockMode::Read => 0,
            // Set while every shard is held, so whoever has locked one since sees it.
            LockMode::Write => self.hooks.load(Relaxed),
        }
    }

    fn set_hook(&self, hook: u8, on: bool) {
        if on {
            self.hooks.fetch_or(hook, Release);
        } else {
            self.hooks.fetch_and(!hook, Release);
        }
    }

    /// Whether changes are handed to the host's journal from now on. To be called where no
    /// command runs: before the first client, or at the cut of a snapshot.
    pub fn record_changes(&self, on: bool) {
        self.set_hook(hooks::JOURNAL, on);
    }

    /// Whether changes are handed to the host's journal.
    #[must_use]
    pub fn records_changes(&self) -> bool {
        self.hooks.load(Acquire) & hooks::JOURNAL != 0
    }

    /// Whether commands that may change keys are refused, for the reason the host tells.
    pub fn refuse_changes(&self, on: bool) {
        self.set_hook(hooks::REFUSE, on);
    }

    /// Whether commands that may change keys are refused.
    #[must_use]
    pub fn refuses_changes(&self) -> bool {
        self.hooks.load(Acquire) & hooks::REFUSE != 0
    }

    /// Calls `run` while no command changes anything.
    ///
    /// # Errors
    /// `BUSY …` when a script holds shards for too long.
    pub fn at_rest<T>(&self, host: &dyn Host, run: impl FnOnce() -> T) -> Result<T, CommandError> {
        let _held = self.lock(&Plan::All, LockMode::Read, host)?;
        Ok(run())
    }

    /// Puts a record in the place of whatever its key holds, as a snapshot told it; its expiry
    /// counts from `now`. `false` if the key was there.
    pub fn load(&self, db: DbIndex, record: Record, version: u64, now: UnixMillis) -> bool {
        let place = Place { db, shard: Self::shard_of(self.hash(record.key())) };
        let context = Context { db, now, seed: 0, sequence: version, touch: Touch::Leaves };
        let mut effects = Effects::new(EventClass::NONE);
        let Ok(mut view) = View::lock(self, &Plan::One(place), LockMode::Write, context, &Alone)
        else {
            return false;
        };
        let new = view.peek(record.key()).is_none();
        view.put(record, &mut effects);
        new
    }

    /// Sets the marks of deleted keys as a snapshot told them.
    pub fn set_marks(&self, told: &Marks) {
        if told.db.0 < self.databases() && usize::from(told.shard) < SHARDS {
            self.db(told.db).sides[usize::from(told.shard)].set_marks(&told.marks);
        }
    }

    /// Forgets every key, every mark and every library.
    ///
    /// # Errors
    /// When a script holds shards for too long.
    pub fn clear(&self, context: Context) -> Result<Effects, CommandError> {
        let mut effects = Effects::new(EventClass::NONE);
        let mut view = View::lock(self, &Plan::All, LockMode::Write, context, &Alone)?;
        for db in 0..self.databases() {
            view.select(DbIndex(db));
            view.clear_db(&mut effects);
        }
        for db in self.dbs.iter().filter_map(std::sync::OnceLock::get) {
            for side in &db.sides {
                side.set_marks(&[0; 64]);
            }
        }
        self.set_libraries(Libraries::default());
        Ok(effects)
    }

    /// Whether nothing is here at `now`, and no token was ever given out.
    #[must_use]
    pub fn is_pristine(&self, now: UnixMillis) -> bool {
        let locks = self.locks();
        self.sizes(now).iter().all(|(_, size)| size.keys == 0)
            && locks.token() == 0
            && locks.lease_count() == 0
            && self.libraries().counts().0 == 0
    }

    /// A number that two keyspaces share if and only if they place keys alike: only between
    /// such do marks of deleted keys mean the same.
    #[must_use]
    pub fn placement(&self) -> u64 {
        self.hash(b"holdfast placement")
    }
}
