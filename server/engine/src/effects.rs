//! What a write did that others must hear of: the second half of an outcome.
//!
//! Handlers only record; the server delivers once the shards are unlocked. One `Effects` is
//! kept per worker and reused, so an ordinary SET records nothing and allocates nothing.

use crate::keyspace::Garbage;
use crate::reply::Blob;
use crate::time::{DbIndex, UnixMillis};

/// The classes of keyspace events, as the letters of `notify-keyspace-events`.
///
/// Source: <https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventClass(pub u32);

impl EventClass {
    /// `K`: published as `__keyspace@db__:key`.
    pub const KEYSPACE: Self = Self(1 << 0);
    /// `E`: published as `__keyevent@db__:event`.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: DEL, EXPIRE, RENAME, …
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`
    pub const STRING: Self = Self(1 << 3);
    /// `l`
    pub const LIST: Self = Self(1 << 4);
    /// `s`
    pub const SET: Self = Self(1 << 5);
    /// `h`
    pub const HASH: Self = Self(1 << 6);
    /// `z`
    pub const SORTED_SET: Self = Self(1 << 7);
    /// `x`
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`
    pub const STREAM: Self = Self(1 << 10);
    /// `m`: a read found no key; not part of `A`.
    pub const KEY_MISS: Self = Self(1 << 12);
    /// `d`
    pub const MODULE: Self = Self(1 << 11);
    /// `n`: a new key; not part of `A`.
    pub const NEW: Self = Self(1 << 13);
    /// `k`: lock events; Holdfast's own, not part of `A`.
    pub const LOCK: Self = Self(1 << 14);
    /// No class.
    pub const NONE: Self = Self(0);

    /// Whether any class of `other` is among these.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One keyspace event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    /// Its class.
    pub class: EventClass,
    /// The event's name: `set`, `del`, `expired`.
    pub name: &'static str,
    /// The database of the key.
    pub db: DbIndex,
    /// The key.
    pub key: Blob,
    /// What it says of the key's content.
    pub change: Change,
}

/// Whether an event means that a cached copy of its key is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The content has changed: client side caches are invalidated.
    Content,
    /// Only what Redis does not count as content has: a stream's groups, its last id.
    Bookkeeping,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Subscribers of a channel and of patterns.
    Channel,
    /// Subscribers of a shard channel.
    Shard,
}

/// A message published from within a transaction or a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whom it is for.
    pub audience: Audience,
    /// The channel.
    pub channel: Blob,
    /// The payload.
    pub payload: Blob,
}

/// Something to deliver, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A keyspace event.
    Event(KeyEvent),
    /// A message of PUBLISH or SPUBLISH.
    Message(Message),
    /// A key that blocked clients may be waiting for has appeared.
    Ready(DbIndex, Blob),
    /// A stream's time has come: who reads it for a group waits in vain.
    StreamExpired(DbIndex, Blob),
    /// The whole content of a database has changed (SWAPDB): any key in it may be ready.
    ReadyDb(DbIndex),
    /// FLUSHDB or FLUSHALL removed keys without an event for each.
    Flushed,
}

/// A blocking command found nothing and would wait for one of its keys.
///
/// The handler's reply is then what a client gets that may not wait (inside MULTI or a script);
/// one whose time runs out gets the null array, whatever the command. The server parks the session and runs the command again when a
/// key it waits for becomes ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How long it would wait; `None` is without end.
    pub timeout_ms: Option<u64>,
    /// When it is worth another look though nobody touches its key: an expiry.
    pub retry_at: Option<UnixMillis>,
}

impl Wait {
    /// A wait for a key to appear.
    #[must_use]
    pub const fn for_key(timeout_ms: Option<u64>) -> Self {
        Self { timeout_ms, retry_at: None }
    }
}

/// What the commands of one proposal did besides replying.
#[derive(Debug)]
pub struct Effects {
    wanted: EventClass,
    /// What to deliver, in order.
    pub notices: Vec<Notice>,
    /// How many changes the data set saw, as INFO `rdb_changes_since_last_save` counts them.
    pub changes: u64,
    /// Keys that went because their time had come.
    pub expired_keys: u64,
    /// Set by a blocking command that found nothing.
    pub wait: Option<Wait>,
    /// Large values to free where no one waits.
    pub garbage: Vec<Garbage>,
}

impl Effects {
    /// An empty record that keeps only events of the `wanted` classes.
    #[must_use]
    pub const fn new(wanted: EventClass) -> Self {
        Self {
            wanted,
            notices: Vec::new(),
            changes: 0,
            expired_keys: 0,
            wait: None,
            garbage: Vec::new(),
        }
    }

    /// Sets which events are kept from now on.
    #[inline]
    pub fn want(&mut self, wanted: EventClass) {
        self.wanted = wanted;
    }

    /// Whether there is nothing to deliver or free.
    #[inline]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.notices.is_empty() && self.garbage.is_empty()
    }

    /// Records a keyspace event, if anyone wants its class.
    #[inline]
    pub fn event(&mut self, class: EventClass, name: &'static str, db: DbIndex, key: &[u8]) {
        if self.wanted.intersects(class) {
            self.push_event(class, name, (db, key), Change::Content);
        }
    }

    /// Records a keyspace event of a change that WATCH and client side caches do not see.
    pub fn bookkeeping_event(
        &mut self,
        class: EventClass,
        name: &'static str,
        db: DbIndex,
        key: &[u8],
    ) {
        if self.wanted.intersects(class) {
            self.push_event(class, name, (db, key), Change::Bookkeeping);
        }
    }

    fn push_event(
        &mut self,
        class: EventClass,
        name: &'static str,
        (db, key): (DbIndex, &[u8]),
        change: Change,
    ) {
        let key = Blob::copy_from(key);
        self.notices.push(Notice::Event(KeyEvent { class, name, db, key, change }));
    }

    /// Records that `key` may now satisfy a blocked client.
    pub fn ready(&mut self, db: DbIndex, key: &[u8]) {
        self.notices.push(Notice::Ready(db, Blob::copy_from(key)));
    }

    /// Records a published message.
    pub fn message(&mut self, audience: Audience, channel: &[u8], payload: &[u8]) {
        self.notices.push(Notice::Message(Message {
            audience,
            channel: channel.into(),
            payload: payload.into(),
        }));
    }

    /// Counts `n` changes of the data set.
    #[inline]
    pub fn changed(&mut self, n: u64) {
        self.changes += n;
    }
}
