//! The view: what a handler sees of the keyspace, a plain map over what is locked.
//!
//! A key that has expired is absent here, whether or not it still stands. Every change stamps
//! the record with the proposal's sequence (the version WATCH compares) and keeps the shard's
//! side in step. Handlers never lock; a key outside the locked shards is our own bug.

mod change;
mod garbage;
mod hold;
mod look;
mod whole;

use std::cell::Cell;
use std::sync::Arc;

use super::lock::Held;
use super::{Keyspace, Libraries, LockMode, Locks, Plan, hooks};
use crate::access::Uses;
use crate::command::Args;
use crate::context::Context;
use crate::dump::journal::{Call as JournalCall, Changes, write_single};
use crate::error::CommandError;
use crate::host::Host;
use crate::limits::Limits;
use crate::time::{DbIndex, UnixMillis};

pub use garbage::Garbage;
pub(super) use garbage::bury_expired;
pub(crate) use garbage::is_lock;

/// What [`View::edit`]'s work did to the record, and what it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<T> {
    /// It changed it.
    Made(T),
    /// It changed what WATCH and client side caches do not count as a change of the key: the
    /// groups of a stream.
    Bookkeeping(T),
    /// It left it as it was.
    Declined(T),
}

impl<T> Edit<T> {
    /// What the work returned, whatever it changed.
    pub fn into_result(self) -> T {
        match self {
            Self::Made(result) | Self::Bookkeeping(result) | Self::Declined(result) => result,
        }
    }

    /// The same edit with another result.
    pub fn map<U>(self, work: impl FnOnce(T) -> U) -> Edit<U> {
        match self {
            Self::Made(result) => Edit::Made(work(result)),
            Self::Bookkeeping(result) => Edit::Bookkeeping(work(result)),
            Self::Declined(result) => Edit::Declined(work(result)),
        }
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
        let context = keyspace.in_time(context);
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

    /// Why nothing may be changed now, if that is so.
    #[must_use]
    pub(crate) fn refusal(&self) -> Option<CommandError> {
        if self.hooks & hooks::REFUSE == 0 { None } else { self.host.refusal() }
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
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("context", &self.context)
            .field("shards", &self.held.shards.len())
            .finish_non_exhaustive()
    }
}
