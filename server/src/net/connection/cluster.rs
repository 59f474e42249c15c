//! A client's connection on a node that runs Raft.
//!
//! Commands are gathered from the front of the pipeline into a group that is proposed, or read
//! behind one barrier, as a whole; the replies leave in order. What only touches the session runs
//! between groups. A client of a follower is passed on to the leader, bytes both ways, at its
//! first command that needs it, unless it has asked for READONLY.

mod pass_on;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Buf;
use holdfast_engine::command::Flags;
use holdfast_engine::{CommandError, Reply};
use tokio::time::Instant;

use super::{Connection, End, Event, OwnedCommand, deadline, unblocked_error};
use crate::commit::raft::batch::Items;
use crate::commit::raft::{Outcome, RaftNode, Refusal};
use crate::resp::{Parsed, Status};
use crate::route::cluster::{self, Kind, Queued};
use crate::route::{self, Entry, Flow, Waiting, waiting_for_keys};
use crate::session::Kill;
use crate::session::client::Unblock;

/// A group takes up no more once it has so many commands or bytes.
const GROUP_COUNT_MAX: usize = 1024;
const GROUP_LEN_AIM: usize = 1 << 20;
/// A command that came to a leader that is none any more is tried again after so long.
const RETRY: Duration = Duration::from_millis(2);
/// How often WAIT looks how far the followers are.
const WAIT_STEP: Duration = Duration::from_millis(2);

/// One command of a group.
enum Slot {
    /// Its reply is known.
    Known(Reply),
    /// One proposal or read.
    One(&'static Entry, OwnedCommand),
    /// EXEC.
    Transaction(Queued),
}

/// Commands that go together.
#[derive(Default)]
struct Group {
    items: Items,
    slots: Vec<Slot>,
    writes: bool,
    /// Reads of a follower's own data.
    stale: bool,
}

/// Why gathering has ended.
enum Next {
    /// There is nothing more.
    Idle,
    /// The group is to be settled before anything else.
    Settle,
    /// A command must wait.
    Wait(Waiting, OwnedCommand),
    /// The command in front needs a leader, and this node is none.
    PassOn,
    /// The command in front runs once a read is linearizable.
    Barrier,
}

/// How being passed on has ended.
enum Passed {
    /// The client went, or the leader did.
    Over,
    /// This node leads now, or there is no leader: the client was told.
    Here,
}

impl Connection {
    /// Serves the client until it goes.
    pub(super) async fn serve_in_cluster(&mut self, raft: &Arc<RaftNode>) -> Result<(), End> {
        loop {
            let mut group = Group::default();
            let next = self.gather(raft, &mut group);
            let settled = !group.slots.is_empty();
            if settled {
                self.settle(raft, group).await?;
            }
            self.scratch.tally.flush(&self.node);
            self.show();
            // What was read while the group was settled may hold commands, and no event tells of it.
            if matches!(next, Next::Idle) && (settled || !self.aside.is_empty()) {
                continue;
            }
            match next {
                Next::Settle => {}
                Next::Wait(waiting, command) => {
                    self.wait_in_cluster(raft, waiting, command).await?
                }
                Next::Barrier => self.after_barrier(raft).await?,
                Next::PassOn => {
                    if matches!(self.pass_on(raft).await?, Passed::Over) {
                        return Ok(());
                    }
                }
                Next::Idle => {
                    self.tell_failure();
                    if self.session.closing || self.session.client.killed() == Kill::AfterReply {
                        while !self.output.is_empty() {
                            self.event(None, false).await?;
                        }
                        return Ok(());
                    }
                    while !matches!(self.event(None, true).await?, Event::Read) {}
                }
            }
        }
    }

