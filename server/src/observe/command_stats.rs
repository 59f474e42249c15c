//! Calls, time and latencies of each command: INFO commandstats and latencystats, LATENCY
//! HISTOGRAM.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use holdfast_engine::reply::Reply;
use parking_lot::Mutex;

use super::histogram::{Buckets, Histogram};
use super::stripes::Striped;

/// A command or subcommand, as an index into the command table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a reply.
    Done,
    /// Its handler answered with an error.
    Failed,
}

/// Whether latencies go into histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// `latency-tracking yes`
    On,
    /// `latency-tracking no`
    Off,
}

/// One command's counters on one thread: half a cache line.
#[derive(Debug, Default)]
struct Cell {
    calls: AtomicU64,
    ns: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    // Made at the first call: most commands are never called.
    buckets: OnceLock<Buckets>,
}

/// What was counted for a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallStats {
    /// Calls executed.
    pub calls: u64,
    /// Time they took.
    pub ns: u64,
    /// Calls refused before their handler ran: arity, permission, memory.
    pub rejected: u64,
    /// Calls whose handler failed.
    pub failed: u64,
}

impl CallStats {
    /// The line of INFO commandstats for the command `name` (`get`, `config|set`), without line
    /// end; `None` if it was never called.
    #[must_use]
    pub fn info_line(&self, name: &str) -> Option<String> {
        if self.calls == 0 && self.rejected == 0 && self.failed == 0 {
            return None;
        }
        let us = self.ns / 1_000;
        let per_call = if self.calls == 0 { 0.0 } else { us as f64 / self.calls as f64 };
        Some(format!(
            "cmdstat_{name}:calls={},usec={us},usec_per_call={per_call:.2},\
             rejected_calls={},failed_calls={}",
            self.calls, self.rejected, self.failed
        ))
    }
}

/// The counters of all commands.
#[derive(Debug)]
pub struct CommandStats {
    stripes: Striped<Box<[Cell]>>,
    /// What had been counted at the last reset, per command: a stripe has one writer, so a
    /// reset cannot write zeros into it.
    baseline: Mutex<Vec<(CallStats, Option<Histogram>)>>,
    len: usize,
}

