//! How far this node has applied the log, and the time by the log.
//!
//! Time in a cluster is what the entries say: the leader stamps each with its clock, applying
//! takes the later of that and what was. A leader's clock goes on from the last stamp it knows by
//! its own elapsed time, and slews toward wall time by at most 500 ppm, so that an election can
//! lengthen a TTL and never shorten one.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_engine::time::UnixMillis;
use tokio::sync::oneshot;

use super::types::{LogId, StoredMembership};

/// A leader's clock gains or loses at most one part in so many on its way to wall time.
const SLEW_PARTS: i64 = 2_000;

/// What applying an entry moves on, besides the data.
#[derive(Debug, Clone, Default)]
pub struct Position {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Numbers the proposals; becomes the version of what they change.
    pub(crate) sequence: u64,
    /// The number that the next new member gets.
    pub(crate) next_member: u64,
    /// The latest stamp.
    pub(crate) now_ms: i64,
}

#[derive(Debug, Default)]
struct Running {
    /// Log time in microseconds at `read_us` of the monotonic clock.
    log_us: i64,
    read_us: u64,
}

/// Shared between the state machine, which writes, and everybody who reads at a time.
#[derive(Debug)]
pub struct Applied {
    now_ms: AtomicI64,
    index: AtomicU64,
    leads: AtomicBool,
    running: Mutex<Running>,
    position: Mutex<Position>,
    /// Readers that wait until an index is applied.
    awaited: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
    /// The least index among them, so that applying need not take the lock; `u64::MAX` for none.
    least_awaited: AtomicU64,
}

impl Default for Applied {
    fn default() -> Self {
        Self {
            now_ms: AtomicI64::default(),
            index: AtomicU64::default(),
            leads: AtomicBool::default(),
            running: Mutex::default(),
            position: Mutex::default(),
            awaited: Mutex::default(),
            least_awaited: AtomicU64::new(u64::MAX),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Applied {
    /// The time by the log.
    #[inline]
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        UnixMillis(self.now_ms.load(Acquire))
    }

    /// The index of the last applied entry, plus one; 0 when there is none.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.index.load(Acquire)
    }

    /// A copy of the position.
    #[must_use]
    pub fn position(&self) -> Position {
        locked(&self.position).clone()
    }

    /// The sequence and the next member's number.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let position = locked(&self.position);
        (position.sequence, position.next_member)
    }

    /// Changes the position and shows what has changed.
    pub(crate) fn move_on<T>(&self, monotonic_us: u64, work: impl FnOnce(&mut Position) -> T) -> T {
        let mut position = locked(&self.position);
        let before_ms = position.now_ms;
        let done = work(&mut position);
        if position.now_ms != before_ms && !self.leads.load(Relaxed) {
            let mut running = locked(&self.running);
            running.log_us = position.now_ms.saturating_mul(1000);
            running.read_us = monotonic_us;
        }
        self.now_ms.store(position.now_ms, Release);
        let next = position.last.map_or(0, |last| last.index + 1);
        // Sequentially consistent, as in `reaches`: either this sees who waits, or who is about to
        // wait sees this.
        self.index.store(next, SeqCst);
        drop(position);
        if next >= self.least_awaited.load(SeqCst) {
            self.release(next);
        }
        done
    }

    #[cold]
    fn release(&self, next: u64) {
        let mut awaited = locked(&self.awaited);
        let later = awaited.split_off(&(next + 1));
        let reached = std::mem::replace(&mut *awaited, later);
        let least = awaited.first_key_value().map_or(u64::MAX, |(index, _)| *index);
        self.least_awaited.store(least, SeqCst);
        drop(awaited);
        for told in reached.into_values().flatten() {
            let _ = told.send(());
        }
    }

