//! Leases: LEASE.GRANT, LEASE.RENEW, LEASE.REVOKE, LEASE.INFO.
//!
//! A lease ties keys together, strings and locks of any shard: they live until it ends, and one
//! renewal prolongs them all. Each key's expiry is the lease's, so that nothing but time is needed
//! for them to end. A string belongs to its lease for as long as it has the lease's expiry:
//! another SET, EXPIRE or PERSIST takes it out. Locks know their lease.
//!
//! These commands hold every shard: they are as rare as the processes that hold leases.

use std::collections::BTreeSet;

use super::{find, ttl_of};
use crate::command::options::integer;
use crate::command::{Args, Command, Flags, Group, Scope};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::host::{Grant, GrantKind};
use crate::keyspace::{View, is_lock, locks};
use crate::reply::{CommandResult, Reply};
use crate::time::{DbIndex, UnixMillis};

/// What a command gets that names a lease which is over or never was.
pub(crate) const NO_LEASE: CommandError = CommandError::known("ERR no such lease");
/// What the key after the last gets.
pub(crate) const TOO_MANY_KEYS: CommandError =
    CommandError::known("ERR the lease has too many keys");

/// The number of a lease.
///
/// # Errors
/// Not an integer; `ERR no such lease` for one that cannot be.
pub(crate) fn id_of(arg: &[u8]) -> Result<u64, CommandError> {
    u64::try_from(integer(arg)?).map_err(|_| NO_LEASE)
}

/// When a string set under a lease expires; the key is tied to it.
///
/// # Errors
/// `ERR no such lease`, `ERR the lease has too many keys`
pub(crate) fn tie_string(
    view: &View<'_>,
    key: &[u8],
    id: &[u8],
) -> Result<UnixMillis, CommandError> {
    let id = id_of(id)?;
    let (_, expires_at) = view.locks().lease_times(id, view.now()).ok_or(NO_LEASE)?;
    if !view.locks().tie(id, view.db(), key) {
        return Err(TOO_MANY_KEYS);
    }
    Ok(expires_at)
}

fn number(n: u64) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

/// `LEASE.GRANT ttl-ms`: the number of a new lease. O(shards).
fn grant(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let ttl_ms = ttl_of(args[1], view.now(), "lease.grant")?;
    let token = view.locks().token() + 1;
    view.host().may_grant(Grant { kind: GrantKind::Native, lifetime_ms: ttl_ms, token })?;
    // Numbers come from the tokens' counter, for it never gives one twice.
    let id = view.draw_token();
    if !view.locks().add_lease(id, ttl_ms, view.now()) {
        return Err(CommandError::known("ERR there are too many leases"));
    }
    view.note_write();
    effects.changed(1);
    Ok(number(id))
}

/// The keys that a lease still ties, of those in its table.
fn tied(
    view: &mut View<'_>,
    id: u64,
    keys: BTreeSet<(DbIndex, Box<[u8]>)>,
    expires_at: UnixMillis,
) -> BTreeSet<(DbIndex, Box<[u8]>)> {
    let selected = view.db();
    let now = view.now();
    let mut still = BTreeSet::new();
    for (db, key) in keys {
        view.select(db);
        let belongs = view.peek(&key).is_some_and(|record| match super::lock_in(record) {
            Ok((lock, ends_at)) => lock.holders(ends_at, now).any(|one| one.lease == Some(id)),
            Err(_) => record.expires_at() == Some(expires_at),
        });
        if belongs {
            still.insert((db, key));
        }
    }
    view.select(selected);
    still
}

