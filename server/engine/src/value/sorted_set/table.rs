//! The large encoding: members found by hash, each with its score, and their order in a tree.

use super::super::members::{Handle, Members};
use super::tree::Tree;
use super::{Bound, SCORE_LEN};

/// A large sorted set. The tree's elements are handles of the members, whose bytes stand once.
#[derive(Debug, Clone, Default)]
pub struct Table {
    members: Members<SCORE_LEN>,
    tree: Tree,
}

impl Table {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            members: Members::with_capacity(count),
            tree: Tree::default(),
        }
    }

    /// A set of members that come in any order, each with its score; sorted once.
    pub(super) fn from_members(members: Members<SCORE_LEN>) -> Self {
        let mut elements = Vec::with_capacity(members.len());
        members.scan(0, usize::MAX, |handle| {
            elements.push((f64::from_le_bytes(members.owned(handle)), handle));
        });
        elements.sort_unstable_by(|(one, a), (other, b)| {
            one.partial_cmp(other)
                .unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| members.member(*a).cmp(members.member(*b)))
        });
        let tree = Tree::from_sorted(&elements);
        Self { members, tree }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    fn score_of(&self, handle: Handle) -> f64 {
        f64::from_le_bytes(self.members.owned(handle))
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.members
            .find(member)
            .map(|handle| self.score_of(handle))
    }

    /// Adds a member, or decides by `change` on the new score of one that is there.
    pub(super) fn upsert(
        &mut self,
        member: &[u8],
        score: f64,
        change: impl FnOnce(f64) -> Option<f64>,
    ) {
        let (handle, new) = self.members.insert(member, score.to_le_bytes());
        if new {
            self.tree.insert(score, handle, &self.members);
            return;
        }
        let before = self.score_of(handle);
        if let Some(after) = change(before) {
            self.tree.remove(before, handle, &self.members);
            self.members.set_owned(handle, after.to_le_bytes());
            self.tree.insert(after, handle, &self.members);
        }
    }

    fn remove_handle(&mut self, score: f64, handle: Handle) {
        self.tree.remove(score, handle, &self.members);
        self.members.remove(handle);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let found = self.members.find(member);
        if let Some(handle) = found {
            self.remove_handle(self.score_of(handle), handle);
        }
        found.is_some()
    }

    pub(super) fn remove_range(&mut self, start: usize, count: usize) {
        for _ in 0..count {
            let (score, handle) = self.tree.at(start);
            self.remove_handle(score, handle);
        }
    }

    #[inline]
    pub(super) fn rank(&self, bound: Bound<'_>) -> usize {
        self.tree.rank(bound, &self.members)
    }

    #[inline]
    fn lend(&self, (score, handle): (f64, Handle)) -> (&[u8], f64) {
        (self.members.member(handle), score)
    }

    pub(super) fn ascend(&self, rank: usize) -> impl Iterator<Item = (&[u8], f64)> {
        self.tree.ascend(rank).map(|element| self.lend(element))
    }

    pub(super) fn descend(&self, rank: usize) -> impl Iterator<Item = (&[u8], f64)> {
        self.tree.descend(rank).map(|element| self.lend(element))
    }

    pub(super) fn at(&self, rank: usize) -> (&[u8], f64) {
        self.lend(self.tree.at(rank))
    }

    pub(super) fn scan(&self, cursor: u64, count: usize, mut found: impl FnMut(&[u8], f64)) -> u64 {
        self.members.scan(cursor, count, |handle| {
            found(self.members.member(handle), self.score_of(handle));
        })
    }

    pub(super) fn memory_len(&self) -> usize {
        self.members.memory_len() + self.tree.memory_len()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.members.len(), self.tree.len());
        self.tree.check(&self.members);
    }
}
