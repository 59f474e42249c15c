//! What belongs to locks but to no single key: the token counter, leases, what is counted.
//!
//! Tokens come from one counter for all keys, so that a key that was deleted, flushed or moved
//! never sees a token twice. It only grows. Leases tie keys of any shard together; their table is
//! a leaf: whoever holds it locks nothing else. Both are part of the state: snapshots carry them
//! ([`Locks::save`]), and the digest of the keyspace counts them in.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Keyspace, is_lock};
use crate::raw::iterate;
use crate::time::{DbIndex, UnixMillis};
use crate::value::lock;

/// Tokens stay below this: what clients hand in by FENCE must not use the counter up, and
/// JavaScript's clients read integers as doubles of 53 bits.
pub const TOKEN_MAX: u64 = 1 << 52;
/// A lease ties at most so many keys together.
pub const LEASE_KEYS_MAX: usize = 65_536;
/// There are at most so many leases.
pub const LEASES_MAX: usize = 1 << 20;

/// A key with its database.
pub type LeasedKey = (DbIndex, Box<[u8]>);

/// Keys that live as long as somebody renews it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// How long it lives from each renewal.
    pub ttl_ms: i64,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// What ends with it; also keys that have left it since, which their expiry tells.
    pub keys: BTreeSet<LeasedKey>,
}

/// Leases by number.
#[derive(Debug, Default)]
struct Leases {
    by_id: BTreeMap<u64, Lease>,
    by_end: BTreeSet<(UnixMillis, u64)>,
}

/// What INFO locks counts; not part of the state.
#[derive(Debug, Default)]
pub struct LockCounts {
    /// Holds that began.
    pub granted: AtomicU64,
    /// Holds that their owners ended.
    pub released: AtomicU64,
    /// Holds that nobody renewed.
    pub expired: AtomicU64,
    /// Locks that DEL ended.
    pub broken: AtomicU64,
}

/// The counter, the leases and what is counted.
#[derive(Debug, Default)]
pub struct Locks {
    tokens: AtomicU64,
    /// The token that a record of a journal holds for the call being replayed; 0 for none.
    recorded: AtomicU64,
    leases: Mutex<Leases>,
    /// What INFO locks counts.
    pub counts: LockCounts,
}

/// Adds to one of the counts.
pub(crate) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

impl Locks {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest token given out.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.tokens.load(Relaxed)
    }

    /// A token greater than all before, or the one that is being replayed.
    pub(crate) fn next_token(&self) -> u64 {
        if self.recorded.load(Relaxed) != 0 {
            let token = self.recorded.swap(0, Relaxed);
            self.raise_token(token);
            return token;
        }
        self.tokens.fetch_add(1, Relaxed) + 1
    }

    /// Makes the next token given out this one: a journal's records of different shards may stand
    /// in another order than their tokens were drawn in. For a replay, which runs alone.
    pub fn replay_token(&self, token: Option<u64>) {
        self.recorded.store(token.unwrap_or(0), Relaxed);
    }

    /// Makes every later token greater than `token`: what a fence, a replay or the explicit floor
    /// after restoring a backup asks for.
    pub fn raise_token(&self, token: u64) {
        self.tokens.fetch_max(token, Relaxed);
    }

    /// Adds a lease; `false` if there are too many. Those that are over make room.
    pub(crate) fn add_lease(&self, id: u64, ttl_ms: i64, now: UnixMillis) -> bool {
        let mut leases = self.leases();
        while let Some((end, over)) = leases.by_end.first().copied()
            && end <= now
        {
            leases.by_end.remove(&(end, over));
            leases.by_id.remove(&over);
        }
        if leases.by_id.len() >= LEASES_MAX {
            return false;
        }
        let expires_at = UnixMillis(now.0.saturating_add(ttl_ms));
        leases.by_end.insert((expires_at, id));
        leases.by_id.insert(id, Lease { ttl_ms, expires_at, keys: BTreeSet::new() });
        true
    }

    /// A lease that is not over at `now`.
    #[must_use]
    pub fn lease(&self, id: u64, now: UnixMillis) -> Option<Lease> {
        self.leases().by_id.get(&id).filter(|lease| lease.expires_at > now).cloned()
    }

    /// How long a lease lives from each renewal and when it ends, if it is not over at `now`.
    pub(crate) fn lease_times(&self, id: u64, now: UnixMillis) -> Option<(i64, UnixMillis)> {
        let leases = self.leases();
        let lease = leases.by_id.get(&id).filter(|lease| lease.expires_at > now)?;
        Some((lease.ttl_ms, lease.expires_at))
    }

    /// Ties a key to a lease; `false` if the lease has too many.
    pub(crate) fn tie(&self, id: u64, db: DbIndex, key: &[u8]) -> bool {
        let mut leases = self.leases();
        let Some(lease) = leases.by_id.get_mut(&id) else { return false };
        let key = (db, key.into());
        if lease.keys.len() >= LEASE_KEYS_MAX && !lease.keys.contains(&key) {
            return false;
        }
        lease.keys.insert(key);
        true
    }

    /// Unties a key from a lease.
    pub(crate) fn untie(&self, id: u64, db: DbIndex, key: &[u8]) {
        if let Some(lease) = self.leases().by_id.get_mut(&id) {
            lease.keys.remove(&(db, key.into()));
        }
    }

    /// Lets a lease end later, with these keys.
    pub(crate) fn renew_lease(&self, id: u64, expires_at: UnixMillis, keys: BTreeSet<LeasedKey>) {
        let mut leases = self.leases();
        let Some(lease) = leases.by_id.get_mut(&id) else { return };
        let before = std::mem::replace(&mut lease.expires_at, expires_at);
        lease.keys = keys;
        leases.by_end.remove(&(before, id));
        leases.by_end.insert((expires_at, id));
    }

    /// Forgets a lease.
    pub(crate) fn remove_lease(&self, id: u64) {
        let mut leases = self.leases();
        if let Some(lease) = leases.by_id.remove(&id) {
            leases.by_end.remove(&(lease.expires_at, id));
        }
    }

    /// How many leases there are, those that are over included.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases().by_id.len()
    }

    /// Feeds the counter and the leases that are not over at `now` to `hasher`.
    pub(super) fn digest(&self, now: UnixMillis, hasher: &mut impl Hasher) {
        hasher.write_u64(self.token());
        for (id, lease) in self.leases().by_id.iter().filter(|(_, lease)| lease.expires_at > now) {
            hasher.write_u64(*id);
            hasher.write_i64(lease.ttl_ms);
            hasher.write_i64(lease.expires_at.0);
            for (db, key) in &lease.keys {
                hasher.write_u16(db.0);
                hasher.write(key);
            }
        }
    }
}

