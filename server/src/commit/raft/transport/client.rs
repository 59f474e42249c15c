//! Speaking to another member: openraft's network.
//!
//! A stream of appends keeps several requests on their way and yields the answers in order. It
//! waits for its first request before it connects: openraft opens streams to dead peers again and
//! again, and one that failed at once would make it spin. An answer that stays out for too long
//! ends the stream; a peer that was cut off in silence would otherwise hold it for ever.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use tokio::time::Instant;

use super::super::snapshot::SnapshotFile;
use super::super::types::{Group, Leader, Member, NodeId, Vote};
use super::super::wire;
use super::frame::Connection;
use super::handshake::{Hello, Purpose, Secret};
use super::message as msg;

/// An append that is not answered after so long ends the stream: longer than a slow disk takes.
const ACK_DEADLINE: Duration = Duration::from_secs(2);
/// So many appends may be on their way.
const WINDOW: usize = 32;
/// A snapshot is sent by steps of so many bytes.
const SNAPSHOT_STEP: usize = 1 << 20;
/// Each step, and the answer to the announcement, may take so long.
const SNAPSHOT_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Loading a snapshot may take the other end so long.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

type RpcError = RPCError<Group>;
type Snapshot = openraft::storage::Snapshot<Leader, NodeId, Member, SnapshotFile>;

/// Makes connections to members.
#[derive(Debug, Clone)]
pub struct Network {
    /// The secret.
    pub secret: Secret,
    /// The cluster's number.
    pub cluster: u64,
    /// This node's number.
    pub id: NodeId,
}

/// One member, for one of openraft's tasks.
#[derive(Debug)]
pub struct Peer {
    network: Arc<Network>,
    target: NodeId,
    addr: String,
    append: Option<Connection>,
    control: Option<Connection>,
}

impl RaftNetworkFactory<Group> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Peer {
        Peer {
            network: Arc::new(self.clone()),
            target,
            addr: node.raft_addr.clone(),
            append: None,
            control: None,
        }
    }
}

fn unreachable(error: &io::Error) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn broken(error: &io::Error) -> RpcError {
    RPCError::Network(NetworkError::new(error))
}

fn unexpected(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an answer of kind {kind}"))
}

impl Peer {
    async fn open(&self, purpose: Purpose) -> io::Result<Connection> {
        let hello = Hello {
            purpose,
            cluster: self.network.cluster,
            group: 0,
            from: self.network.id,
            to: self.target,
        };
        Connection::open(&self.addr, &hello, &self.network.secret).await
    }

    /// Asks on the kept control connection.
    async fn ask<T>(
        &mut self,
        kind: u8,
        answer_kind: u8,
        within: Duration,
        body: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(&[u8]) -> Result<T, wire::Malformed>,
    ) -> Result<T, RpcError> {
        let talk = async {
            let mut connection = match self.control.take() {
                Some(connection) => connection,
                None => self.open(Purpose::Control).await?,
            };
            let (got, bytes) = connection.ask(kind, body).await?;
            if got != answer_kind {
                return Err(unexpected(got));
            }
            let answer = read(&bytes)?;
            self.control = Some(connection);
            Ok(answer)
        };
        match tokio::time::timeout(within, talk).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(unreachable(&io::ErrorKind::TimedOut.into())),
        }
    }
}

/// A stream of appends under way.
struct Appends<'s, S> {
    peer: &'s mut Peer,
    connection: Option<Connection>,
    input: S,
    input_ended: bool,
    /// When each append that is not answered yet was sent.
    pending: VecDeque<Instant>,
    over: bool,
}

enum Next {
    Request(Option<AppendEntriesRequest<Group>>),
    Answer(io::Result<Option<(u8, bytes::BytesMut)>>),
    Late,
}

impl<S> Appends<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Group>> + OptionalSend + Unpin + 'static,
{
    async fn step(mut self) -> Option<(Result<StreamAppendResult<Group>, RpcError>, Self)> {
        if self.over {
            return None;
        }
        match self.advance().await {
            Ok(Some(answer)) => {
                // After a refusal openraft begins anew: so does the connection.
                self.over = answer.is_err();
                Some((Ok(answer), self))
            }
            Ok(None) => {
                self.peer.append = self.connection.take();
                None
            }
            Err(error) => {
                self.over = true;
                self.connection = None;
                Some((Err(error), self))
            }
        }
    }

