//! XCLAIM and XAUTOCLAIM: taking over what was delivered to others.

use super::pending::idle_ms;
use super::{
    bookkeeping_event, edit_group, entry_reply, id_reply, no_key_or_group, range_start, stream_at,
};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::stream::{Entries, Group as StreamGroup, StreamId};

/// An integer with an error of its own.
fn named_integer(text: &[u8], error: &'static str) -> Result<i64, CommandError> {
    integer(text).map_err(|_| CommandError::known(error))
}

/// What XCLAIM's options say.
#[derive(Debug)]
struct Options {
    delivered_at: Option<i64>,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl Options {
    fn parse(args: Args<'_>, now: UnixMillis) -> Result<Self, CommandError> {
        let mut options = Self {
            delivered_at: None,
            deliveries: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
        };
        let mut rest = args;
        while let [option, after @ ..] = rest {
            rest = after;
            if is(option, "FORCE") {
                options.force = true;
                continue;
            }
            if is(option, "JUSTID") {
                options.just_id = true;
                continue;
            }
            let unrecognized = || {
                let option = String::from_utf8_lossy(option);
                CommandError::new(format!("ERR Unrecognized XCLAIM option '{option}'"))
            };
            let [value, after @ ..] = after else { return Err(unrecognized()) };
            rest = after;
            if is(option, "IDLE") {
                let idle_ms = named_integer(value, "ERR Invalid IDLE option argument for XCLAIM")?;
                options.delivered_at = Some(now.0.wrapping_sub(idle_ms));
            } else if is(option, "TIME") {
                let at = named_integer(value, "ERR Invalid TIME option argument for XCLAIM")?;
                options.delivered_at = Some(at);
            } else if is(option, "RETRYCOUNT") {
                let count =
                    named_integer(value, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                options.deliveries = u64::try_from(count).ok();
            } else if is(option, "LASTID") {
                options.last_id = super::strict_id(value, 0)?;
            } else {
                return Err(unrecognized());
            }
        }
        Ok(options)
    }
}

/// One command's claims, and what they changed.
struct Claims<'a> {
    entries: &'a Entries,
    group: &'a mut StreamGroup,
    consumer: &'a [u8],
    min_idle_ms: i64,
    now: UnixMillis,
    just_id: bool,
    replies: Vec<Reply>,
    changes: u64,
    created: bool,
}

/// What became of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It is the consumer's now.
    Taken,
    /// It waited for an entry that is no more, and waits no longer.
    Deleted,
    /// It was left.
    Left,
}

