//! One client's connection: read, parse everything, run it, write once.
//!
//! The task owns the session and never holds a lock across an `.await`. Reading goes on while
//! replies wait to be sent (a client may send its whole pipeline before it reads), within the
//! limits of the query and output buffers. A command that waits keeps what followed it aside.

mod cluster;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use holdfast_engine::value::offered::offering;
use holdfast_engine::{CommandError, Reply};
use tokio::time::{Instant, Sleep};

use super::Stream;
use crate::config::settings::ClientClass;
use crate::node::Node;
use crate::persist::journal::Target;
use crate::resp::{
    ArgRoom, Batch, Limits, Output, Parsed, RequestParser, Status, encode_protocol_error,
};
use crate::route::{self, Flow, Scratch, Waiting, table};
use crate::session::client::Unblock;
use crate::session::{Client, Kill, Session};

/// Read so much at a time.
const READ_LEN: usize = 16 * 1024;
/// So much of a large argument must have come before room is made for all of it: a client that
/// announces 512 MB and sends nothing costs nothing.
const RESERVE_LEN_MAX: usize = 8 << 20;
/// An argument from this length on is stored without a copy, where that can be.
const LARGE_LEN_MIN: usize = 1 << 20;
/// An idle connection's input buffer keeps at most so much.
const INPUT_KEPT_MAX: usize = 64 * 1024;
/// Replies are written early when so much waits.
const WRITE_EARLY_LEN: usize = 128 * 1024;
/// A client that has not logged in is closed when it leaves more than this unread
/// (CVE-2025-21605: it could make the server hold replies without end).
const UNAUTHENTICATED_OUTPUT_MAX: usize = 64 * 1024;
/// Commands run between two chances for other connections.
const COMMANDS_PER_TURN: usize = 1024;

/// A command that was set aside.
type OwnedCommand = Vec<Vec<u8>>;

/// What ends a wait of the connection.
enum Event {
    /// Bytes arrived.
    Read,
    /// All output is sent.
    Flushed,
    /// The block was ended by another.
    Unblocked,
    /// The time is up.
    Deadline,
}

/// Why a connection ends.
enum End {
    /// The client went, or was told to.
    Gone,
    /// The socket failed.
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// A client's connection.
pub struct Connection {
    node: Arc<Node>,
    stream: Stream,
    session: Session,
    input: BytesMut,
    parser: RequestParser,
    batch: Batch,
    room: ArgRoom,
    output: Output,
    scratch: Scratch,
    /// Commands behind one that waits.
    aside: VecDeque<OwnedCommand>,
    /// A protocol error that is told once the commands before it have run.
    failed: Option<crate::resp::ProtocolError>,
    /// Bytes known to be missing from a large argument.
    missing: usize,
    /// Since when the soft output limit has been exceeded.
    over_soft_limit: Option<Instant>,
    /// Its output went over the limit: part of it is lost, so nothing may follow.
    overflowed: bool,
    /// The journal's position behind all changes that the replies may acknowledge.
    owed: u64,
    /// In a cluster: this node has caught up as far as the command in front asks.
    learnt: bool,
    /// Where the replies begin in the output that may acknowledge changes which are not on disk.
    held_from: Option<usize>,
}

impl Connection {
    /// A connection of a client that was admitted.
    #[must_use]
    pub fn new(node: Arc<Node>, stream: Stream, client: Arc<Client>) -> Self {
        let session = Session::new(&node.pubsub, Arc::clone(&client), &node.acl);
        let limits = limits(&node, session.authenticated);
        let limit = node.settings.output_buffer_limit(ClientClass::PubSub).hard_bytes;
        client.push_limit_bytes.store(usize::try_from(limit).unwrap_or(usize::MAX), Relaxed);
        Self {
            session,
            node,
            stream,
            input: BytesMut::with_capacity(READ_LEN),
            parser: RequestParser::new(limits),
            batch: Batch::new(),
            room: ArgRoom::new(),
            output: Output::new(),
            scratch: Scratch::default(),
            aside: VecDeque::new(),
            failed: None,
            missing: 0,
            over_soft_limit: None,
            overflowed: false,
            owed: 0,
            learnt: false,
            held_from: None,
        }
    }

