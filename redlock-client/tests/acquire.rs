//! Acquiring, extending and releasing on nodes that are well, away, silent, slow or contrary.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]

mod common;

use std::time::{Duration, Instant};

use common::fake::{Act, FakeNode};
use common::{BOUND, LONG, all_clear, eventually, hasty, held_on, patient};
use redlock_client::{Error, Guarantee, NodeCause, Retry};

#[tokio::test]
async fn a_lock_is_taken_on_all_nodes_and_released_from_all() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    assert!(guard.is_held());
    assert!(guard.remaining() <= LONG - LONG / 100 - Duration::from_millis(2));
    assert_eq!(guard.guarantee(), Guarantee::Lease);
    eventually("all nodes hold the key", || held_on(&nodes, "k") == 3).await;
    for node in &nodes {
        assert_eq!(node.get("k").as_deref(), Some(guard.owner().as_str()));
    }
    guard.release().await.unwrap();
    all_clear(&nodes).await;
    let stats = redlock.stats();
    assert_eq!((stats.attempts, stats.acquired, stats.released, stats.lost), (1, 1, 1, 0));
}

#[tokio::test]
async fn a_held_lock_is_contended_and_left_alone() {
    let nodes = FakeNode::many(3).await;
    let first = patient(&nodes).build().unwrap();
    let second = patient(&nodes).build().unwrap();
    let guard = first.lock("k", LONG).acquire().await.unwrap();
    let error = second.lock("k", LONG).try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Contended { quorum: 2, .. }), "{error}");
    assert!(guard.is_held());
    guard.release().await.unwrap();
    all_clear(&nodes).await;
    drop(second.lock("k", LONG).try_acquire().await.unwrap());
    assert_eq!(second.stats().contended, 1);
}

#[tokio::test]
async fn a_minority_that_is_away_does_not_matter_and_a_majority_does() {
    let nodes = FakeNode::many(5).await;
    nodes[0].stop();
    nodes[1].stop();
    let redlock = patient(&nodes).build().unwrap();
    redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
    all_clear(&nodes).await;
    nodes[2].stop();
    eventually("the client notices", || redlock.stats().disconnected > 0).await;
    let error = redlock.lock("k", LONG).acquire().await.unwrap_err();
    let Error::Unreachable { quorum: 3, failures, .. } = &error else {
        panic!("{error}");
    };
    assert!(failures.iter().any(|f| matches!(f.cause, NodeCause::Connect(_))), "{error}");
    all_clear(&nodes).await;

    // Healed: usable again without a new client.
    nodes[2].restart().await;
    let lock = redlock.lock("k", LONG).retry(Retry::forever(Duration::from_millis(50)));
    drop(lock.acquire_before(Instant::now() + BOUND).await.unwrap());
}

#[tokio::test]
async fn a_blackholed_or_slow_node_does_not_slow_an_acquisition() {
    let nodes = FakeNode::many(5).await;
    let redlock = patient(&nodes).build().unwrap();
    // Once connected, so that the silence falls on requests and not on the handshake.
    redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
    all_clear(&nodes).await;
    nodes[0].blackhole();
    nodes[1].always(Act::Delay(Duration::from_secs(60)));
    let start = Instant::now();
    for _ in 0..20 {
        redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
    }
    // Waiting for either even once would take the node timeout of 10 s.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_node_blackholed_from_the_start_does_not_slow_an_acquisition() {
    let nodes = FakeNode::many(3).await;
    nodes[0].blackhole();
    let redlock = patient(&nodes).build().unwrap();
    let start = Instant::now();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    guard.release().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(9));
    // Nothing is written to a connection that has not answered its PING.
    assert_eq!(
        nodes[0].log().iter().filter(|name| !matches!(name.as_str(), "PING" | "COMMAND")).count(),
        0
    );
}

