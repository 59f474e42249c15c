//! Locking the shards a command needs.
//!
//! Invariant: whoever waits for a shard holds none. Several shards are taken in ascending
//! order without waiting; if one is not free, all are given back before the wait. So no two
//! commands can wait for each other, and a script that must widen its hold (see
//! [`View::widen`](super::View::widen)) always gets what it waits for in the end.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use dashmap::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use smallvec::SmallVec;

use super::{Db, Keyspace, SHARDS};
use crate::error::CommandError;
use crate::host::Host;
use crate::raw::Table;
use crate::time::DbIndex;

/// Whether a command may change what it locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
}

/// One shard of one database; the order of the fields is the order of locking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The database.
    pub db: DbIndex,
    /// The shard in it.
    pub shard: u16,
}

/// Which shards to lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// None.
    Nothing,
    /// The shard of one key.
    One(Place),
    /// These; in any order, doubles allowed.
    Some(SmallVec<[Place; 16]>),
    /// Every shard of one database.
    Db(DbIndex),
    /// Every shard of every database.
    All,
}

pub(super) enum Guard<'k> {
    Read(RwLockReadGuard<'k, Table>),
    Write(RwLockWriteGuard<'k, Table>),
}

impl<'k> Guard<'k> {
    #[inline]
    fn try_lock(lock: &'k RwLock<Table>, mode: LockMode) -> Option<Self> {
        match mode {
            LockMode::Read => lock.try_read().map(Self::Read),
            LockMode::Write => lock.try_write().map(Self::Write),
        }
    }

    #[inline]
    pub(super) fn table(&self) -> &Table {
        match self {
            Self::Read(guard) => guard,
            Self::Write(guard) => guard,
        }
    }

    #[inline]
    pub(super) fn table_mut(&mut self) -> &mut Table {
        match self {
            Self::Write(guard) => guard,
            Self::Read(_) => panic!("Invariant: only a write handler gets a mutable view"),
        }
    }
}

pub(super) struct HeldShard<'k> {
    pub(super) place: Place,
    pub(super) db: &'k Db,
    pub(super) guard: Guard<'k>,
}

/// The shards a view works on, ascending by place.
pub(super) struct Held<'k> {
    pub(super) shards: SmallVec<[HeldShard<'k>; 1]>,
    /// Present when every shard is held: no database can appear meanwhile.
    pub(super) everything: Option<MutexGuard<'k, ()>>,
}

impl Keyspace {
    /// Locks what `plan` names.
    ///
    /// # Errors
    /// What the host answers to a wait that has lasted (a script that keeps the server busy).
    #[inline]
    pub(super) fn lock(
        &self,
        plan: &Plan,
        mode: LockMode,
        host: &dyn Host,
    ) -> Result<Held<'_>, CommandError> {
        if let Plan::One(place) = plan {
            let db = self.db(place.db);
            let lock = &db.map.shards()[usize::from(place.shard)];
            let guard = match Guard::try_lock(lock, mode) {
                Some(guard) => guard,
                None => wait_for(lock, mode, host)?,
            };
            let mut shards = SmallVec::new();
            shards.push(HeldShard { place: *place, db, guard });
            return Ok(Held { shards, everything: None });
        }
        if matches!(plan, Plan::Nothing) {
            return Ok(Held { shards: SmallVec::new(), everything: None });
        }
        self.lock_several(plan, mode, host)
    }

    #[inline(never)]
    fn lock_several(
        &self,
        plan: &Plan,
        mode: LockMode,
        host: &dyn Host,
    ) -> Result<Held<'_>, CommandError> {
        let mut everything = None;
        let mut places: SmallVec<[Place; 16]> = SmallVec::new();
        match plan {
            Plan::Nothing => {}
            Plan::One(place) => places.push(*place),
            Plan::Some(wanted) => {
                places.extend_from_slice(wanted);
                places.sort_unstable();
                places.dedup();
            }
            Plan::Db(db) => places.extend(all_places(*db)),
            Plan::All => {
                everything = Some(self.guard_creation());
                for (index, db) in self.dbs.iter().enumerate() {
                    if db.get().is_some() {
                        places.extend(all_places(DbIndex(index as u16)));
                    }
                }
            }
        }
        let mut found: SmallVec<[(Place, &Db); 16]> = SmallVec::with_capacity(places.len());
        for place in places {
            let db = match (&everything, self.existing(place.db)) {
                (_, Some(db)) => db,
                (None, None) => self.db(place.db),
                (Some(_), None) => self.create(place.db),
            };
            found.push((place, db));
        }
        let mut shards: SmallVec<[HeldShard<'_>; 1]> = SmallVec::with_capacity(found.len());
        // The shard that was not free last time is waited for first, with nothing held.
        let mut waited: Option<(usize, Guard<'_>)> = None;
        'again: loop {
            for (index, (place, db)) in found.iter().enumerate() {
                let lock = &db.map.shards()[usize::from(place.shard)];
                let guard = match waited.take() {
                    Some((which, guard)) if which == index => guard,
                    other => {
                        waited = other;
                        match Guard::try_lock(lock, mode) {
                            Some(guard) => guard,
                            None => {
                                shards.clear();
                                drop(waited.take());
                                waited = Some((index, wait_for(lock, mode, host)?));
                                continue 'again;
                            }
                        }
                    }
                };
                shards.push(HeldShard { place: *place, db, guard });
            }
            return Ok(Held { shards, everything });
        }
    }
}

pub(super) fn all_places(db: DbIndex) -> impl Iterator<Item = Place> {
    (0..SHARDS as u16).map(move |shard| Place { db, shard })
}

/// Waits for one shard: spins for the length of an ordinary command, then sleeps in short
/// steps, asking the host whether to go on. No parking: a script may hold the shard for
/// seconds, and then the wait must be able to end with `BUSY`.
#[cold]
fn wait_for<'k>(
    lock: &'k RwLock<Table>,
    mode: LockMode,
    host: &dyn Host,
) -> Result<Guard<'k>, CommandError> {
    const SPINS: u32 = 200;
    const YIELDS: u32 = 20;
    const SLEEP_MAX: Duration = Duration::from_millis(1);
    for _ in 0..SPINS {
        std::hint::spin_loop();
        if let Some(guard) = Guard::try_lock(lock, mode) {
            return Ok(guard);
        }
    }
    for _ in 0..YIELDS {
        std::thread::yield_now();
        if let Some(guard) = Guard::try_lock(lock, mode) {
            return Ok(guard);
        }
    }
    // How long a thread waited decides nothing that is stored or answered but `BUSY`.
    #[allow(clippy::disallowed_methods)]
    let since = Instant::now();
    let mut pause = Duration::from_micros(20);
    loop {
        // Nor does how often it slept.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(pause);
        if let Some(guard) = Guard::try_lock(lock, mode) {
            return Ok(guard);
        }
        pause = (pause * 2).min(SLEEP_MAX);
        host.waiting_for_lock(since.elapsed().as_micros() as u64)?;
    }
}

/// One try at a further shard while others are held; never waits.
pub(super) fn try_shard<'k>(db: &'k Db, place: Place, mode: LockMode) -> Option<HeldShard<'k>> {
    let guard = Guard::try_lock(&db.map.shards()[usize::from(place.shard)], mode)?;
    Some(HeldShard { place, db, guard })
}
