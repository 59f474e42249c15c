//! Changing whole databases: FLUSHDB and SWAPDB.

use super::View;
use super::garbage::{Garbage, GarbageTable};
use crate::context::Context;
use crate::effects::{Effects, Notice};
use crate::keyspace::lock::HeldShard;
use crate::keyspace::side::Side;
use crate::keyspace::{Keyspace, SHARDS};
use crate::raw::{Table, iterate};
use crate::time::{DbIndex, UnixMillis};

impl View<'_> {
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
