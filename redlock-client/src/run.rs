//! A lock that is kept alive from a task of its own, and work under such a lock.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::error::Error;
use crate::guard::{Guard, Lease};

/// A renewal every third of the lease leaves time for two more before it ends.
const RENEW_DIVISOR: u32 = 3;
/// After a failed renewal: wait this part of what is left. Tries come closer together near the end.
const RETRY_DIVISOR: u32 = 4;
/// Closer together than this they would only add load.
const RETRY_MIN: Duration = Duration::from_millis(5);

/// An acquired lock that is renewed in the background until it is released, dropped or lost.
///
/// Made by [`Lock::hold`](crate::Lock::hold). The renewal runs in a task of its own, at a third of the TTL;
/// one that fails is tried again, sooner, for as long as the lock lasts. Dropping this releases in the
/// background, on every node.
#[must_use = "a lock that is dropped is released at once"]
pub struct Kept {
    lease: Lease,
    /// Dropping it ends the renewal, and with it the lock.
    stop: Option<oneshot::Sender<()>>,
    renewal: JoinHandle<Guard>,
}

impl Kept {
    pub(crate) fn new(guard: Guard, ttl: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            lease: guard.lease(),
            stop: Some(stop),
            renewal: tokio::spawn(renew(guard, ttl, stopped)),
        }
    }

    /// A view that can be handed to other tasks.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Gives the lock up, and reports whether the nodes confirm that.
    ///
    /// # Errors
    /// As [`Guard::release`].
    ///
    /// # Cancel safety
    /// Whenever the future is dropped, the release goes on in the background.
    pub async fn release(mut self) -> Result<(), Error> {
        self.stop = None;
        match self.renewal.await {
            Ok(guard) => guard.release().await,
            // The runtime is shutting down; the guard was dropped, and so released.
            Err(_) => Ok(()),
        }
    }
}

impl Deref for Kept {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("lease", &self.lease).finish_non_exhaustive()
    }
}

pub(crate) async fn run<T>(kept: Kept, body: impl AsyncFnOnce(Lease) -> T) -> Result<T, Error> {
    let lease = kept.lease();
    let done = tokio::select! {
        // Loss first: when both are ready, the body's last step may have come too late.
        biased;
        () = lease.lost() => return Err(Error::Lost),
        done = body(lease.clone()) => done,
    };
    if !lease.is_held() {
        return Err(Error::Lost);
    }
    if let Err(error) = kept.release().await {
        tracing::warn!(%error, "the work was done under the lock, but releasing it failed");
    }
    Ok(done)
}

/// Renews until told to stop or the lock is lost. One failure, or several, is no reason to end.
async fn renew(mut guard: Guard, ttl: Duration, mut stopped: oneshot::Receiver<()>) -> Guard {
    let mut wait = ttl / RENEW_DIVISOR;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return guard,
            () = sleep(wait) => {}
        }
        let renewed = tokio::select! {
            biased;
            _ = &mut stopped => return guard,
            renewed = guard.extend(ttl) => renewed,
        };
        wait = match renewed {
            Ok(()) => ttl / RENEW_DIVISOR,
            Err(Error::Lost) => return guard,
            Err(error) => {
                tracing::debug!(%error, "renewal failed; trying again");
                (guard.remaining() / RETRY_DIVISOR)
                    .clamp(RETRY_MIN, (ttl / RENEW_DIVISOR).max(RETRY_MIN))
            }
        };
    }
}
