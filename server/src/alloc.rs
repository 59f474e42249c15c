//! The global allocator, mimalloc, with a count of the bytes in use: INFO's `used_memory`, and
//! what `maxmemory` is held against.
//!
//! Each thread keeps its own balance and adds it to the shared one when it passes
//! [`FLUSH_BYTES`], so that counting costs about a nanosecond and no shared cache line.
//! [`used_memory`] is therefore off by at most `FLUSH_BYTES` per live thread, and per thread
//! that ended without [`settle`]. Requested bytes are counted, not the allocator's rounding:
//! compare [`rss`] for that.
//!
//! The one room of this package with `unsafe`: a global allocator cannot be had without. The
//! safety argument is short: every call is handed to mimalloc unchanged.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use mimalloc::MiMalloc;

/// How far a thread's balance may go before it is added to the shared one.
pub const FLUSH_BYTES: i64 = 64 << 10;

/// The allocator; a binary names it in `#[global_allocator]` to have memory counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct CountingAlloc;

#[repr(align(128))]
struct Shared {
    used: AtomicI64,
    peak: AtomicI64,
}

static SHARED: Shared = Shared { used: AtomicI64::new(0), peak: AtomicI64::new(0) };

thread_local! {
    // `const` and without a destructor: it can be touched at any time in a thread's life, and
    // touching it never allocates.
    static BALANCE: Cell<i64> = const { Cell::new(0) };
    /// What [`PURGES_ASKED`] was when this thread last gave memory back.
    static PURGED: Cell<u64> = const { Cell::new(0) };
}

/// How often all threads were asked to give memory back.
static PURGES_ASKED: AtomicU64 = AtomicU64::new(0);

#[inline]
fn count(bytes: i64) {
    BALANCE.with(|balance| {
        let sum = balance.get() + bytes;
        if sum.unsigned_abs() <= FLUSH_BYTES.unsigned_abs() {
            balance.set(sum);
        } else {
            balance.set(0);
            flush(sum);
        }
    });
}

#[cold]
fn flush(bytes: i64) {
    let used = SHARED.used.fetch_add(bytes, Relaxed) + bytes;
    // Most flushes are no new peak: look before writing to the line everyone reads.
    if used > SHARED.peak.load(Relaxed) {
        SHARED.peak.fetch_max(used, Relaxed);
    }
}

// SAFETY: each method passes its arguments to mimalloc's method of the same name and returns
// its result, so that mimalloc's own guarantees are ours; the callers' duties are the same by
// the trait's contract. `count` neither allocates nor panics nor touches the memory: it adds to
// a constant-initialised thread-local cell and, at times, to atomics. No size of a `Layout`
// exceeds `isize::MAX`, so the conversion to `i64` keeps the value.
unsafe impl GlobalAlloc for CountingAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { MiMalloc.alloc(layout) };
        if !pointer.is_null() {
            count(layout.size() as i64);
        }
        pointer
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let pointer = unsafe { MiMalloc.alloc_zeroed(layout) };
        if !pointer.is_null() {
            count(layout.size() as i64);
        }
        pointer
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) };
        count(-(layout.size() as i64));
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        let new = unsafe { MiMalloc.realloc(pointer, layout, new_size) };
        if !new.is_null() {
            count(new_size as i64 - layout.size() as i64);
        }
        new
    }
}

/// Bytes in use, within [`FLUSH_BYTES`] per thread; this thread's are exact.
#[must_use]
pub fn used_memory() -> u64 {
    settle();
    u64::try_from(SHARED.used.load(Relaxed)).unwrap_or(0)
}

/// The most [`used_memory`] has been.
#[must_use]
pub fn peak_memory() -> u64 {
    settle();
    u64::try_from(SHARED.peak.load(Relaxed)).unwrap_or(0)
}

/// Adds this thread's balance to the shared one; for the runtime's `on_thread_stop`.
pub fn settle() {
    flush(BALANCE.replace(0));
}

/// Resident bytes of the process, 0 where `/proc` cannot be read. A system call: for INFO.
#[must_use]
pub fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Asks every thread that calls [`purge_if_asked`] to give its free memory back.
pub fn ask_all_to_purge() {
    PURGES_ASKED.fetch_add(1, Relaxed);
}

/// Gives free memory of this thread back if that was asked for since its last time; whether it did.
/// Blocks that another thread freed stay in the heap of the thread that allocated them, so each
/// thread must do this for itself.
pub fn purge_if_asked() -> bool {
    let asked = PURGES_ASKED.load(Relaxed);
    let is_new = PURGED.replace(asked) != asked;
    if is_new {
        purge();
    }
    is_new
}

/// Gives free memory of this thread back to the system: MEMORY PURGE. May take milliseconds.
pub fn purge() {
    // SAFETY: `mi_collect` takes a flag, may be called at any time from any thread, and frees
    // only what the allocator holds without use.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    // The test binary's own allocator, so that its memory is what is counted.
    #[global_allocator]
    static ALLOC: CountingAlloc = CountingAlloc;

    /// What other tests of this process may hold meanwhile.
    const NOISE: i64 = 200 << 20;
    const BLOCK: i64 = 512 << 20;

    #[test]
    fn memory_is_counted_where_it_is_allocated_and_freed() {
        let used = || i64::try_from(used_memory()).expect("small");
        let before = used();
        let mut block = Vec::<u8>::with_capacity(BLOCK as usize);
        assert!((used() - before - BLOCK).abs() < NOISE);
        block.reserve_exact(2 * BLOCK as usize);
        assert!((used() - before - 2 * BLOCK).abs() < NOISE);
        assert!(peak_memory() as i64 >= before + 2 * BLOCK - NOISE);
        // Freed on another thread, which ends without a flush of its own.
        std::thread::spawn(move || drop(block)).join().expect("no panic");
        assert!((used() - before).abs() < NOISE);
        let zeroed = vec![0u8; BLOCK as usize];
        assert!((used() - before - BLOCK).abs() < NOISE);
        drop(zeroed);
    }

    #[test]
    fn small_allocations_add_up() {
        let before = BALANCE.get();
        let boxes: Vec<_> = (0..100u64).map(Box::new).collect();
        let counted = BALANCE.get() - before;
        assert_eq!(counted, 100 * 8 + 100 * 8, "boxes and the vector");
        drop(boxes);
        assert_eq!(BALANCE.get(), before);
    }

    #[test]
    fn resident_memory_is_read_and_purged() {
        assert!(rss() > 1 << 20);
        purge();
    }

    #[test]
    #[ignore = "prints figures, checks nothing"]
    fn figures() {
        use std::hint::black_box;
        const ROUNDS: u32 = 20_000_000;
        let layout = Layout::new::<u64>();
        let time = |name: &str, pair: &dyn Fn()| {
            let best = (0..5).map(|_| {
                let start = std::time::Instant::now();
                (0..ROUNDS).for_each(|_| pair());
                start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
            });
            println!("{name:<32} {:6.2} ns", best.fold(f64::MAX, f64::min));
        };
        time("8 bytes and back, counted", &|| {
            // SAFETY: freed at once with the layout it was allocated with, and never read.
            unsafe { CountingAlloc.dealloc(black_box(CountingAlloc.alloc(layout)), layout) }
        });
        time("8 bytes and back, mimalloc alone", &|| {
            // SAFETY: as above.
            unsafe { MiMalloc.dealloc(black_box(MiMalloc.alloc(layout)), layout) }
        });
    }
}
