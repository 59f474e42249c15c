//! SLOWLOG, LATENCY and MEMORY: what the server observed, told to operators.

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use super::info::human;
use crate::alloc;
use crate::observe::{CommandId, latency, slowlog};
use crate::route::{Answer, Call, ServerCommand, table};

/// `SLOWLOG GET [count]`
fn slowlog_get(call: &mut Call<'_>) -> Answer {
    if call.args.len() > 3 {
        return CommandError::wrong_arity("slowlog|get").into();
    }
    call.node.observe.slowlog.get(call.args.get(2).copied()).into()
}

/// `SLOWLOG LEN`
fn slowlog_len(call: &mut Call<'_>) -> Answer {
    call.node.observe.slowlog.len().into()
}

/// `SLOWLOG RESET`
fn slowlog_reset(call: &mut Call<'_>) -> Answer {
    call.node.observe.slowlog.reset().into()
}

fn slowlog_help(_call: &mut Call<'_>) -> Answer {
    slowlog::SlowLog::help().into()
}

fn now_s(call: &Call<'_>) -> u64 {
    call.node.clock.now_ms() / 1000
}

/// `LATENCY LATEST`
fn latency_latest(call: &mut Call<'_>) -> Answer {
    call.node.observe.latency.latest().into()
}

/// `LATENCY HISTORY event`
fn latency_history(call: &mut Call<'_>) -> Answer {
    call.node.observe.latency.history(call.args[2]).into()
}

/// `LATENCY RESET [event [event ...]]`
fn latency_reset(call: &mut Call<'_>) -> Answer {
    call.node.observe.latency.reset(&call.args[2..]).into()
}

/// `LATENCY GRAPH event`
fn latency_graph(call: &mut Call<'_>) -> Answer {
    call.node.observe.latency.graph(call.args[2], now_s(call)).into()
}

/// `LATENCY DOCTOR`
fn latency_doctor(call: &mut Call<'_>) -> Answer {
    let settings = &call.node.settings;
    call.node
        .observe
        .latency
        .doctor(
            settings.latency_monitor_threshold_ms(),
            settings.slowlog_log_slower_than_us(),
            now_s(call),
        )
        .into()
}

/// `LATENCY HISTOGRAM [command [command ...]]`
fn latency_histogram(call: &mut Call<'_>) -> Answer {
    let wanted = &call.args[2..];
    let names = table().names();
    let ids = names.iter().enumerate().filter(|(_, name)| {
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                // A container's name stands for its subcommands.
                let name = name.as_bytes();
                name.eq_ignore_ascii_case(wanted)
                    || name
                        .split(|byte| *byte == b'|')
                        .next()
                        .is_some_and(|parent| parent.eq_ignore_ascii_case(wanted))
            })
    });
    let ids = ids.map(|(id, name)| (CommandId(id as u16), name.as_str()));
    call.node.observe.commands.histogram_reply(ids).into()
}

fn latency_help(_call: &mut Call<'_>) -> Answer {
    latency::LatencyMonitor::help().into()
}

/// `MEMORY USAGE key [SAMPLES count]`: bytes the key takes, or nil.
fn memory_usage(call: &mut Call<'_>) -> Answer {
    match call.args[3..] {
        [] => {}
        [option, samples] if option.eq_ignore_ascii_case(b"samples") => {
            match integer_text(samples) {
                None => return CommandError::NOT_AN_INTEGER.into(),
                Some(samples) if samples < 0 => return CommandError::SYNTAX.into(),
                Some(_) => {}
            }
        }
        _ => return CommandError::SYNTAX.into(),
    }
    let node = call.node;
    match node.engine.memory_of(call.session.db, call.args[2], node.now()) {
        Some(len) => Reply::count(len).into(),
        None => Reply::Nil.into(),
    }
}

