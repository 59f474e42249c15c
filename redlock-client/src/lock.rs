//! A named lock, and the ways to acquire it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use crate::acquire::{Waited, attempt, wait_in_queues};
use crate::client::RedLock;
use crate::error::Error;
use crate::guard::{Guarantee, Guard, Lease};
use crate::lease::Ttl;
use crate::net::claim::{Claim, Mode};
use crate::net::command::Dialect;
use crate::net::wait::Patience;
use crate::owner::{Owner, random_fraction};
use crate::reentrant::Reentrant;
use crate::retry::Retry;
use crate::run::{self, Kept};
use crate::stats::Event;

/// With less time than this before a deadline, no further attempt is begun.
const LAST_ATTEMPT_MIN: Duration = Duration::from_millis(5);

/// Most permits a semaphore can have: the servers' limit.
const PERMITS_MAX: u32 = 1 << 30;
/// Longest description: the servers' limit.
const DATA_LEN_MAX: usize = 4096;
/// Those that came within this of one another may be served in any order, but in the same one everywhere.
const ORDER_SPREAD: Duration = Duration::from_millis(15);

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
    mode: Mode,
    data: Option<Bytes>,
    require: Option<Guarantee>,
}

impl Lock {
    pub(crate) fn new(client: RedLock, keys: Vec<Bytes>, ttl: Duration) -> Self {
        let retry = client.shared.retry;
        Self { client, keys, ttl, retry, mode: Mode::Exclusive, data: None, require: None }
    }

    /// Makes this a reader's lock: readers hold it together, a writer (a lock without this) alone.
    ///
    /// Where servers have queues, readers stand behind the writers that came before them. Needs
    /// Holdfast servers.
    pub fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// Makes this a semaphore: takes `count` of `limit` permits. Every user must name the same limit.
    ///
    /// On N independent servers more than a majority must agree, or permits would be given out
    /// more than once: ⌊N·limit / (limit + 1)⌋ + 1 of them, all N when the limit is N or more. On one
    /// server or a Raft cluster that is no cost. Needs Holdfast servers.
    pub fn permits(mut self, count: u32, limit: u32) -> Self {
        self.mode = Mode::Permits { count, limit };
        self
    }

    /// Says something about the holder, at most 4096 bytes: LOCK.INFO and LOCK.LIST show it, and
    /// an observer of an election reports it. Redis and Valkey do not keep it.
    pub fn describe(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.data = Some(Bytes::from(text.into()));
        self
    }

    /// Fails rather than settle for less than this.
    ///
    /// Without it, a set of nodes of which some are Redis or Valkey gives
    /// [`Guarantee::FencedQuorum`] while a majority that can fence answers, and
    /// [`Guarantee::Lease`] otherwise.
    pub fn require(mut self, guarantee: Guarantee) -> Self {
        self.require = Some(guarantee);
        self
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
    /// If the lock is held by somebody else and a majority of the nodes have queues, waits in them for as
    /// long as all retries would take, and is served in its turn.
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
        let kept = self.hold().await?;
        let span = tracing::debug_span!("redlock.run", owner = %kept.owner());
        run::run(kept, body).instrument(span).await
    }

