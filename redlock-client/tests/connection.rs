//! Connections: made when needed, shared, healed, and given up when silent.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::fake::{Act, FakeNode};
use common::{BOUND, LONG, all_clear, eventually, hasty, held_on, patient};
use redlock_client::{Error, Guard, Lock, Retry};

/// Acquires however long the nodes take to be found again.
async fn insist(lock: &Lock) -> Guard {
    let lock = lock.clone().retry(Retry::forever(Duration::from_millis(50)));
    lock.acquire_before(Instant::now() + BOUND).await.unwrap()
}

#[tokio::test]
async fn nothing_connects_before_it_is_needed_and_one_connection_serves_all() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(nodes.iter().all(|node| node.connections() == 0));
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let lock = redlock.lock(format!("k{i}"), LONG);
            tokio::spawn(async move { lock.acquire().await.unwrap().release().await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    all_clear(&nodes).await;
    assert!(nodes.iter().all(|node| node.connections() == 1));
    assert_eq!(redlock.stats().connected, 3);
}

#[tokio::test]
async fn a_killed_node_is_used_again_when_it_is_back() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let lock = redlock.lock("k", LONG);
    insist(&lock).await.release().await.unwrap();
    for node in &nodes {
        node.stop();
        insist(&lock).await.release().await.unwrap();
        node.restart().await;
        // Every node grants again, so that the next one may be killed.
        loop {
            let guard = insist(&lock).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let all = held_on(&nodes, "k") == 3;
            guard.release().await.unwrap();
            if all {
                break;
            }
        }
    }
    all_clear(&nodes).await;
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_made_anew() {
    let nodes = FakeNode::many(3).await;
    let redlock = hasty(&nodes).build().unwrap();
    let lock = redlock.lock("k", LONG);
    lock.acquire().await.unwrap().release().await.unwrap();
    // Wedged: this connection never answers again, a new one would.
    let mut wedged = false;
    nodes[0].rule(move |name| {
        if name == "SET" && !std::mem::replace(&mut wedged, true) { Act::Ignore } else { Act::Obey }
    });
    let guard = lock.acquire().await.unwrap();
    eventually("given up", || redlock.stats().disconnected == 1).await;
    drop(guard);
    eventually("made anew", || nodes[0].connections() == 2).await;
    all_clear(&nodes).await;
}

#[tokio::test]
async fn releases_wait_for_a_node_that_is_away_and_reach_it_first() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    eventually("all hold it", || held_on(&nodes, "k") == 3).await;
    nodes[0].stop();
    drop(guard);
    eventually("gone from the others", || held_on(&nodes, "k") == 1).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    nodes[0].rule(move |name| {
        log.lock().unwrap().push(name.to_owned());
        Act::Obey
    });
    nodes[0].restart().await;
    all_clear(&nodes).await;
    insist(&redlock.lock("k", LONG)).await.release().await.unwrap();
    let seen = seen.lock().unwrap();
    let first = |name| seen.iter().position(|seen| seen == name).expect(name);
    assert!(first("release") < first("SET"), "{seen:?}");
}

#[tokio::test]
async fn releases_outlive_the_client() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let guard = redlock.lock("k", LONG).acquire().await.unwrap();
    nodes.iter().for_each(|node| node.always(Act::AnswerLate(Duration::from_millis(50))));
    drop(redlock);
    drop(guard);
    all_clear(&nodes).await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_node_for_an_attempt_that_is_over() {
    let nodes = FakeNode::many(3).await;
    nodes.iter().for_each(FakeNode::stop);
    let redlock = hasty(&nodes).build().unwrap();
    assert!(matches!(redlock.lock("k", LONG).acquire().await, Err(Error::Unreachable { .. })));
    for node in &nodes {
        node.restart().await;
    }
    insist(&redlock.lock("other", LONG)).await.release().await.unwrap();
    all_clear(&nodes).await;
    // One acquisition was never written anywhere, so no node is asked to release it either.
    for node in &nodes {
        assert!(node.count("release") <= node.count("SET"), "{:?}", node.log());
    }
}

#[tokio::test]
async fn replies_that_make_no_sense_end_the_connection_not_the_client() {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    let mut spoilt = false;
    nodes[0].rule(move |name| {
        if name == "SET" && !std::mem::replace(&mut spoilt, true) {
            // The fake writes "-" + text: a second line turns up that is no reply at all.
            Act::Error("ERR x\r\nnonsense")
        } else {
            Act::Obey
        }
    });
    let lock = redlock.lock("k", LONG);
    insist(&lock).await.release().await.unwrap();
    eventually("given up", || redlock.stats().disconnected == 1).await;
    insist(&lock).await.release().await.unwrap();
    all_clear(&nodes).await;
}

#[tokio::test]
async fn more_requests_than_the_queue_holds_are_refused_at_once() {
    let nodes = FakeNode::many(1).await;
    let redlock = patient(&nodes).build().unwrap();
    redlock.lock("warm", LONG).acquire().await.unwrap().release().await.unwrap();
    all_clear(&nodes).await;
    nodes[0].always(Act::Ignore);
    let mut waiting = tokio::task::JoinSet::new();
    for i in 0..1100 {
        let lock = redlock.lock(format!("k{i}"), LONG);
        waiting.spawn(async move { lock.try_acquire().await });
    }
    let mut refused = 0;
    while refused < 76 {
        let error = waiting.join_next().await.unwrap().unwrap().unwrap_err();
        assert!(error.to_string().contains("too many requests"), "{error}");
        refused += 1;
    }
    waiting.abort_all();
}
