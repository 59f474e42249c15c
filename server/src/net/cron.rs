//! Periodic work: expiring keys, idle clients, giving memory back, sampling rates.
//!
//! Each step is short and bounded and yields between steps: nothing here may hold up a client.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::effects::Effects;

use crate::memory;
use crate::node::{Node, Shutdown};
use crate::observe::Counter;
use crate::route::deliver;
use crate::session::Kill;

/// Rates are sampled this often, as INFO's averages assume.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Keys expired between two chances for clients.
const EXPIRE_STEP: usize = 256;
/// An idle client keeps the buffer it reads into for so long, as in Redis.
const BUFFER_KEPT_US: u64 = 2_000_000;
/// Memory is given back, and idle scans are dropped, once in so many rounds.
const TIDY_EVERY_ROUNDS: u64 = 50;

/// Runs until the process ends.
pub async fn run(node: Arc<Node>) {
    let mut shutdown = node.shutdown_signal();
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0u64;
    let mut clock = ClockCare::default();
    let mut excess = Excess::default();
    while *shutdown.borrow_and_update() == Shutdown::No {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.changed() => return,
        }
        round += 1;
        node.observe.stats.sample(node.clock.monotonic_us());
        // In a cluster the log alone removes keys: a member that was ahead would tell otherwise.
        if node.active_expire.load(Relaxed) && node.log_time().is_none() {
            expire(&node).await;
        }
        crate::admin::persistence::tick(&node);
        // What the commands' share of the work has left over, or a lower limit asks for.
        let _ = memory::has_room(&node);
        if node.tracking.any() {
            node.tracking.limit(&node.clients, node.settings.tracking_table_max_keys());
        }
        if round.is_multiple_of(10) {
            tidy(&node);
            clock.look(&node);
        }
        if round.is_multiple_of(TIDY_EVERY_ROUNDS) {
            node.engine.keyspace().shrink();
            node.engine.keyspace().drop_idle_scans(node.now());
            if excess.is_new(crate::alloc::rss(), crate::alloc::used_memory()) {
                give_memory_back().await;
                excess.note(crate::alloc::rss(), crate::alloc::used_memory());
            }
        }
    }
}

/// Looks after a clock that is far from wall time, less and less often while it cannot be set:
/// every shard is held for the look.
#[derive(Debug, Default)]
struct ClockCare {
    rounds_left: u32,
    pause: u32,
}

impl ClockCare {
    fn look(&mut self, node: &Arc<Node>) {
        const PAUSE_MAX: u32 = 30;
        self.rounds_left = self.rounds_left.saturating_sub(1);
        if self.rounds_left > 0 {
            return;
        }
        let is_off = tokio::task::block_in_place(|| node.correct_clock()).abs() >= 1_000;
        self.pause = if is_off { (self.pause * 2).clamp(1, PAUSE_MAX) } else { 0 };
        self.rounds_left = self.pause;
    }
}

/// How much more memory the process has than it uses.
#[derive(Debug, Default)]
struct Excess {
    /// What was left of it when memory was last given back.
    left_bytes: u64,
}

impl Excess {
    /// Less than this is not worth the milliseconds that giving it back may take.
    const BYTES_MIN: u64 = 32 << 20;

    /// Whether it is large, and larger than what giving memory back last time could not change
    /// (fragments).
    fn is_new(&mut self, rss: u64, used: u64) -> bool {
        let excess = rss.saturating_sub(used);
        self.left_bytes = self.left_bytes.min(excess);
        excess - self.left_bytes > Self::BYTES_MIN.max(used / 4)
    }

    fn note(&mut self, rss: u64, used: u64) {
        self.left_bytes = rss.saturating_sub(used);
    }
}

/// Lets each worker thread give its free memory back. A task cannot choose its thread, so more tasks
/// than threads hold theirs for a moment, and the others take the rest.
async fn give_memory_back() {
    /// Long enough for another worker to take a task over.
    const HELD: Duration = Duration::from_micros(500);
    const ROUNDS_MAX: usize = 8;
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    crate::alloc::ask_all_to_purge();
    let mut purged = 0;
    for _ in 0..ROUNDS_MAX {
        let tasks: Vec<_> = (0..workers)
            .map(|_| {
                tokio::spawn(async {
                    let did = crate::alloc::purge_if_asked();
                    std::thread::sleep(HELD);
                    did
                })
            })
            .collect();
        for task in tasks {
            purged += usize::from(task.await.unwrap_or(false));
        }
        if purged >= workers {
            return;
        }
    }
}

/// Removes what has expired: as much as fits in a quarter of the time, the rest next round.
async fn expire(node: &Arc<Node>) {
    let budget_us = 25_000 * u64::from(node.settings.active_expire_effort().clamp(1, 10)) / 2;
    let began_us = node.clock.monotonic_us();
    let mut effects = Effects::new(deliver::wanted_events(node));
    let mut worked_us = 0;
    loop {
        if node.pause.stops_expiry(node.clock.monotonic_us()) {
            return;
        }
        let step_us = node.clock.monotonic_us();
        let more = node.engine.keyspace().expire_due(node.now(), EXPIRE_STEP, &mut effects);
        node.observe.stats.add(Counter::ExpiredKeys, std::mem::take(&mut effects.expired_keys));
        node.changes.fetch_add(std::mem::take(&mut effects.changes), Relaxed);
        if !effects.is_quiet() {
            deliver::deliver(node, &mut effects);
        }
        worked_us += node.clock.monotonic_us() - step_us;
        if !more {
            break;
        }
        if node.clock.monotonic_us() - began_us > budget_us {
            node.observe.stats.count(Counter::ExpireTimeCapReached);
            break;
        }
        tokio::task::yield_now().await;
    }
    let threshold_ms = node.settings.latency_monitor_threshold_ms();
    let unix_s = node.clock.now_ms() / 1000;
    node.observe.latency.record(threshold_ms, "expire-cycle", unix_s, worked_us / 1000);
}

/// Closes clients that have been idle for longer than `timeout`, takes the buffers of those that
/// are idle for a moment, and lets those whose output waits look at how long it has waited:
/// nothing else may wake them.
fn tidy(node: &Node) {
    let timeout_us = u64::from(node.settings.timeout_s()) * 1_000_000;
    let now_us = node.clock.monotonic_us();
    node.clients.each(|client| {
        let shown = &client.shown;
        let idle_us = now_us.saturating_sub(shown.last_used_us.load(Relaxed));
        if idle_us > BUFFER_KEPT_US && shown.query_buffer_free.load(Relaxed) > 0 {
            client.release_buffer();
        }
        if shown.output_len.load(Relaxed) > 0 {
            client.wake();
        }
        let waits = shown.blocked.load(Relaxed)
            || shown.paused.load(Relaxed)
            || shown.monitor.load(Relaxed)
            || shown.sub.load(Relaxed) + shown.psub.load(Relaxed) + shown.ssub.load(Relaxed) > 0;
        if timeout_us > 0 && !waits && idle_us > timeout_us {
            tracing::debug!(client = client.id, "closing idle client");
            client.kill(Kill::Now);
        }
    });
}
