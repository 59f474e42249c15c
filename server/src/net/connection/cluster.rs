//! A client's connection on a node that runs Raft.
//!
//! Commands are gathered from the front of the pipeline into a group that is proposed, or read
//! behind one barrier, as a whole; the replies leave in order. What only touches the session runs
//! between groups. The session stays here, whichever node leads: proposals go to the leader, and
//! reads run on this node's data once the leader has said from which index on they may.

mod settle;
mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Buf;
use holdfast_engine::command::Flags;
use holdfast_engine::{CommandError, Reply};

use super::{Connection, End, Event, OwnedCommand};
use crate::commit::raft::RaftNode;
use crate::commit::raft::batch::Items;
use crate::commit::raft::forward::Publication;
use crate::resp::{Parsed, Status};
use crate::route::cluster::{self, Kind, Queued};
use crate::route::{self, Entry, Flow, Waiting};
use crate::session::Kill;

/// A group takes up no more once it has so many commands or bytes.
const GROUP_COUNT_MAX: usize = 1024;
const GROUP_LEN_AIM: usize = 1 << 20;
/// What a client hears of a node that has neither founded nor joined a cluster.
const NO_CLUSTER: CommandError = CommandError::known(
    "CLUSTERDOWN This node belongs to no cluster yet: RAFT.CLUSTER INIT or JOIN",
);

/// One command of a group.
enum Slot {
    /// Its reply is known.
    Known(Reply),
    /// One proposal or read.
    One(&'static Entry, OwnedCommand),
    /// EXEC.
    Transaction(Queued),
}

/// What a group's commands have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Way {
    /// Proposals, and reads between them.
    Log,
    /// Reads of this node's data, linearizable.
    #[default]
    Read,
    /// Reads of this node's data as it is.
    Stale,
    /// Reads that only the leader can answer.
    AtLeader,
    /// Messages.
    Publish,
}

/// Commands that go together.
#[derive(Default)]
struct Group {
    items: Items,
    slots: Vec<Slot>,
    publications: Vec<Publication>,
    way: Way,
}

impl Group {
    /// Whether a command that goes this way may join. Reads join writes: they run in their place in
    /// the log.
    fn admits(&mut self, way: Way) -> bool {
        if self.slots.is_empty() {
            self.way = way;
            return true;
        }
        match (self.way, way) {
            (Way::Log, Way::Read) => true,
            (Way::Read, Way::Log) => {
                self.way = Way::Log;
                true
            }
            (all, one) => all == one,
        }
    }
}

/// Why gathering has ended.
enum Next {
    /// There is nothing more.
    Idle,
    /// The group is to be settled before anything else.
    Settle,
    /// A command must wait.
    Wait(Waiting, OwnedCommand),
    /// The command runs once a read is linearizable.
    Barrier(Kind, OwnedCommand),
    /// The command in front names a script that this node has not heard of; others may have.
    Learn,
    /// The command in front runs once this node has what its client wrote.
    CatchUp,
    /// The leader runs the command.
    AtLeader(OwnedCommand),
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
                Next::Wait(Waiting::Replicas { wanted: Some(wanted), timeout, .. }, _) => {
                    self.wait_for_followers(raft, wanted, timeout).await?;
                }
                Next::Wait(waiting, command) => self.wait(waiting, command).await?,
                Next::Barrier(kind, command) => self.after_barrier(raft, kind, command).await?,
                Next::Learn => self.learn_scripts(raft).await?,
                Next::CatchUp => self.catch_up(raft).await?,
                Next::AtLeader(command) => self.run_at_leader(raft, command).await?,
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
            let way = match kind {
                Kind::Local | Kind::OnLeader | Kind::Watch | Kind::AfterBarrier => None,
                Kind::Publish(_) => Some(Way::Publish),
                Kind::ReadAtLeader(_) => Some(Way::AtLeader),
                Kind::Read(_) if self.reads_stale(raft) => Some(Way::Stale),
                Kind::Read(_) => Some(Way::Read),
                Kind::Write(_) | Kind::Exec | Kind::Once(_) | Kind::Script(_) => Some(Way::Log),
            };
            let leads = raft.leads();
            let is_alone = way.is_none() || !leads && self.session.moves || self.node.pause.any();
            if !group.slots.is_empty() && is_alone || way.is_some_and(|way| !group.admits(way)) {
                self.aside.push_front(command);
                return Next::Settle;
            }
            if matches!(kind, Kind::Local) {
                if !leads && !self.learnt && self.must_catch_up(raft, &args) {
                    self.aside.push_front(command);
                    return Next::CatchUp;
                }
                self.learnt = false;
                if cluster::asks_time(&args) {
                    self.scratch.tally.set_now(raft.time());
                }
                if let Some(next) = self.run_here(command) {
                    return next;
                }
                continue;
            }
            if raft.running().is_none() {
                self.refuse_framing(kind, NO_CLUSTER);
                continue;
            }
            if !leads && let Some(reply) = cluster::moved(&self.session, raft, kind, &args) {
                self.reply_in_order(&reply);
                continue;
            }
            if self.is_paused(kind) {
                return Next::Wait(Waiting::Pause, command);
            }
            match kind {
                Kind::Watch | Kind::AfterBarrier => return Next::Barrier(kind, command),
                Kind::OnLeader if leads => {
                    if let Some(next) = self.run_here(command) {
                        return next;
                    }
                    continue;
                }
                Kind::OnLeader => return Next::AtLeader(command),
                _ => {}
            }
            if !leads
                && !self.learnt
                && cluster::names_unknown_script(&self.node, &self.session, kind, &args)
            {
                self.aside.push_front(command);
                return if group.slots.is_empty() { Next::Learn } else { Next::Settle };
            }
            self.learnt = false;
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

