//! XINFO: what a stream holds, who reads it, and how far they are.

use super::pending::idle_ms;
use super::{bad_subcommand, entry_reply, id_reply, no_group, stream_at};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::stream::group::Consumer;
use crate::value::stream::{Group as StreamGroup, Stream, StreamId};

/// How much of each list FULL tells when no COUNT says it.
const FULL_COUNT: usize = 10;

fn map(pairs: Vec<(&'static str, Reply)>) -> Reply {
    let pairs = pairs.into_iter();
    Reply::Map(pairs.map(|(name, value)| (Reply::bulk(name.as_bytes()), value)).collect())
}

fn number_or_nil(number: Option<i64>) -> Reply {
    number.map_or(Reply::Nil, Reply::Integer)
}

fn find<'v>(view: &'v View<'_>, key: &[u8]) -> Result<&'v Stream, CommandError> {
    stream_at(view, key)?.ok_or(CommandError::NO_SUCH_KEY)
}

/// `XINFO CONSUMERS key group`: the consumers of a group. O(1) each.
fn consumers(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (key, name) = (args[2], args[3]);
    let group = find(view, key)?.groups.get(name).ok_or_else(|| no_group(key, name))?;
    let now = view.now();
    let told = group.consumers().iter().map(|(name, consumer)| {
        let inactive = consumer.active_at.map_or(-1, |at| idle_ms(at, now).max(0));
        map(vec![
            ("name", Reply::bulk(name)),
            ("pending", Reply::count(consumer.pending().len())),
            ("idle", Reply::Integer(idle_ms(consumer.seen_at, now).max(0))),
            ("inactive", Reply::Integer(inactive)),
        ])
    });
    Ok(Reply::Array(told.collect()))
}

/// `XINFO GROUPS key`: the groups of a stream. O(1) each.
fn groups(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let stream = find(view, args[2])?;
    let told = stream.groups.iter().map(|(name, group)| {
        map(vec![
            ("name", Reply::bulk(name)),
            ("consumers", Reply::count(group.consumers().len())),
            ("pending", Reply::count(group.pending().len())),
            ("last-delivered-id", id_reply(group.last_id)),
            ("entries-read", number_or_nil(group.entries_read)),
            ("lag", number_or_nil(stream.entries.lag_of(group))),
        ])
    });
    Ok(Reply::Array(told.collect()))
}

/// `XINFO STREAM key [FULL [COUNT count]]`: what the stream holds. O(1), with FULL O(N).
fn stream(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (key, options) = (args[2], &args[3..]);
    let stream = find(view, key)?;
    let full = match options {
        [] => None,
        [full] if is(full, "FULL") => Some(FULL_COUNT),
        [full, word, count] if is(full, "FULL") && is(word, "COUNT") => {
            Some(match integer(count)? {
                ..0 => FULL_COUNT,
                0 => usize::MAX,
                count => usize::try_from(count).unwrap_or(usize::MAX),
            })
        }
        _ => return Err(bad_subcommand(args)),
    };
    let entries = &stream.entries;
    let blocks = entries.blocks().len();
    let mut told = vec![
        ("length", Reply::Integer(entries.len() as i64)),
        ("radix-tree-keys", Reply::count(blocks)),
        // The tree is another one here: its root and a leaf for each block.
        ("radix-tree-nodes", Reply::count(blocks + 1)),
        ("last-generated-id", id_reply(entries.last_id)),
        ("max-deleted-entry-id", id_reply(entries.max_deleted_id)),
        ("entries-added", Reply::Integer(entries.added as i64)),
        ("recorded-first-entry-id", id_reply(entries.first_id())),
    ];
    match full {
        None => {
            let (least, greatest) = (StreamId::MIN, StreamId::MAX);
            let first = entries.range(least, greatest).next();
            let last = entries.range_back(least, greatest).next();
            told.extend([
                ("groups", Reply::count(stream.groups.len())),
                ("first-entry", first.map_or(Reply::Nil, entry_reply)),
                ("last-entry", last.map_or(Reply::Nil, entry_reply)),
            ]);
        }
        Some(count) => {
            let all = entries.range(StreamId::MIN, StreamId::MAX).take(count);
            let groups = stream.groups.iter();
            let groups = groups.map(|(name, group)| full_group(stream, name, group, count));
            told.extend([
                ("entries", Reply::Array(all.map(entry_reply).collect())),
                ("groups", Reply::Array(groups.collect())),
            ]);
        }
    }
    Ok(map(told))
}

fn full_group(stream: &Stream, name: &[u8], group: &StreamGroup, count: usize) -> Reply {
    let pending = group.pending().iter().take(count).map(|(id, pending)| {
        Reply::Array(vec![
            id_reply(*id),
            Reply::bulk(&pending.consumer),
            Reply::Integer(pending.delivered_at.0),
            Reply::Integer(pending.deliveries as i64),
        ])
    });
    let consumers = group.consumers().iter();
    let consumers = consumers.map(|(name, consumer)| full_consumer(group, name, consumer, count));
    map(vec![
        ("name", Reply::bulk(name)),
        ("last-delivered-id", id_reply(group.last_id)),
        ("entries-read", number_or_nil(group.entries_read)),
        ("lag", number_or_nil(stream.entries.lag_of(group))),
        ("pel-count", Reply::count(group.pending().len())),
        ("pending", Reply::Array(pending.collect())),
        ("consumers", Reply::Array(consumers.collect())),
    ])
}

fn full_consumer(group: &StreamGroup, name: &[u8], consumer: &Consumer, count: usize) -> Reply {
    let pending = consumer.pending().iter().take(count);
    let pending =
        pending.filter_map(|id| group.pending().get_key_value(id)).map(|(id, pending)| {
            Reply::Array(vec![
                id_reply(*id),
                Reply::Integer(pending.delivered_at.0),
                Reply::Integer(pending.deliveries as i64),
            ])
        });
    let active_at = consumer.active_at.unwrap_or(UnixMillis(-1));
    map(vec![
        ("name", Reply::bulk(name)),
        ("seen-time", Reply::Integer(consumer.seen_at.0)),
        ("active-time", Reply::Integer(active_at.0)),
        ("pel-count", Reply::count(consumer.pending().len())),
        ("pending", Reply::Array(pending.collect())),
    ])
}

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
    "HELP",
    "    Prints this help.",
];

