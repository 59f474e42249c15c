//! Futures dropped at every await: whatever is dropped, and when, no key stays behind.
//!
//! Each case polls a future k times, for k = 0, 1, 2, … until it completes, drops it, and waits for the
//! nodes to be clear. The TTL is so long that only a release can clear them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]
#![allow(
    clippy::async_yields_async,
    reason = "set-ups make the future that is then polled by hand"
)]

mod common;

use std::time::Duration;

use common::drops::drop_at_every_await;
use common::fake::{Act, FakeNode};
use common::{LONG, all_clear, patient};
use redlock_client::{RedLock, Retry};

async fn three() -> (Vec<FakeNode>, RedLock) {
    let nodes = FakeNode::many(3).await;
    let redlock = patient(&nodes).build().unwrap();
    (nodes, redlock)
}

#[tokio::test]
async fn dropped_while_acquiring() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        let lock = redlock.lock("k", LONG);
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_acquiring_with_connections_still_to_be_made() {
    let nodes = FakeNode::many(3).await;
    drop_at_every_await(&nodes, async || {
        let lock = patient(&nodes).build().unwrap().lock("k", LONG);
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_acquiring_several() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        // Servers that have lost the scripts: the acquisition is bounced and sent a second time.
        nodes.iter().for_each(FakeNode::forget);
        let lock = redlock.lock_many(["a", "b", "c"], LONG);
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_a_script_is_sent_again_by_source() {
    let (nodes, redlock) = three().await;
    // Every script is known, so that a release is carried out the first time it is sent.
    let guard = redlock.lock_many(["a", "b"], LONG).acquire().await.unwrap();
    guard.release().await.unwrap();
    all_clear(&nodes).await;
    drop_at_every_await(&nodes, async || {
        // Now the release overtakes the acquisition it undoes, which is bounced.
        nodes.iter().for_each(|node| node.forget_script("take"));
        let lock = redlock.lock_many(["a", "b"], LONG);
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_between_attempts() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        for node in &nodes[..2] {
            let mut refusals = 2;
            node.rule(move |name| {
                if name == "SET" && refusals > 0 {
                    refusals -= 1;
                    return Act::Error("ERR not yet");
                }
                Act::Obey
            });
        }
        let lock = redlock.lock("k", LONG).retry(Retry::jittered(3, Duration::from_millis(4)));
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_answers_are_lost() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        for node in &nodes[..2] {
            let mut hung_up = false;
            node.rule(move |name| {
                if name == "SET" && !std::mem::replace(&mut hung_up, true) {
                    return Act::HangUp;
                }
                Act::Obey
            });
        }
        let lock = redlock.lock("k", LONG).retry(Retry::jittered(5, Duration::from_millis(10)));
        async move { lock.acquire().await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_extending() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
        async move { guard.extend(2 * LONG).await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_giving_the_lock_to_a_node_that_forgot_it() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
        nodes[0].forget();
        async move { guard.extend(2 * LONG).await }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_releasing() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        let guard = redlock.lock("k", LONG).acquire().await.unwrap();
        guard.release()
    })
    .await;
}

#[tokio::test]
async fn dropped_while_running() {
    let (nodes, redlock) = three().await;
    drop_at_every_await(&nodes, async || {
        let lock = redlock.lock("k", LONG);
        async move {
            lock.run(async |_lease| {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            })
            .await
        }
    })
    .await;
}

#[tokio::test]
async fn dropped_while_renewing() {
    let (nodes, redlock) = three().await;
    // A TTL short enough for renewals to happen; the counters show that it was not what cleared up.
    let ttl = Duration::from_secs(6);
    let lock = redlock.lock("k", ttl);
    let renewed = redlock.clone();
    let running =
        tokio::spawn(
            async move { lock.run(async |_lease| std::future::pending::<()>().await).await },
        );
    common::eventually("renewed", || renewed.stats().extended >= 1).await;
    running.abort();
    all_clear(&nodes).await;
    assert_eq!(redlock.stats().lost, 0);
}

#[test]
fn dropped_with_its_runtime() {
    let fakes =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let nodes = fakes.block_on(FakeNode::many(3));
    let redlock = patient(&nodes).build().unwrap();

    // A task that holds the lock when its runtime ends, taking the connections with it.
    let first =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lock = redlock.lock("k", LONG);
    let (held, is_held) = std::sync::mpsc::channel();
    first.spawn(async move {
        let guard = lock.acquire().await.unwrap();
        held.send(()).unwrap();
        guard.lost().await;
        drop(guard);
    });
    is_held.recv().unwrap();
    drop(first);
    fakes.block_on(all_clear(&nodes));

    // A guard that is dropped where no runtime is.
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let guard = second.block_on(redlock.lock("k", LONG).acquire()).unwrap();
    drop(second);
    drop(guard);
    fakes.block_on(all_clear(&nodes));

    // The same client goes on on a third.
    let third = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    third.block_on(async {
        redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
    });
    drop(third);
    fakes.block_on(all_clear(&nodes));
}
