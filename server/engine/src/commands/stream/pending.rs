//! XACK and XPENDING: what was delivered and not acknowledged.

use super::{edit_stream, id_reply, no_key_or_group, range_end, range_start, stream_at, strict_id};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::stream::group::Pending;
use crate::value::stream::{Group as StreamGroup, StreamId};

/// `XACK key group id [id ...]`: how many of these waited and wait no longer. O(log N) each.
fn xack(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let acknowledged = edit_stream(view, args[1], effects, |stream| {
        let Some(group) = stream.groups.get_mut(args[2]) else { return Ok(Edit::Declined(0)) };
        let ids = args[3..].iter().map(|id| strict_id(id, 0)).collect::<Result<Vec<_>, _>>()?;
        let count = ids.iter().filter(|id| group.acknowledge(**id)).count();
        Ok(if count > 0 { Edit::Bookkeeping(count) } else { Edit::Declined(0) })
    })?;
    let acknowledged = acknowledged.unwrap_or(0);
    effects.changed(acknowledged as u64);
    Ok(Reply::count(acknowledged))
}

/// `[IDLE min-idle-time] start end count [consumer]`
#[derive(Debug)]
struct Range<'a> {
    min_idle_ms: i64,
    from: StreamId,
    to: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Range<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        if !(6..=9).contains(&args.len()) {
            return Err(CommandError::SYNTAX);
        }
        let mut first = 3;
        let mut min_idle_ms = 0;
        if is(args[first], "IDLE") {
            min_idle_ms = integer(args[first + 1])?;
            if args.len() < 8 {
                return Err(CommandError::SYNTAX);
            }
            first += 2;
        }
        let count = usize::try_from(integer(args[first + 2])?.max(0)).unwrap_or(usize::MAX);
        let (from, to) = (range_start(args[first])?, range_end(args[first + 1])?);
        Ok(Self { min_idle_ms, from, to, count, consumer: args.get(first + 3).copied() })
    }
}

/// How long ago something was; negative for what is yet to come.
pub(super) fn idle_ms(since: UnixMillis, now: UnixMillis) -> i64 {
    now.0.saturating_sub(since.0)
}

/// What waits in all: how much, its first and last id, and how much of it with whom.
fn summary(group: &StreamGroup) -> Reply {
    let pending = group.pending();
    let (Some((first, _)), Some((last, _))) = (pending.first_key_value(), pending.last_key_value())
    else {
        return Reply::Array(vec![Reply::Integer(0), Reply::Nil, Reply::Nil, Reply::NilArray]);
    };
    let consumers = group.consumers().iter().filter(|(_, of)| !of.pending().is_empty());
    let consumers = consumers.map(|(name, consumer)| {
        let count = consumer.pending().len().to_string();
        Reply::Array(vec![Reply::bulk(name), Reply::bulk(count.as_bytes())])
    });
    Reply::Array(vec![
        Reply::count(pending.len()),
        id_reply(*first),
        id_reply(*last),
        Reply::Array(consumers.collect()),
    ])
}

/// What waits between two ids: id, consumer, how long ago and how often it was delivered.
fn listed(group: &StreamGroup, range: &Range<'_>, now: UnixMillis) -> Vec<Reply> {
    if range.from > range.to {
        return Vec::new();
    }
    let ids = range.from..=range.to;
    let all = group.pending();
    match range.consumer {
        None => told(all.range(ids), range, now),
        Some(name) => match group.consumers().get(name) {
            Some(consumer) => {
                let own = consumer.pending().range(ids);
                told(own.filter_map(|id| all.get_key_value(id)), range, now)
            }
            None => Vec::new(),
        },
    }
}

fn told<'a>(
    found: impl Iterator<Item = (&'a StreamId, &'a Pending)>,
    range: &Range<'_>,
    now: UnixMillis,
) -> Vec<Reply> {
    found
        .map(|(id, pending)| (id, pending, idle_ms(pending.delivered_at, now)))
        .filter(|(_, _, idle_ms)| range.min_idle_ms == 0 || *idle_ms >= range.min_idle_ms)
        .take(range.count)
        .map(|(id, pending, idle_ms)| {
            Reply::Array(vec![
                id_reply(*id),
                Reply::bulk(&pending.consumer),
                Reply::Integer(idle_ms.max(0)),
                Reply::Integer(pending.deliveries as i64),
            ])
        })
        .collect()
}

/// `XPENDING key group [[IDLE min-idle-time] start end count [consumer]]`: what waits for an
/// acknowledgement. O(log N), and O(1) each.
fn xpending(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let range = if args.len() == 3 { None } else { Some(Range::parse(args)?) };
    let stream = stream_at(view, args[1])?;
    let group = stream
        .and_then(|stream| stream.groups.get(args[2]))
        .ok_or_else(|| no_key_or_group(args[1], args[2], ""))?;
    Ok(match range {
        None => summary(group),
        Some(range) => Reply::Array(listed(group, &range, view.now())),
    })
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("xack", -4, Group::Stream, xack)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(Flags::FAST)
        .doc(
            "5.0.0",
            "O(1) for each message ID processed.",
            "key group id [id ...]",
            "Returns the number of messages that were successfully acknowledged by the consumer group member of a stream.",
        ),
    Command::read("xpending", -3, Group::Stream, xpending)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "5.0.0",
            "O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer.",
            "key group [[IDLE min-idle-time] start end count [consumer]]",
            "Returns the information and entries from a stream consumer group's pending entries list.",
        ),
];
