//! INFO: what the server tells of itself; every number is counted or read, none is made up.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use holdfast_engine::Reply;
use holdfast_engine::command::{Command, Flags, Group};

use super::client_list::Kind;
use crate::alloc;
use crate::clock::Clock;
use crate::config::REDIS_VERSION;
use crate::node::Node;
use crate::observe::{CommandId, Counter};
use crate::route::{Answer, Call, ServerCommand, table};

/// A section: its name, whether INFO without arguments shows it, and what writes it.
struct Section {
    name: &'static str,
    title: &'static str,
    default: bool,
    write: fn(&Node, &mut String),
}

const SECTIONS: &[Section] = &[
    Section { name: "server", title: "Server", default: true, write: server },
    Section { name: "clients", title: "Clients", default: true, write: clients },
    Section { name: "memory", title: "Memory", default: true, write: memory },
    Section {
        name: "persistence",
        title: "Persistence",
        default: true,
        write: super::persistence::info,
    },
    Section { name: "stats", title: "Stats", default: true, write: stats },
    Section { name: "replication", title: "Replication", default: true, write: replication },
    Section { name: "cpu", title: "CPU", default: true, write: cpu },
    Section { name: "modules", title: "Modules", default: true, write: |_, _| {} },
    Section { name: "commandstats", title: "Commandstats", default: false, write: commandstats },
    Section { name: "errorstats", title: "Errorstats", default: true, write: errorstats },
    Section { name: "latencystats", title: "Latencystats", default: false, write: latencystats },
    Section { name: "cluster", title: "Cluster", default: true, write: cluster },
    Section { name: "locks", title: "Locks", default: true, write: locks },
    Section { name: "raft", title: "Raft", default: true, write: raft },
    Section { name: "keyspace", title: "Keyspace", default: true, write: keyspace },
];

/// `INFO [section [section ...]]`
fn info(call: &mut Call<'_>) -> Answer {
    Reply::Verbatim(text(call.node, &call.args[1..]).into()).into()
}

