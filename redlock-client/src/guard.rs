//! A lock that was acquired: how long it still holds, extending it, giving it up.
//!
//! Whether the lock is held is judged by a local deadline and nothing else. An answer from the nodes
//! can only move the deadline on while it has not passed, or end the lease early.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

use crate::claim::Held;
use crate::clock::{BootInstant, sleep_until};
use crate::error::Error;
use crate::lease::Ttl;
use crate::net::command::Verb;
use crate::owner::Owner;
use crate::round::{Round, Verdict};
use crate::stats::Event;

/// What holding a lock is worth, from the least on.
#[derive(PartialOrd, Ord, Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Guarantee {
    /// Mutual exclusion while timing is bounded: clocks run at about the same rate, and neither the
    /// holder nor its messages are delayed past the deadline unnoticed. A holder that is paused
    /// between looking at [`Lease::remaining`] and writing may write late.
    Lease,
    /// A lease with a fencing token that a majority of independent Holdfast servers vouches for: tokens
    /// of a resource increase from one exclusive holder to the next, whatever the clocks do. A resource
    /// that refuses tokens smaller than the greatest it has seen loses no write to a late holder.
    FencedQuorum,
    /// A lease with a fencing token out of the log of one Raft cluster.
    Linearizable,
}

/// When a lease ends.
///
/// Invariant: the clock is read while the term is borrowed, here and when the deadline is moved on. So
/// once anyone has seen the term over, it can only stay over.
#[derive(Clone, Copy)]
struct Term {
    deadline: BootInstant,
    /// Ended before its deadline: given up, or disproved by a majority.
    ended: bool,
}

impl Term {
    fn left(&self) -> Duration {
        if self.ended {
            return Duration::ZERO;
        }
        self.deadline.since(BootInstant::now())
    }
}

/// A view of a held lock: can be cloned, looked at and awaited, but does not keep the lock.
#[derive(Clone)]
pub struct Lease {
    owner: Owner,
    token: Option<u64>,
    guarantee: Guarantee,
    term: watch::Receiver<Term>,
}

impl Lease {
    /// How long the lock is still held; zero when it is not.
    ///
    /// Drift is already taken off. Work that could outlast this must extend first.
    pub fn remaining(&self) -> Duration {
        self.term.borrow().left()
    }

