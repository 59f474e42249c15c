//! One stripe of counters per thread, merged when they are read.
//!
//! A stripe has one writer, so adding is a load and a store without a locked instruction: about
//! a nanosecond. Threads beyond [`STRIPES_MAX`] share a last stripe and lock it by atomics.
//!
//! Invariant: an index is owned by at most one live thread; it is passed on under a lock, so
//! that the next owner sees the last one's writes.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Threads with a stripe of their own: workers, and as many blocking ones as are ever busy.
pub const STRIPES_MAX: usize = 256;

/// Indexes that threads which ended gave back, and the first one never used.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

/// Gives the thread's index back when the thread ends.
struct Lease(usize);

impl Drop for Lease {
    fn drop(&mut self) {
        // From here on this thread must not write to the stripe as its one owner.
        let _ = INDEX.try_with(|index| index.set(SHARED));
        if self.0 < STRIPES_MAX {
            FREE.lock().0.push(self.0);
        }
    }
}

/// The stripe all others share.
const SHARED: usize = STRIPES_MAX;
const UNKNOWN: usize = usize::MAX;

thread_local! {
    // Apart from the lease, for a cell without a destructor costs one instruction to reach.
    static INDEX: Cell<usize> = const { Cell::new(UNKNOWN) };
    static LEASE: Cell<Option<Lease>> = const { Cell::new(None) };
}

/// The index of this thread's stripe.
#[inline]
fn index() -> usize {
    match INDEX.get() {
        UNKNOWN => lease(),
        index => index,
    }
}

#[cold]
fn lease() -> usize {
    let index = {
        let mut free = FREE.lock();
        free.0.pop().unwrap_or_else(|| {
            let next = free.1.min(SHARED);
            free.1 = next + 1;
            next
        })
    };
    INDEX.set(index);
    // A thread already in its last breath cannot keep a lease: it shares.
    if LEASE.try_with(|lease| lease.set(Some(Lease(index)))).is_err() {
        INDEX.set(SHARED);
        return SHARED;
    }
    index
}

/// How a stripe may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By this thread alone.
    Owned,
    /// By others at the same time.
    Shared,
}

impl Access {
    /// Adds to a counter of a stripe.
    #[inline]
    pub fn add(self, counter: &AtomicU64, n: u64) {
        match self {
            Self::Owned => counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed),
            Self::Shared => {
                counter.fetch_add(n, Relaxed);
            }
        }
    }
}

/// A `T` per thread, made when the thread first needs it; kept when the thread ends.
pub struct Striped<T> {
    stripes: Box<[OnceLock<Box<T>>]>,
    make: Box<dyn Fn() -> T + Send + Sync>,
}

impl<T> std::fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Striped").finish_non_exhaustive()
    }
}

impl<T> Striped<T> {
    /// No stripes yet; `make` makes one.
    pub fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let stripes = (0..=STRIPES_MAX).map(|_| OnceLock::new()).collect();
        Self { stripes, make: Box::new(make) }
    }

    /// This thread's stripe.
    #[inline]
    pub fn mine(&self) -> (&T, Access) {
        let index = index();
        let access = if index == SHARED { Access::Shared } else { Access::Owned };
        let stripe = self.stripes[index].get_or_init(|| Box::new((self.make)()));
        (stripe, access)
    }

    /// All stripes there are, to be merged.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.stripes.iter().filter_map(|stripe| stripe.get().map(Box::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_among_many_short_lived_threads() {
        let counters = Striped::new(|| AtomicU64::new(0));
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..40 {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            let (counter, access) = counters.mine();
                            access.add(counter, 1);
                        }
                    });
                }
            });
        }
        let sum: u64 = counters.all().map(|c| c.load(Relaxed)).sum();
        assert_eq!(sum, 20 * 40 * 100);
        assert!(counters.all().count() <= STRIPES_MAX, "indexes are used again");
    }

    #[test]
    fn threads_beyond_the_stripes_share_one() {
        let counters = Striped::new(|| AtomicU64::new(0));
        let all_here = std::sync::Barrier::new(STRIPES_MAX + 20);
        std::thread::scope(|scope| {
            for _ in 0..STRIPES_MAX + 20 {
                scope.spawn(|| {
                    let (counter, access) = counters.mine();
                    all_here.wait();
                    for _ in 0..50 {
                        access.add(counter, 1);
                    }
                });
            }
        });
        let sum: u64 = counters.all().map(|c| c.load(Relaxed)).sum();
        assert_eq!(sum, (STRIPES_MAX as u64 + 20) * 50);
    }
}