    /// Serves the client until it goes.
    pub async fn run(mut self) {
        let end = match self.node.raft().map(Arc::clone) {
            Some(raft) => self.serve_in_cluster(&raft).await,
            None => self.serve().await,
        };
        if let Err(End::Failed(error)) = &end {
            tracing::debug!(client = self.session.client.id, %error, "connection failed");
        }
        self.session.client.close_outbox();
        self.node.blocked.leave(self.session.client.id);
        self.node.monitors.remove(self.session.client.id);
        self.node.persist.journal.forget(self.session.client.id);
        if let Some(choice) = self.session.tracking.take() {
            self.node.tracking.end(self.session.client.id, &choice);
            self.node.refresh_events();
        }
        self.scratch.tally.flush(&self.node);
    }

    async fn serve(&mut self) -> Result<(), End> {
        loop {
            let journaled = self.node.persist.journal.appended();
            let held_from = self.held_from.take().unwrap_or(self.output.len());
            let waits = self.run_commands();
            if self.node.persist.journal.appended() != journaled {
                self.owed = self.node.persist.journal.appended();
            }
            if let Some(target) = self.node.persist.journal.target(self.owed)
                && let Some(reason) = self.wait_for_disk(target).await?
            {
                self.say_fate_is_open(held_from, &reason);
            }
            if let Some((waiting, command)) = waits.filter(|_| !self.session.closing) {
                self.scratch.tally.flush(&self.node);
                self.wait(waiting, command).await?;
                continue;
            }
            self.scratch.tally.flush(&self.node);
            self.show();
            let closing = self.session.closing || self.session.client.killed() == Kill::AfterReply;
            if closing {
                while !self.output.is_empty() {
                    self.event(None, false).await?;
                }
                return Ok(());
            }
            if !self.aside.is_empty() {
                // A turn was used up: let others run, then go on.
                tokio::task::yield_now().await;
                continue;
            }
            while !matches!(self.event(None, true).await?, Event::Read) {}
        }
    }

    /// Runs everything that is complete. Returns the command that must wait, if one must.
    fn run_commands(&mut self) -> Option<(Waiting, OwnedCommand)> {
        if !self.aside.is_empty() || self.failed.is_some() {
            if let Some(waits) = self.run_aside() {
                return Some(waits);
            }
            if !self.aside.is_empty() {
                return None;
            }
        }
        loop {
            if self.session.closing || self.input.is_empty() {
                return None;
            }
            let authenticated = self.session.authenticated;
            if authenticated != self.parser.limits().is_authenticated() {
                self.parser.set_limits(limits(&self.node, authenticated));
            }
            let Parsed { consumed, status } = if authenticated {
                self.parser.parse(&self.input, &mut self.batch)
            } else {
                self.parser.parse_one(&self.input, &mut self.batch)
            };
            let found = self.batch.len();
            let waits = match found == 1 && self.set_aside_large(consumed) {
                true => self.run_aside(),
                false => {
                    let waits = self.run_batch();
                    self.input.advance(consumed);
                    waits
                }
            };
            match status {
                Status::Ready => self.missing = 0,
                Status::Partial { missing } => self.missing = missing,
                Status::Failed(error) => self.failed = Some(error),
            }
            if waits.is_some() || !self.aside.is_empty() {
                return waits;
            }
            self.tell_failure();
            if found == 0 || !matches!(status, Status::Ready) {
                return None;
            }
        }
    }