/// `MEMORY STATS`
fn memory_stats(call: &mut Call<'_>) -> Answer {
    let node = call.node;
    let used = alloc::used_memory();
    let peak = alloc::peak_memory().max(used);
    let rss = alloc::rss();
    let sizes = node.engine.keyspace().sizes(node.now());
    let keys: usize = sizes.iter().map(|(_, size)| size.keys).sum();
    let count = |n: u64| Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let per_key = if keys == 0 { 0 } else { used / keys as u64 };
    let (_, script_bytes) = node.engine.scripts().sizes();
    let ratio = |part: u64, whole: u64| Reply::Double(part as f64 / whole.max(1) as f64);
    let pairs: Vec<(&str, Reply)> = vec![
        ("peak.allocated", count(peak)),
        ("total.allocated", count(used)),
        ("replication.backlog", count(0)),
        ("clients.slaves", count(0)),
        ("aof.buffer", count(0)),
        ("lua.caches", Reply::count(script_bytes)),
        ("functions.caches", count(0)),
        ("keys.count", Reply::count(keys)),
        ("keys.bytes-per-key", count(per_key)),
        ("dataset.bytes", count(used)),
        ("peak.percentage", Reply::Double(used as f64 * 100.0 / peak.max(1) as f64)),
        ("allocator.allocated", count(used)),
        ("allocator.resident", count(rss)),
        ("fragmentation", ratio(rss, used)),
        ("fragmentation.bytes", Reply::Integer(rss as i64 - used as i64)),
    ];
    Reply::Map(
        pairs.into_iter().map(|(name, value)| (Reply::bulk(name.as_bytes()), value)).collect(),
    )
    .into()
}

/// `MEMORY DOCTOR`
fn memory_doctor(call: &mut Call<'_>) -> Answer {
    let (used, rss) = (alloc::used_memory(), alloc::rss());
    let max = call.node.settings.maxmemory();
    let text = if max > 0 && used > max / 10 * 9 {
        format!(
            "Memory is nearly full: {} of maxmemory {} are used. Raise maxmemory or remove keys.\n",
            human(used),
            human(max)
        )
    } else if used > (64 << 20) && rss > used * 2 {
        format!(
            "{} are used but {} are resident: much was freed. MEMORY PURGE gives it back.\n",
            human(used),
            human(rss)
        )
    } else {
        format!("No memory problem found: {} used, {} resident.\n", human(used), human(rss))
    };
    Reply::Verbatim(text.into()).into()
}

/// `MEMORY MALLOC-STATS`
fn memory_malloc_stats(_call: &mut Call<'_>) -> Answer {
    let text = format!(
        "allocator: mimalloc\nallocated: {}\npeak: {}\nresident: {}\n",
        alloc::used_memory(),
        alloc::peak_memory(),
        alloc::rss()
    );
    Reply::Verbatim(text.into()).into()
}

/// `MEMORY PURGE`
fn memory_purge(call: &mut Call<'_>) -> Answer {
    call.node.engine.keyspace().shrink();
    alloc::purge();
    Reply::Ok.into()
}

fn memory_help(_call: &mut Call<'_>) -> Answer {
    super::help_reply(super::help_texts::MEMORY)
}

const SLOWLOG_FLAGS: Flags = Flags::ADMIN.with(Flags::LOADING).with(Flags::STALE);
const LATENCY_FLAGS: Flags = SLOWLOG_FLAGS.with(Flags::NOSCRIPT);
const HELP_FLAGS: Flags = Flags::LOADING.with(Flags::STALE);
const HELP: &str = "Returns helpful text about the different subcommands.";

const fn slow(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command::server(name, arity, Group::Server).of("slowlog").flags(flags)
}

const fn late(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command::server(name, arity, Group::Server).of("latency").flags(flags)
}

const fn mem(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command::server(name, arity, Group::Server).of("memory").flags(flags)
}

const SLOWLOG: &[ServerCommand] = &[
    ServerCommand::new(
        slow("get", -2, SLOWLOG_FLAGS).doc(
            "2.2.12",
            "O(N) where N is the number of entries returned",
            "[count]",
            "Returns the slow log's entries.",
        ),
        slowlog_get,
    ),
    ServerCommand::new(slow("help", 2, HELP_FLAGS).doc("6.2.0", "O(1)", "", HELP), slowlog_help),
    ServerCommand::new(
        slow("len", 2, SLOWLOG_FLAGS).doc(
            "2.2.12",
            "O(1)",
            "",
            "Returns the number of entries in the slow log.",
        ),
        slowlog_len,
    ),
    ServerCommand::new(
        slow("reset", 2, SLOWLOG_FLAGS).doc(
            "2.2.12",
            "O(N) where N is the number of entries in the slowlog",
            "",
            "Clears all entries from the slow log.",
        ),
        slowlog_reset,
    ),
];