    /// Moves every complete command of the input aside.
    fn parse_all(&mut self) {
        while self.aside.is_empty() && self.failed.is_none() && !self.input.is_empty() {
            let authenticated = self.session.authenticated;
            if authenticated != self.parser.limits().is_authenticated() {
                self.parser.set_limits(super::limits(&self.node, authenticated));
            }
            let Parsed { consumed, status } = if authenticated {
                self.parser.parse(&self.input, &mut self.batch)
            } else {
                self.parser.parse_one(&self.input, &mut self.batch)
            };
            let len = self.input.len();
            self.session.client.shown.query_buffer_len.store(len, Relaxed);
            let commands = self.batch.commands(&self.input, &mut self.room);
            for args in commands.iter() {
                self.aside.push_back(args.iter().map(|arg| arg.to_vec()).collect());
            }
            self.room.take_back(commands);
            self.input.advance(consumed);
            match status {
                Status::Ready => self.missing = 0,
                Status::Partial { missing } => {
                    self.missing = missing;
                    return;
                }
                Status::Failed(error) => self.failed = Some(error),
            }
        }
    }

    /// Takes commands from the front into a group, running those that are local.
    fn gather(&mut self, raft: &RaftNode, group: &mut Group) -> Next {
        self.scratch.tally.start(&self.node);
        loop {
            if self.aside.is_empty() {
                self.parse_all();
            }
            let Some(command) = self.aside.pop_front() else { return Next::Idle };
            self.session.refresh_user(&self.node.acl);
            if self.session.closing {
                self.aside.clear();
                return Next::Idle;
            }
            let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            let kind = match cluster::classify(&self.node, &self.session, &args) {
                Ok(kind) => kind,
                Err(_) if !group.slots.is_empty() => {
                    self.aside.push_front(command);
                    return Next::Settle;
                }
                Err(refusal) => {
                    let (node, session) = (&self.node, &mut self.session);
                    route::refuse(node, session, &args, refusal, &mut self.output);
                    continue;
                }
            };
            if matches!(kind, Kind::OneNode) && group.slots.is_empty() {
                self.reply_in_order(&Reply::error(CommandError::known(
                    "ERR the leader serves this connection, and the command is about one node: \
                     connect to that node anew and send it first",
                )));
                continue;
            }
            if matches!(kind, Kind::Local | Kind::OneNode) {
                if !group.slots.is_empty() {
                    self.aside.push_front(command);
                    return Next::Settle;
                }
                if let Some(next) = self.run_here(command) {
                    return next;
                }
                continue;
            }
            let stale = !raft.leads()
                && self.session.readonly
                && matches!(kind, Kind::Read(_))
                && raft.has_recovered();
            let passes = !raft.leads() && !stale;
            let turn = passes
                || matches!(kind, Kind::OnLeader | Kind::AfterBarrier)
                || (!group.slots.is_empty() && group.stale != stale)
                || self.node.pause.any();
            if turn {
                if !group.slots.is_empty() {
                    self.aside.push_front(command);
                    return Next::Settle;
                }
                if passes && let Some(reply) = cluster::moved(&self.session, raft, kind, &args) {
                    self.reply_in_order(&reply);
                    continue;
                }
                if passes {
                    self.aside.push_front(command);
                    return Next::PassOn;
                }
                if matches!(kind, Kind::AfterBarrier) {
                    self.aside.push_front(command);
                    return Next::Barrier;
                }
                if matches!(kind, Kind::OnLeader) {
                    if let Some(next) = self.run_here(command) {
                        return next;
                    }
                    continue;
                }
                if self.is_paused(kind) {
                    return Next::Wait(Waiting::Pause, command);
                }
            }
            group.stale = stale;
            if !matches!(kind, Kind::Exec) {
                self.note(&args);
            }
            cluster::track(&self.node, &mut self.session, kind, &args);
            let blocks = self.add(group, kind, command);
            if blocks
                || group.slots.len() >= GROUP_COUNT_MAX
                || group.items.len_bytes() >= GROUP_LEN_AIM
            {
                return Next::Settle;
            }
        }
    }