/// The version of [`Locks::save`]'s bytes. Persisted: a new shape gets a new one.
const VERSION: u8 = 1;

impl Locks {
    /// The counter and the leases as bytes, for a snapshot: `version u8 | token u64 | count u32 |
    /// lease*`, a lease `id u64 | ttl_ms i64 | expires_at i64 | count u32 | key*`, a key `db u16 |
    /// length u32 | bytes`; numbers are little-endian.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.token().to_le_bytes());
        let leases = self.leases();
        out.extend_from_slice(&(leases.by_id.len() as u32).to_le_bytes());
        for (id, lease) in &leases.by_id {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&lease.ttl_ms.to_le_bytes());
            out.extend_from_slice(&lease.expires_at.0.to_le_bytes());
            out.extend_from_slice(&(lease.keys.len() as u32).to_le_bytes());
            for (db, key) in &lease.keys {
                out.extend_from_slice(&db.0.to_le_bytes());
                out.extend_from_slice(&(key.len() as u32).to_le_bytes());
                out.extend_from_slice(key);
            }
        }
        out
    }

    /// Takes over what [`Locks::save`] wrote: its leases instead of those here, and a counter that
    /// is no lower than either was. `None`, and nothing changed, if the bytes are not such.
    pub fn restore(&self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let token = u64::from_le_bytes(take(&mut rest)?);
        let mut restored = Leases::default();
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let id = u64::from_le_bytes(take(&mut rest)?);
            let ttl_ms = i64::from_le_bytes(take(&mut rest)?);
            let expires_at = UnixMillis(i64::from_le_bytes(take(&mut rest)?));
            let mut keys = BTreeSet::new();
            for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
                let db = DbIndex(u16::from_le_bytes(take(&mut rest)?));
                let len = u32::from_le_bytes(take(&mut rest)?) as usize;
                let (key, tail) = rest.split_at_checked(len)?;
                rest = tail;
                keys.insert((db, key.into()));
            }
            restored.by_end.insert((expires_at, id));
            restored.by_id.insert(id, Lease { ttl_ms, expires_at, keys });
        }
        if !rest.is_empty() {
            return None;
        }
        self.raise_token(token);
        *self.leases() = restored;
        Some(())
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

impl Keyspace {
    /// How long the last of the locks held at `now` has left unless it is renewed, its lock-delay
    /// included, ms; with `plain`, any key that expires counts as a lock.
    #[must_use]
    pub fn longest_lock_ms(&self, now: UnixMillis, plain: bool) -> i64 {
        let mut longest_ms = 0;
        if !plain && lock::count() == 0 {
            return longest_ms;
        }
        for db in self.dbs.iter().filter_map(std::sync::OnceLock::get) {
            for shard in db.map.shards() {
                for record in iterate(&shard.read()).filter(|record| plain || is_lock(record)) {
                    let left_ms = record.expires_at().map_or(0, |at| at.ms_since(now));
                    longest_ms = longest_ms.max(left_ms);
                }
            }
        }
        longest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_restored_and_the_counter_never_falls() {
        let now = UnixMillis(1_000);
        let locks = Locks::default();
        let id = locks.next_token();
        assert!(locks.add_lease(id, 50, now) && locks.tie(id, DbIndex(3), b"key"));
        let bytes = locks.save();
        let other = Locks::default();
        other.raise_token(9);
        other.restore(&bytes).unwrap();
        assert_eq!((other.token(), other.next_token()), (9, 10));
        assert_eq!(other.lease(id, now), locks.lease(id, now));
        assert_eq!(other.lease(id, UnixMillis(1_050)), None);
        for len in 0..bytes.len() {
            assert!(other.restore(&bytes[..len]).is_none());
        }
        // Frozen: snapshots hold these bytes.
        assert_eq!(bytes[..13], [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn leases_that_are_over_make_room() {
        let locks = Locks::default();
        assert!(locks.add_lease(1, 10, UnixMillis(0)));
        assert!(locks.add_lease(2, 10, UnixMillis(10)));
        assert_eq!(locks.lease_count(), 1);
        locks.remove_lease(2);
        assert_eq!(locks.lease_count(), 0);
    }
}
