//! A consumer group: how far it has read, and which entries wait for an acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::id::StreamId;
use crate::time::UnixMillis;

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Whom it was delivered to; one of the group's consumers.
    pub consumer: Arc<[u8]>,
    /// When that was.
    pub delivered_at: UnixMillis,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// When it last asked for anything.
    pub seen_at: UnixMillis,
    /// When it last was given anything.
    pub active_at: Option<UnixMillis>,
    /// The ids that wait for its acknowledgement; each stands in the group's as well.
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// The ids that wait for its acknowledgement.
    #[must_use]
    pub fn pending(&self) -> &BTreeSet<StreamId> {
        &self.pending
    }
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Entries after this one are new to it.
    pub last_id: StreamId,
    /// How many entries it has read, if that is known.
    pub entries_read: Option<i64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: BTreeMap<Arc<[u8]>, Consumer>,
}

impl Group {
    /// A group that goes on after `last_id`.
    #[must_use]
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Self {
        Self { last_id, entries_read, ..Self::default() }
    }

    /// What waits for an acknowledgement, in order.
    #[must_use]
    pub fn pending(&self) -> &BTreeMap<StreamId, Pending> {
        &self.pending
    }

    /// The consumers by name.
    #[must_use]
    pub fn consumers(&self) -> &BTreeMap<Arc<[u8]>, Consumer> {
        &self.consumers
    }

    /// A consumer, to note what it does.
    pub fn consumer_mut(&mut self, name: &[u8]) -> Option<&mut Consumer> {
        self.consumers.get_mut(name)
    }

    /// The consumers by name, to note what they did.
    pub fn consumers_mut(&mut self) -> impl Iterator<Item = &mut Consumer> {
        self.consumers.values_mut()
    }

    /// Makes a consumer; whether there was none of that name.
    pub fn create_consumer(&mut self, name: &[u8], now: UnixMillis) -> bool {
        if self.consumers.contains_key(name) {
            return false;
        }
        let consumer = Consumer { seen_at: now, active_at: None, pending: BTreeSet::new() };
        self.consumers.insert(name.into(), consumer);
        true
    }

    /// Removes a consumer with what waits for it; how much that was, if there was one.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// Whether this entry waits no longer: it did until now.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        true
    }

    /// Gives an entry to a consumer, which must be there, whoever had it.
    pub fn assign(&mut self, id: StreamId, to: &[u8], delivered_at: UnixMillis, deliveries: u64) {
        let Some((name, consumer)) = self.consumers.get_key_value(to) else {
            unreachable!("Invariant: who is given an entry is a consumer of the group");
        };
        let had = consumer.pending.contains(&id);
        let pending = Pending { consumer: Arc::clone(name), delivered_at, deliveries };
        let before = self.pending.insert(id, pending);
        if had {
            return;
        }
        if let Some(before) = before
            && let Some(consumer) = self.consumers.get_mut(&before.consumer)
        {
            consumer.pending.remove(&id);
        }
        if let Some(consumer) = self.consumers.get_mut(to) {
            consumer.pending.insert(id);
        }
    }

    /// Notes that an entry that waits was delivered once more to the same consumer.
    pub fn deliver_again(&mut self, id: StreamId, now: UnixMillis) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.delivered_at = now;
            pending.deliveries = pending.deliveries.saturating_add(1);
        }
    }
}
