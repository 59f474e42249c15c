//! What scripts and functions promise about themselves, and what is learnt of them.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Promises of a script or function, by which the engine decides whether it may run.
/// Source: <https://redis.io/docs/latest/develop/interact/programmability/lua-api/#script-flags>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScriptFlags {
    /// It writes nothing: it may run where writes may not.
    pub no_writes: bool,
    /// It may run above `maxmemory`.
    pub allow_oom: bool,
    /// It may run on a node with stale data.
    pub allow_stale: bool,
    /// It refuses to run in cluster mode.
    pub no_cluster: bool,
    /// Its keys may lie in several slots.
    pub allow_cross_slot_keys: bool,
}

impl ScriptFlags {
    /// Makes the promise of this name; `false` if there is none.
    pub fn set(&mut self, name: &str) -> bool {
        let flag = match name {
            "no-writes" => &mut self.no_writes,
            "allow-oom" => &mut self.allow_oom,
            "allow-stale" => &mut self.allow_stale,
            "no-cluster" => &mut self.no_cluster,
            "allow-cross-slot-keys" => &mut self.allow_cross_slot_keys,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// The names of the promises made, in the order FUNCTION LIST tells them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.no_writes, "no-writes"),
            (self.allow_oom, "allow-oom"),
            (self.allow_stale, "allow-stale"),
            (self.no_cluster, "no-cluster"),
            (self.allow_cross_slot_keys, "allow-cross-slot-keys"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
    }
}

/// Whether a script has reached for a key that it had not declared: from then on it runs with
/// every shard held.
#[derive(Debug, Default)]
pub struct Reach(AtomicBool);

impl Reach {
    /// Notes that it has.
    pub fn note_undeclared(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it has.
    #[must_use]
    pub fn is_undeclared(&self) -> bool {
        self.0.load(Relaxed)
    }
}