    /// Whether a command of the server would run here before what its client wrote through the
    /// leader: SUBSCRIBE, say, would hear of writes that came before it.
    fn must_catch_up(&self, raft: &RaftNode, args: &[&[u8]]) -> bool {
        raft.applied().next_index() < self.session.seen_index
            && self.session.queue.is_none()
            && route::table()
                .resolve(args)
                .is_ok_and(|entry| !entry.is_of_engine() && !entry.row.flags.has(Flags::NOT_QUEUED))
    }

    /// Whether the client reads what this node has, though it may be stale.
    fn reads_stale(&self, raft: &RaftNode) -> bool {
        self.session.readonly
            && !raft.leads()
            && self.node.settings.raft_stale_reads()
            && raft.has_recovered()
    }

    fn is_paused(&self, kind: Kind) -> bool {
        let now_us = self.node.clock.monotonic_us();
        let holds = |entry: &Entry| {
            !entry.row.flags.has(Flags::ALLOW_BUSY) && self.node.pause.holds(entry.row, now_us)
        };
        match kind {
            _ if !self.node.pause.any() => false,
            Kind::Read(entry)
            | Kind::ReadAtLeader(entry)
            | Kind::Write(entry)
            | Kind::Once(entry)
            | Kind::Script(entry)
            | Kind::Publish(entry) => holds(entry),
            Kind::Exec => {
                let queued = self.session.queue.iter().flat_map(|queue| &queue.commands);
                queued.into_iter().any(|command| {
                    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                    route::table().resolve(&args).is_ok_and(holds)
                })
            }
            Kind::Local | Kind::OnLeader | Kind::Watch | Kind::AfterBarrier => false,
        }
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
        if let Some(entry) = kind.entry() {
            let shown = &self.session.client.shown;
            shown.last_command.store(u32::from(entry.id) + 1, Relaxed);
        }
        let slot = match kind {
            Kind::Read(entry) | Kind::ReadAtLeader(entry) | Kind::Write(entry) => {
                match cluster::propose(&self.node, &self.session, entry, &args, &mut group.items) {
                    Ok(()) => {
                        blocks = entry.row.flags.has(Flags::BLOCKING);
                        Slot::One(entry, command)
                    }
                    Err(error) => Slot::Known(Reply::error(error)),
                }
            }
            Kind::Publish(entry) => {
                group.publications.push(cluster::publication(entry, &args));
                Slot::One(entry, command)
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
                    Slot::One(entry, command)
                }
                Err(error) => Slot::Known(Reply::error(error)),
            },
            Kind::Script(entry) => {
                cluster::propose_script(entry, &args, &mut group.items);
                // What follows may name the script.
                blocks = true;
                Slot::One(entry, command)
            }
            Kind::Exec => {
                match cluster::propose_queue(&self.node, &mut self.session, &mut group.items) {
                    Ok(queued) => {
                        // Commands of the server among them change the session.
                        blocks = true;
                        Slot::Transaction(queued)
                    }
                    Err(error) => Slot::Known(Reply::error(error)),
                }
            }
            Kind::Local | Kind::OnLeader | Kind::Watch | Kind::AfterBarrier => {
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
}
