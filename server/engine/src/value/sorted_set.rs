//! Sorted sets: members ordered by score, then by their bytes.
//!
//! A few short members stand in one listpack, all else in a `Table`; conversion happens at
//! Redis's limits and only upward. Ranks count from 0 in ascending order. Scores are never NaN,
//! and 0 equals -0.

mod pack;
mod table;
mod tree;

use table::Table;

use super::listpack::{Entry, Iter, LISTPACK_ENTRIES_MAX, Listpack};
use super::members::{Members, content_digest};
use crate::limits::Limits;

/// Bytes of a score.
const SCORE_LEN: usize = size_of::<f64>();

/// Members ordered by score. Never empty while a key holds it.
#[derive(Debug, Clone)]
pub enum SortedSet {
    /// A few short members: `listpack`.
    Pack(Listpack),
    /// Anything else: `skiplist`, as Redis calls it.
    Table(Box<Table>),
}

impl Default for SortedSet {
    fn default() -> Self {
        Self::Pack(Listpack::new())
    }
}

/// A point between two elements.
#[derive(Debug, Clone, Copy)]
pub enum Bound<'a> {
    /// Behind the scores less than this.
    Below(f64),
    /// Behind the scores not greater than this.
    UpTo(f64),
    /// Behind the members less than this, if all scores are equal.
    LexBelow(&'a [u8]),
    /// Behind the members not greater than this, if all scores are equal.
    LexUpTo(&'a [u8]),
    /// Right before this score and member.
    Element(f64, &'a [u8]),
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The least score.
    Ascending,
    /// The greatest.
    Descending,
}

/// What [`SortedSet::upsert`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Upsert {
    /// The member is new.
    Added,
    /// It has another score now.
    Changed,
    /// It was there and stays as it was.
    Kept,
}

/// A threshold as a count; nothing fits a negative one.
fn limit(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

impl SortedSet {
    /// An empty set, encoded for about `count` members of about `member_len` bytes.
    #[must_use]
    pub fn for_members(count: usize, member_len: usize, limits: &Limits) -> Self {
        if count <= limit(limits.zset_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2)
            && member_len <= limit(limits.zset_max_listpack_value())
        {
            Self::default()
        } else {
            Self::Table(Box::new(Table::with_capacity(count)))
        }
    }

    /// Prepares for `count` members to be added.
    pub fn expect(&mut self, count: usize, limits: &Limits) {
        if count > limit(limits.zset_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2) {
            self.become_table(count);
        }
    }

    /// How many members there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Pack(pack) => pack.len() / 2,
            Self::Table(table) => table.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member's score.
    #[inline]
    #[must_use]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Pack(pack) => pack::find(pack, member).map(|(_, score)| score),
            Self::Table(table) => table.score(member),
        }
    }

    /// Adds a member with this score; one that is there gets the score that `change` makes of
    /// its present one, if any.
    pub fn upsert(
        &mut self,
        member: &[u8],
        score: f64,
        limits: &Limits,
        change: impl FnOnce(f64) -> Option<f64>,
    ) -> Upsert {
        if let Self::Pack(pack) = self {
            if let Some((index, before)) = pack::find(pack, member) {
                let Some(after) = change(before) else {
                    return Upsert::Kept;
                };
                pack.remove_range(index, 2);
                pack::insert(pack, member, after);
                return Upsert::Changed;
            }
            if self.len() < limit(limits.zset_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2)
                && member.len() <= limit(limits.zset_max_listpack_value())
                && let Self::Pack(pack) = self
                && pack.has_room_for(member.len() + 2 * SCORE_LEN)
            {
                pack::insert(pack, member, score);
                return Upsert::Added;
            }
        }
        let mut done = Upsert::Added;
        self.become_table(self.len() + 1).upsert(member, score, |before| {
            let after = change(before);
            done = if after.is_some() { Upsert::Changed } else { Upsert::Kept };
            after
        });
        done
    }

    fn become_table(&mut self, count: usize) -> &mut Table {
        if let Self::Pack(pack) = self {
            let mut members = Members::with_capacity(count.max(pack.len() / 2));
            for (member, score) in pack::elements(pack) {
                members.insert(member.text(&mut itoa::Buffer::new()), score.to_le_bytes());
            }
            *self = Self::Table(Box::new(Table::from_members(members)));
        }
        match self {
            Self::Table(table) => table,
            Self::Pack(_) => unreachable!("Invariant: it has just become a table"),
        }
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Self::Pack(pack) => match pack::find(pack, member) {
                Some((index, _)) => {
                    pack.remove_range(index, 2);
                    true
                }
                None => false,
            },
            Self::Table(table) => table.remove(member),
        }
    }

    /// Removes `count` elements from rank `start` on, all of which must be there.
    pub fn remove_range(&mut self, start: usize, count: usize) {
        match self {
            Self::Pack(pack) => pack.remove_range(2 * start, 2 * count),
            Self::Table(table) => table.remove_range(start, count),
        }
    }

    /// How many elements stand before `bound`.
    #[must_use]
    pub fn rank(&self, bound: Bound<'_>) -> usize {
        match self {
            Self::Pack(pack) => pack::rank(pack, bound),
            Self::Table(table) => table.rank(bound),
        }
    }

    /// The element of this rank.
    #[must_use]
    pub fn get(&self, rank: usize) -> Option<(Entry<'_>, f64)> {
        if rank >= self.len() {
            return None;
        }
        match self {
            Self::Pack(pack) => {
                let score = pack.get(2 * rank + 1).map(pack::score_of)?;
                Some((pack.get(2 * rank)?, score))
            }
            Self::Table(table) => {
                let (member, score) = table.at(rank);
                Some((Entry::Bytes(member), score))
            }
        }
    }

    /// Visits `count` elements from rank `start` on in either direction; all must be there.
    pub fn visit(
        &self,
        start: usize,
        count: usize,
        direction: Direction,
        mut found: impl FnMut(Entry<'_>, f64),
    ) {
        if count == 0 {
            return;
        }
        match (self, direction) {
            (Self::Pack(pack), Direction::Ascending) => {
                let mut entries: Iter<'_> = pack.iter_from(2 * start);
                for _ in 0..count {
                    if let (Some(member), Some(score)) = (entries.next(), entries.next()) {
                        found(member, pack::score_of(score));
                    }
                }
            }
            (Self::Pack(pack), Direction::Descending) => {
                let mut entries = pack.iter();
                for _ in 0..2 * (self.len() - 1 - start) {
                    entries.next_back();
                }
                for _ in 0..count {
                    if let (Some(score), Some(member)) = (entries.next_back(), entries.next_back())
                    {
                        found(member, pack::score_of(score));
                    }
                }
            }
            (Self::Table(table), Direction::Ascending) => table
                .ascend(start)
                .take(count)
                .for_each(|(member, score)| found(Entry::Bytes(member), score)),
            (Self::Table(table), Direction::Descending) => table
                .descend(start)
                .take(count)
                .for_each(|(member, score)| found(Entry::Bytes(member), score)),
        }
    }

    /// Visits all elements in ascending order.
    pub fn for_each(&self, found: impl FnMut(Entry<'_>, f64)) {
        self.visit(0, self.len(), Direction::Ascending, found);
    }

    /// Visits elements from `cursor` on, about `count` of them, and returns where to go on; 0 at
    /// the end. The small encoding gives all at once. A member that is there throughout a scan
    /// is visited, whatever comes and goes.
    pub fn scan(&self, cursor: u64, count: usize, mut found: impl FnMut(Entry<'_>, f64)) -> u64 {
        match self {
            Self::Pack(_) => {
                self.for_each(found);
                0
            }
            Self::Table(table) => table.scan(cursor, count, |member, score| {
                found(Entry::Bytes(member), score);
            }),
        }
    }

    /// The name OBJECT ENCODING gives.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Pack(_) => "listpack",
            Self::Table(_) => "skiplist",
        }
    }

    /// Feeds the content to `hasher`; equal content feeds equal bytes whatever the encoding.
    pub fn digest(&self, hasher: &mut impl std::hash::Hasher) {
        self.for_each(|member, score| {
            // 0 and -0 are one score.
            let bits = (score + 0.0).to_bits();
            let text = &mut itoa::Buffer::new();
            hasher.write_u64(content_digest(member.text(text), bits));
        });
        hasher.write_usize(self.len());
    }

    /// About how many steps freeing it takes.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        match self {
            Self::Pack(_) => 1,
            Self::Table(table) => table.len(),
        }
    }

    /// Bytes on the heap, about.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        match self {
            Self::Pack(pack) => pack.memory_len(),
            Self::Table(table) => size_of::<Table>() + table.memory_len(),
        }
    }
}

