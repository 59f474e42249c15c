//! Lists: one file for each way of using them.
//!
//! Every handler reaches its list through the functions here, which hold what all have in
//! common: the type check, the key that goes with its last element, the encoding that follows
//! each change.

pub mod blocking;
pub mod ends;
pub mod inside;
pub mod moves;
pub mod read;

use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{Record, Value};
use crate::value::Object;
use crate::value::list::{End, List, NodeLimit};

fn list_in(record: &Record) -> Result<&List, CommandError> {
    match record.value() {
        Value::Object(Object::List(list)) => Ok(list),
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// The list at `key`, if there is one.
#[inline]
fn find<'v>(view: &'v View<'_>, key: &[u8]) -> Result<Option<&'v List>, CommandError> {
    view.get(key).map(list_in).transpose()
}

/// Lets `work` change the list at `key`; `None` if there is none. Follows the encoding.
#[inline]
fn change<T>(
    view: &mut View<'_>,
    key: &[u8],
    effects: &mut Effects,
    work: impl FnOnce(&mut List, NodeLimit) -> Result<Edit<T>, CommandError>,
) -> Result<Option<T>, CommandError> {
    let limit = NodeLimit::from(view.limits());
    view.edit(key, effects, |record| match record.object_mut() {
        Some(Object::List(list)) => match work(list, limit) {
            Ok(edit) => edit.map(Ok),
            Err(error) => Edit::Declined(Err(error)),
        },
        _ => Edit::Declined(Err(CommandError::WRONG_TYPE)),
    })
    .transpose()
}

/// Tells of elements removed from the list at `key`, and removes the key with the last.
#[inline]
fn removed(
    view: &mut View<'_>,
    key: &[u8],
    event: &'static str,
    (count, left): (usize, usize),
    effects: &mut Effects,
) {
    effects.changed(count as u64);
    effects.event(EventClass::LIST, event, view.db(), key);
    if left == 0 {
        view.remove(key, effects);
        effects.event(EventClass::GENERIC, "del", view.db(), key);
    }
}

/// Adds elements at one end of the list at `key`, which is made if it is not there; the length
/// it then has.
#[inline]
fn push(
    view: &mut View<'_>,
    key: &[u8],
    end: End,
    elements: &[&[u8]],
    effects: &mut Effects,
) -> Result<usize, CommandError> {
    let fill = |list: &mut List, limit| {
        list.prepare(elements, limit);
        for element in elements {
            list.push(end, element, limit);
        }
        list.len()
    };
    let len = match change(view, key, effects, |list, limit| Ok(Edit::Made(fill(list, limit))))? {
        Some(len) => len,
        None => {
            let mut list = List::default();
            let len = fill(&mut list, NodeLimit::from(view.limits()));
            view.set_object(key, Object::List(list), None, effects);
            len
        }
    };
    effects.event(EventClass::LIST, push_event(end), view.db(), key);
    Ok(len)
}

/// The name of the event of a push at this end.
const fn push_event(end: End) -> &'static str {
    match end {
        End::Left => "lpush",
        End::Right => "rpush",
    }
}

/// `LEFT` or `RIGHT`, in any case.
fn end_of(arg: &[u8]) -> Result<End, CommandError> {
    if arg.eq_ignore_ascii_case(b"left") {
        Ok(End::Left)
    } else if arg.eq_ignore_ascii_case(b"right") {
        Ok(End::Right)
    } else {
        Err(CommandError::SYNTAX)
    }
}

/// The name of the event of a pop at this end.
const fn pop_event(end: End) -> &'static str {
    match end {
        End::Left => "lpop",
        End::Right => "rpop",
    }
}

/// The elements `start` to `stop` (inclusive, negative from the end) of `len`, as the first and
/// how many.
fn range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let absolute = |index: i64| {
        if index < 0 { index.saturating_add(len) } else { index }
    };
    let start = absolute(start).max(0);
    let stop = absolute(stop).min(len - 1);
    if start > stop { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

/// The place of the element at `index` (negative from the end) of `len`, if there is one.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add_unsigned(len as u64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

#[cfg(test)]
mod tests;
