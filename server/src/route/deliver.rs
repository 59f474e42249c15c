//! Delivering effects: messages, keyspace events, wake-ups, and freeing what is large.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_engine::command::{Args, Command};
use holdfast_engine::effects::{Audience, Change, Effects, EventClass, KeyEvent, Notice};
use holdfast_engine::time::DbIndex;

use crate::node::Node;
use crate::session::tracking::{Cause, as_nobody};

/// The classes of keyspace events that anyone may see.
#[inline]
#[must_use]
pub fn wanted_events(node: &Node) -> EventClass {
    node.wanted_events()
}

/// Delivers everything `effects` recorded, in order, and empties it.
#[inline(never)]
pub fn deliver(node: &Arc<Node>, effects: &mut Effects) {
    let garbage = std::mem::take(&mut effects.garbage);
    if !garbage.is_empty() {
        free_elsewhere(garbage);
    }
    let mut ready = Vec::new();
    if node.tracking.any() {
        invalidate(node, &effects.notices);
    }
    for notice in effects.notices.drain(..) {
        match notice {
            Notice::Event(event) => publish_event(node, &event),
            Notice::Message(message) => {
                match message.audience {
                    Audience::Channel => node.pubsub.publish(&message.channel, &message.payload),
                    Audience::Shard => {
                        node.pubsub.publish_shard(&message.channel, &message.payload)
                    }
                };
            }
            // Whoever waited for a key to go waits no longer.
            Notice::Flushed => {
                ready.extend(node.blocked.locks().keys());
                ready.extend(node.blocked.keys_of_groups());
            }
            Notice::Ready(db, key) | Notice::StreamExpired(db, key) => {
                ready.push((db, key.to_vec()));
            }
            Notice::ReadyDb(db) => ready.extend(node.blocked.keys_of(db)),
        }
    }
    if !ready.is_empty() {
        as_nobody(|| node.blocked.serve(node, ready));
    }
}

/// Tells tracking clients of the keys that changed.
#[cold]
fn invalidate(node: &Node, notices: &[Notice]) {
    let mut changed: Vec<(Bytes, Cause)> = Vec::new();
    for notice in notices {
        match notice {
            Notice::Event(event)
                if event.change == Change::Content
                    && !event.class.intersects(EventClass::KEY_MISS.with(EventClass::NEW)) =>
            {
                let by_server = EventClass::EXPIRED.with(EventClass::EVICTED);
                let by_server = event.class.intersects(by_server);
                let cause = if by_server { Cause::Server } else { Cause::Command };
                changed.push((Bytes::copy_from_slice(&event.key), cause));
            }
            Notice::Flushed => node.tracking.flushed(&node.clients),
            Notice::Event(_)
            | Notice::Message(_)
            | Notice::Ready(..)
            | Notice::StreamExpired(..)
            | Notice::ReadyDb(_) => {}
        }
    }
    if !changed.is_empty() {
        node.tracking.invalidate(&node.clients, &changed);
    }
}

/// Publishes a keyspace event as `notify-keyspace-events` asks.
fn publish_event(node: &Node, event: &KeyEvent) {
    let wanted = EventClass(node.settings.notify_keyspace_events().bits());
    if !wanted.intersects(event.class) {
        return;
    }
    if wanted.intersects(EventClass::KEYSPACE) {
        let mut channel = format!("__keyspace@{}__:", event.db.0).into_bytes();
        channel.extend_from_slice(&event.key);
        node.pubsub.publish(&channel, event.name.as_bytes());
    }
    if wanted.intersects(EventClass::KEYEVENT) {
        let channel = format!("__keyevent@{}__:{}", event.db.0, event.name);
        node.pubsub.publish(channel.as_bytes(), &event.key);
    }
}

/// A read met expired keys that still stand: removes them, which says so to whoever listens.
#[cold]
pub fn expire_met(
    node: &Arc<Node>,
    db: DbIndex,
    row: &Command,
    args: Args<'_>,
    effects: &mut Effects,
) {
    let now = node.now();
    if node.pause.stops_expiry(node.clock.monotonic_us()) {
        return;
    }
    let _ = row.each_key(args, |index, _| {
        node.engine.keyspace().expire_key(db, args[index], now, effects);
    });
}

/// Records `keymiss` for the keys that a read did not find: it has no effects of its own.
pub fn note_misses(
    node: &Arc<Node>,
    db: DbIndex,
    row: &Command,
    args: Args<'_>,
    effects: &mut Effects,
) {
    if !wanted_events(node).intersects(EventClass::KEY_MISS) {
        return;
    }
    let now = node.now();
    let _ = row.each_key(args, |index, _| {
        if node.engine.group_of(db, args[index], now).is_none() {
            effects.event(EventClass::KEY_MISS, "keymiss", db, args[index]);
        }
    });
}

/// Drops large values on a thread of their own, where no client waits for it.
pub fn free_elsewhere(garbage: Vec<holdfast_engine::keyspace::Garbage>) {
    static SENDER: std::sync::OnceLock<
        Option<std::sync::mpsc::Sender<Vec<holdfast_engine::keyspace::Garbage>>>,
    > = std::sync::OnceLock::new();
    let sender = SENDER.get_or_init(|| {
        let (sender, receiver) =
            std::sync::mpsc::channel::<Vec<holdfast_engine::keyspace::Garbage>>();
        let spawned = std::thread::Builder::new()
            .name("lazyfree".to_owned())
            .spawn(move || receiver.into_iter().for_each(drop));
        spawned.ok().map(|_| sender)
    });
    if let Some(sender) = sender {
        // If the thread is gone the values come back in the error and are dropped here.
        let _ = sender.send(garbage);
    }
}
