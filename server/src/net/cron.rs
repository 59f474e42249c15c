//! Periodic work: expiring keys, idle clients, giving memory back, sampling rates.
//!
//! Each step is short and bounded and yields between steps: nothing here may hold up a client.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::effects::Effects;

use crate::node::{Node, Shutdown};
use crate::observe::Counter;
use crate::route::deliver;
use crate::session::Kill;

/// Rates are sampled this often, as INFO's averages assume.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Keys expired between two chances for clients.
const EXPIRE_STEP: usize = 256;
/// Memory is given back, and idle scans are dropped, once in so many rounds.
const TIDY_EVERY_ROUNDS: u64 = 50;

/// Runs until the process ends.
pub async fn run(node: Arc<Node>) {
    let mut shutdown = node.shutdown_signal();
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0u64;
    while *shutdown.borrow_and_update() == Shutdown::No {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.changed() => return,
        }
        round += 1;
        node.observe.stats.sample(node.clock.monotonic_us());
        if node.active_expire.load(Relaxed) {
            expire(&node).await;
        }
        if round.is_multiple_of(10) {
            close_idle(&node);
            wake_slow(&node);
        }
        if round.is_multiple_of(TIDY_EVERY_ROUNDS) {
            node.engine.keyspace().shrink();
            node.engine.keyspace().drop_idle_scans(node.now());
        }
    }
}

/// Removes what has expired: as much as fits in a quarter of the time, the rest next round.
async fn expire(node: &Arc<Node>) {
    let budget_us = 25_000 * u64::from(node.settings.active_expire_effort().clamp(1, 10)) / 2;
    let began_us = node.clock.monotonic_us();
    let mut effects = Effects::new(deliver::wanted_events(node));
    loop {
        if node.pause.stops_expiry(node.clock.monotonic_us()) {
            return;
        }
        let more = node.engine.keyspace().expire_due(node.now(), EXPIRE_STEP, &mut effects);
        node.observe.stats.add(Counter::ExpiredKeys, std::mem::take(&mut effects.expired_keys));
        node.changes.fetch_add(std::mem::take(&mut effects.changes), Relaxed);
        if !effects.is_quiet() {
            deliver::deliver(node, &mut effects);
        }
        if !more {
            return;
        }
        if node.clock.monotonic_us() - began_us > budget_us {
            node.observe.stats.count(Counter::ExpireTimeCapReached);
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Lets clients whose output waits look at how long it has waited: nothing else may wake them.
fn wake_slow(node: &Node) {
    for client in node.clients.all() {
        if client.shown.output_len.load(Relaxed) > 0 {
            client.wake();
        }
    }
}

/// Closes clients that have been idle for longer than `timeout`.
fn close_idle(node: &Node) {
    let timeout_us = u64::from(node.settings.timeout_s()) * 1_000_000;
    if timeout_us == 0 {
        return;
    }
    let now_us = node.clock.monotonic_us();
    for client in node.clients.all() {
        let shown = &client.shown;
        let waits = shown.blocked.load(Relaxed)
            || shown.paused.load(Relaxed)
            || shown.monitor.load(Relaxed)
            || shown.sub.load(Relaxed) + shown.psub.load(Relaxed) + shown.ssub.load(Relaxed) > 0;
        if !waits && now_us.saturating_sub(shown.last_used_us.load(Relaxed)) > timeout_us {
            tracing::debug!(client = client.id, "closing idle client");
            client.kill(Kill::Now);
        }
    }
}
