//! The order of proposals.
//!
//! In memory mode the shard locks themselves order writes: this room only hands out the
//! context a proposal runs under. A journal or a Raft log will order them here, behind the same
//! calls, without a handler noticing.

pub mod raft;

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use holdfast_engine::context::{Context, Touch};
use holdfast_engine::time::{DbIndex, UnixMillis};

/// Each thread numbers its proposals within a range of its own, so that numbers are unique
/// without a shared counter. Only equality of numbers means anything in memory mode.
const RANGE_BITS: u32 = 38;

/// The first range belongs to what is replayed before the first client comes.
static NEXT_RANGE: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// A number no other proposal of this process bears.
#[inline]
#[must_use]
pub fn next_sequence() -> u64 {
    NEXT.with(|next| {
        let mut number = next.get();
        // At the end of a range (and at the thread's start) another one begins.
        if number & ((1 << RANGE_BITS) - 1) == 0 {
            number = (NEXT_RANGE.fetch_add(1, Relaxed) << RANGE_BITS) + 1;
        }
        next.set(number + 1);
        number
    })
}

/// The context of a proposal made at `now`.
#[inline]
#[must_use]
pub fn context(db: DbIndex, now: UnixMillis, touch: Touch) -> Context {
    let sequence = next_sequence();
    // splitmix64's finalizer: neighbouring sequences must not give neighbouring seeds.
    let mut seed = sequence.wrapping_add(now.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    seed ^= seed >> 32;
    Context { db, now, seed, sequence, touch }
}
