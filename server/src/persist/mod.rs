//! Files: snapshots in RDB, and the journal.
//!
//! - [`rdb`]: the file format around the engine's `dump`; anything that reads or writes.
//! - [`journal`]: every change, in order, synced as `appendfsync` says.
//! - [`save`] and [`rewrite`]: a snapshot to a file, and the journal begun anew from one.
//! - [`load`]: what is read at the start. [`files`]: replacing a file whole or not at all.
//! - [`claim`]: one process at a time in a directory.
//!
//! Here is what they share: which job runs, how the last one ended, how far loading is. Must know
//! neither sessions nor sockets; `admin::persistence` has the commands and the timing.

pub mod claim;
pub mod files;
pub mod journal;
pub mod load;
pub mod rdb;
pub mod rewrite;
pub mod save;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use holdfast_engine::CommandError;
use holdfast_engine::engine::Engine;
use parking_lot::Mutex;

use crate::config::Settings;
use crate::config::settings::{FsyncPolicy, path};
use claim::Claims;
use journal::{Journal, Location, Names, Policy};

/// What writes a snapshot; one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// SAVE: its client waits.
    Save,
    /// BGSAVE.
    BackgroundSave,
    /// BGREWRITEAOF.
    Rewrite,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// Its file is in place.
    Done,
    /// A shutdown came; that says nothing about the disk, and changes must not be refused for it.
    GivenUp,
    /// The file could not be written.
    Failed,
}

impl<T> From<&io::Result<T>> for JobEnd {
    fn from(result: &io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Self::GivenUp,
            Err(_) => Self::Failed,
        }
    }
}

/// What INFO persistence tells.
#[derive(Debug, Clone)]
pub struct Report {
    /// What runs, and since when (monotonic µs).
    pub running: Option<(Job, u64)>,
    /// A save is to follow what runs.
    pub save_scheduled: bool,
    /// A rewrite is to follow what runs.
    pub rewrite_scheduled: bool,
    /// When the last save succeeded, Unix seconds.
    pub last_save_s: u64,
    /// When one was last tried, monotonic µs; 0 for never.
    pub last_try_us: u64,
    /// When a rewrite was last tried, monotonic µs; 0 for never.
    pub last_rewrite_try_us: u64,
    /// Whether the last save in the background succeeded.
    pub last_save_ok: bool,
    /// How long the last save in the background took, s; -1 for none.
    pub last_save_took_s: i64,
    /// Saves that succeeded.
    pub saves: u64,
    /// Rewrites that failed since the last one that succeeded.
    pub rewrite_failures: u32,
    /// How long the last rewrite took, s; -1 for none.
    pub last_rewrite_took_s: i64,
    /// Rewrites that succeeded.
    pub rewrites: u64,
    /// Keys of the last file that was loaded, and those left out for their time had come.
    pub last_load: (u64, u64),
}

/// How far loading is.
#[derive(Debug, Default)]
pub struct Loading {
    active: AtomicBool,
    started_unix_s: AtomicU64,
    total: AtomicU64,
    done: AtomicU64,
}

impl Loading {
    /// Begins; clients are refused until [`Loading::end`].
    pub fn begin(&self, now_unix_s: u64) {
        self.started_unix_s.store(now_unix_s, Relaxed);
        self.total.store(0, Relaxed);
        self.done.store(0, Relaxed);
        self.active.store(true, Release);
    }

    /// Ends.
    pub fn end(&self) {
        self.active.store(false, Release);
    }

    /// Whether data is being loaded.
    #[inline]
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.load(Acquire)
    }

    /// Notes how many bytes there are to read.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    /// Notes how many bytes are read.
    pub fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Relaxed);
    }

    /// When it began (Unix seconds), bytes in all and bytes read.
    #[must_use]
    pub fn progress(&self) -> (u64, u64, u64) {
        (self.started_unix_s.load(Relaxed), self.total.load(Relaxed), self.done.load(Relaxed))
    }
}

/// The journal's directory, as long as this process may write to it.
#[derive(Debug)]
struct Held {
    location: Location,
    _lock: std::fs::File,
}

/// The files of a node.
#[derive(Debug)]
pub struct Persist {
    settings: Arc<Settings>,
    /// The directories that this process keeps state in.
    pub claims: Arc<Claims>,
    /// The journal; off in memory mode.
    pub journal: Arc<Journal>,
    /// How far loading is.
    pub loading: Loading,
    report: Mutex<Report>,
    /// A journal was read back at the start to its last byte.
    replayed_whole: AtomicBool,
    lock: Mutex<Option<Held>>,
    /// What is written now is to be given up.
    cancelled: AtomicBool,
    /// The last snapshot is taken: nothing may change any more.
    sealed: AtomicBool,
}

impl Persist {
    /// Nothing saved and nothing recorded yet.
    #[must_use]
    pub fn new(settings: Arc<Settings>, claims: Claims, started_unix_s: u64) -> Self {
        Self {
            settings,
            claims: Arc::new(claims),
            journal: Arc::default(),
            loading: Loading::default(),
            report: Mutex::new(Report {
                running: None,
                save_scheduled: false,
                rewrite_scheduled: false,
                last_save_s: started_unix_s,
                last_try_us: 0,
                last_rewrite_try_us: 0,
                last_save_ok: true,
                last_save_took_s: -1,
                saves: 0,
                rewrite_failures: 0,
                last_rewrite_took_s: -1,
                rewrites: 0,
                last_load: (0, 0),
            }),
            lock: Mutex::new(None),
            replayed_whole: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        }
    }

