//! Proposing or reading a group of commands, and answering each in its turn.

use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::time::UnixMillis;
use holdfast_engine::{CommandError, Reply};

use super::super::{Connection, End};
use super::{Group, Slot, Way};
use crate::commit::raft::batch::Items;
use crate::commit::raft::forward::{Answer, Publication, ReadPoint, Request};
use crate::commit::raft::{Outcome, RaftNode, Refusal};
use crate::route::cluster::{self, Kind};
use crate::route::forwarded;
use crate::route::{self, Waiting, waiting_for_keys};

/// Delay before commands are tried again that met a change of leader.
const RETRY: Duration = Duration::from_millis(2);
/// A read that may be stale, and a message, wait this long for what their own client has written.
const OWN_WRITES_PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    /// Proposes or reads a group and answers it.
    pub(super) async fn settle(&mut self, raft: &Arc<RaftNode>, group: Group) -> Result<(), End> {
        let Group { items, slots, publications, way } = group;
        match way {
            Way::Log => self.settle_writes(raft, items, slots).await,
            Way::Publish => self.publish(raft, publications, slots).await,
            Way::AtLeader => self.read_at_leader(raft, items, slots).await,
            Way::Stale => {
                let own = raft.applied().reaches(self.session.seen_index);
                let reached = tokio::time::timeout(OWN_WRITES_PATIENCE, own);
                if self.waiting_for(reached).await?.is_err() {
                    return self.read_at_leader(raft, items, slots).await;
                }
                self.read_here(raft, raft.applied().now(), slots);
                Ok(())
            }
            Way::Read => {
                let point = raft.read();
                let point = match self.hears_of_itself() {
                    true => point.await,
                    false => self.waiting_for(point).await?,
                };
                match point {
                    Ok(ReadPoint::Here(now)) => {
                        self.read_here(raft, now, slots);
                        Ok(())
                    }
                    Ok(ReadPoint::AtLeader) => self.read_at_leader(raft, items, slots).await,
                    Err(refusal) => self.refuse(slots, refusal).await,
                }
            }
        }
    }

    async fn settle_writes(
        &mut self,
        raft: &Arc<RaftNode>,
        items: Items,
        slots: Vec<Slot>,
    ) -> Result<(), End> {
        let outcomes = if raft.leads() {
            let told = raft.submit(items);
            for slot in &slots {
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
            outcomes.map(|outcomes| (raft.applied().next_index(), outcomes))
        } else {
            let told = raft.propose(items);
            if self.hears_of_itself() { told.await } else { self.waiting_for(told).await? }
        };
        match outcomes {
            Ok((next, outcomes)) => {
                self.session.seen_index = self.session.seen_index.max(next);
                self.answer(raft, slots, outcomes).await
            }
            Err(refusal) => self.refuse(slots, refusal).await,
        }
    }

    /// Runs reads on this node's data.
    fn read_here(&mut self, raft: &RaftNode, now: UnixMillis, slots: Vec<Slot>) {
        for slot in slots {
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
    }

    /// Has the leader run reads: it alone knows, or this node is too far behind.
    async fn read_at_leader(
        &mut self,
        raft: &Arc<RaftNode>,
        items: Items,
        slots: Vec<Slot>,
    ) -> Result<(), End> {
        if raft.leads() {
            match self.waiting_for(raft.read()).await? {
                Ok(_) => self.read_here(raft, raft.applied().now(), slots),
                Err(refusal) => return self.refuse(slots, refusal).await,
            }
            return Ok(());
        }
        match self.waiting_for(raft.read_at_leader(items)).await? {
            Ok(outcomes) => self.answer(raft, slots, outcomes).await,
            Err(refusal) => self.refuse(slots, refusal).await,
        }
    }

    /// Hands messages to the subscribers on all nodes, and says how many receive each.
    async fn publish(
        &mut self,
        raft: &Arc<RaftNode>,
        messages: Vec<Publication>,
        slots: Vec<Slot>,
    ) -> Result<(), End> {
        // Messages of its transactions and scripts come by the log: they go before this one here.
        if raft.applied().next_index() < self.session.seen_index {
            let own = raft.applied().reaches(self.session.seen_index);
            let _ = self.waiting_for(tokio::time::timeout(OWN_WRITES_PATIENCE, own)).await?;
        }
        let began_ns = self.scratch.tally.now_ns(&self.node);
        let request = Request::Publish(messages);
        let others = self.waiting_for(raft.ask_others(&request)).await?;
        let Request::Publish(messages) = request else { return Ok(()) };
        let mut counts = forwarded::publish(&self.node, &messages);
        for answer in others {
            if let Answer::Counts(more) = answer {
                counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
            }
        }
        let took_ns = self.scratch.tally.elapsed_ns(&self.node, began_ns);
        let share_ns = took_ns / counts.len().max(1) as u64;
        for (slot, count) in slots.into_iter().zip(counts) {
            if let Slot::One(entry, command) = slot {
                self.scratch.tally.record(&self.node, entry.id, share_ns, false);
                let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                let client = &self.session.client;
                route::tally::note_duration(&self.node, client, entry.row, &args, share_ns / 1000);
            }
            self.reply_in_order(&Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
        }
        Ok(())
    }

    /// Whether its own commands may cause messages to it: these must not come before the replies.
    fn hears_of_itself(&self) -> bool {
        self.session.tracking.is_some() || self.session.is_subscriber()
    }

    pub(super) fn reply_in_order(&mut self, reply: &Reply) {
        self.reply(reply);
        route::after_command(&mut self.session);
    }

    /// Answers a group that was applied.
    async fn answer(
        &mut self,
        raft: &Arc<RaftNode>,
        slots: Vec<Slot>,
        outcomes: Vec<Outcome>,
    ) -> Result<(), End> {
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
                        self.park(raft, entry, &command, timeout, &reply).await?;
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
    pub(super) async fn refuse(&mut self, slots: Vec<Slot>, refusal: Refusal) -> Result<(), End> {
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
            let error = CommandError::from(refusal.clone());
            let reply = match slot {
                Slot::Known(reply) => reply,
                // Nothing of it was done, which a transaction says in its own way.
                Slot::Transaction(_) if refusal != Refusal::Unknown => {
                    Reply::error(discarded(&error))
                }
                Slot::One(..) | Slot::Transaction(_) => Reply::error(error),
            };
            self.reply_in_order(&reply);
        }
        Ok(())
    }

    /// Refuses a command without changing what the commands behind it mean: a refused WATCH fails the
    /// next EXEC, and a refused EXEC ends its transaction.
    pub(super) fn refuse_framing(&mut self, kind: Kind, error: CommandError) {
        let error = match kind {
            Kind::Watch => {
                self.session.lose_watches();
                error
            }
            Kind::Exec => {
                self.session.discard();
                discarded(&error)
            }
            _ => error,
        };
        self.reply_in_order(&Reply::error(error));
    }
}

/// Why EXEC ran nothing.
fn discarded(error: &CommandError) -> CommandError {
    let text = error.text();
    let text = text.strip_prefix("ERR ").unwrap_or(text);
    CommandError::new(format!("EXECABORT Transaction discarded because of: {text}"))
}
