//! XREAD and XREADGROUP.
//!
//! A reader with BLOCK that finds nothing says so by [`Wait`]; the server parks the session and
//! runs the same command again. Before that it has `settle` put ids in the place of `$`, which
//! would otherwise mean another id every time.

use super::{
    bookkeeping_event, edit_group, entry_reply, no_key_or_group, peek_stream, stream_at, strict_id,
};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Begin, Command, Find, Flags, Group, KeySpec};
use crate::effects::{Effects, Wait};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::stream::{Entries, StreamId};

/// Which of the two commands is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Xread,
    Xreadgroup,
}

/// Who reads on behalf of a group.
#[derive(Debug, Clone, Copy)]
struct Member<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    /// NOACK: what is read need not be acknowledged.
    acknowledges: bool,
}

/// What a reader asks for.
#[derive(Debug)]
struct Request<'a> {
    count: usize,
    wait: Option<Wait>,
    member: Option<Member<'a>>,
    keys: Args<'a>,
    ids: Args<'a>,
}

/// Milliseconds to wait; 0 is without end.
///
/// # Errors
/// `ERR timeout is not an integer or out of range`, `ERR timeout is negative`,
/// `ERR timeout is out of range`
fn timeout(text: &[u8], now: UnixMillis) -> Result<Wait, CommandError> {
    let ms = integer(text)
        .map_err(|_| CommandError::known("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::known("ERR timeout is negative"))?;
    if now.checked_add_ms(ms as i64).is_none() {
        return Err(CommandError::known("ERR timeout is out of range"));
    }
    Ok(Wait::for_key(Some(ms).filter(|ms| *ms > 0)))
}

impl<'a> Request<'a> {
    /// Reads the arguments.
    ///
    /// # Errors
    /// Those of Redis.
    fn parse(args: Args<'a>, form: Form, now: UnixMillis) -> Result<Self, CommandError> {
        let mut request = Self { count: usize::MAX, wait: None, member: None, keys: &[], ids: &[] };
        let mut named = None;
        let mut acknowledges = true;
        let mut at = 1;
        loop {
            let Some(option) = args.get(at) else { return Err(CommandError::SYNTAX) };
            let more = args.len() - 1 - at;
            if more > 0 && is(option, "BLOCK") {
                request.wait = Some(timeout(args[at + 1], now)?);
                at += 2;
            } else if more > 0 && is(option, "COUNT") {
                request.count = super::count_or_all(args[at + 1])?;
                at += 2;
            } else if more > 0 && is(option, "STREAMS") {
                let streams = &args[at + 1..];
                if !streams.len().is_multiple_of(2) {
                    return Err(CommandError::known(match form {
                        Form::Xread => {
                            "ERR Unbalanced 'xread' list of streams: for each stream key an ID \
                             or '$' must be specified."
                        }
                        Form::Xreadgroup => {
                            "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an \
                             ID or '>' must be specified."
                        }
                    }));
                }
                (request.keys, request.ids) = streams.split_at(streams.len() / 2);
                break;
            } else if more > 1 && is(option, "GROUP") {
                if form == Form::Xread {
                    return Err(CommandError::known(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                named = Some((args[at + 1], args[at + 2]));
                at += 3;
            } else if is(option, "NOACK") {
                if form == Form::Xread {
                    return Err(CommandError::known(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD \
                         instead.",
                    ));
                }
                acknowledges = false;
                at += 1;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        request.member = named.map(|(group, consumer)| Member { group, consumer, acknowledges });
        if form == Form::Xreadgroup && named.is_none() {
            return Err(CommandError::known("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(request)
    }
}

/// Where the keys of a reader begin: behind STREAMS, unless that is the value of an option.
fn first_key(args: Args<'_>) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match *args.get(at)? {
            option if is(option, "BLOCK") || is(option, "COUNT") => 2,
            option if is(option, "GROUP") => 3,
            option if is(option, "NOACK") => 1,
            option if is(option, "STREAMS") => break,
            _ => return None,
        };
    }
    let count = args.len() - at - 1;
    (count > 0 && count.is_multiple_of(2)).then_some(at + 1)
}

/// Whether a reader asks to wait, which scripts may not.
#[must_use]
pub fn would_wait(args: Args<'_>) -> bool {
    let mut at = 1;
    while let Some(option) = args.get(at) {
        at += match *option {
            option if is(option, "BLOCK") => return at + 1 < args.len(),
            option if is(option, "COUNT") => 2,
            option if is(option, "GROUP") => 3,
            option if is(option, "NOACK") => 1,
            _ => return false,
        };
    }
    false
}

/// The arguments with the ids of now in the place of each `$`; `None` if there is none.
#[must_use]
pub(crate) fn settle(view: &View<'_>, args: Args<'_>) -> Option<Vec<Vec<u8>>> {
    let first = first_key(args)?;
    let count = (args.len() - first) / 2;
    if !args[first + count..].contains(&&b"$"[..]) {
        return None;
    }
    let mut settled: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    for at in first..first + count {
        if args[at + count] == b"$" {
            let stream = peek_stream(view, args[at]).ok().flatten();
            let id = stream.map_or(StreamId::MIN, |stream| stream.entries.last_id);
            settled[at + count] = id.to_string().into_bytes();
        }
    }
    Some(settled)
}

/// `XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]`: of each stream
/// that has any, the entries after the id; nil if none has. O(log N), and O(1) each.
fn xread(view: &View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let request = Request::parse(args, Form::Xread, view.now())?;
    let mut after = Vec::with_capacity(request.keys.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = stream_at(view, key)?;
        after.push(match *id {
            b"$" => stream.map_or(StreamId::MIN, |stream| stream.entries.last_id),
            b">" => {
                return Err(CommandError::known(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP \
                     <group> <consumer> option.",
                ));
            }
            id => strict_id(id, 0)?,
        });
    }
    let mut found = Vec::new();
    for (key, after) in request.keys.iter().zip(after) {
        let (Some(stream), Some(from)) = (peek_stream(view, key)?, after.next()) else { continue };
        let items = stream.entries.range(from, StreamId::MAX).take(request.count);
        let entries: Vec<Reply> = items.map(entry_reply).collect();
        if !entries.is_empty() {
            found.push((Reply::bulk(key), Reply::Array(entries)));
        }
    }
    Ok(found_or_wait(found, request.wait, effects))
}

fn found_or_wait(found: Vec<(Reply, Reply)>, wait: Option<Wait>, effects: &mut Effects) -> Reply {
    if !found.is_empty() {
        return Reply::PairMap(found);
    }
    effects.wait = wait;
    Reply::NilArray
}

/// What one stream gave a member of a group.
struct Given {
    /// `None` if it waits for what is new and there is nothing.
    entries: Option<Reply>,
    /// The consumer was made.
    created: bool,
    /// How much was changed.
    changes: u64,
}

/// `XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key
/// [key ...] id [id ...]`: of each stream, with `>` what is new to the group, with an id what waits
/// for this consumer's acknowledgement after it. O(log N), and O(log N) each.
fn xreadgroup(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let now = view.now();
    let request = Request::parse(args, Form::Xreadgroup, now)?;
    let Some(member) = request.member else { return Err(CommandError::SYNTAX) };
    let mut after = Vec::with_capacity(request.keys.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = stream_at(view, key)?;
        if !stream.is_some_and(|stream| stream.groups.contains_key(member.group)) {
            let rest = " in XREADGROUP with GROUP option";
            return Err(no_key_or_group(key, member.group, rest));
        }
        after.push(match *id {
            b"$" => {
                return Err(CommandError::known(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read \
                     the history of this consumer by specifying a proper ID, or use the > ID to \
                     get new messages. The $ ID would just return an empty result set.",
                ));
            }
            b">" => None,
            // As in Redis, where the greatest id stands for `>`.
            id => Some(strict_id(id, 0)?).filter(|id| *id != StreamId::MAX),
        });
    }
    let mut found = Vec::new();
    for (key, after) in request.keys.iter().zip(after) {
        let given = edit_group(view, (key, member.group), effects, |entries, group| {
            let created = group.create_consumer(member.consumer, now);
            if let Some(consumer) = group.consumer_mut(member.consumer) {
                consumer.seen_at = now;
            }
            let (reply, count) = match after {
                None => read_new(entries, group, member, request.count, now),
                Some(after) => read_again(entries, group, member, (after, request.count), now),
            };
            let changes = count + u64::from(created);
            let given = Given { entries: reply, created, changes };
            Ok(if changes > 0 { Edit::Bookkeeping(given) } else { Edit::Declined(given) })
        })?;
        let Some(given) = given else { continue };
        if given.created {
            bookkeeping_event(view, "xgroup-createconsumer", key, effects);
        }
        effects.changed(given.changes);
        if let Some(entries) = given.entries {
            found.push((Reply::bulk(key), entries));
        }
    }
    Ok(found_or_wait(found, request.wait, effects))
}

type StreamGroup = crate::value::stream::Group;

/// Gives a consumer what is new to its group: the entries, if there are any, and how many.
fn read_new(
    entries: &Entries,
    group: &mut StreamGroup,
    member: Member<'_>,
    count: usize,
    now: UnixMillis,
) -> (Option<Reply>, u64) {
    let Some(from) = group.last_id.next() else { return (None, 0) };
    let mut replies = Vec::new();
    for item in entries.range(from, StreamId::MAX).take(count) {
        let id = item.id;
        group.entries_read = entries.read_count_after(group, id);
        group.last_id = id;
        if member.acknowledges {
            group.assign(id, member.consumer, now, 1);
        }
        replies.push(entry_reply(item));
    }
    if replies.is_empty() {
        return (None, 0);
    }
    if member.acknowledges
        && let Some(consumer) = group.consumer_mut(member.consumer)
    {
        consumer.active_at = Some(now);
    }
    let len = replies.len() as u64;
    (Some(Reply::Array(replies)), len)
}

/// Gives a consumer once more what waits for its acknowledgement: the entries, nil for those that
/// are no more, and how many were delivered.
fn read_again(
    entries: &Entries,
    group: &mut StreamGroup,
    member: Member<'_>,
    (after, count): (StreamId, usize),
    now: UnixMillis,
) -> (Option<Reply>, u64) {
    let pending = group.consumers().get(member.consumer).map(|consumer| consumer.pending());
    let ids: Vec<StreamId> = match (pending, after.next()) {
        (Some(pending), Some(from)) => pending.range(from..).take(count).copied().collect(),
        _ => Vec::new(),
    };
    let mut delivered = 0;
    let replies = ids.into_iter().map(|id| match entries.get(id) {
        Some(item) => {
            group.deliver_again(id, now);
            delivered += 1;
            entry_reply(item)
        }
        None => Reply::Array(vec![super::id_reply(id), Reply::NilArray]),
    });
    let replies: Vec<Reply> = replies.collect();
    (Some(Reply::Array(replies)), delivered)
}

const fn keys(from: i64) -> KeySpec {
    KeySpec {
        begin: Begin::Keyword("STREAMS", from, first_key),
        find: Find::Range { last: -1, step: 1, limit: 2 },
        access: Access::Read,
    }
}

const READ_COMPLEXITY: &str = "For each stream mentioned: O(N) with N being the number of elements being returned, it means that XREAD-ing with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay O(M) time in order to serve the M clients blocked on the stream getting new data.";
const GROUP_COMPLEXITY: &str = "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::wait("xread", -4, Group::Stream, xread).keys(&[keys(1)]).flags(Flags::MOVABLE_KEYS).doc(
        "5.0.0",
        READ_COMPLEXITY,
        "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
        "Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a message is available otherwise.",
    ),
    Command::write("xreadgroup", -7, Group::Stream, xreadgroup)
        .keys(&[keys(4)])
        .flags(Flags::BLOCKING.with(Flags::MOVABLE_KEYS))
        .doc(
            "5.0.0",
            GROUP_COMPLEXITY,
            "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
            "Returns new or historical messages from a stream for a consumer in a group. Blocks until a message is available otherwise.",
        ),
];
