//! Sets: distinct members.

/// Placeholder until the family is built.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Set {}

impl Set {
    /// The name OBJECT ENCODING gives.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        "listpack"
    }

    /// Feeds the content to `hasher`; equal content feeds equal bytes whatever the encoding.
    pub fn digest(&self, hasher: &mut impl std::hash::Hasher) {
        hasher.write_u8(0);
    }

    /// About how many steps freeing it takes.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        0
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        0
    }
}
