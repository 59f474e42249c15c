//! The clock leases are judged by: monotonic, and running on while the machine is suspended.
//!
//! Wall clocks jump, and `std::time::Instant` stands still during a suspend on Linux, so a laptop
//! that slept past its lease would wake up believing it still held the lock. Sockets and retries use
//! tokio's clock; only the life of a lease is measured here.

use std::time::Duration;

/// Longest sleep between two looks at the clock.
///
/// Tokio's timers do not count suspended time, so a timer set before a suspend fires late; with
/// slices the loss of a lock is noticed at most this long after waking up.
const SLICE: Duration = Duration::from_millis(250);

/// A moment on the suspend-aware clock; comparable within one boot of one machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BootInstant(Duration);

impl BootInstant {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The clock starts at zero with the machine, so neither part can be negative.
        Self(Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        ))
    }

    // On Apple systems this clock counts suspended time too.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Self(Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        ))
    }

    /// `self` moved on by `duration`; saturates, because a lease never lasts that long.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Waits for a moment of the suspend-aware clock.
pub(crate) async fn sleep_until(deadline: BootInstant) {
    loop {
        let left = deadline.since(BootInstant::now());
        if left.is_zero() {
            return;
        }
        // One millisecond is the timer's own resolution; shorter sleeps would spin.
        tokio::time::sleep(left.clamp(Duration::from_millis(1), SLICE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_never_underflow() {
        let now = BootInstant::now();
        let later = now.after(Duration::from_secs(1));
        assert_eq!(later.since(now), Duration::from_secs(1));
        assert_eq!(now.since(later), Duration::ZERO);
        assert!(now.after(Duration::MAX) > later);
    }

    #[tokio::test]
    async fn sleeping_ends_after_the_deadline_and_not_before() {
        let deadline = BootInstant::now().after(Duration::from_millis(20));
        sleep_until(deadline).await;
        assert!(BootInstant::now() >= deadline);
    }
}