#[tokio::test]
async fn a_majority_that_is_silent_is_unreachable_within_the_node_timeout() {
    let nodes = FakeNode::many(3).await;
    nodes[0].always(Act::Ignore);
    nodes[1].always(Act::Ignore);
    let redlock = hasty(&nodes).build().unwrap();
    let error = redlock.lock("k", LONG).try_acquire().await.unwrap_err();
    let Error::Unreachable { failures, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(failures.len(), 2);
    assert!(failures.iter().all(|f| f.cause == NodeCause::Timeout), "{error}");
    all_clear(&nodes).await;
}

#[tokio::test]
async fn the_retry_policy_is_followed() {
    let nodes = FakeNode::many(3).await;
    for node in &nodes {
        node.occupy("k", "someone");
    }
    let redlock =
        patient(&nodes).retry(Retry::jittered(2, Duration::from_millis(5))).build().unwrap();
    let lock = redlock.lock("k", LONG);
    assert!(matches!(lock.acquire().await, Err(Error::Contended { .. })));
    assert_eq!(redlock.stats().attempts, 3);
    assert!(matches!(lock.try_acquire().await, Err(Error::Contended { .. })));
    assert_eq!(redlock.stats().attempts, 4);

    let before = Instant::now() + Duration::from_millis(500);
    assert!(matches!(lock.acquire_before(before).await, Err(Error::Contended { .. })));
    assert!(redlock.stats().attempts > 5, "one attempt only");

    let waiting = lock.clone().retry(Retry::forever(Duration::from_millis(5)));
    let waiting = tokio::spawn(async move { waiting.acquire().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    nodes.iter().for_each(|node| node.vacate("k"));
    drop(waiting.await.unwrap().unwrap());
    all_clear(&nodes).await;
}

#[tokio::test]
async fn a_deadline_that_cuts_an_attempt_short_does_not_hide_the_reason() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    for node in &nodes {
        node.occupy("k", "someone");
        // The first attempt is answered; the second is still waiting when the deadline comes.
        let mut seen = 0;
        node.rule(move |name| {
            seen += usize::from(name == "SET");
            if seen > 1 { Act::Ignore } else { Act::Obey }
        });
    }
    let lock = redlock.lock("k", LONG).retry(Retry::forever(Duration::from_millis(5)));
    let error = lock.acquire_before(Instant::now() + Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Contended { .. }), "{error}");
    assert_eq!(redlock.stats().attempts, 2);
}

#[tokio::test]
async fn quarantined_nodes_are_told_apart() {
    let nodes = FakeNode::many(3).await;
    nodes[0].always(Act::Error("QUARANTINE 9000 restarted without its locks"));
    nodes[1].always(Act::Error("QUARANTINE 4000 restarted without its locks"));
    let redlock = patient(&nodes).build().unwrap();
    match redlock.lock("k", LONG).try_acquire().await {
        Err(Error::Quarantined { retry_after }) => assert_eq!(retry_after, Duration::from_secs(4)),
        other => panic!("{other:?}"),
    }
    all_clear(&nodes).await;
    // One such node is outvoted.
    nodes[1].obey();
    drop(redlock.lock("k", LONG).try_acquire().await.unwrap());
}

#[tokio::test]
async fn a_server_error_is_passed_on_with_the_node_that_gave_it() {
    let nodes = FakeNode::many(3).await;
    nodes.iter().for_each(|node| {
        node.always(Act::Error("READONLY You can't write against a read only replica."))
    });
    let redlock = patient(&nodes).build().unwrap();
    let error = redlock.lock("k", LONG).try_acquire().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("READONLY") && text.contains("redis://127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn several_resources_are_taken_together_or_not_at_all() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let guard = redlock.lock_many(["b", "a", "b"], LONG).acquire().await.unwrap();
    eventually("both on all nodes", || held_on(&nodes, "a") == 3 && held_on(&nodes, "b") == 3)
        .await;

    let error = redlock.lock_many(["b", "c"], LONG).try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Contended { .. }), "{error}");
    assert_eq!(held_on(&nodes, "c"), 0);
    let other = redlock.lock_many(["c", "d"], LONG).try_acquire().await.unwrap();

    guard.release().await.unwrap();
    drop(other);
    all_clear(&nodes).await;
    assert!(matches!(
        redlock.lock_many(Vec::<&str>::new(), LONG).acquire().await,
        Err(Error::Config(_))
    ));
}

