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
/// their thresholds say: lengths inside are 32 bits wide.
pub const LISTPACK_LEN_MAX: usize = 1 << 30;

/// Collections leave the compact encoding before they have more entries than this, whatever
/// their thresholds say: the count is 16 bits wide. Every step costs a walk, so that nobody who
/// measures comes near it.
pub const LISTPACK_ENTRIES_MAX: usize = 32_000;

/// No gap grows larger than this; a removal that would make one so moves what is left to a
/// smaller allocation.
const GAP_MAX: usize = u16::MAX as usize;

/// A sequence of byte strings in one allocation.
///
/// 24 bytes, for every small collection pays for them: the length of the bodies is what the
/// rest leaves of the allocation, and the rest is 16 bits wide.
#[derive(Clone, Default)]
pub struct Listpack {
    buf: Box<[u8]>,
    /// Free bytes before the first body.
    front: u16,
    /// Free bytes between bodies and heads.
    gap: u16,
    /// Number of entries, and of heads.
    count: u16,
    /// Free bytes behind the heads.
    tail: u16,
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
    const SPARE_MAX: usize = GAP_MAX / 4;
    if used <= EXACT_MAX { used.next_multiple_of(STEP) } else { used + (used / 4).min(SPARE_MAX) }
}

/// Sets a gap to a length of at most [`GAP_MAX`].
#[inline]
fn gap_of(len: usize) -> u16 {
    debug_assert!(len <= GAP_MAX);
    len as u16
}

