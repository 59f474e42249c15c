//! The compact encoding of small collections: a sequence of byte strings in one allocation.
//!
//! `[gap | bodies → | gap | ← heads | gap]`: each entry has a one-byte head, which says what
//! its body is and how long, and a body. Heads stand apart from the bodies and grow toward
//! them, so an entry costs one byte beside its content, can be walked from both ends, and a
//! search compares heads without touching bodies that cannot match. Integers in canonical
//! decimal are stored in binary; every string has exactly one encoding, so equal entries are
//! equal bytes. The gaps make pushes and pops at either end cost what they move.
//!
//! Only [`Listpack::from_untrusted`] takes bytes from outside; all else trusts the heads.

mod entry;
mod iter;

use entry::{BODY_LEN, LONG, decode, u32_at};
pub use entry::{Entry, Packed};
pub use iter::Iter;
/// Collections leave the compact encoding before they take more bytes than this, whatever
/// their thresholds say: offsets are 32 bits wide.
pub const LISTPACK_LEN_MAX: usize = 1 << 30;

/// A sequence of byte strings in one allocation.
#[derive(Clone, Default)]
pub struct Listpack {
    buf: Box<[u8]>,
    /// Where the first body begins.
    front: u32,
    /// Bytes of all bodies.
    bodies: u32,
    /// Number of entries, and of heads.
    count: u32,
    /// Free bytes behind the heads.
    tail: u32,
}
/// Which gap an insertion fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Those before the first body and behind the first head.
    Front,
    /// That between bodies and heads.
    Back,
}

/// Capacity for `used` bytes: little more for the many small ones, a quarter for the few large.
fn capacity_for(used: usize) -> usize {
    const EXACT_MAX: usize = 512;
    const STEP: usize = 16;
    if used <= EXACT_MAX { used.next_multiple_of(STEP) } else { used + used / 4 }
}

