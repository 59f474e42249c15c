//! The form of large lists: a ring of listpack nodes.
//!
//! Nodes fill and split by Redis's rules and Redis's sizes, so that OBJECT ENCODING and the
//! moment a list shrinks back to a listpack are Redis's. Pushes and pops touch the node at
//! their end only; a look by index passes over whole nodes from the nearer end.

use std::collections::VecDeque;

use super::{
    Beside, End, Iter, ListForm, NodeLimit, REDIS_LISTPACK_FRAME, pop_from, redis_len_at_most,
    remove_from,
};
use crate::value::listpack::{Entry, Listpack, Packed};

/// What Redis adds to an element's length when it asks whether a node has room.
const SIZE_ESTIMATE_OVERHEAD: usize = 8;

/// A stretch of a list.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pack: Listpack,
    /// Bytes of the entries in Redis's format.
    redis_len: usize,
}

impl Node {
    fn new(pack: Listpack) -> Self {
        let redis_len = pack.iter().map(Entry::redis_len).sum();
        Self { pack, redis_len }
    }

    pub(super) fn pack(&self) -> &Listpack {
        &self.pack
    }

    /// The node's size as Redis has it.
    #[inline]
    fn size(&self) -> usize {
        self.redis_len + REDIS_LISTPACK_FRAME
    }

    /// Whether this is what Redis calls a plain node: one element too long for a listpack.
    fn is_plain(&self, limit: NodeLimit) -> bool {
        self.pack.len() == 1 && limit.is_large(self.pack.packed_len().saturating_sub(9))
    }

    #[inline]
    fn accepts(&self, element_len: usize, limit: NodeLimit) -> bool {
        !limit.is_large(element_len)
            && !limit.is_exceeded_by(
                self.size() + element_len + SIZE_ESTIMATE_OVERHEAD,
                self.pack.len() + 1,
            )
            && !self.is_plain(limit)
    }
}

/// The name OBJECT ENCODING gives to a list of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// One node, still within the limits.
    Listpack,
    Quicklist,
}

/// A list of several nodes, or of one that is about to be too large for a small list.
#[derive(Debug, Clone)]
pub struct Quicklist {
    /// Invariant: no node is empty.
    nodes: VecDeque<Node>,
    len: usize,
    encoding: Encoding,
}

impl Quicklist {
    pub(super) fn from_listpack(pack: Listpack) -> Self {
        let len = pack.len();
        let only = (len > 0).then(|| Node::new(pack));
        Self { nodes: only.into_iter().collect(), len, encoding: Encoding::Listpack }
    }

    pub(super) fn from_nodes(form: ListForm, packs: Vec<Listpack>) -> Self {
        let len = packs.iter().map(Listpack::len).sum();
        let one = form != ListForm::Quicklist && packs.len() <= 1;
        let encoding = if one { Encoding::Listpack } else { Encoding::Quicklist };
        Self { nodes: packs.into_iter().map(Node::new).collect(), len, encoding }
    }

    pub(super) fn form(&self) -> ListForm {
        match self.encoding {
            Encoding::Listpack => ListForm::Listpack,
            Encoding::Quicklist => ListForm::Quicklist,
        }
    }

    pub(super) fn packs(&self) -> impl Iterator<Item = &Listpack> {
        self.nodes.iter().map(Node::pack)
    }

