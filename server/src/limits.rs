//! The limits the engine keeps a copy of, in step with the directives; and [`descriptors`], the
//! system's limit of open files.

pub mod descriptors;

use std::sync::Arc;

use crate::config::settings::Settings;
use crate::node::Node;

/// The directives whose values the engine keeps a copy of.
const ENGINE_LIMITS: &[&str] = &[
    "proto-max-bulk-len",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "list-max-listpack-size",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "hll-sparse-max-bytes",
    "lua-memory-limit",
    "maxmemory-policy",
];

/// Those that must be the same for all members of a cluster: a value's form decides the order of
/// its elements, and so what SPOP takes. A member begins with the defaults, whatever its own
/// configuration says, and the log changes them.
const FORMS: &[&str] = &[
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "list-max-listpack-size",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "hll-sparse-max-bytes",
    "lua-memory-limit",
];

/// Hands the engine its limits, now and at every CONFIG SET, and keeps the events that are
/// recorded in step.
pub(crate) fn keep(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    node.config.on_change(&["notify-keyspace-events"], move |_| {
        if let Some(node) = weak.upgrade() {
            node.refresh_events();
        }
        Ok(())
    });
    let weak = Arc::downgrade(node);
    node.config.on_change(&["requirepass"], move |settings| {
        if let Some(node) = weak.upgrade() {
            node.acl.set_default_password(&settings.requirepass());
        }
        Ok(())
    });
    if node.log_time().is_some() {
        for name in node.config.use_defaults(FORMS) {
            tracing::warn!(
                "'{name}' of this node's configuration is not used: the members of a cluster share \
                 it, and CONFIG SET changes it on all of them"
            );
        }
    }
    hand_over(node, &node.settings);
    if node.log_time().is_some() {
        node.config.on_change(&["maxmemory", "maxmemory-policy"], |settings| {
            match crate::memory::evicts(settings) {
                true => Err(crate::memory::NO_EVICTION_IN_A_CLUSTER.to_owned()),
                false => Ok(()),
            }
        });
    }
    let weak = Arc::downgrade(node);
    node.config.on_change(ENGINE_LIMITS, move |settings| {
        let Some(node) = weak.upgrade() else { return Ok(()) };
        if !node.persist.journal.is_on() {
            hand_over(&node, settings);
            return Ok(());
        }
        // A replay must change them between the same two commands.
        let changed = node.engine.keyspace().at_rest(&*node, || {
            hand_over(&node, settings);
            node.persist.record_limits(&node.engine);
        });
        changed.map_err(|error| error.text().to_owned())
    });
}

/// Hands the engine its limits as they are configured.
pub(crate) fn hand_over(node: &Node, settings: &Settings) {
    use crate::config::settings::EvictionPolicy::{AllKeysLfu, VolatileLfu};
    let limits = node.engine.keyspace().limits();
    let clamp = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let lfu = matches!(settings.maxmemory_policy(), AllKeysLfu | VolatileLfu);
    for (name, value) in [
        ("proto-max-bulk-len", clamp(settings.proto_max_bulk_len())),
        ("hash-max-listpack-entries", clamp(settings.hash_max_listpack_entries())),
        ("hash-max-listpack-value", clamp(settings.hash_max_listpack_value())),
        ("list-max-listpack-size", i64::from(settings.list_max_listpack_size())),
        ("set-max-intset-entries", clamp(settings.set_max_intset_entries())),
        ("set-max-listpack-entries", clamp(settings.set_max_listpack_entries())),
        ("set-max-listpack-value", clamp(settings.set_max_listpack_value())),
        ("zset-max-listpack-entries", clamp(settings.zset_max_listpack_entries())),
        ("zset-max-listpack-value", clamp(settings.zset_max_listpack_value())),
        ("stream-node-max-bytes", clamp(settings.stream_node_max_bytes())),
        ("stream-node-max-entries", clamp(settings.stream_node_max_entries())),
        ("hll-sparse-max-bytes", clamp(settings.hll_sparse_max_bytes())),
        ("lua-memory-limit", clamp(settings.lua_memory_limit())),
        ("lfu-policy", i64::from(lfu)),
    ] {
        if node.log_time().is_some() && name == "proto-max-bulk-len" {
            continue;
        }
        let known = limits.set(name, value);
        debug_assert!(known, "the engine has no limit {name}");
    }
}
