//! The entries of a stream: blocks in the order of their first ids, and what was counted.

use std::collections::BTreeMap;

use super::block::{Block, Item};
use super::group::Group;
use super::id::StreamId;
use crate::limits::Limits;

/// A block takes no more than this, whatever the limits say, and no entry does.
pub const BLOCK_LEN_MAX: usize = 1 << 30;

/// When a new block begins.
#[derive(Debug, Clone, Copy)]
pub struct BlockLimits {
    /// Bytes in Redis's layout.
    bytes: usize,
    /// Entries, those that were removed included.
    entries: u64,
}

impl From<&Limits> for BlockLimits {
    fn from(limits: &Limits) -> Self {
        let or_all = |number: i64, all: u64| match u64::try_from(number) {
            Ok(0) | Err(_) => all,
            Ok(number) => number.min(all),
        };
        Self {
            bytes: or_all(limits.stream_node_max_bytes(), BLOCK_LEN_MAX as u64) as usize,
            entries: or_all(limits.stream_node_max_entries(), u64::MAX),
        }
    }
}

/// What a trim leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The last so many entries.
    Newest(u64),
    /// Entries from this id on.
    From(StreamId),
}

/// How a stream is trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// What is left.
    pub keep: Keep,
    /// Only whole blocks go.
    pub whole_blocks: bool,
    /// No more than so many entries go; 0 for any number.
    pub limit: u64,
}

/// The entries of a stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entries {
    /// By first id. Invariant: each holds an entry that stands.
    blocks: BTreeMap<StreamId, Block>,
    len: u64,
    first_id: StreamId,
    /// The greatest id there ever was; new ones are greater.
    pub last_id: StreamId,
    /// The greatest id that XDEL removed.
    pub max_deleted_id: StreamId,
    /// How many were ever added.
    pub added: u64,
}

impl Entries {
    /// Entries with their counts, as files have them; `None` if a block begins before the one in
    /// front of it ends. Counts and the last id are raised to what the entries need.
    #[must_use]
    pub fn from_blocks(
        blocks: impl IntoIterator<Item = (StreamId, Block)>,
        last_id: StreamId,
        max_deleted_id: StreamId,
        added: u64,
    ) -> Option<Self> {
        let mut made = Self { last_id, max_deleted_id, added, ..Self::default() };
        let mut before = None;
        for (first, block) in blocks {
            if before.is_some_and(|before| first <= before) {
                return None;
            }
            before = Some(block.items(first).next_back().map_or(first, |item| item.id));
            if block.live() > 0 {
                made.len += block.live();
                made.blocks.insert(first, block);
            }
        }
        made.last_id = before.map_or(last_id, |before| last_id.max(before));
        made.added = added.max(made.len);
        made.find_first();
        Some(made)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The id of the first entry; the least id if there is none.
    #[must_use]
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The blocks with their first ids.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = (StreamId, &Block)> {
        self.blocks.iter().map(|(first, block)| (*first, block))
    }

    /// The id an entry gets at this time.
    #[must_use]
    pub fn next_id(&self, now_ms: u64) -> Option<StreamId> {
        if now_ms > self.last_id.ms {
            return Some(StreamId::new(now_ms, 0));
        }
        self.last_id.next()
    }

    /// The id that an entry of this very millisecond gets, which may be too late.
    #[must_use]
    pub fn next_id_within(&self, ms: u64) -> Option<StreamId> {
        if ms == self.last_id.ms {
            return Some(StreamId::new(ms, self.last_id.seq.checked_add(1)?));
        }
        Some(StreamId::new(ms, 0)).filter(|id| *id > self.last_id)
    }

    /// Appends an entry whose id is greater than all before: fields and values in turn.
    pub fn add(&mut self, id: StreamId, fields: &[&[u8]], limits: BlockLimits) {
        debug_assert!(id > self.last_id, "Invariant: ids ascend");
        let more: usize = fields.iter().map(|text| text.len()).sum();
        match self.blocks.last_entry() {
            Some(mut entry)
                if entry.get().redis_len() + more < limits.bytes
                    && entry.get().len() < limits.entries =>
            {
                let first = *entry.key();
                entry.get_mut().append(first, id, fields);
            }
            full => {
                if let Some(mut full) = full {
                    full.get_mut().close();
                }
                let mut block = Block::new(fields);
                block.append(id, id, fields);
                self.blocks.insert(id, block);
            }
        }
        self.last_id = id;
        // A file may claim any number.
        self.added = self.added.wrapping_add(1);
        self.len += 1;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    /// The entries between two ids, both included, in order.
    pub fn range(&self, from: StreamId, to: StreamId) -> impl Iterator<Item = Item<'_>> {
        let first = self.block_of(from);
        self.blocks
            .range(first..=to.max(first))
            .flat_map(|(first, block)| block.items(*first))
            .skip_while(move |item| item.id < from)
            .take_while(move |item| item.id <= to)
            .filter(|item| !item.deleted)
    }

    /// As [`Self::range`], from the end.
    pub fn range_back(&self, from: StreamId, to: StreamId) -> impl Iterator<Item = Item<'_>> {
        let first = self.block_of(from);
        self.blocks
            .range(first..=to.max(first))
            .rev()
            .flat_map(|(first, block)| block.items(*first).rev())
            .skip_while(move |item| item.id > to)
            .take_while(move |item| item.id >= from)
            .filter(|item| !item.deleted)
    }