    fn is_paused(&self, kind: Kind) -> bool {
        let (Kind::Read(entry) | Kind::Write(entry) | Kind::Script(entry)) = kind else {
            return false;
        };
        !entry.row.flags.has(Flags::ALLOW_BUSY)
            && self.node.pause.holds(entry.row, self.node.clock.monotonic_us())
    }

    fn note(&self, args: &[&[u8]]) {
        if self.node.monitors.any() {
            self.node.monitors.show_client(&self.node, &self.session, args);
        }
    }

    /// Adds a command to the group; whether nothing may follow it there.
    fn add(&mut self, group: &mut Group, kind: Kind, command: OwnedCommand) -> bool {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let mut blocks = false;
        let slot = match kind {
            Kind::Read(entry) | Kind::Write(entry) => {
                let writes = matches!(kind, Kind::Write(_));
                match cluster::propose(&self.node, &self.session, entry, &args, &mut group.items) {
                    Ok(()) => {
                        group.writes |= writes;
                        blocks = entry.row.flags.has(Flags::BLOCKING);
                        Slot::One(entry, command)
                    }
                    Err(error) => Slot::Known(Reply::error(error)),
                }
            }
            Kind::Once(entry) => match cluster::tagged_for(&self.node, &self.session, &args) {
                Ok((tag, command_args)) => {
                    let (db, touch) = (self.session.db, self.session.touch);
                    let tagged = route::table().resolve(command_args);
                    if let Ok(tagged) = tagged {
                        group.items.bind(cluster::bounds(&self.session, tagged));
                    }
                    group.items.once(db, touch, tag, command_args);
                    if let Ok(tagged) = tagged {
                        let step = (db, tagged.row, command_args);
                        group.items.note(cluster::seen(&self.node, [step]));
                    }
                    group.writes = true;
                    Slot::One(entry, command)
                }
                Err(error) => Slot::Known(Reply::error(error)),
            },
            Kind::Script(entry) => {
                cluster::propose_script(entry, &args, &mut group.items);
                group.writes = true;
                // What follows may name the script.
                blocks = true;
                Slot::One(entry, command)
            }
            Kind::Exec => {
                group.writes = true;
                match cluster::propose_queue(&self.node, &mut self.session, &mut group.items) {
                    Ok(queued) => {
                        // Commands of the server among them change the session.
                        blocks = true;
                        Slot::Transaction(queued)
                    }
                    Err(error) => Slot::Known(Reply::error(error)),
                }
            }
            Kind::Local | Kind::OneNode | Kind::OnLeader | Kind::AfterBarrier => {
                unreachable!("Invariant: these run between groups")
            }
        };
        group.slots.push(slot);
        blocks
    }

    /// Runs a command of the session; something if it must wait.
    fn run_here(&mut self, command: OwnedCommand) -> Option<Next> {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let flow = route::dispatch(
            &self.node,
            &mut self.session,
            &args,
            &mut self.scratch,
            &mut self.output,
        );
        match flow {
            Flow::Wait(waiting) => Some(Next::Wait(waiting, command)),
            Flow::Done => None,
        }
    }