const LATENCY: &[ServerCommand] = &[
    ServerCommand::new(
        late("doctor", 2, LATENCY_FLAGS).doc(
            "2.8.13",
            "O(1)",
            "",
            "Returns a human-readable latency analysis report.",
        ),
        latency_doctor,
    ),
    ServerCommand::new(
        late("graph", 3, LATENCY_FLAGS).doc(
            "2.8.13",
            "O(1)",
            "event",
            "Returns a latency graph for an event.",
        ),
        latency_graph,
    ),
    ServerCommand::new(late("help", 2, HELP_FLAGS).doc("2.8.13", "O(1)", "", HELP), latency_help),
    ServerCommand::new(
        late("histogram", -2, LATENCY_FLAGS).doc(
            "7.0.0",
            "O(N) where N is the number of commands with latency information being retrieved.",
            "[command [command ...]]",
            "Returns the cumulative distribution of latencies of a subset or all commands.",
        ),
        latency_histogram,
    ),
    ServerCommand::new(
        late("history", 3, LATENCY_FLAGS).doc(
            "2.8.13",
            "O(1)",
            "event",
            "Returns timestamp-latency samples for an event.",
        ),
        latency_history,
    ),
    ServerCommand::new(
        late("latest", 2, LATENCY_FLAGS).doc(
            "2.8.13",
            "O(1)",
            "",
            "Returns the latest latency samples for all events.",
        ),
        latency_latest,
    ),
    ServerCommand::new(
        late("reset", -2, LATENCY_FLAGS).doc(
            "2.8.13",
            "O(1)",
            "[event [event ...]]",
            "Resets the latency data for one or more events.",
        ),
        latency_reset,
    ),
];

const MEMORY: &[ServerCommand] = &[
    ServerCommand::new(
        mem("doctor", 2, Flags::NONE).doc("4.0.0", "O(1)", "", "Outputs a memory problems report."),
        memory_doctor,
    ),
    ServerCommand::new(mem("help", 2, HELP_FLAGS).doc("4.0.0", "O(1)", "", HELP), memory_help),
    ServerCommand::new(
        mem("malloc-stats", 2, Flags::NONE).doc(
            "4.0.0",
            "Depends on how much memory is allocated, could be slow",
            "",
            "Returns the allocator statistics.",
        ),
        memory_malloc_stats,
    ),
    ServerCommand::new(
        mem("purge", 2, Flags::NONE).doc(
            "4.0.0",
            "Depends on how much memory is allocated, could be slow",
            "",
            "Asks the allocator to release memory.",
        ),
        memory_purge,
    ),
    ServerCommand::new(
        mem("stats", 2, Flags::NONE).doc(
            "4.0.0",
            "O(1)",
            "",
            "Returns details about memory usage.",
        ),
        memory_stats,
    ),
    ServerCommand::new(
        mem("usage", -3, Flags::READONLY)
            .keys(&[holdfast_engine::command::KeySpec::one(
                2,
                holdfast_engine::command::Access::Look,
            )])
            .doc(
                "4.0.0",
                "O(N) where N is the number of samples.",
                "key [SAMPLES count]",
                "Estimates the memory usage of a key.",
            ),
        memory_usage,
    ),
];

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::container(
        Command::container("slowlog", Group::Server, &[]).doc(
            "2.2.12",
            "Depends on subcommand.",
            "",
            "A container for slow log commands.",
        ),
        SLOWLOG,
    ),
    ServerCommand::container(
        Command::container("latency", Group::Server, &[]).doc(
            "2.8.13",
            "Depends on subcommand.",
            "",
            "A container for latency diagnostics commands.",
        ),
        LATENCY,
    ),
    ServerCommand::container(
        Command::container("memory", Group::Server, &[]).doc(
            "4.0.0",
            "Depends on subcommand.",
            "",
            "A container for memory diagnostics commands.",
        ),
        MEMORY,
    ),
];
