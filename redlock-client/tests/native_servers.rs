//! Holdfast servers: tokens, queues, readers, permits, elections, and what happens when nodes or clients
//! die, freeze or forget. Needs `HOLDFAST_SERVER_BIN`; without it prints `SKIPPED`.
#![allow(clippy::unwrap_used, reason = "clippy sees the helpers as no tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::server::{Server, nowhere, our_binary, ours};
use common::{BOUND, LONG, eventually_async};
use redlock_client::{Builder, Error, Guarantee, RedLock, Retry};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

fn client(servers: &[Server]) -> Builder {
    RedLock::builder()
        .nodes(servers.iter().map(Server::url))
        .node_timeout(Duration::from_secs(2))
        .retry(Retry::none())
}

/// For tests in which a node is silent.
fn quick(servers: &[Server]) -> RedLock {
    client(servers)
        .node_timeout(Duration::from_millis(300))
        .silence_timeout(Duration::from_millis(500))
        .retry(Retry::forever(Duration::from_millis(20)))
        .build()
        .unwrap()
}

#[tokio::test]
async fn tokens_grow_over_one_and_several_resources() {
    let Some(servers) = ours(3).await else { return };
    let redlock = client(&servers).build().unwrap();
    let mut last = None;
    for round in 0..30 {
        let keys = if round % 3 == 0 { vec!["a", "b"] } else { vec!["a"] };
        let mut guard = redlock.lock_many(keys, LONG).acquire().await.unwrap();
        assert_eq!(guard.guarantee(), Guarantee::FencedQuorum);
        assert!(guard.token() > last, "{:?} after {last:?}", guard.token());
        last = guard.token();
        guard.extend(LONG).await.unwrap();
        // A majority of the servers knows the token as the holder's.
        let mut vouched = 0;
        for server in &servers {
            let check = format!("LOCK.CHECK a {}", last.unwrap());
            vouched += usize::from(server.call(&check).await.starts_with("+OK"));
        }
        assert!(vouched >= 2, "{vouched} of 3 know {last:?}");
        guard.release().await.unwrap();
        nowhere(&servers, "a").await;
        nowhere(&servers, "b").await;
    }
}

#[tokio::test]
async fn a_queue_is_served_in_order_by_one_server_and_by_three() {
    for count in [1, 3] {
        let Some(servers) = ours(count).await else { return };
        let redlock = quick(&servers);
        let order = Arc::new(Mutex::new(Vec::new()));
        let guard = redlock.lock("k", LONG).acquire().await.unwrap();
        let mut last = guard.token();
        let mut waiters = JoinSet::new();
        for number in 0..12 {
            let (lock, order) = (redlock.lock("k", LONG), Arc::clone(&order));
            waiters.spawn(async move {
                let guard = lock.acquire_before(Instant::now() + BOUND).await.unwrap();
                order.lock().await.push((number, guard.token()));
                guard.release().await.unwrap();
            });
            // More than the spread within which the order is free.
            eventually_async("it waits", async || redlock.stats().queued > number).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        guard.release().await.unwrap();
        while let Some(waiter) = waiters.join_next().await {
            waiter.unwrap();
        }
        let order = order.lock().await;
        let numbers: Vec<u64> = order.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..12).collect::<Vec<_>>(), "{count} server(s)");
        for (_, token) in order.iter() {
            assert!(*token > last, "{count} server(s): {order:?}");
            last = *token;
        }
        nowhere(&servers, "k").await;
    }
}

