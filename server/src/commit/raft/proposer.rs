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
use super::types::{self, Batch};

/// Proposals of one entry.
const ENTRY_COUNT_MAX: usize = 1024;
/// An entry takes up no more once it has so many bytes.
const ENTRY_LEN_AIM: usize = 1 << 20;
/// Entries in flight. A further one must have as many proposals as all that are under way, or be
/// full: what a few clients write, each for itself, would else become many small entries, and every
/// node pays for each.
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

type Raft = openraft::Raft<types::Group, StateMachine>;

/// What waits for its entry.
#[derive(Default)]
struct Group {
    submissions: Vec<Submission>,
    count: usize,
    len: usize,
}

impl Group {
    /// Takes a submission up, unless no entry could hold it.
    fn take(&mut self, submission: Submission) {
        let len = submission.items.len_bytes();
        if len > ENTRY_LEN_MAX - 1024 {
            let _ = submission.done.send(Err(Refusal::TooLarge));
            return;
        }
        self.count += submission.items.count();
        self.len += len;
        self.submissions.push(submission);
    }

    fn is_full(&self) -> bool {
        self.count >= ENTRY_COUNT_MAX || self.len >= ENTRY_LEN_AIM
    }
}

/// Proposes until the node is dropped.
pub(super) async fn run(
    raft: Raft,
    node: Arc<dyn Surroundings>,
    applied: Arc<Applied>,
    mut submissions: mpsc::UnboundedReceiver<Submission>,
) {
    let mut in_flight = FuturesOrdered::new();
    let (mut group, mut under_way, mut ended) = (Group::default(), 0, false);
    loop {
        while !group.is_full()
            && let Ok(next) = submissions.try_recv()
        {
            group.take(next);
        }
        let is_due = in_flight.is_empty()
            || in_flight.len() < IN_FLIGHT_MAX && (group.is_full() || group.count >= under_way);
        if !group.submissions.is_empty() && is_due {
            let group = std::mem::take(&mut group);
            let header = Header {
                stamp: applied.clock(node.monotonic_us(), node.wall_ms()),
                seed: random_seed(),
                instruction_limit: node.instruction_limit(),
            };
            let items = group.submissions.iter().map(|submission| &submission.items);
            let bytes = batch::encode(header, items);
            let (responder, answer) = OneshotResponder::new_pair();
            let sent = raft.client_write_ff(Batch(bytes), Some(responder)).await;
            under_way += group.count;
            in_flight.push_back(finish(sent, answer, group));
            continue;
        }
        tokio::select! {
            biased;
            Some(count) = in_flight.next(), if !in_flight.is_empty() => under_way -= count,
            next = submissions.recv(), if !ended && !group.is_full() => match next {
                Some(next) => group.take(next),
                None => ended = true,
            },
            else => return,
        }
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the sequence still tells proposals apart.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Tells everybody of an entry what it came to, and how many proposals it had.
async fn finish<E>(
    sent: Result<(), Fatal<types::Group>>,
    answer: impl Future<Output = Result<ClientWriteResult<types::Group>, E>>,
    group: Group,
) -> usize {
    let Group { submissions, count, .. } = group;
    let answered = match sent {
        Ok(()) => tokio::time::timeout(PATIENCE, answer).await,
        Err(fatal) => {
            refuse(submissions, &Refusal::Failed(fatal.to_string()));
            return count;
        }
    };
    let refusal = match answered {
        Ok(Ok(Ok(response))) => {
            let mut outcomes = response.data.into_iter();
            for submission in submissions {
                let own: Vec<Outcome> = outcomes.by_ref().take(submission.items.count()).collect();
                let _ = submission.done.send(Ok(own));
            }
            return count;
        }
        // Rejected before it was appended.
        Ok(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => Refusal::NotLeader,
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => Refusal::Unknown,
    };
    refuse(submissions, &refusal);
    count
}

fn refuse(group: Vec<Submission>, refusal: &Refusal) {
    for submission in group {
        let _ = submission.done.send(Err(refusal.clone()));
    }
}
