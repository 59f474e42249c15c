//! Links between simulated nodes: late, lossy, one-way, or gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use openraft_rt_sim::SimRuntime;
use std::sync::atomic::Ordering::Relaxed;

use super::super::snapshot::SnapshotFile;
use super::super::types::{Leader, Member, NodeId, Vote};
use super::SimGroup;
use super::world::{SimRaft, World};

type RpcError = RPCError<SimGroup>;
type Snapshot = openraft::storage::Snapshot<Leader, NodeId, Member, SnapshotFile>;

/// Makes links from one node.
pub(super) struct SimNetwork {
    pub(super) world: Arc<World>,
    pub(super) from: NodeId,
}

/// A link to one node.
pub(super) struct Link {
    world: Arc<World>,
    from: NodeId,
    to: NodeId,
}

impl RaftNetworkFactory<SimGroup> for SimNetwork {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, _node: &Member) -> Link {
        Link { world: Arc::clone(&self.world), from: self.from, to: target }
    }
}

fn lost() -> Unreachable<SimGroup> {
    Unreachable::new(&io::Error::from(io::ErrorKind::TimedOut))
}

impl Link {
    async fn delay(&self) {
        let random = &self.world.random;
        let us = match random.below(100) {
            0 => 20_000 + random.below(60_000),
            _ => 100 + random.below(3_000),
        };
        SimRuntime::sleep(Duration::from_micros(us)).await;
    }

    /// Carries a request over; the node it came to.
    async fn carry(&self) -> Result<SimRaft, Unreachable<SimGroup>> {
        self.delay().await;
        if !self.world.passes(self.from, self.to) {
            SimRuntime::sleep(Duration::from_millis(20)).await;
            return Err(lost());
        }
        self.world.raft(self.to).ok_or_else(lost)
    }

    /// Carries the answer back.
    async fn back<T>(&self, answer: T) -> Result<T, Unreachable<SimGroup>> {
        self.delay().await;
        if self.world.passes(self.to, self.from) {
            return Ok(answer);
        }
        SimRuntime::sleep(Duration::from_millis(20)).await;
        Err(lost())
    }
}

impl RaftNetworkV2<SimGroup> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<SimGroup>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<SimGroup>, RpcError> {
        let raft = self.carry().await?;
        let answer = raft.append_entries(request).await.map_err(|_| lost())?;
        Ok(self.back(answer).await?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<SimGroup>,
        _option: RPCOption,
    ) -> Result<VoteResponse<SimGroup>, RpcError> {
        let raft = self.carry().await?;
        let answer = raft.vote(request).await.map_err(|_| lost())?;
        Ok(self.back(answer).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<SimGroup>,
        _option: RPCOption,
    ) -> Result<VoteResponse<SimGroup>, RpcError> {
        let raft = self.carry().await?;
        let answer = raft.pre_vote(request).await.map_err(|_| lost())?;
        Ok(self.back(answer).await?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<SimGroup>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<SimGroup>, RpcError> {
        let raft = self.carry().await?;
        let answer = raft.handle_transfer_leader(request).await.map_err(|_| lost())?;
        Ok(self.back(answer).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<SimGroup>, StreamingError<SimGroup>> {
        let gone = || StreamingError::Unreachable(lost());
        let raft = self.carry().await.map_err(|_| gone())?;
        let path = self.world.part(self.to);
        let copied = snapshot.snapshot.open().and_then(|mut from| {
            let mut to = std::fs::File::create(&path)?;
            io::copy(&mut from, &mut to)
        });
        copied.map_err(|_| gone())?;
        let file = SnapshotFile::at(&path).map_err(|_| gone())?;
        let snapshot = Snapshot { meta: snapshot.meta, snapshot: file };
        let answer = raft.install_full_snapshot(vote, snapshot).await.map_err(|_| gone())?;
        self.world.tally.snapshots_sent.fetch_add(1, Relaxed);
        self.back(answer).await.map_err(|_| gone())
    }
}
