//! CLIENT PAUSE: holding commands back for a while.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use holdfast_engine::command::{Command, Flags};
use tokio::sync::Notify;

/// Whether commands are held back, and which.
#[derive(Debug, Default)]
pub struct Pause {
    /// Monotonic microseconds; 0 when nothing is held.
    until_us: AtomicU64,
    writes_only: AtomicBool,
    ended: Notify,
}

impl Pause {
    /// Holds commands back until `until_us`; a pause under way is only lengthened, and one of
    /// all commands stays one of all.
    pub fn begin(&self, now_us: u64, until_us: u64, writes_only: bool) {
        let active = self.until_us.load(Acquire) > now_us;
        let until = if active { self.until_us.load(Acquire).max(until_us) } else { until_us };
        let only = writes_only && (!active || self.writes_only.load(Acquire));
        self.writes_only.store(only, Release);
        self.until_us.store(until.max(1), Release);
    }

    /// Ends the pause.
    pub fn end(&self) {
        self.until_us.store(0, Release);
        self.ended.notify_waiters();
    }

    /// Whether a pause may be under way; the only question the hot path asks.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.until_us.load(Acquire) != 0
    }

    /// Whether `command` is held back now. PUBLISH and scripts that may write count as writes.
    #[must_use]
    pub fn holds(&self, command: &Command, now_us: u64) -> bool {
        let until = self.until_us.load(Acquire);
        if until == 0 {
            return false;
        }
        if until <= now_us {
            let _ = self.until_us.compare_exchange(until, 0, Release, Acquire);
            return false;
        }
        !self.writes_only.load(Acquire)
            || command.is_write()
            || command.flags.has(Flags::MAY_REPLICATE)
    }

    /// When the pause ends, monotonic microseconds; `None` when there is none.
    #[must_use]
    pub fn until_us(&self) -> Option<u64> {
        Some(self.until_us.load(Acquire)).filter(|until| *until != 0)
    }

    /// Whether expiry and eviction are held back too, as every change of the data set is.
    #[must_use]
    pub fn stops_expiry(&self, now_us: u64) -> bool {
        self.until_us.load(Acquire) > now_us
    }

    /// Completes when the pause is ended early.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}
