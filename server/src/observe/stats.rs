//! The server's counters and its rates of the last seconds: INFO stats.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::stripes::Striped;

/// How many samples a rate is the average of, as in Redis.
const SAMPLES: usize = 16;

macro_rules! counters {
    ($($(#[$doc:meta])* $counter:ident,)*) => {
        /// What is counted; the names are those of INFO stats where it has them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $counter,)*
        }

        /// How many counters there are.
        const COUNTERS: usize = [$(Counter::$counter),*].len();
    };
}

counters! {
    /// `total_commands_processed`
    CommandsProcessed,
    /// `total_connections_received`
    ConnectionsReceived,
    /// `rejected_connections`: over `maxclients`, or refused by `protected-mode`.
    ConnectionsRejected,
    /// `total_net_input_bytes`
    NetInputBytes,
    /// `total_net_output_bytes`
    NetOutputBytes,
    /// `keyspace_hits`
    KeyspaceHits,
    /// `keyspace_misses`
    KeyspaceMisses,
    /// `expired_keys`
    ExpiredKeys,
    /// `expired_time_cap_reached_count`: rounds of active expiry that ran out of time.
    ExpireTimeCapReached,
    /// `evicted_keys`
    EvictedKeys,
    /// `evicted_clients`
    EvictedClients,
    /// `total_reads_processed`: reads from sockets.
    ReadsProcessed,
    /// `total_writes_processed`: writes to sockets.
    WritesProcessed,
    /// `client_query_buffer_limit_disconnections`
    QueryBufferDisconnections,
    /// `client_output_buffer_limit_disconnections`
    OutputBufferDisconnections,
    /// `acl_access_denied_auth`: wrong passwords.
    AuthFailures,
    /// `acl_access_denied_cmd`
    DeniedCommands,
    /// `acl_access_denied_key`
    DeniedKeys,
    /// `acl_access_denied_channel`
    DeniedChannels,
    /// `dump_payload_sanitizations`
    PayloadSanitizations,
}

/// A stripe fills whole cache lines, so that no two threads write to one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTERS]);

/// The counters of a server.
#[derive(Debug)]
pub struct Stats {
    stripes: Striped<Stripe>,
    /// The sums at the last reset.
    baseline: Mutex<[u64; COUNTERS]>,
    rates: Mutex<Rates>,
}

/// What INFO calls instantaneous.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Instantaneous {
    /// `instantaneous_ops_per_sec`
    pub ops_per_s: u64,
    /// `instantaneous_input_kbps`, in KiB/s.
    pub input_kbps: f64,
    /// `instantaneous_output_kbps`, in KiB/s.
    pub output_kbps: f64,
}

/// The last samples of commands, input and output bytes, per second.
#[derive(Debug, Default)]
struct Rates {
    /// When the last sample was taken and the sums it saw.
    last: Option<(u64, [u64; 3])>,
    samples: [[f64; 3]; SAMPLES],
    next: usize,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stripes: Striped::new(Stripe::default),
            baseline: Mutex::new([0; COUNTERS]),
            rates: Mutex::default(),
        }
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let (stripe, access) = self.stripes.mine();
        access.add(&stripe.0[counter as usize], n);
    }

    /// Adds one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// The sum since the last reset.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        let before = self.baseline.lock()[counter as usize];
        self.sum(counter).saturating_sub(before)
    }

    fn sum(&self, counter: Counter) -> u64 {
        self.stripes.all().map(|stripe| stripe.0[counter as usize].load(Relaxed)).sum()
    }

    /// Takes a sample; to be called every 100 ms with a monotonic time in microseconds.
    pub fn sample(&self, now_us: u64) {
        let sums = [Counter::CommandsProcessed, Counter::NetInputBytes, Counter::NetOutputBytes]
            .map(|counter| self.sum(counter));
        let mut rates = self.rates.lock();
        if let Some((last_us, last)) = rates.last {
            let passed_us = now_us.saturating_sub(last_us).max(1);
            let mut sample = [0.0; 3];
            for (rate, (now, before)) in sample.iter_mut().zip(sums.iter().zip(last)) {
                *rate = now.saturating_sub(before) as f64 * 1e6 / passed_us as f64;
            }
            let next = rates.next;
            rates.samples[next] = sample;
            rates.next = (next + 1) % SAMPLES;
        }
        rates.last = Some((now_us, sums));
    }

    /// The averages of the last 16 samples.
    #[must_use]
    pub fn instantaneous(&self) -> Instantaneous {
        let rates = self.rates.lock();
        let mean = |which: usize| {
            rates.samples.iter().map(|sample| sample[which]).sum::<f64>() / SAMPLES as f64
        };
        Instantaneous {
            ops_per_s: mean(0) as u64,
            input_kbps: mean(1) / 1024.0,
            output_kbps: mean(2) / 1024.0,
        }
    }

    /// CONFIG RESETSTAT: counts and rates begin anew.
    pub fn reset(&self) {
        let mut baseline = self.baseline.lock();
        for (counter, before) in baseline.iter_mut().enumerate() {
            *before = self.stripes.all().map(|stripe| stripe.0[counter].load(Relaxed)).sum();
        }
        *self.rates.lock() = Rates::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_reset() {
        let stats = Stats::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| stats.count(Counter::KeyspaceHits)));
            }
        });
        stats.add(Counter::NetInputBytes, 7);
        assert_eq!(stats.get(Counter::KeyspaceHits), 400);
        assert_eq!(stats.get(Counter::NetInputBytes), 7);
        stats.reset();
        assert_eq!(stats.get(Counter::KeyspaceHits), 0);
        stats.count(Counter::KeyspaceHits);
        assert_eq!(stats.get(Counter::KeyspaceHits), 1);
    }

    #[test]
    fn rates_are_the_mean_of_sixteen_samples() {
        let stats = Stats::new();
        for tick in 0..=16 {
            stats.sample(tick * 100_000);
            stats.add(Counter::CommandsProcessed, 1_000);
            stats.add(Counter::NetOutputBytes, 10_240);
        }
        let rates = stats.instantaneous();
        assert_eq!(rates.ops_per_s, 10_000);
        assert!((rates.output_kbps - 100.0).abs() < 0.01);
        assert!(rates.input_kbps.abs() < 0.01);
        stats.reset();
        assert_eq!(stats.instantaneous(), Instantaneous::default());
    }
}
