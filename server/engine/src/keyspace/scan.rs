//! SCAN: walking a database in the order of hashes, a few keys at a time.
//!
//! The cursor is a position in hash order, so it stays right while tables grow and shrink: a
//! key's position never changes, and a key present from the first call to the last stands at a
//! position that some call visits. The upper bits of a position name the shard. A large shard
//! keeps its hashes sorted from the scan's first visit to its last, so that a step costs what it
//! returns; inserts keep that index whole.

use super::side::Side;
use super::{Keyspace, SHARD_BITS, SHARDS, View};
use crate::raw::{Record, Table, iterate};
use crate::time::UnixMillis;

/// Cursors fit in 53 bits: clients keep them in doubles.
pub const SCAN_CURSOR_BITS: u32 = 53;

/// A shard with fewer keys is sorted anew at every step rather than indexed.
const INDEX_FROM: usize = 64;

/// An index that no scan has visited for so long is dropped, ms.
pub(super) const SCAN_INDEX_IDLE_MS: i64 = 60_000;

/// A position in hash order; 0 is both the beginning and, returned, the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanCursor(pub u64);

impl ScanCursor {
    fn shard(self) -> usize {
        (self.0 >> (SCAN_CURSOR_BITS - SHARD_BITS)) as usize
    }

    fn at_shard(shard: usize) -> Self {
        if shard >= SHARDS {
            return Self(0);
        }
        Self((shard as u64) << (SCAN_CURSOR_BITS - SHARD_BITS))
    }
}

/// The position of a hash: the bits that choose the shard first, then those that follow.
fn position(hash: u64) -> u64 {
    (hash << 7) >> (64 - SCAN_CURSOR_BITS)
}

/// The hashes of a shard in scan order.
#[derive(Debug)]
pub(super) struct ScanIndex {
    /// Sorted by position.
    hashes: Vec<u64>,
    pub(super) last_used: UnixMillis,
}

impl ScanIndex {
    fn build(keyspace: &Keyspace, table: &Table, now: UnixMillis) -> Self {
        let mut hashes: Vec<u64> =
            iterate(table).map(|record| keyspace.hash(record.key())).collect();
        hashes.sort_unstable_by_key(|hash| position(*hash));
        // Two keys of one hash are found together.
        hashes.dedup();
        Self { hashes, last_used: now }
    }

    /// Keeps the index whole when a key is inserted.
    pub(super) fn insert(&mut self, hash: u64) {
        let at = self.hashes.partition_point(|other| position(*other) < position(hash));
        if !self.hashes[at..]
            .iter()
            .take_while(|other| position(**other) == position(hash))
            .any(|other| *other == hash)
        {
            self.hashes.insert(at, hash);
        }
    }

    /// The hashes from `cursor` on, at least `count` of them unless the shard ends, and the
    /// position where to go on (`None` at the end of the shard). Hashes of one position stay together.
    fn step(&self, cursor: ScanCursor, count: usize) -> (&[u64], Option<u64>) {
        let from = self.hashes.partition_point(|hash| position(*hash) < cursor.0);
        let rest = &self.hashes[from..];
        if rest.len() <= count {
            return (rest, None);
        }
        let next = position(rest[count]);
        let len = rest[..count].partition_point(|hash| position(*hash) < next);
        if len == 0 {
            // More than `count` keys share one position: give them all.
            let end = rest.partition_point(|hash| position(*hash) <= next);
            return (&rest[..end], rest.get(end).map(|hash| position(*hash)));
        }
        (&rest[..len], Some(next))
    }
}

impl View<'_> {
    /// Visits at least `count` live keys of the current database from `cursor` on, unless it
    /// ends before, and returns where to go on; 0 at the end. Empty shards are passed over
    /// without counting, so a sparse database takes few calls.
    pub fn scan(
        &self,
        cursor: ScanCursor,
        count: usize,
        mut found: impl FnMut(&Record),
    ) -> ScanCursor {
        let mut cursor = ScanCursor(cursor.0 & ((1 << SCAN_CURSOR_BITS) - 1));
        let mut left = count.max(1);
        let now = self.context().now;
        loop {
            let shard = cursor.shard();
            let next = self.with_shard(shard as u16, |keyspace, table, side| {
                scan_shard(keyspace, table, side, (cursor, left), now, &mut |record| {
                    left = left.saturating_sub(1);
                    if !record.is_expired(now) {
                        found(record);
                    }
                })
            });
            cursor = match next {
                Some(position) => ScanCursor(position),
                None => ScanCursor::at_shard(shard + 1),
            };
            if left == 0 || cursor.0 == 0 {
                return cursor;
            }
        }
    }
}

fn scan_shard(
    keyspace: &Keyspace,
    table: &Table,
    side: &Side,
    (cursor, count): (ScanCursor, usize),
    now: UnixMillis,
    found: &mut dyn FnMut(&Record),
) -> Option<u64> {
    if table.is_empty() {
        return None;
    }
    let mut visit = |hash: u64| {
        // The comparison never succeeds: every record of this hash is visited, not the first.
        let _ = table.find(hash, |(record, _)| {
            if keyspace.hash(record.key()) == hash {
                found(record);
            }
            false
        });
    };
    if table.len() < INDEX_FROM {
        let index = ScanIndex::build(keyspace, table, now);
        let (hashes, next) = index.step(cursor, count);
        hashes.iter().for_each(|hash| visit(*hash));
        return next;
    }
    let mut inner = side.inner();
    let index = inner.scan.get_or_insert_with(|| ScanIndex::build(keyspace, table, now));
    index.last_used = now;
    let (hashes, next) = index.step(cursor, count);
    hashes.iter().for_each(|hash| visit(*hash));
    if next.is_none() {
        inner.scan = None;
    }
    side.set_scanning(inner.scan.is_some());
    next
}