impl<'a> Claims<'a> {
    fn new(
        entries: &'a Entries,
        group: &'a mut StreamGroup,
        (consumer, min_idle_ms): (&'a [u8], i64),
        now: UnixMillis,
    ) -> Self {
        let created = group.create_consumer(consumer, now);
        if let Some(consumer) = group.consumer_mut(consumer) {
            consumer.seen_at = now;
        }
        Self {
            entries,
            group,
            consumer,
            min_idle_ms,
            now,
            just_id: false,
            replies: Vec::new(),
            changes: u64::from(created),
            created,
        }
    }

    /// Takes over one entry, if it waits for long enough, or does not wait and `force` says so.
    fn claim(
        &mut self,
        id: StreamId,
        force: bool,
        delivered_at: UnixMillis,
        deliveries: Option<u64>,
    ) -> Claim {
        let Some(item) = self.entries.get(id) else {
            if !self.group.acknowledge(id) {
                return Claim::Left;
            }
            self.changes += 1;
            return Claim::Deleted;
        };
        let before = match self.group.pending().get(&id) {
            Some(pending) => {
                let idle_ms = idle_ms(pending.delivered_at, self.now);
                if self.min_idle_ms > 0 && idle_ms < self.min_idle_ms {
                    return Claim::Left;
                }
                pending.deliveries
            }
            // As if delivered once to nobody.
            None if force => 1,
            None => return Claim::Left,
        };
        let deliveries =
            deliveries.unwrap_or(if self.just_id { before } else { before.saturating_add(1) });
        self.group.assign(id, self.consumer, delivered_at, deliveries);
        if let Some(consumer) = self.group.consumer_mut(self.consumer) {
            consumer.active_at = Some(self.now);
        }
        self.replies.push(if self.just_id { id_reply(id) } else { entry_reply(item) });
        self.changes += 1;
        Claim::Taken
    }

    fn finish(self) -> Edit<Done> {
        let done = Done { replies: self.replies, created: self.created, changes: self.changes };
        if self.changes > 0 { Edit::Bookkeeping(done) } else { Edit::Declined(done) }
    }
}

/// What a command did.
struct Done {
    replies: Vec<Reply>,
    created: bool,
    changes: u64,
}

impl Done {
    fn tell(self, view: &View<'_>, key: &[u8], effects: &mut Effects) -> Vec<Reply> {
        if self.created {
            bookkeeping_event(view, "xgroup-createconsumer", key, effects);
        }
        effects.changed(self.changes);
        self.replies
    }
}

/// Checks that a group is there.
fn check_group(view: &View<'_>, key: &[u8], group: &[u8]) -> Result<(), CommandError> {
    match stream_at(view, key)? {
        Some(stream) if stream.groups.contains_key(group) => Ok(()),
        _ => Err(no_key_or_group(key, group, "")),
    }
}

/// `XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds]
/// [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]`: the entries that are the consumer's now.
/// O(log N) each.
fn xclaim(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, group, consumer) = (args[1], args[2], args[3]);
    let now = view.now();
    check_group(view, key, group)?;
    let min_idle_ms =
        named_integer(args[4], "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
    let ids: Vec<StreamId> = args[5..].iter().map_while(|id| StreamId::parse(id, 0)).collect();
    let options = Options::parse(&args[5 + ids.len()..], now)?;
    let delivered_at = match options.delivered_at {
        Some(at) if (0..=now.0).contains(&at) => UnixMillis(at),
        _ => now,
    };
    let done = edit_group(view, (key, group), effects, |entries, group| {
        let moves_on = options.last_id > group.last_id;
        if moves_on {
            group.last_id = options.last_id;
        }
        let mut claims = Claims::new(entries, group, (consumer, min_idle_ms), now);
        claims.just_id = options.just_id;
        claims.changes += u64::from(moves_on);
        for id in ids {
            claims.claim(id, options.force, delivered_at, options.deliveries);
        }
        Ok(claims.finish())
    })?;
    let done = done.ok_or_else(|| no_key_or_group(key, group, ""))?;
    Ok(Reply::Array(done.tell(view, key, effects)))
}

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`: where to go on, the
/// entries that are the consumer's now, the ids of those that are no more. O(log N) each.
fn xautoclaim(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    const COUNT: u64 = 100;
    /// As Redis, which makes room for so many ids.
    const COUNT_MAX: u64 = i64::MAX as u64 / 16;
    /// So many are looked at for each that is wanted.
    const ATTEMPTS_FACTOR: u64 = 10;
    let (key, group, consumer) = (args[1], args[2], args[3]);
    let now = view.now();
    let min_idle_ms =
        named_integer(args[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = range_start(args[5])?;
    let (mut count, mut just_id) = (COUNT, false);
    let mut rest = &args[6..];
    while let [option, after @ ..] = rest {
        rest = match after {
            [value, after @ ..] if is(option, "COUNT") => {
                count = integer(value)
                    .ok()
                    .and_then(|count| u64::try_from(count).ok())
                    .filter(|count| (1..=COUNT_MAX).contains(count))
                    .ok_or(CommandError::known("ERR COUNT must be > 0"))?;
                after
            }
            _ if is(option, "JUSTID") => {
                just_id = true;
                after
            }
            _ => return Err(CommandError::SYNTAX),
        };
    }
    check_group(view, key, group)?;
    let done = edit_group(view, (key, group), effects, |entries, group| {
        let mut claims = Claims::new(entries, group, (consumer, min_idle_ms), now);
        claims.just_id = just_id;
        let mut deleted = Vec::new();
        let mut attempts = count.saturating_mul(ATTEMPTS_FACTOR);
        let mut next = Some(start);
        let after = |group: &StreamGroup, from: Option<StreamId>| {
            group.pending().range(from?..).next().map(|(id, _)| *id)
        };
        while count > 0
            && attempts > 0
            && let Some(id) = after(claims.group, next)
        {
            attempts -= 1;
            next = id.next();
            match claims.claim(id, false, now, None) {
                Claim::Taken => count -= 1,
                Claim::Deleted => {
                    deleted.push(id_reply(id));
                    count -= 1;
                }
                Claim::Left => {}
            }
        }
        let cursor = after(claims.group, next).unwrap_or(StreamId::MIN);
        Ok(claims.finish().map(|done| (cursor, done, deleted)))
    })?;
    let (cursor, done, deleted) = done.ok_or_else(|| no_key_or_group(key, group, ""))?;
    let taken = done.tell(view, key, effects);
    Ok(Reply::Array(vec![id_reply(cursor), Reply::Array(taken), Reply::Array(deleted)]))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("xclaim", -6, Group::Stream, xclaim)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(Flags::FAST)
        .doc(
            "5.0.0",
            "O(log N) with N being the number of messages in the PEL of the consumer group.",
            "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
            "Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered a consumer group member.",
        ),
    Command::write("xautoclaim", -6, Group::Stream, xautoclaim)
        .keys(&[KeySpec::one(1, Access::Take)])
        .flags(Flags::FAST)
        .doc(
            "6.2.0",
            "O(1) if COUNT is small.",
            "key group consumer min-idle-time start [COUNT count] [JUSTID]",
            "Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered to as consumer group member.",
        ),
];
