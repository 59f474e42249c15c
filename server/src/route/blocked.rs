//! Clients that wait for keys: BLPOP and its kin.
//!
//! A blocked client's command lies here until one of its keys appears; whoever made the key
//! appear then runs the waiting commands in the order in which they arrived. Serving is one at a
//! time, under one lock, so that order holds between threads too; nobody pays for it while
//! nobody waits. Nothing here is replicated state: in a cluster only the leader's clients wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use holdfast_engine::command::{Args, Command, Group};
use holdfast_engine::context::{Context, Touch};
use holdfast_engine::effects::{Effects, EventClass, Notice};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Alone;
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};

use super::{Answer, deliver, tally, waiting_for_keys};
use crate::commit;
use crate::commit::raft::batch::Items;
use crate::commit::raft::{Outcome, Refusal};
use crate::node::Node;
use crate::session::client::Unblock;
use crate::session::{Client, Kill};

type Key = (DbIndex, Vec<u8>);

/// A waiting command.
#[derive(Debug)]
struct Waiter {
    client: Arc<Client>,
    row: &'static Command,
    args: Vec<Vec<u8>>,
    db: DbIndex,
    touch: Touch,
    keys: Vec<Key>,
    /// In a cluster: its command is on its way through the log.
    claimed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// Arrival numbers of the waiters of each key.
    by_key: HashMap<Key, VecDeque<u64>, RandomState>,
    /// Waiters by arrival.
    waiters: BTreeMap<u64, Waiter>,
    by_client: HashMap<u64, u64, RandomState>,
    arrivals: u64,
}

/// The clients that wait for keys.
#[derive(Debug)]
pub struct Blocked {
    /// Never holds a key.
    empty: Engine,
    count: AtomicUsize,
    inner: Mutex<Inner>,
    /// Who serve, or wait to serve, through the log.
    turns: AtomicUsize,
    turned: tokio::sync::Notify,
    /// Held by whoever serves through the log: one at a time, so that order holds.
    serving: tokio::sync::Mutex<()>,
}

impl Default for Blocked {
    fn default() -> Self {
        Self {
            empty: Engine::new(1, 0),
            count: AtomicUsize::new(0),
            inner: Mutex::default(),
            turns: AtomicUsize::new(0),
            turned: tokio::sync::Notify::new(),
            serving: tokio::sync::Mutex::new(()),
        }
    }
}

impl Inner {
    fn remove(&mut self, arrival: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&arrival)?;
        self.by_client.remove(&waiter.client.id);
        for key in &waiter.keys {
            if let Some(queue) = self.by_key.get_mut(key) {
                queue.retain(|other| *other != arrival);
                if queue.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        Some(waiter)
    }
}

impl Blocked {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any client waits; read under a shard's lock by whoever makes a key appear.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(SeqCst) != 0
    }

