//! Removing keys whose time has come.
//!
//! Removal changes nothing visible: a key counts as absent from the very millisecond it
//! expires. This room only gives the memory back, a bounded number of keys per lock, so that a
//! million keys due at once stall nobody.

use super::view::drop_later;
use super::{Keyspace, scan::SCAN_INDEX_IDLE_MS};
use crate::effects::{Effects, EventClass};
use crate::time::{DbIndex, UnixMillis};

/// Keys removed from one shard per lock: a few microseconds.
const PER_LOCK: usize = 64;

impl Keyspace {
    /// Removes up to about `limit` keys that have expired at `now`, and returns whether more wait.
    /// Shards that are busy are passed over.
    pub fn expire_due(&self, now: UnixMillis, limit: usize, effects: &mut Effects) -> bool {
        let mut left = limit;
        let mut more = false;
        for (index, db) in self.dbs.iter().enumerate() {
            let Some(db) = db.get() else { continue };
            let db_index = DbIndex(index as u16);
            for (shard, side) in db.map.shards().iter().zip(&db.sides) {
                if !side.is_due(now) {
                    continue;
                }
                if left == 0 {
                    return true;
                }
                let Some(mut table) = shard.try_write() else {
                    more = true;
                    continue;
                };
                let mut inner = side.inner();
                if inner.capture.is_some() {
                    // A snapshot still needs what stands here; it will soon be through.
                    continue;
                }
                let mut removed = 0;
                while let Some((at, hash)) = inner.first_expiry()
                    && at <= now
                {
                    if removed == PER_LOCK {
                        more = true;
                        break;
                    }
                    removed += 1;
                    inner.remove_expiry(at, hash);
                    let expired = table.remove_entry(hash, |(record, _)| {
                        record.expires_at() == Some(at) && self.hash(record.key()) == hash
                    });
                    if let Some((record, _)) = expired {
                        effects.expired_keys += 1;
                        effects.event(EventClass::EXPIRED, "expired", db_index, record.key());
                        drop_later(record, effects);
                    }
                }
                side.note_next(&inner);
                left = left.saturating_sub(removed);
            }
        }
        more
    }

    /// Drops the indexes of scans that were abandoned.
    pub fn drop_idle_scans(&self, now: UnixMillis) {
        for db in self.dbs.iter().filter_map(std::sync::OnceLock::get) {
            for (shard, side) in db.map.shards().iter().zip(&db.sides) {
                if !side.is_scanning() {
                    continue;
                }
                let Some(_table) = shard.try_write() else {
                    continue;
                };
                let mut inner = side.inner();
                let idle = inner
                    .scan
                    .as_ref()
                    .is_some_and(|scan| now.ms_since(scan.last_used) > SCAN_INDEX_IDLE_MS);
                if idle {
                    inner.scan = None;
                    side.set_scanning(false);
                }
            }
        }
    }

    /// Removes one key if it has expired at `now`: what a read that met it asks for.
    pub fn expire_key(&self, db: DbIndex, key: &[u8], now: UnixMillis, effects: &mut Effects) {
        let hash = self.hash(key);
        let Some(found) = self.existing(db) else {
            return;
        };
        let shard = usize::from(Self::shard_of(hash));
        let Some(mut table) = found.map.shards()[shard].try_write() else {
            return;
        };
        if found.sides[shard].inner().capture.is_some() {
            return;
        }
        let expired =
            table.remove_entry(hash, |(record, _)| record.key() == key && record.is_expired(now));
        if let Some((record, _)) = expired {
            found.sides[shard].move_expiry(hash, record.expires_at(), None);
            effects.expired_keys += 1;
            effects.event(EventClass::EXPIRED, "expired", db, key);
            drop_later(record, effects);
        }
    }

    /// Whether any key has expired at `now` and still stands.
    #[must_use]
    pub fn has_due(&self, now: UnixMillis) -> bool {
        self.dbs
            .iter()
            .filter_map(std::sync::OnceLock::get)
            .any(|db| db.sides.iter().any(|side| side.is_due(now)))
    }
}
