//! What a change leaves behind: records that have expired, and what takes long to free.

use crate::effects::{Effects, EventClass};
use crate::keyspace::{Keyspace, locks};
use crate::raw::{Record, Table, Value};
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

/// The table of a flushed shard.
pub struct GarbageTable(#[expect(dead_code, reason = "held to be dropped")] pub(super) Table);

impl std::fmt::Debug for GarbageTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GarbageTable")
    }
}

/// Whether a record is a lock.
pub(crate) fn is_lock(record: &Record) -> bool {
    matches!(record.value(), Value::Object(Object::ShortLock(_) | Object::Lock(_)))
}

/// Tells of a record that has expired, and drops it.
pub(in crate::keyspace) fn bury_expired(
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
pub(in crate::keyspace) fn drop_later(record: Record, effects: &mut Effects) {
    if record.free_effort() > FREE_EFFORT_INLINE {
        effects.garbage.push(Garbage::Record(record));
    }
}
