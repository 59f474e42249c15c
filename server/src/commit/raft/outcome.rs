//! What applying a proposal answers.

use holdfast_engine::effects::Wait;
use holdfast_engine::{CommandError, Reply};

/// What one proposal of an entry came to; made only where somebody waits for it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A command's reply, and what its looks at keys found.
    Reply {
        /// The reply.
        reply: Reply,
        /// Looks that found a key.
        hits: u32,
        /// Looks that found none.
        misses: u32,
        /// How long it ran.
        took_us: u64,
    },
    /// A blocking command found nothing and changed nothing.
    Wait(Wait),
    /// A transaction's replies and how long it ran; `None` when a watched key had changed.
    Transaction(Option<(Vec<Reply>, u64)>),
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This node does not lead; nothing was proposed.
    NotLeader,
    /// There is no leader, or none that reaches a majority; nothing was proposed.
    NoQuorum,
    /// It was proposed, and whether it has been or will be applied cannot be known.
    Unknown,
    /// It does not fit into a log record; nothing was proposed.
    TooLarge,
    /// This node's Raft has stopped; the text says why.
    Failed(String),
    /// CLIENT PAUSE holds up writes at the leader; nothing was proposed.
    Paused,
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader | Refusal::NoQuorum => Self::known(
                "CLUSTERDOWN The cluster has no leader that reaches a majority; nothing was done",
            ),
            Refusal::Unknown => Self::known(
                "UNKNOWN The leader could not learn whether this was committed: it may or may not \
                 have been done, now or in a moment",
            ),
            Refusal::TooLarge => {
                Self::known("ERR the command is larger than a record of the Raft log may be")
            }
            Refusal::Failed(text) => {
                Self::new(format!("MISCONF Raft has stopped on this node: {text}"))
            }
            Refusal::Paused => {
                Self::known("CLUSTERDOWN The leader is paused (CLIENT PAUSE); nothing was done")
            }
        }
    }
}