#[tokio::test]
async fn many_that_come_at_once_are_all_served() {
    let Some(servers) = ours(3).await else { return };
    let (inside, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let mut waiters = JoinSet::new();
    for _ in 0..24 {
        let redlock = quick(&servers);
        let (inside, last) = (Arc::clone(&inside), Arc::clone(&last));
        waiters.spawn(async move {
            let lock = redlock.lock("k", Duration::from_secs(10));
            let guard = lock.acquire_before(Instant::now() + 2 * BOUND).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
            let token = guard.token().unwrap();
            assert!(last.swap(token, Ordering::SeqCst) < token, "tokens out of order");
            inside.fetch_sub(1, Ordering::SeqCst);
            guard.release().await.unwrap();
        });
    }
    while let Some(waiter) = waiters.join_next().await {
        waiter.unwrap();
    }
    nowhere(&servers, "k").await;
}

#[tokio::test]
async fn a_wait_ends_in_time_and_a_waiter_that_is_dropped_leaves_the_queue() {
    let Some(servers) = ours(3).await else { return };
    let redlock = client(&servers).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    let start = Instant::now();
    let lock = redlock.lock("k", LONG).retry(Retry::jittered(4, Duration::from_millis(50)));
    let error = lock.acquire().await.unwrap_err();
    assert!(matches!(error, Error::Contended { .. }), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());

    let waiting = tokio::spawn(async move { lock.acquire_before(Instant::now() + BOUND).await });
    let waiters = async |count: &str| {
        eventually_async(&format!("{count} wait"), async || {
            servers[0].call("INFO locks").await.contains(&format!("locks_waiting:{count}\r\n"))
        })
        .await;
    };
    waiters("1").await;
    waiting.abort();
    waiters("0").await;
    guard.release().await.unwrap();
    nowhere(&servers, "k").await;
}

#[tokio::test]
async fn readers_share_writers_do_not_and_permits_are_counted() {
    let Some(servers) = ours(3).await else { return };
    let redlock = client(&servers).build().unwrap();
    let first = redlock.lock("k", LONG).shared().acquire().await.unwrap();
    let second = redlock.lock("k", LONG).shared().acquire().await.unwrap();
    let writing = redlock.lock("k", LONG).acquire().await;
    assert!(matches!(writing, Err(Error::Contended { .. })), "{writing:?}");
    first.release().await.unwrap();
    let (reader, token) = (
        second.token(),
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            second.release().await.unwrap();
        }),
    );
    let writer = redlock.lock("k", LONG).acquire_before(Instant::now() + BOUND).await.unwrap();
    assert!(writer.token() > reader, "a writer after the readers");
    token.await.unwrap();
    assert!(redlock.lock("k", LONG).shared().acquire().await.is_err());
    writer.release().await.unwrap();

    let semaphore = redlock.lock("s", LONG).permits(1, 2);
    let one = semaphore.acquire().await.unwrap();
    let two = semaphore.acquire().await.unwrap();
    let three = semaphore.acquire().await;
    assert!(matches!(three, Err(Error::Contended { .. })), "{three:?}");
    drop(one);
    let three = semaphore.acquire_before(Instant::now() + BOUND).await.unwrap();
    drop((two, three));
    nowhere(&servers, "s").await;
}

#[tokio::test]
async fn candidates_lead_one_after_the_other_and_observers_see_it() {
    let Some(servers) = ours(3).await else { return };
    let redlock = quick(&servers);
    let election = redlock.election("office", Duration::from_secs(2));
    let mut observer = election.observe();
    assert_eq!(observer.changed().await, None);
    let first = election.campaign("ann").await.unwrap();
    let seen = observer.changed().await.unwrap();
    assert_eq!((&seen.value[..], seen.token), (&b"ann"[..], first.token()));
    let second = tokio::spawn({
        let election = election.clone();
        async move { election.campaign("bob").await.unwrap() }
    });
    // Renewed all the while, so the second waits for longer than a TTL.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(first.is_held() && !second.is_finished());
    let token = first.token();
    first.resign().await.unwrap();
    let second = second.await.unwrap();
    assert!(second.token() > token);
    let seen = loop {
        // Between the two there may have been nobody.
        if let Some(leader) = observer.changed().await {
            break leader;
        }
    };
    assert_eq!(seen.value, b"bob");
    drop(second);
    nowhere(&servers, "office").await;
}

#[tokio::test]
async fn whoever_is_inside_may_enter_again() {
    let Some(servers) = ours(1).await else { return };
    let redlock = client(&servers).build().unwrap();
    let lock = redlock.lock("k", LONG).reentrant();
    let outer = lock.enter().await.unwrap();
    let inner = lock.clone().enter().await.unwrap();
    assert_eq!((outer.token(), lock.depth().await), (inner.token(), 2));
    assert!(redlock.lock("k", LONG).reentrant().enter().await.is_err(), "another owner");
    outer.leave().await.unwrap();
    assert!(inner.is_held() && servers[0].holds("k").await);
    inner.leave().await.unwrap();
    nowhere(&servers, "k").await;
}

