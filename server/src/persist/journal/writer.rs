//! The thread that writes and syncs the journal.
//!
//! With `always` it takes what is queued, writes it, syncs, wakes those who wait, and looks
//! again: while it syncs, the next group gathers. Otherwise it writes once in a millisecond
//! and syncs once a second, so that commands seldom have to wake it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use super::log_file::LogFile;
use super::{Journal, Policy};

/// Pause between writes when nobody waits for them.
const LINGER: Duration = Duration::from_millis(1);
/// How often `everysec` syncs.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long after a failure writing is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A sync must take so long to be worth waiting for more records.
const GATHER_FROM: Duration = Duration::from_micros(400);
/// The part of a sync's time that is waited at most, and of the clients that may be missing.
const GATHER_PART: u32 = 4;
/// How often it is looked whether they are there.
const GATHER_STEP: Duration = Duration::from_micros(50);
/// A sync that takes longer is counted as delayed.
const SYNC_SLOW: Duration = Duration::from_secs(2);

/// Writes what is queued until the journal is stopped. `on_failure` is told when writing fails
/// and when it works again.
pub(super) fn run(journal: &Journal, mut file: LogFile, on_failure: &dyn Fn(bool)) {
    let (mut taken, mut frames) = (Vec::new(), Vec::new());
    let mut synced = Instant::now();
    let mut unsynced = false;
    loop {
        let waits = unsynced && journal.policy.load(Acquire) != Policy::No as u8;
        let next = take(journal, &mut taken, waits.then(|| synced + SYNC_EVERY));
        if !taken.is_empty() {
            if unsynced && file.has_room() {
                // The policy has just changed: no two frames are ever unsynced there.
                sync(journal, &file);
                synced = Instant::now();
                journal.durable.store(journal.written.load(Relaxed), Release);
            }
            if !write_until_it_works(journal, &mut file, &taken, &mut frames, on_failure) {
                return;
            }
            journal.written.fetch_add(taken.len() as u64, Release);
            journal.file_len.store(file.len(), Release);
            unsynced = true;
            taken.clear();
        }
        let policy = journal.policy.load(Acquire);
        let due = policy == Policy::Always as u8
            || policy != Policy::No as u8 && synced.elapsed() >= SYNC_EVERY
            || !matches!(next, Next::GoOn);
        let mut took = Duration::ZERO;
        if unsynced && due {
            took = sync(journal, &file);
            synced = Instant::now();
            unsynced = false;
            journal.durable.store(journal.written.load(Relaxed), Release);
        }
        let clients = journal.wake_waiters();
        match next {
            Next::GoOn if policy != Policy::Always as u8 => std::thread::sleep(LINGER),
            Next::GoOn => gather(journal, clients, took),
            Next::Switch(other) => {
                file.close();
                journal.older_len.fetch_add(file.len(), Relaxed);
                file = other;
                journal.number.store(file.number(), Release);
                journal.file_len.store(file.len(), Release);
                // Whoever waits for the switch looks at the number.
                journal.wake_waiters();
            }
            Next::Stop => return file.close(),
        }
    }
}

/// Gives the clients that were just answered some time to come back, if a sync takes so long
/// that two groups that take turns would serve fewer than one.
fn gather(journal: &Journal, clients: usize, sync_took: Duration) {
    let until = Instant::now() + sync_took / GATHER_PART;
    while sync_took > GATHER_FROM
        && journal.waiting() < clients - clients / GATHER_PART as usize
        && Instant::now() < until
    {
        std::thread::sleep(GATHER_STEP);
    }
}

/// Whether each group is synced before the next is written.
fn synced_at_once(journal: &Journal) -> bool {
    journal.policy.load(Acquire) == Policy::Always as u8
}

/// What follows a group of records.
enum Next {
    GoOn,
    Switch(LogFile),
    Stop,
}

/// Takes what is queued; waits for it, but not beyond the time of the next sync.
fn take(journal: &Journal, taken: &mut Vec<u8>, sync_at: Option<Instant>) -> Next {
    let mut queue = journal.queue.lock();
    while queue.bytes.is_empty() && queue.switch.is_none() && !queue.stop && !queue.nudged {
        queue.asleep = true;
        let timed_out = match sync_at {
            Some(at) => journal.wake.wait_until(&mut queue, at).timed_out(),
            None => {
                journal.wake.wait(&mut queue);
                false
            }
        };
        if timed_out {
            break;
        }
    }
    (queue.asleep, queue.nudged) = (false, false);
    if let Some((position, file)) = queue.switch.take() {
        let before = usize::try_from(position - queue.begin).unwrap_or(usize::MAX);
        let before = before.min(queue.bytes.len());
        taken.extend(queue.bytes.drain(..before));
        queue.begin = position;
        return Next::Switch(file);
    }
    std::mem::swap(taken, &mut queue.bytes);
    queue.begin += taken.len() as u64;
    // A burst's room is given back.
    if taken.capacity() > 8 << 20 && taken.len() < taken.capacity() / 8 {
        taken.shrink_to(taken.len());
    }
    if queue.stop { Next::Stop } else { Next::GoOn }
}

/// Whether it was written: not if the journal is stopped while that is impossible.
fn write_until_it_works(
    journal: &Journal,
    file: &mut LogFile,
    records: &[u8],
    frames: &mut Vec<u8>,
    on_failure: &dyn Fn(bool),
) -> bool {
    let mut failed = false;
    while let Err(error) = file.write(records, frames, synced_at_once(journal)) {
        if !failed {
            tracing::error!(
                "Error writing to the journal: {error}. Changes are refused until it works again; \
                 nothing acknowledged is lost"
            );
            *journal.failure.lock() = error.to_string();
            journal.failing.store(true, Release);
            on_failure(true);
            journal.wake_waiters();
            failed = true;
        }
        if journal.queue.lock().stop {
            tracing::error!(
                "the last changes ({} bytes) could not be written to the journal",
                records.len()
            );
            return false;
        }
        std::thread::sleep(RETRY_AFTER);
    }
    if failed {
        tracing::warn!("the journal can be written to again");
        journal.failing.store(false, Release);
        on_failure(false);
    }
    true
}

/// Syncs, and returns how long that took.
fn sync(journal: &Journal, file: &LogFile) -> Duration {
    let began = Instant::now();
    journal.syncing.store(true, Relaxed);
    if let Err(error) = file.sync() {
        // What the system could not write it may have thrown away: no later sync would tell.
        tracing::error!(
            "the journal could not be synced: {error}. The process ends, for it cannot know \
             what is on disk; check the disk and start again"
        );
        std::process::exit(1);
    }
    journal.syncing.store(false, Relaxed);
    let took = began.elapsed();
    if took > SYNC_SLOW {
        journal.delayed_syncs.fetch_add(1, Relaxed);
        tracing::warn!("a sync of the journal took {} ms", took.as_millis());
    }
    took
}
