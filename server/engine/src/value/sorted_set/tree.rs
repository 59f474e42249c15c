//! The order of a large sorted set: a counted B+tree of (score, handle).
//!
//! Leaves hold up to 62 scores beside as many handles and are chained both ways; inner nodes
//! hold, for each child, its first element and how many elements it has. So a rank, a range's
//! bounds and an insertion each take one descent over a few cache lines, and a range is a walk
//! along leaves. Members are looked at only where scores are equal. Nodes stand in arenas and
//! name each other by index; the member bytes stand in [`Members`] and are lent to every call.

mod nodes;

use nodes::{Arena, Inner, LEAF_MAX, Leaf, NONE};

use super::super::members::{Handle, Members};
use super::{Bound, SCORE_LEN};

type Names = Members<SCORE_LEN>;

/// Deeper than any tree of 2^32 elements.
const HEIGHT_MAX: usize = 16;
/// A node of fewer elements is merged with a neighbour, if both fit one with room to spare.
const SPARSE: usize = 16;

/// Elements in order.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    leaves: Arena<Leaf>,
    inners: Arena<Inner>,
    root: u32,
    /// Levels of inner nodes above the leaves.
    height: usize,
    len: usize,
}

/// The inner nodes from the root to a leaf, each with the index of the child taken.
struct Path {
    steps: [(u32, usize); HEIGHT_MAX],
    leaf: u32,
}

/// How many of the sorted elements stand before `bound`.
#[inline]
fn count_before(scores: &[f64], handles: &[Handle], bound: Bound<'_>, names: &Names) -> usize {
    // A plain count over scores beats a bisection: it has no branch to mispredict.
    let below = |limit: f64| scores.iter().filter(|score| **score < limit).count();
    let up_to = |limit: f64| scores.iter().filter(|score| **score <= limit).count();
    match bound {
        Bound::Below(limit) => below(limit),
        Bound::UpTo(limit) => up_to(limit),
        Bound::Element(score, member) => {
            let (from, to) = (below(score), up_to(score));
            from + handles[from..to].partition_point(|handle| names.member(*handle) < member)
        }
        Bound::LexBelow(limit) => handles.partition_point(|handle| names.member(*handle) < limit),
        Bound::LexUpTo(limit) => handles.partition_point(|handle| names.member(*handle) <= limit),
    }
}

impl Default for Tree {
    fn default() -> Self {
        let mut leaves = Arena::default();
        let root = leaves.add(Leaf::default());
        Self {
            leaves,
            inners: Arena::default(),
            root,
            height: 0,
            len: 0,
        }
    }
}

impl Tree {
    /// A tree of elements that come in order.
    pub(super) fn from_sorted(elements: &[(f64, Handle)]) -> Self {
        /// Room is left for what will be inserted between.
        const FILL: usize = LEAF_MAX - LEAF_MAX / 8;
        let mut tree = Self::default();
        if elements.is_empty() {
            return tree;
        }
        tree.leaves = Arena::default();
        tree.len = elements.len();
        let mut level: Vec<u32> = Vec::new();
        for chunk in elements.chunks(FILL) {
            let mut leaf = Leaf::default();
            for (score, handle) in chunk {
                leaf.insert(leaf.len(), *score, *handle);
            }
            leaf.prev = level.last().copied().unwrap_or(NONE);
            let added = tree.leaves.add(leaf);
            if let Some(before) = level.last() {
                tree.leaves.get_mut(*before).next = added;
            }
            level.push(added);
        }
        while level.len() > 1 {
            let mut above = Vec::new();
            for chunk in level.chunks(nodes::INNER_MAX - 4) {
                let mut inner = Inner::default();
                for child in chunk {
                    let (count, first) = tree.summary(*child, tree.height);
                    inner.insert(inner.len(), *child, count, first);
                }
                above.push(tree.inners.add(inner));
            }
            tree.height += 1;
            level = above;
        }
        tree.root = level[0];
        tree
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many elements a node has, and its first one.
    fn summary(&self, node: u32, height: usize) -> (u32, (f64, Handle)) {
        if height == 0 {
            let leaf = self.leaves.get(node);
            (leaf.len() as u32, leaf.at(0))
        } else {
            let inner = self.inners.get(node);
            (inner.total(), inner.first())
        }
    }

    /// How many elements stand before `bound`.
    pub(super) fn rank(&self, bound: Bound<'_>, names: &Names) -> usize {
        let (mut node, mut rank) = (self.root, 0);
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let firsts = count_before(inner.scores(), inner.handles(), bound, names);
            let child = firsts.saturating_sub(1);
            rank += inner.counts()[..child]
                .iter()
                .map(|count| *count as usize)
                .sum::<usize>();
            node = inner.children()[child];
        }
        let leaf = self.leaves.get(node);
        rank + count_before(leaf.scores(), leaf.handles(), bound, names)
    }

