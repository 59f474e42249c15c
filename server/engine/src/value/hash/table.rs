//! The table of a large hash: pairs in order of insertion, found through an index of places.
//!
//! A field and its value share one allocation. The index keeps half of each field's hash, so
//! that it grows without touching the pairs and a search touches no pair that differs.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::FieldSet;
use crate::collections::HiddenState;

/// Seeded per process, against fields chosen to collide. Nothing shows it: the order of
/// everything is that of the pairs.
static HASHER: LazyLock<HiddenState> = LazyLock::new(HiddenState::default);

fn half_hash(field: &[u8]) -> u32 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(field);
    hasher.finish() as u32
}

/// The index takes its tags from the top and its places from the bottom of a hash.
#[inline]
fn whole(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A field and its value: the field's length (seven bits per byte, least first), field, value.
#[derive(Clone)]
struct Pair(Box<[u8]>);

impl Pair {
    fn new(field: &[u8], value: &[u8]) -> Self {
        let mut len = field.len();
        let mut prefix = [0u8; 10];
        let mut prefix_len = 0;
        loop {
            let more = len >= 0x80;
            prefix[prefix_len] = (len & 0x7f) as u8 | if more { 0x80 } else { 0 };
            prefix_len += 1;
            len >>= 7;
            if !more {
                break;
            }
        }
        Self([&prefix[..prefix_len], field, value].concat().into())
    }

    #[inline]
    fn split(&self) -> (&[u8], &[u8]) {
        let (mut len, mut at) = (0usize, 0);
        loop {
            let byte = self.0[at];
            len |= usize::from(byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        self.0[at..].split_at(len)
    }

    #[inline]
    fn field(&self) -> &[u8] {
        self.split().0
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    pair: u32,
    half_hash: u32,
}

/// Pairs in order of insertion; a removal puts the last pair in the hole.
#[derive(Clone, Default)]
pub struct Table {
    places: HashTable<Place>,
    pairs: Vec<Pair>,
}

impl Table {
    /// An empty table with room for `fields`.
    #[must_use]
    pub fn with_capacity(fields: usize) -> Self {
        Self { places: HashTable::with_capacity(fields), pairs: Vec::with_capacity(fields) }
    }

    /// Number of pairs.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of a field.
    #[inline]
    #[must_use]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        let half_hash = half_hash(field);
        let pairs = &self.pairs;
        let place = self.places.find(whole(half_hash), |place| {
            place.half_hash == half_hash && pairs[place.pair as usize].field() == field
        })?;
        Some(self.pairs[place.pair as usize].split().1)
    }

    /// The pair at a place.
    #[inline]
    #[must_use]
    pub fn at(&self, place: usize) -> Option<(&[u8], &[u8])> {
        self.pairs.get(place).map(Pair::split)
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(Pair::split)
    }

    /// Sets a field.
    ///
    /// # Panics
    /// Panics at more than 2^32 fields.
    pub fn insert(&mut self, field: &[u8], value: &[u8]) -> FieldSet {
        let half_hash = half_hash(field);
        let pairs = &mut self.pairs;
        let entry = self.places.entry(
            whole(half_hash),
            |place| place.half_hash == half_hash && pairs[place.pair as usize].field() == field,
            |place| whole(place.half_hash),
        );
        match entry {
            Entry::Occupied(entry) => {
                let pair = &mut pairs[entry.get().pair as usize];
                let old = pair.split().1.len();
                if old == value.len() {
                    let at = pair.0.len() - old;
                    pair.0[at..].copy_from_slice(value);
                } else {
                    *pair = Pair::new(field, value);
                }
                FieldSet::Replaced
            }
            Entry::Vacant(entry) => {
                let Ok(pair) = u32::try_from(pairs.len()) else {
                    panic!("Invariant: a hash holds fewer than 2^32 fields")
                };
                entry.insert(Place { pair, half_hash });
                pairs.push(Pair::new(field, value));
                FieldSet::Created
            }
        }
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let half_hash = half_hash(field);
        let pairs = &self.pairs;
        let Ok(entry) = self.places.find_entry(whole(half_hash), |place| {
            place.half_hash == half_hash && pairs[place.pair as usize].field() == field
        }) else {
            return false;
        };
        let (Place { pair: hole, .. }, _) = entry.remove();
        self.pairs.swap_remove(hole as usize);
        if let Some(moved) = self.pairs.get(hole as usize) {
            let half_hash = self::half_hash(moved.field());
            let from = self.pairs.len() as u32;
            if let Some(place) = self.places.find_mut(whole(half_hash), |place| place.pair == from)
            {
                place.pair = hole;
            }
        }
        self.shrink_if_sparse();
        true
    }

    fn shrink_if_sparse(&mut self) {
        /// Below this nothing is worth a move.
        const SMALL: usize = 64;
        if self.pairs.capacity() > SMALL && self.pairs.len() < self.pairs.capacity() / 8 {
            let room = self.pairs.len() * 2;
            self.pairs.shrink_to(room);
            self.places.shrink_to(room, |place| whole(place.half_hash));
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.pairs.capacity() * size_of::<Pair>()
            + self.places.capacity() * 8 / 7 * (size_of::<Place>() + 1)
            + self.pairs.iter().map(|pair| pair.0.len()).sum::<usize>()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(field, value)| (text(field), text(value)))).finish()
    }
}