    /// Waits until everything below `next` is applied: what [`Applied::next_index`] says is then
    /// at least that.
    pub async fn reaches(&self, next: u64) {
        if self.next_index() >= next {
            return;
        }
        let (tell, told) = oneshot::channel();
        {
            let mut awaited = locked(&self.awaited);
            awaited.entry(next).or_default().push(tell);
            let least = awaited.first_key_value().map_or(u64::MAX, |(index, _)| *index);
            self.least_awaited.store(least, SeqCst);
        }
        if self.index.load(SeqCst) >= next {
            self.release(self.next_index());
        }
        let _ = told.await;
    }

    /// Notes whether this node leads: a leader's clock runs on, a follower's follows.
    pub(crate) fn set_leads(&self, leads: bool) {
        self.leads.store(leads, Relaxed);
    }

    /// The leader's clock: never before what is applied.
    #[must_use]
    pub fn clock(&self, monotonic_us: u64, wall_ms: i64) -> UnixMillis {
        let applied_ms = self.now_ms.load(Acquire);
        let mut running = locked(&self.running);
        if applied_ms == 0 && running.log_us == 0 {
            // The very first entry of a cluster: its time begins at wall time.
            running.log_us = wall_ms.saturating_mul(1000);
            running.read_us = monotonic_us;
        }
        let elapsed = monotonic_us.saturating_sub(running.read_us) as i64;
        let offset = wall_ms.saturating_mul(1000).saturating_sub(running.log_us + elapsed);
        let most = elapsed / SLEW_PARTS;
        running.log_us += elapsed + offset.clamp(-most, most);
        running.read_us = running.read_us.max(monotonic_us);
        running.log_us = running.log_us.max(applied_ms.saturating_mul(1000));
        UnixMillis(running.log_us / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(applied: &Applied, monotonic_us: u64, now_ms: i64) {
        applied.move_on(monotonic_us, |position| position.now_ms = now_ms);
    }

    #[test]
    fn a_new_leaders_clock_goes_on_from_the_last_stamp() {
        let applied = Applied::default();
        stamp(&applied, 5_000_000, 1_000_000);
        // Wall time is an hour ahead, which may not shorten anybody's TTL.
        applied.set_leads(true);
        let now = applied.clock(5_300_000, 1_000_000 + 3_600_000);
        assert!((1_000_300..=1_000_301).contains(&now.0), "{now:?}");
        let later = applied.clock(15_300_000, 1_000_000 + 3_600_000);
        assert!((1_010_300..=1_010_306).contains(&later.0), "{later:?}");
    }

    #[test]
    fn applying_its_own_stamps_does_not_set_a_leader_back() {
        let applied = Applied::default();
        stamp(&applied, 0, 1_000);
        applied.set_leads(true);
        let before = applied.clock(10_000, 1_010);
        stamp(&applied, 30_000, before.0);
        let after = applied.clock(30_000, 1_030);
        assert_eq!(after.0, before.0 + 20);
    }

    fn apply(applied: &Applied, index: u64) {
        let leader_id = crate::commit::raft::types::Leader { term: 1, node_id: 1 };
        applied.move_on(0, |position| position.last = Some(LogId { leader_id, index }));
    }

    #[tokio::test]
    async fn readers_wait_until_their_index_is_applied() {
        let applied = std::sync::Arc::new(Applied::default());
        apply(&applied, 3);
        applied.reaches(4).await;
        let waits = |next| {
            let applied = std::sync::Arc::clone(&applied);
            tokio::spawn(async move { applied.reaches(next).await })
        };
        let (first, second) = (waits(6), waits(8));
        tokio::task::yield_now().await;
        apply(&applied, 4);
        tokio::task::yield_now().await;
        assert!(!first.is_finished());
        apply(&applied, 6);
        first.await.expect("reached");
        assert!(!second.is_finished());
        apply(&applied, 7);
        second.await.expect("reached");
    }

    #[test]
    fn a_step_of_the_wall_clock_turns_nothing_back() {
        let applied = Applied::default();
        let first = applied.clock(1_000_000, 50_000_000);
        assert_eq!(first.0, 50_000_000);
        let second = applied.clock(2_000_000, 1);
        assert!(second >= first && second.0 >= 50_000_999, "{second:?}");
    }
}
