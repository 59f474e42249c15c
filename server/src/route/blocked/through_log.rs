//! Serving clients that wait, in a cluster: each waiting command is proposed again.
//!
//! What becomes ready by that comes back to `serve` when it is applied. Keys of lists and the like
//! are served one at a time, so that order holds between them; each lock has a turn of its own,
//! and its queue is served from the head until one is not granted the lock. Nothing here is
//! replicated state: a leader that steps down lets its waiters go on at the next one, those for
//! locks with the AGE they have reached. The command of another member's client is proposed by
//! that member, when it hears that its turn has come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use holdfast_engine::Reply;
use holdfast_engine::command::{Command, Group, Handler};
use holdfast_engine::commands::lock;
use holdfast_engine::effects::{Effects, EventClass, Wait};
use holdfast_engine::raw::Record;
use holdfast_engine::time::DbIndex;
use tokio::sync::oneshot;

use super::{Blocked, Key, MemberTurns, Waiter, hears_of_loss};
use crate::commit::raft::batch::Items;
use crate::commit::raft::{Outcome, Refusal};
use crate::node::Node;
use crate::route::{rights, tally};
use crate::session::Kill;
use crate::session::client::Unblock;

/// What is known of those who serve.
#[derive(Debug, Default)]
pub(super) struct ThroughLog {
    /// Turns of serving that have begun and ended; they end in the order in which they began.
    begun: AtomicU64,
    ended: AtomicU64,
    turned: tokio::sync::Notify,
    /// Held by whoever serves other keys than locks.
    serving: tokio::sync::Mutex<()>,
    /// Locks whose queues are being served, and whether they were touched again meanwhile.
    locks: Mutex<HashMap<Key, bool, RandomState>>,
}

/// A waiter whose command is about to be proposed.
struct Claim {
    arrival: u64,
    row: &'static Command,
    args: Vec<Vec<u8>>,
    db: DbIndex,
    items: Items,
    member: Option<MemberTurns>,
}

/// What a proposal comes to, once it has.
type Told = oneshot::Receiver<Result<Vec<Outcome>, Refusal>>;

/// What serving one waiter came to.
enum Served {
    /// It has its reply, or has gone.
    Yes,
    /// It waits on.
    No(Option<Wait>),
}

/// For whom something may be done.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Those that wait for a lock: for a key to go, whatever it holds.
    Lock,
    /// Those that wait for a key that holds something of this group, or nothing.
    Key(Option<Group>),
}

impl Blocked {
    /// As [`Blocked::serve`] in a cluster; returns at once.
    pub(super) fn serve_through_log(&self, node: &Arc<Node>, ready: Vec<Key>) {
        if node.raft().is_some_and(|raft| !raft.leads()) {
            // Whoever began to wait when this node had just stepped down.
            self.move_away();
            self.serve_reads(node, &ready);
            return;
        }
        let others: Vec<Key> =
            ready.iter().filter(|key| self.is_awaited_by_others(key)).cloned().collect();
        for key in ready {
            if self.locks.is_awaited(key.0, &key.1) && self.begins_turn(&key) {
                let node = Arc::clone(node);
                tokio::spawn(async move { node.blocked.serve_lock(&node, key).await });
            }
        }
        if others.is_empty() {
            return;
        }
        self.through_log.begun.fetch_add(1, SeqCst);
        let node = Arc::clone(node);
        tokio::spawn(async move {
            let serving = node.blocked.through_log.serving.lock().await;
            node.blocked.serve_others(&node, others).await;
            drop(serving);
            node.blocked.through_log.ended.fetch_add(1, SeqCst);
            node.blocked.through_log.turned.notify_waiters();
        });
    }

    fn is_awaited_by_others(&self, key: &Key) -> bool {
        let inner = self.inner();
        inner.by_key.get(key).into_iter().flatten().any(|arrival| {
            inner.waiters.get(arrival).is_some_and(|waiter| waiter.row.group != Group::Lock)
        })
    }

