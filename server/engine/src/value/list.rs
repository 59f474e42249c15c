//! Lists: sequences of strings.
//!
//! A small list is one [`Listpack`] in the object itself; a larger one is a [`Quicklist`], a
//! ring of listpack nodes. Which of the two it is shows nowhere: OBJECT ENCODING follows
//! Redis's own sizes and rules, which the quicklist keeps count of.
//!
//! Must never be empty in the keyspace: handlers remove the key with its last element.

mod iter;
mod quicklist;

pub use iter::Iter;
pub use quicklist::Quicklist;

use crate::limits::Limits;
use crate::value::listpack::{Entry, LISTPACK_ENTRIES_MAX, Listpack, Packed};

/// A sequence of strings.
#[derive(Debug, Clone)]
pub struct List(Form);

#[derive(Debug, Clone)]
enum Form {
    Small(Listpack),
    Large(Box<Quicklist>),
}

/// How a list stands, for those who store it and must get the same back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// One listpack in the object.
    Small,
    /// A ring of one node that is a listpack by name.
    Listpack,
    /// A ring of nodes.
    Quicklist,
}

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `LEFT`: the head.
    Left,
    /// `RIGHT`: the tail.
    Right,
}

/// A side of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Toward the head.
    Before,
    /// Toward the tail.
    After,
}

/// Bytes of Redis's listpack that are no entries.
const REDIS_LISTPACK_FRAME: usize = 7;
/// What Redis allows a node whose size is limited by its count of entries.
const SIZE_SAFETY_LIMIT: usize = 8192;

/// How large a node may grow: the meaning of `list-max-listpack-size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimit {
    /// Bytes of a node, as Redis counts them.
    pub len: usize,
    /// Entries of a node.
    pub entries: usize,
}

impl From<&Limits> for NodeLimit {
    fn from(limits: &Limits) -> Self {
        Self::of(limits.list_max_listpack_size())
    }
}

impl NodeLimit {
    /// The limit that a value of the directive means.
    #[inline]
    #[must_use]
    pub fn of(directive: i64) -> Self {
        match usize::try_from(directive) {
            Ok(entries) => {
                Self { len: SIZE_SAFETY_LIMIT, entries: entries.clamp(1, LISTPACK_ENTRIES_MAX) }
            }
            // -1 is 4 KiB, each further step twice that, -5 the last.
            Err(_) => Self {
                len: 4096 << directive.unsigned_abs().clamp(1, 5).saturating_sub(1),
                entries: LISTPACK_ENTRIES_MAX,
            },
        }
    }

    #[inline]
    fn is_exceeded_by(self, len: usize, entries: usize) -> bool {
        len > self.len || entries > self.entries
    }

    /// Whether an element is too long for any node but its own.
    #[inline]
    fn is_large(self, element_len: usize) -> bool {
        element_len > self.len
    }

    /// The limit under which a quicklist turns back into a listpack: half, against flapping.
    fn half(self) -> Self {
        Self {
            len: self.len / 2,
            entries: match self.entries {
                // No limit but the format's own: nothing to halve.
                LISTPACK_ENTRIES_MAX => LISTPACK_ENTRIES_MAX,
                entries => entries / 2,
            },
        }
    }
}

impl Default for List {
    fn default() -> Self {
        Self(Form::Small(Listpack::new()))
    }
}

/// The most bytes that a listpack of ours can take in Redis's format: an entry takes at most
/// three bytes more there.
fn redis_len_at_most(pack: &Listpack) -> usize {
    REDIS_LISTPACK_FRAME + pack.packed_len() + 3 * pack.len()
}

impl List {
    /// The name OBJECT ENCODING gives.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match &self.0 {
            Form::Small(_) => "listpack",
            Form::Large(quick) => quick.encoding(),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn form(&self) -> ListForm {
        match &self.0 {
            Form::Small(_) => ListForm::Small,
            Form::Large(quick) => quick.form(),
        }
    }

