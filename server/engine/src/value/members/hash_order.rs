//! A hash table whose slots stand in the order of hashes.
//!
//! Linear probing with the home of a hash at `hash × slots ÷ 2³²` and neighbours kept sorted by
//! hash. So a search ends at the first larger hash, growth is one pass over the old slots into
//! the new ones (no member is hashed or even touched), and a scan's cursor is a hash.

use super::Handle;

/// `hash << 32 | handle`; 0 is free, for no handle is 0.
type Slot = u64;

/// Fewest slots of a table that is not empty.
const SLOTS_MIN: usize = 16;

/// Handles by hash.
#[derive(Debug, Clone, Default)]
pub(super) struct HashOrder {
    /// `homes` slots, then those that the last of them pushed beyond.
    ///
    /// Invariant: the taken slots are sorted by hash, none stands before its home, and none
    /// is free between a home and what belongs there.
    slots: Vec<Slot>,
    homes: usize,
    len: usize,
}

#[inline]
fn hash(slot: Slot) -> u32 {
    (slot >> 32) as u32
}

#[inline]
fn handle(slot: Slot) -> Handle {
    Handle(slot as u32)
}

impl HashOrder {
    pub(super) fn with_capacity(count: usize) -> Self {
        let mut order = Self::default();
        if count > 0 {
            order.rebuild(count + count / 2);
        }
        order
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.homes as u64) >> 32) as usize
    }

    /// The handle of this hash that `is_it` recognises.
    #[inline]
    pub(super) fn find(
        &self,
        wanted: u32,
        mut is_it: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        for &slot in self.slots.get(self.home(wanted)..)? {
            if slot == 0 || hash(slot) > wanted {
                return None;
            }
            if hash(slot) == wanted && is_it(handle(slot)) {
                return Some(handle(slot));
            }
        }
        None
    }

    /// Adds a handle that is not there.
    pub(super) fn insert(&mut self, wanted: u32, handle: Handle) {
        // At 13/16 a search looks at three neighbours, all in one line or two of the cache.
        if self.len * 16 >= self.homes * 13 {
            self.rebuild(self.homes + self.homes / 2);
        }
        self.len += 1;
        let slot = u64::from(wanted) << 32 | u64::from(handle.0);
        let mut at = self.home(wanted);
        while self
            .slots
            .get(at)
            .is_some_and(|other| *other != 0 && hash(*other) <= wanted)
        {
            at += 1;
        }
        let taken = self.slots.get(at..).unwrap_or_default();
        match taken.iter().position(|other| *other == 0) {
            Some(run) => {
                self.slots.copy_within(at..at + run, at + 1);
                self.slots[at] = slot;
            }
            None => self.slots.insert(at, slot),
        }
    }

    /// Removes a handle that is there.
    pub(super) fn remove(&mut self, wanted: u32, handle: Handle) {
        let slot = u64::from(wanted) << 32 | u64::from(handle.0);
        let home = self.home(wanted);
        let Some(distance) = self.slots[home..].iter().position(|other| *other == slot) else {
            debug_assert!(false, "Invariant: a kept member has its slot");
            return;
        };
        let at = home + distance;
        // What was pushed beyond its home moves back by one.
        let mut end = at + 1;
        while self
            .slots
            .get(end)
            .is_some_and(|other| *other != 0 && self.home(hash(*other)) < end)
        {
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        self.slots[end - 1] = 0;
        self.len -= 1;
        if self.homes > SLOTS_MIN && self.len * 8 < self.homes {
            self.rebuild(self.len * 2);
        }
    }

    #[cold]
    fn rebuild(&mut self, homes: usize) {
        let old = std::mem::take(&mut self.slots);
        self.homes = homes.max(SLOTS_MIN);
        self.slots = vec![0; self.homes];
        let mut free = 0;
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let at = free.max(self.home(hash(slot)));
            match self.slots.get_mut(at) {
                Some(place) => *place = slot,
                None => self.slots.push(slot),
            }
            free = at + 1;
        }
    }

    pub(super) fn scan(&self, cursor: u64, count: usize, mut found: impl FnMut(Handle)) -> u64 {
        let Ok(from) = u32::try_from(cursor) else {
            return 0;
        };
        let mut visited = 0;
        let mut last = from;
        for &slot in self.slots.get(self.home(from)..).unwrap_or_default() {
            if slot == 0 || hash(slot) < from {
                continue;
            }
            // Members of one hash stay together, for the cursor cannot tell them apart.
            if visited >= count && hash(slot) != last {
                return u64::from(hash(slot));
            }
            found(handle(slot));
            visited += 1;
            last = hash(slot);
        }
        0
    }

    pub(super) fn memory_len(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}
