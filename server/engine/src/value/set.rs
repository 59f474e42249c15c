//! Sets: distinct members, in the encodings OBJECT ENCODING names.
//!
//! Integers alone stand in an [`IntSet`], a few short members in a [`Listpack`], all else in a
//! `Table`. Conversion happens at Redis 7.2's limits and only upward. The order of iteration
//! depends on nothing but the commands that built the set: ascending, or the order of insertion
//! in which a removal puts the last member in the place of the removed one.

mod table;

use table::Table;

use super::integer_text;
use super::intset::IntSet;
pub use super::listpack::Entry;
use super::listpack::{LISTPACK_ENTRIES_MAX, Listpack, Packed};
use super::members::content_digest;
use crate::limits::Limits;

/// Distinct members. Never empty while a key holds it.
///
/// Its tag is one byte, so that a short lock fits beside it in an object of 32 bytes.
#[derive(Debug, Clone)]
#[repr(u8)]
pub enum Set {
    /// Integers only, ascending: `intset`.
    Ints(IntSet),
    /// A few short members: `listpack`.
    Pack(Listpack),
    /// Anything else: `hashtable`.
    Table(Box<Table>),
}

impl Default for Set {
    fn default() -> Self {
        Self::Ints(IntSet::new())
    }
}

/// A threshold as a count; nothing fits a negative one.
fn bound(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

/// Most integers in an intset, whatever CONFIG says.
fn intset_max(limits: &Limits) -> usize {
    /// A set beyond this would move gigabytes on an insertion.
    const HARD_MAX: usize = 1 << 30;
    bound(limits.set_max_intset_entries()).min(HARD_MAX)
}

impl Set {
    /// An empty set, encoded for about `count` members of which `first` is one.
    #[must_use]
    pub fn for_members(first: &[u8], count: usize, limits: &Limits) -> Self {
        if count <= intset_max(limits)
            && let Some(number) = integer_text(first)
        {
            Self::Ints(IntSet::with_capacity(count, number))
        } else if count <= bound(limits.set_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2) {
            Self::Pack(Listpack::new())
        } else {
            Self::Table(Box::new(Table::with_capacity(count)))
        }
    }

    /// An empty set in the large encoding, with room for `count` members: for results.
    #[must_use]
    pub fn hashed(count: usize) -> Self {
        Self::Table(Box::new(Table::with_capacity(count)))
    }

    /// Prepares for `count` members to be added.
    pub fn expect(&mut self, count: usize, limits: &Limits) {
        let too_many = match self {
            Self::Ints(_) => count > intset_max(limits),
            Self::Pack(_) => {
                count > bound(limits.set_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2)
            }
            Self::Table(_) => false,
        };
        if too_many {
            self.become_table(count);
        }
    }

    /// How many members there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(ints) => ints.len(),
            Self::Pack(pack) => pack.len(),
            Self::Table(table) => table.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is one.
    #[inline]
    #[must_use]
    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            Self::Ints(ints) => integer_text(member).is_some_and(|number| ints.contains(number)),
            Self::Pack(pack) => pack.find(&Packed::new(member), 0, 1).is_some(),
            Self::Table(table) => table.contains(member),
        }
    }

    /// Whether a member of another set is one of this.
    #[inline]
    #[must_use]
    pub fn contains_entry(&self, member: Entry<'_>) -> bool {
        match (self, member) {
            (_, Entry::Bytes(bytes)) => self.contains(bytes),
            (Self::Ints(ints), Entry::Integer(number)) => ints.contains(number),
            (Self::Pack(pack), Entry::Integer(number)) => {
                pack.find(&Packed::integer(number), 0, 1).is_some()
            }
            (Self::Table(table), entry) => table.contains(entry.text(&mut itoa::Buffer::new())),
        }
    }

    /// Adds a member; whether it was not there.
    #[inline]
    pub fn insert(&mut self, member: &[u8], limits: &Limits) -> bool {
        match self {
            Self::Table(table) => table.insert(member),
            Self::Pack(pack) => {
                let packed = Packed::new(member);
                if pack.find(&packed, 0, 1).is_some() {
                    return false;
                }
                if pack.len()
                    < bound(limits.set_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2)
                    && member.len() <= bound(limits.set_max_listpack_value())
                    && pack.has_room_for(packed.packed_len())
                {
                    pack.push_back_packed(&packed);
                } else {
                    self.become_table(self.len() + 1).insert(member);
                }
                true
            }
            Self::Ints(ints) => match integer_text(member) {
                Some(number) => {
                    let added = ints.insert(number);
                    if added && ints.len() > intset_max(limits) {
                        self.become_table(self.len());
                    }
                    added
                }
                None => {
                    self.leave_ints(member, limits);
                    true
                }
            },
        }
    }

    /// Adds a member of another set; whether it was not there.
    #[inline]
    pub fn insert_entry(&mut self, member: Entry<'_>, limits: &Limits) -> bool {
        self.insert(member.text(&mut itoa::Buffer::new()), limits)
    }

    /// Adds the first member that is no integer.
    #[cold]
    fn leave_ints(&mut self, member: &[u8], limits: &Limits) {
        let Self::Ints(ints) = self else { return };
        // Redis asks whether the longest integer would be too long for a listpack, too.
        let digits = [ints.get(0), ints.iter().next_back()]
            .into_iter()
            .flatten()
            .map(|number| itoa::Buffer::new().format(number).len())
            .max();
        let value_max = bound(limits.set_max_listpack_value());
        if ints.len() < bound(limits.set_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2)
            && member.len() <= value_max
            && digits.unwrap_or(0) <= value_max
        {
            let mut pack = Listpack::new();
            for number in ints.iter() {
                pack.push_back_packed(&Packed::integer(number));
            }
            pack.push_back(member);
            pack.shrink_to_fit();
            *self = Self::Pack(pack);
        } else {
            self.become_table(self.len() + 1).insert(member);
        }
    }

    /// Moves all members to a table with room for `count`.
    fn become_table(&mut self, count: usize) -> &mut Table {
        if !matches!(self, Self::Table(_)) {
            let mut table = Table::with_capacity(count.max(self.len()));
            for member in self.iter() {
                table.insert(member.text(&mut itoa::Buffer::new()));
            }
            *self = Self::Table(Box::new(table));
        }
        match self {
            Self::Table(table) => table,
            _ => unreachable!("Invariant: it has just become a table"),
        }
    }

    /// The encoding of a result that SINTERSTORE has built: an intset where that is possible.
    pub fn prefer_ints(&mut self, limits: &Limits) {
        if matches!(self, Self::Ints(_)) || self.len() > intset_max(limits) {
            return;
        }
        let numbers: Option<Vec<i64>> = self
            .iter()
            .map(|member| match member {
                Entry::Integer(number) => Some(number),
                Entry::Bytes(bytes) => integer_text(bytes),
            })
            .collect();
        if let Some(mut numbers) = numbers {
            numbers.sort_unstable();
            *self = Self::Ints(numbers.into_iter().collect());
        }
    }

    /// Removes a member; whether it was there.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Self::Ints(ints) => integer_text(member).is_some_and(|number| ints.remove(number)),
            Self::Pack(pack) => match pack.find(&Packed::new(member), 0, 1) {
                Some(index) => {
                    pack.remove(index);
                    true
                }
                None => false,
            },
            Self::Table(table) => table.remove(member),
        }
    }

    /// The member at `index` in the order of iteration; for a random one.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Entry<'_>> {
        match self {
            Self::Ints(ints) => ints.get(index).map(Entry::Integer),
            Self::Pack(pack) => pack.get(index),
            Self::Table(table) => table.get(index).map(Entry::Bytes),
        }
    }

    /// Removes the member at `index`, which must be there.
    pub fn remove_at(&mut self, index: usize) {
        match self {
            Self::Ints(ints) => ints.remove_at(index),
            Self::Pack(pack) => pack.remove(index),
            Self::Table(table) => table.remove_at(index),
        }
    }

    /// The members.
    #[must_use]
    pub fn iter(&self) -> Members<'_> {
        Members {
            set: self,
            next: 0,
            pack: match self {
                Self::Pack(pack) => Some(pack.iter()),
                _ => None,
            },
        }
    }

    /// Visits members from `cursor` on, about `count` of them, and returns where to go on; 0 at
    /// the end. The small encodings give all at once. A member that is there throughout a scan
    /// is visited, whatever comes and goes.
    pub fn scan(&self, cursor: u64, count: usize, mut found: impl FnMut(Entry<'_>)) -> u64 {
        match self {
            Self::Table(table) => table.scan(cursor, count, |member| found(Entry::Bytes(member))),
            _ => {
                self.iter().for_each(found);
                0
            }
        }
    }

    /// The name OBJECT ENCODING gives.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Ints(_) => "intset",
            Self::Pack(_) => "listpack",
            Self::Table(_) => "hashtable",
        }
    }

    /// Feeds the content to `hasher`; equal content feeds equal bytes whatever the encoding.
    pub fn digest(&self, hasher: &mut impl std::hash::Hasher) {
        let sum = self.iter().fold(0u64, |sum, member| {
            sum.wrapping_add(content_digest(member.text(&mut itoa::Buffer::new()), 0))
        });
        hasher.write_u64(sum);
        hasher.write_usize(self.len());
    }

    /// About how many steps freeing it takes.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        match self {
            Self::Table(table) => table.len(),
            _ => 1,
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        match self {
            Self::Ints(ints) => ints.memory_len(),
            Self::Pack(pack) => pack.memory_len(),
            Self::Table(table) => size_of::<Table>() + table.memory_len(),
        }
    }
}

/// The members of a set, in its order.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    set: &'a Set,
    next: usize,
    /// A listpack is walked, for finding an entry by its index takes a walk.
    pack: Option<super::listpack::Iter<'a>>,
}

impl<'a> Iterator for Members<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        if let Some(pack) = &mut self.pack {
            return pack.next();
        }
        let member = self.set.get(self.next)?;
        self.next += 1;
        Some(member)
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|member| other.contains_entry(member))
    }
}

#[cfg(test)]
mod tests;
