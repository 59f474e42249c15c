//! The task that owns a node's connection: connects when there is work, pipelines requests, matches
//! replies in order, gives up silent connections, and keeps releases until they are carried out.
//!
//! Invariant: requests about one claim reach a node in the order they were sent, so a release always
//! lands behind the request it undoes; and after a claim is abandoned only releases are written.
//! Invariant: a release whose claim may be on the node is dropped only when the node has answered it,
//! or when its keys must have expired.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::NodeCause;
use crate::net::codec::{Reply, decode};
use crate::net::command::{Answer, Dialect, Outcome, Request, Verb};
use crate::net::handshake::{self, Link};
use crate::net::node::{NodeConfig, NodeKind};
use crate::net::rescue;
use crate::net::script::Form;
use crate::owner::random_fraction;
use crate::stats::Event;

/// First delay after a failed connect; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest delay, so that a node that heals is back in use within seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Until a release is repeated that was refused, or that undoes a request written to a connection
/// which broke: the server may get to that request only after the first release.
const REPEAT_DELAY: Duration = Duration::from_secs(1);
/// Requests taken from the queue before they are written.
const BATCH_MAX: usize = 256;
const READ_CAPACITY: usize = 4096;

struct InFlight {
    request: Request,
    form: Form,
    dialect: Dialect,
}

/// How a connection ended.
enum End {
    /// Nobody can ask for anything more, and nothing is left to do.
    Finished,
    Broken(String),
}

pub(crate) struct Actor {
    config: Arc<NodeConfig>,
    queue: mpsc::UnboundedReceiver<Request>,
    /// Taken from the queue, or left over from a broken connection; oldest first.
    waiting: VecDeque<Request>,
    /// Written; replies come in this order.
    in_flight: VecDeque<InFlight>,
    /// Releases to send again at a given time. One delay for all, so oldest first.
    delayed: VecDeque<(Instant, Request)>,
    connect_failures: u32,
    /// What the present connection speaks.
    dialect: Dialect,
}

impl Actor {
    pub(crate) fn new(config: Arc<NodeConfig>, queue: mpsc::UnboundedReceiver<Request>) -> Self {
        Self {
            config,
            queue,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            delayed: VecDeque::new(),
            connect_failures: 0,
            dialect: Dialect::Plain,
        }
    }