impl Listpack {
    /// An empty sequence without an allocation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty sequence with room for `len` bytes of entries ([`Packed::packed_len`] each).
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self { buf: vec![0; len.next_multiple_of(8)].into(), ..Self::default() }
    }

    /// Number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no entries.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the entries, heads included.
    #[inline]
    #[must_use]
    pub fn packed_len(&self) -> usize {
        (self.bodies + self.count) as usize
    }

    /// Bytes of the allocation.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.buf.len()
    }

    /// Whether `more` bytes of entries still fit the format.
    #[must_use]
    pub fn has_room_for(&self, more: usize) -> bool {
        self.packed_len().saturating_add(more) <= LISTPACK_LEN_MAX
    }

    /// Heads in reverse order of the entries.
    #[inline]
    fn heads(&self) -> &[u8] {
        let end = self.buf.len() - self.tail as usize;
        &self.buf[end - self.count as usize..end]
    }

    #[inline]
    fn bodies(&self) -> &[u8] {
        &self.buf[self.front as usize..][..self.bodies as usize]
    }

    #[inline]
    fn head_place(&self, index: usize) -> usize {
        self.buf.len() - self.tail as usize - 1 - index
    }

    fn gap(&self) -> usize {
        self.buf.len() - (self.front + self.bodies + self.count + self.tail) as usize
    }

    /// Length of the body of `head` that begins at `at` in `bodies`.
    #[inline]
    fn len_at(bodies: &[u8], head: u8, at: usize) -> usize {
        let len = usize::from(BODY_LEN[usize::from(head)]);
        if head == LONG { len + u32_at(bodies, at) } else { len }
    }

    /// Length of the body of `head` that ends at `end` in `bodies`.
    #[inline]
    fn len_before(bodies: &[u8], head: u8, end: usize) -> usize {
        let len = usize::from(BODY_LEN[usize::from(head)]);
        if head == LONG { len + u32_at(bodies, end - 4) } else { len }
    }

    /// Where the body of entry `index` begins; `index` may be the length. Walks from the
    /// nearer end.
    fn offset(&self, index: usize) -> usize {
        let (bodies, heads, count) = (self.bodies(), self.heads(), self.len());
        debug_assert!(index <= count);
        if index <= count / 2 {
            let walked = heads[count - index..].iter().rev();
            walked.fold(0, |at, head| at + Self::len_at(bodies, *head, at))
        } else {
            let walked = heads[..count - index].iter();
            walked.fold(bodies.len(), |end, head| end - Self::len_before(bodies, *head, end))
        }
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Entry<'_>> {
        if index >= self.len() {
            return None;
        }
        let at = self.offset(index);
        let (bodies, head) = (self.bodies(), self.buf[self.head_place(index)]);
        Some(decode(head, &bodies[at..][..Self::len_at(bodies, head, at)]))
    }

    /// The first entry.
    #[inline]
    #[must_use]
    pub fn first(&self) -> Option<Entry<'_>> {
        self.iter().next()
    }

    /// The last entry.
    #[inline]
    #[must_use]
    pub fn last(&self) -> Option<Entry<'_>> {
        self.iter().next_back()
    }

    /// The entries in order, from either end.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { bodies: self.bodies(), heads: self.heads() }
    }

    /// The entries from `index` on; walks there from the nearer end.
    #[must_use]
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        let index = index.min(self.len());
        let at = self.offset(index);
        Iter { bodies: &self.bodies()[at..], heads: &self.heads()[..self.len() - index] }
    }

    /// The index of the first entry equal to `needle` among `first`, `first + step`, …
    #[must_use]
    pub fn find(&self, needle: &Packed<'_>, first: usize, step: usize) -> Option<usize> {
        let bodies = self.bodies();
        let (mut at, mut next) = (0, first);
        for (index, &head) in self.heads().iter().rev().enumerate() {
            let len = Self::len_at(bodies, head, at);
            if index == next {
                if head == needle.head && needle.is_body(&bodies[at..at + len]) {
                    return Some(index);
                }
                next += step;
            }
            at += len;
        }
        None
    }

    /// Moves everything to a buffer with room for one insertion of `heads` and `body` bytes.
    #[cold]
    fn grow(&mut self, side: Side, heads: usize, body: usize) {
        let used = self.packed_len();
        let capacity = capacity_for(used + heads + body);
        assert!(u32::try_from(capacity).is_ok(), "Invariant: a listpack stays below 4 GiB");
        let spare = capacity - used - heads - body;
        match side {
            // What is spare goes half to bodies, half to heads, for short entries use both alike.
            Side::Front => self.relocate(capacity, body + spare - spare / 4, heads + spare / 4),
            Side::Back => self.relocate(capacity, 0, 0),
        }
    }

    fn relocate(&mut self, capacity: usize, front: usize, tail: usize) {
        let mut buf = vec![0; capacity].into_boxed_slice();
        buf[front..front + self.bodies as usize].copy_from_slice(self.bodies());
        let end = capacity - tail;
        buf[end - self.len()..end].copy_from_slice(self.heads());
        self.buf = buf;
        self.front = front as u32;
        self.tail = tail as u32;
    }

    /// Gives back the room that no entry uses.
    pub fn shrink_to_fit(&mut self) {
        if self.buf.len() > self.packed_len() {
            self.relocate(self.packed_len(), 0, 0);
        }
    }

    fn shrink_if_sparse(&mut self) {
        /// Below this nothing is worth a move.
        const SMALL: usize = 64;
        if self.buf.len() > SMALL && self.packed_len() < self.buf.len() / 4 {
            self.relocate(capacity_for(self.packed_len()), 0, 0);
        }
    }

    /// Makes sure that `more` bytes of entries can be pushed at the back without a move.
    pub fn reserve(&mut self, more: usize) {
        if self.gap() < more {
            self.grow(Side::Back, 0, more);
        }
    }

    /// Appends an entry.
    #[inline]
    pub fn push_back(&mut self, bytes: &[u8]) {
        self.push_back_packed(&Packed::new(bytes));
    }

    /// Appends an entry that is already encoded.
    #[inline]
    pub fn push_back_packed(&mut self, entry: &Packed<'_>) {
        let body = entry.body_len();
        if self.gap() <= body {
            self.grow(Side::Back, 1, body);
        }
        let at = (self.front + self.bodies) as usize;
        entry.write(&mut self.buf[at..at + body]);
        let place = self.head_place(self.len());
        self.buf[place] = entry.head;
        self.bodies += body as u32;
        self.count += 1;
    }

    /// Prepends an entry.
    #[inline]
    pub fn push_front(&mut self, bytes: &[u8]) {
        self.push_front_packed(&Packed::new(bytes));
    }

    /// Prepends an entry that is already encoded.
    #[inline]
    pub fn push_front_packed(&mut self, entry: &Packed<'_>) {
        let body = entry.body_len();
        if (self.front as usize) < body || self.tail == 0 {
            self.grow(Side::Front, 1, body);
        }
        self.front -= body as u32;
        self.tail -= 1;
        self.bodies += body as u32;
        self.count += 1;
        let at = self.front as usize;
        entry.write(&mut self.buf[at..at + body]);
        let place = self.head_place(0);
        self.buf[place] = entry.head;
    }

    /// Inserts an entry before that at `index`, which may be the length.
    pub fn insert(&mut self, index: usize, bytes: &[u8]) {
        self.insert_packed(index, &Packed::new(bytes));
    }

    /// Inserts an entry that is already encoded.
    pub fn insert_packed(&mut self, index: usize, entry: &Packed<'_>) {
        if index == 0 {
            return self.push_front_packed(entry);
        }
        let body = entry.body_len();
        if self.gap() <= body {
            self.grow(Side::Back, 1, body);
        }
        let at = self.front as usize + self.offset(index);
        let end = (self.front + self.bodies) as usize;
        self.buf.copy_within(at..end, at + body);
        entry.write(&mut self.buf[at..at + body]);
        let heads_end = self.head_place(0) + 1;
        let heads_start = heads_end - self.len();
        self.buf.copy_within(heads_start..heads_end - index, heads_start - 1);
        let place = self.head_place(index);
        self.buf[place] = entry.head;
        self.bodies += body as u32;
        self.count += 1;
    }

    /// Replaces the entry at `index`, which must be there.
    pub fn replace(&mut self, index: usize, bytes: &[u8]) {
        self.replace_packed(index, &Packed::new(bytes));
    }

    /// Replaces the entry at `index`, which must be there, by one that is already encoded.
    pub fn replace_packed(&mut self, index: usize, entry: &Packed<'_>) {
        debug_assert!(index < self.len());
        let place = self.head_place(index);
        let at = self.offset(index);
        let old = Self::len_at(self.bodies(), self.buf[place], at);
        let new = entry.body_len();
        if new > old && self.gap() < new - old {
            self.grow(Side::Back, 0, new - old);
        }
        let at = self.front as usize + at;
        let end = (self.front + self.bodies) as usize;
        if new != old {
            self.buf.copy_within(at + old..end, at + new);
        }
        entry.write(&mut self.buf[at..at + new]);
        let place = self.head_place(index);
        self.buf[place] = entry.head;
        self.bodies = self.bodies - old as u32 + new as u32;
        self.shrink_if_sparse();
    }

    /// Removes the entry at `index`, which must be there.
    pub fn remove(&mut self, index: usize) {
        self.remove_range(index, 1);
    }

    /// Removes `count` entries from `index` on; all of them must be there.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        debug_assert!(index + count <= self.len());
        if count == 0 {
            return;
        }
        let at = self.offset(index);
        let mut end = at;
        for index in index..index + count {
            end += Self::len_at(self.bodies(), self.buf[self.head_place(index)], end);
        }
        let (front, bodies) = (self.front as usize, self.bodies as usize);
        let heads_end = self.head_place(0) + 1;
        let heads_start = heads_end - self.len();
        if index * 2 < self.len() - count {
            self.buf.copy_within(front..front + at, front + end - at);
            self.buf.copy_within(heads_end - index..heads_end, heads_end - index - count);
            self.front += (end - at) as u32;
            self.tail += count as u32;
        } else {
            self.buf.copy_within(front + end..front + bodies, front + at);
            let behind = heads_end - index - count;
            self.buf.copy_within(heads_start..behind, heads_start + count);
        }
        self.bodies -= (end - at) as u32;
        self.count -= count as u32;
        self.shrink_if_sparse();
    }

    /// Removes the first entry, if there is one.
    #[inline]
    pub fn drop_front(&mut self) {
        if self.count > 0 {
            let head = self.buf[self.head_place(0)];
            let len = Self::len_at(self.bodies(), head, 0);
            self.front += len as u32;
            self.bodies -= len as u32;
            self.count -= 1;
            self.tail += 1;
            self.shrink_if_sparse();
        }
    }

    /// Removes the last entry, if there is one.
    #[inline]
    pub fn drop_back(&mut self) {
        if self.count > 0 {
            let head = self.buf[self.head_place(self.len() - 1)];
            let len = Self::len_before(self.bodies(), head, self.bodies as usize);
            self.bodies -= len as u32;
            self.count -= 1;
            self.shrink_if_sparse();
        }
    }

    /// Splits off the entries from `index` on.
    #[must_use]
    pub fn split_off(&mut self, index: usize) -> Self {
        let mut behind = Self::default();
        let rest = self.iter_from(index);
        behind.reserve(rest.bodies.len() + rest.heads.len());
        let (bodies, heads) = (rest.bodies.len(), rest.heads.len());
        behind.buf[..bodies].copy_from_slice(rest.bodies);
        let end = behind.buf.len();
        behind.buf[end - heads..].copy_from_slice(rest.heads);
        behind.bodies = bodies as u32;
        behind.count = heads as u32;
        self.bodies -= bodies as u32;
        self.count -= heads as u32;
        self.shrink_if_sparse();
        behind
    }

    /// The heads (in reverse order) and the bodies, for storage; [`Self::from_untrusted`] reads
    /// them back.
    #[must_use]
    pub fn as_parts(&self) -> (&[u8], &[u8]) {
        (self.heads(), self.bodies())
    }

    /// A sequence of heads and bodies that [`Self::as_parts`] gave, or nothing if they are
    /// damaged: every body lies inside, every head is known, every entry has its one encoding.
    #[must_use]
    pub fn from_untrusted(heads: &[u8], bodies: &[u8]) -> Option<Self> {
        if heads.len().checked_add(bodies.len())? > LISTPACK_LEN_MAX {
            return None;
        }
        let mut rest = bodies;
        for &head in heads.iter().rev() {
            let mut len = usize::from(BODY_LEN[usize::from(head)]);
            match head {
                LONG => {
                    len += u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize;
                    let behind = rest.get(..len)?.last_chunk::<4>()?;
                    if rest[..4] != behind[..] {
                        return None;
                    }
                }
                255 => return None,
                _ => {}
            }
            let (body, after) = rest.split_at_checked(len)?;
            let canonical = match decode(head, body) {
                Entry::Bytes(bytes) => Packed::new(bytes).head,
                Entry::Integer(number) => Packed::integer(number).head,
            };
            if canonical != head {
                return None;
            }
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
        let buf: Box<[u8]> = [bodies, heads].concat().into();
        Some(Self {
            buf,
            front: 0,
            bodies: bodies.len() as u32,
            count: heads.len() as u32,
            tail: 0,
        })
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> FromIterator<&'a [u8]> for Listpack {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(items: I) -> Self {
        let mut pack = Self::new();
        for item in items {
            pack.push_back(item);
        }
        pack
    }
}

impl PartialEq for Listpack {
    fn eq(&self, other: &Self) -> bool {
        self.as_parts() == other.as_parts()
    }
}

impl Eq for Listpack {}

impl std::fmt::Debug for Listpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
