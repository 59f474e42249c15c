//! Work under a lock that is kept alive for as long as the work takes.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::error::Error;
use crate::guard::{Guard, Lease};

/// A renewal every third of the lease leaves time for two more before it ends.
const RENEW_DIVISOR: u32 = 3;
/// After a failed renewal: wait this part of what is left. Tries come closer together near the end.
const RETRY_DIVISOR: u32 = 4;
/// Closer together than this they would only add load.
const RETRY_MIN: Duration = Duration::from_millis(5);

pub(crate) async fn run<T>(
    guard: Guard,
    ttl: Duration,
    body: impl AsyncFnOnce(Lease) -> T,
) -> Result<T, Error> {
    let lease = guard.lease();
    // The guard lives in a task of its own, so that a body slow to yield does not delay its renewal.
    // Dropping `stop`, as cancellation and panics do, ends that task, and with it the lock.
    let (stop, stopped) = oneshot::channel();
    let renewal = tokio::spawn(renew(guard, ttl, stopped));
    let done = tokio::select! {
        // Loss first: when both are ready, the body's last step may have come too late.
        biased;
        () = lease.lost() => return Err(Error::Lost),
        done = body(lease.clone()) => done,
    };
    if !lease.is_held() {
        return Err(Error::Lost);
    }
    drop(stop);
    // No guard comes back if the runtime is shutting down; it was dropped, and so released.
    if let Ok(guard) = renewal.await
        && let Err(error) = guard.release().await
    {
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