    /// Runs the commands of the batch; sets aside what follows one that waits.
    fn run_batch(&mut self) -> Option<(Waiting, OwnedCommand)> {
        let commands = self.batch.commands(&self.input, &mut self.room);
        self.session.refresh_user(&self.node.acl);
        self.scratch.tally.start(&self.node);
        // CLIENT LIST in this very batch counts what is being run.
        self.session.client.shown.query_buffer_len.store(self.input.len(), Relaxed);
        let mut waits = None;
        let mut ran = 0;
        if commands.len() > 1 {
            prefetch(&self.node, &self.session, &commands);
        }
        for args in commands.iter() {
            if waits.is_some() || ran == COMMANDS_PER_TURN {
                self.aside.push_back(args.iter().map(|arg| arg.to_vec()).collect());
                continue;
            }
            if self.session.closing {
                break;
            }
            ran += 1;
            let flow = route::dispatch(
                &self.node,
                &mut self.session,
                args,
                &mut self.scratch,
                &mut self.output,
            );
            if let Flow::Wait(waiting) = flow {
                waits = Some((waiting, args.iter().map(|arg| arg.to_vec()).collect()));
            }
            bound_output(&self.node, &self.stream, &mut self.session, &mut self.output);
        }
        self.room.take_back(commands);
        waits
    }

    /// Sets the only command of the batch aside if it has a large argument that takes up nearly the
    /// whole buffer: the buffer becomes the argument, which can then be stored without a copy.
    fn set_aside_large(&mut self, consumed: usize) -> bool {
        /// What may follow the command is copied.
        const REST_LEN_MAX: usize = 64 * 1024;
        if self.input.len() < LARGE_LEN_MIN || self.input.len() - consumed > REST_LEN_MAX {
            return false;
        }
        let Some((nth, place)) = self.batch.longest(0) else { return false };
        // The room that is not used would be stored, too.
        if place.len() < LARGE_LEN_MIN || self.input.capacity() > place.len() / 8 * 9 {
            return false;
        }
        let args = self.batch.command(0, &self.input).enumerate();
        let mut command: OwnedCommand =
            args.map(|(at, arg)| if at == nth { Vec::new() } else { arg.to_vec() }).collect();
        let mut rest = BytesMut::with_capacity(READ_LEN);
        rest.extend_from_slice(&self.input[consumed..]);
        let mut large = std::mem::replace(&mut self.input, rest);
        large.truncate(place.end);
        large.advance(place.start);
        // In place: nobody shares the buffer.
        command[nth] = Vec::from(large);
        self.aside.push_back(command);
        true
    }

    /// Runs commands that were set aside.
    fn run_aside(&mut self) -> Option<(Waiting, OwnedCommand)> {
        self.session.refresh_user(&self.node.acl);
        self.scratch.tally.start(&self.node);
        let mut ran = 0;
        while let Some(mut command) = self.aside.pop_front() {
            if self.session.closing {
                self.aside.clear();
                return None;
            }
            let mut run = |args: &[&[u8]]| {
                route::dispatch(
                    &self.node,
                    &mut self.session,
                    args,
                    &mut self.scratch,
                    &mut self.output,
                )
            };
            let flow = match command.iter().position(|arg| arg.len() >= LARGE_LEN_MIN) {
                None => run(&command.iter().map(Vec::as_slice).collect::<Vec<_>>()),
                Some(nth) => {
                    let large = Arc::new(std::mem::take(&mut command[nth]));
                    let mut args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                    args[nth] = &large;
                    let flow = offering(&large, || run(&args));
                    drop(args);
                    if matches!(flow, Flow::Wait(_)) {
                        command[nth] =
                            Arc::try_unwrap(large).unwrap_or_else(|large| large.to_vec());
                    }
                    flow
                }
            };
            bound_output(&self.node, &self.stream, &mut self.session, &mut self.output);
            if let Flow::Wait(waiting) = flow {
                return Some((waiting, command));
            }
            ran += 1;
            if ran == COMMANDS_PER_TURN {
                return None;
            }
        }
        self.tell_failure();
        None
    }

