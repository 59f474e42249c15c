//! Hashes: one file for each way of using them.
//!
//! Every handler reaches its hash through the functions here, which hold what all have in
//! common: the type check, fields that have expired, the key that goes with its last field and
//! the record's expiry, which follows those of the fields.

pub mod counter;
pub mod expire;
pub mod fields;
pub mod lifetime;
pub mod whole;

use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{Record, Value};
use crate::time::UnixMillis;
use crate::value::Object;
use crate::value::hash::{Hash, HashLimits};

fn hash_in(record: &Record) -> Result<&Hash, CommandError> {
    match record.value() {
        Value::Object(Object::Hash(hash)) => Ok(hash),
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// The hash at `key`, if there is one.
#[inline]
fn find<'v>(view: &'v View<'_>, key: &[u8]) -> Result<Option<&'v Hash>, CommandError> {
    view.get(key).map(hash_in).transpose()
}

/// A hash that a command may change.
///
/// Fields that have expired are removed only once it is certain that the command changes
/// something: a command that changes nothing must leave no trace, or a journal that passes over
/// it would rebuild the fields in another order.
struct Draft<'h> {
    hash: &'h mut Hash,
    now: UnixMillis,
    limits: HashLimits,
    expired: usize,
}

impl Draft<'_> {
    /// The hash, rid of what has expired; to be called only by whoever then changes it.
    #[inline]
    fn swept(&mut self) -> &mut Hash {
        self.expired += self.hash.remove_expired(self.now);
        self.hash
    }
}

/// What is left to do once the hash has been changed.
#[derive(Default)]
struct Rest {
    expired: usize,
    emptied: bool,
    /// The key's own expiry, if the record's may now have to be another.
    own_expiry: Option<Option<UnixMillis>>,
}

/// Lets `work` change the hash at `key`; `None` if there is none. Afterwards `event` is told,
/// if there is one, and the key goes if no field is left.
#[inline]
fn change<T>(
    view: &mut View<'_>,
    key: &[u8],
    event: Option<&'static str>,
    effects: &mut Effects,
    work: impl FnOnce(&mut Draft<'_>) -> Result<Edit<T>, CommandError>,
) -> Result<Option<T>, CommandError> {
    let (now, limits) = (view.now(), HashLimits::from(view.limits()));
    let mut rest = None;
    let result = view.edit(key, effects, |record| {
        let in_record = record.expires_at();
        let Some(Object::Hash(hash)) = record.object_mut() else {
            return Edit::Declined(Err(CommandError::WRONG_TYPE));
        };
        let mut draft = Draft { hash, now, limits, expired: 0 };
        match work(&mut draft) {
            Ok(Edit::Made(result)) => {
                let (hash, expired) = (&*draft.hash, draft.expired);
                rest = Some(Rest {
                    expired,
                    emptied: hash.stored_len() == 0,
                    own_expiry: hash.may_shadow_expiry().then(|| hash.own_expiry(in_record)),
                });
                Edit::Made(Ok(result))
            }
            Ok(unchanged) => unchanged.map(Ok),
            Err(error) => Edit::Declined(Err(error)),
        }
    });
    if let Some(rest) = rest {
        finish(view, key, event, rest, effects);
    }
    result.transpose()
}

#[inline]
fn finish(
    view: &mut View<'_>,
    key: &[u8],
    event: Option<&'static str>,
    rest: Rest,
    effects: &mut Effects,
) {
    let db = view.db();
    if rest.expired > 0 {
        effects.event(EventClass::HASH, "hexpired", db, key);
    }
    if let Some(event) = event {
        effects.event(EventClass::HASH, event, db, key);
    }
    if rest.emptied {
        view.remove(key, effects);
        effects.event(EventClass::GENERIC, "del", db, key);
    } else if let Some(own) = rest.own_expiry {
        view.set_expiry(key, own, effects);
    }
}

/// As [`change`], but on a new hash if there is none; `work` always adds a field then.
#[inline]
fn change_or_create<T>(
    view: &mut View<'_>,
    key: &[u8],
    event: &'static str,
    effects: &mut Effects,
    work: impl Fn(&mut Draft<'_>) -> Result<Edit<T>, CommandError>,
) -> Result<T, CommandError> {
    if let Some(result) = change(view, key, Some(event), effects, &work)? {
        return Ok(result);
    }
    let mut hash = Hash::default();
    let (now, limits) = (view.now(), HashLimits::from(view.limits()));
    let mut draft = Draft { hash: &mut hash, now, limits, expired: 0 };
    let result = work(&mut draft)?.into_result();
    if hash.stored_len() > 0 {
        let expires_at = hash.settle_expiry(None);
        view.set_object(key, Object::Hash(hash), expires_at, effects);
        effects.event(EventClass::HASH, event, view.db(), key);
    }
    Ok(result)
}

#[cfg(test)]
mod tests;
