//! What one client listens to; leaves all of it when dropped.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::registry::{Kind, Registry};
use super::topic::PushSink;

/// What leaving did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The client had subscribed and no longer has.
    Left,
    /// It had not.
    WasNotIn,
}

/// One client's subscriptions; owned by its session.
///
/// Counts are what the confirmations carry. Each name is kept once here and shared with the
/// confirmation's caller, so that UNSUBSCRIBE without arguments can answer for each.
pub struct Subscriptions {
    registry: Arc<Registry>,
    client_id: u64,
    sink: Arc<dyn PushSink>,
    channels: HashSet<Bytes>,
    patterns: HashSet<Bytes>,
    shard_channels: HashSet<Bytes>,
}

impl std::fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriptions").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Subscriptions {
    /// No subscriptions yet. `client_id` is unique among the clients of the registry.
    #[must_use]
    pub fn new(registry: Arc<Registry>, client_id: u64, sink: Arc<dyn PushSink>) -> Self {
        Self {
            registry,
            client_id,
            sink,
            channels: HashSet::new(),
            patterns: HashSet::new(),
            shard_channels: HashSet::new(),
        }
    }

    /// SUBSCRIBE to one channel; `true` if that is new.
    pub fn subscribe(&mut self, channel: &[u8]) -> bool {
        let Some(channel) = insert(&mut self.channels, channel) else {
            return false;
        };
        self.registry.enter(Kind::Channel, &channel, self.client_id, &self.sink);
        true
    }

    /// SSUBSCRIBE to one shard channel; `true` if that is new.
    pub fn subscribe_shard(&mut self, channel: &[u8]) -> bool {
        let Some(channel) = insert(&mut self.shard_channels, channel) else {
            return false;
        };
        self.registry.enter(Kind::ShardChannel, &channel, self.client_id, &self.sink);
        true
    }

    /// PSUBSCRIBE to one pattern; `true` if that is new.
    pub fn subscribe_pattern(&mut self, pattern: &[u8]) -> bool {
        let Some(pattern) = insert(&mut self.patterns, pattern) else {
            return false;
        };
        self.registry.enter_pattern(&pattern, self.client_id, &self.sink);
        true
    }

    /// UNSUBSCRIBE from one channel. When this returns, nothing more of it arrives.
    pub fn unsubscribe(&mut self, channel: &[u8]) -> Left {
        if !self.channels.remove(channel) {
            return Left::WasNotIn;
        }
        self.registry.leave(Kind::Channel, channel, self.client_id);
        Left::Left
    }

    /// SUNSUBSCRIBE from one shard channel.
    pub fn unsubscribe_shard(&mut self, channel: &[u8]) -> Left {
        if !self.shard_channels.remove(channel) {
            return Left::WasNotIn;
        }
        self.registry.leave(Kind::ShardChannel, channel, self.client_id);
        Left::Left
    }

    /// PUNSUBSCRIBE from one pattern.
    pub fn unsubscribe_pattern(&mut self, pattern: &[u8]) -> Left {
        if !self.patterns.remove(pattern) {
            return Left::WasNotIn;
        }
        self.registry.leave_pattern(pattern, self.client_id);
        Left::Left
    }

    /// Leaves everything: RESET, or the client is gone.
    pub fn clear(&mut self) {
        for channel in std::mem::take(&mut self.channels) {
            self.registry.leave(Kind::Channel, &channel, self.client_id);
        }
        for channel in std::mem::take(&mut self.shard_channels) {
            self.registry.leave(Kind::ShardChannel, &channel, self.client_id);
        }
        for pattern in std::mem::take(&mut self.patterns) {
            self.registry.leave_pattern(&pattern, self.client_id);
        }
    }

    /// Channels subscribed to, in no order.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.channels.iter()
    }

    /// Patterns subscribed to, in no order.
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.patterns.iter()
    }

    /// Shard channels subscribed to, in no order.
    pub fn shard_channels(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.shard_channels.iter()
    }

    /// Channels and patterns together: the count of (P)SUBSCRIBE's confirmations.
    #[must_use]
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Shard channels: the count of SSUBSCRIBE's confirmations.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.shard_channels.len()
    }

    /// Whether there is none at all: a RESP2 client may use all commands again.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() + self.shard_count() == 0
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Adds a copy of `name` to `names`; `None` if it was there.
fn insert(names: &mut HashSet<Bytes>, name: &[u8]) -> Option<Bytes> {
    if names.contains(name) {
        return None;
    }
    let name = Bytes::copy_from_slice(name);
    names.insert(name.clone());
    Some(name)
}
