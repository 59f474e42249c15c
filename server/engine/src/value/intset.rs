//! Sets of integers: sorted, packed, each as wide as the widest needs.
//!
//! Little-endian integers of 2, 4 or 8 bytes each. A search is a bisection, an insertion moves
//! what stands behind; the threshold of the encoding keeps both short. The width grows when an
//! integer does not fit and, as in Redis, never shrinks. Count and width stand outside of the
//! allocation, so that it can be of a round size.

/// A sorted set of integers in one allocation.
#[derive(Clone, Default)]
pub struct IntSet {
    /// The integers, then free room.
    buf: Box<[u8]>,
    len: u32,
    /// 0 before the first integer.
    width: u8,
}

/// Bytes an integer needs: 2, 4 or 8.
fn width_of(number: i64) -> usize {
    if i16::try_from(number).is_ok() {
        2
    } else if i32::try_from(number).is_ok() {
        4
    } else {
        8
    }
}

fn read(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("Invariant: integers of an intset are 2, 4 or 8 bytes wide"),
    }
}

impl IntSet {
    /// An empty set without an allocation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set with room for `count` integers as wide as `like`.
    #[must_use]
    pub fn with_capacity(count: usize, like: i64) -> Self {
        let width = width_of(like);
        Self { buf: vec![0; count * width].into(), len: 0, width: width as u8 }
    }

    #[inline]
    fn width(&self) -> usize {
        usize::from(self.width.max(2))
    }

    #[inline]
    fn packed(&self) -> &[u8] {
        &self.buf[..self.len() * self.width()]
    }

    /// How many members there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The member at `index` in ascending order.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<i64> {
        let width = self.width();
        self.packed().get(index * width..(index + 1) * width).map(read)
    }

    /// The members in ascending order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> + DoubleEndedIterator {
        self.packed().chunks_exact(self.width()).map(read)
    }

    /// Where `number` stands, or where it would be inserted.
    fn search(&self, number: i64) -> Result<usize, usize> {
        let (packed, width) = (self.packed(), self.width());
        let (mut low, mut high) = (0, packed.len() / width);
        while low < high {
            let middle = (low + high) / 2;
            let found = read(&packed[middle * width..(middle + 1) * width]);
            match found.cmp(&number) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Whether `number` is a member.
    #[must_use]
    pub fn contains(&self, number: i64) -> bool {
        width_of(number) <= self.width() && self.search(number).is_ok()
    }

    /// Adds `number`; whether it was not there.
    pub fn insert(&mut self, number: i64) -> bool {
        let needed = width_of(number);
        if needed > self.width() {
            self.resize(self.len() + 1, needed);
        }
        let Err(index) = self.search(number) else {
            return false;
        };
        let width = self.width();
        let (at, end) = (index * width, self.len() * width);
        if end + width > self.buf.len() {
            // Little more than is needed: sets of this encoding are many and small.
            self.resize(self.len() + 1 + self.len() / 8, width);
        }
        self.buf.copy_within(at..end, at + width);
        self.buf[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        self.len += 1;
        true
    }

    /// Moves the integers to an allocation with room for `count` of this width.
    fn resize(&mut self, count: usize, width: usize) {
        const STEP: usize = 8;
        let mut buf = Vec::with_capacity((count * width).next_multiple_of(STEP));
        for number in self.iter() {
            buf.extend_from_slice(&number.to_le_bytes()[..width]);
        }
        buf.resize(buf.capacity(), 0);
        self.buf = buf.into();
        self.width = width as u8;
    }

    /// Removes `number`; whether it was there.
    pub fn remove(&mut self, number: i64) -> bool {
        if width_of(number) > self.width() {
            return false;
        }
        let found = self.search(number);
        if let Ok(index) = found {
            self.remove_at(index);
        }
        found.is_ok()
    }

    /// Removes the member at `index`, which must be there.
    pub fn remove_at(&mut self, index: usize) {
        /// Below this nothing is worth a move.
        const SMALL: usize = 64;
        let width = self.width();
        let (at, end) = (index * width, self.len() * width);
        self.buf.copy_within(at + width..end, at);
        self.len -= 1;
        if self.buf.len() > SMALL && end < self.buf.len() / 2 {
            self.resize(self.len(), width);
        }
    }

    /// Bytes of the allocation.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.buf.len()
    }
}

impl FromIterator<i64> for IntSet {
    fn from_iter<I: IntoIterator<Item = i64>>(numbers: I) -> Self {
        let mut set = Self::new();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

impl PartialEq for IntSet {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for IntSet {}

impl std::fmt::Debug for IntSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wider_integers_widen_all() {
        let mut set = IntSet::new();
        for number in [5, -7, 40_000, 3, i64::MIN, 40_000, i64::MAX] {
            set.insert(number);
        }
        let members: Vec<i64> = set.iter().collect();
        assert_eq!(members, [i64::MIN, -7, 3, 5, 40_000, i64::MAX]);
        assert!(set.remove(i64::MIN) && !set.remove(i64::MIN));
        assert!(set.contains(-7) && !set.contains(-8));
        assert_eq!((set.len(), set.get(0), set.get(5)), (5, Some(-7), None));
    }

    proptest! {
        #[test]
        fn is_a_sorted_set(steps in prop::collection::vec(
            (any::<bool>(), prop_oneof![-5i64..5, -70_000i64..70_000, any::<i64>()]), 0..200))
        {
            let mut model = BTreeSet::new();
            let mut set = IntSet::new();
            for (insert, number) in steps {
                if insert {
                    prop_assert_eq!(set.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(set.remove(number), model.remove(&number));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
        }
    }
}
