//! Clients that wait for keys: BLPOP and its kin.
//!
//! A blocked client's command lies here until one of its keys appears; whoever made the key
//! appear then runs the waiting commands in the order in which they arrived. Serving is one at a
//! time, under one lock, so that order holds between threads too; nobody pays for it while
//! nobody waits. Nothing here is replicated state: in a cluster the leader keeps the queues, also
//! of commands whose clients are on other members; reads of streams wait on their own node.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use holdfast_engine::Reply;
use holdfast_engine::command::{Args, Command, Group};
use holdfast_engine::commands::lock::acquire::patience;
use holdfast_engine::context::{Context, Touch};
use holdfast_engine::effects::{Effects, EventClass, Notice};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Alone;
use holdfast_engine::time::DbIndex;
use tokio::sync::{mpsc, oneshot};

use super::lock_queue::{LockQueues, Queued, serving};
use super::{Answer, deliver, rights, tally, waiting_for_keys};
use crate::commit;
use crate::commit::raft::batch::Items;
use crate::commit::raft::{Outcome, Refusal};
use crate::node::Node;
use crate::session::client::Unblock;
use crate::session::{Client, Kill};

mod through_log;

use through_log::ThroughLog;

pub(super) type Key = (DbIndex, Vec<u8>);

/// A waiting command.
#[derive(Debug)]
struct Waiter {
    client: Arc<Client>,
    row: &'static Command,
    args: Vec<Vec<u8>>,
    db: DbIndex,
    touch: Touch,
    keys: Vec<Key>,
    /// When it arrived, monotonic microseconds.
    arrived_us: u64,
    /// In a cluster: its command is on its way through the log.
    claimed: bool,
    /// In a cluster: the client is on another member, which runs the command when told.
    member: Option<MemberTurns>,
}

/// Gives a member its client's turn, and whom to tell what the command came to.
pub type MemberTurns = mpsc::UnboundedSender<oneshot::Sender<Result<Vec<Outcome>, Refusal>>>;

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
    locks: LockQueues,
    /// In a cluster.
    through_log: ThroughLog,
    /// Clients of this node whose commands wait at the leader, and those among them that wait for
    /// locks.
    away: AtomicUsize,
    away_for_locks: AtomicUsize,
}

/// A client whose command waits at the leader, for as long as this lives.
pub struct Away<'a> {
    blocked: &'a Blocked,
    for_lock: bool,
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.blocked.away.fetch_sub(1, SeqCst);
        if self.for_lock {
            self.blocked.away_for_locks.fetch_sub(1, SeqCst);
        }
    }
}

impl Default for Blocked {
    fn default() -> Self {
        Self {
            empty: Engine::new(1, 0),
            count: AtomicUsize::new(0),
            inner: Mutex::default(),
            locks: LockQueues::default(),
            through_log: ThroughLog::default(),
            away: AtomicUsize::new(0),
            away_for_locks: AtomicUsize::new(0),
        }
    }
}

/// Whether who waits with this command waits no longer once the key has gone or holds something
/// else: the group of XREADGROUP went with it.
fn hears_of_loss(row: &Command) -> bool {
    row.name == "xreadgroup"
}

impl Inner {
    fn remove(&mut self, locks: &LockQueues, arrival: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&arrival)?;
        self.by_client.remove(&waiter.client.id);
        for key in &waiter.keys {
            if waiter.row.group == Group::Lock {
                locks.leave(key, arrival);
            }
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

    /// The queues of locks among them.
    #[must_use]
    pub fn locks(&self) -> &LockQueues {
        &self.locks
    }

    /// Counts a client of this node whose command waits at the leader.
    pub fn is_away(&self, row: &Command) -> Away<'_> {
        let for_lock = row.group == Group::Lock;
        self.away.fetch_add(1, SeqCst);
        if for_lock {
            self.away_for_locks.fetch_add(1, SeqCst);
        }
        Away { blocked: self, for_lock }
    }

    /// How many clients wait for locks: those in this node's queues, and this node's own that wait
    /// in the leader's.
    #[must_use]
    pub fn waiting_for_locks(&self) -> usize {
        self.locks.len() + self.away_for_locks.load(SeqCst)
    }

    /// How many clients of other members wait in this node's queues.
    #[must_use]
    pub fn of_members(&self) -> usize {
        self.inner().waiters.values().filter(|waiter| waiter.member.is_some()).count()
    }

