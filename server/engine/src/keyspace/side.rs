//! What belongs to a shard but to no single key.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::UnixMillis;

/// Deletion marks per shard: two keys of one mark can make a WATCH on an absent key fail
/// without need, so a few thousand over all shards make that rare.
const DELETION_MARKS: usize = 16;

/// Beside a shard. Invariant: written only by whoever holds the shard's lock for writing; the
/// mutex inside is therefore never contended by writers, and readers hold it for a moment.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// The earliest expiry, or `i64::MAX`: lets the expiry cycle pass a shard without locking it.
    next_expiry_ms: NextExpiry,
    /// Whether a scan's index exists, so that inserting a key need not look.
    scanning: AtomicBool,
    /// The sequence of the last deletion, by some bits of the key's hash. Giving a key an expiry
    /// counts as one: it will be gone without any proposal's doing, and whoever watched its
    /// absence before must still see a difference.
    deletions: [AtomicU64; DELETION_MARKS],
    /// The sequence of the last SWAPDB that changed this shard: no key here is older.
    swapped: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct NextExpiry(AtomicI64);

impl Default for NextExpiry {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Every key with an expiry, as (expiry, hash), earliest first.
    expiries: BTreeSet<(UnixMillis, u64)>,
    /// Sum of the expiries, so that INFO's mean costs nothing.
    sum_ms: i128,
    /// Hashes of the shard's keys in scan order, while a scan is in this shard.
    pub(super) scan: Option<super::scan::ScanIndex>,
    /// What the shard still owes a snapshot.
    pub(super) capture: Option<Box<super::snapshot::Capture>>,
}

impl Inner {
    fn add_expiry(&mut self, at: UnixMillis, hash: u64) {
        if self.expiries.insert((at, hash)) {
            self.sum_ms += i128::from(at.0);
        }
    }

    pub(super) fn remove_expiry(&mut self, at: UnixMillis, hash: u64) {
        if self.expiries.remove(&(at, hash)) {
            self.sum_ms -= i128::from(at.0);
        }
    }

    /// The earliest expiry and the hash of its key.
    pub(super) fn first_expiry(&self) -> Option<(UnixMillis, u64)> {
        self.expiries.first().copied()
    }

    /// The expiry next to a time that `random` draws between the first and the last.
    pub(super) fn expiry_near(&self, random: u64) -> Option<(UnixMillis, u64)> {
        let (first, last) = (self.expiries.first()?.0, self.expiries.last()?.0);
        let span = last.0.abs_diff(first.0).saturating_add(1);
        let at = UnixMillis(first.0.saturating_add_unsigned(random % span));
        self.expiries.range((at, random)..).next().or(self.expiries.first()).copied()
    }

    /// Forgets every expiry.
    pub(super) fn clear_expiries(&mut self) {
        self.expiries.clear();
        self.sum_ms = 0;
    }

    /// Exchanges the expiries of two shards (SWAPDB).
    pub(super) fn swap_expiries(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.expiries, &mut other.expiries);
        std::mem::swap(&mut self.sum_ms, &mut other.sum_ms);
    }
}

impl Side {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key here expires at or before `now`.
    #[inline]
    pub(super) fn is_due(&self, now: UnixMillis) -> bool {
        self.next_expiry_ms.0.load(Ordering::Relaxed) <= now.0
    }

    /// How many keys have expired at `now` and still stand.
    pub(super) fn due_count(&self, now: UnixMillis) -> usize {
        if !self.is_due(now) {
            return 0;
        }
        self.inner().expiries.range(..=(now, u64::MAX)).count()
    }

    /// Number of expiries and their sum in ms.
    pub(super) fn expiry_totals(&self) -> (usize, i128) {
        let inner = self.inner();
        (inner.expiries.len(), inner.sum_ms)
    }

    /// Notes that the key of `hash` went from one expiry to another.
    #[inline]
    pub(super) fn move_expiry(&self, hash: u64, from: Option<UnixMillis>, to: Option<UnixMillis>) {
        if from == to {
            return;
        }
        let mut inner = self.inner();
        if let Some(at) = from {
            inner.remove_expiry(at, hash);
        }
        if let Some(at) = to {
            inner.add_expiry(at, hash);
        }
        self.note_next(&inner);
    }

    /// As [`Side::move_expiry`], for the proposal of `sequence`, which may set an expiry.
    #[inline]
    pub(super) fn set_expiry(
        &self,
        hash: u64,
        (from, to): (Option<UnixMillis>, Option<UnixMillis>),
        sequence: u64,
    ) {
        if to.is_some() {
            self.note_deletion(hash, sequence);
        }
        self.move_expiry(hash, from, to);
    }

    /// Refreshes the hint after the set of expiries changed.
    pub(super) fn note_next(&self, inner: &Inner) {
        let next = inner.expiries.first().map_or(i64::MAX, |(at, _)| at.0);
        self.next_expiry_ms.0.store(next, Ordering::Relaxed);
    }

    /// The version that stands for the absence of a key.
    #[inline]
    pub(super) fn absent_version(&self, hash: u64) -> u64 {
        self.deletions[mark(hash)].load(Ordering::Relaxed)
    }

    /// Notes the deletion of a key by the proposal of `sequence`.
    #[inline]
    pub(super) fn note_deletion(&self, hash: u64, sequence: u64) {
        self.deletions[mark(hash)].store(sequence, Ordering::Relaxed);
    }

    /// Notes that every key of the shard went.
    pub(super) fn note_all_deleted(&self, sequence: u64) {
        for place in &self.deletions {
            place.store(sequence, Ordering::Relaxed);
        }
    }

    /// The sequence of the last exchange of the shard's content.
    #[inline]
    pub(super) fn swapped(&self) -> u64 {
        self.swapped.load(Ordering::Relaxed)
    }

    /// Notes an exchange of the shard's content.
    pub(super) fn note_swap(&self, sequence: u64) {
        self.swapped.store(sequence, Ordering::Relaxed);
    }

    /// The deletion marks and the last exchange, if there were any.
    pub(super) fn marks(&self) -> Option<Vec<u64>> {
        let places = self.deletions.iter().chain([&self.swapped]);
        let marks: Vec<u64> = places.map(|place| place.load(Ordering::Relaxed)).collect();
        marks.iter().any(|mark| *mark != 0).then_some(marks)
    }

    /// Sets what [`Side::marks`] told.
    pub(super) fn set_marks(&self, marks: &[u64]) {
        for (place, mark) in self.deletions.iter().chain([&self.swapped]).zip(marks) {
            place.store(*mark, Ordering::Relaxed);
        }
    }

    /// Whether a scan's index is kept.
    #[inline]
    pub(super) fn is_scanning(&self) -> bool {
        self.scanning.load(Ordering::Relaxed)
    }

    pub(super) fn set_scanning(&self, scanning: bool) {
        self.scanning.store(scanning, Ordering::Relaxed);
    }
}

/// Which mark a hash belongs to; bits that neither the table nor the shard choice uses first.
#[inline]
fn mark(hash: u64) -> usize {
    (hash >> 32) as usize % DELETION_MARKS
}
