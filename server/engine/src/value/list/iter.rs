//! Walking a list from either end.

use super::quicklist::Node;
use crate::value::listpack::{self, Entry};

/// The elements of a list: those of a node at each end, and the whole nodes between them.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    front: listpack::Iter<'a>,
    back: listpack::Iter<'a>,
    /// Nodes not yet begun: of a ring's two halves.
    first: &'a [Node],
    second: &'a [Node],
}

impl<'a> Iter<'a> {
    pub(super) fn over(front: listpack::Iter<'a>, first: &'a [Node], second: &'a [Node]) -> Self {
        Self { front, back: listpack::Iter::empty(), first, second }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.front.next() {
                return Some(entry);
            }
            let node = match (self.first, self.second) {
                ([node, rest @ ..], _) => {
                    self.first = rest;
                    node
                }
                ([], [node, rest @ ..]) => {
                    self.second = rest;
                    node
                }
                ([], []) => return self.back.next(),
            };
            self.front = node.pack().iter();
        }
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.back.next_back() {
                return Some(entry);
            }
            let node = match (self.first, self.second) {
                (_, [rest @ .., node]) => {
                    self.second = rest;
                    node
                }
                ([rest @ .., node], []) => {
                    self.first = rest;
                    node
                }
                ([], []) => return self.front.next_back(),
            };
            self.back = node.pack().iter();
        }
    }
}
