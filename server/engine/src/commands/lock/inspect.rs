//! Who holds and who waits: LOCK.INFO, LOCK.LIST.

use super::{find, lock_in};
use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec, Scope};
use crate::commands::keys::browse::{matches, parse_cursor};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::glob::Glob;
use crate::value::lock::{Holder, Lock, Mode};

/// How many keys LOCK.LIST visits unless told.
const LIST_COUNT: usize = 10;

type Fields = Vec<(Reply, Reply)>;

fn field(name: &str, value: Reply) -> (Reply, Reply) {
    (Reply::bulk(name.as_bytes()), value)
}

fn number(n: u64) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn holder(holder: Holder<'_>, now: UnixMillis) -> Reply {
    let mut fields = vec![
        field("owner", Reply::bulk(holder.owner)),
        field("token", number(holder.token)),
        field("pttl", Reply::Integer(holder.expires_at.ms_since(now))),
        field("permits", number(holder.permits.into())),
    ];
    if let Some(lease) = holder.lease {
        fields.push(field("lease", number(lease)));
    }
    if holder.delay_ms > 0 {
        fields.push(field("delay", Reply::Integer(holder.delay_ms)));
    }
    if let Some(data) = holder.data {
        fields.push(field("data", Reply::bulk(data)));
    }
    Reply::Map(fields)
}

/// Everything about a lock.
fn describe(view: &View<'_>, key: &[u8], lock: Lock<'_>, ends_at: UnixMillis) -> Fields {
    let now = view.now();
    let mut fields = vec![field("mode", Reply::bulk(lock.mode().name().as_bytes()))];
    if let Mode::Permits(limit) = lock.mode() {
        fields.push(field("limit", number(limit.into())));
    }
    let mut holders: Vec<Holder<'_>> = lock.holders(ends_at, now).collect();
    // In the order in which they came.
    holders.sort_unstable_by_key(|holder| holder.token);
    let holders = holders.into_iter().map(|one| holder(one, now)).collect();
    fields.push(field("holders", Reply::Array(holders)));
    fields.push(field("remaining", Reply::Integer(ends_at.ms_since(now))));
    if let Lock::Full(full) = lock
        && let Some(until) = full.delayed_until(now)
    {
        fields.push(field("delayed", Reply::Integer(until.ms_since(now))));
    }
    let waiters = view.host().lock_waiters(view.db(), key);
    let waiter = |one: &crate::host::LockWaiter| {
        Reply::Map(vec![
            field("owner", Reply::bulk(&one.owner)),
            field("client", number(one.client_id)),
            field("waited", number(one.waited_ms)),
        ])
    };
    fields.push(field("waiters", Reply::Array(waiters.iter().map(waiter).collect())));
    fields
}

/// `LOCK.INFO key`: mode, holders with their tokens, remaining ms and those who wait; nil if there
/// is no lock. O(N) in holders and waiters.
fn info(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let key = args[1];
    let Some((lock, ends_at)) = find(view, key)? else { return Ok(Reply::NilArray) };
    Ok(Reply::Map(describe(view, key, lock, ends_at)))
}

/// `LOCK.LIST cursor [MATCH pattern] [COUNT count]`: the next cursor, 0 at the end, and some locks,
/// each as LOCK.INFO tells it after its key. O(1) a call, O(N) a whole iteration.
///
/// COUNT is how many keys of any type are visited, as with SCAN … TYPE.
fn list(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args[1])?;
    let (mut pattern, mut count) = (None, LIST_COUNT);
    let mut options = Options::after(args, 2);
    while let Some(option) = options.next() {
        let value = options.value()?;
        if is(option, "COUNT") {
            count = usize::try_from(integer(value)?)
                .ok()
                .filter(|count| *count > 0)
                .ok_or(CommandError::SYNTAX)?;
        } else if is(option, "MATCH") {
            pattern = Some(Glob::new(value));
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    let mut found = Vec::new();
    let next = view.scan(cursor, count, |record| {
        let key = record.key();
        if pattern.as_ref().is_none_or(|pattern| matches(pattern, key))
            && let Ok((lock, ends_at)) = lock_in(record)
        {
            let mut fields = vec![field("key", Reply::bulk(key))];
            fields.extend(describe(view, key, lock, ends_at));
            found.push(Reply::Map(fields));
        }
    });
    let next = Reply::bulk(itoa::Buffer::new().format(next.0).as_bytes());
    Ok(Reply::Array(vec![next, Reply::Array(found)]))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("lock.info", 2, Group::Lock, info)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "holdfast 0.1",
            "O(N) where N is the number of holders and waiting clients.",
            "key",
            "Tells who holds a lock, under which tokens and until when, and who waits for it.",
        )
        .differs("Holdfast's own."),
    Command::read("lock.list", -2, Group::Lock, list)
        .scope(Scope::Free)
        .flags(Flags::UNORDERED)
        .doc(
            "holdfast 0.1",
            "O(1) for every call. O(N) for a complete iteration, N being the number of keys.",
            "cursor [MATCH pattern] [COUNT count]",
            "Iterates over the locks of the database.",
        )
        .differs("Holdfast's own."),
];