    /// How many of this node's clients wait, and for how many keys clients wait here.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let inner = self.inner();
        let own = inner.waiters.values().filter(|waiter| waiter.member.is_none()).count();
        (own + self.away.load(SeqCst), inner.by_key.len())
    }

    /// The keys of a database that clients wait for.
    #[must_use]
    pub fn keys_of(&self, db: DbIndex) -> Vec<Key> {
        self.inner().by_key.keys().filter(|key| key.0 == db).cloned().collect()
    }

    /// The keys that groups read: whoever waits for one is told when it goes.
    #[must_use]
    pub fn keys_of_groups(&self) -> Vec<Key> {
        if !self.any() {
            return Vec::new();
        }
        let inner = self.inner();
        let readers = inner.waiters.values().filter(|waiter| hears_of_loss(waiter.row));
        readers.flat_map(|waiter| waiter.keys.iter().cloned()).collect()
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
        if matches!(row.group, Group::Lock | Group::Stream) {
            // Of a lock the engine asks whether others wait: the holder may come again at any
            // time. Readers of a stream take nothing from each other.
            return None;
        }
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
        command: (&'static Command, Args<'_>),
        db: DbIndex,
        touch: Touch,
    ) {
        self.park_for(node, client, command, (db, touch), None);
    }

    /// As [`Blocked::park`], for a client of another member. `client` only stands for it here.
    pub fn park_for_member(
        &self,
        node: &Arc<Node>,
        client: Arc<Client>,
        command: (&'static Command, Args<'_>),
        db: DbIndex,
        turns: MemberTurns,
    ) {
        self.park_for(node, client, command, (db, Touch::Counts), Some(turns));
    }

    fn park_for(
        &self,
        node: &Arc<Node>,
        client: Arc<Client>,
        (row, args): (&'static Command, Args<'_>),
        (db, touch): (DbIndex, Touch),
        member: Option<MemberTurns>,
    ) {
        let context = commit::context(db, node.now(), touch);
        let settled = node.engine.settle(row, args, context);
        let settled: Option<Vec<&[u8]>> =
            settled.as_ref().map(|args| args.iter().map(Vec::as_slice).collect());
        let args = settled.as_deref().unwrap_or(args);
        let mut keys: Vec<Key> = Vec::new();
        let _ = row.each_key(args, |index, _| {
            let key = (db, args[index].to_vec());
            if !keys.contains(&key) {
                keys.push(key);
            }
        });
        client.begin_block();
        let arrived_us = node.clock.monotonic_us();
        {
            let mut inner = self.inner();
            inner.arrivals += 1;
            let arrival = inner.arrivals;
            for key in &keys {
                self.enqueue(&mut inner, key, (row, args), (arrival, client.id), arrived_us);
            }
            inner.by_client.insert(client.id, arrival);
            let args = args.iter().map(|arg| arg.to_vec()).collect();
            inner.waiters.insert(
                arrival,
                Waiter {
                    client,
                    row,
                    args,
                    db,
                    touch,
                    keys: keys.clone(),
                    arrived_us,
                    claimed: false,
                    member,
                },
            );
            self.count.fetch_add(1, SeqCst);
        }
        self.serve(node, keys);
    }

    /// Puts an arrival into the queue of a key: at its end, but for a lock where its waiting time
    /// belongs among the others who wait for the lock.
    fn enqueue(
        &self,
        inner: &mut Inner,
        key: &Key,
        (row, args): (&'static Command, Args<'_>),
        (arrival, client_id): (u64, u64),
        arrived_us: u64,
    ) {
        let queue = inner.by_key.entry(key.clone()).or_default();
        let patience = if row.group == Group::Lock { patience(args) } else { None };
        let Some(patience) = patience else {
            queue.push_back(arrival);
            return;
        };
        let age_us = i64::try_from(patience.age_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
        let since_us = i64::try_from(arrived_us).unwrap_or(i64::MAX).saturating_sub(age_us);
        let owner = patience.owner.to_vec();
        let before = self.locks.join(key, Queued { arrival, client_id, owner, since_us });
        let waiters = &inner.waiters;
        let is_lock = |arrival: &u64| {
            waiters.get(arrival).is_some_and(|waiter| waiter.row.group == Group::Lock)
        };
        let place = queue
            .iter()
            .enumerate()
            .filter(|(_, other)| is_lock(other))
            .nth(before)
            .map_or(queue.len(), |(at, _)| at);
        queue.insert(place, arrival);
    }

    /// Gives back the lock that a client was granted which has gone before it heard of it.
    pub fn give_back(
        &self,
        node: &Arc<Node>,
        row: &Command,
        args: Args<'_>,
        db: DbIndex,
        reply: &Reply,
    ) {
        let Reply::Record(fields) = reply else { return };
        let Some((_, Reply::Integer(token))) = fields.first() else { return };
        let release = holdfast_engine::engine::table().find(b"lock.release");
        let (Some(release), "lock.acquire") = (release, row.name) else { return };
        let token = token.to_string();
        let args: [&[u8]; 4] = [b"LOCK.RELEASE", args[1], args[2], token.as_bytes()];
        if let Some(raft) = node.raft() {
            let mut items = Items::default();
            items.command(db, Touch::Leaves, &args);
            let raft = Arc::clone(raft);
            // Should it fail, the lock's time to live ends it.
            tokio::spawn(async move { raft.propose(items).await });
            return;
        }
        let mut effects = Effects::new(deliver::wanted_events(node));
        let context = commit::context(db, node.now(), Touch::Leaves);
        node.engine.run(release, &args, context, &**node, &mut effects);
        deliver::deliver(node, &mut effects);
    }

    /// Takes a client out of all queues: it timed out, was unblocked or went away.
    pub fn leave(&self, client_id: u64) {
        let mut inner = self.inner();
        if let Some(arrival) = inner.by_client.get(&client_id).copied()
            && inner.remove(&self.locks, arrival).is_some()
        {
            self.count.fetch_sub(1, SeqCst);
        }
    }

    /// Runs the commands that wait for `ready` keys, in order of arrival, and whatever becomes
    /// ready by that.
    pub fn serve(&self, node: &Arc<Node>, ready: Vec<Key>) {
        if !self.any() {
            return;
        }
        if node.raft().is_some() {
            self.serve_through_log(node, ready);
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
            // Once the head of a lock's queue cannot have it, nobody behind it can: readers stand
            // behind writers. A key that is absent serves nobody else.
            let (mut closed, mut absent) = (false, false);
            for arrival in arrivals {
                let Some(waiter) = inner.waiters.get(&arrival) else { continue };
                if waiter.client.is_unblocked() || waiter.client.killed() != Kill::No {
                    // It leaves on its own.
                    continue;
                }
                let is_lock = waiter.row.group == Group::Lock;
                if !is_lock {
                    let told_anyway = hears_of_loss(waiter.row);
                    if absent && !told_anyway {
                        continue;
                    }
                    let group = node.engine.group_of(key.0, &key.1, node.now());
                    absent = group.is_none();
                    if group != Some(waiter.row.group) && !told_anyway {
                        continue;
                    }
                } else if closed {
                    continue;
                }
                if !self.serve_one(node, &mut inner, (arrival, &key), &mut effects) {
                    closed |= is_lock;
                    continue;
                }
                self.count.fetch_sub(1, SeqCst);
                // What the served command made appear comes after what was ready before.
                effects.notices.retain(|notice| match notice {
                    Notice::Ready(db, key) | Notice::StreamExpired(db, key) => {
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

    /// Runs one waiting command; whether it was served.
    fn serve_one(
        &self,
        node: &Arc<Node>,
        inner: &mut Inner,
        (arrival, key): (u64, &Key),
        effects: &mut Effects,
    ) -> bool {
        let Some(waiter) = inner.waiters.get(&arrival) else {
            return false;
        };
        // One that was unblocked by other means, or told to go, leaves on its own.
        if waiter.client.is_unblocked() || waiter.client.killed() != Kill::No {
            return false;
        }
        let args: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        if let Some(error) = rights::refuses_waiter(node, &waiter.client, &args) {
            let db = waiter.db;
            if let Some(waiter) = inner.remove(&self.locks, arrival) {
                waiter.client.unblock(Unblock::Served(Reply::error(error), db));
            }
            return true;
        }
        let context = commit::context(waiter.db, node.now(), waiter.touch);
        let began_us = node.clock.monotonic_us();
        let is_lock = waiter.row.group == Group::Lock;
        let outcome = match is_lock {
            true => serving(|| node.engine.run(waiter.row, &args, context, &**node, effects)),
            false => node.engine.run(waiter.row, &args, context, &**node, effects),
        };
        if let Some(wait) = effects.wait.take() {
            if is_lock {
                self.locks.look_again(key, wait.retry_at);
            }
            return false;
        }
        let now_us = node.clock.monotonic_us();
        tally::note_duration(node, &waiter.client, waiter.row, &args, now_us - began_us);
        if is_lock && !outcome.reply.is_error() {
            self.locks.count_served(now_us.saturating_sub(waiter.arrived_us));
        }
        let db = waiter.db;
        if let Some(waiter) = inner.remove(&self.locks, arrival) {
            waiter.client.unblock(Unblock::Served(outcome.reply, db));
        }
        true
    }
}