    /// The first id of the block in which `id` stands, if it does.
    fn block_of(&self, id: StreamId) -> StreamId {
        self.blocks.range(..=id).next_back().map_or(id, |(first, _)| *first)
    }

    /// The entry of an id.
    #[must_use]
    pub fn get(&self, id: StreamId) -> Option<Item<'_>> {
        self.range(id, id).next()
    }

    /// The id of the last entry that stands.
    #[must_use]
    pub fn last_standing(&self) -> Option<StreamId> {
        self.range_back(StreamId::MIN, StreamId::MAX).next().map(|item| item.id)
    }

    /// Removes the entries of these ids; how many there were.
    pub fn delete(&mut self, ids: &[StreamId]) -> u64 {
        let mut gone = 0;
        for id in ids {
            let Some((first, block)) = self.blocks.range_mut(..=*id).next_back() else { continue };
            let first = *first;
            let place = block
                .items(first)
                .take_while(|item| item.id <= *id)
                .find(|item| item.id == *id && !item.deleted)
                .map(|item| item.place());
            let Some(place) = place else { continue };
            block.delete(place);
            if block.live() == 0 {
                self.blocks.remove(&first);
            }
            self.len -= 1;
            self.max_deleted_id = self.max_deleted_id.max(*id);
            gone += 1;
        }
        if gone > 0 {
            self.find_first();
        }
        gone
    }

    /// Removes entries from the beginning; how many went.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut gone = 0;
        while let Some(mut entry) = self.blocks.first_entry() {
            let first = *entry.key();
            let live = entry.get().live();
            if matches!(trim.keep, Keep::Newest(count) if self.len <= count)
                || trim.limit > 0 && gone + live > trim.limit
            {
                break;
            }
            let whole = match trim.keep {
                Keep::Newest(count) => self.len - live >= count,
                Keep::From(id) => {
                    entry.get().items(first).next_back().is_none_or(|last| last.id < id)
                }
            };
            if whole {
                entry.remove();
                self.len -= live;
                gone += live;
                continue;
            }
            if !trim.whole_blocks {
                let surplus = match trim.keep {
                    Keep::Newest(count) => usize::try_from(self.len - count).unwrap_or(usize::MAX),
                    Keep::From(_) => usize::MAX,
                };
                let block = entry.get_mut();
                let places: Vec<_> = block
                    .items(first)
                    .take_while(|item| !matches!(trim.keep, Keep::From(id) if item.id >= id))
                    .filter(|item| !item.deleted)
                    .take(surplus)
                    .map(|item| item.place())
                    .collect();
                places.iter().for_each(|place| block.delete(*place));
                if block.live() == 0 {
                    entry.remove();
                }
                self.len -= places.len() as u64;
                gone += places.len() as u64;
            }
            break;
        }
        if gone > 0 {
            self.find_first();
        }
        gone
    }

    fn find_first(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|item| item.id);
        self.first_id = first.unwrap_or_default();
    }

    /// Whether XDEL removed an entry from `from` on that a reader of the rest would miss.
    fn has_gap_after(&self, from: StreamId) -> bool {
        self.len > 0
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && from <= self.max_deleted_id
    }

    /// How many entries were ever added up to this id, if that can be told.
    #[must_use]
    pub fn added_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.added as i64;
        if added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id || id == self.last_id {
            return Some(added);
        }
        if id > self.last_id {
            return None;
        }
        if self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id {
            let before = added.wrapping_sub(self.len as i64);
            if id < self.first_id {
                return Some(before);
            }
            if id == self.first_id {
                return Some(before.wrapping_add(1));
            }
        }
        None
    }

    /// The count of entries that a group has read once it has read this one.
    #[must_use]
    pub fn read_count_after(&self, group: &Group, id: StreamId) -> Option<i64> {
        match group.entries_read {
            Some(count) if !self.has_gap_after(id) => Some(count.wrapping_add(1)),
            before if self.added == 0 => before,
            _ => self.added_up_to(id),
        }
    }

    /// How many entries a group has yet to read, if that can be told.
    #[must_use]
    pub fn lag_of(&self, group: &Group) -> Option<i64> {
        if self.added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_gap_after(group.last_id) => Some(read),
            _ => self.added_up_to(group.last_id),
        };
        read.map(|read| (self.added as i64).wrapping_sub(read))
    }
}