    /// Acquires the lock and keeps it: a task of its own renews it until it is released, dropped or lost.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn hold(&self) -> Result<Kept, Error> {
        Ok(Kept::new(self.acquire().await?, self.ttl))
    }

    /// The same until `deadline`; see [`acquire_before`](Self::acquire_before).
    ///
    /// # Errors
    /// As [`acquire_before`](Self::acquire_before).
    ///
    /// # Cancel safety
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn hold_before(&self, deadline: impl Into<Instant>) -> Result<Kept, Error> {
        Ok(Kept::new(self.acquire_before(deadline).await?, self.ttl))
    }

    /// The same lock as one that can be entered again by those who share the handle.
    pub fn reentrant(self) -> Reentrant {
        Reentrant::new(self)
    }

    async fn acquire_until(&self, retry: Retry, deadline: Option<Instant>) -> Result<Guard, Error> {
        let ttl = Ttl::new(self.ttl)?;
        self.check()?;
        let key = String::from_utf8_lossy(&self.keys[0]);
        let span =
            tracing::debug_span!("redlock.acquire", %key, keys = self.keys.len(), ttl = ?self.ttl);
        self.acquire_with(ttl, retry, deadline).instrument(span).await
    }

    async fn acquire_with(
        &self,
        ttl: Ttl,
        retry: Retry,
        deadline: Option<Instant>,
    ) -> Result<Guard, Error> {
        let began = Instant::now();
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
            let may_go_on = |retries| match deadline {
                Some(deadline) => Instant::now() < deadline,
                None => retry.allows(retries),
            };
            if matches!(error, Error::Contended { .. }) && may_go_on(retries) && self.may_queue() {
                let until = deadline.or_else(|| retry.patience().map(|patience| began + patience));
                error = match self.queue(ttl, began, until).await {
                    Ok(guard) => return Ok(guard),
                    // It has waited for as long as it was to.
                    Err(error @ Error::Contended { .. }) => return Err(error),
                    Err(error) => error,
                };
            }
            if !may_go_on(retries) || !error.is_transient() {
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

    /// Refuses what cannot be asked of any node.
    fn check(&self) -> Result<(), Error> {
        if self.keys.is_empty() {
            return Err(Error::Config("no resource to lock: name at least one".to_owned()));
        }
        if let Mode::Permits { count, limit } = self.mode
            && (count == 0 || count > limit || limit > PERMITS_MAX)
        {
            return Err(Error::Config(format!(
                "{count} permit(s) of {limit}: ask for 1 to as many as there are, and at most {PERMITS_MAX}"
            )));
        }
        if self.require == Some(Guarantee::Linearizable) && !self.client.shared.is_cluster() {
            return Err(Error::Config(
                "independent servers cannot give a linearizable lock: use a cluster".to_owned(),
            ));
        }
        if self.data.as_ref().is_some_and(|data| data.len() > DATA_LEN_MAX) {
            return Err(Error::Config(format!(
                "the description is longer than {DATA_LEN_MAX} bytes"
            )));
        }
        Ok(())
    }

    fn claim(&self) -> Result<Claim, Error> {
        let mut claim =
            Claim::new(self.keys.clone(), Owner::random()?, self.client.shared.node_count());
        claim.mode = self.mode;
        claim.data.clone_from(&self.data);
        Ok(claim)
    }

    /// Whether so many nodes are known to have queues that a wait in them can end well.
    fn may_queue(&self) -> bool {
        let shared = &self.client.shared;
        let native = shared.dialects().iter().filter(|d| **d == Some(Dialect::Native)).count();
        let quorum = self.claim().map_or(usize::MAX, |claim| claim.quorum());
        self.keys.len() == 1 && native >= quorum
    }

    /// Waits in the nodes' queues, through splits.
    async fn queue(
        &self,
        ttl: Ttl,
        since: Instant,
        until: Option<Instant>,
    ) -> Result<Guard, Error> {
        let shared = &self.client.shared;
        shared.counters.count(Event::queued);
        let mut bonus = Duration::ZERO;
        loop {
            let mut undecided = CountCancelled(Some(&self.client));
            let patience = Patience { ttl, since, bonus, until };
            let waited =
                wait_in_queues(shared, self.claim()?, self.ttl, self.require, patience).await;
            undecided.0 = None;
            match waited {
                Ok(guard) => return Ok(guard),
                Err(Waited::Failed(error)) => return Err(self.counted(error)),
                Err(Waited::Split) => shared.counters.count(Event::split),
            }
            if bonus.is_zero() {
                bonus = ORDER_SPREAD.mul_f64(random_fraction()) + Duration::from_millis(1);
            }
            sleep(shared.node_timeout.mul_f64(random_fraction())).await;
        }
    }

    /// One round over all nodes, with an owner of its own.
    async fn attempt(&self, ttl: Ttl, deadline: Option<Instant>) -> Result<Guard, Error> {
        let shared = &self.client.shared;
        let claim = self.claim()?;
        shared.counters.count(Event::attempts);
        let mut undecided = CountCancelled(Some(&self.client));
        let attempted = attempt(shared, claim, ttl, self.ttl, self.require, deadline).await;
        undecided.0 = None;
        attempted.map_err(|error| self.counted(error))
    }

    fn counted(&self, error: Error) -> Error {
        self.client.shared.counters.count(match error {
            Error::Contended { .. } => Event::contended,
            Error::TooSlow { .. } => Event::too_slow,
            Error::Quarantined { .. } => Event::quarantined,
            _ => Event::unreachable,
        });
        error
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
