//! A named lock, and the ways to acquire it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use crate::claim::Held;
use crate::client::RedLock;
use crate::clock::BootInstant;
use crate::error::Error;
use crate::guard::{Guard, Lease};
use crate::lease::Ttl;
use crate::net::command::{Claim, Verb};
use crate::owner::{Owner, random_fraction};
use crate::retry::Retry;
use crate::round::Verdict;
use crate::run;
use crate::stats::Event;

/// With less time than this before a deadline, no further attempt is begun.
const LAST_ATTEMPT_MIN: Duration = Duration::from_millis(5);

/// One or several resources and the TTL to hold them for; made by [`RedLock::lock`].
///
/// Holds nothing by itself, and can be acquired any number of times.
#[derive(Clone)]
#[must_use = "a lock does nothing until it is acquired"]
pub struct Lock {
    client: RedLock,
    keys: Vec<Bytes>,
    ttl: Duration,
    retry: Retry,
}

impl Lock {
    pub(crate) fn new(client: RedLock, keys: Vec<Bytes>, ttl: Duration) -> Self {
        let retry = client.shared.retry;
        Self { client, keys, ttl, retry }
    }

    /// Replaces the client's retry policy for this lock.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// [`Error::Contended`], [`Error::Unreachable`], [`Error::TooSlow`] or [`Error::Quarantined`] for
    /// what the nodes said; [`Error::InvalidTtl`] or [`Error::Config`] before anything is sent.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the attempt: whatever nodes had granted, or grant later, is
    /// released in the background.
    pub async fn try_acquire(&self) -> Result<Guard, Error> {
        self.acquire_until(Retry::none(), None).await
    }

    /// Tries until the retry policy is exhausted; the error is that of the last attempt.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Cancel safety
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.acquire_until(self.retry, None).await
    }

    /// Tries until `deadline`, with the delay of the retry policy but not its count.
    ///
    /// Takes a tokio or a standard `Instant`. At least one attempt is begun.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire); the error is that of the last attempt the deadline did not
    /// cut short.
    ///
    /// # Cancel safety
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire_before(&self, deadline: impl Into<Instant>) -> Result<Guard, Error> {
        self.acquire_until(self.retry, Some(deadline.into())).await
    }

    /// Acquires the lock, runs `body`, and releases.
    ///
    /// While the body runs the lock is renewed from a task of its own at a third of the TTL; a renewal
    /// that fails is tried again, sooner, for as long as the lock lasts. When the lock is lost the body
    /// is cancelled (dropped at its current await). A body that blocks its thread cannot be cancelled,
    /// and should look at [`Lease::is_held`] before each effect.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire); [`Error::Lost`] if the lock was lost before the body was
    /// done, even if it then ran to its end. A failing release is counted and traced, not returned:
    /// the work was done under the lock, which then expires by its TTL.
    ///
    /// # Cancel safety
    /// Dropping the future drops the body, ends the renewal and releases in the background.
    pub async fn run<T>(&self, body: impl AsyncFnOnce(Lease) -> T) -> Result<T, Error> {
        let guard = self.acquire().await?;
        let span = tracing::debug_span!("redlock.run", owner = %guard.owner());
        run::run(guard, self.ttl, body).instrument(span).await
    }

    async fn acquire_until(&self, retry: Retry, deadline: Option<Instant>) -> Result<Guard, Error> {
        let ttl = Ttl::new(self.ttl)?;
        if self.keys.is_empty() {
            return Err(Error::Config("no resource to lock: name at least one".to_owned()));
        }
        let key = String::from_utf8_lossy(&self.keys[0]);
        let span =
            tracing::debug_span!("redlock.acquire", %key, keys = self.keys.len(), ttl = ?self.ttl);
        async {
            let mut retries = 0;
            let mut previous = None;
            loop {
                let mut error = match self.attempt(ttl, deadline).await {
                    Ok(guard) => return Ok(guard),
                    Err(error) => error,
                };
                if deadline.is_some_and(|deadline| Instant::now() >= deadline)
                    && matches!(error, Error::Unreachable { .. })
                    && let Some(whole) = previous.take()
                {
                    // The deadline cut this attempt short; that says nothing about the nodes.
                    error = whole;
                }
                let again = match deadline {
                    Some(deadline) => Instant::now() < deadline,
                    None => retry.allows(retries),
                };
                if !again || !error.is_transient() {
                    return Err(error);
                }
                retries += 1;
                let mut delay = retry.next_delay();
                if let Some(deadline) = deadline {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left < LAST_ATTEMPT_MIN {
                        return Err(error);
                    }
                    // Attempts come closer together at the end, rather than giving up early.
                    delay = delay.min(left.mul_f64(0.5 + random_fraction() / 2.0));
                }
                tracing::debug!(%error, ?delay, retries, "trying again");
                previous = Some(error);
                sleep(delay).await;
            }
        }
        .instrument(span)
        .await
    }

    /// One round over all nodes, with an owner of its own.
    async fn attempt(&self, ttl: Ttl, deadline: Option<Instant>) -> Result<Guard, Error> {
        let shared = &self.client.shared;
        let claim = Claim::new(self.keys.clone(), Owner::random()?, shared.node_count());
        shared.counters.count(Event::attempts);
        // From here on, whatever ends this function other than success releases on every node.
        let held = Held::new(Arc::clone(shared), Arc::new(claim), ttl);
        let mut timeout = ttl.round_timeout(shared.node_timeout);
        if let Some(deadline) = deadline {
            timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
        }
        let mut undecided = CountCancelled(Some(&self.client));
        let start = BootInstant::now();
        let mut round = shared.ask(Verb::Acquire(ttl), held.claim(), timeout);
        let verdict = round.decide().await;
        undecided.0 = None;

        let error = if verdict == Verdict::Reached {
            let elapsed = BootInstant::now().since(start);
            match ttl.validity(elapsed) {
                Some(validity) => {
                    shared.counters.count(Event::acquired);
                    tracing::debug!(?elapsed, ?validity, "acquired");
                    return Ok(Guard::new(held, start.after(ttl.usable())));
                }
                None => Error::TooSlow { elapsed, ttl: self.ttl },
            }
        } else {
            round.tally.acquire_error(&shared.labels())
        };
        shared.counters.count(match error {
            Error::Contended { .. } => Event::contended,
            Error::TooSlow { .. } => Event::too_slow,
            Error::Quarantined { .. } => Event::quarantined,
            _ => Event::unreachable,
        });
        Err(error)
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("keys", &self.keys)
            .field("ttl", &self.ttl)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Counts an attempt whose future is dropped before it is decided.
struct CountCancelled<'a>(Option<&'a RedLock>);

impl Drop for CountCancelled<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.0 {
            client.shared.counters.count(Event::cancelled);
        }
    }
}