    /// Waits until what was ready when it is called has been served, and what becomes ready by
    /// that; but for locks, whose releases nobody waits for.
    pub async fn served(&self) {
        const PATIENCE: Duration = Duration::from_millis(100);
        /// Others may become ready all the time.
        const CHAIN_LEN_MAX: usize = 8;
        let all_ended = async {
            for _ in 0..CHAIN_LEN_MAX {
                let begun = self.through_log.begun.load(SeqCst);
                if self.through_log.ended.load(SeqCst) >= begun {
                    return;
                }
                self.turns_end(begun).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all_ended).await;
    }

    /// Waits until so many turns have ended.
    async fn turns_end(&self, count: u64) {
        loop {
            let turned = self.through_log.turned.notified();
            if self.through_log.ended.load(SeqCst) >= count {
                return;
            }
            turned.await;
        }
    }

    async fn serve_others(&self, node: &Arc<Node>, ready: Vec<Key>) {
        for key in ready {
            let arrivals: Vec<u64> =
                self.inner().by_key.get(&key).into_iter().flatten().copied().collect();
            for arrival in arrivals {
                let group = node.engine.group_of(key.0, &key.1, node.now());
                if self.is_read(arrival) {
                    if group == Some(Group::Stream) {
                        self.serve_read(node, (arrival, &key));
                    }
                    continue;
                }
                let Some(claim) = self.claim(node, arrival, Turn::Key(group)) else { continue };
                self.propose(node, claim).await;
            }
        }
    }

    /// Serves the reads that wait on this node while another leads.
    fn serve_reads(&self, node: &Arc<Node>, ready: &[Key]) {
        for key in ready {
            let arrivals: Vec<u64> =
                self.inner().by_key.get(key).into_iter().flatten().copied().collect();
            for arrival in arrivals {
                if self.is_read(arrival)
                    && node.engine.group_of(key.0, &key.1, node.now()) == Some(Group::Stream)
                {
                    self.serve_read(node, (arrival, key));
                }
            }
        }
    }

    fn is_read(&self, arrival: u64) -> bool {
        let inner = self.inner();
        let waiter = inner.waiters.get(&arrival);
        waiter.is_some_and(|waiter| matches!(waiter.row.handler, Handler::Wait(_)))
    }

    /// Serves a waiting read from what is applied here. That is linearizable: what made the key
    /// ready was committed, and applied, after the read began to wait.
    fn serve_read(&self, node: &Arc<Node>, waiting: (u64, &Key)) {
        let mut effects = Effects::new(EventClass::NONE);
        let mut inner = self.inner();
        if self.serve_one(node, &mut inner, waiting, &mut effects) {
            self.count.fetch_sub(1, SeqCst);
        }
    }

    /// Whether nobody serves the lock's queue yet; whoever does looks again.
    fn begins_turn(&self, key: &Key) -> bool {
        let mut locks = self.through_log.locks.lock().unwrap_or_else(PoisonError::into_inner);
        match locks.entry(key.clone()) {
            Entry::Occupied(mut turn) => {
                turn.insert(true);
                false
            }
            Entry::Vacant(turn) => {
                turn.insert(false);
                true
            }
        }
    }

    /// Whether a turn is over, for the lock was not touched since it began.
    fn ends_turn(&self, key: &Key) -> bool {
        let mut locks = self.through_log.locks.lock().unwrap_or_else(PoisonError::into_inner);
        match locks.get_mut(key) {
            Some(again) if *again => {
                *again = false;
                false
            }
            _ => {
                locks.remove(key);
                true
            }
        }
    }

    async fn serve_lock(&self, node: &Arc<Node>, key: Key) {
        loop {
            self.serve_queue(node, &key).await;
            if self.ends_turn(&key) {
                return;
            }
        }
    }

    /// Serves a lock's queue from its head. Once the head cannot have the lock, nobody behind it
    /// can: readers stand behind writers.
    async fn serve_queue(&self, node: &Arc<Node>, key: &Key) {
        let arrivals: Vec<u64> =
            self.inner().by_key.get(key).into_iter().flatten().copied().collect();
        for arrival in arrivals {
            // Most who come find the lock taken: that costs no entry of the log.
            let now = node.proposal_time();
            let closed = |record: &Record| lock::closed_until(record, now);
            if let Some(until) = node.engine.look_at(key.0, &key.1, now, closed).flatten() {
                self.locks.look_again(key, until);
                return;
            }
            let Some(claim) = self.claim(node, arrival, Turn::Lock) else { continue };
            if let Served::No(wait) = self.propose(node, claim).await {
                self.locks.look_again(key, wait.and_then(|wait| wait.retry_at));
                return;
            }
        }
    }

    /// Proposes the command of the head of a lock's queue right behind the release that was just
    /// submitted: what would else take two rounds through the log, one after the other, takes one.
    /// Should the release come to nothing, the head waits on.
    pub fn follow_release(&self, node: &Arc<Node>, db: DbIndex, args: &[Vec<u8>]) {
        let [_, key, owner, ..] = args else { return };
        if !self.locks.is_awaited(db, key) {
            return;
        }
        let key: Key = (db, key.clone());
        let now = node.proposal_time();
        let may_open = |record: &Record| lock::may_open(record, owner, now);
        if node.engine.look_at(db, &key.1, now, may_open) != Some(true) || !self.begins_turn(&key) {
            return;
        }
        let arrivals: Vec<u64> =
            self.inner().by_key.get(&key).into_iter().flatten().copied().collect();
        let claim = arrivals.into_iter().find_map(|arrival| self.claim(node, arrival, Turn::Lock));
        let proposed = claim.and_then(|claim| self.submit(node, claim));
        let node = Arc::clone(node);
        tokio::spawn(async move {
            if let Some((claim, told)) = proposed {
                node.blocked.conclude(&node, claim, told).await;
            }
            node.blocked.serve_lock(&node, key).await;
        });
    }

    /// Marks a waiter as being served and gives its proposal, if it is its turn.
    fn claim(&self, node: &Node, arrival: u64, turn: Turn) -> Option<Claim> {
        let mut inner = self.inner();
        let waiter = inner.waiters.get_mut(&arrival)?;
        let leaves = waiter.client.is_unblocked() || waiter.client.killed() != Kill::No;
        let (is_lock, group) = (waiter.row.group == Group::Lock, waiter.row.group);
        let is_its_turn = match turn {
            Turn::Lock => is_lock,
            Turn::Key(held) => !is_lock && (held == Some(group) || hears_of_loss(waiter.row)),
        };
        if !is_its_turn || waiter.claimed || leaves {
            return None;
        }
        let args: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        // The rights of another member's client are looked at there.
        if waiter.member.is_none()
            && let Some(error) = rights::refuses_waiter(node, &waiter.client, &args)
        {
            let waiter = inner.remove(&self.locks, arrival)?;
            self.count.fetch_sub(1, SeqCst);
            waiter.client.unblock(Unblock::Served(Reply::error(error), waiter.db));
            return None;
        }
        waiter.claimed = true;
        let mut items = Items::default();
        items.command(waiter.db, waiter.touch, &args);
        let (row, db, args) = (waiter.row, waiter.db, waiter.args.clone());
        let member = waiter.member.clone();
        Some(Claim { arrival, row, args, db, items, member })
    }

    /// Proposes a waiting command, and lets the waiter go on with what it came to, or wait on.
    async fn propose(&self, node: &Arc<Node>, claim: Claim) -> Served {
        match self.submit(node, claim) {
            Some((claim, told)) => self.conclude(node, claim, told).await,
            None => Served::Yes,
        }
    }

    fn submit(&self, node: &Node, mut claim: Claim) -> Option<(Claim, Told)> {
        if let Some(member) = claim.member.take() {
            let (tell, told) = oneshot::channel();
            // A member that has gone drops the other end, and the waiter is taken away.
            let _ = member.send(tell);
            return Some((claim, told));
        }
        let told = node.raft()?.submit(std::mem::take(&mut claim.items));
        Some((claim, told))
    }

    /// Lets a waiter go on with what its command came to, or wait on.
    async fn conclude(&self, node: &Arc<Node>, claim: Claim, told: Told) -> Served {
        let Claim { arrival, row, args, db, .. } = claim;
        let outcome = told.await.unwrap_or(Err(Refusal::Unknown));
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let (reply, took_us) = match outcome {
            Ok(outcomes) => match outcomes.into_iter().next() {
                Some(Outcome::Reply { reply, took_us, .. }) => (reply, took_us),
                Some(Outcome::Wait(wait)) => {
                    self.unclaim(arrival);
                    return Served::No(Some(wait));
                }
                Some(Outcome::Transaction(_)) | None => {
                    self.unclaim(arrival);
                    return Served::No(None);
                }
            },
            Err(Refusal::NotLeader | Refusal::NoQuorum) => {
                // Nothing was done.
                self.send_on(arrival);
                return Served::Yes;
            }
            Err(refusal) => (Reply::error(refusal.into()), 0),
        };
        let waiter = self.inner().remove(&self.locks, arrival);
        let Some(waiter) = waiter else {
            // It went meanwhile.
            self.give_back(node, row, &args, db, &reply);
            return Served::Yes;
        };
        self.count.fetch_sub(1, SeqCst);
        tally::note_duration(node, &waiter.client, row, &args, took_us);
        if row.group == Group::Lock && !reply.is_error() {
            let now_us = node.clock.monotonic_us();
            self.locks.count_served(now_us.saturating_sub(waiter.arrived_us));
        }
        waiter.client.unblock(Unblock::Served(reply, waiter.db));
        Served::Yes
    }

    fn unclaim(&self, arrival: u64) {
        if let Some(waiter) = self.inner().waiters.get_mut(&arrival) {
            waiter.claimed = false;
        }
    }

    /// Takes a client out of all queues, unless its command is on its way through the log; whether
    /// it is out.
    pub fn leave_unless_claimed(&self, client_id: u64) -> bool {
        {
            let inner = self.inner();
            let arrival = inner.by_client.get(&client_id);
            let waiter = arrival.and_then(|arrival| inner.waiters.get(arrival));
            if waiter.is_some_and(|waiter| waiter.claimed) {
                return false;
            }
        }
        self.leave(client_id);
        true
    }

    /// Lets a waiter go on at the next leader.
    fn send_on(&self, arrival: u64) {
        if let Some(waiter) = self.inner().remove(&self.locks, arrival) {
            self.count.fetch_sub(1, SeqCst);
            waiter.client.unblock(Unblock::Moved);
        }
    }

    /// Lets every waiter go on at the next leader, because this node no longer leads. Reads wait on.
    pub fn move_away(&self) {
        let waiting: Vec<u64> = {
            let inner = self.inner();
            let stays =
                |waiter: &Waiter| waiter.claimed || matches!(waiter.row.handler, Handler::Wait(_));
            let leaving = inner.waiters.iter().filter(|(_, waiter)| !stays(waiter));
            leaving.map(|(arrival, _)| *arrival).collect()
        };
        waiting.into_iter().for_each(|arrival| self.send_on(arrival));
    }
}