/// `XINFO HELP`: what the subcommands do.
fn help(_view: &View<'_>, _args: Args<'_>) -> CommandResult {
    Ok(Reply::Array(HELP.iter().copied().map(Reply::simple).collect()))
}

const KEY: &[KeySpec] = &[KeySpec::one(2, Access::Read)];

const SUBCOMMANDS: &[Command] = &[
    Command::read("consumers", 4, Group::Stream, consumers).of("xinfo").keys(KEY).doc(
        "5.0.0",
        "O(1)",
        "key group",
        "Returns a list of the consumers in a consumer group.",
    ),
    Command::read("groups", 3, Group::Stream, groups).of("xinfo").keys(KEY).doc(
        "5.0.0",
        "O(1)",
        "key",
        "Returns a list of the consumer groups of a stream.",
    ),
    Command::read("help", 2, Group::Stream, help)
        .of("xinfo")
        .without_key_flags()
        .flags(Flags::LOADING.with(Flags::STALE))
        .doc("5.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
    Command::read("stream", -3, Group::Stream, stream)
        .of("xinfo")
        .keys(KEY)
        .doc("5.0.0", "O(1)", "key [FULL [COUNT count]]", "Returns information about a stream.")
        .differs("radix-tree-nodes counts the blocks of entries and the root of their tree."),
];

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::container("xinfo", Group::Stream, SUBCOMMANDS).doc(
    "5.0.0",
    "Depends on subcommand.",
    "",
    "A container for stream introspection commands.",
)];