    /// Tells a protocol error, once what came before it has run.
    fn tell_failure(&mut self) {
        if let Some(error) = self.failed.take() {
            encode_protocol_error(error, &mut self.output);
            self.session.closing = true;
        }
    }

    /// Lets CLIENT LIST see the buffers.
    fn show(&mut self) {
        let shown = &self.session.client.shown;
        shown.last_used_us.store(self.node.clock.monotonic_us(), Relaxed);
        if self.input.is_empty() {
            // A large buffer is kept for as long as it is used; at the latest an idle client's goes.
            let used = shown.query_buffer_len.load(Relaxed);
            if self.input.capacity() > INPUT_KEPT_MAX && used <= INPUT_KEPT_MAX {
                self.input = BytesMut::with_capacity(READ_LEN);
            }
            self.input.reserve(READ_LEN);
        }
        shown.query_buffer_len.store(self.input.len(), Relaxed);
        shown.query_buffer_free.store(self.input.capacity() - self.input.len(), Relaxed);
    }

    /// Waits for what a command waits for, and answers it.
    async fn wait(&mut self, waiting: Waiting, command: OwnedCommand) -> Result<(), End> {
        match waiting {
            Waiting::Pause => {
                self.aside.push_front(command);
                self.session.client.shown.paused.store(true, Relaxed);
                let ended = self.wait_for_pause().await;
                self.session.client.shown.paused.store(false, Relaxed);
                return ended;
            }
            Waiting::Later(later) => {
                let reply = self.waiting_for(later.0).await?;
                self.reply(&reply);
            }
            Waiting::Sleep(duration, reply) => {
                let until = Instant::now() + duration;
                self.wait_until(Some(until)).await?;
                let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                if let Ok(entry) = table().resolve(&args) {
                    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
                    route::tally::note_duration(
                        &self.node,
                        &self.session.client,
                        entry.row,
                        &args,
                        us,
                    );
                }
                self.reply(&reply);
            }
            Waiting::Replicas { timeout, reply, .. } => {
                self.session.client.begin_block();
                let outcome = self.wait_until(deadline(timeout)).await;
                let ended = self.session.client.end_block();
                outcome?;
                match ended {
                    Some(Unblock::Error) => self.reply(&unblocked_error()),
                    _ => self.reply(&reply),
                }
            }
            Waiting::Journal { target, timeout, replicas } => {
                let mut durable = self.node.persist.journal.has_reached(target);
                if !durable || replicas {
                    self.session.client.begin_block();
                    let outcome =
                        self.wait_for_journal((!replicas).then_some(target), timeout).await;
                    let ended = self.session.client.end_block();
                    outcome?;
                    if let Some(Unblock::Error) = ended {
                        self.reply(&unblocked_error());
                        route::after_command(&mut self.session);
                        return Ok(());
                    }
                    durable = self.node.persist.journal.has_reached(target);
                }
                let counts = [i64::from(durable), 0];
                self.reply(&Reply::Array(counts.map(Reply::Integer).into()));
            }
            Waiting::Keys { timeout, reply } => {
                let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                let Ok(entry) = table().resolve(&args) else {
                    return Ok(());
                };
                let (client, db) = (Arc::clone(&self.session.client), self.session.db);
                self.node.blocked.park(
                    &self.node,
                    client,
                    (entry.row, &args),
                    db,
                    self.session.touch,
                );
                let outcome = self.wait_until(deadline(timeout)).await;
                self.node.blocked.leave(self.session.client.id);
                let ended = self.session.client.end_block();
                if let (Err(_), Some(Unblock::Served(reply, db))) = (&outcome, &ended) {
                    self.node.blocked.give_back(&self.node, entry.row, &args, *db, reply);
                }
                outcome?;
                self.owed = self.node.persist.journal.appended();
                let failed =
                    matches!(&ended, Some(Unblock::Served(served, _)) if served.is_error());
                self.scratch.tally.record(&self.node, entry.id, 0, failed);
                match ended {
                    Some(Unblock::Served(served, _)) => self.reply(&served),
                    Some(Unblock::Error) => self.reply(&unblocked_error()),
                    Some(Unblock::Timeout | Unblock::Moved) | None => self.reply(&reply),
                }
            }
        }
        route::after_command(&mut self.session);
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) {
        if self.overflowed {
            return;
        }
        if let Reply::Error(error) = reply {
            self.node.observe.errors.record(error);
        }
        self.held_from.get_or_insert(self.output.len());
        route::send(&self.session, reply, &mut self.output);
        self.overflowed =
            bound_output(&self.node, &self.stream, &mut self.session, &mut self.output);
    }