    /// Whether a journal was read back at the start to its last byte.
    #[must_use]
    pub fn replayed_whole(&self) -> bool {
        self.replayed_whole.load(Acquire)
    }

    /// What INFO persistence tells.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// Claims the data directory, before a file is written there.
    ///
    /// # Errors
    /// When another process holds it, by name.
    pub fn claim_dir(&self) -> io::Result<()> {
        self.claims.take(&self.settings.dir()).map(drop)
    }

    /// The RDB file.
    #[must_use]
    pub fn rdb_path(&self) -> PathBuf {
        self.settings.dir().join(path(&self.settings.dbfilename()))
    }

    /// Where the journal's files are; the same as long as one is kept, whatever becomes of `dir`.
    #[must_use]
    pub fn location(&self) -> Location {
        if let Some(held) = &*self.lock.lock() {
            return held.location.clone();
        }
        Location {
            dir: self.settings.dir().join(path(&self.settings.appenddirname())),
            names: Names::new(&self.settings.appendfilename()),
        }
    }

    /// The policy of `appendfsync`.
    #[must_use]
    pub fn policy(&self) -> Policy {
        match self.settings.appendfsync() {
            FsyncPolicy::Always => Policy::Always,
            FsyncPolicy::EverySecond => Policy::EverySecond,
            FsyncPolicy::No => Policy::No,
        }
    }

    /// Claims the one place of a job.
    ///
    /// # Errors
    /// The job that holds it.
    pub fn begin(&self, job: Job, now_us: u64) -> Result<(), Job> {
        let mut report = self.report.lock();
        if let Some((running, _)) = report.running {
            return Err(running);
        }
        report.running = Some((job, now_us));
        if job != Job::Rewrite {
            report.last_try_us = now_us.max(1);
            report.save_scheduled = false;
        } else {
            report.last_rewrite_try_us = now_us.max(1);
            report.rewrite_scheduled = false;
        }
        Ok(())
    }

    /// Has a job follow the one that runs.
    pub fn schedule(&self, job: Job) {
        let mut report = self.report.lock();
        match job {
            Job::Rewrite => report.rewrite_scheduled = true,
            Job::Save | Job::BackgroundSave => report.save_scheduled = true,
        }
    }

    /// Gives the place back and notes how the job ended.
    pub fn finish(&self, job: Job, end: JobEnd, now_us: u64, now_unix_s: u64) {
        let ok = end == JobEnd::Done;
        let mut report = self.report.lock();
        let began_us = report.running.take().map_or(now_us, |(_, since)| since);
        let took_s = (now_us.saturating_sub(began_us) / 1_000_000) as i64;
        match job {
            Job::Save | Job::BackgroundSave => {
                if ok {
                    report.last_save_s = now_unix_s;
                    report.saves += 1;
                }
                if job == Job::BackgroundSave && end != JobEnd::GivenUp {
                    report.last_save_ok = ok;
                    report.last_save_took_s = took_s;
                } else if ok {
                    report.last_save_ok = true;
                }
            }
            Job::Rewrite => {
                report.rewrite_failures = match end {
                    JobEnd::Done => 0,
                    JobEnd::GivenUp => report.rewrite_failures,
                    JobEnd::Failed => report.rewrite_failures + 1,
                };
                report.last_rewrite_took_s = took_s;
                report.rewrites += u64::from(ok);
            }
        }
    }

    /// Notes what the last load found.
    pub fn note_load(&self, keys: u64, expired: u64) {
        self.report.lock().last_load = (keys, expired);
    }

    /// Refuses or admits changes, as the state of the files demands.
    pub fn update_refusal(&self, engine: &Engine) {
        engine.keyspace().refuse_changes(self.refusal().is_some());
    }

    /// Why changes are refused, if they are.
    #[must_use]
    pub fn refusal(&self) -> Option<CommandError> {
        if self.sealed.load(Acquire) {
            return Some(CommandError::known("ERR The server is shutting down"));
        }
        if let Some(reason) = self.journal.failure() {
            return Some(CommandError::new(format!(
                "MISCONF Errors writing to the AOF file: {reason}"
            )));
        }
        let failed = !self.report.lock().last_save_ok
            && self.settings.stop_writes_on_bgsave_error()
            && !self.settings.save_points().is_empty();
        if !failed {
            // Taken literally, for who asks for replicas must not believe that there are some.
            return (self.settings.min_replicas_to_write() > 0)
                .then_some(CommandError::NOT_ENOUGH_REPLICAS);
        }
        Some({
            CommandError::known(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
                 persist to disk. Commands that may modify the data set are disabled, because \
                 this instance is configured to report errors during writes if RDB snapshotting \
                 fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
                 details about the RDB error.",
            )
        })
    }

    /// Has the job that runs give up, or lets later ones go on.
    pub fn cancel(&self, on: bool) {
        self.cancelled.store(on, Release);
    }

    /// Refuses changes for good, the last snapshot being taken; or admits them again, because it
    /// has failed. To be called where no command runs, for no change to slip through.
    pub fn seal(&self, engine: &Engine, on: bool) {
        self.sealed.store(on, Release);
        self.update_refusal(engine);
    }

    /// Records the thresholds of encodings, on which the order of sets depends.
    pub fn record_limits(&self, engine: &Engine) {
        if self.journal.is_on() {
            rewrite::append_limits(&self.journal, engine);
        }
    }
}
