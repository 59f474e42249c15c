//! The members of a large set or sorted set: found by hash, kept once.
//!
//! [`Members`] couples two parts. [`Cells`] holds each member's bytes with a few bytes of its
//! owner's (a score, an index) and names it by a 32-bit [`Handle`]; [`HashOrder`] finds handles
//! by hash and keeps them in the order of hashes, so that SSCAN and ZSCAN have a cursor which
//! growth and shrinkage cannot disturb. Iteration order shows nowhere but in those two.

mod cells;
mod hash_order;

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

pub(crate) use cells::{Cells, Handle};
use foldhash::SharedSeed;
use foldhash::quality::{FixedState, FoldHasher};
use hash_order::HashOrder;

/// Distinct members, each with `H` bytes of its owner's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members<const H: usize> {
    cells: Cells<H>,
    order: HashOrder,
}

/// The hasher's constants, for the whole process.
static SHARED: OnceLock<SharedSeed> = OnceLock::new();

/// Seeds the hashes of members, which decide the order in which SSCAN and ZSCAN show them. To be
/// kept from clients, who could otherwise choose members that collide, and the same on all nodes
/// of a cluster: a script may write what it scanned, and a scan may go on at another node.
///
/// To be called before the first value is made; later calls change nothing.
pub fn seed_members(seed: u64) {
    let _ = SHARED.set(SharedSeed::from_u64(seed));
}

/// The hash that decides where a member stands.
fn hash_of(member: &[u8]) -> u32 {
    static UNSEEDED: SharedSeed = SharedSeed::from_u64(0);
    let mut hasher = FoldHasher::with_seed(0, SHARED.get().unwrap_or(&UNSEEDED));
    hasher.write(member);
    (hasher.finish() >> 32) as u32
}

/// A digest of one element of an unordered collection, to be summed up with the others'.
pub(crate) fn content_digest(member: &[u8], with: u64) -> u64 {
    let mut hasher = FixedState::with_seed(1).build_hasher();
    hasher.write_u64(with);
    hasher.write(member);
    hasher.finish()
}

impl<const H: usize> Members<H> {
    /// No members, with room for `count`.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { cells: Cells::default(), order: HashOrder::with_capacity(count) }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The handle of `member`.
    #[inline]
    pub(crate) fn find(&self, member: &[u8]) -> Option<Handle> {
        self.order.find(hash_of(member), |handle| self.cells.member(handle) == member)
    }

    /// Adds `member` if it is not there: its handle, and whether it is new.
    #[inline]
    pub(crate) fn insert(&mut self, member: &[u8], owned: [u8; H]) -> (Handle, bool) {
        let hash = hash_of(member);
        let found = self.order.find(hash, |handle| self.cells.member(handle) == member);
        if let Some(handle) = found {
            return (handle, false);
        }
        let handle = self.cells.insert(member, owned);
        self.order.insert(hash, handle);
        (handle, true)
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, handle: Handle) {
        let hash = hash_of(self.cells.member(handle));
        self.order.remove(hash, handle);
        self.cells.remove(handle);
    }

    /// The member's bytes.
    #[inline]
    pub(crate) fn member(&self, handle: Handle) -> &[u8] {
        self.cells.member(handle)
    }

    /// What its owner keeps with it.
    #[inline]
    pub(crate) fn owned(&self, handle: Handle) -> [u8; H] {
        self.cells.owned(handle)
    }

    /// Changes what its owner keeps with it.
    #[inline]
    pub(crate) fn set_owned(&mut self, handle: Handle, owned: [u8; H]) {
        self.cells.set_owned(handle, owned);
    }

    /// Visits at least `count` members from `cursor` on, unless they end before, and returns
    /// where to go on; 0 at the end.
    ///
    /// The cursor is a position in the order of hashes: a member's never changes, so one that
    /// is there from a scan's first call to its last is visited whatever comes and goes.
    pub(crate) fn scan(&self, cursor: u64, count: usize, found: impl FnMut(Handle)) -> u64 {
        self.order.scan(cursor, count, found)
    }

    /// Bytes on the heap, about.
    pub(crate) fn memory_len(&self) -> usize {
        self.cells.memory_len() + self.order.memory_len()
    }
}

#[cfg(test)]
mod tests;