impl PartialEq for SortedSet {
    fn eq(&self, other: &Self) -> bool {
        let mut equal = self.len() == other.len();
        self.for_each(|member, score| {
            let text = &mut itoa::Buffer::new();
            equal = equal && other.score(member.text(text)) == Some(score);
        });
        equal
    }
}

/// Collects elements in any order, a member once, and sorts them at the end: how the results of
/// ZUNION and its kin are made.
#[derive(Debug, Default)]
pub struct Accumulator {
    members: Members<SCORE_LEN>,
}

impl Accumulator {
    /// Nothing yet, with room for `count` members.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self { members: Members::with_capacity(count) }
    }

    /// Adds a member, or combines its score with the one it has.
    pub fn merge(&mut self, member: Entry<'_>, score: f64, combine: impl FnOnce(f64) -> f64) {
        let text = &mut itoa::Buffer::new();
        let (handle, new) = self.members.insert(member.text(text), score.to_le_bytes());
        if !new {
            let before = f64::from_le_bytes(self.members.owned(handle));
            self.members.set_owned(handle, combine(before).to_le_bytes());
        }
    }

    /// Removes a member if it is there.
    pub fn remove(&mut self, member: Entry<'_>) {
        let text = &mut itoa::Buffer::new();
        if let Some(handle) = self.members.find(member.text(text)) {
            self.members.remove(handle);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.len() == 0
    }

    /// The sorted set of what was collected, to be answered and dropped: -0 stays -0, which the
    /// small encoding would make 0.
    #[must_use]
    pub fn finish_large(self) -> SortedSet {
        SortedSet::Table(Box::new(Table::from_members(self.members)))
    }

    /// The sorted set of what was collected in the small encoding, where it fits its format.
    #[must_use]
    pub fn finish_compact(self) -> SortedSet {
        compact(Table::from_members(self.members))
    }

    /// The sorted set of what was collected, in the encoding that its size asks for.
    #[must_use]
    pub fn finish(self, limits: &Limits) -> SortedSet {
        let mut longest = 0;
        self.members.scan(0, usize::MAX, |handle| {
            longest = longest.max(self.members.member(handle).len());
        });
        let small = self.len()
            <= limit(limits.zset_max_listpack_entries()).min(LISTPACK_ENTRIES_MAX / 2)
            && longest <= limit(limits.zset_max_listpack_value());
        let table = Table::from_members(self.members);
        if !small {
            return SortedSet::Table(Box::new(table));
        }
        compact(table)
    }
}

/// The small encoding of a table, where it fits its format.
fn compact(table: Table) -> SortedSet {
    let mut pack = Listpack::new();
    let fits = table.ascend(0).all(|(member, score)| {
        let fits = pack.has_room_for(member.len() + 4 * SCORE_LEN);
        if fits {
            pack.push_back(member);
            pack.push_back_packed(&pack::PackedScore::new(score).packed());
        }
        fits
    });
    if !fits {
        return SortedSet::Table(Box::new(table));
    }
    pack.shrink_to_fit();
    SortedSet::Pack(pack)
}

#[cfg(test)]
mod tests;