impl Listpack {
    /// An empty sequence without an allocation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty sequence with room for about `len` bytes of entries ([`Packed::packed_len`] each).
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        const STEP: usize = 8;
        let len = len.next_multiple_of(STEP).min(GAP_MAX);
        Self { buf: vec![0; len].into(), gap: gap_of(len), ..Self::default() }
    }

    /// Number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
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
        self.buf.len() - usize::from(self.front) - usize::from(self.gap) - usize::from(self.tail)
    }

    #[inline]
    fn bodies_len(&self) -> usize {
        self.packed_len() - self.len()
    }

    /// Bytes of the allocation.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.buf.len()
    }

    /// Whether a few more entries of `more` bytes in all still fit the format.
    #[must_use]
    pub fn has_room_for(&self, more: usize) -> bool {
        self.packed_len().saturating_add(more) <= LISTPACK_LEN_MAX
            && self.len() < LISTPACK_ENTRIES_MAX
    }

    /// Heads in reverse order of the entries.
    #[inline]
    fn heads(&self) -> &[u8] {
        let end = self.buf.len() - usize::from(self.tail);
        &self.buf[end - self.len()..end]
    }

    #[inline]
    fn bodies(&self) -> &[u8] {
        &self.buf[usize::from(self.front)..][..self.bodies_len()]
    }

    #[inline]
    fn head_place(&self, index: usize) -> usize {
        self.buf.len() - usize::from(self.tail) - 1 - index
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

    /// Rebuilds the whole with `entry`, if any, in the place of `count` entries from `index`
    /// on, and new gaps where `side` will need them: the slow way of every change.
    #[cold]
    fn splice(&mut self, index: usize, count: usize, entry: Option<&Packed<'_>>, side: Side) {
        let at = self.offset(index);
        let end = at + self.bodies_between(index, count, at);
        let body = entry.map_or(0, Packed::body_len);
        let heads = self.len() - count + usize::from(entry.is_some());
        assert!(
            u16::try_from(heads).is_ok(),
            "Invariant: who fills a listpack heeds LISTPACK_ENTRIES_MAX"
        );
        let used = self.bodies_len() - (end - at) + body + heads;
        let capacity = capacity_for(used);
        // Of the spare room a quarter goes to heads, for entries are seldom shorter than three
        // bytes.
        let (front, tail) = match side {
            Side::Front => (capacity - used - (capacity - used) / 4, (capacity - used) / 4),
            Side::Back => (0, 0),
        };
        let mut buf = vec![0; capacity].into_boxed_slice();
        let (before, after) = (&self.bodies()[..at], &self.bodies()[end..]);
        let place = front + at;
        buf[front..place].copy_from_slice(before);
        if let Some(entry) = entry {
            entry.write(&mut buf[place..place + body]);
        }
        buf[place + body..][..after.len()].copy_from_slice(after);
        let old = self.heads();
        let heads_end = capacity - tail;
        buf[heads_end - index..heads_end].copy_from_slice(&old[old.len() - index..]);
        let mut place = heads_end - index;
        if let Some(entry) = entry {
            place -= 1;
            buf[place] = entry.head;
        }
        let later = &old[..old.len() - index - count];
        buf[place - later.len()..place].copy_from_slice(later);
        *self = Self {
            buf,
            front: gap_of(front),
            gap: gap_of(capacity - used - front - tail),
            count: heads as u16,
            tail: gap_of(tail),
        };
    }

    /// Bytes of the bodies of `count` entries from `index` on, the first of which is at `at`.
    fn bodies_between(&self, index: usize, count: usize, at: usize) -> usize {
        let bodies = self.bodies();
        let heads = &self.heads()[self.len() - index - count..self.len() - index];
        let end = heads.iter().rev().fold(at, |end, head| end + Self::len_at(bodies, *head, end));
        end - at
    }

    /// Moves everything to an allocation of `capacity` bytes, which must be enough.
    fn relocate(&mut self, capacity: usize) {
        let used = self.packed_len();
        let mut buf = vec![0; capacity].into_boxed_slice();
        buf[..self.bodies_len()].copy_from_slice(self.bodies());
        buf[capacity - self.len()..].copy_from_slice(self.heads());
        let gap = gap_of(capacity - used);
        *self = Self { buf, front: 0, gap, count: self.count, tail: 0 };
    }

    /// Gives back the room that no entry uses.
    pub fn shrink_to_fit(&mut self) {
        if self.buf.len() > self.packed_len() {
            self.relocate(self.packed_len());
        }
    }

    #[inline]
    fn shrink_if_sparse(&mut self) {
        /// Below this nothing is worth a move.
        const SMALL: usize = 64;
        if self.buf.len() > SMALL && self.packed_len() < self.buf.len() / 4 {
            self.relocate(capacity_for(self.packed_len()));
        }
    }

    /// Makes sure, unless it is much, that `more` bytes of entries can be pushed at the back
    /// without a move.
    pub fn reserve(&mut self, more: usize) {
        const MUCH: usize = GAP_MAX / 2;
        if usize::from(self.gap) < more && more <= MUCH {
            self.relocate(capacity_for(self.packed_len() + more));
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
        if usize::from(self.gap) <= body || self.count == u16::MAX {
            return self.splice(self.len(), 0, Some(entry), Side::Back);
        }
        let at = usize::from(self.front) + self.bodies_len();
        entry.write(&mut self.buf[at..at + body]);
        let place = self.head_place(self.len());
        self.buf[place] = entry.head;
        self.gap -= body as u16 + 1;
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
        if usize::from(self.front) < body || self.tail == 0 || self.count == u16::MAX {
            return self.splice(0, 0, Some(entry), Side::Front);
        }
        self.front -= body as u16;
        self.tail -= 1;
        self.count += 1;
        let at = usize::from(self.front);
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
        if index == 0 && self.front > 0 {
            return self.push_front_packed(entry);
        }
        let body = entry.body_len();
        if usize::from(self.gap) <= body || self.count == u16::MAX {
            return self.splice(index, 0, Some(entry), Side::Back);
        }
        let front = usize::from(self.front);
        let at = front + self.offset(index);
        let end = front + self.bodies_len();
        self.buf.copy_within(at..end, at + body);
        entry.write(&mut self.buf[at..at + body]);
        let heads_end = self.buf.len() - usize::from(self.tail);
        let heads_start = heads_end - self.len();
        self.buf.copy_within(heads_start..heads_end - index, heads_start - 1);
        let place = self.head_place(index);
        self.buf[place] = entry.head;
        self.gap -= body as u16 + 1;
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
        let room = usize::from(self.gap) + old;
        if room < new || room - new > GAP_MAX {
            return self.splice(index, 1, Some(entry), Side::Back);
        }
        let front = usize::from(self.front);
        let (at, end) = (front + at, front + self.bodies_len());
        if new != old {
            self.buf.copy_within(at + old..end, at + new);
        }
        entry.write(&mut self.buf[at..at + new]);
        self.buf[place] = entry.head;
        self.gap = gap_of(room - new);
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
        let gone = self.bodies_between(index, count, at);
        let (front, bodies) = (usize::from(self.front), self.bodies_len());
        let heads_end = self.buf.len() - usize::from(self.tail);
        if index * 2 < self.len() - count {
            let tail = usize::from(self.tail) + count;
            if front + gone > GAP_MAX || tail > GAP_MAX {
                return self.splice(index, count, None, Side::Back);
            }
            self.buf.copy_within(front..front + at, front + gone);
            self.buf.copy_within(heads_end - index..heads_end, heads_end - index - count);
            self.front = gap_of(front + gone);
            self.tail = gap_of(tail);
        } else {
            let gap = usize::from(self.gap) + gone + count;
            if gap > GAP_MAX {
                return self.splice(index, count, None, Side::Back);
            }
            self.buf.copy_within(front + at + gone..front + bodies, front + at);
            let (start, behind) = (heads_end - self.len(), heads_end - index - count);
            self.buf.copy_within(start..behind, start + count);
            self.gap = gap_of(gap);
        }
        self.count -= count as u16;
        self.shrink_if_sparse();
    }

    /// Removes the first entry, if there is one.
    #[inline]
    pub fn drop_front(&mut self) {
        if self.count == 0 {
            return;
        }
        let len = Self::len_at(self.bodies(), self.buf[self.head_place(0)], 0);
        let front = usize::from(self.front) + len;
        if front > GAP_MAX || self.tail == u16::MAX {
            return self.splice(0, 1, None, Side::Back);
        }
        self.front = gap_of(front);
        self.count -= 1;
        self.tail += 1;
        self.shrink_if_sparse();
    }

    /// Removes the last entry, if there is one.
    #[inline]
    pub fn drop_back(&mut self) {
        let Some(last) = self.len().checked_sub(1) else {
            return;
        };
        let head = self.buf[self.head_place(last)];
        let gap =
            usize::from(self.gap) + 1 + Self::len_before(self.bodies(), head, self.bodies_len());
        if gap > GAP_MAX {
            return self.splice(last, 1, None, Side::Back);
        }
        self.gap = gap_of(gap);
        self.count -= 1;
        self.shrink_if_sparse();
    }

    /// Splits off the entries from `index` on.
    #[must_use]
    pub fn split_off(&mut self, index: usize) -> Self {
        let rest = self.iter_from(index);
        let buf: Box<[u8]> = [rest.bodies, rest.heads].concat().into();
        let count = rest.heads.len();
        self.remove_range(index, count);
        Self { buf, count: count as u16, ..Self::default() }
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
        Some(Self { buf, count: u16::try_from(heads.len()).ok()?, ..Self::default() })
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