    /// Waits until the deadline or until another ends the block, reading and writing meanwhile.
    async fn wait_until(&mut self, until: Option<Instant>) -> Result<(), End> {
        loop {
            match self.event(until, true).await? {
                Event::Unblocked | Event::Deadline => return Ok(()),
                Event::Read | Event::Flushed => {}
            }
        }
    }

    /// Waits until what the replies speak of is on disk, or as far as is asked for; or for as long
    /// as a disk that fails is waited for. Then it returns why it fails.
    async fn wait_for_disk(&mut self, target: Target) -> Result<Option<String>, End> {
        /// A full disk may be full for days, and a client has a time limit of its own.
        const PATIENCE: Duration = Duration::from_secs(5);
        let client = &self.session.client;
        let journal = &self.node.persist.journal;
        loop {
            let reached = poll_fn(|context| {
                if journal.poll_reached(client.id, target, context).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                // A client that is told to go does not wait for the disk.
                client.register(context);
                match client.killed() {
                    Kill::Now => Poll::Ready(Err(End::Gone)),
                    Kill::No | Kill::AfterReply => Poll::Pending,
                }
            });
            if let Ok(reached) = tokio::time::timeout(PATIENCE, reached).await {
                return reached.map(|()| None);
            }
            // A disk that is slow and has not failed is waited for.
            if let Some(reason) = journal.failure() {
                journal.forget(client.id);
                return Ok(Some(reason));
            }
        }
    }

    /// Answers, instead of the replies from `held_from` on, that it is not known what becomes of
    /// the changes they speak of. The connection ends, because each reply has its place in the order.
    fn say_fate_is_open(&mut self, held_from: usize, reason: &str) {
        self.output.truncate(held_from);
        let error = CommandError::new(format!(
            "UNKNOWN The journal cannot be written: {reason}. What was sent has been carried out, and \
             is kept if the disk takes it before the server ends"
        ));
        self.aside.clear();
        self.reply(&Reply::error(error));
        self.session.closing = true;
    }

    /// Waits until the journal has come so far, the time is up or another ends the block.
    async fn wait_for_journal(
        &mut self,
        target: Option<Target>,
        timeout: Option<Duration>,
    ) -> Result<(), End> {
        let (node, id) = (Arc::clone(&self.node), self.session.client.id);
        let reached = poll_fn(|context| match target {
            Some(target) => node.persist.journal.poll_reached(id, target, context),
            None => Poll::Pending,
        });
        tokio::select! {
            () = reached => Ok(()),
            ended = self.wait_until(deadline(timeout)) => ended,
        }
    }

    async fn wait_for_pause(&mut self) -> Result<(), End> {
        /// How often an early end of the pause is looked for.
        const STEP: Duration = Duration::from_millis(20);
        while let Some(until_us) = self.node.pause.until_us() {
            let now_us = self.node.clock.monotonic_us();
            if until_us <= now_us {
                break;
            }
            let left = Duration::from_micros(until_us - now_us).min(STEP);
            self.event(Some(Instant::now() + left), true).await?;
        }
        Ok(())
    }

