//! The journal: every change in the order it was made, on disk as `appendfsync` promises.
//!
//! Commands queue records while they hold their shards ([`Journal::append`]); one thread
//! (`writer`) writes and syncs what is queued, in groups. Positions count the queued bytes since
//! the start of the process; [`Journal::durable`] is how far they are synced. With `always` a
//! connection sends no reply before its position is. `replay` reads it all back, `rewrite`
//! replaces it by a snapshot and a new log, `manifest` says which files there are.

mod frame;
mod log_file;
mod manifest;
mod repair;
mod replay;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

pub use log_file::LogFile;
pub use manifest::{Manifest, Names};
pub use repair::repair;
pub(super) use replay::total_len;
pub use replay::{LIMITS_MARK, Player, Replayed, Replaying, replay};

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
    /// What comes of the client's own changes ends here: while the disk fails, replies that
    /// speak of no more than others' changes are let go.
    pub owed: u64,
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
    /// The policy has changed.
    nudged: bool,
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
    /// Who waits for what, by client.
    waiters: Mutex<HashMap<u64, (Target, Waker)>>,
    /// Bytes of the log that is written to, of those before it, and of the base beside them.
    file_len: AtomicU64,
    older_len: AtomicU64,
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
        {
            // What was queued since an earlier journal ended is part of what this one begins with.
            let mut queue = self.queue.lock();
            queue.begin += queue.bytes.len() as u64;
            queue.bytes.clear();
            (queue.stop, queue.switch) = (false, None);
            self.appended.store(queue.begin, Release);
            self.written.store(queue.begin, Release);
            self.durable.store(queue.begin, Release);
        }
        self.failing.store(false, Release);
        self.number.store(file.number(), Release);
        self.file_len.store(file.len(), Release);
        let journal = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer::run(&journal, file, &*on_failure))?;
        *self.thread.lock() = Some(thread);
        self.policy.store(policy as u8, Release);
        Ok(())
    }

    /// Syncs everything and records nothing any more.
    pub fn stop(&self) {
        self.end();
        self.failing.store(false, Release);
        self.policy.store(OFF, Release);
        self.wake_waiters();
    }

    /// Syncs everything before the process ends. What could not be written stays unanswered.
    pub fn end(&self) {
        self.queue.lock().stop = true;
        self.wake_writer();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread has panicked");
        }
    }

    /// Queues a record that `write` appends.
    pub fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let mut queue = self.queue.lock();
        let begin = queue.bytes.len();
        queue.bytes.extend_from_slice(&[0; 4]);
        write(&mut queue.bytes);
        let Ok(len) = u32::try_from(queue.bytes.len() - begin - 4) else {
            tracing::error!(
                "a transaction is longer than a record of the journal can be, and cannot be taken \
                 back: the process ends, without it"
            );
            std::process::exit(1);
        };
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
        (queue.asleep, queue.nudged) = (false, true);
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

    /// What replies to what has run so far must wait for, if for anything; `owed` is as in
    /// [`Target`].
    #[inline]
    #[must_use]
    pub fn target(&self, owed: u64) -> Option<Target> {
        match self.policy.load(Relaxed) {
            OFF => None,
            policy => self.target_under(policy, owed),
        }
    }

    fn target_under(&self, policy: u8, owed: u64) -> Option<Target> {
        let position = self.appended();
        if policy == Policy::Always as u8 {
            let target = Target { position, stage: Stage::Durable, owed };
            return (!self.has_reached(target)).then_some(target);
        }
        let behind = position.saturating_sub(self.written.load(Acquire));
        // A disk that fails refuses changes: there is nothing to slow down.
        let target = Target { position: position - behind / 2, stage: Stage::Written, owed: 0 };
        (behind > BACKLOG_MAX && !self.has_reached(target)).then_some(target)
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
        let come = come.load(Acquire);
        come >= target.position
            || !self.is_on()
            || come >= target.owed && self.failing.load(Acquire)
    }

    /// Completes when a target is reached; otherwise the client's task is woken then.
    pub fn poll_reached(&self, client: u64, target: Target, context: &Context<'_>) -> Poll<()> {
        if self.has_reached(target) {
            return Poll::Ready(());
        }
        self.waiters.lock().insert(client, (target, context.waker().clone()));
        // It may have been reached before the waker was in the list.
        if self.has_reached(target) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Forgets a client that went before its target was reached.
    pub fn forget(&self, client: u64) {
        self.waiters.lock().remove(&client);
    }

    /// Clients that wait.
    fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Wakes whose target is reached; returns how many waited.
    fn wake_waiters(&self) -> usize {
        let mut ready = Vec::new();
        let mut waiters = self.waiters.lock();
        let waited = waiters.len();
        waiters.retain(|_, (target, waker)| {
            let reached = self.has_reached(*target);
            if reached {
                ready.push(waker.clone());
            }
            !reached
        });
        drop(waiters);
        ready.into_iter().for_each(Waker::wake);
        waited
    }

    /// Why nothing can be written, while that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failing.load(Acquire).then(|| self.failure.lock().clone())
    }

    /// Bytes of the base and of the log files.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64) {
        let logs = self.older_len.load(Acquire) + self.file_len.load(Acquire);
        (self.base_len.load(Acquire), logs)
    }

    /// Notes the sizes found at the start, or after a rewrite: of the base, and of the logs before
    /// the one that is written to.
    pub fn set_sizes(&self, base: u64, older: u64) {
        self.base_len.store(base, Release);
        self.older_len.store(older, Release);
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
