//! Sorted sets.

pub mod add;
pub mod algebra;
mod bounds;
pub mod lookup;
pub mod pop;
pub mod random;
pub mod range;
pub mod remove;
pub mod scan;
#[cfg(test)]
mod tests;

use crate::command::options::integer;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{Record, Value};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::Object;
use crate::value::listpack::Entry;
use crate::value::sorted_set::{Direction, SortedSet};

/// The sorted set that a record holds.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
#[inline]
fn sorted_set_of(record: &Record) -> Result<&SortedSet, CommandError> {
    match record.value() {
        Value::Object(Object::SortedSet(set)) => Ok(set),
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// The sorted set at `key`, if there is one.
///
/// # Errors
/// `WRONGTYPE`
#[inline]
pub(in crate::commands) fn sorted_set_at<'v>(
    view: &'v View<'_>,
    key: &[u8],
) -> Result<Option<&'v SortedSet>, CommandError> {
    view.get(key).map(sorted_set_of).transpose()
}

/// Lets `work` change the sorted set at `key`, if there is one, and says what it returned.
///
/// # Errors
/// `WRONGTYPE`, or what `work` failed with; it must not have changed anything then.
#[inline]
fn edit_sorted_set<T>(
    view: &mut View<'_>,
    key: &[u8],
    effects: &mut Effects,
    work: impl FnOnce(&mut SortedSet) -> Result<Edit<T>, CommandError>,
) -> Result<Option<T>, CommandError> {
    let edited = view.edit(key, effects, |record| match record.object_mut() {
        Some(Object::SortedSet(set)) => match work(set) {
            Ok(edit) => edit.map(Ok),
            Err(error) => Edit::Declined(Err(error)),
        },
        _ => Edit::Declined(Err(CommandError::WRONG_TYPE)),
    });
    edited.transpose()
}

/// Puts a result in the place of whatever `key` held, or removes the key if it is empty.
fn store(
    view: &mut View<'_>,
    key: &[u8],
    result: SortedSet,
    event: &'static str,
    effects: &mut Effects,
) -> CommandResult {
    store_counted(view, key, result, event, 1, effects)
}

/// As [`store`]; what is stored counts as so many changes.
pub(in crate::commands) fn store_counted(
    view: &mut View<'_>,
    key: &[u8],
    result: SortedSet,
    event: &'static str,
    changes: usize,
    effects: &mut Effects,
) -> CommandResult {
    let len = result.len();
    crate::commands::lock::spare_lock(view, key)?;
    if len > 0 {
        let was_there = view.peek(key).is_some();
        view.set_object(key, Object::SortedSet(result), None, effects);
        // A new key says so itself; one of another type may be waited for as well.
        if was_there && view.host().has_blocked_clients() {
            effects.ready(view.db(), key);
        }
        effects.event(EventClass::SORTED_SET, event, view.db(), key);
        effects.changed(changes as u64);
    } else if view.peek(key).is_some() {
        super::set::remove_emptied(view, key, effects);
        effects.changed(1);
    }
    Ok(Reply::count(len))
}

/// A run of elements: `count` of them from rank `start` on in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: usize,
    count: usize,
    direction: Direction,
}

impl Run {
    const NONE: Self = Self { start: 0, count: 0, direction: Direction::Ascending };

    /// The elements of ranks `start..end`, seen from the end that `direction` begins at, cut to
    /// what LIMIT's offset and count leave; a negative count means all.
    fn cut(ranks: (usize, usize), direction: Direction, offset: i64, limit: i64) -> Self {
        let (start, end) = ranks;
        let len = end.saturating_sub(start);
        let Some(offset) = usize::try_from(offset).ok().filter(|offset| *offset < len) else {
            return Self::NONE;
        };
        let count = usize::try_from(limit).unwrap_or(len).min(len - offset);
        Self {
            start: match direction {
                Direction::Ascending => start + offset,
                Direction::Descending => end - 1 - offset,
            },
            count,
            direction,
        }
    }

    /// The elements between two indices as ZRANGE takes them: the last included, negative ones
    /// counted from the end, seen from the end that `direction` begins at.
    fn between(first: i64, last: i64, len: usize, direction: Direction) -> Self {
        let signed = i64::try_from(len).unwrap_or(i64::MAX);
        let from_end = |index: i64| if index < 0 { index + signed } else { index };
        let first = from_end(first).max(0);
        let last = from_end(last).min(signed - 1);
        if first > last {
            return Self::NONE;
        }
        let (first, count) = (first as usize, (last - first + 1) as usize);
        Self {
            start: match direction {
                Direction::Ascending => first,
                Direction::Descending => len - 1 - first,
            },
            count,
            direction,
        }
    }

    fn visit(self, set: &SortedSet, found: impl FnMut(Entry<'_>, f64)) {
        set.visit(self.start, self.count, self.direction, found);
    }

    /// The members of the run.
    fn members(self, set: &SortedSet) -> Reply {
        let mut list = BulkList::with_capacity(self.count, 16);
        self.visit(set, |member, _| member.push_to(&mut list));
        Reply::Bulks(list)
    }

    /// The members of the run with their scores.
    fn pairs(self, set: &SortedSet) -> Reply {
        let mut pairs = Vec::with_capacity(self.count);
        self.visit(set, |member, score| {
            pairs.push((member.reply(), Reply::Double(score)));
        });
        Reply::Pairs(pairs)
    }
}

/// The number of keys in front of them, for the pops: at least one.
///
/// # Errors
/// `ERR numkeys should be greater than 0`, also for what is no integer.
fn positive(text: &[u8], error: &'static str) -> Result<usize, CommandError> {
    integer(text)
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(CommandError::known(error))
}
