//! From submissions to log entries: drain what all connections have submitted, propose it as one.
//!
//! A few entries are in flight at a time; what queues up meanwhile makes up the next one, so that
//! a busy cluster syncs once for hundreds of writes and an idle one at once for each.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::{mpsc, oneshot};

use super::ENTRY_LEN_MAX;
use super::applied::Applied;
use super::batch::{self, Header, Items};
use super::outcome::{Outcome, Refusal};
use super::state_machine::StateMachine;
use super::surroundings::Surroundings;
use super::types::{Batch, Group};

/// Proposals of one entry.
const ENTRY_COUNT_MAX: usize = 1024;
/// An entry takes up no more once it has so many bytes.
const ENTRY_LEN_AIM: usize = 1 << 20;
/// Entries in flight.
const IN_FLIGHT_MAX: usize = 4;
/// After so long what became of a proposal counts as unknown.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection submits, and whom to tell what it came to: one outcome per proposal.
#[derive(Debug)]
pub(super) struct Submission {
    /// The proposals.
    pub items: Items,
    /// Told once.
    pub done: oneshot::Sender<Result<Vec<Outcome>, Refusal>>,
}

type Raft = openraft::Raft<Group, StateMachine>;

/// Proposes until the node is dropped.
pub(super) async fn run(
    raft: Raft,
    node: Arc<dyn Surroundings>,
    applied: Arc<Applied>,
    mut submissions: mpsc::UnboundedReceiver<Submission>,
) {
    let mut in_flight = FuturesOrdered::new();
    let mut ended = false;
    loop {
        let first = tokio::select! {
            biased;
            Some(()) = in_flight.next(), if !in_flight.is_empty() => continue,
            first = submissions.recv(), if !ended && in_flight.len() < IN_FLIGHT_MAX => first,
            else => return,
        };
        let Some(first) = first else {
            ended = true;
            continue;
        };
        let mut group = Vec::new();
        take(&mut group, first);
        let (mut count, mut len) = total(&group);
        while count < ENTRY_COUNT_MAX
            && len < ENTRY_LEN_AIM
            && let Ok(next) = submissions.try_recv()
        {
            take(&mut group, next);
            (count, len) = total(&group);
        }
        if group.is_empty() {
            continue;
        }
        let header = Header {
            stamp: applied.clock(node.monotonic_us(), node.wall_ms()),
            seed: random_seed(),
            instruction_limit: node.instruction_limit(),
        };
        let bytes = batch::encode(header, group.iter().map(|submission| &submission.items));
        let (responder, answer) = OneshotResponder::new_pair();
        let sent = raft.client_write_ff(Batch(bytes), Some(responder)).await;
        in_flight.push_back(finish(sent, answer, group));
    }
}

fn total(group: &[Submission]) -> (usize, usize) {
    group.iter().fold((0, 0), |(count, len), submission| {
        (count + submission.items.count(), len + submission.items.len_bytes())
    })
}

/// Takes a submission up, unless no entry could hold it.
fn take(group: &mut Vec<Submission>, submission: Submission) {
    if submission.items.len_bytes() > ENTRY_LEN_MAX - 1024 {
        let _ = submission.done.send(Err(Refusal::TooLarge));
        return;
    }
    group.push(submission);
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the sequence still tells proposals apart.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Tells everybody of an entry what it came to.
async fn finish<E>(
    sent: Result<(), Fatal<Group>>,
    answer: impl Future<Output = Result<ClientWriteResult<Group>, E>>,
    group: Vec<Submission>,
) {
    if let Err(fatal) = sent {
        let refusal = Refusal::Failed(fatal.to_string());
        return refuse(group, &refusal);
    }
    let outcomes = match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(response))) => response.data,
        // Rejected before it was appended.
        Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => {
            return refuse(group, &Refusal::NotLeader);
        }
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => return refuse(group, &Refusal::Unknown),
    };
    let mut outcomes = outcomes.into_iter();
    for submission in group {
        let own: Vec<Outcome> = outcomes.by_ref().take(submission.items.count()).collect();
        let _ = submission.done.send(Ok(own));
    }
}

fn refuse(group: Vec<Submission>, refusal: &Refusal) {
    for submission in group {
        let _ = submission.done.send(Err(refusal.clone()));
    }
}
