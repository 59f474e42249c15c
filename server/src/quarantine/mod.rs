//! Keeping promises made before a restart: which locks may still be held, which tokens were given.
//!
//! A server that restarts without its locks must not grant them again while their holders may
//! still count on them: RedLock's majority would break. So the data directory keeps, synced
//! before a longer grant is acknowledged, how long any lock may last; after a stop that told
//! nothing, grants wait for so long and are answered `QUARANTINE <ms left>`. Beside it stands a
//! bound of the tokens given out, reserved in blocks, so that no token is given twice.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use file::{State, Stop};
use holdfast_engine::CommandError;
use holdfast_engine::host::{Grant, GrantKind};

use crate::persist::claim::Claims;

/// So many tokens are reserved at a time: at a million grants a second one write a second.
const RESERVED_AHEAD: u64 = 1 << 20;
/// More than this many must stay reserved, for grants that run at once each ask first.
const RESERVED_MIN: u64 = 1 << 12;

/// What `lock-quarantine` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// As long as a lock that was forgotten may last.
    Auto,
    /// None.
    No,
    /// So many ms at every start.
    Millis(i64),
}

impl Policy {
    /// Reads the directive's text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match std::str::from_utf8(text).ok()? {
            word if word.eq_ignore_ascii_case("auto") => Some(Self::Auto),
            word if word.eq_ignore_ascii_case("no") => Some(Self::No),
            number => number.parse().ok().filter(|ms| *ms >= 0).map(Self::Millis),
        }
    }
}

/// Whether the locks of the last run are here again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// All that the journal held, to its last byte.
    Complete,
    /// Perhaps not.
    Incomplete,
}

/// What may be granted.
#[derive(Debug, Default)]
pub struct Quarantine {
    /// Until opened everything is granted and nothing is written: tests of single rooms.
    opened: AtomicBool,
    /// Whether every grant is in a journal that is synced before the reply.
    journaled: AtomicBool,
    /// When the quarantine ends, monotonic microseconds; 0 once it is over.
    ends_us: AtomicU64,
    /// When it would end if the server did not stop, see [`Quarantine::refuse`].
    would_end_us: AtomicU64,
    /// The last snapshot, after which nothing changes, holds every lock.
    saved: AtomicBool,
    /// What is on the disk: no grant lasts longer, …
    lifetime_ms: AtomicI64,
    /// … and no token is greater.
    tokens: AtomicU64,
    /// The longest grant of this window, see [`Quarantine::lower`].
    longest_ms: AtomicI64,
    writer: Mutex<Writer>,
    /// Without it nothing is claimed: tests.
    claims: OnceLock<Arc<Claims>>,
}

#[derive(Debug, Default)]
struct Writer {
    dir: PathBuf,
    /// Whether there was a file when the server started.
    existed: bool,
    window_began_us: u64,
}

impl Quarantine {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a server that ran in `dir` granted native locks.
    #[must_use]
    pub fn was_used(dir: &Path) -> bool {
        file::path(dir).exists()
    }

