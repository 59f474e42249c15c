//! What a holder does: LOCK.RENEW, LOCK.RELEASE, LOCK.CHECK.

use super::{LOCK_KEY, change, find, owner_of, token_of, ttl_of, wake};
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::host::{Grant, GrantKind};
use crate::keyspace::{View, locks};
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;
use crate::value::lock::Lock;

/// What a token gets that is not, or no longer, a holder's.
pub const FENCED: CommandError =
    CommandError::known("FENCED the token is not that of a holder of the lock");
const OLD_FENCE: CommandError =
    CommandError::known("FENCED the lock was granted under a greater token");

/// `LOCK.RENEW key owner ttl-ms [FENCE token]`: the token, or nil if the lock is lost. O(log N) in
/// the holders.
///
/// It never brings back what was lost. With FENCE, which must be no less than the token the owner
/// has, the owner's token becomes that one and every later grant's is greater: the second phase of
/// taking a lock on several independent servers.
fn renew(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, owner, now) = (args[1], owner_of(args[2])?, view.now());
    let ttl_ms = ttl_of(args[3], now, "lock.renew")?;
    let fence = match &args[4..] {
        [] => None,
        [word, token] if is(word, "FENCE") => Some(token_of(token)?),
        _ => return Err(CommandError::SYNTAX),
    };
    let Some((lock, ends_at)) = find(view, key)? else { return Ok(Reply::Nil) };
    let Some(holder) = lock.find(owner, ends_at, now) else { return Ok(Reply::Nil) };
    if holder.lease.is_some() {
        return Err(CommandError::known("ERR the lock depends on a lease: use LEASE.RENEW"));
    }
    let token = fence.unwrap_or(holder.token);
    if token < holder.token {
        return Err(OLD_FENCE);
    }
    let lifetime_ms = ttl_ms.saturating_add(holder.delay_ms);
    let sooner = now.0.saturating_add(ttl_ms) < holder.expires_at.0;
    let (is_short, same) = (matches!(lock, Lock::Short(_)), token == holder.token);
    view.host().may_grant(Grant { kind: GrantKind::Native, lifetime_ms, token })?;
    let expires_at = UnixMillis(now.0.saturating_add(ttl_ms));
    if is_short && same {
        view.set_expiry(key, Some(expires_at), effects);
    } else {
        change(view, key, effects, |full| {
            if let Some(hold) = full.find_mut(owner) {
                (hold.expires_at, hold.token) = (expires_at, token);
            }
        });
    }
    if fence.is_some() {
        view.locks().raise_token(token);
    }
    if sooner {
        wake(view, key, effects);
    }
    effects.changed(1);
    Ok(Reply::Integer(token as i64))
}

/// `LOCK.RELEASE key owner [token]`: 1, or 0 if this owner (under this token) does not hold it.
/// O(log N) in the holders.
fn release(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, owner, now) = (args[1], owner_of(args[2])?, view.now());
    let token = match &args[3..] {
        [] => None,
        [token] => Some(token_of(token)?),
        _ => return Err(CommandError::SYNTAX),
    };
    let Some((lock, ends_at)) = find(view, key)? else { return Ok(Reply::Integer(0)) };
    let Some(holder) = lock.find(owner, ends_at, now) else { return Ok(Reply::Integer(0)) };
    if token.is_some_and(|token| token != holder.token) {
        return Ok(Reply::Integer(0));
    }
    if let Some(lease) = holder.lease {
        view.locks().untie(lease, view.db(), key);
    }
    match lock {
        Lock::Short(_) => {
            view.remove(key, effects);
        }
        Lock::Full(_) => {
            super::purge(view, key, effects);
            change(view, key, effects, |full| full.remove(owner));
            wake(view, key, effects);
        }
    }
    locks::count(&view.locks().counts.released, 1);
    effects.changed(1);
    effects.event(EventClass::LOCK, "lock.released", view.db(), key);
    Ok(Reply::Integer(1))
}

/// `LOCK.CHECK key token`: OK if this is the token of a holder. O(N) in the holders.
///
/// Inside MULTI it is a condition, as WATCH: if it fails, EXEC answers nil and nothing ran.
fn check(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let token = token_of(args[2])?;
    let (lock, expires_at) = find(view, args[1])?.ok_or(FENCED)?;
    if lock.holders(expires_at, view.now()).any(|holder| holder.token == token) {
        return Ok(Reply::Ok);
    }
    Err(FENCED)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("lock.renew", -4, Group::Lock, renew)
        .keys(LOCK_KEY)
        .flags(Flags::FAST)
        .doc(
            "holdfast 0.1",
            "O(log(N)) where N is the number of holders.",
            "key owner ttl-ms [FENCE token]",
            "Prolongs a hold of a lock, if it is not lost.",
        )
        .differs("Holdfast's own."),
    Command::write("lock.release", -3, Group::Lock, release)
        .keys(&[KeySpec::one(1, Access::Remove)])
        .flags(Flags::FAST)
        .doc(
            "holdfast 0.1",
            "O(log(N)) where N is the number of holders.",
            "key owner [token]",
            "Gives a lock back; the next client that waits for it has it.",
        )
        .differs("Holdfast's own."),
    Command::read("lock.check", 3, Group::Lock, check)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST.with(Flags::CONDITION))
        .doc(
            "holdfast 0.1",
            "O(N) where N is the number of holders.",
            "key token",
            "Checks that a token is that of a holder of the lock. A condition inside MULTI.",
        )
        .differs("Holdfast's own."),
];
