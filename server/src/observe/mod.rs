//! What the server tells about itself: counters for INFO, SLOWLOG, LATENCY and the log.
//!
//! - [`stripes`]: counters that many threads add to without sharing a cache line.
//! - [`stats`]: the server's counters and rates; [`command_stats`]: those of each command.
//! - [`histogram`]: latencies in buckets.
//! - [`slowlog`], [`latency`]: the stores behind SLOWLOG and LATENCY, which answer with replies.
//! - [`errors`]: error replies by code.
//! - [`logging`]: the log; [`supervise`]: telling the service manager that we are ready.
//!
//! Nothing here decides anything: a reset, a full ring or a lost sample changes no reply but
//! those of INFO, SLOWLOG and LATENCY.

pub mod command_stats;
pub mod errors;
pub mod histogram;
pub mod latency;
pub mod logging;
pub mod slowlog;
pub mod stats;
pub mod stripes;
pub mod supervise;

pub use command_stats::{CommandId, CommandStats, Outcome};
pub use stats::{Counter, Stats};

/// All that is observed of a server.
#[derive(Debug)]
pub struct Observed {
    /// Counters and rates.
    pub stats: Stats,
    /// Calls of each command.
    pub commands: CommandStats,
    /// Errors by code.
    pub errors: errors::ErrorStats,
    /// SLOWLOG.
    pub slowlog: slowlog::SlowLog,
    /// LATENCY.
    pub latency: latency::LatencyMonitor,
}

impl Observed {
    /// Nothing seen yet; `commands` is the length of the command table.
    #[must_use]
    pub fn new(commands: usize) -> Self {
        Self {
            stats: Stats::new(),
            commands: CommandStats::new(commands),
            errors: errors::ErrorStats::default(),
            slowlog: slowlog::SlowLog::default(),
            latency: latency::LatencyMonitor::default(),
        }
    }

    /// CONFIG RESETSTAT: SLOWLOG, LATENCY and the memory peak stay, as in Redis.
    pub fn reset_stats(&self) {
        self.stats.reset();
        self.commands.reset();
        self.errors.reset();
    }
}

#[cfg(test)]
mod figures {
    //! What recording costs: `cargo test --release -p holdfast figures -- --ignored --nocapture`.

    use std::hint::black_box;
    use std::time::Instant;

    use super::command_stats::Tracking;
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;

    const ROUNDS: u32 = 20_000_000;

    fn time(name: &str, mut run: impl FnMut(u64)) {
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                (0..u64::from(ROUNDS)).for_each(&mut run);
                start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
            })
            .fold(f64::MAX, f64::min);
        println!("{name:<32} {best:6.2} ns");
    }

    #[test]
    #[ignore = "prints figures, checks nothing"]
    fn figures() {
        let clock = Clock::new();
        let config = Config::default();
        let settings = config.settings();
        let observed = Observed::new(400);
        time("clock.now_ms", |_| _ = black_box(clock.now_ms()));
        time("clock.monotonic_us", |_| _ = black_box(clock.monotonic_us()));
        time("settings.maxmemory", |_| _ = black_box(settings.maxmemory()));
        time("settings.requirepass", |_| _ = black_box(settings.requirepass()));
        time("stats.count", |_| observed.stats.count(black_box(Counter::KeyspaceHits)));
        let id = CommandId(7);
        time("commands.record, no histogram", |ns| {
            observed.commands.record(
                black_box(id),
                black_box(ns & 0xffff),
                Outcome::Done,
                Tracking::Off,
            );
        });
        time("commands.record, histogram", |ns| {
            observed.commands.record(
                black_box(id),
                black_box(ns & 0xffff),
                Outcome::Done,
                Tracking::On,
            );
        });
    }
}