/// The text of the named sections; of the default ones without names.
#[must_use]
pub fn text(node: &Node, names: &[&[u8]]) -> String {
    let named = |word: &str| names.iter().any(|name| name.eq_ignore_ascii_case(word.as_bytes()));
    let all = named("all") || named("everything");
    let default = names.is_empty() || named("default");
    let mut text = String::new();
    for section in SECTIONS {
        if !(all || default && section.default || named(section.name)) {
            continue;
        }
        if section.name == "raft" && node.raft().is_none() {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {}\r\n", section.title);
        (section.write)(node, &mut text);
    }
    text
}

/// Writes `name:value` lines.
macro_rules! lines {
    ($out:expr, $($name:literal: $value:expr),* $(,)?) => {
        $(let _ = write!($out, "{}:{}\r\n", $name, $value);)*
    };
}

fn server(node: &Node, out: &mut String) {
    let uname = rustix::system::uname();
    let uptime_s = node.clock.monotonic_us() / 1_000_000;
    let offset_ms = node.clock.wall_offset_ms();
    let executable = std::env::current_exe().unwrap_or_default();
    let config_file = node.config.path().map(|path| path.display().to_string());
    let now_us = node.now().0 * 1000;
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let wall_ms = wall.map_or(0, |since| since.as_millis());
    lines!(out,
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": super::server::mode(node),
        "os": format_args!("{} {} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
        "arch_bits": usize::BITS,
        "monotonic_clock": "CLOCK_BOOTTIME, slewed",
        "multiplexing_api": "epoll",
        "process_id": std::process::id(),
        "process_supervised": "no",
        "run_id": node.run_id,
        "tcp_port": node.settings.port(),
        "server_time_usec": now_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s / 86_400,
        "hz": node.settings.hz(),
        "configured_hz": node.settings.hz(),
        "lru_clock": (node.now().0 / 1000) & 0x00ff_ffff,
        "executable": executable.display(),
        "config_file": config_file.unwrap_or_default(),
        "io_threads_active": u8::from(node.settings.worker_threads() > 1),
        "holdfast_version": env!("CARGO_PKG_VERSION"),
        "holdfast_worker_threads": node.settings.worker_threads(),
        "holdfast_wall_time_ms": wall_ms,
        "holdfast_clock_offset_ms": offset_ms,
        "holdfast_clock_right_in_s": Clock::slewed_in_s(offset_ms),
    );
}

fn clients(node: &Node, out: &mut String) {
    let all = node.clients.all();
    let largest = |of: fn(&crate::session::client::Shown) -> usize| {
        all.iter().map(|client| of(&client.shown)).max().unwrap_or(0)
    };
    let pubsub = all.iter().filter(|client| Kind::of(client) == Kind::PubSub).count();
    let watching = all.iter().filter(|client| client.shown.watches.load(Relaxed) > 0).count();
    let watched: usize = all.iter().map(|client| client.shown.watches.load(Relaxed)).sum();
    let (blocked, blocking_keys) = node.blocked.sizes();
    let all_blocked = all.iter().filter(|client| client.shown.blocked.load(Relaxed)).count();
    lines!(out,
        "connected_clients": all.len(),
        "cluster_connections": 0,
        "maxclients": node.settings.maxclients(),
        "client_recent_max_input_buffer": largest(|shown| shown.query_buffer_len.load(Relaxed)),
        "client_recent_max_output_buffer": largest(|shown| shown.output_len.load(Relaxed)),
        "blocked_clients": all_blocked.max(blocked),
        "tracking_clients": node.tracking.sizes()[0],
        "pubsub_clients": pubsub,
        "watching_clients": watching,
        "clients_in_timeout_table": blocked,
        "total_watched_keys": watched,
        "total_blocking_keys": blocking_keys,
        "total_blocking_keys_on_nokey": 0,
    );
}

/// Bytes as Redis shows them to people: `1.50K`, `2.00M`.
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

fn memory(node: &Node, out: &mut String) {
    let (used, peak, rss) = (alloc::used_memory(), alloc::peak_memory(), alloc::rss());
    let total = super::system::total_memory();
    let max = node.settings.maxmemory();
    let (scripts, script_bytes) = node.engine.scripts().sizes();
    let known = node.engine.keyspace().libraries();
    let (libraries, functions) = known.counts();
    let library_bytes: usize = known.iter().map(|library| library.code.len()).sum();
    let policy = node.config.get("maxmemory-policy").unwrap_or_default();
    let peak = peak.max(used);
    lines!(out,
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": rss,
        "used_memory_rss_human": human(rss),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": format_args!("{:.2}%", used as f64 * 100.0 / peak.max(1) as f64),
        "total_system_memory": total,
        "total_system_memory_human": human(total),
        "used_memory_scripts_eval": script_bytes,
        "number_of_cached_scripts": scripts,
        "used_memory_functions": library_bytes,
        "number_of_functions": functions,
        "number_of_libraries": libraries,
        "maxmemory": max,
        "maxmemory_human": human(max),
        "maxmemory_policy": String::from_utf8_lossy(&policy),
        "allocator_allocated": used,
        "allocator_resident": rss,
        "mem_fragmentation_ratio": format_args!("{:.2}", rss as f64 / used.max(1) as f64),
        "mem_fragmentation_bytes": rss as i64 - used as i64,
        "mem_allocator": "mimalloc",
        "mem_cluster_links": 0,
        "mem_replication_backlog": 0,
        "mem_clients_slaves": 0,
        "mem_aof_buffer": 0,
    );
}

fn stats(node: &Node, out: &mut String) {
    let stats = &node.observe.stats;
    let get = |counter| stats.get(counter);
    let now = stats.instantaneous();
    let [_, tracked_keys, tracked_items, tracked_prefixes] = node.tracking.sizes();
    lines!(out,
        "total_connections_received": get(Counter::ConnectionsReceived),
        "total_commands_processed": get(Counter::CommandsProcessed),
        "instantaneous_ops_per_sec": now.ops_per_s,
        "total_net_input_bytes": get(Counter::NetInputBytes),
        "total_net_output_bytes": get(Counter::NetOutputBytes),
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": format_args!("{:.2}", now.input_kbps),
        "instantaneous_output_kbps": format_args!("{:.2}", now.output_kbps),
        "rejected_connections": get(Counter::ConnectionsRejected),
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_keys": get(Counter::ExpiredKeys),
        "expired_time_cap_reached_count": get(Counter::ExpireTimeCapReached),
        "evicted_keys": get(Counter::EvictedKeys),
        "evicted_clients": get(Counter::EvictedClients),
        "keyspace_hits": get(Counter::KeyspaceHits),
        "keyspace_misses": get(Counter::KeyspaceMisses),
        "pubsub_channels": node.pubsub.channel_count(),
        "pubsub_patterns": node.pubsub.pattern_count(),
        "pubsubshard_channels": node.pubsub.shard_channel_count(),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "tracking_total_keys": tracked_keys,
        "tracking_total_items": tracked_items,
        "tracking_total_prefixes": tracked_prefixes,
        "unexpected_error_replies": 0,
        "total_error_replies": node.observe.errors.total(),
        "total_reads_processed": get(Counter::ReadsProcessed),
        "total_writes_processed": get(Counter::WritesProcessed),
        "acl_access_denied_auth": get(Counter::AuthFailures),
        "acl_access_denied_cmd": get(Counter::DeniedCommands),
        "acl_access_denied_key": get(Counter::DeniedKeys),
        "acl_access_denied_channel": get(Counter::DeniedChannels),
    );
}

fn replication(node: &Node, out: &mut String) {
    if let Some(raft) = node.raft() {
        return super::raft::replication(node, &raft.status(), out);
    }
    lines!(out,
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": node.run_id,
        "master_replid2": "0000000000000000000000000000000000000000",
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    );
}

fn cpu(_: &Node, out: &mut String) {
    let (user, system) = super::system::cpu_seconds();
    lines!(out,
        "used_cpu_sys": format_args!("{system:.6}"),
        "used_cpu_user": format_args!("{user:.6}"),
    );
}

fn commandstats(node: &Node, out: &mut String) {
    for (id, name) in table().names().iter().enumerate() {
        let stats = node.observe.commands.of(CommandId(id as u16));
        if let Some(line) = stats.info_line(name) {
            let _ = write!(out, "{line}\r\n");
        }
    }
}

fn errorstats(node: &Node, out: &mut String) {
    for line in node.observe.errors.info_lines() {
        let _ = write!(out, "{line}\r\n");
    }
}

fn latencystats(node: &Node, out: &mut String) {
    let percentiles = node.settings.latency_percentiles();
    for (id, name) in table().names().iter().enumerate() {
        let line = node.observe.commands.percentiles_line(CommandId(id as u16), name, &percentiles);
        if let Some(line) = line {
            let _ = write!(out, "{line}\r\n");
        }
    }
}

fn cluster(node: &Node, out: &mut String) {
    lines!(out, "cluster_enabled": u8::from(node.raft().is_some()));
}

fn raft(node: &Node, out: &mut String) {
    if let Some(raft) = node.raft() {
        super::raft::info(raft, out);
        lines!(out, "raft_waiting_clients_of_members": node.blocked.of_members());
    }
}

fn locks(node: &Node, out: &mut String) {
    let locks = node.engine.keyspace().locks();
    let queues = node.blocked.locks();
    let (served, waited_us) = queues.totals();
    lines!(out,
        "locks_held": holdfast_engine::value::lock::count(),
        "locks_waiting": node.blocked.waiting_for_locks(),
        "locks_granted": locks.counts.granted.load(Relaxed),
        "locks_released": locks.counts.released.load(Relaxed),
        "locks_expired": locks.counts.expired.load(Relaxed),
        "locks_broken": locks.counts.broken.load(Relaxed),
        "locks_granted_after_wait": served,
        "locks_average_wait_ms": format_args!("{:.3}", waited_us as f64 / 1000.0 / served.max(1) as f64),
        "locks_last_token": locks.token(),
        "leases": locks.lease_count(),
        "locks_quarantine_left_ms": node.quarantine.left_ms(node.clock.monotonic_us()),
    );
}

fn keyspace(node: &Node, out: &mut String) {
    for (db, size) in node.engine.keyspace().sizes(node.now()) {
        let _ = write!(
            out,
            "db{}:keys={},expires={},avg_ttl={}\r\n",
            db.0, size.keys, size.expires, size.avg_ttl_ms
        );
    }
}

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::new(
    Command::server("info", -1, Group::Server)
        .flags(Flags::LOADING)
        .flags(Flags::STALE)
        .flags(Flags::DANGEROUS)
        .doc(
            "1.0.0",
            "O(1)",
            "[section [section ...]]",
            "Returns information and statistics about the server.",
        ),
    info,
)];