/// `LEASE.RENEW id`: how long it lives from now, ms; nil if it is over. O(N) in its keys.
fn renew(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (id, now) = (id_of(args[1])?, view.now());
    let Some(lease) = view.locks().lease(id, now) else { return Ok(Reply::Nil) };
    let token = view.locks().token();
    let grant = Grant { kind: GrantKind::Native, lifetime_ms: lease.ttl_ms, token };
    view.host().may_grant(grant)?;
    let expires_at = UnixMillis(now.0.saturating_add(lease.ttl_ms));
    let keys = tied(view, id, lease.keys, lease.expires_at);
    let selected = view.db();
    for (db, key) in &keys {
        view.select(*db);
        if view.peek(key).is_some_and(is_lock) {
            super::change(view, key, effects, |full| full.prolong(id, expires_at));
        } else {
            view.set_expiry(key, Some(expires_at), effects);
        }
    }
    view.select(selected);
    view.locks().renew_lease(id, expires_at, keys);
    view.note_write();
    effects.changed(1);
    Ok(Reply::Integer(lease.ttl_ms))
}

/// `LEASE.REVOKE id`: 1, or 0 if it is over; its keys go at once, without lock-delay. O(N) in its
/// keys.
fn revoke(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (id, now) = (id_of(args[1])?, view.now());
    let Some(lease) = view.locks().lease(id, now) else { return Ok(Reply::Integer(0)) };
    let selected = view.db();
    for (db, key) in tied(view, id, lease.keys, lease.expires_at) {
        view.select(db);
        let Ok(lock) = find(view, &key) else {
            view.remove(&key, effects);
            effects.event(EventClass::GENERIC, "del", db, &key);
            continue;
        };
        let held = lock.map_or(0, |(lock, ends_at)| {
            lock.holders(ends_at, now).filter(|one| one.lease == Some(id)).count()
        });
        super::change(view, &key, effects, |full| full.revoke(id));
        locks::count(&view.locks().counts.released, held);
        for _ in 0..held {
            effects.event(EventClass::LOCK, "lock.released", db, &key);
        }
        super::wake(view, &key, effects);
    }
    view.select(selected);
    view.locks().remove_lease(id);
    view.note_write();
    effects.changed(1);
    Ok(Reply::Integer(1))
}

/// `LEASE.INFO id`: its time to live, what is left of it, and its keys; nil if it is over. O(N) in
/// its keys.
fn info(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (id, now) = (id_of(args[1])?, view.now());
    let Some(lease) = view.locks().lease(id, now) else { return Ok(Reply::NilArray) };
    let key = |(db, key): &(DbIndex, Box<[u8]>)| {
        Reply::Array(vec![number(db.0.into()), Reply::bulk(key)])
    };
    Ok(Reply::Map(vec![
        (Reply::bulk(b"ttl"), Reply::Integer(lease.ttl_ms)),
        (Reply::bulk(b"pttl"), Reply::Integer(lease.expires_at.ms_since(now))),
        (Reply::bulk(b"keys"), Reply::Array(lease.keys.iter().map(key).collect())),
    ]))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("lease.grant", 2, Group::Lock, grant)
        .scope(Scope::All)
        .flags(Flags::DENYOOM)
        .doc(
            "holdfast 0.1",
            "O(1)",
            "ttl-ms",
            "Makes a lease, which ties keys to one another and to whoever renews it.",
        )
        .differs("Holdfast's own."),
    Command::write("lease.renew", 2, Group::Lock, renew)
        .scope(Scope::All)
        .doc(
            "holdfast 0.1",
            "O(N) where N is the number of its keys.",
            "id",
            "Prolongs a lease and all of its keys.",
        )
        .differs("Holdfast's own."),
    Command::write("lease.revoke", 2, Group::Lock, revoke)
        .scope(Scope::All)
        .doc(
            "holdfast 0.1",
            "O(N) where N is the number of its keys.",
            "id",
            "Ends a lease, and its keys with it.",
        )
        .differs("Holdfast's own."),
    Command::read("lease.info", 2, Group::Lock, info)
        .scope(Scope::Free)
        .doc(
            "holdfast 0.1",
            "O(N) where N is the number of its keys.",
            "id",
            "Tells how long a lease lives and which keys it ties.",
        )
        .differs("Holdfast's own."),
];
