//! Points in time and databases as types, so that they cannot be swapped for other numbers.

/// Milliseconds since the Unix epoch, on the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The instant `ms` milliseconds later; `None` when that overflows.
    #[must_use]
    pub fn checked_add_ms(self, ms: i64) -> Option<Self> {
        self.0.checked_add(ms).map(Self)
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The number of a database, as SELECT takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DbIndex(pub u16);

impl DbIndex {
    /// As an index of a slice.
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
