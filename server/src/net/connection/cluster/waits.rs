//! Waiting in a cluster: for keys, for followers, for the leader.

use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::command::Handler;
use holdfast_engine::commands::lock::acquire::aged;
use holdfast_engine::effects::Wait;
use holdfast_engine::{CommandError, Reply};
use tokio::time::Instant;

use super::super::{Connection, End, Event, OwnedCommand, deadline, unblocked_error};
use crate::commit::raft::batch::Items;
use crate::commit::raft::forward::{Park, ReadPoint, Standing};
use crate::commit::raft::{Outcome, RaftNode, Refusal};
use crate::node::Node;
use crate::route::cluster::Kind;
use crate::route::{self, Entry};
use crate::session::client::Unblock;

/// How often WAIT looks how far the followers are.
const WAIT_STEP: Duration = Duration::from_millis(2);
/// Delay before a wait that was lost with its leader begins anew.
const REPARK: Duration = Duration::from_millis(20);
/// Whoever needs this node to have what the leader had waits this long for it.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(5);

/// What a wait for keys has come to.
enum Waited {
    /// The reply.
    Served(Reply),
    /// The time is up, or CLIENT UNBLOCK said so.
    InVain,
    /// Nothing was done, and its queue is gone: it begins anew.
    Again,
}

/// What running a waiting command came to.
enum Ran {
    Reply(Reply),
    Waits(Wait),
    /// Nothing was done.
    NotNow,
}

impl Connection {
    /// Waits until one of a blocking command's keys can serve it, whichever node leads meanwhile.
    pub(super) async fn park(
        &mut self,
        raft: &Arc<RaftNode>,
        entry: &'static Entry,
        command: &OwnedCommand,
        timeout: Option<Duration>,
        in_vain: &Reply,
    ) -> Result<(), End> {
        let (began, until) = (Instant::now(), deadline(timeout));
        let reads = matches!(entry.row.handler, Handler::Wait(_));
        let reply = loop {
            let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let borrowed: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            let command = match waited_ms {
                0 => command.clone(),
                ms => aged(&borrowed, ms).unwrap_or_else(|| command.clone()),
            };
            let waited = if reads || raft.leads() {
                self.wait_here(raft, entry, &command, (until, reads)).await?
            } else {
                self.wait_at_leader(raft, entry, &command, until).await?
            };
            match waited {
                Waited::Served(reply) => break reply,
                Waited::InVain => break in_vain.clone(),
                Waited::Again => {}
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break in_vain.clone();
            }
            if let Some(ended) = self.pause_before_again(until).await? {
                match ended {
                    Waited::Served(reply) => break reply,
                    _ => break in_vain.clone(),
                }
            }
            // A key may have come while nobody's queue had it.
            match self.run_waiting(raft, entry, &command, false).await? {
                Ran::Reply(reply) => break reply,
                Ran::Waits(_) | Ran::NotNow => {}
            }
        };
        self.scratch.tally.record(&self.node, entry.id, 0, reply.is_error());
        self.reply_in_order(&reply);
        Ok(())
    }

    /// Waits a moment, and hears of CLIENT UNBLOCK meanwhile.
    async fn pause_before_again(&mut self, until: Option<Instant>) -> Result<Option<Waited>, End> {
        let step = Instant::now() + REPARK;
        self.session.client.begin_block();
        let outcome = self.wait_until(Some(until.map_or(step, |until| until.min(step)))).await;
        let ended = self.session.client.end_block();
        outcome?;
        Ok(ended.map(|how| match how {
            Unblock::Served(reply, _) => Waited::Served(reply),
            Unblock::Error => Waited::Served(unblocked_error()),
            Unblock::Timeout | Unblock::Moved => Waited::InVain,
        }))
    }