    /// The leaf with the element of this rank, and its place there; the rank must be below the
    /// length.
    fn seek(&self, mut rank: usize) -> (u32, usize) {
        debug_assert!(rank < self.len);
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let mut child = 0;
            for count in inner.counts() {
                if rank < *count as usize {
                    break;
                }
                rank -= *count as usize;
                child += 1;
            }
            node = inner.children()[child];
        }
        (node, rank)
    }

    /// The element of this rank, which must be below the length.
    pub(super) fn at(&self, rank: usize) -> (f64, Handle) {
        let (leaf, place) = self.seek(rank);
        self.leaves.get(leaf).at(place)
    }

    /// The elements from `rank` upward.
    pub(super) fn ascend(&self, rank: usize) -> impl Iterator<Item = (f64, Handle)> {
        let (mut node, mut place) = if rank < self.len {
            self.seek(rank)
        } else {
            (NONE, 0)
        };
        std::iter::from_fn(move || {
            if node == NONE {
                return None;
            }
            let leaf = self.leaves.get(node);
            let element = leaf.at(place);
            place += 1;
            if place == leaf.len() {
                (node, place) = (leaf.next, 0);
            }
            Some(element)
        })
    }

    /// The elements from `rank` downward.
    pub(super) fn descend(&self, rank: usize) -> impl Iterator<Item = (f64, Handle)> {
        let (mut node, mut place) = if rank < self.len {
            self.seek(rank)
        } else {
            (NONE, 0)
        };
        std::iter::from_fn(move || {
            if node == NONE {
                return None;
            }
            let leaf = self.leaves.get(node);
            let element = leaf.at(place);
            if place == 0 {
                node = leaf.prev;
                if node != NONE {
                    place = self.leaves.get(node).len() - 1;
                }
            } else {
                place -= 1;
            }
            Some(element)
        })
    }

    /// The path to where an element stands or belongs. An element before all others belongs to
    /// the first leaf.
    fn path_to(&self, score: f64, element: Handle, names: &Names) -> Path {
        let mut path = Path {
            steps: [(NONE, 0); HEIGHT_MAX],
            leaf: self.root,
        };
        let bound = Bound::Element(score, names.member(element));
        for step in &mut path.steps[..self.height] {
            let inner = self.inners.get(path.leaf);
            let firsts = count_before(inner.scores(), inner.handles(), bound, names);
            let is_first = inner.handles().get(firsts) == Some(&element);
            let child = if is_first {
                firsts
            } else {
                firsts.saturating_sub(1)
            };
            *step = (path.leaf, child);
            path.leaf = inner.children()[child];
        }
        path
    }

    /// Adds an element that is not there. Its member is among `names` already.
    pub(super) fn insert(&mut self, score: f64, handle: Handle, names: &Names) {
        let member = names.member(handle);
        let path = self.path_to(score, handle, names);
        let leaf = self.leaves.get_mut(path.leaf);
        let bound = Bound::Element(score, member);
        let place = count_before(leaf.scores(), leaf.handles(), bound, names);
        self.len += 1;
        let mut split = None;
        if leaf.len() < LEAF_MAX {
            leaf.insert(place, score, handle);
        } else {
            split = Some(self.split_leaf(path.leaf, place, score, handle));
        }
        self.update_path(&path, split);
    }

    fn split_leaf(&mut self, number: u32, place: usize, score: f64, handle: Handle) -> u32 {
        let leaf = self.leaves.get_mut(number);
        // Elements that come in order leave full leaves behind.
        let appended = place == LEAF_MAX && leaf.next == NONE;
        let mut right = leaf.split_off(if appended { LEAF_MAX } else { LEAF_MAX / 2 });
        if place > leaf.len() || appended {
            right.insert(place - leaf.len(), score, handle);
        } else {
            leaf.insert(place, score, handle);
        }
        let behind = leaf.next;
        (right.prev, right.next) = (number, behind);
        let added = self.leaves.add(right);
        self.leaves.get_mut(number).next = added;
        if behind != NONE {
            self.leaves.get_mut(behind).prev = added;
        }
        added
    }

    /// Brings the counts and first elements along a path up to date, after its leaf has changed
    /// and perhaps passed half of it on to a new one.
    fn update_path(&mut self, path: &Path, mut split: Option<u32>) {
        let mut below = path.leaf;
        for (level, &(number, child)) in path.steps[..self.height].iter().enumerate().rev() {
            let height = self.height - 1 - level;
            let (count, first) = self.summary(below, height);
            self.inners.get_mut(number).set(child, count, first);
            if let Some(added) = split.take() {
                let (count, first) = self.summary(added, height);
                let inner = self.inners.get_mut(number);
                if inner.len() == nodes::INNER_MAX {
                    let appended = child + 1 == nodes::INNER_MAX;
                    let mut right = inner.split_off(if appended {
                        nodes::INNER_MAX - 1
                    } else {
                        nodes::INNER_MAX / 2
                    });
                    let place = child + 1;
                    if place > inner.len() {
                        right.insert(place - inner.len(), added, count, first);
                    } else {
                        inner.insert(place, added, count, first);
                    }
                    split = Some(self.inners.add(right));
                } else {
                    inner.insert(child + 1, added, count, first);
                }
            }
            below = number;
        }
        if let Some(added) = split {
            let mut root = Inner::default();
            for child in [self.root, added] {
                let (count, first) = self.summary(child, self.height);
                root.insert(root.len(), child, count, first);
            }
            self.root = self.inners.add(root);
            self.height += 1;
        }
    }

    /// Removes an element that is there. Its member is still among `names`.
    pub(super) fn remove(&mut self, score: f64, handle: Handle, names: &Names) {
        let path = self.path_to(score, handle, names);
        let leaf = self.leaves.get_mut(path.leaf);
        let Some(place) = leaf.handles().iter().position(|other| *other == handle) else {
            debug_assert!(false, "Invariant: every kept member stands in the tree");
            return;
        };
        leaf.remove(place);
        self.len -= 1;
        let mut below = path.leaf;
        for (level, &(number, child)) in path.steps[..self.height].iter().enumerate().rev() {
            let height = self.height - 1 - level;
            let len = if height == 0 {
                self.leaves.get(below).len()
            } else {
                self.inners.get(below).len()
            };
            if len == 0 {
                self.free(below, height);
                self.inners.get_mut(number).remove(child);
            } else {
                let (count, first) = self.summary(below, height);
                self.inners.get_mut(number).set(child, count, first);
                if len
                    < SPARSE.min(if height == 0 {
                        LEAF_MAX
                    } else {
                        nodes::INNER_MAX / 4
                    })
                {
                    self.merge_neighbours(number, child, height);
                }
            }
            below = number;
        }
        while self.height > 0 {
            let root = self.inners.get(self.root);
            match root.children() {
                [only] => {
                    let only = *only;
                    self.inners.free(self.root);
                    self.root = only;
                    self.height -= 1;
                }
                _ => break,
            }
        }
    }

    fn free(&mut self, node: u32, height: usize) {
        if height > 0 {
            self.inners.free(node);
            return;
        }
        let leaf = self.leaves.get(node);
        let (prev, next) = (leaf.prev, leaf.next);
        if prev != NONE {
            self.leaves.get_mut(prev).next = next;
        }
        if next != NONE {
            self.leaves.get_mut(next).prev = prev;
        }
        self.leaves.free(node);
    }

    /// Moves a sparse child's elements and a neighbour's into one node, if there is room.
    fn merge_neighbours(&mut self, parent: u32, child: usize, height: usize) {
        let inner = self.inners.get(parent);
        let left = if child + 1 < inner.len() {
            child
        } else {
            child.saturating_sub(1)
        };
        let [into, from] = match inner.children()[left..] {
            [into, from, ..] => [into, from],
            _ => return,
        };
        if height == 0 {
            let moved = self.leaves.get(from).clone();
            let target = self.leaves.get_mut(into);
            if target.len() + moved.len() > LEAF_MAX * 3 / 4 {
                return;
            }
            target.append(&moved);
        } else {
            let moved = self.inners.get(from).clone();
            let target = self.inners.get_mut(into);
            if target.len() + moved.len() > nodes::INNER_MAX * 3 / 4 {
                return;
            }
            target.append(&moved);
        }
        self.free(from, height);
        let (count, first) = self.summary(into, height);
        let inner = self.inners.get_mut(parent);
        inner.remove(left + 1);
        inner.set(left, count, first);
    }

    /// Bytes on the heap, about.
    pub(super) fn memory_len(&self) -> usize {
        self.leaves.memory_len() + self.inners.memory_len()
    }

    /// Checks every invariant of the structure.
    #[cfg(test)]
    pub(super) fn check(&self, names: &Names) {
        let all: Vec<_> = self.ascend(0).collect();
        assert_eq!(all.len(), self.len);
        let key = |element: &(f64, Handle)| (element.0, names.member(element.1).to_vec());
        assert!(all.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])));
        let mut down: Vec<_> = self.descend(self.len.wrapping_sub(1)).collect();
        down.reverse();
        assert_eq!(all, down);
        if self.len > 0 {
            assert_eq!(self.check_node(self.root, self.height) as usize, self.len);
        }
    }

    #[cfg(test)]
    fn check_node(&self, node: u32, height: usize) -> u32 {
        if height > 0 {
            let inner = self.inners.get(node);
            assert!(inner.len() > 0);
            for (index, child) in inner.children().iter().enumerate() {
                let (count, first) = self.summary(*child, height - 1);
                assert_eq!(self.check_node(*child, height - 1), count);
                assert_eq!(inner.counts()[index], count);
                let kept = (inner.scores()[index], inner.handles()[index]);
                assert_eq!(kept, first);
            }
        }
        self.summary(node, height).0
    }
}
