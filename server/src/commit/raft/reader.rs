//! Linearizable reads: one round of ReadIndex releases every read that waits for it.
//!
//! The leader asks a majority whether it still leads; then its own state, once it has applied what
//! was committed when it asked, answers. A read judges expiry by the leader's clock, but never calls
//! a key expired that the log does not: if one would be, an entry that only moves time on comes
//! first, for after an election the clock may be earlier.

use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::time::UnixMillis;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::applied::Applied;
use super::batch::Items;
use super::outcome::Refusal;
use super::proposer::Submission;
use super::state_machine::StateMachine;
use super::surroundings::Surroundings;
use super::types::Group;

/// A round that takes longer has no quorum.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds under way at a time.
const ROUNDS_MAX: usize = 2;

/// How a read makes sure that this node leads. Not by a lease: a restarted voter forgets it.
pub(super) const READ_POLICY: ReadPolicy = ReadPolicy::ReadIndex;

/// Somebody who wants to read, told the time to read at.
pub(super) type Reading = oneshot::Sender<Result<UnixMillis, Refusal>>;

/// What rounds need.
#[derive(Clone)]
pub(super) struct Rounds {
    pub(super) raft: openraft::Raft<Group, StateMachine>,
    pub(super) node: Arc<dyn Surroundings>,
    pub(super) applied: Arc<Applied>,
    pub(super) proposals: mpsc::UnboundedSender<Submission>,
}

impl Rounds {
    /// Releases reads until the node is dropped.
    pub(super) async fn run(self, mut readings: mpsc::UnboundedReceiver<Reading>) {
        let under_way = Arc::new(tokio::sync::Semaphore::new(ROUNDS_MAX));
        while let Some(first) = readings.recv().await {
            let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
            let mut group = vec![first];
            while let Ok(next) = readings.try_recv() {
                group.push(next);
            }
            let rounds = self.clone();
            tokio::spawn(async move {
                let read_at = rounds.round().await;
                drop(permit);
                for reading in group {
                    let _ = reading.send(read_at.clone());
                }
            });
        }
    }

    async fn round(&self) -> Result<UnixMillis, Refusal> {
        let asked = self.raft.ensure_linearizable(READ_POLICY);
        match tokio::time::timeout(ROUND_TIMEOUT, asked).await {
            Ok(Ok(_)) => {}
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                return Err(Refusal::NotLeader);
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                return Err(Refusal::NoQuorum);
            }
            Ok(Err(RaftError::Fatal(fatal))) => return Err(Refusal::Failed(fatal.to_string())),
        }
        let now = self.applied.clock(self.node.monotonic_us(), self.node.wall_ms());
        let applied = self.applied.now();
        if now > applied && self.node.engine().keyspace().has_due(now) {
            tick(&self.proposals).await?;
            return Ok(self.applied.now());
        }
        Ok(now.max(applied))
    }
}

/// Proposes an entry that only moves time on, and waits until it is applied.
pub(super) async fn tick(proposals: &mpsc::UnboundedSender<Submission>) -> Result<(), Refusal> {
    let (done, told) = oneshot::channel();
    let submission = Submission { items: Items::default(), done };
    proposals.send(submission).map_err(|_| Refusal::NoQuorum)?;
    told.await.unwrap_or(Err(Refusal::Unknown)).map(|_| ())
}