    /// Whether anything [`remaining`](Self::remaining) is left.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Completes when the lock is no longer held, by loss or by release; at once if it is not now.
    ///
    /// Driven by a local timer: needs no answer from any node. Borrows nothing, so it can be awaited
    /// while the guard is extended.
    ///
    /// # Cancel safety
    /// Safe to drop and to ask for again.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut term = self.term.clone();
        async move {
            loop {
                let deadline = {
                    let term = term.borrow_and_update();
                    if term.left().is_zero() {
                        return;
                    }
                    term.deadline
                };
                tokio::select! {
                    () = sleep_until(deadline) => {}
                    changed = term.changed() => if changed.is_err() {
                        // The guard is gone, and with it the lock.
                        return;
                    },
                }
            }
        }
    }

    /// The value by which the nodes know this acquisition.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What holding this lock is worth.
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// The fencing token; `None` when all there is is a lease.
    ///
    /// Pass it along with every write, to a resource that remembers the greatest token it has seen and
    /// refuses smaller ones. Of two exclusive holders the later has the greater token. Holders of a
    /// shared lock or a semaphore at the same time may have the same one; it is greater than that of
    /// every exclusive holder before them. Several resources locked together have one token.
    pub fn token(&self) -> Option<u64> {
        self.token
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("owner", &self.owner)
            .field("token", &self.token)
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// An acquired lock. Dropping it releases in the background, on every node.
///
/// The background release has the node's own time limits: it is repeated over new connections until
/// the node answers or the keys must have expired. It needs the tokio runtime to go on running; if the
/// guard outlives that, a thread makes one last try, and failing that the lock expires by its TTL.
#[must_use = "a guard that is dropped releases its lock at once"]
pub struct Guard {
    held: Held,
    lease: Lease,
    term: watch::Sender<Term>,
}

impl Guard {
    pub(crate) fn new(
        held: Held,
        deadline: BootInstant,
        token: Option<u64>,
        guarantee: Guarantee,
    ) -> Self {
        let (term, receiver) = watch::channel(Term { deadline, ended: false });
        let lease = Lease { owner: held.claim().owner.clone(), token, guarantee, term: receiver };
        Self { held, lease, term }
    }

    /// A view that can be handed to other tasks.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Makes the lock last at least `ttl` from now. Never shortens it.
    ///
    /// Succeeds when a majority that has held the lock all along extended it in time. Nodes that had
    /// forgotten it, and only those, are then given it again.
    ///
    /// # Errors
    /// [`Error::Lost`] if the deadline has passed, or passes meanwhile, or so many nodes no longer know
    /// the lock that no majority can: then it is lost from this moment, and stays so.
    /// [`Error::Unreachable`] if too few nodes answered, and [`Error::TooSlow`] if they took too
    /// long: **the lock is still held until the deadline it had**, nothing is released, and extending
    /// may be tried again. [`Error::InvalidTtl`] before anything is sent.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the lock as it was; nodes that have extended it by then keep it
    /// longer than the guard knows, until it is released.
    pub async fn extend(&mut self, ttl: Duration) -> Result<(), Error> {
        // Some nodes set the time they are told, and it must not be less than what they promised.
        let checked = Ttl::new(ttl)?.at_least(self.lease.remaining());
        let counters = Arc::clone(&self.held.shared().counters);
        let span = tracing::debug_span!("redlock.extend", owner = %self.lease.owner, ?ttl);
        let result = self.extend_checked(checked, ttl).instrument(span).await;
        counters.count(if result.is_ok() { Event::extended } else { Event::extend_failed });
        if let Err(error) = &result {
            tracing::debug!(%error, "not extended");
        }
        result
    }

    async fn extend_checked(&mut self, ttl: Ttl, asked: Duration) -> Result<(), Error> {
        if !self.lease.is_held() {
            return Err(self.end_lost());
        }
        self.held.lasts(ttl);
        let shared = Arc::clone(self.held.shared());
        // No longer than the lock lasts: after that the answer could change nothing.
        let timeout = ttl.round_timeout(shared.node_timeout).min(self.lease.remaining());
        let start = BootInstant::now();
        let mut round = shared.ask(Verb::Extend(ttl), self.held.claim(), timeout);
        let verdict = round.decide().await;
        if !self.lease.is_held() {
            // Loss may have been reported by now; a late success must not take that back.
            return Err(self.end_lost());
        }
        if verdict != Verdict::Reached {
            // Is the lock disproved, or are nodes merely away?
            if round.prove_loss().await || !self.lease.is_held() {
                return Err(self.end_lost());
            }
            return Err(round.tally.unreachable(&shared.labels()));
        }
        let elapsed = BootInstant::now().since(start);
        if ttl.validity(elapsed).is_none() {
            return Err(Error::TooSlow { elapsed, ttl: asked });
        }
        let deadline = start.after(ttl.usable());
        let extended = self.term.send_if_modified(|term| {
            let held = !term.left().is_zero();
            if held {
                term.deadline = term.deadline.max(deadline);
            }
            held
        });
        if !extended {
            return Err(self.end_lost());
        }
        self.top_up(ttl, round);
        Ok(())
    }

    /// Gives the lock again to nodes that have forgotten it, answers still to come included.
    fn top_up(&self, ttl: Ttl, mut round: Round) {
        let shared = Arc::clone(self.held.shared());
        let claim = Arc::clone(self.held.claim());
        let lease = self.lease();
        tokio::spawn(async move {
            round.complete().await;
            for node in round.tally.missing() {
                // Invariant: only under a majority that has held the lock without a break.
                if lease.is_held() && !claim.is_abandoned() {
                    shared.counters.count(Event::topped_up);
                    let deadline = Instant::now() + ttl.round_timeout(shared.node_timeout);
                    shared.tell(node, Verb::Acquire(ttl), &claim, deadline, None);
                }
            }
        });
    }

    /// Ends the lease as lost; the keys that remain are released when the guard goes.
    fn end_lost(&mut self) -> Error {
        let first = self.term.send_if_modified(|term| !std::mem::replace(&mut term.ended, true));
        if first {
            self.held.shared().counters.count(Event::lost);
        }
        Error::Lost
    }

    /// Gives the lock up, and reports whether the nodes confirm that.
    ///
    /// The releases are queued for every node at the first poll; this waits for a majority's answers.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock had been lost before. [`Error::Unreachable`] if too few nodes
    /// answered in time: they are released in the background as soon as they can be reached, and
    /// otherwise keep others waiting until the TTL is over.
    ///
    /// # Cancel safety
    /// Whenever the future is dropped, polled or not, the release goes on in the background.
    pub async fn release(mut self) -> Result<(), Error> {
        let in_time = self.lease.is_held();
        let mut round = self.give_up();
        let span = tracing::debug_span!("redlock.release", owner = %self.lease.owner);
        let verdict = round.decide().instrument(span).await;
        if !in_time {
            return Err(Error::Lost);
        }
        let shared = self.held.shared();
        if verdict == Verdict::Reached {
            Ok(())
        } else if round.prove_loss().await {
            shared.counters.count(Event::lost);
            Err(Error::Lost)
        } else {
            Err(round.tally.unreachable(&shared.labels()))
        }
    }

    /// Ends the lease and queues the releases.
    fn give_up(&mut self) -> Round {
        let counters = &self.held.shared().counters;
        let expired = !self.lease.is_held();
        let first = self.term.send_if_modified(|term| !std::mem::replace(&mut term.ended, true));
        if expired && first {
            counters.count(Event::lost);
        }
        counters.count(Event::released);
        self.held.release()
    }
}

impl Deref for Guard {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.held.is_released() {
            drop(self.give_up());
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("lease", &self.lease).finish_non_exhaustive()
    }
}
