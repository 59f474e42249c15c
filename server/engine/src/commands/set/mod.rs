//! Sets.

pub mod algebra;
pub mod basic;
pub mod random;
pub mod scan;
#[cfg(test)]
mod tests;

use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{Record, Value};
use crate::value::Object;
use crate::value::set::Set;

/// The set that a record holds.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
#[inline]
pub(crate) fn set_of(record: &Record) -> Result<&Set, CommandError> {
    match record.value() {
        Value::Object(Object::Set(set)) => Ok(set),
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// The set at `key`, if there is one.
///
/// # Errors
/// `WRONGTYPE`
#[inline]
fn set_at<'v>(view: &'v View<'_>, key: &[u8]) -> Result<Option<&'v Set>, CommandError> {
    view.get(key).map(set_of).transpose()
}

/// Lets `work` change the set at `key`, if there is one, and says what it returned.
///
/// # Errors
/// `WRONGTYPE`
#[inline]
fn edit_set<T>(
    view: &mut View<'_>,
    key: &[u8],
    effects: &mut Effects,
    work: impl FnOnce(&mut Set) -> Edit<T>,
) -> Result<Option<T>, CommandError> {
    let edited = view.edit(key, effects, |record| match record.object_mut() {
        Some(Object::Set(set)) => work(set).map(Ok),
        _ => Edit::Declined(Err(CommandError::WRONG_TYPE)),
    });
    edited.transpose()
}

/// Removes a key whose collection has become empty, and says so.
pub(crate) fn remove_emptied(view: &mut View<'_>, key: &[u8], effects: &mut Effects) {
    if view.remove(key, effects) {
        effects.event(EventClass::GENERIC, "del", view.db(), key);
    }
}
