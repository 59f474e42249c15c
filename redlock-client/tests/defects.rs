//! What other libraries got wrong, one test each, named after the defect.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::fake::{Act, FakeNode};
use common::{BOUND, LONG, all_clear, eventually, hasty, held_on, patient};
use redlock_client::{Error, Retry};

#[tokio::test]
async fn release_skipped_on_cancellation() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    // Granted by two, but the answers stay out, so the acquisition is still undecided when dropped.
    nodes[0].always(Act::AnswerLate(Duration::from_millis(100)));
    nodes[1].always(Act::AnswerLate(Duration::from_millis(100)));
    let lock = redlock.lock("k", LONG);
    let acquiring = tokio::spawn(async move { lock.acquire().await });
    eventually("granted on all", || held_on(&nodes, "k") == 3).await;
    acquiring.abort();
    all_clear(&nodes).await;
    assert_eq!((redlock.stats().cancelled, redlock.stats().acquired), (1, 0));

    // A future that releases, dropped before and after its first poll.
    nodes.iter().for_each(FakeNode::obey);
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    drop(guard.release());
    all_clear(&nodes).await;
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    {
        let mut releasing = pin!(guard.release());
        let poll = releasing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll, Poll::Pending));
    }
    all_clear(&nodes).await;
}

#[tokio::test]
async fn retry_blocked_by_ones_own_leftovers() {
    let nodes = FakeNode::many(3).await;
    let redlock = hasty(&nodes).build().unwrap();
    // First attempt: two nodes grant, but their replies are lost, so it fails and leaves two keys.
    // Only with the keys gone can the second attempt find a quorum.
    for node in &nodes[..2] {
        let mut lost = false;
        node.rule(move |name| {
            if name == "SET" && !std::mem::replace(&mut lost, true) {
                Act::HangUp
            } else {
                Act::Obey
            }
        });
    }
    nodes[2].stop();
    let lock = redlock.lock("k", LONG).retry(Retry::jittered(1, Duration::from_millis(200)));
    let guard = lock.acquire().await.unwrap();
    assert_eq!(redlock.stats().attempts, 2);
    guard.release().await.unwrap();
    all_clear(&nodes).await;
}

#[tokio::test]
async fn retry_blocked_by_ones_own_leftovers_on_a_node_that_answered() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    // Contended at first: one node grants. Then the other owner goes.
    nodes[1].occupy("k", "someone");
    nodes[2].occupy("k", "someone");
    let lock = redlock.lock("k", LONG).retry(Retry::forever(Duration::from_millis(10)));
    let acquiring = tokio::spawn(async move { lock.acquire().await });
    eventually("tried twice", || redlock.stats().attempts >= 2).await;
    nodes[1].vacate("k");
    nodes[1].stop();
    nodes[2].vacate("k");
    // Now only the node with possible leftovers and one more are there: both are needed.
    let guard = tokio::time::timeout(BOUND, acquiring).await.unwrap().unwrap().unwrap();
    guard.release().await.unwrap();
    all_clear(&nodes).await;
}

#[tokio::test]
async fn watchdog_dying_after_one_error() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let extends = Arc::new(AtomicUsize::new(0));
    // The first renewal fails on every node, by error; so does every other one after it.
    for node in &nodes {
        let extends = Arc::clone(&extends);
        let mut failures = 0;
        node.rule(move |name| {
            if name != "extend" {
                return Act::Obey;
            }
            failures += 1;
            if failures % 2 == 1 {
                return Act::Error("ERR one of those days");
            }
            extends.fetch_add(1, Ordering::SeqCst);
            Act::Obey
        });
    }
    let ttl = Duration::from_secs(3);
    let counted = Arc::clone(&extends);
    let result = redlock
        .lock("k", ttl)
        .run(async move |lease| {
            let start = Instant::now();
            while counted.load(Ordering::SeqCst) < 6 {
                assert!(start.elapsed() < BOUND);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            lease.is_held()
        })
        .await;
    assert!(result.unwrap());
    assert!(redlock.stats().extend_failed >= 1 && redlock.stats().extended >= 1);
    all_clear(&nodes).await;
}