    /// The next answer; `None` once all is sent and answered.
    async fn advance(&mut self) -> Result<Option<StreamAppendResult<Group>>, RpcError> {
        if self.connection.is_none() {
            let Some(first) = self.input.next().await else { return Ok(None) };
            let mut connection = match self.peer.append.take() {
                Some(connection) => connection,
                None => {
                    self.peer.open(Purpose::Append).await.map_err(|error| unreachable(&error))?
                }
            };
            send(&mut connection, &first).await.map_err(|error| broken(&error))?;
            self.pending.push_back(Instant::now());
            self.connection = Some(connection);
        }
        loop {
            if self.input_ended && self.pending.is_empty() {
                return Ok(None);
            }
            let Some(Connection { reader, .. }) = &mut self.connection else { return Ok(None) };
            let late = self.pending.front().map(|sent| *sent + ACK_DEADLINE);
            let next = tokio::select! {
                biased;
                answer = reader.next(), if !self.pending.is_empty() => Next::Answer(answer),
                request = self.input.next(), if !self.input_ended && self.pending.len() < WINDOW =>
                    Next::Request(request),
                () = tokio::time::sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some()
                    => Next::Late,
            };
            match next {
                Next::Request(None) => self.input_ended = true,
                Next::Request(Some(request)) => {
                    let Some(connection) = &mut self.connection else { return Ok(None) };
                    send(connection, &request).await.map_err(|error| broken(&error))?;
                    self.pending.push_back(Instant::now());
                }
                Next::Answer(Ok(Some((msg::APPENDED, bytes)))) => {
                    self.pending.pop_front();
                    let answer = msg::appended(&bytes);
                    return answer.map(Some).map_err(|error| broken(&error.into()));
                }
                Next::Answer(Ok(Some((kind, _)))) => return Err(broken(&unexpected(kind))),
                Next::Answer(Ok(None)) => {
                    return Err(broken(&io::ErrorKind::UnexpectedEof.into()));
                }
                Next::Answer(Err(error)) => return Err(broken(&error)),
                Next::Late => return Err(unreachable(&io::ErrorKind::TimedOut.into())),
            }
        }
    }
}

async fn send(
    connection: &mut Connection,
    request: &AppendEntriesRequest<Group>,
) -> io::Result<()> {
    let sending = connection.writer.send(msg::APPEND, |out| msg::put_append(out, request));
    tokio::time::timeout(ACK_DEADLINE, sending)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl RaftNetworkV2<Group> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Group>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Group>, RpcError> {
        let input = Box::pin(futures_util::stream::once(async { request }));
        let mut answers = self.stream_append(input, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(AppendEntriesResponse::from),
            None => Err(broken(&io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Group>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Group>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let appends = Appends {
                peer: self,
                connection: None,
                input,
                input_ended: false,
                pending: VecDeque::new(),
                over: false,
            };
            let stream: BoxStream<'s, _> =
                Box::pin(futures_util::stream::unfold(appends, Appends::step));
            Ok(stream)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RpcError> {
        let put = |out: &mut Vec<u8>| msg::put_vote_request(out, &request);
        self.ask(msg::VOTE, msg::VOTED, option.hard_ttl(), put, msg::voted).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Group>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group>, RpcError> {
        let put = |out: &mut Vec<u8>| msg::put_vote_request(out, &request);
        self.ask(msg::PRE_VOTE, msg::VOTED, option.hard_ttl(), put, msg::voted).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Group>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Group>, RpcError> {
        let put = |out: &mut Vec<u8>| msg::put_transfer(out, &request);
        self.ask(msg::TRANSFER, msg::TRANSFERRED, option.hard_ttl(), put, msg::transferred).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Group>, StreamingError<Group>> {
        let mut cancel = pin!(cancel);
        tokio::select! {
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(|error| {
                tracing::warn!("sending a snapshot to node {} failed: {error}", self.target);
                StreamingError::Unreachable(Unreachable::new(&error))
            }),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Peer {
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> io::Result<SnapshotResponse<Group>> {
        use std::os::unix::fs::FileExt;
        let file = snapshot.snapshot.open()?;
        let len = snapshot.snapshot.len();
        let mut sum = [0; 4];
        file.read_exact_at(&mut sum, len.saturating_sub(4))?;
        let announcement =
            msg::Announcement { vote, meta: snapshot.meta, len, sum: u32::from_le_bytes(sum) };
        let mut connection = self.open(Purpose::Snapshot).await?;
        let asked = connection.ask(msg::SNAPSHOT, |out| msg::put_announcement(out, &announcement));
        let (kind, bytes) = within(SNAPSHOT_STEP_TIMEOUT, asked).await?;
        if kind != msg::SNAPSHOT_FROM {
            return Err(failure(kind, &bytes));
        }
        let mut at = wire::Reader::new(&bytes).u64("offset")?.min(len);
        tracing::info!("sending a snapshot of {len} bytes to node {} from {at} on", self.target);
        let mut told = Instant::now();
        let mut buffer = vec![0; SNAPSHOT_STEP];
        while at < len {
            let step = SNAPSHOT_STEP.min(usize::try_from(len - at).unwrap_or(SNAPSHOT_STEP));
            file.read_exact_at(&mut buffer[..step], at)?;
            let sent = connection
                .writer
                .send(msg::SNAPSHOT_BYTES, |out| out.extend_from_slice(&buffer[..step]));
            within(SNAPSHOT_STEP_TIMEOUT, sent).await?;
            at += step as u64;
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                tracing::info!("snapshot to node {}: {} %", self.target, at * 100 / len);
            }
        }
        let answered = within(INSTALL_TIMEOUT, connection.reader.next()).await?;
        match answered {
            Some((msg::INSTALLED, bytes)) => {
                tracing::info!("node {} has the snapshot", self.target);
                let vote = wire::vote(&mut wire::Reader::new(&bytes))?;
                Ok(SnapshotResponse::new(vote))
            }
            Some((kind, bytes)) => Err(failure(kind, &bytes)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn failure(kind: u8, bytes: &[u8]) -> io::Error {
    if kind == msg::FAILED {
        return io::Error::other(String::from_utf8_lossy(bytes).into_owned());
    }
    unexpected(kind)
}
