//! The types that openraft is used with.
//!
//! Everything is generic over [`Types`], so that the simulation can run the same code on its own
//! runtime; the server itself runs [`Group`]. Types of openraft must not leave `commit::raft`.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder};
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};

use super::outcome::Outcome;

/// A member's number; given by the cluster, never used twice.
pub type NodeId = u64;
pub(crate) type Leader = LeaderId<u64, NodeId>;
pub(crate) type LogId = openraft::LogId<Leader>;
pub(crate) type Vote = openraft::impls::Vote<Leader>;
pub(crate) type Payload = EntryPayload<Batch, NodeId, Member>;
pub(crate) type Entry = openraft::impls::Entry<Leader, Payload>;
pub(crate) type Membership = openraft::Membership<NodeId, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<Leader, NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Leader, NodeId, Member>;

/// Where a member is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// `host:port` for the other members.
    pub raft_addr: String,
    /// `host:port` for clients.
    pub client_addr: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.client_addr)
    }
}

/// The encoded proposals of one log entry, see [`super::batch`].
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(pub Bytes);

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A configuration of openraft with our types; only the runtime is open.
pub trait Types:
    RaftTypeConfig<
        D = Batch,
        R = Vec<Outcome>,
        NodeId = NodeId,
        Node = Member,
        Term = u64,
        LeaderId = Leader,
        Vote = Vote,
        Payload = Payload,
        Entry = Entry,
    >
{
}

impl<C> Types for C where
    C: RaftTypeConfig<
            D = Batch,
            R = Vec<Outcome>,
            NodeId = NodeId,
            Node = Member,
            Term = u64,
            LeaderId = Leader,
            Vote = Vote,
            Payload = Payload,
            Entry = Entry,
        >
{
}

/// The configuration of the server: tokio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group;

impl RaftTypeConfig for Group {
    type D = Batch;
    type R = Vec<Outcome>;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = Leader;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}
