use std::sync::{Arc, Barrier, Mutex};

use holdfast_engine::value::glob::Glob;

use super::*;
use crate::resp::Protocol;

/// An outbox that keeps everything.
#[derive(Default)]
struct Outbox(Mutex<Vec<Arc<PushMessage>>>);

impl PushSink for Outbox {
    fn push(&self, message: Arc<PushMessage>) {
        self.0.lock().unwrap().push(message);
    }
}

impl Outbox {
    fn texts(&self) -> Vec<String> {
        let messages = self.0.lock().unwrap();
        let text = |message: &Arc<PushMessage>| {
            let bytes = message.encoded(Protocol::Resp2);
            let lines = std::str::from_utf8(bytes).unwrap().split("\r\n");
            // Every second line from the third on is an element.
            lines.skip(2).step_by(2).collect::<Vec<_>>().join(" ")
        };
        messages.iter().map(text).collect()
    }
}

fn client(registry: &Arc<Registry>, id: u64) -> (Subscriptions, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::default());
    (Subscriptions::new(Arc::clone(registry), id, outbox.clone()), outbox)
}

#[test]
fn a_message_reaches_channels_and_patterns() {
    let registry = Arc::new(Registry::new());
    let (mut one, one_box) = client(&registry, 1);
    let (mut two, two_box) = client(&registry, 2);
    assert!(one.subscribe(b"news.art"));
    assert!(!one.subscribe(b"news.art"), "a second time is not new");
    assert!(one.subscribe_pattern(b"news.*"));
    assert!(two.subscribe_pattern(b"n*"));
    assert!(two.subscribe_shard(b"news.art"));
    assert_eq!((one.count(), one.shard_count(), two.count(), two.shard_count()), (2, 0, 1, 1));

    assert_eq!(registry.publish(b"news.art", b"hi"), 3);
    assert_eq!(registry.publish(b"news.tech", b"yo"), 2);
    assert_eq!(registry.publish(b"else", b"?"), 0);
    assert_eq!(registry.publish_shard(b"news.art", b"s"), 1);
    assert_eq!(registry.publish_shard(b"news.tech", b"s"), 0);
    assert_eq!(
        one_box.texts(),
        ["message news.art hi", "pmessage news.* news.art hi", "pmessage news.* news.tech yo"]
    );
    assert_eq!(
        two_box.texts(),
        ["pmessage n* news.art hi", "pmessage n* news.tech yo", "smessage news.art s"]
    );
}

#[test]
fn introspection_counts_what_is_there() {
    let registry = Arc::new(Registry::new());
    let (mut one, _) = client(&registry, 1);
    let (mut two, _) = client(&registry, 2);
    for channel in [&b"a1"[..], b"a2", b"b1"] {
        one.subscribe(channel);
    }
    two.subscribe(b"a1");
    two.subscribe_shard(b"s1");
    one.subscribe_pattern(b"x*");
    two.subscribe_pattern(b"x*");
    let sorted = |mut names: Vec<bytes::Bytes>| {
        names.sort();
        names
    };
    assert_eq!(sorted(registry.channels(None)), [&b"a1"[..], b"a2", b"b1"]);
    assert_eq!(sorted(registry.channels(Some(&Glob::new(b"a*")))), [&b"a1"[..], b"a2"]);
    assert_eq!(registry.shard_channels(None), [&b"s1"[..]]);
    assert_eq!(registry.subscriber_count(b"a1"), 2);
    assert_eq!(registry.subscriber_count(b"none"), 0);
    assert_eq!(registry.shard_subscriber_count(b"s1"), 1);
    assert_eq!(registry.pattern_count(), 1, "patterns are counted, not their subscribers");
    assert_eq!((registry.channel_count(), registry.shard_channel_count()), (3, 1));
}

