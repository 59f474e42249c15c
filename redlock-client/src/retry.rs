//! When to try again.

use std::time::Duration;

use crate::owner::random_fraction;

/// Delay of [`Retry::none`] where a deadline, not a count, says when to stop.
const DELAY_DEFAULT: Duration = Duration::from_millis(100);

/// How often, and after what delay, an acquisition is tried again.
///
/// The delay is drawn anew each time, uniformly from half to one and a half times the one given:
/// contenders that split the nodes between them must not come back in step and split them again.
///
/// Where the nodes have queues (Holdfast), a contended lock is not asked for again but waited for, for as
/// long as all the retries would have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// `None`: no limit.
    retries_max: Option<u32>,
    delay: Duration,
}

impl Retry {
    /// One attempt only.
    pub const fn none() -> Self {
        Self { retries_max: Some(0), delay: DELAY_DEFAULT }
    }

    /// Up to `retries_max` further attempts, `delay` apart on average.
    pub const fn jittered(retries_max: u32, delay: Duration) -> Self {
        Self { retries_max: Some(retries_max), delay }
    }

    /// As many attempts as it takes, `delay` apart on average.
    ///
    /// Meant for [`Lock::acquire_before`](crate::Lock::acquire_before), or for an `acquire` the caller
    /// bounds otherwise: by itself it waits for as long as someone else holds the lock.
    pub const fn forever(delay: Duration) -> Self {
        Self { retries_max: None, delay }
    }

    /// Whether a further attempt follows after `retries` of them.
    pub(crate) fn allows(self, retries: u32) -> bool {
        self.retries_max.is_none_or(|max| retries < max)
    }

    /// How long all retries take together, on average; `None` if there is no end to them.
    ///
    /// Where a server has a queue this is how long to wait in it.
    pub(crate) fn patience(self) -> Option<Duration> {
        self.retries_max.map(|max| self.delay.saturating_mul(max))
    }

    pub(crate) fn next_delay(self) -> Duration {
        let seconds = self.delay.as_secs_f64() * (0.5 + random_fraction());
        Duration::try_from_secs_f64(seconds).unwrap_or(self.delay)
    }
}

impl Default for Retry {
    /// Three retries, 200 ms apart on average.
    fn default() -> Self {
        Self::jittered(3, Duration::from_millis(200))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept() {
        assert!(!Retry::none().allows(0));
        assert!(Retry::jittered(2, Duration::ZERO).allows(1));
        assert!(!Retry::jittered(2, Duration::ZERO).allows(2));
        assert!(Retry::forever(Duration::ZERO).allows(u32::MAX));
    }

    #[test]
    fn delays_are_spread_around_the_mean() {
        let retry = Retry::jittered(1, Duration::from_millis(200));
        let delays: Vec<_> = (0..200).map(|_| retry.next_delay().as_millis()).collect();
        assert!(delays.iter().all(|d| (100..=300).contains(d)));
        assert!(delays.iter().any(|d| *d < 200) && delays.iter().any(|d| *d >= 200));
    }
}
