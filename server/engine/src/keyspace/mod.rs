//! Keys: databases of sharded tables, their expiry and their versions.
//!
//! A database is a [`DashMap`] used through its raw shards: a command locks the shards it
//! needs once, in ascending order, and works on them through a [`View`]. No call of DashMap's
//! own is made while a guard is held, and no guard outlives a command. Beside every shard
//! stands a `Side` with what belongs to the shard but not to a key: the order of expiries,
//! deletion marks and a scan's index. It is only touched while the shard is locked.

mod deadlines;
mod evict;
mod expiry;
mod libraries;
mod load;
mod lock;
pub mod locks;
mod scan;
mod side;
mod snapshot;
mod view;

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};

use dashmap::DashMap;
use foldhash::SharedSeed;
use foldhash::fast::{FixedState, FoldHasher};

pub use evict::{Among, Candidate, First, Pool};
pub use libraries::{Function, Libraries, Library};
pub use lock::{LockMode, Place, Plan};
pub use locks::Locks;
pub use scan::{SCAN_CURSOR_BITS, ScanCursor};
use side::Side;
pub(crate) use snapshot::hooks;
pub use snapshot::{Marks, SizeAtCut, Snapshot, SnapshotError};
pub(crate) use view::is_lock;
pub use view::{Edit, Garbage, View};

use crate::limits::Limits;
use crate::raw::{Record, Table, iterate, prefetch_record, prefetch_slots};
use crate::time::{DbIndex, UnixMillis};

/// Shards per database: enough that eight threads seldom meet, few enough that locking all of
/// them takes microseconds.
const SHARDS: usize = 512;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// All databases of a node.
pub struct Keyspace {
    limits: Limits,
    locks: Locks,
    dbs: Box<[OnceLock<Db>]>,
    seed: u64,
    /// The hasher's constants, of our own: with those of the library anyone can choose keys that
    /// collide under every seed.
    shared: SharedSeed,
    /// Held while a database is created, and by whoever holds every shard, so that no new
    /// database appears unlocked.
    creating: Mutex<()>,
    /// See [`hooks`]: 0 while nothing is persisted, so that commands pay one look.
    hooks: AtomicU8,
    /// No command runs at an earlier time, see [`Keyspace::step_time`].
    not_before_ms: AtomicI64,
    snapshotting: AtomicBool,
    orphans: Mutex<Vec<snapshot::Orphan>>,
    libraries: RwLock<Arc<Libraries>>,
}

/// One database.
pub(crate) struct Db {
    map: DashMap<Record, (), FixedState>,
    sides: Box<[Side]>,
}

impl Db {
    fn new() -> Self {
        Self {
            // Used by its raw shards alone, whose hashes are [`Keyspace::hash`]'s.
            map: DashMap::with_hasher_and_shard_amount(FixedState::default(), SHARDS),
            sides: (0..SHARDS).map(|_| Side::default()).collect(),
        }
    }
}

/// What INFO keyspace says of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DbSize {
    /// Keys, those whose time has come but which still stand included.
    pub keys: usize,
    /// Keys with an expiry.
    pub expires: usize,
    /// Mean remaining time of those, in ms.
    pub avg_ttl_ms: i64,
}

impl Keyspace {
    /// An empty keyspace of `databases` databases. `seed` decides the order of iteration and
    /// must be kept from clients, who could otherwise choose keys that collide.
    #[must_use]
    pub fn new(databases: u16, seed: u64) -> Self {
        Self {
            limits: Limits::default(),
            locks: Locks::default(),
            dbs: (0..databases.max(1)).map(|_| OnceLock::new()).collect(),
            seed,
            shared: SharedSeed::from_u64(seed),
            creating: Mutex::new(()),
            hooks: AtomicU8::new(0),
            not_before_ms: AtomicI64::new(i64::MIN),
            snapshotting: AtomicBool::new(false),
            orphans: Mutex::default(),
            libraries: RwLock::default(),
        }
    }

    /// Thresholds of encodings and sizes.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The token counter and the leases.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// How many databases there are.
    #[must_use]
    pub fn databases(&self) -> u16 {
        self.dbs.len() as u16
    }

