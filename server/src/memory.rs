//! The bound on memory: `maxmemory` and what is done above it.
//!
//! Keys are evicted by proposals of our own before a command that may grow memory runs, for a
//! bounded time (`maxmemory-eviction-tenacity`); then the command may run, and the next one or
//! the housekeeping goes on. Only when nothing may be evicted is the command refused.
//! Source: <https://redis.io/docs/latest/develop/reference/eviction/>

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use holdfast_engine::context::Touch;
use holdfast_engine::effects::Effects;
use holdfast_engine::keyspace::{Among, First, Pool};
use holdfast_engine::time::DbIndex;

use crate::config::Settings;
use crate::config::settings::EvictionPolicy;
use crate::node::Node;
use crate::observe::stats::Counter;
use crate::route::deliver;
use crate::{alloc, commit};

/// What a node knows of its evictions.
#[derive(Debug, Default)]
pub struct Eviction {
    /// The last that was tried found nothing to evict.
    exhausted: AtomicBool,
}

/// What a thread keeps in mind from one eviction to the next.
#[derive(Debug, Default)]
struct Drawn {
    /// Under which policy.
    by: Option<(Among, First)>,
    pool: Pool,
}

thread_local! {
    static DRAWN: Cell<Drawn> = Cell::default();
}

/// Why a cluster and a policy that evicts do not go together.
pub(crate) const NO_EVICTION_IN_A_CLUSTER: &str = "'maxmemory' with a 'maxmemory-policy' other than noeviction cannot be used with 'raft yes': \
     every member must hold the same keys, so none may evict by itself";

/// Whether the settings make the server evict keys.
pub(crate) fn evicts(settings: &Settings) -> bool {
    settings.maxmemory() != 0 && settings.maxmemory_policy() != EvictionPolicy::NoEviction
}

/// Whether more memory is in use than may be.
#[inline]
#[must_use]
pub fn is_full(node: &Node) -> bool {
    let max = node.settings.maxmemory();
    max != 0 && alloc::used_memory() > max
}

/// Whether more memory is in use than may be, and nothing can be evicted: what a script is told
/// between two evictions.
#[must_use]
pub fn is_exhausted(node: &Node) -> bool {
    let evicts = node.settings.maxmemory_policy() != EvictionPolicy::NoEviction;
    let hopeless = !evicts || node.eviction.exhausted.load(Relaxed);
    hopeless && is_full(node)
}

/// Whether a command that may grow memory can run, once keys have been evicted as far as the
/// policy allows and a moment permits.
#[inline]
#[must_use]
pub fn has_room(node: &Arc<Node>) -> bool {
    !is_full(node) || make_room(node)
}

/// Evicts keys until memory suffices or the time is up; `false` if there are none to evict.
#[cold]
pub fn make_room(node: &Arc<Node>) -> bool {
    // What this thread has freed counts before anything is evicted.
    alloc::settle();
    if !is_full(node) {
        return true;
    }
    let Some(by) = order(node.settings.maxmemory_policy()) else {
        return false;
    };
    let began_us = node.clock.monotonic_us();
    if node.pause.stops_expiry(began_us) {
        return true;
    }
    let limit_us = limit_us(node.settings.maxmemory_eviction_tenacity());
    let samples = node.settings.maxmemory_samples();
    let mut effects = Effects::new(deliver::wanted_events(node));
    let mut drawn = DRAWN.take();
    if drawn.by.replace(by) != Some(by) {
        drawn.pool.clear();
    }
    let mut found = true;
    while is_full(node) && node.clock.monotonic_us() - began_us <= limit_us {
        let now = node.now();
        let random = commit::context(DbIndex(0), now, Touch::Leaves).seed;
        let keyspace = node.engine.keyspace();
        found = keyspace.draw_candidates(by, samples, now, random, &mut drawn.pool);
        let mut evicted = false;
        while !evicted && let Some(candidate) = drawn.pool.pop() {
            let context = commit::context(candidate.db, now, Touch::Leaves);
            evicted = node.engine.evict(&candidate, context, &**node, &mut effects);
        }
        if evicted {
            node.observe.stats.count(Counter::EvictedKeys);
            // Freed here and now: what is freed elsewhere later would have more keys evicted.
            drop(std::mem::take(&mut effects.garbage));
            if !effects.is_quiet() {
                deliver::deliver(node, &mut effects);
            }
            alloc::settle();
        } else if !found {
            break;
        }
    }
    DRAWN.set(drawn);
    let threshold_ms = node.settings.latency_monitor_threshold_ms();
    let elapsed_ms = (node.clock.monotonic_us() - began_us) / 1000;
    let unix_s = node.clock.now_ms() / 1000;
    node.observe.latency.record(threshold_ms, "eviction-cycle", unix_s, elapsed_ms);
    let room = found || !is_full(node);
    node.eviction.exhausted.store(!room, Relaxed);
    room
}

/// How long one command, or one round of the housekeeping, may evict: as in Redis.
fn limit_us(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50 * u64::from(tenacity),
        // Each step takes 15 % longer, up to two minutes.
        11..=99 => (500.0 * 1.15_f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

fn order(policy: EvictionPolicy) -> Option<(Among, First)> {
    Some(match policy {
        EvictionPolicy::VolatileLru => (Among::Volatile, First::LeastRecent),
        EvictionPolicy::VolatileLfu => (Among::Volatile, First::LeastFrequent),
        EvictionPolicy::VolatileRandom => (Among::Volatile, First::Any),
        EvictionPolicy::VolatileTtl => (Among::Volatile, First::Soonest),
        EvictionPolicy::AllKeysLru => (Among::All, First::LeastRecent),
        EvictionPolicy::AllKeysLfu => (Among::All, First::LeastFrequent),
        EvictionPolicy::AllKeysRandom => (Among::All, First::Any),
        EvictionPolicy::NoEviction => return None,
    })
}
