//! Leader election: an office is a lock, its holder the leader.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::client::RedLock;
use crate::error::Error;
use crate::guard::Lease;
use crate::lock::Lock;
use crate::net::claim::Claim;
use crate::net::command::{Answer, Sighting, Verb};
use crate::owner::{Owner, random_fraction};
use crate::retry::Retry;
use crate::run::Kept;

/// An observer looks so many times in one TTL.
const LOOKS_PER_TTL: u32 = 4;
/// Closer together than this, looks would only add load.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// An office for which candidates campaign; made by [`RedLock::election`].
#[derive(Clone, Debug)]
pub struct Election {
    client: RedLock,
    name: Bytes,
    ttl: Duration,
    lock: Lock,
}

/// Who leads, as a majority of the nodes tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// What the leader campaigned with; empty if the nodes are Redis or Valkey, which do not keep it.
    pub value: Vec<u8>,
    /// The owner token of the leader's acquisition: another one is another term in office.
    pub owner: String,
    /// The fencing token, where there is one.
    pub token: Option<u64>,
}

impl Election {
    pub(crate) fn new(client: RedLock, name: Vec<u8>, ttl: Duration) -> Self {
        // Once a look, where there is no queue to wait in.
        let lock = client.lock(name.clone(), ttl).retry(Retry::forever(look_interval(ttl)));
        Self { client, name: name.into(), ttl, lock }
    }

    /// Waits until this candidate leads, for as long as it takes: in the servers' queues, where they have
    /// some. Nodes that fail are no reason to give up; bound the wait with `tokio::time::timeout`.
    ///
    /// `value`, at most 4096 bytes, is what observers see, an address perhaps.
    ///
    /// # Errors
    /// [`Error::InvalidTtl`], [`Error::Config`] or [`Error::Randomness`].
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the candidate.
    pub async fn campaign(&self, value: impl Into<Vec<u8>>) -> Result<Leadership, Error> {
        self.lock.clone().describe(value).hold().await.map(Leadership)
    }

    /// Asks all nodes once who leads; `None` if no majority names the same leader.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if fewer than a majority answered.
    ///
    /// # Cancel safety
    /// Safe to drop: nothing is changed anywhere.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        let shared = &self.client.shared;
        let claim =
            Arc::new(Claim::new(vec![self.name.clone()], Owner::random()?, shared.node_count()));
        let mut round = shared.ask(Verb::Look, &claim, shared.node_timeout);
        let quorum = round.tally.quorum();
        loop {
            let (mut heard, mut open) = (0, 0);
            let mut seen: Vec<&Sighting> = Vec::new();
            for outcome in round.tally.outcomes() {
                match outcome {
                    None => open += 1,
                    Some(Ok(Answer::Seen(sighting))) => {
                        heard += 1;
                        seen.extend(sighting);
                    }
                    Some(_) => {}
                }
            }
            let (best, votes) = most_frequent(&seen, |one| &one.owner);
            if let Some(best) = best.filter(|_| votes >= quorum) {
                let of_leader: Vec<&Sighting> =
                    seen.iter().copied().filter(|one| one.owner == best.owner).collect();
                // A node that was late may still have the token of its own grant.
                let (fenced, agreed) = most_frequent(&of_leader, |one| &one.token);
                if agreed >= quorum || open == 0 {
                    let data = of_leader.iter().find_map(|one| one.data.as_ref());
                    return Ok(Some(Leader {
                        value: data.map(|data| data.to_vec()).unwrap_or_default(),
                        owner: String::from_utf8_lossy(&best.owner).into_owned(),
                        token: fenced.and_then(|one| one.token),
                    }));
                }
            } else if heard >= quorum && votes + open < quorum {
                return Ok(None);
            } else if open == 0 {
                return Err(round.tally.unreachable(&shared.labels()));
            }
            round.next().await;
        }
    }

    /// Watches who leads, by looking four times in a TTL.
    pub fn observe(&self) -> Observer {
        Observer { election: self.clone(), last: None }
    }
}

/// Watches an election; made by [`Election::observe`].
#[derive(Debug)]
pub struct Observer {
    election: Election,
    last: Option<Option<Leader>>,
}

impl Observer {
    /// The next change: who leads now, or `None` if nobody does. The first call tells how things are.
    ///
    /// While no majority answers there is no news. A term in office shorter than the interval between
    /// two looks may be missed.
    ///
    /// # Cancel safety
    /// Safe to drop: no change is lost.
    pub async fn changed(&mut self) -> Option<Leader> {
        loop {
            match self.election.leader().await {
                Ok(leader) if self.last.as_ref() != Some(&leader) => {
                    self.last = Some(leader.clone());
                    return leader;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "no majority tells who leads"),
            }
            sleep(look_interval(self.election.ttl).mul_f64(0.75 + random_fraction() / 2.0)).await;
        }
    }
}

/// A sighting with the most frequent value of `of`, and how often that occurs.
fn most_frequent<'a, T: PartialEq + 'a>(
    seen: &[&'a Sighting],
    of: impl Fn(&'a Sighting) -> &'a T,
) -> (Option<&'a Sighting>, usize) {
    let count = |one: &&'a Sighting| seen.iter().filter(|other| of(other) == of(one)).count();
    let best = seen.iter().copied().max_by_key(count);
    (best, best.as_ref().map_or(0, count))
}

fn look_interval(ttl: Duration) -> Duration {
    (ttl / LOOKS_PER_TTL).max(LOOK_INTERVAL_MIN)
}

/// A term in office: lasts until resigned, dropped or lost. Renewed in the background.
///
/// What a leader writes should carry [`Lease::token`]: a leader that was paused does not know that it
/// is one no more.
#[derive(Debug)]
#[must_use = "a leader that is dropped resigns at once"]
pub struct Leadership(Kept);

impl Leadership {
    /// Gives the office up; the next candidate in the queue has it.
    ///
    /// # Errors
    /// As [`Guard::release`](crate::Guard::release).
    ///
    /// # Cancel safety
    /// Whenever the future is dropped, the resignation goes on in the background.
    pub async fn resign(self) -> Result<(), Error> {
        self.0.release().await
    }
}

impl Deref for Leadership {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.0
    }
}