    pub(super) fn encoding(&self) -> &'static str {
        match self.encoding {
            Encoding::Listpack => "listpack",
            Encoding::Quicklist => "quicklist",
        }
    }

    /// Number of elements.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Becomes a quicklist by name if `count` elements of `len` bytes in all are too much.
    #[inline]
    pub(super) fn prepare(&mut self, len: usize, count: usize, limit: NodeLimit) {
        if self.encoding == Encoding::Listpack {
            let size = self.nodes.front().map_or(0, Node::size);
            if limit.is_exceeded_by(size + len, self.len + count) {
                self.encoding = Encoding::Quicklist;
            }
        }
    }

    /// Becomes a listpack by name if one node of at most half the limit is left.
    #[inline]
    pub(super) fn settle(&mut self, limit: NodeLimit) {
        if self.encoding == Encoding::Quicklist
            && let [only] = self.nodes.as_slices().0
            && self.nodes.len() == 1
            && !only.is_plain(limit)
        {
            let half = limit.half();
            if !half.is_exceeded_by(only.size(), only.pack.len()) {
                self.encoding = Encoding::Listpack;
            }
        }
    }

    /// The only node's listpack, when it is a listpack by name and far enough below the limit
    /// that it will not be back here soon.
    #[inline]
    pub(super) fn take_if_small(&mut self, limit: NodeLimit) -> Option<Listpack> {
        if self.encoding == Encoding::Quicklist {
            return None;
        }
        let only = self.nodes.front_mut()?;
        let half = limit.half();
        let small = !half.is_exceeded_by(redis_len_at_most(&only.pack), only.pack.len());
        small.then(|| std::mem::take(&mut only.pack))
    }

    #[inline]
    pub(super) fn push(&mut self, end: End, element: &[u8], limit: NodeLimit) {
        let packed = Packed::new(element);
        let node = match end {
            End::Left => self.nodes.front_mut(),
            End::Right => self.nodes.back_mut(),
        };
        self.len += 1;
        let one_node = self.encoding == Encoding::Listpack;
        match node {
            Some(node) if one_node || node.accepts(element.len(), limit) => {
                node.redis_len += packed.entry().redis_len();
                match end {
                    End::Left => node.pack.push_front_packed(&packed),
                    End::Right => node.pack.push_back_packed(&packed),
                }
            }
            _ => self.push_node(end, &packed),
        }
    }

    #[cold]
    fn push_node(&mut self, end: End, element: &Packed<'_>) {
        // The node that was at this end gets no more elements: its spare room is given back.
        let before = match end {
            End::Left => self.nodes.front_mut(),
            End::Right => self.nodes.back_mut(),
        };
        if let Some(node) = before {
            node.pack.shrink_to_fit();
        }
        let node = node_of(element);
        match end {
            End::Left => self.nodes.push_front(node),
            End::Right => self.nodes.push_back(node),
        }
    }

    #[inline]
    pub(super) fn pop<T>(&mut self, end: End, taken: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        let node = match end {
            End::Left => self.nodes.front_mut()?,
            End::Right => self.nodes.back_mut()?,
        };
        let redis_len = &mut node.redis_len;
        let result = pop_from(&mut node.pack, end, |entry| {
            *redis_len -= entry.redis_len();
            taken(entry)
        })?;
        self.len -= 1;
        if node.pack.is_empty() {
            match end {
                End::Left => drop(self.nodes.pop_front()),
                End::Right => drop(self.nodes.pop_back()),
            }
        }
        Some(result)
    }

    /// The node of element `index` and the element's place in it; `index` may be the length,
    /// which is behind the last place of the last node.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.len / 2 {
            let mut left = index;
            for (nth, node) in self.nodes.iter().enumerate() {
                if left < node.pack.len() {
                    return (nth, left);
                }
                left -= node.pack.len();
            }
        } else {
            let mut right = self.len - index;
            for (nth, node) in self.nodes.iter().enumerate().rev() {
                if right <= node.pack.len() {
                    return (nth, node.pack.len() - right);
                }
                right -= node.pack.len();
            }
        }
        (0, 0)
    }

    pub(super) fn get(&self, index: usize) -> Option<Entry<'_>> {
        if index >= self.len {
            return None;
        }
        let (nth, place) = self.locate(index);
        self.nodes[nth].pack.get(place)
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        let (first, second) = self.nodes.as_slices();
        Iter::over(crate::value::listpack::Iter::empty(), first, second)
    }

    pub(super) fn iter_from(&self, index: usize) -> Iter<'_> {
        if index >= self.len {
            return Iter::over(crate::value::listpack::Iter::empty(), &[], &[]);
        }
        let (nth, place) = self.locate(index);
        let (first, second) = self.nodes.as_slices();
        let front = self.nodes[nth].pack.iter_from(place);
        match nth.checked_sub(first.len()) {
            None => Iter::over(front, &first[nth + 1..], second),
            Some(nth) => Iter::over(front, &[], &second[nth + 1..]),
        }
    }

    pub(super) fn set(&mut self, index: usize, element: &[u8], limit: NodeLimit) {
        let (nth, place) = self.locate(index);
        let node = &mut self.nodes[nth];
        let packed = Packed::new(element);
        let alone = node.pack.len() == 1;
        if !alone && limit.is_large(element.len()) {
            // Too long to stand beside others.
            self.remove_range(index, 1);
            self.insert_at(index, element, limit);
            return;
        }
        node.redis_len -= node.pack.get(place).map_or(0, Entry::redis_len);
        node.redis_len += packed.entry().redis_len();
        node.pack.replace_packed(place, &packed);
    }

    pub(super) fn insert_beside(
        &mut self,
        side: Beside,
        pivot: &Packed<'_>,
        element: &[u8],
        limit: NodeLimit,
    ) -> bool {
        let mut before = 0;
        for node in &self.nodes {
            if let Some(place) = node.pack.find(pivot, 0, 1) {
                let index = before + place + usize::from(side == Beside::After);
                self.insert_at(index, element, limit);
                return true;
            }
            before += node.pack.len();
        }
        false
    }

    /// Inserts an element before that at `index`, or at the end.
    fn insert_at(&mut self, index: usize, element: &[u8], limit: NodeLimit) {
        if index == 0 || index >= self.len {
            let end = if index == 0 { End::Left } else { End::Right };
            return self.push(end, element, limit);
        }
        let packed = Packed::new(element);
        let (nth, place) = self.locate(index);
        self.len += 1;
        let one_node = self.encoding == Encoding::Listpack;
        let node = &mut self.nodes[nth];
        if one_node || node.accepts(element.len(), limit) {
            node.redis_len += packed.entry().redis_len();
            node.pack.insert_packed(place, &packed);
            return;
        }
        if place == 0
            && let Some(before) = self.nodes.get_mut(nth.wrapping_sub(1))
            && before.accepts(element.len(), limit)
        {
            before.redis_len += packed.entry().redis_len();
            before.pack.push_back_packed(&packed);
            return;
        }
        if place == 0 {
            self.nodes.insert(nth, node_of(&packed));
            return;
        }
        let node = &mut self.nodes[nth];
        let behind = Node::new(node.pack.split_off(place));
        node.redis_len -= behind.redis_len;
        if node.accepts(element.len(), limit) {
            node.redis_len += packed.entry().redis_len();
            node.pack.push_back_packed(&packed);
        } else {
            self.nodes.insert(nth + 1, node_of(&packed));
            self.nodes.insert(nth + 2, behind);
            return;
        }
        self.nodes.insert(nth + 1, behind);
    }

    pub(super) fn remove(&mut self, end: End, element: &Packed<'_>, count: usize) -> usize {
        let mut left = count;
        let mut strip = |node: &mut Node| {
            if left > 0 {
                let redis_len = &mut node.redis_len;
                left -= remove_from(&mut node.pack, end, element, left, |entry| {
                    *redis_len -= entry.redis_len();
                });
            }
        };
        match end {
            End::Left => self.nodes.iter_mut().for_each(&mut strip),
            End::Right => self.nodes.iter_mut().rev().for_each(&mut strip),
        }
        let removed = count - left;
        self.len -= removed;
        if removed > 0 {
            self.nodes.retain(|node| !node.pack.is_empty());
        }
        removed
    }

    pub(super) fn remove_range(&mut self, index: usize, count: usize) {
        if count == 0 {
            return;
        }
        let (nth, mut place) = self.locate(index);
        self.len -= count;
        let (mut left, mut last) = (count, nth);
        for node in self.nodes.range_mut(nth..) {
            let here = left.min(node.pack.len() - place);
            if here == node.pack.len() {
                (node.pack, node.redis_len) = (Listpack::new(), 0);
            } else {
                let gone = node.pack.iter_from(place).take(here);
                node.redis_len -= gone.map(Entry::redis_len).sum::<usize>();
                node.pack.remove_range(place, here);
            }
            left -= here;
            place = 0;
            last += 1;
            if left == 0 {
                break;
            }
        }
        // Only these can have become empty.
        let first = nth + usize::from(!self.nodes[nth].pack.is_empty());
        let last = last - usize::from(!self.nodes[last - 1].pack.is_empty());
        if first < last {
            self.nodes.drain(first..last);
        }
    }

    pub(super) fn memory_len(&self) -> usize {
        size_of::<Self>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.nodes.iter().map(|node| node.pack.memory_len()).sum::<usize>()
    }
}

fn node_of(element: &Packed<'_>) -> Node {
    let mut pack = Listpack::new();
    pack.push_back_packed(element);
    Node { pack, redis_len: element.entry().redis_len() }
}

#[cfg(test)]
impl Quicklist {
    /// Panics unless the counts are those of the nodes.
    pub(super) fn check(&self) {
        assert_eq!(self.len, self.nodes.iter().map(|node| node.pack.len()).sum::<usize>());
        for node in &self.nodes {
            assert_eq!(node.redis_len, node.pack.iter().map(Entry::redis_len).sum::<usize>());
            assert!(!node.pack.is_empty());
        }
        assert!(self.encoding == Encoding::Quicklist || self.nodes.len() <= 1);
    }
}
