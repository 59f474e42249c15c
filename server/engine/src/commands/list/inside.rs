//! Changing a list elsewhere than at its ends: LSET, LINSERT, LREM, LTRIM.

use super::{change, place, range, removed};
use crate::command::options::{self, integer};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::value::list::{Beside, End};

/// `LSET key index element`: OK. O(S), S the nodes skipped.
fn lset(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let done = change(view, args[1], effects, |list, limit| {
        // As in Redis, a key that is not there comes before an index that is none.
        let place = place(integer(args[2])?, list.len()).ok_or(CommandError::INDEX_OUT_OF_RANGE)?;
        list.prepare(&args[3..4], limit);
        list.set(place, args[3], limit);
        list.settle(limit);
        Ok(Edit::Made(()))
    })?;
    done.ok_or(CommandError::NO_SUCH_KEY)?;
    effects.changed(1);
    effects.event(EventClass::LIST, "lset", view.db(), args[1]);
    Ok(Reply::Ok)
}

/// `LINSERT key BEFORE|AFTER pivot element`: the length; -1 without the pivot, 0 without the
/// list. O(N).
fn linsert(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let side = if options::is(args[2], "after") {
        Beside::After
    } else if options::is(args[2], "before") {
        Beside::Before
    } else {
        return Err(CommandError::SYNTAX);
    };
    let inserted = change(view, args[1], effects, |list, limit| {
        // As in Redis, the encoding makes room even if the pivot is then not found.
        list.prepare(&args[4..5], limit);
        Ok(if list.insert_beside(side, args[3], args[4], limit) {
            Edit::Made(Some(list.len()))
        } else {
            Edit::Declined(None)
        })
    })?;
    Ok(match inserted {
        None => Reply::Integer(0),
        Some(None) => Reply::Integer(-1),
        Some(Some(len)) => {
            effects.changed(1);
            effects.event(EventClass::LIST, "linsert", view.db(), args[1]);
            Reply::count(len)
        }
    })
}

/// `LREM key count element`: how many were removed; a negative count begins at the end, 0 means
/// all. O(N).
fn lrem(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let count = integer(args[2])?;
    if count == i64::MIN {
        return Err(CommandError::known(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let end = if count < 0 { End::Right } else { End::Left };
    let most = match usize::try_from(count.unsigned_abs()) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(count) => count,
    };
    let done = change(view, args[1], effects, |list, limit| {
        let gone = list.remove(end, args[3], most);
        if gone == 0 {
            return Ok(Edit::Declined((0, list.len())));
        }
        list.settle(limit);
        Ok(Edit::Made((gone, list.len())))
    })?;
    Ok(match done {
        None | Some((0, _)) => Reply::Integer(0),
        Some((gone, left)) => {
            removed(view, args[1], "lrem", (gone, left), effects);
            Reply::count(gone)
        }
    })
}

/// `LTRIM key start stop`: OK; only start to stop stay. O(N), N the elements removed.
fn ltrim(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let done = change(view, args[1], effects, |list, limit| {
        let len = list.len();
        let (first, count) = range(start, stop, len);
        let gone = len - count;
        if count > 0 {
            list.remove_range(first + count, len - first - count);
            list.remove_range(0, first);
            list.settle(limit);
        }
        Ok(Edit::Made((gone, count)))
    })?;
    if let Some((gone, left)) = done {
        removed(view, args[1], "ltrim", (gone, left), effects);
    }
    Ok(Reply::Ok)
}

const REMOVE: &[KeySpec] = &[KeySpec::one(1, Access::Remove)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("lset", 4, Group::List, lset)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.0",
            "O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).",
            "key index element",
            "Sets the value of an element in a list by its index.",
        ),
    Command::write("linsert", 5, Group::List, linsert)
        .keys(&[KeySpec::one(1, Access::Insert)])
        .flags(Flags::DENYOOM)
        .doc(
            "2.2.0",
            "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end (tail) is O(N).",
            "key <BEFORE | AFTER> pivot element",
            "Inserts an element before or after another element in a list.",
        ),
    Command::write("lrem", 4, Group::List, lrem).keys(REMOVE).doc(
        "1.0.0",
        "O(N+M) where N is the length of the list and M is the number of elements removed.",
        "key count element",
        "Removes elements from a list. Deletes the list if the last element was removed.",
    ),
    Command::write("ltrim", 4, Group::List, ltrim).keys(REMOVE).doc(
        "1.0.0",
        "O(N) where N is the number of elements to be removed by the operation.",
        "key start stop",
        "Removes elements from both ends a list. Deletes the list if all elements were trimmed.",
    ),
];