    /// Its stretches in order: one of a small list, else the ring's nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Listpack> {
        let (small, large) = match &self.0 {
            Form::Small(pack) => (Some(pack), None),
            Form::Large(quick) => (None, Some(quick.packs())),
        };
        small.into_iter().chain(large.into_iter().flatten())
    }

    /// The list that [`List::form`] and [`List::nodes`] told of; empty stretches are left out.
    #[must_use]
    pub fn from_nodes(form: ListForm, nodes: Vec<Listpack>) -> Self {
        let mut nodes: Vec<Listpack> = nodes.into_iter().filter(|node| !node.is_empty()).collect();
        if nodes.len() <= 1 && form == ListForm::Small {
            return Self(Form::Small(nodes.pop().unwrap_or_default()));
        }
        Self(Form::Large(Box::new(Quicklist::from_nodes(form, nodes))))
    }

    /// Number of elements.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Small(pack) => pack.len(),
            Form::Large(quick) => quick.len(),
        }
    }

    /// Whether there are no elements.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Prepares for these elements to be added: the encoding changes before the first goes in,
    /// as in Redis, where a command's elements decide together.
    #[inline]
    pub fn prepare(&mut self, elements: &[&[u8]], limit: NodeLimit) {
        let len: usize = elements.iter().map(|element| element.len()).sum();
        if let Form::Small(pack) = &mut self.0 {
            let packed_at_most = len + 9 * elements.len();
            if !limit.is_exceeded_by(
                redis_len_at_most(pack) + packed_at_most + 3 * elements.len(),
                pack.len() + elements.len(),
            ) {
                if pack.is_empty() {
                    let exact = elements.iter().map(|bytes| Packed::new(bytes).packed_len()).sum();
                    *pack = Listpack::with_capacity(exact);
                }
                return;
            }
            self.enlarge();
        }
        if let Form::Large(quick) = &mut self.0 {
            quick.prepare(len, elements.len(), limit);
        }
    }

    #[cold]
    fn enlarge(&mut self) {
        if let Form::Small(pack) = &mut self.0 {
            let quick = Quicklist::from_listpack(std::mem::take(pack));
            self.0 = Form::Large(Box::new(quick));
        }
    }

    /// Follows a removal: where Redis would, a quicklist of one small node becomes a listpack.
    #[inline]
    pub fn settle(&mut self, limit: NodeLimit) {
        if let Form::Large(quick) = &mut self.0 {
            quick.settle(limit);
            if let Some(pack) = quick.take_if_small(limit) {
                self.0 = Form::Small(pack);
            }
        }
    }

    /// Adds an element at an end; [`List::prepare`] must have been called with it.
    #[inline]
    pub fn push(&mut self, end: End, element: &[u8], limit: NodeLimit) {
        match (&mut self.0, end) {
            (Form::Small(pack), End::Left) => pack.push_front(element),
            (Form::Small(pack), End::Right) => pack.push_back(element),
            (Form::Large(quick), end) => quick.push(end, element, limit),
        }
    }

    /// Removes the element at an end; [`List::settle`] is to follow the last of them.
    #[inline]
    pub fn pop<T>(&mut self, end: End, taken: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
        match &mut self.0 {
            Form::Small(pack) => pop_from(pack, end, taken),
            Form::Large(quick) => quick.pop(end, taken),
        }
    }

    /// The element at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Entry<'_>> {
        match &self.0 {
            Form::Small(pack) => pack.get(index),
            Form::Large(quick) => quick.get(index),
        }
    }

    /// The elements in order, from either end.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Form::Small(pack) => Iter::over(pack.iter(), &[], &[]),
            Form::Large(quick) => quick.iter(),
        }
    }

    /// The elements from `index` on.
    #[must_use]
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        match &self.0 {
            Form::Small(pack) => Iter::over(pack.iter_from(index), &[], &[]),
            Form::Large(quick) => quick.iter_from(index),
        }
    }

    /// Replaces the element at `index`; whether it was there.
    pub fn set(&mut self, index: usize, element: &[u8], limit: NodeLimit) -> bool {
        if index >= self.len() {
            return false;
        }
        match &mut self.0 {
            Form::Small(pack) => pack.replace(index, element),
            Form::Large(quick) => quick.set(index, element, limit),
        }
        true
    }

    /// Inserts `element` beside the first that equals `pivot`; whether there is one.
    pub fn insert_beside(
        &mut self,
        side: Beside,
        pivot: &[u8],
        element: &[u8],
        limit: NodeLimit,
    ) -> bool {
        let pivot = Packed::new(pivot);
        match &mut self.0 {
            Form::Small(pack) => match pack.find(&pivot, 0, 1) {
                Some(index) => {
                    pack.insert(index + usize::from(side == Beside::After), element);
                    true
                }
                None => false,
            },
            Form::Large(quick) => quick.insert_beside(side, &pivot, element, limit),
        }
    }

    /// Removes up to `count` elements that equal `element`, the first from `end` on; how many
    /// there were.
    pub fn remove(&mut self, end: End, element: &[u8], count: usize) -> usize {
        let element = Packed::new(element);
        match &mut self.0 {
            Form::Small(pack) => remove_from(pack, end, &element, count, |_| {}),
            Form::Large(quick) => quick.remove(end, &element, count),
        }
    }

    /// Removes `count` elements from `index` on, which must all be there.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        match &mut self.0 {
            Form::Small(pack) => pack.remove_range(index, count),
            Form::Large(quick) => quick.remove_range(index, count),
        }
    }

    /// Feeds the content to `hasher`; equal content feeds equal bytes whatever the encoding.
    pub fn digest(&self, hasher: &mut impl std::hash::Hasher) {
        hasher.write_usize(self.len());
        for element in self.iter() {
            let mut room = itoa::Buffer::new();
            let bytes = element.text(&mut room);
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }

    /// About how many steps freeing it takes.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Small(_) => 1,
            Form::Large(quick) => quick.node_count(),
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        match &self.0 {
            Form::Small(pack) => pack.memory_len(),
            Form::Large(quick) => quick.memory_len(),
        }
    }
}

