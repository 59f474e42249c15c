//! From list to list, and from the first list that has elements: LMOVE, RPOPLPUSH, LMPOP.

use super::{change, end_of, ends, find, pop_event, push, push_event, removed};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec, options};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::integer_text;
use crate::value::list::End;

/// One end of one list.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListEnd<'a> {
    /// The list's key.
    pub key: &'a [u8],
    /// Which end.
    pub end: End,
}

/// Moves an element from one list's end to another's, which may be the same list's; `None` if
/// there is no list to move from.
pub(super) fn move_element(
    view: &mut View<'_>,
    from: ListEnd<'_>,
    to: ListEnd<'_>,
    effects: &mut Effects,
) -> Result<Option<Reply>, CommandError> {
    if find(view, from.key)?.is_none() {
        return Ok(None);
    }
    let element = if from.key == to.key {
        rotate(view, from, to.end, effects)?
    } else {
        find(view, to.key)?;
        let popped = change(view, from.key, effects, |list, limit| {
            let element = list.pop(from.end, |entry| entry.to_vec());
            list.settle(limit);
            Ok(Edit::Made(element.map(|element| (element, list.len()))))
        })?;
        let Some(Some((element, left))) = popped else {
            return Ok(None);
        };
        push(view, to.key, to.end, &[&element], effects)?;
        removed(view, from.key, pop_event(from.end), (1, left), effects);
        Some(element)
    };
    Ok(element.map(|element| Reply::Bulk(element.into())))
}

/// Moves an element from one end of a list to the other, or to where it was.
fn rotate(
    view: &mut View<'_>,
    from: ListEnd<'_>,
    to: End,
    effects: &mut Effects,
) -> Result<Option<Vec<u8>>, CommandError> {
    let moved = change(view, from.key, effects, |list, limit| {
        let element = list.pop(from.end, |entry| entry.to_vec());
        if let Some(element) = &element {
            list.prepare(&[element], limit);
            list.push(to, element, limit);
            list.settle(limit);
        }
        Ok(Edit::Made(element.map(|element| (element, list.len()))))
    })?;
    Ok(moved.flatten().map(|(element, len)| {
        effects.event(EventClass::LIST, push_event(to), view.db(), from.key);
        removed(view, from.key, pop_event(from.end), (1, len), effects);
        element
    }))
}

/// `LMOVE source destination LEFT|RIGHT LEFT|RIGHT`: the element moved, or nil. O(1).
fn lmove(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let from = ListEnd { key: args[1], end: end_of(args[3])? };
    let to = ListEnd { key: args[2], end: end_of(args[4])? };
    Ok(move_element(view, from, to, effects)?.unwrap_or(Reply::Nil))
}

/// `RPOPLPUSH source destination`: the element moved, or nil. O(1).
fn rpoplpush(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let from = ListEnd { key: args[1], end: End::Right };
    let to = ListEnd { key: args[2], end: End::Left };
    Ok(move_element(view, from, to, effects)?.unwrap_or(Reply::Nil))
}

/// LMPOP's arguments from `numkeys` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct ManyPop<'a> {
    keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> ManyPop<'a> {
    /// Reads `numkeys key [key …] LEFT|RIGHT [COUNT count]`.
    pub(super) fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let positive = |arg: &[u8], error| {
            integer_text(arg)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| *number > 0)
                .ok_or(CommandError::known(error))
        };
        let key_count = positive(args[0], "ERR numkeys should be greater than 0")?;
        let (keys, rest) = args[1..].split_at_checked(key_count).ok_or(CommandError::SYNTAX)?;
        let (end, rest) = rest.split_first().ok_or(CommandError::SYNTAX)?;
        let end = end_of(end)?;
        let count = match rest {
            [] => 1,
            [word, count] if options::is(word, "count") => {
                positive(count, "ERR count should be greater than 0")?
            }
            _ => return Err(CommandError::SYNTAX),
        };
        Ok(Self { keys, end, count })
    }

    /// Takes elements of the first key that holds a list; `None` if none does.
    pub(super) fn run(
        self,
        view: &mut View<'_>,
        effects: &mut Effects,
    ) -> Result<Option<Reply>, CommandError> {
        for key in self.keys {
            if let Some(taken) = take_some(view, key, self.end, self.count, effects)? {
                let reply = vec![Reply::bulk(key), Reply::Bulks(taken)];
                return Ok(Some(Reply::Array(reply)));
            }
        }
        Ok(None)
    }
}

fn take_some(
    view: &mut View<'_>,
    key: &[u8],
    end: End,
    count: usize,
    effects: &mut Effects,
) -> Result<Option<BulkList>, CommandError> {
    let taken = change(view, key, effects, |list, limit| {
        Ok(Edit::Made((ends::take(list, end, count, limit), list.len())))
    })?;
    Ok(taken.map(|(taken, left)| {
        removed(view, key, pop_event(end), (taken.len(), left), effects);
        taken
    }))
}

/// Takes one element of the first of `keys` that holds a list: the key and the element.
pub(super) fn pop_first(
    view: &mut View<'_>,
    keys: Args<'_>,
    end: End,
    effects: &mut Effects,
) -> Result<Option<Reply>, CommandError> {
    for key in keys {
        let popped = change(view, key, effects, |list, limit| {
            let element = list.pop(end, |entry| entry.reply());
            list.settle(limit);
            Ok(Edit::Made((element, list.len())))
        })?;
        if let Some((Some(element), left)) = popped {
            removed(view, key, pop_event(end), (1, left), effects);
            return Ok(Some(Reply::Array(vec![Reply::bulk(key), element])));
        }
    }
    Ok(None)
}

/// `LMPOP numkeys key [key …] LEFT|RIGHT [COUNT count]`: the key and its elements, or nil.
/// O(N+M), N the keys, M the elements.
fn lmpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let pop = ManyPop::parse(&args[1..])?;
    Ok(pop.run(view, effects)?.unwrap_or(Reply::NilArray))
}

/// Where LMOVE and its kin have their keys.
pub(super) const MOVE_KEYS: &[KeySpec] =
    &[KeySpec::one(1, Access::Take), KeySpec::one(2, Access::Insert)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("lmove", 5, Group::List, lmove).keys(MOVE_KEYS).flags(Flags::DENYOOM).doc(
        "6.2.0",
        "O(1)",
        "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.",
    ),
    Command::write("rpoplpush", 3, Group::List, rpoplpush)
        .keys(MOVE_KEYS)
        .flags(Flags::DENYOOM)
        .doc(
            "1.2.0",
            "O(1)",
            "source destination",
            "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.",
        ),
    Command::write("lmpop", -4, Group::List, lmpop)
        .keys(&[KeySpec::counted(1, Access::Take)])
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "7.0.0",
            "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
            "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.",
        ),
];
