//! What the tests share: fake nodes, and waiting for something to come true.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod drops;
pub mod fake;
pub mod server;

use std::time::{Duration, Instant};

use fake::FakeNode;
use redlock_client::{Builder, RedLock, Retry};

/// Long enough never to run out during a test, so that a key that is gone was released.
pub const LONG: Duration = Duration::from_secs(600);

/// Bound for everything that should come true; generous, for machines that are busy.
pub const BOUND: Duration = Duration::from_secs(20);

/// A client setting under which no timeout is met unless a node is silent.
pub fn patient(nodes: &[FakeNode]) -> Builder {
    RedLock::builder()
        .nodes(nodes.iter().map(FakeNode::url))
        .node_timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(2))
        .retry(Retry::none())
}

/// For tests in which a node is silent and the outcome depends on giving it up.
pub fn hasty(nodes: &[FakeNode]) -> Builder {
    patient(nodes)
        .node_timeout(Duration::from_millis(300))
        .silence_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_millis(500))
}

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_async(what, async || condition()).await;
}

pub async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// No node holds any key.
pub async fn all_clear(nodes: &[FakeNode]) {
    eventually("no key is left on any node", || nodes.iter().all(|node| node.keys().is_empty()))
        .await;
}

pub fn held_on(nodes: &[FakeNode], key: &str) -> usize {
    nodes.iter().filter(|node| node.get(key).is_some()).count()
}
