//! How often a key is used: the logarithmic counter of the LFU policies.
//!
//! 24 bits of a record: 16 of the time in minutes, 8 of the counter, as in Redis, so that
//! OBJECT FREQ means the same. The counter grows with a probability that falls as it rises, and
//! falls by one for each minute without a use.
//! Source: <https://redis.io/docs/latest/develop/reference/eviction/#lfu-eviction>

use crate::time::UnixMillis;

/// The counter of a new key: not so low that it goes first.
const INITIAL: u32 = 5;
/// How slowly the counter grows (`lfu-log-factor`).
const LOG_FACTOR: u64 = 10;
/// Minutes for the counter to fall by one (`lfu-decay-time`).
const DECAY_MINUTES: u32 = 1;

fn minutes(now: UnixMillis) -> u32 {
    (now.0 / 60_000) as u32 & 0xffff
}

/// What a new record notes.
#[must_use]
pub(crate) fn of_new(now: UnixMillis) -> u32 {
    minutes(now) << 8 | INITIAL
}

/// What a record notes whose counter is known (RESTORE's FREQ).
#[must_use]
pub(crate) fn with_counter(now: UnixMillis, counter: u8) -> u32 {
    minutes(now) << 8 | u32::from(counter)
}

/// The counter now, after it has fallen for the time without a use: OBJECT FREQ.
#[must_use]
pub(crate) fn counter(access: u32, now: UnixMillis) -> u32 {
    let idle = minutes(now).wrapping_sub(access >> 8) & 0xffff;
    (access & 0xff).saturating_sub(idle / DECAY_MINUTES)
}

/// What a record notes after a use; `random` decides whether the counter grows.
#[must_use]
pub(crate) fn after_use(access: u32, now: UnixMillis, random: u64) -> u32 {
    let mut counter = counter(access, now);
    if counter < 255 {
        let base = u64::from(counter.saturating_sub(INITIAL));
        if random.is_multiple_of(base * LOG_FACTOR + 1) {
            counter += 1;
        }
    }
    minutes(now) << 8 | counter
}

/// How a record notes its uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Uses {
    /// By the time of the last, in seconds.
    Clock(u32),
    /// By their frequency; the number decides whether the counter grows.
    Counter(UnixMillis, u64),
}

impl Uses {
    /// What a record notes after a use.
    #[inline]
    pub(crate) fn after(self, before: u32) -> u32 {
        match self {
            Self::Clock(clock) => clock,
            Self::Counter(now, random) => after_use(before, now, random),
        }
    }

    /// What a new record notes.
    #[inline]
    pub(crate) fn of_new(self) -> u32 {
        match self {
            Self::Clock(clock) => clock,
            Self::Counter(now, _) => of_new(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_rises_with_use_and_falls_with_time() {
        let start = UnixMillis(60_000 * 100);
        let mut access = of_new(start);
        for n in 0..1000u64 {
            let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            access = after_use(access, start, random);
        }
        let busy = counter(access, start);
        assert!((8..60).contains(&busy), "{busy}");
        assert_eq!(counter(access, UnixMillis(start.0 + 180_000)), busy - 3);
        assert_eq!(counter(access, UnixMillis(start.0 + 60_000 * 400)), 0);
    }
}
