//! `run`: renewal, cancellation of the body, and what comes back.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::fake::{Act, FakeNode};
use common::{BOUND, LONG, all_clear, eventually, patient};
use redlock_client::Error;

#[tokio::test]
async fn the_body_runs_under_the_lock_and_its_result_comes_back() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let local = String::from("borrowed");
    let result = redlock
        .lock("k", LONG)
        .run(async |lease| {
            assert!(lease.is_held());
            assert!(common::held_on(&nodes, "k") >= 2);
            local.len()
        })
        .await;
    assert_eq!(result.unwrap(), 8);
    all_clear(&nodes).await;
    let stats = redlock.stats();
    assert_eq!((stats.acquired, stats.released, stats.lost), (1, 1, 0));
}

#[tokio::test]
async fn a_body_longer_than_the_ttl_keeps_the_lock_by_renewal() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let ttl = Duration::from_secs(2);
    let start = Instant::now();
    let result = redlock
        .lock("k", ttl)
        .run(async |lease| {
            tokio::time::sleep(ttl * 2).await;
            lease.is_held()
        })
        .await;
    assert!(result.unwrap());
    assert!(start.elapsed() >= ttl * 2 && redlock.stats().extended >= 2);
    all_clear(&nodes).await;
}

#[tokio::test]
async fn the_body_is_cancelled_when_renewal_gets_no_answers() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let cancelled = Arc::new(AtomicBool::new(false));
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let on_drop = OnDrop(Arc::clone(&cancelled));
    let result = redlock
        .lock("k", Duration::from_secs(1))
        .run(async |_lease| {
            let _on_drop = on_drop;
            nodes.iter().for_each(FakeNode::blackhole);
            std::future::pending::<()>().await;
        })
        .await;
    assert!(matches!(result, Err(Error::Lost)));
    assert!(cancelled.load(Ordering::SeqCst));
    eventually("counted", || redlock.stats().lost == 1).await;
}

#[tokio::test]
async fn the_body_is_cancelled_as_soon_as_a_majority_denies_the_lock() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    // The first renewal comes after a fifth of `BOUND`, the deadline only after three fifths.
    let ttl = BOUND * 3 / 5;
    let start = Instant::now();
    let result = redlock
        .lock("k", ttl)
        .run(async |_lease| {
            nodes.iter().for_each(FakeNode::forget);
            std::future::pending::<()>().await;
        })
        .await;
    assert!(matches!(result, Err(Error::Lost)));
    assert!(start.elapsed() < ttl, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_body_that_outlives_the_lock_by_blocking_is_not_taken_for_a_success() {
    let nodes = FakeNode::many(1).await;
    let redlock = patient(&nodes).build().unwrap();
    let ttl = Duration::from_millis(300);
    let result = redlock.lock("k", ttl).run(async |_lease| std::thread::sleep(ttl * 2)).await;
    assert!(matches!(result, Err(Error::Lost)));
}

#[tokio::test]
async fn a_panic_in_the_body_releases() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let lock = redlock.lock("k", LONG);
    let running = tokio::spawn(async move { lock.run(async |_lease| panic!("on purpose")).await });
    assert!(running.await.unwrap_err().is_panic());
    all_clear(&nodes).await;
}

#[tokio::test]
async fn a_release_that_fails_does_not_take_the_result_away() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let result = redlock
        .lock("k", LONG)
        .run(async |_lease| {
            for node in &nodes {
                node.rule(|name| match name {
                    "release" => Act::Error("ERR not now"),
                    _ => Act::Obey,
                });
            }
            7
        })
        .await;
    assert_eq!(result.unwrap(), 7);
    // Refused releases are repeated.
    nodes.iter().for_each(FakeNode::obey);
    all_clear(&nodes).await;
}

#[tokio::test]
async fn run_can_be_spawned() {
    let nodes = FakeNode::many(3).await;
    let lock = patient(&nodes).build().unwrap().lock("k", LONG);
    let text = String::from("moved");
    let spawned = tokio::spawn(async move {
        lock.run(async |lease| {
            tokio::task::yield_now().await;
            (lease.owner().as_str().len(), text.len())
        })
        .await
    });
    assert_eq!(spawned.await.unwrap().unwrap(), (40, 5));
}
