//! Streams: entries by ascending id, and groups of consumers that share them.
//!
//! Entries stand in blocks of some hundred, each one allocation in the layout of Redis's
//! listpacks ([`block`]), in a tree by first id ([`entries`]): an append touches the last block, a
//! search walks one. The layout is Redis's because it can be seen: `XTRIM ~` removes whole
//! blocks, and files carry them as they are.

pub mod block;
pub mod element;
pub mod entries;
pub mod group;
mod id;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::Hasher;

pub use entries::{BlockLimits, Entries, Keep, Trim};
pub use group::Group;
pub use id::StreamId;

/// A stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stream {
    /// Its entries.
    pub entries: Entries,
    /// Its groups by name.
    pub groups: BTreeMap<Box<[u8]>, Group>,
}

/// Bytes that a tree takes for a key and a value of these bytes, about: nodes are two thirds full.
const fn tree_len(count: usize, each: usize) -> usize {
    count * each * 3 / 2
}

impl Stream {
    /// As `Object::digest`. When consumers were last seen is left out: asking and being given
    /// nothing is no change.
    pub fn digest(&self, hasher: &mut impl Hasher) {
        let id = |id: StreamId, hasher: &mut dyn Hasher| hasher.write(&id.to_bytes());
        let text = |text: &[u8], hasher: &mut dyn Hasher| {
            hasher.write_usize(text.len());
            hasher.write(text);
        };
        let entries = &self.entries;
        for told in [entries.last_id, entries.max_deleted_id] {
            id(told, hasher);
        }
        hasher.write_u64(entries.added);
        for (first, block) in entries.blocks() {
            hasher.write_u64(block.live());
            hasher.write_u64(block.len());
            for item in block.items(first).filter(|item| !item.deleted) {
                id(item.id, hasher);
                let room = &mut itoa::Buffer::new();
                for (field, value) in item.fields {
                    text(field.text(room), hasher);
                    text(value.text(room), hasher);
                }
            }
        }
        for (name, group) in &self.groups {
            text(name, hasher);
            id(group.last_id, hasher);
            hasher.write_i64(group.entries_read.unwrap_or(-1));
            for (pending_id, pending) in group.pending() {
                id(*pending_id, hasher);
                text(&pending.consumer, hasher);
                hasher.write_i64(pending.delivered_at.0);
                hasher.write_u64(pending.deliveries);
            }
            for (name, consumer) in group.consumers() {
                text(name, hasher);
                hasher.write_i64(consumer.active_at.map_or(-1, |at| at.0));
            }
        }
    }

    /// As `Object::free_effort`.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        let groups = self.groups.values();
        self.entries.blocks().len()
            + groups.map(|group| group.pending().len() + group.consumers().len()).sum::<usize>()
    }

    /// As `Object::memory_len`.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        /// A block, its first id and what an allocation costs.
        const BLOCK: usize = size_of::<block::Block>() + size_of::<StreamId>() + 16;
        /// A pending entry in both trees.
        const PENDING: usize = size_of::<group::Pending>() + 2 * size_of::<StreamId>();
        /// A consumer, its name's place and two allocations.
        const CONSUMER: usize = size_of::<group::Consumer>() + 48;
        const GROUP: usize = size_of::<Group>() + 32;
        let blocks = self.entries.blocks();
        let mut len = size_of::<Self>() + tree_len(blocks.len(), BLOCK);
        len += blocks.map(|(_, block)| block.memory_len()).sum::<usize>();
        for (name, group) in &self.groups {
            len += tree_len(1, GROUP) + name.len();
            len += tree_len(group.pending().len(), PENDING);
            len += tree_len(group.consumers().len(), CONSUMER);
            len += group.consumers().keys().map(|name| name.len()).sum::<usize>();
        }
        len
    }
}
