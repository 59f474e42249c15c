//! Locks: taking, keeping and giving them back; leases; who holds and who waits.
//!
//! Every handler is a pure function of the state and the proposal, as all are: a lock expires by
//! the proposal's time, its token comes from a counter that is part of the state. Nobody waits
//! here. LOCK.ACQUIRE that finds the lock taken says so in the effects, with the time when it is
//! worth another look; the server parks the client in the lock's queue and runs the command again
//! when the lock has been given back, the one at the head alone.

pub mod acquire;
pub mod hold;
pub mod inspect;
pub mod lease;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use crate::command::options::integer;
use crate::command::{Access, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View, is_lock, locks};
use crate::raw::{Record, Value};
use crate::time::UnixMillis;
use crate::value::lock::{self, Full, Lock};

/// Longest owner, bytes: a name, not a message.
const OWNER_LEN_MAX: usize = 1024;
/// Longest data, bytes.
const DATA_LEN_MAX: usize = 4096;

const LOCK_KEY: &[KeySpec] = &[KeySpec::one(1, Access::Update)];

/// Leaves a lock alone: for commands that would replace, move or remove whatever a key holds.
///
/// # Errors
/// `WRONGTYPE` if it holds a lock.
pub(crate) fn spare_lock(view: &View<'_>, key: &[u8]) -> Result<(), CommandError> {
    if lock::count() > 0 && view.peek(key).is_some_and(is_lock) {
        return Err(CommandError::WRONG_TYPE);
    }
    Ok(())
}

/// Tells of a lock that DEL is about to end.
pub(crate) fn break_lock(view: &View<'_>, key: &[u8], effects: &mut Effects) {
    if lock::count() > 0 && view.peek(key).is_some_and(is_lock) {
        locks::count(&view.locks().counts.broken, 1);
        effects.event(EventClass::LOCK, "lock.broken", view.db(), key);
    }
}

/// The lock in a record and the record's expiry.
fn lock_in(record: &Record) -> Result<(Lock<'_>, UnixMillis), CommandError> {
    let Value::Object(object) = record.value() else { return Err(CommandError::WRONG_TYPE) };
    let lock = Lock::of(object).ok_or(CommandError::WRONG_TYPE)?;
    Ok((lock, record.expires_at().unwrap_or(UnixMillis(i64::MAX))))
}

/// Until when a record keeps every newcomer from a lock, unless something touches it; the inner
/// `None` is for ever. `None` if it may be open, which only trying tells.
#[must_use]
pub fn closed_until(record: &Record, now: UnixMillis) -> Option<Option<UnixMillis>> {
    match lock_in(record) {
        // A plain key is a lock of somebody else's making.
        Err(_) => Some(record.expires_at()),
        Ok((Lock::Full(full), _)) => {
            let alone = full.mode() == lock::Mode::Exclusive;
            let until = full.next_change(now).filter(|until| alone && *until > now);
            until.map(Some)
        }
        Ok((_, expires_at)) => Some(Some(expires_at)),
    }
}

/// Whether somebody who waits may be granted the lock once `owner` has released it.
#[must_use]
pub fn may_open(record: &Record, owner: &[u8], now: UnixMillis) -> bool {
    let Ok((lock, ends_at)) = lock_in(record) else { return false };
    let permits = matches!(lock.mode(), lock::Mode::Permits { .. });
    lock.find(owner, ends_at, now).is_some()
        && (permits || lock.holders(ends_at, now).nth(1).is_none())
}

/// The lock at `key`, if there is one, and its record's expiry.
fn find<'v>(
    view: &'v View<'_>,
    key: &[u8],
) -> Result<Option<(Lock<'v>, UnixMillis)>, CommandError> {
    view.peek(key).map(lock_in).transpose()
}

/// Lets `work` change the lock at `key` in its full form, and then what follows from it: the
/// record's expiry, or its removal. `None` if there is no lock.
fn change<T>(
    view: &mut View<'_>,
    key: &[u8],
    effects: &mut Effects,
    work: impl FnOnce(&mut Full) -> T,
) -> Option<T> {
    let now = view.now();
    let (result, ends_at, over) = view.edit(key, effects, |record| {
        let expires_at = record.expires_at().unwrap_or(UnixMillis(i64::MAX));
        match record.object_mut().and_then(|object| lock::full_mut(object, expires_at)) {
            Some(full) => {
                let result = work(full);
                Edit::Made(Some((result, full.ends_at(), full.is_over(now))))
            }
            None => Edit::Declined(None),
        }
    })??;
    if over {
        view.remove(key, effects);
    } else {
        view.set_expiry(key, Some(ends_at), effects);
    }
    Some(result)
}

/// Removes the holders of a lock that have expired, and tells of them.
fn purge(view: &mut View<'_>, key: &[u8], effects: &mut Effects) {
    let (now, db) = (view.now(), view.db());
    let purged = view.edit(key, effects, |record| match record.object_mut() {
        // The holders change, but nobody could see those that went.
        Some(crate::value::Object::Lock(full)) => Edit::Declined(full.purge(now)),
        _ => Edit::Declined(0),
    });
    let purged = purged.unwrap_or(0);
    locks::count(&view.locks().counts.expired, purged);
    for _ in 0..purged {
        effects.event(EventClass::LOCK, "lock.expired", db, key);
    }
}

/// Tells waiting clients that the lock changed.
fn wake(view: &View<'_>, key: &[u8], effects: &mut Effects) {
    if view.host().has_lock_waiters() {
        effects.ready(view.db(), key);
    }
}

/// A time to live in ms from now.
fn ttl_of(arg: &[u8], now: UnixMillis, command: &str) -> Result<i64, CommandError> {
    let ttl_ms = integer(arg)?;
    if ttl_ms <= 0 || now.checked_add_ms(ttl_ms).is_none() {
        return Err(CommandError::invalid_expire(command));
    }
    Ok(ttl_ms)
}

/// The bytes that name an acquisition.
fn owner_of(arg: &[u8]) -> Result<&[u8], CommandError> {
    if arg.is_empty() || arg.len() > OWNER_LEN_MAX {
        return Err(CommandError::known("ERR owner must be 1 to 1024 bytes"));
    }
    Ok(arg)
}

/// A fencing token.
fn token_of(arg: &[u8]) -> Result<u64, CommandError> {
    let token = integer(arg)?;
    u64::try_from(token)
        .ok()
        .filter(|token| *token <= locks::TOKEN_MAX)
        .ok_or(CommandError::known("ERR token is out of range"))
}
