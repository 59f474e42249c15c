//! Walking a listpack.

use super::Listpack;
use super::entry::{Entry, decode};

/// Walks a listpack from either end.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    pub(super) bodies: &'a [u8],
    /// In reverse order of the entries.
    pub(super) heads: &'a [u8],
}

impl Iter<'_> {
    /// A walk over nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self { bodies: &[], heads: &[] }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let (&head, heads) = self.heads.split_last()?;
        let (body, bodies) = self.bodies.split_at(Listpack::len_at(self.bodies, head, 0));
        (self.heads, self.bodies) = (heads, bodies);
        Some(decode(head, body))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.heads.len(), Some(self.heads.len()))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let (&head, heads) = self.heads.split_first()?;
        let len = Listpack::len_before(self.bodies, head, self.bodies.len());
        let (bodies, body) = self.bodies.split_at(self.bodies.len() - len);
        (self.heads, self.bodies) = (heads, bodies);
        Some(decode(head, body))
    }
}

impl ExactSizeIterator for Iter<'_> {}