    /// Waits in this node's queues: it leads, or the command only reads.
    async fn wait_here(
        &mut self,
        raft: &Arc<RaftNode>,
        entry: &'static Entry,
        command: &OwnedCommand,
        (until, reads): (Option<Instant>, bool),
    ) -> Result<Waited, End> {
        if reads {
            // What the leader has seen is no news to whoever waits for news.
            let caught_up = raft.applied().reaches(self.session.seen_index);
            let caught_up = tokio::time::timeout(CATCH_UP_PATIENCE, caught_up);
            let _ = self.waiting_for(caught_up).await?;
        }
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let (client, db) = (Arc::clone(&self.session.client), self.session.db);
        let touch = self.session.touch;
        self.node.blocked.park(&self.node, client, (entry.row, &args), db, touch);
        let outcome = self.wait_until(until).await;
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
        Ok(match ended {
            Some(Unblock::Served(served, _)) => Waited::Served(served),
            Some(Unblock::Error) => Waited::Served(unblocked_error()),
            Some(Unblock::Moved) => Waited::Again,
            Some(Unblock::Timeout) | None => Waited::InVain,
        })
    }

    /// Waits in the leader's queues, and runs the command when its turn comes.
    async fn wait_at_leader(
        &mut self,
        raft: &Arc<RaftNode>,
        entry: &'static Entry,
        command: &OwnedCommand,
        until: Option<Instant>,
    ) -> Result<Waited, End> {
        let park = Park {
            db: self.session.db,
            addr: self.session.client.addr.clone(),
            args: command.clone(),
        };
        self.session.client.begin_block();
        let away = Arc::clone(&self.node);
        let _away = away.blocked.is_away(entry.row);
        let placed = {
            let raft = Arc::clone(raft);
            self.waiting_for(async move { raft.park(park).await }).await
        };
        let mut parked = match placed {
            Ok(Ok(parked)) => parked,
            Ok(Err(_)) => {
                self.session.client.end_block();
                return Ok(Waited::Again);
            }
            Err(end) => {
                self.session.client.end_block();
                return Err(end);
            }
        };
        loop {
            let standing = tokio::select! {
                biased;
                standing = parked.next() => standing,
                event = self.event(until, true) => match event {
                    Ok(Event::Unblocked | Event::Deadline) => {
                        let ended = self.session.client.end_block();
                        return Ok(match ended {
                            Some(Unblock::Error) => Waited::Served(unblocked_error()),
                            _ => Waited::InVain,
                        });
                    }
                    Ok(Event::Read | Event::Flushed) => continue,
                    Err(end) => {
                        self.session.client.end_block();
                        return Err(end);
                    }
                },
            };
            if standing == Standing::Lost {
                self.session.client.end_block();
                return Ok(Waited::Again);
            }
            match self.run_waiting(raft, entry, command, true).await? {
                Ran::Reply(reply) => {
                    self.session.client.end_block();
                    return Ok(Waited::Served(reply));
                }
                Ran::Waits(wait) => parked.waits_on(wait),
                Ran::NotNow => {
                    self.session.client.end_block();
                    return Ok(Waited::Again);
                }
            }
        }
    }

    /// Proposes a waiting command. Should the client go meanwhile, what it was granted is given back.
    async fn run_waiting(
        &mut self,
        raft: &Arc<RaftNode>,
        entry: &'static Entry,
        command: &OwnedCommand,
        is_turn: bool,
    ) -> Result<Ran, End> {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        self.session.refresh_user(&self.node.acl);
        if let Some(error) = route::rights::refuses_waiter(&self.node, &self.session.client, &args)
        {
            return Ok(Ran::Reply(Reply::error(error)));
        }
        let mut items = Items::default();
        items.command(self.session.db, self.session.touch, &args);
        let proposing = Arc::clone(raft);
        let mut proposed = tokio::spawn(async move {
            match is_turn {
                true => proposing.propose_turn(items).await,
                false => proposing.propose(items).await,
            }
        });
        let told = match self.waiting_for(&mut proposed).await {
            Ok(told) => told,
            Err(end) => {
                let (node, command, db) =
                    (Arc::clone(&self.node), command.clone(), self.session.db);
                tokio::spawn(async move {
                    if let Ok(Ok((_, outcomes))) = proposed.await {
                        give_back(&node, entry, &command, db, outcomes);
                    }
                });
                return Err(end);
            }
        };
        Ok(match told.unwrap_or(Err(Refusal::Unknown)) {
            Ok((next, outcomes)) => {
                self.session.seen_index = self.session.seen_index.max(next);
                match outcomes.into_iter().next() {
                    Some(Outcome::Reply { reply, took_us, .. }) => {
                        let client = &self.session.client;
                        route::tally::note_duration(&self.node, client, entry.row, &args, took_us);
                        Ran::Reply(reply)
                    }
                    Some(Outcome::Wait(wait)) => Ran::Waits(wait),
                    Some(Outcome::Transaction(_)) | None => Ran::NotNow,
                }
            }
            Err(Refusal::NotLeader | Refusal::NoQuorum | Refusal::Paused) => Ran::NotNow,
            Err(refusal) => Ran::Reply(Reply::error(refusal.into())),
        })
    }