    /// The hash of a key.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(key);
        hasher.finish()
    }

    /// The shard of a hash. Takes the bits right below the seven that the table keeps as tags.
    #[inline]
    pub(crate) fn shard_of(hash: u64) -> u16 {
        ((hash << 7) >> (64 - SHARD_BITS)) as u16
    }

    fn guard_creation(&self) -> MutexGuard<'_, ()> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `guard_creation`, without waiting.
    fn try_guard_creation(&self) -> Option<MutexGuard<'_, ()>> {
        match self.creating.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The database, created if this is its first use. Must not be called while shards are held,
    /// unless every shard is.
    #[inline]
    fn db(&self, db: DbIndex) -> &Db {
        match self.dbs[db.index()].get() {
            Some(db) => db,
            None => {
                let _creating = self.guard_creation();
                self.create(db)
            }
        }
    }

    #[cold]
    fn create(&self, db: DbIndex) -> &Db {
        self.dbs[db.index()].get_or_init(Db::new)
    }

    fn existing(&self, db: DbIndex) -> Option<&Db> {
        self.dbs[db.index()].get()
    }

    /// Starts loading what looks at the keys of these hashes will need, the first miss of all of
    /// them at once and then the second. Only a hint: skips what is locked.
    #[inline]
    pub fn prefetch(&self, db: DbIndex, hashes: &[u64]) {
        let Some(db) = self.existing(db) else { return };
        let shards = db.map.shards();
        let table = |hash| shards[usize::from(Self::shard_of(hash))].try_read();
        for &hash in hashes {
            if let Some(table) = table(hash) {
                prefetch_slots(&table, hash);
            }
        }
        for &hash in hashes {
            if let Some(table) = table(hash) {
                // The comparison never succeeds: it only names the candidates.
                let _ = table.find(hash, |(record, _)| {
                    prefetch_record(record);
                    false
                });
            }
        }
    }

    /// Sizes of the databases that hold keys.
    #[must_use]
    pub fn sizes(&self, now: UnixMillis) -> Vec<(DbIndex, DbSize)> {
        let mut sizes = Vec::new();
        for (index, db) in self.dbs.iter().enumerate() {
            let Some(db) = db.get() else { continue };
            let mut size = DbSize::default();
            let mut remaining_ms = 0i128;
            for (shard, side) in db.map.shards().iter().zip(&db.sides) {
                let table = shard.read();
                size.keys += table.len();
                let (expires, sum_ms) = side.expiry_totals();
                size.expires += expires;
                remaining_ms += sum_ms - i128::from(now.0) * expires as i128;
            }
            if size.keys > 0 {
                if size.expires > 0 {
                    size.avg_ttl_ms = (remaining_ms / size.expires as i128).max(0) as i64;
                }
                sizes.push((DbIndex(index as u16), size));
            }
        }
        sizes
    }

    /// A digest of every key, value, expiry and version, of tokens, leases and libraries, equal for
    /// two engines in one state: the sum of the records' digests, so that order does not matter.
    /// Expired keys are left out, for whether they still stand shows nowhere.
    #[must_use]
    pub fn digest(&self, now: UnixMillis) -> u64 {
        self.sum_up(now, |db, record| {
            let mut hasher = FixedState::with_seed(db).build_hasher();
            hasher.write_u64(record.version());
            hasher.write_u64(content_digest(db, record));
            hasher.finish()
        })
    }

    /// As [`Keyspace::digest`], without the versions: what a client could tell apart.
    #[must_use]
    pub fn content_digest(&self, now: UnixMillis) -> u64 {
        self.sum_up(now, content_digest)
    }

    fn sum_up(&self, now: UnixMillis, digest: impl Fn(u64, &Record) -> u64) -> u64 {
        let mut hasher = FixedState::with_seed(0).build_hasher();
        self.locks.digest(now, &mut hasher);
        for library in self.libraries().iter() {
            hasher.write(&library.code);
        }
        let mut sum = hasher.finish();
        for (index, db) in self.dbs.iter().enumerate() {
            let Some(db) = db.get() else { continue };
            for shard in db.map.shards() {
                for record in iterate(&shard.read()).filter(|record| !record.is_expired(now)) {
                    sum = sum.wrapping_add(digest(index as u64, record));
                }
            }
        }
        sum
    }

    /// Gives memory back where a table has become much too large for what it holds.
    pub fn shrink(&self) {
        /// A table of this many slots is not worth shrinking.
        const SMALL: usize = 64;
        for db in self.dbs.iter().filter_map(OnceLock::get) {
            for shard in db.map.shards() {
                let oversized =
                    |table: &Table| table.buckets() > SMALL && table.len() < table.buckets() / 8;
                if shard.try_read().is_some_and(|table| oversized(&table))
                    && let Some(mut table) = shard.try_write()
                    && oversized(&table)
                {
                    let room = table.len() * 2;
                    table.shrink_to(room, |(record, _)| self.hash(record.key()));
                }
            }
        }
    }
}

fn content_digest(db: u64, record: &Record) -> u64 {
    let mut hasher = FixedState::with_seed(db).build_hasher();
    hasher.write(record.key());
    hasher.write_i64(record.expires_at().map_or(-1, |at| at.0));
    hasher.write_u64(value_digest(record));
    hasher.finish()
}

/// A digest of a record's value alone, the same however it is encoded.
pub(crate) fn value_digest(record: &Record) -> u64 {
    use crate::raw::Value;
    let mut hasher = FixedState::with_seed(0).build_hasher();
    match record.value() {
        // As its text: whether a number is kept as one depends on how it came to be.
        Value::Integer(number) => hasher.write(itoa::Buffer::new().format(number).as_bytes()),
        Value::String(bytes) => hasher.write(bytes),
        Value::Object(object) => object.digest(&mut hasher),
    }
    hasher.finish()
}

impl std::fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspace").field("databases", &self.dbs.len()).finish_non_exhaustive()
    }
}
