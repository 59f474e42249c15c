//! What one acquisition asks of the nodes, and what is known of each node's part in it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;

use crate::lease::{Ttl, quorum, semaphore_quorum};
use crate::owner::Owner;

/// Whom a hold of a lock keeps out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Everybody.
    Exclusive,
    /// Whoever wants it exclusively.
    Shared,
    /// Whoever wants more permits than are left.
    Permits { count: u32, limit: u32 },
}

/// What one acquisition has asked of the nodes, shared by everything that acts on it.
pub(crate) struct Claim {
    pub(crate) keys: Vec<Bytes>,
    pub(crate) owner: Owner,
    pub(crate) mode: Mode,
    /// What LOCK.INFO shows beside the owner.
    pub(crate) data: Option<Bytes>,
    /// Once set, nothing but releases is written any more, even if it was queued before.
    abandoned: AtomicBool,
    nodes: Box<[Part]>,
}

/// One node's part.
struct Part {
    /// [`SENT`], [`SUSPECT`] and [`ASKED`].
    marks: AtomicU8,
    /// Shortest extension, ms, that was written to a connection which then broke.
    stray_extend_ms: AtomicU64,
}

/// The node may hold the keys: a request that takes them was written.
const SENT: u8 = 1;
/// Such a request was written to a connection that then broke, so it may still take effect.
const SUSPECT: u8 = 2;
/// A request that waits in the node's queue was written to a connection of its own, unanswered yet.
const ASKED: u8 = 4;

impl Claim {
    pub(crate) fn new(keys: Vec<Bytes>, owner: Owner, nodes: usize) -> Self {
        let part = || Part { marks: AtomicU8::new(0), stray_extend_ms: AtomicU64::new(u64::MAX) };
        Self {
            keys,
            owner,
            mode: Mode::Exclusive,
            data: None,
            abandoned: AtomicBool::new(false),
            nodes: (0..nodes).map(|_| part()).collect(),
        }
    }

    /// How many nodes must agree for this claim to stand.
    pub(crate) fn quorum(&self) -> usize {
        match self.mode {
            Mode::Exclusive | Mode::Shared => quorum(self.nodes.len()),
            Mode::Permits { limit, .. } => semaphore_quorum(self.nodes.len(), limit),
        }
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    fn mark(&self, node: usize, mark: u8) {
        self.nodes[node].marks.fetch_or(mark, Ordering::SeqCst);
    }

    pub(crate) fn mark_sent(&self, node: usize) {
        self.mark(node, SENT);
    }

    pub(crate) fn is_sent(&self, node: usize) -> bool {
        self.nodes[node].marks.load(Ordering::SeqCst) & SENT != 0
    }

    pub(crate) fn mark_suspect(&self, node: usize) {
        self.mark(node, SUSPECT);
    }

    /// A request is about to wait in the node's queue, over a connection of its own.
    pub(crate) fn mark_asked(&self, node: usize) {
        self.mark(node, SENT | ASKED);
    }

    /// The node has answered that request.
    pub(crate) fn mark_answered(&self, node: usize) {
        self.nodes[node].marks.fetch_and(!ASKED, Ordering::SeqCst);
    }

    /// Whether a request may still take effect on the node behind a release; the question clears it.
    pub(crate) fn take_suspect(&self, node: usize) -> bool {
        let marks = self.nodes[node].marks.fetch_and(!(SUSPECT | ASKED), Ordering::SeqCst);
        marks & (SUSPECT | ASKED) != 0
    }

    /// An extension by `ttl` was written to a connection that then broke: it may come yet.
    pub(crate) fn mark_stray_extend(&self, node: usize, ttl: Ttl) {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.nodes[node].stray_extend_ms.fetch_min(ttl_ms, Ordering::SeqCst);
    }

    /// Whether an earlier extension that may come yet would cut one by `ttl` short.
    pub(crate) fn may_be_cut_short(&self, node: usize, ttl: Ttl) -> bool {
        u128::from(self.nodes[node].stray_extend_ms.load(Ordering::SeqCst)) < ttl.as_millis()
    }
}
