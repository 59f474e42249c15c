//! Latencies in buckets: 32 to each power of two, so that a value is known within 3 %.
//!
//! The shape follows HdrHistogram; Redis keeps two significant digits up to a second, here it
//! is one and a half up to 17 seconds, in a quarter of the memory, one addition per record.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::stripes::Access;

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Powers of two above [`STEPS`] that are told apart; what is longer counts as the longest.
const OCTAVES: usize = 30;
const BUCKETS: usize = (OCTAVES + 1) * STEPS as usize;
/// The longest latency told apart, about 34 seconds.
pub const LATENCY_NS_MAX: u64 = (STEPS << OCTAVES) - 1;

/// The bucket of a value: exact below 32, then the octave and the next five bits.
#[inline]
fn bucket(ns: u64) -> usize {
    let ns = ns.min(LATENCY_NS_MAX);
    let octave = (ns | (STEPS - 1)).ilog2() - (STEP_BITS - 1);
    match octave {
        0 => ns as usize,
        _ => (u64::from(octave) * STEPS + ((ns >> (octave - 1)) - STEPS)) as usize,
    }
}

/// The largest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match octave {
        0 => step,
        _ => ((STEPS + step + 1) << (octave - 1)) - 1,
    }
}

/// The buckets of one command on one thread.
#[derive(Debug)]
pub struct Buckets(Box<[AtomicU64; BUCKETS]>);

impl Default for Buckets {
    fn default() -> Self {
        Self(Box::new([const { AtomicU64::new(0) }; BUCKETS]))
    }
}

impl Buckets {
    /// Counts one latency.
    #[inline]
    pub fn record(&self, access: Access, ns: u64) {
        // Redis's histograms begin at 1.
        access.add(&self.0[bucket(ns.max(1))], 1);
    }
}

/// Buckets merged, to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram(Box<[u64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0; BUCKETS].into())
    }
}

impl Histogram {
    /// Adds the counts of `buckets`.
    pub fn merge(&mut self, buckets: &Buckets) {
        for (sum, count) in self.0.iter_mut().zip(buckets.0.iter()) {
            *sum += count.load(Relaxed);
        }
    }

    /// Takes away what was counted up to `before`.
    pub fn subtract(&mut self, before: &Self) {
        for (sum, old) in self.0.iter_mut().zip(before.0.iter()) {
            *sum = sum.saturating_sub(*old);
        }
    }

    /// How many latencies were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The latency that `percentile` of all do not exceed, in nanoseconds, rounded up to its
    /// bucket; 0 if there are none.
    #[must_use]
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        let count = self.count();
        // At least the first one; the float is exact far beyond any count that matters.
        let rank = ((percentile / 100.0 * count as f64) + 0.5) as u64;
        let rank = rank.clamp(1, count.max(1));
        let mut seen = 0;
        for (bucket, n) in self.0.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return highest(bucket);
            }
        }
        0
    }

    /// How many latencies were below each power of two of 1,024 ns, as pairs of microseconds
    /// and the sum so far; powers that add nothing are left out. The form of LATENCY HISTOGRAM.
    #[must_use]
    pub fn powers_of_two_us(&self) -> Vec<(u64, u64)> {
        let mut pairs = Vec::new();
        let (mut limit, mut sum, mut told) = (1_024_u64, 0, 0);
        for (bucket, n) in self.0.iter().enumerate() {
            while highest(bucket) >= limit {
                if sum > told {
                    pairs.push((limit / 1_000, sum));
                    told = sum;
                }
                limit *= 2;
            }
            sum += n;
        }
        if sum > told {
            pairs.push((limit / 1_000, sum));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(latencies: &[u64]) -> Histogram {
        let buckets = Buckets::default();
        for ns in latencies {
            buckets.record(Access::Owned, *ns);
        }
        let mut merged = Histogram::default();
        merged.merge(&buckets);
        merged
    }

    #[test]
    fn buckets_cover_all_values_in_order() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(LATENCY_NS_MAX), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for b in 0..BUCKETS - 1 {
            assert_eq!(bucket(highest(b)), b);
            assert_eq!(bucket(highest(b) + 1), b + 1);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let histogram = of(&(1..=1000).map(|us| us * 1_000).collect::<Vec<_>>());
        for (percentile, us) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0), (100.0, 1000.0)] {
            let found = histogram.percentile_ns(percentile) as f64 / 1_000.0;
            assert!((found - us).abs() / us < 0.035, "p{percentile}: {found}");
        }
        assert_eq!(Histogram::default().percentile_ns(50.0), 0);
        assert!(histogram.percentile_ns(0.0) < 1_050);
    }

    #[test]
    fn powers_of_two_are_sums_as_in_redis() {
        let histogram = of(&[1_500, 3_000, 3_500, 7_000, 1_040_000, 1_040_000]);
        assert_eq!(histogram.powers_of_two_us(), [(2, 1), (4, 3), (8, 4), (1_048, 6)]);
        assert_eq!(of(&[5]).powers_of_two_us(), [(1, 1)]);
        assert!(Histogram::default().powers_of_two_us().is_empty());
    }

    proptest! {
        #[test]
        fn a_value_is_known_within_three_percent(ns in 1..LATENCY_NS_MAX) {
            let top = highest(bucket(ns));
            prop_assert!(top >= ns && (top - ns) as f64 <= ns as f64 * 0.032);
        }

        #[test]
        fn the_last_power_counts_all(latencies in prop::collection::vec(0..u64::MAX, 1..50)) {
            let pairs = of(&latencies).powers_of_two_us();
            prop_assert_eq!(pairs.last().map(|pair| pair.1), Some(latencies.len() as u64));
        }
    }
}
