//! The queues of clients that wait for locks: their order, and when to look again.
//!
//! `blocked` runs the waiting commands; here stands who waits for which lock since when, for
//! LOCK.INFO and for newcomers who must not pass those who wait, and at which time an expiry may
//! open a lock though nobody touches it. Invariant: this is a leaf. It is asked under a shard's
//! lock and therefore takes no lock but its own.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use holdfast_engine::host::LockWaiter;
use holdfast_engine::time::{DbIndex, UnixMillis};
use tokio::sync::Notify;

use crate::node::{Node, Shutdown};

/// How often every queue is looked at, whatever was told: a plain key that is given an earlier
/// end by means nobody thought of must not keep clients waiting.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

type Key = (DbIndex, Vec<u8>);

/// A client in a queue.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) arrival: u64,
    pub(super) client_id: u64,
    pub(super) owner: Vec<u8>,
    /// Since when it waits, monotonic microseconds; earlier than its arrival by its AGE.
    pub(super) since_us: i64,
}

#[derive(Debug, Default)]
struct Inner {
    queues: HashMap<Key, VecDeque<Queued>, RandomState>,
    /// When to look at a lock again.
    timers: BTreeSet<(UnixMillis, Key)>,
    timer_of: HashMap<Key, UnixMillis, RandomState>,
}

/// The queues of clients that wait for locks.
#[derive(Debug, Default)]
pub struct LockQueues {
    count: AtomicUsize,
    inner: Mutex<Inner>,
    sooner: Notify,
    served: AtomicU64,
    waited_us: AtomicU64,
}

thread_local! {
    /// Whether this thread serves the head of a queue, which then stands behind nobody.
    static SERVING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a waiting command whose turn it is.
pub(super) fn serving<T>(run: impl FnOnce() -> T) -> T {
    SERVING.set(true);
    let result = run();
    SERVING.set(false);
    result
}

impl LockQueues {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Whether nobody waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one that comes now for this lock has to stand behind others.
    #[must_use]
    pub fn is_awaited(&self, db: DbIndex, key: &[u8]) -> bool {
        !self.is_empty() && !SERVING.get() && self.inner().queues.contains_key(&(db, key.to_vec()))
    }

    /// Who waits for this lock, the next one first.
    #[must_use]
    pub fn waiters(&self, db: DbIndex, key: &[u8], now_us: u64) -> Vec<LockWaiter> {
        if self.is_empty() {
            return Vec::new();
        }
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let inner = self.inner();
        let queue = inner.queues.get(&(db, key.to_vec())).into_iter().flatten();
        let waiter = |queued: &Queued| LockWaiter {
            owner: queued.owner.clone(),
            client_id: queued.client_id,
            waited_ms: u64::try_from((now_us - queued.since_us) / 1000).unwrap_or(0),
        };
        queue.map(waiter).collect()
    }

    /// The locks that clients wait for.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        if self.is_empty() { Vec::new() } else { self.inner().queues.keys().cloned().collect() }
    }

    /// How many were served, and how long they had waited together, microseconds.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.served.load(Relaxed), self.waited_us.load(Relaxed))
    }

    /// Puts a client where its waiting time belongs, and returns how many stand before it.
    pub(super) fn join(&self, key: &Key, queued: Queued) -> usize {
        let mut inner = self.inner();
        let queue = inner.queues.entry(key.clone()).or_default();
        let at = queue.partition_point(|other| other.since_us <= queued.since_us);
        queue.insert(at, queued);
        self.count.fetch_add(1, SeqCst);
        at
    }

    /// Takes a client out.
    pub(super) fn leave(&self, key: &Key, arrival: u64) {
        let mut inner = self.inner();
        let Some(queue) = inner.queues.get_mut(key) else { return };
        let before = queue.len();
        queue.retain(|queued| queued.arrival != arrival);
        let (left, empty) = (before - queue.len(), queue.is_empty());
        if empty {
            inner.queues.remove(key);
            if let Some(at) = inner.timer_of.remove(key) {
                inner.timers.remove(&(at, key.clone()));
            }
        }
        self.count.fetch_sub(left, SeqCst);
    }

    /// Counts a client that was served.
    pub(super) fn count_served(&self, waited_us: u64) {
        self.served.fetch_add(1, Relaxed);
        self.waited_us.fetch_add(waited_us, Relaxed);
    }

    /// Notes when the lock is worth another look, if at all.
    pub(super) fn look_again(&self, key: &Key, at: Option<UnixMillis>) {
        let mut inner = self.inner();
        let Inner { queues, timers, timer_of } = &mut *inner;
        if timer_of.get(key).copied() == at {
            return;
        }
        if let Some(before) = timer_of.remove(key) {
            timers.remove(&(before, key.clone()));
        }
        if let Some(at) = at
            && queues.contains_key(key)
        {
            timer_of.insert(key.clone(), at);
            timers.insert((at, key.clone()));
            if timers.first().is_some_and(|(first, _)| *first == at) {
                self.sooner.notify_one();
            }
        }
    }

    fn next_look(&self) -> Option<UnixMillis> {
        self.inner().timers.first().map(|(at, _)| *at)
    }

    /// The locks whose time to be looked at has come, each once.
    fn due(&self, now: UnixMillis) -> Vec<Key> {
        let mut inner = self.inner();
        let mut keys = Vec::new();
        while let Some((at, key)) = inner.timers.first().cloned()
            && at <= now
        {
            inner.timers.remove(&(at, key.clone()));
            inner.timer_of.remove(&key);
            keys.push(key);
        }
        keys
    }
}