    /// Waits for `work`, reading and writing meanwhile.
    pub(super) async fn waiting_for<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                event = self.event(None, true) => {
                    event?;
                }
            }
        }
    }

    /// Proposes or reads a group and answers it.
    async fn settle(&mut self, raft: &Arc<RaftNode>, group: Group) -> Result<(), End> {
        if group.writes {
            let told = raft.submit(group.items);
            for slot in &group.slots {
                if let Slot::One(entry, command) = slot
                    && entry.row.name == "lock.release"
                {
                    self.node.blocked.follow_release(&self.node, self.session.db, command);
                }
            }
            let outcomes =
                if self.hears_of_itself() { told.await } else { self.waiting_for(told).await? };
            let outcomes = outcomes.unwrap_or(Err(Refusal::Unknown));
            // Whoever waits for what was pushed is served before the one who pushed goes on.
            if self.node.blocked.any() {
                let node = Arc::clone(&self.node);
                self.waiting_for(async move { node.blocked.served().await }).await?;
            }
            return match outcomes {
                Ok(outcomes) => self.answer(group.slots, outcomes).await,
                Err(refusal) => self.refuse(group.slots, refusal).await,
            };
        }
        let now = if group.stale {
            raft.applied().now()
        } else {
            let barrier = raft.read_barrier();
            let passed = if self.hears_of_itself() {
                barrier.await
            } else {
                self.waiting_for(barrier).await?
            };
            match passed {
                Ok(now) => now,
                Err(refusal) => return self.refuse(group.slots, refusal).await,
            }
        };
        for slot in group.slots {
            let reply = match slot {
                Slot::Known(reply) => reply,
                Slot::One(entry, command) => {
                    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                    let now = now.max(raft.applied().now());
                    let scratch = &mut self.scratch;
                    cluster::read(&self.node, &self.session, entry, &args, now, scratch)
                }
                Slot::Transaction(_) => unreachable!("Invariant: a transaction is proposed"),
            };
            self.reply_in_order(&reply);
        }
        Ok(())
    }

    /// Whether its own commands may cause messages to it: these must not come before the replies.
    fn hears_of_itself(&self) -> bool {
        self.session.tracking.is_some() || self.session.is_subscriber()
    }

    fn reply_in_order(&mut self, reply: &Reply) {
        self.reply(reply);
        route::after_command(&mut self.session);
    }

    /// Answers a group that was applied.
    async fn answer(&mut self, slots: Vec<Slot>, outcomes: Vec<Outcome>) -> Result<(), End> {
        let mut outcomes = outcomes.into_iter();
        for slot in slots {
            let (entry, command) = match slot {
                Slot::Known(reply) => {
                    self.reply_in_order(&reply);
                    continue;
                }
                Slot::Transaction(queued) => {
                    let reply = match outcomes.next() {
                        Some(Outcome::Transaction(Some(done))) => {
                            let (node, session) = (&self.node, &mut self.session);
                            let scratch = &mut self.scratch;
                            cluster::finish_queue(node, session, &queued, done, scratch)
                        }
                        Some(Outcome::Transaction(None)) => Reply::NilArray,
                        Some(Outcome::Reply { reply, .. }) => reply,
                        Some(Outcome::Wait(_)) | None => {
                            Reply::error(CommandError::from(Refusal::Unknown))
                        }
                    };
                    self.note(&[b"EXEC"]);
                    self.reply_in_order(&reply);
                    continue;
                }
                Slot::One(entry, command) => (entry, command),
            };
            match outcomes.next() {
                Some(Outcome::Reply { reply, hits, misses, took_us }) => {
                    self.scratch.tally.lookups(hits, misses);
                    let failed = reply.is_error();
                    self.scratch.tally.record(&self.node, entry.id, took_us * 1000, failed);
                    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                    let client = &self.session.client;
                    route::tally::note_duration(&self.node, client, entry.row, &args, took_us);
                    self.reply_in_order(&reply);
                }
                Some(Outcome::Wait(wait)) => {
                    if let route::Answer::Wait(Waiting::Keys { timeout, reply }) =
                        waiting_for_keys(wait)
                    {
                        self.park(entry, &command, timeout, &reply).await?;
                    }
                }
                Some(Outcome::Transaction(_)) | None => {
                    self.reply_in_order(&Reply::error(CommandError::from(Refusal::Unknown)));
                }
            }
        }
        Ok(())
    }

    /// Answers a group that was not proposed, or whose fate is unknown.
    async fn refuse(&mut self, slots: Vec<Slot>, refusal: Refusal) -> Result<(), End> {
        let again =
            refusal == Refusal::NotLeader && slots.iter().all(|slot| matches!(slot, Slot::One(..)));
        if again {
            // Nothing of it was done: whoever leads now shall do it. This node may not know yet
            // that it does not.
            self.waiting_for(tokio::time::sleep(RETRY)).await?;
            for slot in slots.into_iter().rev() {
                if let Slot::One(_, command) = slot {
                    self.aside.push_front(command);
                }
            }
            return Ok(());
        }
        for slot in slots {
            let reply = match slot {
                Slot::Known(reply) => reply,
                Slot::One(..) | Slot::Transaction(_) => {
                    Reply::error(CommandError::from(refusal.clone()))
                }
            };
            self.reply_in_order(&reply);
        }
        Ok(())
    }

    /// Waits until one of a blocking command's keys can serve it.
    async fn park(
        &mut self,
        entry: &'static Entry,
        command: &OwnedCommand,
        timeout: Option<Duration>,
        in_vain: &Reply,
    ) -> Result<(), End> {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let (client, db) = (Arc::clone(&self.session.client), self.session.db);
        let touch = self.session.touch;
        self.node.blocked.park(&self.node, client, (entry.row, &args), db, touch);
        let outcome = self.wait_until(deadline(timeout)).await;
        if outcome.is_ok() && !self.session.client.is_unblocked() {
            // What serves this client may be in the log already: then its end is waited for.
            let step = Duration::from_millis(1);
            while !self.node.blocked.leave_unless_claimed(self.session.client.id)
                && !self.session.client.is_unblocked()
            {
                self.wait_until(Some(Instant::now() + step)).await?;
            }
        }
        self.node.blocked.leave(self.session.client.id);
        let ended = self.session.client.end_block();
        if let (Err(_), Some(Unblock::Served(reply, db))) = (&outcome, &ended) {
            self.node.blocked.give_back(&self.node, entry.row, &args, *db, reply);
        }
        outcome?;
        self.scratch.tally.record(&self.node, entry.id, 0, false);
        match ended {
            Some(Unblock::Served(served, _)) => self.reply_in_order(&served),
            Some(Unblock::Error) => self.reply_in_order(&unblocked_error()),
            Some(Unblock::Timeout) | None => self.reply_in_order(in_vain),
        }
        Ok(())
    }

    async fn wait_in_cluster(
        &mut self,
        raft: &Arc<RaftNode>,
        waiting: Waiting,
        command: OwnedCommand,
    ) -> Result<(), End> {
        let Waiting::Replicas(timeout, _) = &waiting else {
            return self.wait(waiting, command).await;
        };
        if !command[0].eq_ignore_ascii_case(b"wait") {
            return self.wait(waiting, command).await;
        }
        let wanted = holdfast_engine::value::integer_text(&command[1]).unwrap_or(0);
        let index = raft.applied().next_index().saturating_sub(1);
        let until = deadline(*timeout);
        self.session.client.begin_block();
        let mut ended = None;
        let mut found = raft.followers_at(index);
        while (found as i64) < wanted && until.is_none_or(|until| Instant::now() < until) {
            let step = Instant::now() + WAIT_STEP;
            self.wait_until(Some(until.map_or(step, |until| until.min(step)))).await?;
            if self.session.client.is_unblocked() {
                ended = self.session.client.end_block();
                break;
            }
            found = raft.followers_at(index);
        }
        self.session.client.end_block();
        match ended {
            Some(Unblock::Error) => self.reply_in_order(&unblocked_error()),
            _ => self.reply_in_order(&Reply::count(found)),
        }
        Ok(())
    }

    /// Runs the command in front once a read is linearizable.
    async fn after_barrier(&mut self, raft: &Arc<RaftNode>) -> Result<(), End> {
        let barrier = raft.read_barrier();
        let passed = self.waiting_for(barrier).await?;
        if passed == Err(Refusal::NotLeader) {
            return Ok(());
        }
        let Some(command) = self.aside.pop_front() else { return Ok(()) };
        match passed {
            Ok(_) => drop(self.run_here(command)),
            Err(refusal) => self.refuse_framing(&command, CommandError::from(refusal)),
        }
        Ok(())
    }
}
