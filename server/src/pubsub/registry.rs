//! Who listens to what on this node.
//!
//! Three maps: channels, shard channels (a namespace of their own) and patterns. Lock order:
//! a map's lock, if at all, is taken and released before a topic's; never one inside another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use dashmap::DashMap;
use holdfast_engine::value::glob::Glob;
use smallvec::SmallVec;

use super::message::PushMessage;
use super::topic::{Entered, PushSink, Topic};

/// The node's channels, patterns and shard channels.
#[derive(Default)]
pub struct Registry {
    channels: DashMap<Bytes, Arc<Topic>>,
    shard_channels: DashMap<Bytes, Arc<Topic>>,
    patterns: RwLock<HashMap<Bytes, Arc<Pattern>>>,
    /// How many patterns there are, so that PUBLISH need not lock a map that is mostly empty.
    pattern_count: AtomicUsize,
}

/// A pattern and who subscribed to it.
struct Pattern {
    glob: Glob,
    topic: Topic,
}

/// Which of the two maps of channels is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    ShardChannel,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("channels", &self.channels.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// Nobody listens.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Delivers `payload` to the channel's subscribers and to those of every matching pattern;
    /// returns to how many. A client counts once for each way it is reached, as in Redis.
    ///
    /// Complexity: O(subscribers + patterns).
    pub fn publish(&self, channel: &[u8], payload: &[u8]) -> usize {
        let mut receivers = topic(&self.channels, channel)
            .map_or(0, |topic| topic.publish(|| PushMessage::message(channel, payload)));
        if self.pattern_count.load(Ordering::Acquire) > 0 {
            for pattern in self.matching_patterns(channel) {
                let text = pattern.glob.pattern();
                receivers +=
                    pattern.topic.publish(|| PushMessage::pattern_message(text, channel, payload));
            }
        }
        receivers
    }

    /// Delivers `payload` to the shard channel's subscribers; returns to how many.
    pub fn publish_shard(&self, channel: &[u8], payload: &[u8]) -> usize {
        topic(&self.shard_channels, channel)
            .map_or(0, |topic| topic.publish(|| PushMessage::shard_message(channel, payload)))
    }

    /// Channels somebody subscribed to (not by pattern), those matching `glob` only if given;
    /// in no order.
    #[must_use]
    pub fn channels(&self, glob: Option<&Glob>) -> Vec<Bytes> {
        names(&self.channels, glob)
    }

    /// Shard channels somebody subscribed to; see [`Registry::channels`].
    #[must_use]
    pub fn shard_channels(&self, glob: Option<&Glob>) -> Vec<Bytes> {
        names(&self.shard_channels, glob)
    }

    /// How many clients subscribed to `channel`, patterns not counted.
    #[must_use]
    pub fn subscriber_count(&self, channel: &[u8]) -> usize {
        topic(&self.channels, channel).map_or(0, |topic| topic.len())
    }

    /// How many clients subscribed to the shard channel.
    #[must_use]
    pub fn shard_subscriber_count(&self, channel: &[u8]) -> usize {
        topic(&self.shard_channels, channel).map_or(0, |topic| topic.len())
    }

    /// The numbers of the clients that listen to anything whose name and kind (whether it is a
    /// pattern) `is_wanted`; each may come several times.
    #[must_use]
    pub fn listeners(&self, is_wanted: impl Fn(&[u8], bool) -> bool) -> Vec<u64> {
        let topics = [&self.channels, &self.shard_channels].into_iter().flat_map(|map| {
            let wanted = map.iter().filter(|entry| is_wanted(entry.key(), false));
            wanted.map(|entry| Arc::clone(entry.value())).collect::<Vec<_>>()
        });
        let mut found: Vec<u64> = topics.flat_map(|topic| topic.client_ids()).collect();
        let patterns: Vec<Arc<Pattern>> = {
            let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = patterns.iter().filter(|(name, _)| is_wanted(name, true));
            wanted.map(|(_, pattern)| Arc::clone(pattern)).collect()
        };
        found.extend(patterns.iter().flat_map(|pattern| pattern.topic.client_ids()));
        found
    }

    /// How many clients a message to `channel` would reach now, patterns included.
    #[must_use]
    pub fn receiver_count(&self, channel: &[u8]) -> usize {
        let by_pattern: usize = if self.pattern_count.load(Ordering::Acquire) > 0 {
            self.matching_patterns(channel).iter().map(|pattern| pattern.topic.len()).sum()
        } else {
            0
        };
        self.subscriber_count(channel) + by_pattern
    }

    /// How many different patterns are subscribed to.
    #[must_use]
    pub fn pattern_count(&self) -> usize {
        self.pattern_count.load(Ordering::Acquire)
    }

    /// The patterns that are subscribed to.
    #[must_use]
    pub fn patterns(&self) -> Vec<Bytes> {
        self.patterns.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// How many channels have subscribers: INFO's `pubsub_channels`.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// How many shard channels have subscribers: INFO's `pubsubshard_channels`.
    #[must_use]
    pub fn shard_channel_count(&self) -> usize {
        self.shard_channels.len()
    }

    fn map(&self, kind: Kind) -> &DashMap<Bytes, Arc<Topic>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::ShardChannel => &self.shard_channels,
        }
    }

    pub(super) fn enter(&self, kind: Kind, channel: &Bytes, id: u64, sink: &Arc<dyn PushSink>) {
        loop {
            let topic = Arc::clone(&self.map(kind).entry(channel.clone()).or_default());
            match topic.enter(id, sink) {
                Entered::Yes => return,
                // Whoever closed it is about to take it out of the map.
                Entered::Closed => std::thread::yield_now(),
            }
        }
    }

    pub(super) fn leave(&self, kind: Kind, channel: &[u8], id: u64) {
        let map = self.map(kind);
        if let Some(left) = topic(map, channel).filter(|topic| topic.leave(id)) {
            map.remove_if(channel, |_, present| Arc::ptr_eq(present, &left));
        }
    }

    pub(super) fn enter_pattern(&self, pattern: &Bytes, id: u64, sink: &Arc<dyn PushSink>) {
        loop {
            let present = {
                let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
                let present = Arc::clone(patterns.entry(pattern.clone()).or_insert_with(|| {
                    Arc::new(Pattern { glob: Glob::new(pattern), topic: Topic::default() })
                }));
                self.pattern_count.store(patterns.len(), Ordering::Release);
                present
            };
            match present.topic.enter(id, sink) {
                Entered::Yes => return,
                Entered::Closed => std::thread::yield_now(),
            }
        }
    }

    pub(super) fn leave_pattern(&self, pattern: &[u8], id: u64) {
        let present = {
            let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
            patterns.get(pattern).map(Arc::clone)
        };
        let Some(left) = present.filter(|present| present.topic.leave(id)) else {
            return;
        };
        let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        if patterns.get(pattern).is_some_and(|present| Arc::ptr_eq(present, &left)) {
            patterns.remove(pattern);
        }
        self.pattern_count.store(patterns.len(), Ordering::Release);
    }

    /// The patterns that match, taken out of the map's lock.
    fn matching_patterns(&self, channel: &[u8]) -> SmallVec<[Arc<Pattern>; 8]> {
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        let matching = patterns.values().filter(|pattern| pattern.glob.matches(channel));
        matching.map(Arc::clone).collect()
    }
}

/// The topic of a name, with the map's lock released.
fn topic(map: &DashMap<Bytes, Arc<Topic>>, name: &[u8]) -> Option<Arc<Topic>> {
    map.get(name).map(|entry| Arc::clone(entry.value()))
}

fn names(map: &DashMap<Bytes, Arc<Topic>>, glob: Option<&Glob>) -> Vec<Bytes> {
    map.iter()
        .filter(|entry| glob.is_none_or(|glob| glob.matches(entry.key())))
        .map(|entry| entry.key().clone())
        .collect()
}