#[tokio::test]
async fn extend_that_unlocks_all_below_quorum() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
    eventually("all hold it", || held_on(&nodes, "k") == 3).await;
    nodes[0].always(Act::Error("ERR away"));
    nodes[1].always(Act::Error("ERR away"));
    let before = guard.remaining();
    let error = guard.extend(2 * LONG).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { answered: 1, .. }), "{error}");
    // Reported, but still held for as long as it was, on every node.
    assert!(guard.is_held());
    assert!(guard.remaining() <= before && guard.remaining() > before - Duration::from_secs(60));
    assert_eq!(held_on(&nodes, "k"), 3);
    assert_eq!(nodes.iter().map(|node| node.count("release")).sum::<usize>(), 0);
    nodes.iter().for_each(FakeNode::obey);
    guard.extend(2 * LONG).await.unwrap();
    assert!(guard.remaining() > LONG);
    guard.release().await.unwrap();
    all_clear(&nodes).await;
}

#[tokio::test]
async fn validity_underflow_with_a_small_ttl() {
    let nodes = FakeNode::many(1).await;
    let redlock = patient(&nodes).build().unwrap();
    for ttl_ms in [10, 11, 13, 25, 100, 499, 500, 501] {
        let ttl = Duration::from_millis(ttl_ms);
        match redlock.lock(format!("k{ttl_ms}"), ttl).try_acquire().await {
            Ok(guard) => assert!(guard.remaining() < ttl, "{ttl_ms}: {:?}", guard.remaining()),
            // A busy machine may use the whole TTL up; that must be said, not wrapped around.
            Err(Error::TooSlow { .. } | Error::Unreachable { .. }) => {}
            Err(other) => panic!("{ttl_ms}: {other}"),
        }
    }
}

#[tokio::test]
async fn keys_orphaned_on_ttl_exceeded() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    // Connections are there before, so that nothing but the stall takes time.
    redlock.lock("warm", LONG).acquire().await.unwrap().release().await.unwrap();
    all_clear(&nodes).await;
    // The nodes keep keys far longer than they are asked to, so only a release removes them.
    nodes.iter().for_each(|node| node.stretch_ttls(1000));
    let lock = redlock.lock("k", Duration::from_secs(1));
    let error =
        acquire_across_a_stall(&nodes, lock.try_acquire(), Duration::from_millis(1100), "k").await;
    assert!(matches!(error, Err(Error::TooSlow { .. } | Error::Unreachable { .. })), "{error:?}");
    eventually("released on every node", || nodes.iter().all(|node| node.count("release") >= 2))
        .await;
    all_clear(&nodes).await;
}