    /// WAIT: until so many followers have what this client wrote.
    pub(super) async fn wait_for_followers(
        &mut self,
        raft: &Arc<RaftNode>,
        wanted: u64,
        timeout: Option<Duration>,
    ) -> Result<(), End> {
        let until = deadline(timeout);
        self.session.client.begin_block();
        let mut index = 0;
        let mut found;
        let ended = loop {
            // Without a leader nobody knows of any.
            (index, found) = self.waiting_for(raft.acked_at(index)).await?.unwrap_or((index, 0));
            let now = Instant::now();
            if found >= wanted || until.is_some_and(|until| now >= until) {
                break self.session.client.end_block();
            }
            let step = now + WAIT_STEP;
            self.wait_until(Some(until.map_or(step, |until| until.min(step)))).await?;
            if self.session.client.is_unblocked() {
                break self.session.client.end_block();
            }
        };
        self.session.client.end_block();
        match ended {
            Some(Unblock::Error) => self.reply_in_order(&unblocked_error()),
            _ => self.reply_in_order(&Reply::Integer(i64::try_from(found).unwrap_or(i64::MAX))),
        }
        Ok(())
    }

    /// Has the leader run a command of the server.
    pub(super) async fn run_at_leader(
        &mut self,
        raft: &Arc<RaftNode>,
        command: OwnedCommand,
    ) -> Result<(), End> {
        match self.waiting_for(raft.run_at_leader(command.clone())).await? {
            Ok(reply) => self.reply_in_order(&reply),
            Err(Refusal::NotLeader) => self.aside.push_front(command),
            Err(refusal) => {
                self.reply_in_order(&Reply::error(CommandError::from(refusal)));
            }
        }
        Ok(())
    }

    /// Runs a command once a read is linearizable.
    pub(super) async fn after_barrier(
        &mut self,
        raft: &Arc<RaftNode>,
        kind: Kind,
        command: OwnedCommand,
    ) -> Result<(), End> {
        match self.waiting_for(raft.read()).await? {
            Ok(ReadPoint::Here(_)) => drop(self.run_here(command)),
            // This node is too far behind to know.
            Ok(ReadPoint::AtLeader) => self.refuse_framing(kind, Refusal::NoQuorum.into()),
            Err(refusal) => self.refuse_framing(kind, CommandError::from(refusal)),
        }
        Ok(())
    }

    /// Waits until this node has what its client wrote through the leader.
    pub(super) async fn catch_up(&mut self, raft: &Arc<RaftNode>) -> Result<(), End> {
        let own_writes = raft.applied().reaches(self.session.seen_index);
        let _ = self.waiting_for(tokio::time::timeout(CATCH_UP_PATIENCE, own_writes)).await?;
        self.learnt = true;
        Ok(())
    }

    /// Waits until this node has every script that was loaded when it was asked for one.
    pub(super) async fn learn_scripts(&mut self, raft: &Arc<RaftNode>) -> Result<(), End> {
        // Without a leader the command itself says so.
        let _ = self.waiting_for(raft.read()).await?;
        self.learnt = true;
        Ok(())
    }
}

/// Gives back what a client was granted that has gone.
fn give_back(
    node: &Arc<Node>,
    entry: &Entry,
    command: &OwnedCommand,
    db: holdfast_engine::time::DbIndex,
    outcomes: Vec<Outcome>,
) {
    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    if let Some(Outcome::Reply { reply, .. }) = outcomes.into_iter().next() {
        node.blocked.give_back(node, entry.row, &args, db, &reply);
    }
}