    /// Runs until every handle of the node is gone and every release is settled.
    pub(crate) async fn run(mut self) {
        while self.has_work().await {
            let connected =
                timeout(self.config.connect_timeout, handshake::connect(&self.config)).await;
            match connected.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(link) => {
                    self.connect_failures = 0;
                    self.dialect = link.dialect;
                    self.config.counters.count(Event::connected);
                    tracing::debug!(node = %self.config.label, "connected");
                    match self.serve(link).await {
                        End::Finished => return,
                        End::Broken(why) => self.broken(&why),
                    }
                }
                Err(why) => {
                    self.config.counters.count(Event::connect_failed);
                    tracing::debug!(node = %self.config.label, %why, "cannot connect");
                    self.back_off(&why).await;
                }
            }
        }
    }

    /// Waits for a reason to connect; false when there can be none any more.
    async fn has_work(&mut self) -> bool {
        loop {
            self.waiting.extend(self.delayed.drain(..).map(|(_, request)| request));
            self.waiting.retain_mut(|request| {
                let live = request.is_live();
                if !live {
                    report_dead(request);
                }
                live
            });
            if !self.waiting.is_empty() {
                return true;
            }
            match self.queue.recv().await {
                Some(request) => self.waiting.push_back(request),
                None => return false,
            }
        }
    }

    /// Refuses requests at once while waiting to connect again; keeps releases.
    async fn back_off(&mut self, why: &str) {
        let refuse = |waiting: &mut VecDeque<Request>, mut request: Request| {
            if request.is_release() {
                waiting.push_back(request);
            } else {
                request.report(Err(NodeCause::Connect(why.to_owned())));
            }
        };
        for request in mem::take(&mut self.waiting) {
            refuse(&mut self.waiting, request);
        }
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.connect_failures.min(10));
        self.connect_failures = self.connect_failures.saturating_add(1);
        let delay = doubled.min(BACKOFF_MAX).mul_f64(0.5 + random_fraction() / 2.0);
        let until = Instant::now() + delay;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                request = self.queue.recv() => match request {
                    Some(request) => refuse(&mut self.waiting, request),
                    // Keeps the delay for releases that are still waiting.
                    None => return sleep_until(until).await,
                },
            }
        }
    }

    async fn serve(&mut self, Link { stream, protocol, .. }: Link) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = BytesMut::with_capacity(READ_CAPACITY);
        let mut output = BytesMut::new();
        let mut flushed = true;
        let mut queue_open = true;
        let mut heard = Instant::now();
        for request in mem::take(&mut self.waiting) {
            self.submit(request, Form::Digest, &mut output);
        }
        loop {
            if !queue_open && self.in_flight.is_empty() && self.delayed.is_empty() {
                return End::Finished;
            }
            let idle = self.in_flight.is_empty();
            let silent_at = (!idle).then(|| heard + self.config.silence_timeout);
            let repeat_at = self.delayed.front().map(|(at, _)| *at);
            let wake_at = silent_at.into_iter().chain(repeat_at).min();
            let to_write = !output.is_empty() || !flushed;
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    match read {
                        Ok(0) => return End::Broken("closed by the server".to_owned()),
                        Ok(_) => heard = Instant::now(),
                        Err(e) => return End::Broken(e.to_string()),
                    }
                    loop {
                        match decode(&mut input, protocol) {
                            Ok(None) => break,
                            Ok(Some(reply)) => if let Err(why) = self.complete(&reply, &mut output) {
                                return End::Broken(why);
                            },
                            Err(why) => return End::Broken(why),
                        }
                    }
                }
                request = self.queue.recv(), if queue_open => match request {
                    Some(request) => {
                        self.submit(request, Form::Digest, &mut output);
                        // Whoever is ready to run may have more to send: one write for all.
                        tokio::task::yield_now().await;
                        for _ in 1..BATCH_MAX {
                            let Ok(request) = self.queue.try_recv() else { break };
                            self.submit(request, Form::Digest, &mut output);
                        }
                    }
                    None => queue_open = false,
                },
                written = write_some(&mut writer, &mut output), if to_write => match written {
                    Ok(()) => flushed = output.is_empty(),
                    Err(e) => return End::Broken(e.to_string()),
                },
                () = sleep_until(wake_at.unwrap_or(heard)), if wake_at.is_some() => {
                    let now = Instant::now();
                    if silent_at.is_some_and(|at| at <= now) {
                        return End::Broken(format!("silent for {:?}", self.config.silence_timeout));
                    }
                    while self.delayed.front().is_some_and(|(at, _)| *at <= now) {
                        if let Some((_, request)) = self.delayed.pop_front() {
                            self.submit(request, Form::Digest, &mut output);
                        }
                    }
                }
            }
            if !output.is_empty() {
                flushed = false;
            }
            if idle && !self.in_flight.is_empty() {
                // Silence is counted from when an answer became due.
                heard = Instant::now();
            }
        }
    }

    /// Writes `request` to the connection's buffer if it still is worth it.
    fn submit(&mut self, mut request: Request, form: Form, output: &mut BytesMut) {
        if !request.is_live() {
            return report_dead(&mut request);
        }
        if let Some(why) = request.unsupported(self.dialect) {
            return request.report(Err(why));
        }
        if matches!(request.verb, Verb::Acquire(_)) {
            request.claim.mark_sent(request.node);
        }
        request.write(output, form, self.dialect);
        self.in_flight.push_back(InFlight { request, form, dialect: self.dialect });
    }

    /// Matches a reply with the oldest request in flight.
    fn complete(&mut self, reply: &Reply, output: &mut BytesMut) -> Result<(), String> {
        if *reply == Reply::Push {
            return Ok(());
        }
        let Some(InFlight { mut request, form, dialect }) = self.in_flight.pop_front() else {
            return Err("reply to no request".to_owned());
        };
        if let Reply::Error(text) = reply
            && text.starts_with("NOSCRIPT")
            && form == Form::Digest
        {
            // Requests bounced in order are sent again in order; one that was abandoned meanwhile is not.
            self.submit(request, Form::Source, output);
            return Ok(());
        }
        if let Reply::Error(text) = reply
            && dialect == Dialect::Native
            && text.contains("nknown command")
        {
            // The server could not be asked which commands it has. Now it has told.
            self.dialect = Dialect::Plain;
            self.config.dialect.set(Dialect::Plain);
            self.submit(request, Form::Digest, output);
            return Ok(());
        }
        let outcome = request.read(reply, dialect);
        let leaderless = self.config.kind == NodeKind::Cluster && is_leaderless(&outcome);
        if leaderless && matches!(request.verb, Verb::Acquire(_)) {
            // The fate of what the old leader was told is open.
            request.claim.mark_suspect(request.node);
        }
        if request.is_release() {
            let refused = outcome.is_err();
            let suspect = request.claim.take_suspect(request.node);
            request.report(outcome);
            if refused || suspect {
                self.delayed.push_back((Instant::now() + REPEAT_DELAY, request));
            }
        } else {
            request.report(outcome);
        }
        if leaderless { Err("the cluster has another leader, or none".to_owned()) } else { Ok(()) }
    }

    /// Settles what was in flight on a connection that is gone.
    fn broken(&mut self, why: &str) {
        self.config.counters.count(Event::disconnected);
        tracing::debug!(node = %self.config.label, %why, "connection lost");
        for InFlight { mut request, .. } in mem::take(&mut self.in_flight) {
            match request.verb {
                Verb::Release { .. } => {
                    self.waiting.push_back(request);
                    continue;
                }
                Verb::Acquire(ttl) => {
                    request.claim.mark_suspect(request.node);
                    request.claim.mark_stray_extend(request.node, ttl);
                }
                Verb::Extend(ttl) | Verb::Fence { ttl, .. } => {
                    request.claim.mark_stray_extend(request.node, ttl);
                }
                Verb::Look => {}
            }
            request.report(Err(NodeCause::Disconnected(why.to_owned())));
        }
    }
}

