//! Fencing tokens over nodes that misbehave on demand: the two phases, waiting in queues, and futures
//! dropped at every await of both.
#![allow(clippy::unwrap_used, reason = "clippy sees the helpers as no tests")]
#![allow(
    clippy::async_yields_async,
    reason = "set-ups make the future that is then polled by hand"
)]

mod common;

use std::time::{Duration, Instant};

use common::drops::drop_at_every_await;
use common::fake::{Act, FakeNode};
use common::{BOUND, LONG, all_clear, eventually, hasty, patient};
use redlock_client::{Error, Guarantee, Retry};

/// Does `act` to the first command of this name, and obeys otherwise.
fn once(name: &'static str, act: Act) -> impl FnMut(&str) -> Act + Send + 'static {
    let mut done = false;
    move |command| {
        if command == name && !std::mem::replace(&mut done, true) { act.clone() } else { Act::Obey }
    }
}

#[tokio::test]
async fn a_token_is_fenced_by_a_majority() {
    let nodes = FakeNode::native(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut last = 0;
    for _ in 0..20 {
        let guard = redlock.lock("k", LONG).acquire().await.unwrap();
        assert_eq!(guard.guarantee(), Guarantee::FencedQuorum);
        let token = guard.token().unwrap();
        assert!(token > last, "{token} after {last}");
        last = token;
        assert!(nodes.iter().filter(|node| node.counter() >= token).count() >= 2);
        guard.release().await.unwrap();
        all_clear(&nodes).await;
    }
    // Their counters met at once, and one round was enough from then on.
    let fences: usize = nodes.iter().map(|node| node.count("LOCK.RENEW")).sum();
    assert!((1..=10).contains(&fences), "{fences} fences");
}

#[tokio::test]
async fn a_majority_without_the_last_winner_gives_no_smaller_token() {
    let nodes = FakeNode::native(3).await;
    let redlock = hasty(&nodes).build().unwrap();
    nodes[0].set_counter(100);
    nodes[2].blackhole();
    let first = redlock.lock("k", LONG).acquire().await.unwrap();
    assert_eq!(first.token(), Some(101));
    first.release().await.unwrap();
    // Its second phase told node 1, which now is in the next majority.
    nodes[2].obey();
    nodes[0].blackhole();
    let other = hasty(&nodes).retry(Retry::forever(Duration::from_millis(20))).build().unwrap();
    let second = other.lock("k", LONG).acquire_before(Instant::now() + BOUND).await.unwrap();
    assert!(second.token() > Some(101), "{second:?}");
}

#[tokio::test]
async fn a_lock_whose_fence_fails_is_not_held() {
    let nodes = FakeNode::native(3).await;
    for node in &nodes {
        node.rule(|name| if name == "LOCK.RENEW" { Act::Error("ERR no") } else { Act::Obey });
    }
    let redlock = patient(&nodes).build().unwrap();
    let error = redlock.lock("k", LONG).try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    all_clear(&nodes).await;
}

#[tokio::test]
async fn one_silent_node_costs_nothing_in_either_phase() {
    let nodes = FakeNode::native(5).await;
    let redlock = patient(&nodes).build().unwrap();
    redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
    nodes[0].rule(|name| if name == "LOCK.RENEW" { Act::Ignore } else { Act::Obey });
    nodes[1].always(Act::Ignore);
    let start = Instant::now();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    assert!(guard.token().is_some() && start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn mixed_sets_fence_when_a_majority_can() {
    let mut nodes = FakeNode::native(2).await;
    nodes.extend(FakeNode::many(1).await);
    let redlock = hasty(&nodes).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    assert_eq!(guard.guarantee(), Guarantee::FencedQuorum);
    guard.release().await.unwrap();
    nodes[0].stop();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    assert_eq!((guard.guarantee(), guard.token()), (Guarantee::Lease, None));
    drop(guard);
    let strict = redlock.lock("k", LONG).require(Guarantee::FencedQuorum);
    assert!(matches!(strict.try_acquire().await, Err(Error::Unreachable { .. })));
    let impossible = redlock.lock("k", LONG).require(Guarantee::Linearizable);
    assert!(matches!(impossible.try_acquire().await, Err(Error::Config(_))));
    all_clear(&nodes[1..]).await;
}

#[tokio::test]
async fn a_server_that_may_not_be_asked_tells_by_not_knowing_the_command() {
    let nodes = FakeNode::many(3).await;
    for node in &nodes {
        node.rule(|name| match name {
            "COMMAND" => Act::Error("NOPERM no permissions to run 'command|info'"),
            _ => Act::Obey,
        });
    }
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
    assert_eq!(guard.guarantee(), Guarantee::Lease);
    guard.extend(LONG).await.unwrap();
    guard.release().await.unwrap();
    all_clear(&nodes).await;
}

#[tokio::test]
async fn readers_and_permits_need_servers_that_know_them() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    for lock in [redlock.lock("k", LONG).shared(), redlock.lock("k", LONG).permits(1, 2)] {
        let error = lock.try_acquire().await.unwrap_err();
        assert!(error.to_string().contains("need a Holdfast server"), "{error}");
    }
    let too_many = redlock.lock("k", LONG).permits(3, 2).try_acquire().await;
    assert!(matches!(too_many, Err(Error::Config(_))));
}

#[tokio::test]
async fn an_extension_never_shortens_a_native_lock() {
    let nodes = FakeNode::native(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
    eventually("on every node", || common::held_on(&nodes, "k") == 3).await;
    let before = guard.remaining();
    guard.extend(Duration::from_secs(1)).await.unwrap();
    assert!(guard.remaining() + Duration::from_secs(5) > before);
    assert!(nodes.iter().all(|node| node.ttl("k").unwrap() >= guard.remaining()));
}

#[tokio::test]
async fn quarantine_is_told_apart() {
    let nodes = FakeNode::native(3).await;
    for node in &nodes[..2] {
        node.rule(|name| match name {
            "LOCK.ACQUIRE" => Act::Error("QUARANTINE 1500 locks were forgotten"),
            _ => Act::Obey,
        });
    }
    let redlock = patient(&nodes).build().unwrap();
    let error = redlock.lock("k", LONG).try_acquire().await.unwrap_err();
    assert!(
        matches!(error, Error::Quarantined { retry_after } if retry_after.as_millis() == 1500),
        "{error}"
    );
    all_clear(&nodes).await;
}

#[tokio::test]
async fn dropped_in_either_phase() {
    let nodes = FakeNode::native(3).await;
    let redlock = patient(&nodes).build().unwrap();
    drop_at_every_await(&nodes, async || {
        // So that the second phase is needed.
        for (index, node) in nodes.iter().enumerate() {
            node.set_counter(node.counter() + 100 * index as u64);
        }
        let lock = redlock.lock("k", LONG);
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_fences_are_lost() {
    let nodes = FakeNode::native(3).await;
    let redlock = patient(&nodes).build().unwrap();
    drop_at_every_await(&nodes, async || {
        for (index, node) in nodes.iter().enumerate() {
            node.set_counter(node.counter() + 100 * index as u64);
            node.rule(once("LOCK.RENEW", Act::HangUp));
        }
        let lock = redlock.lock("k", LONG).retry(Retry::jittered(5, Duration::from_millis(10)));
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_waiting_in_queues() {
    let nodes = FakeNode::native(3).await;
    let redlock = patient(&nodes).build().unwrap();
    drop_at_every_await(&nodes, async || {
        let guard = redlock.lock("k", LONG).acquire().await.unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(guard);
        });
        let lock = redlock.lock("k", LONG);
        async move { lock.acquire_before(Instant::now() + BOUND).await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_campaigning_or_entering() {
    let nodes = FakeNode::native(3).await;
    let redlock = patient(&nodes).build().unwrap();
    drop_at_every_await(&nodes, async || {
        let election = redlock.election("k", LONG);
        async move { election.campaign("me").await }
    })
    .await;
    drop_at_every_await(&nodes, async || {
        let lock = redlock.lock("k", LONG).reentrant();
        async move {
            let outer = lock.enter().await?;
            let inner = lock.enter().await?;
            inner.leave().await?;
            outer.leave().await
        }
    })
    .await;
}
