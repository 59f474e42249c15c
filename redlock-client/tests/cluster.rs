//! One Raft cluster of Holdfast servers: needs `HOLDFAST_SERVER_BIN`.
#![allow(clippy::unwrap_used, reason = "clippy sees the helpers as no tests")]

mod common;

use std::time::{Duration, Instant};

use common::server::{Server, binaries, our_binary};
use common::{BOUND, LONG, eventually_async};
use redlock_client::{Error, Guarantee, RedLock, Retry};

async fn cluster() -> Option<Vec<Server>> {
    let binary = our_binary()?;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&binary, &["--raft", "yes"]).await);
    }
    assert!(servers[0].call("RAFT.CLUSTER INIT").await.starts_with('+'));
    for server in &servers[1..] {
        let join = format!("RAFT.CLUSTER JOIN 127.0.0.1:{}", servers[0].port);
        eventually_async("it joins", async || server.call(&join).await.starts_with('+')).await;
    }
    Some(servers)
}

fn client(servers: &[Server]) -> RedLock {
    RedLock::builder()
        .nodes(servers.iter().map(Server::url))
        .cluster()
        .retry(Retry::forever(Duration::from_millis(50)))
        .build()
        .unwrap()
}

async fn leader(servers: &[Server]) -> usize {
    let mut found = None;
    eventually_async("a leader", async || {
        for (index, server) in servers.iter().enumerate() {
            if server.is_running() && server.call("INFO raft").await.contains("raft_role:leader") {
                found = Some(index);
            }
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn a_lock_outlives_its_leader_and_tokens_grow() {
    let Some(mut servers) = cluster().await else { return };
    let redlock = client(&servers);
    let lock = redlock.lock("k", LONG);
    let first = lock.acquire_before(Instant::now() + BOUND).await.unwrap();
    assert_eq!(first.guarantee(), Guarantee::Linearizable);
    let token = first.token();
    first.release().await.unwrap();
    let mut guard = lock.acquire_before(Instant::now() + BOUND).await.unwrap();
    assert!(guard.token() > token);
    let token = guard.token();

    let head = leader(&servers).await;
    let waiting = tokio::spawn({
        let lock = client(&servers).lock("k", LONG);
        async move { lock.acquire_before(Instant::now() + 3 * BOUND).await.unwrap() }
    });
    servers[head].kill();
    eventually_async("extended under the new leader", async || guard.extend(LONG).await.is_ok())
        .await;
    assert!(!waiting.is_finished());
    guard.release().await.unwrap();
    let next = waiting.await.unwrap();
    assert!(next.token() > token);
    next.release().await.unwrap();

    let rest = (0..3).find(|index| *index != head && servers[*index].is_running()).unwrap();
    servers[rest].kill();
    let error = redlock.lock("k", LONG).try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn servers_without_a_cluster_are_no_cluster() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 1).await;
        let error = client(&servers).lock("k", LONG).try_acquire().await.unwrap_err();
        assert!(error.to_string().contains("not a member of a Raft cluster"), "{error}");
    }
}
