//! The tree's nodes and the arenas they stand in.

use crate::value::members::Handle;

/// Elements of a leaf: a leaf then takes 760 bytes, just within an allocator's size of 768.
pub(super) const LEAF_MAX: usize = 62;
/// Children of an inner node, which then takes 624 bytes of 640.
pub(super) const INNER_MAX: usize = 31;
/// No node.
pub(super) const NONE: u32 = u32::MAX;

const NO_HANDLE: Handle = Handle::NONE;

/// Nodes of one kind, named by index.
#[derive(Debug, Clone)]
pub(super) struct Arena<N> {
    nodes: Vec<Option<Box<N>>>,
    free: Vec<u32>,
}

impl<N> Default for Arena<N> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<N> Arena<N> {
    pub(super) fn add(&mut self, node: N) -> u32 {
        let node = Some(Box::new(node));
        match self.free.pop() {
            Some(number) => {
                self.nodes[number as usize] = node;
                number
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> &N {
        match &self.nodes[number as usize] {
            Some(node) => node,
            None => unreachable!("Invariant: a freed node is named nowhere"),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> &mut N {
        match &mut self.nodes[number as usize] {
            Some(node) => node,
            None => unreachable!("Invariant: a freed node is named nowhere"),
        }
    }

    pub(super) fn free(&mut self, number: u32) {
        self.nodes[number as usize] = None;
        self.free.push(number);
    }

    pub(super) fn memory_len(&self) -> usize {
        (self.nodes.len() - self.free.len()) * size_of::<N>()
            + self.nodes.capacity() * size_of::<Option<Box<N>>>()
            + self.free.capacity() * size_of::<u32>()
    }
}

/// Elements in order.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    scores: [f64; LEAF_MAX],
    handles: [Handle; LEAF_MAX],
    len: u16,
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Default for Leaf {
    fn default() -> Self {
        Self {
            scores: [0.0; LEAF_MAX],
            handles: [NO_HANDLE; LEAF_MAX],
            len: 0,
            prev: NONE,
            next: NONE,
        }
    }
}

impl Leaf {
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn scores(&self) -> &[f64] {
        &self.scores[..self.len()]
    }

    #[inline]
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles[..self.len()]
    }

    #[inline]
    pub(super) fn at(&self, place: usize) -> (f64, Handle) {
        (self.scores[place], self.handles[place])
    }

    pub(super) fn insert(&mut self, place: usize, score: f64, handle: Handle) {
        let len = self.len();
        self.scores.copy_within(place..len, place + 1);
        self.handles.copy_within(place..len, place + 1);
        self.scores[place] = score;
        self.handles[place] = handle;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, place: usize) {
        let len = self.len();
        self.scores.copy_within(place + 1..len, place);
        self.handles.copy_within(place + 1..len, place);
        self.len -= 1;
    }

    pub(super) fn append(&mut self, other: &Self) {
        let (len, more) = (self.len(), other.len());
        self.scores[len..len + more].copy_from_slice(other.scores());
        self.handles[len..len + more].copy_from_slice(other.handles());
        self.len += other.len;
    }

    pub(super) fn split_off(&mut self, place: usize) -> Self {
        let mut right = Self::default();
        let moved = self.len() - place;
        right.scores[..moved].copy_from_slice(&self.scores[place..self.len()]);
        right.handles[..moved].copy_from_slice(&self.handles[place..self.len()]);
        right.len = moved as u16;
        self.len = place as u16;
        right
    }
}

/// Children in order, each with its number of elements and its first one.
#[derive(Debug, Clone)]
pub(super) struct Inner {
    scores: [f64; INNER_MAX],
    handles: [Handle; INNER_MAX],
    children: [u32; INNER_MAX],
    counts: [u32; INNER_MAX],
    len: u16,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            scores: [0.0; INNER_MAX],
            handles: [NO_HANDLE; INNER_MAX],
            children: [NONE; INNER_MAX],
            counts: [0; INNER_MAX],
            len: 0,
        }
    }
}

impl Inner {
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn scores(&self) -> &[f64] {
        &self.scores[..self.len()]
    }

    #[inline]
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles[..self.len()]
    }

    #[inline]
    pub(super) fn children(&self) -> &[u32] {
        &self.children[..self.len()]
    }

    #[inline]
    pub(super) fn counts(&self) -> &[u32] {
        &self.counts[..self.len()]
    }

    pub(super) fn total(&self) -> u32 {
        self.counts().iter().sum()
    }

    pub(super) fn first(&self) -> (f64, Handle) {
        (self.scores[0], self.handles[0])
    }

    pub(super) fn set(&mut self, place: usize, count: u32, first: (f64, Handle)) {
        self.counts[place] = count;
        (self.scores[place], self.handles[place]) = first;
    }

    pub(super) fn insert(&mut self, place: usize, child: u32, count: u32, first: (f64, Handle)) {
        let len = self.len();
        self.scores.copy_within(place..len, place + 1);
        self.handles.copy_within(place..len, place + 1);
        self.children.copy_within(place..len, place + 1);
        self.counts.copy_within(place..len, place + 1);
        self.children[place] = child;
        self.len += 1;
        self.set(place, count, first);
    }

    pub(super) fn remove(&mut self, place: usize) {
        let len = self.len();
        self.scores.copy_within(place + 1..len, place);
        self.handles.copy_within(place + 1..len, place);
        self.children.copy_within(place + 1..len, place);
        self.counts.copy_within(place + 1..len, place);
        self.len -= 1;
    }

    pub(super) fn append(&mut self, other: &Self) {
        let (len, more) = (self.len(), other.len());
        self.scores[len..len + more].copy_from_slice(other.scores());
        self.handles[len..len + more].copy_from_slice(other.handles());
        self.children[len..len + more].copy_from_slice(other.children());
        self.counts[len..len + more].copy_from_slice(other.counts());
        self.len += other.len;
    }

    pub(super) fn split_off(&mut self, place: usize) -> Self {
        let mut right = Self::default();
        let (len, moved) = (self.len(), self.len() - place);
        right.scores[..moved].copy_from_slice(&self.scores[place..len]);
        right.handles[..moved].copy_from_slice(&self.handles[place..len]);
        right.children[..moved].copy_from_slice(&self.children[place..len]);
        right.counts[..moved].copy_from_slice(&self.counts[place..len]);
        right.len = moved as u16;
        self.len = place as u16;
        right
    }
}
