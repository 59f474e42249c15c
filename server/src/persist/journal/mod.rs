//! The journal: every change in the order it was made, on disk as `appendfsync` promises.
//!
//! Commands queue records while they hold their shards ([`Journal::append`]); one thread
//! (`writer`) writes and syncs what is queued, in groups. Positions count the queued bytes since
//! the start of the process; [`Journal::durable`] is how far they are synced. With `always` a
//! connection sends no reply before its position is. `replay` reads it all back, `rewrite`
//! replaces it by a snapshot and a new log, `manifest` says which files there are.

mod frame;
mod manifest;
mod repair;
mod replay;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

pub use manifest::{Manifest, Names};
pub use repair::repair;
pub(super) use replay::total_len;
pub use replay::{LIMITS_MARK, Replayed, Replaying, replay};
pub use writer::LogFile;

/// When a record is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// Never: when the system gets around to it.
    No = 1,
    /// Once a second.
    EverySecond = 2,
    /// Before its reply is sent.
    Always = 3,
}

/// No journal is kept.
const OFF: u8 = 0;

/// Bytes that may be queued before connections are made to wait: disks have their bad seconds,
/// and memory has its end.
const BACKLOG_MAX: u64 = 64 << 20;

/// How far a position must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Given to the system.
    Written,
    /// On disk.
    Durable,
}

/// What a connection waits for before it sends its replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The position.
    pub position: u64,
    /// How far it must have come.
    pub stage: Stage,
}

/// What commands and the writer share.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// The position of the first queued byte.
    begin: u64,
    /// The file to go on with, and the position at which.
    switch: Option<(u64, LogFile)>,
    /// The writer sleeps and must be woken.
    asleep: bool,
    /// Everything is to be synced, and the writer to end.
    stop: bool,
}

/// The journal of a node; off until it is given a file.
#[derive(Debug, Default)]
pub struct Journal {
    /// [`OFF`] or a [`Policy`].
    policy: AtomicU8,
    queue: Mutex<Queue>,
    wake: Condvar,
    appended: AtomicU64,
    written: AtomicU64,
    durable: AtomicU64,
    waiters: Mutex<Vec<(Target, Waker)>>,
    /// Bytes of the log files, and of the base beside them.
    log_len: AtomicU64,
    base_len: AtomicU64,
    /// The number of the file that is written to.
    number: AtomicU64,
    failing: AtomicBool,
    failure: Mutex<String>,
    /// When the last sync began, for INFO.
    syncing: AtomicBool,
    delayed_syncs: AtomicU64,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Called when writing fails and when it works again.
pub type OnFailure = Arc<dyn Fn(bool) + Send + Sync>;

impl Journal {
    /// Whether changes are recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.policy.load(Relaxed) != OFF
    }

    /// Sets when records are synced, if any are kept.
    pub fn set_policy(&self, policy: Policy) {
        let _ =
            self.policy.fetch_update(AcqRel, Acquire, |now| (now != OFF).then_some(policy as u8));
        self.wake_writer();
        self.wake_waiters();
    }