/// A register that anyone may write under a token; with the check it refuses old ones.
#[derive(Default)]
struct Register {
    newest: u64,
    value: u64,
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_while_nodes_die_and_freeze() {
    let Some(mut servers) = ours(5).await else { return };
    let register = Arc::new(Mutex::new(Register::default()));
    let (acknowledged, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let redlock = quick(&servers);
        let (register, done) = (Arc::clone(&register), Arc::clone(&done));
        let (acknowledged, refused) = (Arc::clone(&acknowledged), Arc::clone(&refused));
        workers.spawn(async move {
            let lock = redlock.lock("k", Duration::from_secs(3));
            while done.load(Ordering::SeqCst) == 0 {
                let Ok(guard) = lock.acquire_before(Instant::now() + BOUND).await else { continue };
                let token = guard.token().unwrap();
                let value = register.lock().await.value;
                tokio::time::sleep(Duration::from_millis(2)).await;
                let mut register = register.lock().await;
                if token < register.newest {
                    refused.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert!(token > register.newest || register.newest == 0, "a token twice");
                    (register.newest, register.value) = (token, value + 1);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                drop(register);
                let _ = guard.release().await;
            }
        });
    }
    let reached = async |count: u64| {
        eventually_async("the work goes on", async || acknowledged.load(Ordering::SeqCst) >= count)
            .await;
        acknowledged.load(Ordering::SeqCst)
    };
    let count = reached(20).await;
    servers[0].kill();
    let count = reached(count + 20).await;
    servers[1].signal("-STOP");
    let count = reached(count + 20).await;
    servers[1].signal("-CONT");
    servers[0].start_again().await;
    servers[2].kill();
    let count = reached(count + 20).await;
    servers[2].start_again().await;
    reached(count + 20).await;
    done.store(1, Ordering::SeqCst);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert_eq!(
        register.lock().await.value,
        acknowledged.load(Ordering::SeqCst),
        "a write was lost"
    );
    nowhere(&servers[3..], "k").await;
}

#[tokio::test]
async fn a_node_that_forgot_its_locks_does_not_make_a_second_majority() {
    let Some(mut servers) = ours(3).await else { return };
    let redlock = client(&servers).build().unwrap();
    let guard = redlock.lock("k", Duration::from_secs(20)).acquire().await.unwrap();
    servers[0].kill();
    servers[1].kill();
    servers[0].start_again().await;
    servers[1].start_again().await;
    let other = client(&servers).build().unwrap();
    let error = other.lock("k", LONG).try_acquire().await.unwrap_err();
    assert!(matches!(error, Error::Quarantined { .. } | Error::Contended { .. }), "{error}");
    assert!(guard.is_held());
}

#[tokio::test]
async fn locks_can_be_had_soon_after_a_majority_is_back() {
    let Some(binary) = our_binary() else { return };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start(&binary, &["--lock-quarantine", "no"]).await);
    }
    let redlock = quick(&servers);
    let lock = redlock.lock("k", Duration::from_secs(5));
    let token = lock.acquire().await.unwrap().token();
    servers[0].kill();
    servers[1].kill();
    let waiting = lock.acquire_before(Instant::now() + Duration::from_secs(1)).await;
    assert!(matches!(waiting, Err(Error::Unreachable { .. })), "{waiting:?}");
    servers[0].start_again().await;
    servers[1].start_again().await;
    let healed = Instant::now();
    let guard = lock.acquire_before(healed + Duration::from_secs(10)).await.unwrap();
    // Counters outlive the crash of a majority.
    assert!(guard.token() > token, "{:?} after {token:?}", guard.token());
    guard.release().await.unwrap();
    nowhere(&servers, "k").await;
}

#[tokio::test]
async fn one_frozen_node_of_five_costs_little() {
    let Some(servers) = ours(5).await else { return };
    let redlock = quick(&servers);
    let lock = redlock.lock("k", LONG);
    lock.acquire().await.unwrap().release().await.unwrap();
    servers[0].signal("-STOP");
    let start = Instant::now();
    for _ in 0..50 {
        let guard = lock.acquire().await.unwrap();
        assert!(guard.token().is_some());
        guard.release().await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10), "a timeout was waited for each time");
    servers[0].signal("-CONT");
    nowhere(&servers, "k").await;
}