#[inline]
fn pop_from<T>(pack: &mut Listpack, end: End, taken: impl FnOnce(Entry<'_>) -> T) -> Option<T> {
    let result;
    match end {
        End::Left => {
            result = taken(pack.first()?);
            pack.drop_front();
        }
        End::Right => {
            result = taken(pack.last()?);
            pack.drop_back();
        }
    }
    Some(result)
}

/// Removes up to `count` entries equal to `element`; calls `removed` with each.
fn remove_from(
    pack: &mut Listpack,
    end: End,
    element: &Packed<'_>,
    count: usize,
    mut removed: impl FnMut(Entry<'_>),
) -> usize {
    let wanted = element.entry();
    let mut indices: Vec<usize> = match end {
        End::Left => {
            let equal = pack.iter().enumerate().filter(|(_, entry)| *entry == wanted);
            equal.map(|(index, _)| index).take(count).collect()
        }
        End::Right => {
            let backward = pack.iter().enumerate().rev().filter(|(_, entry)| *entry == wanted);
            backward.map(|(index, _)| index).take(count).collect()
        }
    };
    if let [index] = indices[..] {
        pack.remove(index);
        removed(wanted);
    } else if !indices.is_empty() {
        // Many: copy what stays, rather than move the rest once for each.
        indices.sort_unstable();
        let mut kept = Listpack::with_capacity(pack.packed_len());
        let (mut next, mut room) = (indices.iter().peekable(), itoa::Buffer::new());
        for (index, entry) in pack.iter().enumerate() {
            if next.next_if(|removed| **removed == index).is_some() {
                removed(entry);
            } else {
                kept.push_back(entry.text(&mut room));
            }
        }
        *pack = kept;
    }
    indices.len()
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests;