#[test]
fn leaving_leaves_nothing_behind() {
    let registry = Arc::new(Registry::new());
    let (mut one, outbox) = client(&registry, 1);
    one.subscribe(b"a");
    one.subscribe_pattern(b"*");
    one.subscribe_shard(b"s");
    assert_eq!(one.unsubscribe(b"a"), Left::Left);
    assert_eq!(one.unsubscribe(b"a"), Left::WasNotIn);
    assert_eq!(one.unsubscribe_pattern(b"*"), Left::Left);
    assert_eq!(one.unsubscribe_shard(b"s"), Left::Left);
    assert!(one.is_empty());
    assert_eq!(registry.publish(b"a", b"x") + registry.publish_shard(b"s", b"x"), 0);
    one.subscribe(b"b");
    one.subscribe_pattern(b"b*");
    one.subscribe_shard(b"b");
    drop(one);
    assert_eq!(registry.publish(b"b", b"x"), 0);
    assert_eq!(registry.channel_count() + registry.shard_channel_count(), 0);
    assert_eq!(registry.pattern_count(), 0);
    assert!(outbox.texts().is_empty());
}

#[test]
fn a_message_is_encoded_once_per_protocol() {
    let message = PushMessage::message(b"c", b"p");
    assert_eq!(
        message.encoded(Protocol::Resp2),
        &b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n"[..]
    );
    assert_eq!(
        message.encoded(Protocol::Resp3),
        &b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\np\r\n"[..]
    );
    let again = message.encoded(Protocol::Resp2).as_ptr();
    assert_eq!(message.encoded(Protocol::Resp2).as_ptr(), again);
}

#[test]
fn each_publishers_messages_keep_their_order_for_all_in_one_order() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 500;
    let registry = Arc::new(Registry::new());
    let mut clients: Vec<_> = (0..3).map(|id| client(&registry, id)).collect();
    for (subscriptions, _) in &mut clients {
        subscriptions.subscribe(b"c");
    }
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let registry = &registry;
            scope.spawn(move || {
                for n in 0..MESSAGES {
                    let payload = format!("{publisher}:{n:04}");
                    assert_eq!(registry.publish(b"c", payload.as_bytes()), 3);
                }
            });
        }
    });
    let first = clients[0].1.texts();
    assert_eq!(first.len(), PUBLISHERS * MESSAGES);
    for (_, outbox) in &clients {
        assert_eq!(outbox.texts(), first, "all subscribers see one order");
    }
    for publisher in 0..PUBLISHERS {
        let prefix = format!("message c {publisher}:");
        let own: Vec<_> = first.iter().filter(|text| text.starts_with(&prefix)).collect();
        assert_eq!(own.len(), MESSAGES);
        assert!(own.is_sorted());
    }
}

#[test]
fn nothing_arrives_once_a_client_has_left() {
    let registry = Arc::new(Registry::new());
    let barrier = Barrier::new(3);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                barrier.wait();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    registry.publish(b"c", b"x");
                }
            });
        }
        let (mut subscriptions, outbox) = client(&registry, 9);
        barrier.wait();
        for _ in 0..2000 {
            subscriptions.subscribe(b"c");
            subscriptions.subscribe_pattern(b"c*");
            subscriptions.clear();
            let after = outbox.0.lock().unwrap().len();
            std::hint::spin_loop();
            assert_eq!(outbox.0.lock().unwrap().len(), after);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(registry.channel_count() + registry.pattern_count(), 0);
}

#[test]
fn coming_and_going_at_once_loses_nobody() {
    let registry = Arc::new(Registry::new());
    std::thread::scope(|scope| {
        for id in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                for round in 0..500 {
                    let (mut subscriptions, outbox) = client(registry, id);
                    subscriptions.subscribe(b"c");
                    subscriptions.subscribe_pattern(b"?");
                    let reached = registry.publish(b"c", b"mine");
                    assert!(reached >= 2, "round {round}");
                    let mine = outbox.texts();
                    assert!(mine.iter().any(|text| text == "message c mine"));
                    assert!(mine.iter().any(|text| text == "pmessage ? c mine"));
                }
            });
        }
    });
    assert_eq!(registry.channel_count() + registry.pattern_count(), 0);
    assert!(registry.channels(None).is_empty());
}