#[tokio::test]
async fn extending_moves_the_deadline_on_and_never_back() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
    guard.extend(2 * LONG).await.unwrap();
    assert!(guard.remaining() > LONG);
    guard.extend(LONG).await.unwrap();
    assert!(guard.remaining() > LONG);
    eventually("every node extended", || {
        nodes.iter().all(|n| n.ttl("k").is_some_and(|ttl| ttl > LONG))
    })
    .await;
    assert_eq!(redlock.stats().extended, 2);
    guard.release().await.unwrap();
    all_clear(&nodes).await;
}

#[tokio::test]
async fn a_node_that_forgot_the_lock_is_given_it_again() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    for keys in [vec!["k"], vec!["a", "b"]] {
        let mut guard = redlock.lock_many(keys.clone(), LONG).acquire().await.unwrap();
        eventually("all hold it", || keys.iter().all(|key| held_on(&nodes, key) == 3)).await;
        nodes[2].forget();
        guard.extend(LONG).await.unwrap();
        eventually("topped up", || keys.iter().all(|key| held_on(&nodes, key) == 3)).await;
        guard.release().await.unwrap();
        all_clear(&nodes).await;
    }
}

#[tokio::test]
async fn a_node_held_by_another_is_not_topped_up() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    nodes[2].occupy("k", "someone");
    let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
    guard.extend(LONG).await.unwrap();
    guard.release().await.unwrap();
    eventually("released where ours", || held_on(&nodes, "k") == 1).await;
    assert_eq!(nodes[2].get("k").as_deref(), Some("someone"));
}

#[tokio::test]
async fn a_lock_forgotten_by_a_majority_is_lost_and_not_brought_back() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
    eventually("all hold it", || held_on(&nodes, "k") == 3).await;
    nodes[0].forget();
    nodes[1].forget();
    let lost = guard.lost();
    assert!(matches!(guard.extend(LONG).await, Err(Error::Lost)));
    lost.await;
    assert!(!guard.is_held());
    assert!(matches!(guard.extend(LONG).await, Err(Error::Lost)));
    assert_eq!((held_on(&nodes, "k"), redlock.stats().lost), (1, 1));
    assert!(matches!(guard.release().await, Err(Error::Lost)));
    all_clear(&nodes).await;
    assert_eq!(redlock.stats().lost, 1);
}

#[tokio::test]
async fn releasing_reports_what_the_nodes_say() {
    let nodes = FakeNode::many(3).await;
    let redlock = hasty(&nodes).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    eventually("all hold it", || held_on(&nodes, "k") == 3).await;
    nodes[0].blackhole();
    nodes[1].blackhole();
    let error = guard.release().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { answered: 1, .. }), "{error}");
    // The background goes on until the nodes are back.
    nodes[0].obey();
    nodes[1].obey();
    all_clear(&nodes).await;

    let guard = redlock.lock("k", LONG).retry(Retry::forever(Duration::from_millis(50)));
    let guard = guard.acquire_before(Instant::now() + BOUND).await.unwrap();
    nodes.iter().for_each(FakeNode::forget);
    assert!(matches!(guard.release().await, Err(Error::Lost)));
}

#[tokio::test]
async fn a_single_node_and_an_even_number_work_too() {
    for (count, away) in [(1, 0), (2, 0), (4, 1)] {
        let nodes = FakeNode::many(count).await;
        nodes.iter().take(away).for_each(FakeNode::stop);
        let redlock = patient(&nodes).build().unwrap();
        redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
        all_clear(&nodes).await;
    }
    let nodes = FakeNode::many(2).await;
    nodes[0].stop();
    let redlock = patient(&nodes).build().unwrap();
    assert!(matches!(redlock.lock("k", LONG).acquire().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let build =
        |urls: &[&str]| redlock_client::RedLock::builder().nodes(urls.iter().copied()).build();
    for urls in [&[][..], &["redis://a", "redis://a:6379/1"], &["http://a"]] {
        assert!(matches!(build(urls), Err(Error::Config(_))), "{urls:?}");
    }
    let redlock = build(&["redis://a"]).unwrap();
    for ttl in [Duration::ZERO, Duration::from_millis(1), Duration::MAX] {
        assert!(matches!(redlock.lock("k", ttl).acquire().await, Err(Error::InvalidTtl { .. })));
    }
    let zero = redlock_client::RedLock::builder().node("redis://a").node_timeout(Duration::ZERO);
    assert!(matches!(zero.build(), Err(Error::Config(_))));
}