    /// Sends what waits and waits for something to happen.
    async fn event(&mut self, until: Option<Instant>, read: bool) -> Result<Event, End> {
        let mut sleep = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
        poll_fn(|context| self.poll_event(context, sleep.as_mut(), read)).await
    }

    fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        mut sleep: Option<&mut Pin<Box<Sleep>>>,
        read: bool,
    ) -> Poll<Result<Event, End>> {
        if let Some(event) = self.poll_once(context, sleep.as_deref_mut(), read)? {
            return Poll::Ready(Ok(event));
        }
        // Others may act between the look and the registration: look again.
        self.session.client.register(context);
        if self.session.client.has_news()
            && let Some(event) = self.poll_once(context, sleep, read)?
        {
            return Poll::Ready(Ok(event));
        }
        Poll::Pending
    }

    /// One look at everything that may have happened.
    fn poll_once(
        &mut self,
        context: &mut Context<'_>,
        sleep: Option<&mut Pin<Box<Sleep>>>,
        read: bool,
    ) -> Result<Option<Event>, End> {
        let client = &*self.session.client;
        if client.killed() == Kill::Now {
            return Err(End::Gone);
        }
        // Messages that came of its being served follow the reply.
        if client.is_unblocked() {
            return Ok(Some(Event::Unblocked));
        }
        let output = &mut self.output;
        client.take_pushes(|bytes| output.push(&bytes));
        if !output.is_empty() {
            while !output.is_empty() {
                match self.stream.poll_write_buf(context, output) {
                    Poll::Ready(Ok(0)) => return Err(End::Gone),
                    Poll::Ready(Ok(sent)) => self.scratch.tally.sent(sent),
                    Poll::Ready(Err(error)) => return Err(error.into()),
                    Poll::Pending => break,
                }
            }
            self.check_output_limit()?;
            if !read && self.output.is_empty() {
                return Ok(Some(Event::Flushed));
            }
        }
        if let Some(sleep) = sleep
            && sleep.as_mut().poll(context).is_ready()
        {
            return Ok(Some(Event::Deadline));
        }
        if !read {
            return Ok(None);
        }
        if self.input.len() >= self.node.settings.client_query_buffer_limit() {
            let id = self.session.client.id;
            tracing::warn!(client = id, "client closed: query buffer limit reached");
            return Err(End::Gone);
        }
        // All of a large argument is reserved at once, as soon as enough of it has come: each time that
        // the buffer grows it is copied.
        let believed = match self.input.len() < RESERVE_LEN_MAX {
            true => RESERVE_LEN_MAX,
            false => usize::MAX,
        };
        let room = self.missing.saturating_add(READ_LEN).min(believed);
        if self.input.capacity() - self.input.len() < READ_LEN {
            if self.input.capacity() == 0 && self.stream.poll_read_ready(context).is_pending() {
                return Ok(None);
            }
            if self.input.len() + room < LARGE_LEN_MIN {
                self.input.reserve(room);
            } else {
                // `reserve` makes twice the room, and what is stored keeps it.
                let mut roomy = BytesMut::with_capacity(self.input.len() + room);
                roomy.extend_from_slice(&self.input);
                self.input = roomy;
            }
        }
        match self.stream.poll_read_buf(context, &mut self.input) {
            Poll::Ready(Ok(0)) => Err(End::Gone),
            Poll::Ready(Ok(received)) => {
                self.scratch.tally.received(received);
                Ok(Some(Event::Read))
            }
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => {
                if self.session.client.is_to_release() && self.input.is_empty() {
                    // The next read waits for the socket without a buffer.
                    self.input = BytesMut::new();
                    self.session.client.shown.query_buffer_free.store(0, Relaxed);
                }
                Ok(None)
            }
        }
    }