    /// Begins to record to `file`: from now on [`Journal::append`] may be called.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        self: &Arc<Self>,
        file: LogFile,
        policy: Policy,
        on_failure: OnFailure,
    ) -> std::io::Result<()> {
        self.queue.lock().stop = false;
        self.number.store(file.number(), Release);
        self.log_len.store(file.len(), Release);
        let journal = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer::run(&journal, file, &*on_failure))?;
        *self.thread.lock() = Some(thread);
        self.policy.store(policy as u8, Release);
        Ok(())
    }

    /// Syncs everything and ends the writer. Nothing may be appended any more.
    pub fn stop(&self) {
        self.queue.lock().stop = true;
        self.wake_writer();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread has panicked");
        }
        self.policy.store(OFF, Release);
        self.wake_waiters();
    }

    /// Queues a record that `write` appends.
    pub fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut queue = self.queue.lock();
        let begin = queue.bytes.len();
        queue.bytes.extend_from_slice(&[0; 4]);
        write(&mut queue.bytes);
        let len = (queue.bytes.len() - begin - 4) as u32;
        queue.bytes[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
        self.appended.store(queue.begin + queue.bytes.len() as u64, Release);
        if queue.asleep {
            queue.asleep = false;
            self.wake.notify_one();
        }
    }

    /// Goes on with `file` from this moment. To be called at the cut of a snapshot.
    pub fn switch_to(&self, file: LogFile) {
        let mut queue = self.queue.lock();
        let position = queue.begin + queue.bytes.len() as u64;
        queue.switch = Some((position, file));
        queue.asleep = false;
        self.wake.notify_one();
    }

    fn wake_writer(&self) {
        let mut queue = self.queue.lock();
        queue.asleep = false;
        self.wake.notify_one();
    }

    /// The number of the file that is written to.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Acquire)
    }

    /// The position behind the last record.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.appended.load(Acquire)
    }

    /// The position up to which all is on disk.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Acquire)
    }

    /// What replies to what has run so far must wait for, if for anything.
    #[inline]
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match self.policy.load(Relaxed) {
            OFF => None,
            policy => self.target_under(policy),
        }
    }

    fn target_under(&self, policy: u8) -> Option<Target> {
        let position = self.appended();
        if policy == Policy::Always as u8 {
            let target = Target { position, stage: Stage::Durable };
            return (self.durable() < position).then_some(target);
        }
        let behind = position.saturating_sub(self.written.load(Acquire));
        let target = Target { position: position - behind / 2, stage: Stage::Written };
        (behind > BACKLOG_MAX).then_some(target)
    }

    /// Whether replies may have to wait: then none is sent before its batch is through.
    #[must_use]
    pub fn holds_replies(&self) -> bool {
        self.policy.load(Relaxed) == Policy::Always as u8
    }

    /// Whether a target has been reached; `true` also when no journal is kept any more.
    #[must_use]
    pub fn has_reached(&self, target: Target) -> bool {
        let come = match target.stage {
            Stage::Written => &self.written,
            Stage::Durable => &self.durable,
        };
        come.load(Acquire) >= target.position || !self.is_on()
    }

    /// Completes when a target is reached; otherwise the task is woken then.
    pub fn poll_reached(&self, target: Target, context: &Context<'_>) -> Poll<()> {
        if self.has_reached(target) {
            return Poll::Ready(());
        }
        {
            let mut waiters = self.waiters.lock();
            let waker = context.waker();
            match waiters.iter_mut().find(|(_, other)| other.will_wake(waker)) {
                Some(place) => place.0 = target,
                None => waiters.push((target, waker.clone())),
            }
        }
        // It may have been reached before the waker was in the list.
        if self.has_reached(target) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake_waiters(&self) {
        let mut ready = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            let mut nth = 0;
            while nth < waiters.len() {
                if self.has_reached(waiters[nth].0) {
                    ready.push(waiters.swap_remove(nth).1);
                } else {
                    nth += 1;
                }
            }
        }
        ready.into_iter().for_each(Waker::wake);
    }

    /// Why nothing can be written, while that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failing.load(Acquire).then(|| self.failure.lock().clone())
    }

    /// Bytes of the base and of the log files.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64) {
        (self.base_len.load(Acquire), self.log_len.load(Acquire))
    }

    /// Notes the sizes found at the start, or after a rewrite.
    pub fn set_sizes(&self, base: u64, log: u64) {
        self.base_len.store(base, Release);
        self.log_len.store(log, Release);
    }

    /// Bytes that are queued, whether a sync runs, and how many took long.
    #[must_use]
    pub fn load(&self) -> (u64, bool, u64) {
        let queued = self.appended().saturating_sub(self.written.load(Acquire));
        (queued, self.syncing.load(Relaxed), self.delayed_syncs.load(Relaxed))
    }
}

/// Where a journal's files are.
#[derive(Debug, Clone)]
pub struct Location {
    /// The directory.
    pub dir: PathBuf,
    /// The names in it.
    pub names: Names,
}