impl Drop for Actor {
    /// The runtime may be shutting down with releases still to be sent.
    fn drop(&mut self) {
        self.queue.close();
        let mut left: Vec<Request> = self.in_flight.drain(..).map(|entry| entry.request).collect();
        left.extend(self.waiting.drain(..));
        left.extend(self.delayed.drain(..).map(|(_, request)| request));
        while let Ok(request) = self.queue.try_recv() {
            left.push(request);
        }
        rescue::spawn(Arc::clone(&self.config), left);
    }
}

/// Whether a member of a cluster could not answer for the cluster.
fn is_leaderless(outcome: &Outcome) -> bool {
    let Err(NodeCause::Refused(text)) = outcome else { return false };
    ["CLUSTERDOWN", "UNKNOWN", "MOVED", "READONLY"].iter().any(|code| text.starts_with(code))
}

fn report_dead(request: &mut Request) {
    let outcome = if request.is_release() {
        // Never sent to this node, or expired there by now.
        Ok(Answer::Missing)
    } else {
        Err(NodeCause::Timeout)
    };
    request.report(outcome);
}

/// Writes what fits, or flushes when all is written. Cancel-safe: takes only written bytes off `output`.
async fn write_some(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut BytesMut,
) -> std::io::Result<()> {
    if !output.is_empty() && writer.write_buf(output).await? == 0 {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    if output.is_empty() {
        writer.flush().await?;
    }
    Ok(())
}
