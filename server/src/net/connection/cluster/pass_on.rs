//! Passing a client on to the leader: a connection there, and bytes both ways until one side ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_engine::{CommandError, Reply};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Passed;
use crate::commit::raft::cluster::pass_on;
use crate::commit::raft::{RaftNode, Refusal};
use crate::net::Stream;
use crate::net::connection::{Connection, End, OwnedCommand};
use crate::net::members;
use crate::session::Kill;

/// So long a client waits for a leader to be elected before it is told that there is none.
const LEADER_PATIENCE: Duration = Duration::from_millis(1500);
/// A client is passed on so often at most: nodes may for a moment take each other for the leader.
const HOPS_MAX: u8 = 3;

impl Connection {
    /// Passes the client on to the leader for good, beginning with the command in front.
    pub(super) async fn pass_on(&mut self, raft: &Arc<RaftNode>) -> Result<Passed, End> {
        let far = self.session.hops >= HOPS_MAX;
        if far || raft.running().is_none() {
            let text = if far {
                CommandError::from(Refusal::NoQuorum)
            } else {
                CommandError::known(
                    "CLUSTERDOWN This node belongs to no cluster yet: RAFT.CLUSTER INIT or JOIN",
                )
            };
            self.refuse_front(text);
            // One that came by another node goes back there, which finds the new leader.
            self.session.closing |= far;
            return Ok(Passed::Here);
        }
        if self.session.queue.is_some() {
            // This node led when the transaction began.
            self.end_transaction();
            return Ok(Passed::Here);
        }
        if !self.session.watches.is_empty() {
            self.session.lose_watches();
        }
        let until = Instant::now() + LEADER_PATIENCE;
        let session = members::encode_session(&self.session);
        let upstream = loop {
            let left = until.saturating_duration_since(Instant::now());
            let raft = Arc::clone(raft);
            let known = self.waiting_for(async { raft.wait_for_leader(left).await }).await?;
            if known.here {
                return Ok(Passed::Here);
            }
            if let Some(text) = raft.failure() {
                self.refuse_front(CommandError::from(Refusal::Failed(text)));
                return Ok(Passed::Here);
            }
            if known.leader.is_some()
                && let Ok(stream) = self.waiting_for(pass_on(&raft, &session)).await?
            {
                break stream;
            }
            if Instant::now() >= until {
                self.refuse_front(CommandError::from(Refusal::NoQuorum));
                return Ok(Passed::Here);
            }
            let pause = tokio::time::sleep(Duration::from_millis(20));
            self.waiting_for(pause).await?;
        };
        while !self.output.is_empty() {
            self.event(None, false).await?;
        }
        self.splice(upstream).await?;
        Ok(Passed::Over)
    }

    /// Answers the command in front, which no leader can be found for.
    fn refuse_front(&mut self, error: CommandError) {
        if let Some(command) = self.aside.pop_front() {
            self.refuse_framing(&command, error);
        }
    }

    /// Refuses a command without changing what the commands behind it mean: MULTI opens a transaction
    /// that will fail, and a refused WATCH fails the next EXEC.
    pub(super) fn refuse_framing(&mut self, command: &OwnedCommand, error: CommandError) {
        let name = command.first().map_or(&[][..], Vec::as_slice);
        if name.eq_ignore_ascii_case(b"multi") {
            self.session.begin_failed_transaction();
            self.reply_in_order(&Reply::Ok);
            return;
        }
        if name.eq_ignore_ascii_case(b"watch") {
            self.session.lose_watches();
        }
        self.reply_in_order(&Reply::error(error));
    }

    /// Ends a transaction by the command in front, EXEC or DISCARD, on a node that cannot run it.
    fn end_transaction(&mut self) {
        let Some(command) = self.aside.pop_front() else { return };
        let failed = self.session.queue.as_ref().is_some_and(|queue| queue.failed);
        if !command[0].eq_ignore_ascii_case(b"exec") && !command[0].eq_ignore_ascii_case(b"discard")
        {
            // MULTI and WATCH inside a transaction are errors that do not end it.
            drop(self.run_here(command));
            return;
        }
        self.session.discard();
        let reply = if command[0].eq_ignore_ascii_case(b"discard") {
            Reply::Ok
        } else if failed {
            Reply::error(CommandError::known(
                "EXECABORT Transaction discarded because of previous errors.",
            ))
        } else {
            Reply::error(CommandError::known(
                "EXECABORT Transaction discarded because of: the leader of the cluster has changed",
            ))
        };
        self.reply_in_order(&reply);
    }

    /// Bytes both ways, until either end goes.
    async fn splice(&mut self, mut upstream: TcpStream) -> Result<(), End> {
        let mut first = Vec::new();
        for command in self.aside.drain(..) {
            first.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for arg in command {
                first.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                first.extend_from_slice(&arg);
                first.extend_from_slice(b"\r\n");
            }
        }
        first.extend_from_slice(&self.input);
        self.input.clear();
        upstream.write_all(&first).await?;
        let client = Arc::clone(&self.session.client);
        client.shown.last_used_us.store(self.node.clock.monotonic_us(), Relaxed);
        let mut watched = Watched { stream: &mut self.stream, asked: true };
        {
            let (mut from_client, mut to_client) = tokio::io::split(&mut watched);
            let (mut from_leader, mut to_leader) = upstream.split();
            let killed = std::future::poll_fn(|context| {
                client.register(context);
                if client.killed() == Kill::No { Poll::Pending } else { Poll::Ready(()) }
            });
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_leader) => return Ok(()),
                _ = tokio::io::copy(&mut from_leader, &mut to_client) => {}
                () = killed => return Ok(()),
            }
        }
        // The leader went. Whoever was asked something by now is told that nobody knows.
        if watched.asked {
            let text = "-UNKNOWN The leader of the cluster was lost before it answered: what was \
                asked for may or may not have been done\r\n";
            let _ = self.stream.write_all(text.as_bytes()).await;
        }
        Ok(())
    }
}

/// A client's stream that remembers whether a request came after the last reply went.
struct Watched<'a> {
    stream: &'a mut Stream,
    asked: bool,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.stream).poll_read(context, buffer);
        self.asked |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(_))) {
            self.asked = false;
        }
        written
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}
