//! What can go wrong, told apart by what the caller should do about it.

use std::fmt;
use std::time::Duration;

/// Why a lock was not acquired, extended or released.
///
/// The text of each says what to do next; match on the variant to do it in code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another owner holds the resource on so many nodes that no quorum is left.
    Contended {
        /// Nodes that granted the lock; they have been released again.
        granted: usize,
        /// Nodes on which another owner holds it.
        held: usize,
        /// Grants needed.
        quorum: usize,
    },
    /// So many nodes failed to answer, or refused, that a quorum is impossible.
    Unreachable {
        /// Nodes that did what was asked.
        answered: usize,
        /// Answers needed.
        quorum: usize,
        /// One entry per failed node.
        failures: Vec<NodeFailure>,
    },
    /// A quorum granted the lock, but by then its validity had been used up.
    TooSlow {
        /// Time from sending the requests to having the quorum.
        elapsed: Duration,
        /// The TTL that was asked for.
        ttl: Duration,
    },
    /// The lock is no longer held: its deadline passed, or a majority no longer knows it.
    Lost,
    /// Nodes that restarted without their locks refuse new ones until the longest old one has run out.
    Quarantined {
        /// When a quorum can be had again, by the nodes' own account.
        retry_after: Duration,
    },
    /// The TTL is outside what a lease can be.
    InvalidTtl {
        /// What was asked for.
        ttl: Duration,
        /// Shortest TTL accepted.
        min: Duration,
        /// Longest TTL accepted.
        max: Duration,
    },
    /// The client cannot be built, or the call cannot be made, as it was asked for.
    Config(String),
    /// The system gave no random bytes; owners would not be unique.
    Randomness(String),
}

impl Error {
    /// Whether another attempt, later, can succeed without any change by the caller.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Contended { .. }
                | Self::Unreachable { .. }
                | Self::TooSlow { .. }
                | Self::Quarantined { .. }
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contended { granted, held, quorum } => write!(
                f,
                "the lock is held by another owner on {held} node(s) ({granted} granted, {quorum} needed): \
                 retry later, or allow more retries"
            ),
            Self::Unreachable {
                answered,
                quorum,
                failures,
            } => {
                write!(
                    f,
                    "only {answered} node(s) did what was asked, {quorum} are needed: check these nodes:"
                )?;
                for (i, failure) in failures.iter().enumerate() {
                    write!(f, "{} {failure}", if i == 0 { "" } else { ";" })?;
                }
                Ok(())
            }
            Self::TooSlow { elapsed, ttl } => write!(
                f,
                "a quorum granted the lock only after {elapsed:?} of its {ttl:?}, so nothing of it was left: \
                 use a longer TTL, or find what delayed the nodes or this process"
            ),
            Self::Lost => f.write_str(
                "the lock is no longer held: stop touching the resource; to go on, acquire the lock again",
            ),
            Self::Quarantined { retry_after } => write!(
                f,
                "nodes that restarted without their locks refuse new ones for another {retry_after:?}: retry then"
            ),
            Self::InvalidTtl { ttl, min, max } => {
                write!(f, "a TTL of {ttl:?} cannot be a lease: use one from {min:?} to {max:?}")
            }
            Self::Config(what) => f.write_str(what),
            Self::Randomness(what) => write!(
                f,
                "the system gave no random bytes for an owner token ({what}): check its random device"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// One node's part in a failure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeFailure {
    /// The node's address, without credentials.
    pub node: String,
    /// What it did, or failed to do.
    pub cause: NodeCause,
}

impl fmt::Display for NodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.cause)
    }
}

/// What a node did instead of answering as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeCause {
    /// No answer within the per-node timeout.
    Timeout,
    /// No connection could be made, or the server refused its set-up (TLS, AUTH, SELECT).
    Connect(String),
    /// The connection broke before the answer came; the request may or may not have been carried out.
    Disconnected(String),
    /// The server answered with this error.
    Refused(String),
    /// The server answered with something that is not an answer to this request.
    Protocol(String),
    /// Too many requests are already waiting for this node.
    Overloaded,
    /// The lock is not on this node, or belongs to another owner there.
    NotHeld,
    /// The server cannot do what the lock asks for.
    Unsupported(String),
    /// The node is in quarantine after a restart, for this much longer.
    Quarantined(Duration),
}

impl fmt::Display for NodeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Connect(why) => write!(f, "cannot connect: {why}"),
            Self::Disconnected(why) => write!(f, "connection lost: {why}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
            Self::Protocol(what) => write!(f, "not a sensible reply: {what}"),
            Self::Overloaded => f.write_str("too many requests are waiting for it"),
            Self::NotHeld => f.write_str("does not hold this lock"),
            Self::Unsupported(what) => f.write_str(what),
            Self::Quarantined(left) => write!(f, "in quarantine for {left:?}"),
        }
    }
}
