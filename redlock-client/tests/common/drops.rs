//! Futures that are polled by hand and dropped after every number of polls.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::fake::FakeNode;

/// Between two polls the rest of the world moves on by this many steps of the scheduler, so that the
/// drop falls at different moments of the exchange too, not only at different awaits.
const PACES: [u32; 4] = [0, 1, 3, 12];

/// Polls `future` up to `polls` times, then drops it. True if it completed.
async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize, pace: u32) -> bool {
    struct Woken(tokio::sync::Notify);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    let woken = Arc::new(Woken(tokio::sync::Notify::new()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    for poll in 0..polls {
        if poll > 0 {
            // Only polls after a wake get the future any further.
            let _ = tokio::time::timeout(Duration::from_secs(5), woken.0.notified()).await;
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            drop(output);
            return true;
        }
        for _ in 0..pace {
            tokio::task::yield_now().await;
        }
    }
    false
}

pub async fn drop_at_every_await<T, F: Future<Output = T>>(
    nodes: &[FakeNode],
    mut set_up: impl AsyncFnMut() -> F,
) {
    for pace in PACES {
        for polls in 0.. {
            assert!(polls < 200, "the future never completes");
            let future = set_up().await;
            let completed = poll_and_drop(future, polls, pace).await;
            super::all_clear(nodes).await;
            if completed {
                break;
            }
        }
    }
}
