//! The large encoding of sets: found by hash, drawn by index.

use super::super::members::{Handle, Members};

/// A set's members with their order: of insertion, a removed one's place taken by the last.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Each keeps its index in `order`.
    members: Members<4>,
    order: Vec<Handle>,
}

impl Table {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            members: Members::with_capacity(count),
            order: Vec::with_capacity(count),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    #[inline]
    pub(super) fn contains(&self, member: &[u8]) -> bool {
        self.members.find(member).is_some()
    }

    #[inline]
    pub(super) fn insert(&mut self, member: &[u8]) -> bool {
        let index = (self.order.len() as u32).to_le_bytes();
        let (handle, new) = self.members.insert(member, index);
        if new {
            self.order.push(handle);
        }
        new
    }

    #[inline]
    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        match self.members.find(member) {
            Some(handle) => {
                let index = u32::from_le_bytes(self.members.owned(handle));
                self.remove_at(index as usize);
                true
            }
            None => false,
        }
    }

    pub(super) fn remove_at(&mut self, index: usize) {
        let handle = self.order.swap_remove(index);
        if let Some(moved) = self.order.get(index) {
            self.members.set_owned(*moved, (index as u32).to_le_bytes());
        }
        self.members.remove(handle);
        if self.order.capacity() > 64 && self.order.len() < self.order.capacity() / 8 {
            self.order.shrink_to(self.order.len() * 2);
        }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.order
            .get(index)
            .map(|handle| self.members.member(*handle))
    }

    pub(super) fn scan(&self, cursor: u64, count: usize, mut found: impl FnMut(&[u8])) -> u64 {
        self.members
            .scan(cursor, count, |handle| found(self.members.member(handle)))
    }

    pub(super) fn memory_len(&self) -> usize {
        self.members.memory_len() + self.order.capacity() * size_of::<Handle>()
    }
}