    /// Reads what the last run left in `dir` and begins a quarantine if one is due. Locks that were
    /// loaded last for `held_ms` at most. Returns the quarantine's length in ms and the token below
    /// which none may be given out.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn open(
        &self,
        dir: &Path,
        policy: Policy,
        recovery: Recovery,
        held_ms: i64,
        now_us: u64,
    ) -> io::Result<(i64, u64)> {
        let state = file::read(dir).map_err(|error| told(&file::path(dir), &error))?;
        let left_ms = match (policy, recovery, state) {
            (Policy::No, ..) => 0,
            (Policy::Millis(ms), ..) => ms,
            (Policy::Auto, _, None) => 0,
            (Policy::Auto, Recovery::Complete, Some(state)) if state.stop == Stop::Journaled => 0,
            (Policy::Auto, _, Some(state)) => state.lifetime_ms,
        };
        let tokens = state.map_or(0, |state| state.tokens);
        {
            let mut writer = self.writer();
            writer.dir = dir.to_owned();
            writer.existed = state.is_some();
            writer.window_began_us = now_us;
        }
        if left_ms > 0 {
            let left_us = u64::try_from(left_ms).unwrap_or(0).saturating_mul(1000);
            self.ends_us.store(now_us.saturating_add(left_us).max(1), Release);
        }
        // What was granted before counts among what this run may forget.
        self.longest_ms.store(held_ms, SeqCst);
        // Nothing is reserved yet: the first grant writes, and says that this run is not over.
        self.tokens.store(tokens, Release);
        self.opened.store(true, Release);
        Ok((left_ms, tokens))
    }

    /// Has the data directory claimed by `claims` before anything is written there.
    pub fn claim_with(&self, claims: Arc<Claims>) {
        let _ = self.claims.set(claims);
    }

    /// Claims the data directory, for what is about to be written.
    fn claim(&self, writer: &Writer) -> io::Result<()> {
        let Some(claims) = self.claims.get() else { return Ok(()) };
        if claims.take(&writer.dir)? && !writer.existed && file::path(&writer.dir).exists() {
            // Its tokens and its locks are not known here.
            claims.release(&writer.dir);
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another server has granted locks in this directory since this one started: \
                 give each server a 'dir' of its own",
            ));
        }
        Ok(())
    }

    /// How long grants are refused yet, ms, rounded up.
    #[must_use]
    pub fn left_ms(&self, now_us: u64) -> u64 {
        self.ends_us.load(Acquire).saturating_sub(now_us).div_ceil(1000)
    }

    /// Whether a lock may be granted, and sees to what must be on the disk before it is.
    ///
    /// # Errors
    /// `QUARANTINE <ms left>`; `MISCONF …` when the data directory cannot be written.
    pub fn may_grant(&self, grant: Grant, now_us: impl Fn() -> u64) -> Result<(), CommandError> {
        if !self.opened.load(Acquire) {
            return Ok(());
        }
        if self.ends_us.load(Acquire) != 0 {
            self.check_over(now_us())?;
        }
        let Grant { kind, lifetime_ms, token } = grant;
        // Noted before the mark is looked at: see `lower`.
        if self.longest_ms.load(SeqCst) < lifetime_ms {
            self.longest_ms.fetch_max(lifetime_ms, SeqCst);
        }
        let short = lifetime_ms <= self.lifetime_ms.load(SeqCst);
        let known = kind == GrantKind::Plain
            || token.saturating_add(RESERVED_MIN) <= self.tokens.load(Acquire);
        if short && known {
            return Ok(());
        }
        self.promise(lifetime_ms, token)
    }

    #[cold]
    fn check_over(&self, now_us: u64) -> Result<(), CommandError> {
        match self.left_ms(now_us) {
            0 => {
                self.ends_us.store(0, Release);
                Ok(())
            }
            left_ms => Err(CommandError::new(format!(
                "QUARANTINE {left_ms} locks granted before the restart may still be held"
            ))),
        }
    }

    /// Writes down that a lock may last so long, or that so great a token may be given out.
    #[cold]
    fn promise(&self, lifetime_ms: i64, token: u64) -> Result<(), CommandError> {
        let writer = self.writer();
        let before = (self.lifetime_ms.load(Acquire), self.tokens.load(Acquire));
        let enough = token.saturating_add(RESERVED_MIN) <= before.1;
        if lifetime_ms <= before.0 && enough {
            // Another wrote meanwhile.
            return Ok(());
        }
        let lifetime_ms = lifetime_ms.max(self.longest_ms.load(SeqCst));
        let lifetime_ms = if lifetime_ms <= before.0 { before.0 } else { roomy(lifetime_ms) };
        let tokens = if enough { before.1 } else { before.1.max(token) + RESERVED_AHEAD };
        self.write(&writer, State { stop: self.stop(), lifetime_ms, tokens })
            .map_err(|error| CommandError::new(format!("MISCONF locks cannot be granted: {error}")))
    }

    fn stop(&self) -> Stop {
        if self.journaled.load(Acquire) { Stop::Journaled } else { Stop::Unclean }
    }

    /// Says whether every grant is from now on in a journal that is synced before the reply.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn set_journaled(&self, journaled: bool) -> io::Result<()> {
        let writer = self.writer();
        let changed = self.journaled.swap(journaled, Release) != journaled;
        let ours = self.claims.get().is_none_or(|claims| claims.holds(&writer.dir));
        let opened = self.opened.load(Acquire) && ours;
        if !changed || !opened || file::read(&writer.dir)?.is_none() {
            return Ok(());
        }
        let lifetime_ms = self.lifetime_ms.load(Acquire);
        self.write(
            &writer,
            State { stop: self.stop(), lifetime_ms, tokens: self.tokens.load(Acquire) },
        )
    }

    fn write(&self, writer: &Writer, state: State) -> io::Result<()> {
        let path = file::path(&writer.dir);
        self.claim(writer).map_err(|error| told(&path, &error))?;
        file::write(&writer.dir, state).map_err(|error| told(&path, &error))?;
        self.lifetime_ms.store(state.lifetime_ms, Release);
        self.tokens.store(state.tokens, Release);
        Ok(())
    }

    /// Lets the mark fall to the longest grant of late: once no grant of the mark's length has been
    /// made for that length, none can be held. To be called now and then.
    pub fn lower(&self, now_us: u64) {
        if !self.opened.load(Acquire) || self.ends_us.load(Acquire) != 0 {
            return;
        }
        let mut writer = self.writer();
        let mark_ms = self.lifetime_ms.load(Acquire);
        let window_us = u64::try_from(mark_ms).unwrap_or(0).saturating_mul(1000);
        if mark_ms == 0 || now_us.saturating_sub(writer.window_began_us) <= window_us {
            return;
        }
        writer.window_began_us = now_us;
        let longest_ms = self.longest_ms.swap(0, SeqCst);
        let lifetime_ms = if longest_ms == 0 { 0 } else { roomy(longest_ms) };
        if lifetime_ms >= mark_ms {
            return;
        }
        // Whoever asks from here on does not rely on the old mark; whoever did has noted its length.
        self.lifetime_ms.store(lifetime_ms, SeqCst);
        if self.longest_ms.load(SeqCst) > lifetime_ms {
            self.lifetime_ms.store(mark_ms, SeqCst);
            return;
        }
        let state = State { stop: self.stop(), lifetime_ms, tokens: self.tokens.load(Acquire) };
        if let Err(error) = self.write(&writer, state) {
            tracing::warn!("the mark of locks was not lowered: {error}");
        }
    }

    /// Refuses every grant from now on: the server stops.
    pub fn refuse(&self) {
        if self.opened.load(Acquire) && self.ends_us.load(Acquire) != u64::MAX {
            self.would_end_us.store(self.ends_us.swap(u64::MAX, Release), Release);
        }
    }

    /// Notes that the last snapshot, after which nothing changes, holds every lock.
    pub fn note_saved(&self) {
        self.saved.store(true, Release);
    }

    /// Whether the last snapshot, after which nothing changes, holds every lock.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.saved.load(Acquire)
    }

    /// Writes down that this run ended cleanly with locks that have `left_ms` at most, for the next
    /// to wait for, and the last token. Nothing if no lock was ever granted.
    pub fn close(&self, left_ms: i64, token: u64, now_us: u64) {
        let writer = self.writer();
        let ours = self.claims.get().is_none_or(|claims| claims.holds(&writer.dir));
        let granted = || !file::read(&writer.dir).is_ok_and(|state| state.is_none());
        if !self.opened.load(Acquire) || !ours || !granted() {
            return;
        }
        // Locks of an earlier run may have longer than those of this one.
        let waits_us = self.would_end_us.load(Acquire).saturating_sub(now_us);
        let left_ms = left_ms.max(i64::try_from(waits_us.div_ceil(1000)).unwrap_or(i64::MAX));
        let tokens = token.max(self.tokens.load(Acquire).saturating_sub(RESERVED_AHEAD));
        let state = State { stop: Stop::Clean, lifetime_ms: left_ms, tokens };
        if let Err(error) = self.write(&writer, state) {
            tracing::warn!("the clean end of locks was not written: {error}");
        }
    }
}

/// A little more than `ms`, so that growing lengths cost few writes.
fn roomy(ms: i64) -> i64 {
    let step = 1 << (63 - ms.max(8).leading_zeros()).saturating_sub(3);
    ms.checked_add(step - 1).map_or(i64::MAX, |ms| ms / step * step)
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