    /// How many clients wait, and for how many keys.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.waiters.len(), inner.by_key.len())
    }

    /// The keys of a database that clients wait for.
    #[must_use]
    pub fn keys_of(&self, db: DbIndex) -> Vec<Key> {
        self.inner().by_key.keys().filter(|key| key.0 == db).cloned().collect()
    }

    /// The answer of a blocking command that must stand behind others waiting for one of its
    /// keys; `None` if there are none and it may run at once.
    #[must_use]
    pub fn queue_behind(
        &self,
        db: DbIndex,
        row: &'static Command,
        args: Args<'_>,
        context: Context,
    ) -> Option<Answer> {
        let inner = self.inner();
        let mut others = false;
        let _ = row.each_key(args, |index, _| {
            others |= inner.by_key.contains_key(&(db, args[index].to_vec()));
        });
        if !others {
            return None;
        }
        // On an engine without keys it tells its timeout, and what is wrong with its arguments.
        let mut effects = Effects::new(EventClass::NONE);
        let context = Context { db: DbIndex(0), ..context };
        let outcome = self.empty.run(row, args, context, &Alone, &mut effects);
        Some(match effects.wait {
            Some(wait) => waiting_for_keys(wait),
            None => Answer::Reply(outcome.reply),
        })
    }

    /// Puts a client's command at the end of the queues of its keys, and serves those queues: a
    /// key may have appeared since the client looked.
    pub fn park(
        &self,
        node: &Arc<Node>,
        client: Arc<Client>,
        (row, args): (&'static Command, Args<'_>),
        db: DbIndex,
        touch: Touch,
    ) {
        let mut keys: Vec<Key> = Vec::new();
        let _ = row.each_key(args, |index, _| {
            let key = (db, args[index].to_vec());
            if !keys.contains(&key) {
                keys.push(key);
            }
        });
        client.begin_block();
        {
            let mut inner = self.inner();
            inner.arrivals += 1;
            let arrival = inner.arrivals;
            for key in &keys {
                inner.by_key.entry(key.clone()).or_default().push_back(arrival);
            }
            inner.by_client.insert(client.id, arrival);
            let args = args.iter().map(|arg| arg.to_vec()).collect();
            inner.waiters.insert(
                arrival,
                Waiter { client, row, args, db, touch, keys: keys.clone(), claimed: false },
            );
            self.count.fetch_add(1, SeqCst);
        }
        self.serve(node, keys);
    }

    /// Takes a client out of all queues: it timed out, was unblocked or went away.
    pub fn leave(&self, client_id: u64) {
        let mut inner = self.inner();
        if let Some(arrival) = inner.by_client.get(&client_id).copied()
            && inner.remove(arrival).is_some()
        {
            self.count.fetch_sub(1, SeqCst);
        }
    }

    /// Runs the commands that wait for `ready` keys, in order of arrival, and whatever becomes
    /// ready by that.
    pub fn serve(&self, node: &Arc<Node>, ready: Vec<Key>) {
        if node.raft().is_some() {
            self.turns.fetch_add(1, SeqCst);
            let node = Arc::clone(node);
            tokio::spawn(async move {
                node.blocked.serve_through_log(&node, ready).await;
                node.blocked.turns.fetch_sub(1, SeqCst);
                node.blocked.turned.notify_waiters();
            });
            return;
        }
        let mut effects = Effects::new(deliver::wanted_events(node));
        let mut queue = VecDeque::from(ready);
        let mut inner = self.inner();
        while let Some(key) = queue.pop_front() {
            let arrivals: Vec<u64> = inner
                .by_key
                .get(&key)
                .map(|queue| queue.iter().copied().collect())
                .unwrap_or_default();
            for arrival in arrivals {
                let Some(group) = node.engine.group_of(key.0, &key.1, node.now()) else {
                    break;
                };
                if inner.waiters.get(&arrival).is_none_or(|waiter| waiter.row.group != group) {
                    continue;
                }
                if !Self::serve_one(node, &mut inner, arrival, &mut effects) {
                    continue;
                }
                self.count.fetch_sub(1, SeqCst);
                // What the served command made appear comes after what was ready before.
                effects.notices.retain(|notice| match notice {
                    Notice::Ready(db, key) => {
                        queue.push_back((*db, key.to_vec()));
                        false
                    }
                    Notice::ReadyDb(_)
                    | Notice::Event(_)
                    | Notice::Message(_)
                    | Notice::Flushed => true,
                });
            }
        }
        drop(inner);
        if !effects.is_quiet() {
            deliver::deliver(node, &mut effects);
        }
    }

    /// In a cluster: waits until what was ready when it is called has been served.
    pub async fn served(&self) {
        /// Others may become ready all the time.
        const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);
        let none_serves = async {
            loop {
                let turned = self.turned.notified();
                if self.turns.load(SeqCst) == 0 {
                    return;
                }
                turned.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, none_serves).await;
    }

    /// As [`Blocked::serve`] in a cluster: each waiting command is proposed again. What becomes
    /// ready by that comes back here when it is applied.
    async fn serve_through_log(&self, node: &Arc<Node>, ready: Vec<Key>) {
        let _serving = self.serving.lock().await;
        for key in ready {
            let arrivals: Vec<u64> =
                self.inner().by_key.get(&key).into_iter().flatten().copied().collect();
            for arrival in arrivals {
                let Some(group) = node.engine.group_of(key.0, &key.1, node.now()) else { break };
                let Some(items) = self.claim(arrival, group) else { continue };
                let Some(raft) = node.raft() else { return };
                let outcome = raft.submit(items).await.unwrap_or(Err(Refusal::Unknown));
                self.settle(node, arrival, outcome);
            }
        }
    }

    /// Marks a waiter as being served and gives its proposal, if this key can serve it.
    fn claim(&self, arrival: u64, group: Group) -> Option<Items> {
        let mut inner = self.inner();
        let waiter = inner.waiters.get_mut(&arrival)?;
        if waiter.row.group != group || waiter.claimed || waiter.client.is_unblocked() {
            return None;
        }
        waiter.claimed = true;
        let args: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        let mut items = Items::default();
        items.command(waiter.db, waiter.touch, &args);
        Some(items)
    }

    /// Lets a waiter go on with what its proposal came to, or wait on.
    fn settle(&self, node: &Node, arrival: u64, outcome: Result<Vec<Outcome>, Refusal>) {
        let reply = match outcome {
            Ok(outcomes) => match outcomes.into_iter().next() {
                Some(Outcome::Reply { reply, took_us, .. }) => {
                    if let Some(waiter) = self.inner().waiters.get(&arrival) {
                        let args: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
                        tally::note_duration(node, &waiter.client, waiter.row, &args, took_us);
                    }
                    reply
                }
                _ => return self.unclaim(arrival),
            },
            Err(refusal) => Reply::error(refusal.into()),
        };
        let mut inner = self.inner();
        if let Some(waiter) = inner.remove(arrival) {
            self.count.fetch_sub(1, SeqCst);
            waiter.client.unblock(Unblock::Served(reply, waiter.db));
        }
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

    /// Ends every wait: this node no longer leads, and only a leader can serve.
    pub fn unblock_all(&self) {
        let mut inner = self.inner();
        let waiting: Vec<u64> = inner
            .waiters
            .iter()
            .filter(|(_, waiter)| !waiter.claimed)
            .map(|(arrival, _)| *arrival)
            .collect();
        for arrival in waiting {
            if let Some(waiter) = inner.remove(arrival) {
                self.count.fetch_sub(1, SeqCst);
                let reply = Reply::error(CommandError::known(
                    "UNBLOCKED force unblock from blocking operation, instance state changed \
                     (master -> replica?)",
                ));
                waiter.client.unblock(Unblock::Served(reply, waiter.db));
            }
        }
    }

    /// Runs one waiting command; whether it was served.
    fn serve_one(node: &Arc<Node>, inner: &mut Inner, arrival: u64, effects: &mut Effects) -> bool {
        let Some(waiter) = inner.waiters.get(&arrival) else {
            return false;
        };
        // One that was unblocked by other means, or told to go, leaves on its own.
        if waiter.client.is_unblocked() || waiter.client.killed() != Kill::No {
            return false;
        }
        let args: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        let context = commit::context(waiter.db, node.now(), waiter.touch);
        let began_us = node.clock.monotonic_us();
        let outcome = node.engine.run(waiter.row, &args, context, &**node, effects);
        if effects.wait.take().is_some() {
            return false;
        }
        let elapsed_us = node.clock.monotonic_us() - began_us;
        tally::note_duration(node, &waiter.client, waiter.row, &args, elapsed_us);
        let db = waiter.db;
        if let Some(waiter) = inner.remove(arrival) {
            waiter.client.unblock(Unblock::Served(outcome.reply, db));
        }
        true
    }
}