#[tokio::test]
async fn lock_returned_after_its_lease_had_expired() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).node_timeout(Duration::from_millis(400)).build().unwrap();
    redlock.lock("warm", LONG).acquire().await.unwrap().release().await.unwrap();
    let lock = redlock.lock("k", Duration::from_secs(1));
    // All three grants are in when the process wakes up, but the lease they grant is over.
    let result =
        acquire_across_a_stall(&nodes, lock.try_acquire(), Duration::from_millis(1100), "k").await;
    match result {
        Err(Error::TooSlow { elapsed, .. }) => assert!(elapsed >= Duration::from_secs(1)),
        // The timer may be seen first; what must not come back is a lock.
        Err(Error::Unreachable { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(redlock.stats().acquired, 1, "only the warm-up");
    all_clear(&nodes).await;
}

/// Polls `acquiring` until the nodes have granted `key`, then stalls it, and only it, as a process that
/// is paused would be, and lets it finish.
async fn acquire_across_a_stall<T>(
    nodes: &[FakeNode],
    acquiring: impl Future<Output = T>,
    stall: Duration,
    key: &str,
) -> T {
    let mut acquiring = pin!(acquiring);
    let poll = acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    eventually("granted on all", || held_on(nodes, key) == nodes.len()).await;
    tokio::time::sleep(stall).await;
    acquiring.await
}

#[tokio::test]
async fn a_lease_that_ran_out_is_lost_without_any_reply() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", Duration::from_millis(600)).acquire().await.unwrap();
    nodes.iter().for_each(FakeNode::blackhole);
    tokio::time::timeout(BOUND, guard.lost()).await.unwrap();
    assert!(!guard.is_held());
    // And is not brought back by nodes that still would.
    nodes.iter().for_each(FakeNode::obey);
    assert!(matches!(guard.extend(LONG).await, Err(Error::Lost)));
    assert_eq!(nodes.iter().map(|node| node.count("extend")).sum::<usize>(), 0);
    assert!(matches!(guard.release().await, Err(Error::Lost)));
}

#[tokio::test]
async fn a_lost_lock_brought_back_by_a_late_extension() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut guard = redlock.lock("k", Duration::from_secs(2)).acquire().await.unwrap();
    let (lease, lost) = (guard.lease(), guard.lost());
    {
        let mut extending = pin!(guard.extend(LONG));
        let poll = extending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
        // The nodes extend in time, but this process is not there to hear of it until it is too late.
        eventually("extended", || {
            nodes.iter().all(|n| n.ttl("k").is_some_and(|ttl| ttl > LONG / 2))
        })
        .await;
        lost.await;
        assert!(matches!(extending.await, Err(Error::Lost)));
    }
    assert!(!lease.is_held());
    assert!(matches!(guard.extend(LONG).await, Err(Error::Lost)));
    drop(guard);
    all_clear(&nodes).await;
    assert_eq!(redlock.stats().lost, 1);
}

#[tokio::test]
async fn unlock_retried_onto_a_successors_lock() {
    let nodes = FakeNode::many(3).await;
    let redlock = hasty(&nodes).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    eventually("all hold it", || held_on(&nodes, "k") == 3).await;
    // Every release is carried out, but its reply is lost, so the client must send it again.
    for node in &nodes {
        let mut lost = false;
        node.rule(move |name| {
            if name == "release" && !std::mem::replace(&mut lost, true) {
                Act::HangUp
            } else {
                Act::Obey
            }
        });
    }
    // Where the repetition finds the successor already there.
    drop(guard);
    eventually("released once", || held_on(&nodes, "k") == 0).await;
    nodes.iter().for_each(|node| node.occupy("k", "successor"));
    eventually("released twice", || nodes.iter().all(|node| node.count("release") >= 2)).await;
    // Every acquisition has an owner of its own, one's own next one too.
    for node in &nodes {
        assert_eq!(node.get("k").as_deref(), Some("successor"));
        node.vacate("k");
    }
    let first = redlock.lock("k", LONG).acquire().await.unwrap();
    let owner = first.owner().clone();
    first.release().await.unwrap();
    let second = redlock.lock("k", LONG).retry(Retry::forever(Duration::from_millis(20)));
    let second = second.acquire_before(Instant::now() + BOUND).await.unwrap();
    assert_ne!(*second.owner(), owner);
}

#[tokio::test]
async fn a_late_grant_does_not_orphan_the_key() {
    let nodes = FakeNode::many(3).await;
    let redlock = hasty(&nodes).silence_timeout(LONG).build().unwrap();
    redlock.lock("warm", LONG).acquire().await.unwrap().release().await.unwrap();
    all_clear(&nodes).await;
    // Two nodes grant long after the attempt has been given up.
    for node in &nodes[..2] {
        node.rule(|name| match name {
            "SET" => Act::Delay(Duration::from_secs(1)),
            // Long enough for the grant to be seen.
            "release" => Act::Delay(Duration::from_millis(300)),
            _ => Act::Obey,
        });
    }
    let error = redlock.lock("k", LONG).try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    eventually("granted late", || held_on(&nodes[..2], "k") == 2).await;
    all_clear(&nodes).await;
}