/// Looks at locks when they may have opened by themselves; runs until the process ends.
pub async fn run(node: Arc<Node>) {
    let mut shutdown = node.shutdown_signal();
    let queues = node.blocked.locks();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while *shutdown.borrow_and_update() == Shutdown::No {
        let wait = queues.next_look().map(|at| at.ms_since(node.proposal_time()));
        let wait = wait.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let keys = tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or(SWEEP_EVERY)) => queues.due(node.proposal_time()),
            () = queues.sooner.notified() => continue,
            _ = sweep.tick() => {
                lower_mark(&node);
                queues.keys()
            }
            _ = shutdown.changed() => return,
        };
        if !keys.is_empty() {
            node.blocked.serve(&node, keys);
        }
    }
}

/// Lets the quarantine's mark fall and keeps the clock, off the worker threads: they may write.
fn lower_mark(node: &Arc<Node>) {
    let node = Arc::clone(node);
    tokio::task::spawn_blocking(move || {
        node.quarantine.lower(node.clock.monotonic_us());
        node.keep_clock();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(arrival: u64, since_us: i64) -> Queued {
        Queued { arrival, client_id: arrival, owner: vec![b'a' + arrival as u8], since_us }
    }

    #[test]
    fn who_waits_longest_is_next() {
        let queues = LockQueues::default();
        let key: Key = (DbIndex(0), b"k".to_vec());
        assert_eq!(queues.join(&key, queued(1, 100)), 0);
        assert_eq!(queues.join(&key, queued(2, 100)), 1);
        // It had waited elsewhere before.
        assert_eq!(queues.join(&key, queued(3, -5_000)), 0);
        let order: Vec<u64> =
            queues.waiters(DbIndex(0), b"k", 1_100).iter().map(|one| one.client_id).collect();
        assert_eq!(order, [3, 1, 2]);
        assert_eq!(queues.waiters(DbIndex(0), b"k", 1_100)[0].waited_ms, 6);
        assert!(queues.is_awaited(DbIndex(0), b"k") && !queues.is_awaited(DbIndex(1), b"k"));
        assert!(!serving(|| queues.is_awaited(DbIndex(0), b"k")));
        for arrival in [3, 1, 2] {
            queues.leave(&key, arrival);
        }
        assert!(queues.is_empty() && queues.keys().is_empty());
    }

    #[test]
    fn each_lock_is_looked_at_once_when_its_time_has_come() {
        let queues = LockQueues::default();
        let key: Key = (DbIndex(0), b"k".to_vec());
        queues.look_again(&key, Some(UnixMillis(5)));
        assert_eq!(queues.next_look(), None, "nobody waits for it");
        queues.join(&key, queued(1, 0));
        queues.look_again(&key, Some(UnixMillis(50)));
        queues.look_again(&key, Some(UnixMillis(9)));
        assert_eq!(queues.next_look(), Some(UnixMillis(9)));
        assert!(queues.due(UnixMillis(8)).is_empty());
        assert_eq!(queues.due(UnixMillis(60)), std::slice::from_ref(&key));
        assert!(queues.due(UnixMillis(60)).is_empty());
        queues.look_again(&key, Some(UnixMillis(70)));
        queues.leave(&key, 1);
        assert_eq!(queues.next_look(), None);
    }
}