impl CommandStats {
    /// Counters for commands 0 to `len` - 1.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let stripes = Striped::new(move || (0..len).map(|_| Cell::default()).collect());
        Self { stripes, baseline: Mutex::default(), len }
    }

    /// Counts a call that ran for `ns` nanoseconds.
    #[inline]
    pub fn record(&self, id: CommandId, ns: u64, outcome: Outcome, tracking: Tracking) {
        let (cells, access) = self.stripes.mine();
        let Some(cell) = cells.get(usize::from(id.0)) else {
            return;
        };
        access.add(&cell.calls, 1);
        access.add(&cell.ns, ns);
        if outcome == Outcome::Failed {
            access.add(&cell.failed, 1);
        }
        if tracking == Tracking::On {
            cell.buckets.get_or_init(Buckets::default).record(access, ns);
        }
    }

    /// Counts `calls` successful calls of one batch that took `ns` together.
    #[inline]
    pub fn record_batch(&self, id: CommandId, calls: u64, ns: u64) {
        let (cells, access) = self.stripes.mine();
        let Some(cell) = cells.get(usize::from(id.0)) else {
            return;
        };
        access.add(&cell.calls, calls);
        access.add(&cell.ns, ns);
    }

    /// Counts a call that was refused before its handler ran.
    pub fn record_rejected(&self, id: CommandId) {
        let (cells, access) = self.stripes.mine();
        if let Some(cell) = cells.get(usize::from(id.0)) {
            access.add(&cell.rejected, 1);
        }
    }

    /// What was counted for a command since the last reset.
    #[must_use]
    pub fn of(&self, id: CommandId) -> CallStats {
        let mut stats = self.sum(id);
        if let Some((before, _)) = self.baseline.lock().get(usize::from(id.0)) {
            stats.calls = stats.calls.saturating_sub(before.calls);
            stats.ns = stats.ns.saturating_sub(before.ns);
            stats.rejected = stats.rejected.saturating_sub(before.rejected);
            stats.failed = stats.failed.saturating_sub(before.failed);
        }
        stats
    }

    fn sum(&self, id: CommandId) -> CallStats {
        let mut stats = CallStats::default();
        for cell in self.stripes.all().filter_map(|cells| cells.get(usize::from(id.0))) {
            stats.calls += cell.calls.load(Relaxed);
            stats.ns += cell.ns.load(Relaxed);
            stats.rejected += cell.rejected.load(Relaxed);
            stats.failed += cell.failed.load(Relaxed);
        }
        stats
    }

    /// The latencies of a command since the last reset; `None` if none were recorded.
    #[must_use]
    pub fn histogram(&self, id: CommandId) -> Option<Histogram> {
        let mut merged = self.merged(id)?;
        if let Some((_, Some(before))) = self.baseline.lock().get(usize::from(id.0)) {
            merged.subtract(before);
        }
        (merged.count() > 0).then_some(merged)
    }

    fn merged(&self, id: CommandId) -> Option<Histogram> {
        let mut merged: Option<Histogram> = None;
        for cell in self.stripes.all().filter_map(|cells| cells.get(usize::from(id.0))) {
            if let Some(buckets) = cell.buckets.get() {
                merged.get_or_insert_default().merge(buckets);
            }
        }
        merged
    }

    /// CONFIG RESETSTAT: what was counted so far is forgotten.
    pub fn reset(&self) {
        let ids = (0..self.len).filter_map(|id| u16::try_from(id).ok()).map(CommandId);
        let now = ids.map(|id| (self.sum(id), self.merged(id))).collect();
        *self.baseline.lock() = now;
    }

    /// `LATENCY HISTOGRAM`: for each of `commands` that has any, by id and full name, a map of
    /// `calls` and `histogram_usec`.
    #[must_use]
    pub fn histogram_reply<'a>(
        &self,
        commands: impl IntoIterator<Item = (CommandId, &'a str)>,
    ) -> Reply {
        let entries = commands.into_iter().filter_map(|(id, name)| {
            let histogram = self.histogram(id)?;
            let number = |n: u64| Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX));
            let powers = histogram.powers_of_two_us();
            let powers = powers.into_iter().map(|(us, sum)| (number(us), number(sum)));
            let entry = Reply::Map(vec![
                (Reply::bulk(b"calls"), number(histogram.count())),
                (Reply::bulk(b"histogram_usec"), Reply::Map(powers.collect())),
            ]);
            Some((Reply::bulk(name.as_bytes()), entry))
        });
        Reply::Map(entries.collect())
    }

    /// The line of INFO latencystats, without line end; `None` without latencies.
    #[must_use]
    pub fn percentiles_line(
        &self,
        id: CommandId,
        name: &str,
        percentiles: &[f64],
    ) -> Option<String> {
        let histogram = self.histogram(id)?;
        let parts = percentiles.iter().map(|p| {
            let ns = histogram.percentile_ns(*p);
            format!("p{p}={}.{:03}", ns / 1_000, ns % 1_000)
        });
        let parts = parts.collect::<Vec<_>>().join(",");
        Some(format!("latency_percentiles_usec_{name}:{parts}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: CommandId = CommandId(3);

    #[test]
    fn calls_are_counted_and_reset() {
        let stats = CommandStats::new(10);
        assert_eq!(stats.of(GET).info_line("get"), None);
        stats.record(GET, 1_500, Outcome::Done, Tracking::On);
        stats.record(GET, 2_500, Outcome::Failed, Tracking::Off);
        stats.record_batch(GET, 2, 1_000);
        stats.record_rejected(GET);
        stats.record(CommandId(99), 1, Outcome::Done, Tracking::On);
        let line = "cmdstat_get:calls=4,usec=5,usec_per_call=1.25,rejected_calls=1,failed_calls=1";
        assert_eq!(stats.of(GET).info_line("get").as_deref(), Some(line));
        assert_eq!(
            stats.percentiles_line(GET, "get", &[50.0, 99.9]).as_deref(),
            Some("latency_percentiles_usec_get:p50=1.503,p99.9=1.503")
        );
        stats.reset();
        assert_eq!(stats.of(GET), CallStats::default());
        assert_eq!(stats.histogram(GET), None);
        stats.record(GET, 9_000, Outcome::Done, Tracking::On);
        assert_eq!(stats.of(GET).calls, 1);
        assert_eq!(stats.histogram(GET).map(|h| h.powers_of_two_us()), Some(vec![(16, 1)]));
    }

    #[test]
    fn threads_add_up() {
        let stats = CommandStats::new(5);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..1_000).for_each(|ns| {
                        stats.record(GET, ns, Outcome::Done, Tracking::On);
                    });
                });
            }
        });
        assert_eq!(stats.of(GET).calls, 8_000);
        assert_eq!(stats.histogram(GET).map(|h| h.count()), Some(8_000));
    }

    #[test]
    fn the_histogram_reply_has_the_shape_of_redis() {
        let stats = CommandStats::new(5);
        stats.record(GET, 3_000, Outcome::Done, Tracking::On);
        let reply = stats.histogram_reply([(GET, "config|get"), (CommandId(1), "set")]);
        let powers = Reply::Map(vec![(Reply::Integer(4), Reply::Integer(1))]);
        let entry = Reply::Map(vec![
            (Reply::bulk(b"calls"), Reply::Integer(1)),
            (Reply::bulk(b"histogram_usec"), powers),
        ]);
        assert_eq!(reply, Reply::Map(vec![(Reply::bulk(b"config|get"), entry)]));
    }
}
