//! The arithmetic of a lease: quorum, drift and validity. No clock, no I/O.
//!
//! Kept apart so that the two comparisons on which mutual exclusion rests can be read, and tested,
//! in one place. Every subtraction here is checked: a TTL shorter than the drift has no validity
//! at all, never a huge one.

use std::time::Duration;

use crate::error::Error;

/// Fixed part of the drift: timer resolution of Redis (1 ms), twice.
const DRIFT_FIXED: Duration = Duration::from_millis(2);
/// Relative part of the drift, as a divisor: 1 % is far above the rate error of any working clock.
const DRIFT_DIVISOR: u32 = 100;
/// Below this a TTL is eaten up by drift and one network round trip.
const TTL_MIN: Duration = Duration::from_millis(10);
/// A lease is for bounded work; a year already is a mistake in units.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Smallest number of nodes of which any two sets share one.
pub(crate) const fn quorum(nodes: usize) -> usize {
    nodes / 2 + 1
}

/// Smallest number of nodes such that permits of a semaphore, each taken on so many nodes of which each
/// gives out `limit`, can never exceed `limit` in all.
///
/// P permits take P·k of the N·limit places, so P < limit + 1 wants k > N·limit / (limit + 1). A plain
/// majority would let three holders into a semaphore of two on three nodes.
pub(crate) const fn semaphore_quorum(nodes: usize, limit: u32) -> usize {
    let limit = limit as usize;
    nodes * limit / (limit + 1) + 1
}

/// A checked time to live, in whole milliseconds as servers count it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ttl(Duration);

impl Ttl {
    /// Rounds down to milliseconds, so that the local deadline is never later than the server's.
    pub(crate) fn new(ttl: Duration) -> Result<Self, Error> {
        if ttl < TTL_MIN || ttl > TTL_MAX {
            return Err(Error::InvalidTtl { ttl, min: TTL_MIN, max: TTL_MAX });
        }
        let whole_seconds = Duration::from_secs(ttl.as_secs());
        Ok(Self(whole_seconds + Duration::from_millis(u64::from(ttl.subsec_millis()))))
    }

    /// The shortest lease that lasts `remaining` by the local clock, this one at least.
    pub(crate) fn at_least(self, remaining: Duration) -> Self {
        // Inverse of `usable`, rounded up.
        let whole = (remaining + DRIFT_FIXED) * DRIFT_DIVISOR / (DRIFT_DIVISOR - 1);
        let whole_ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        Self(self.0.max(Duration::from_millis(whole_ms)))
    }

    pub(crate) fn as_duration(self) -> Duration {
        self.0
    }

    pub(crate) fn as_millis(self) -> u128 {
        self.0.as_millis()
    }

    /// How much a lease loses to clocks that run at different rates.
    pub(crate) fn drift(self) -> Duration {
        self.0 / DRIFT_DIVISOR + DRIFT_FIXED
    }

    /// How long after the requests were sent the lease may be relied on.
    pub(crate) fn usable(self) -> Duration {
        self.0.saturating_sub(self.drift())
    }

    /// What is left of the lease `elapsed` after the requests were sent; `None` when nothing is.
    pub(crate) fn validity(self, elapsed: Duration) -> Option<Duration> {
        self.usable().checked_sub(elapsed).filter(|left| !left.is_zero())
    }

    /// How long to wait for nodes in one round.
    ///
    /// Half the usable time at most, so that a lock won by the last answer still is worth having.
    pub(crate) fn round_timeout(self, node_timeout: Duration) -> Duration {
        node_timeout.min(self.usable() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_quorums_share_a_node() {
        for nodes in 1..20 {
            assert!(2 * quorum(nodes) > nodes);
            assert!(quorum(nodes) <= nodes);
        }
    }

    #[test]
    fn permits_never_exceed_the_limit() {
        for nodes in 1..12 {
            for limit in 1..20 {
                let quorum = semaphore_quorum(nodes, limit);
                assert!(quorum <= nodes);
                let holders_max = nodes * limit as usize / quorum;
                assert!(holders_max <= limit as usize, "{nodes} nodes, {limit} permits");
            }
            assert_eq!(semaphore_quorum(nodes, 1), quorum(nodes));
        }
    }

    #[test]
    fn a_lease_that_must_not_be_cut_short_lasts_as_long_again() {
        let ttl = Ttl::new(Duration::from_millis(50)).unwrap();
        for remaining_ms in [0, 1, 49, 1000, 123_457, 31_000_000_000] {
            let remaining = Duration::from_millis(remaining_ms);
            let lasting = ttl.at_least(remaining);
            assert!(lasting.usable() >= remaining && lasting.as_duration() >= ttl.as_duration());
        }
    }

    #[test]
    fn validity_is_ttl_less_elapsed_less_drift() {
        let ttl = Ttl::new(Duration::from_millis(10_000)).unwrap();
        assert_eq!(ttl.drift(), Duration::from_millis(102));
        assert_eq!(ttl.validity(Duration::from_millis(100)), Some(Duration::from_millis(9_798)));
        assert_eq!(ttl.validity(Duration::from_millis(9_898)), None);
        assert_eq!(ttl.validity(Duration::MAX), None);
    }

    #[test]
    fn fractions_of_a_millisecond_are_cut_off() {
        let ttl = Ttl::new(Duration::from_micros(15_999)).unwrap();
        assert_eq!(ttl.as_millis(), 15);
    }

    #[test]
    fn ttls_out_of_range_are_refused() {
        for bad in [Duration::ZERO, Duration::from_millis(9), Duration::MAX] {
            assert!(matches!(Ttl::new(bad), Err(Error::InvalidTtl { .. })), "{bad:?}");
        }
    }
}