    /// Ends the connection of a client that has let too much output pile up.
    fn check_output_limit(&mut self) -> Result<(), End> {
        self.session.client.shown.output_len.store(self.output.len(), Relaxed);
        if self.output.is_empty() {
            self.over_soft_limit = None;
            return Ok(());
        }
        let len = self.output.len() as u64;
        let limit = self.node.settings.output_buffer_limit(class(&self.session));
        let hard = over_hard_limit(&self.node, &self.session, self.output.len());
        if limit.soft_bytes > 0 && len > limit.soft_bytes {
            let since = *self.over_soft_limit.get_or_insert_with(Instant::now);
            if since.elapsed() < Duration::from_secs(limit.soft_seconds) && !hard {
                return Ok(());
            }
        } else if !hard {
            self.over_soft_limit = None;
            return Ok(());
        }
        tracing::warn!(
            client = self.session.client.id,
            "client closed for overcoming of output buffer limits"
        );
        Err(End::Gone)
    }
}

fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

fn unblocked_error() -> Reply {
    Reply::error(CommandError::known("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
}

fn limits(node: &Node, authenticated: bool) -> Limits {
    let limits = Limits::with_bulk_len_max(node.settings.proto_max_bulk_len());
    if authenticated { limits.authenticated() } else { limits.unauthenticated() }
}

fn class(session: &Session) -> ClientClass {
    if session.is_subscriber() { ClientClass::PubSub } else { ClientClass::Normal }
}

/// Sends what the socket takes once much output waits, and marks the connection for closing when the
/// rest is over the client's limit; whether it is. Called after each reply, because one pipeline can ask for
/// more than memory holds.
#[inline]
fn bound_output(node: &Node, stream: &Stream, session: &mut Session, output: &mut Output) -> bool {
    let bound = match session.authenticated {
        true => WRITE_EARLY_LEN,
        false => UNAUTHENTICATED_OUTPUT_MAX,
    };
    if output.len() <= bound {
        return false;
    }
    if !node.persist.journal.holds_replies() {
        write_early(stream, output);
    }
    let is_over = over_hard_limit(node, session, output.len());
    if is_over {
        tracing::warn!(
            client = session.client.id,
            "client closed for overcoming of output buffer limits"
        );
        output.clear();
        session.closing = true;
    }
    is_over
}

fn over_hard_limit(node: &Node, session: &Session, len: usize) -> bool {
    if !session.authenticated && len > UNAUTHENTICATED_OUTPUT_MAX {
        return true;
    }
    let limit = node.settings.output_buffer_limit(class(session)).hard_bytes;
    limit > 0 && len as u64 > limit
}

/// Gives the socket what it takes at once, so that a long pipeline's replies do not pile up.
fn write_early(stream: &Stream, output: &mut Output) {
    while !output.is_empty() {
        match stream.try_write(output.chunk()) {
            Ok(0) | Err(_) => return,
            Ok(sent) => output.advance(sent),
        }
    }
}

/// Starts loading the records that the commands of a pipeline will look at, so that the
/// misses overlap instead of adding up.
pub fn prefetch(node: &Node, session: &Session, commands: &crate::resp::Commands<'_>) {
    /// So many at a time: more would drive the first out of the nearest cache again.
    const GROUP: usize = 64;
    let keyspace = node.engine.keyspace();
    let mut hashes = [0; GROUP];
    let mut len = 0;
    // A pipeline mostly repeats one command.
    let mut last: (&[u8], bool) = (b"", false);
    for args in commands.iter() {
        let [name, key, ..] = *args else { continue };
        if name != last.0 {
            let has_key = table().find(name).is_some_and(|e| e.row.single_key() == Some(1));
            last = (name, has_key);
        }
        if !last.1 {
            continue;
        }
        hashes[len] = keyspace.hash(key);
        len += 1;
        if len == GROUP {
            keyspace.prefetch(session.db, &hashes);
            len = 0;
        }
    }
    keyspace.prefetch(session.db, &hashes[..len]);
}
