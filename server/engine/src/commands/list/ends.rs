//! Pushes and pops at the ends, and the length.

use super::{change, find, pop_event, push, removed};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::integer_text;
use crate::value::list::{End, List, NodeLimit};

fn push_all(view: &mut View<'_>, args: Args<'_>, end: End, effects: &mut Effects) -> CommandResult {
    let len = push(view, args[1], end, &args[2..], effects)?;
    effects.changed(args.len() as u64 - 2);
    Ok(Reply::count(len))
}

/// `LPUSH key element [element …]`: the length. O(1) per element.
fn lpush(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    push_all(view, args, End::Left, effects)
}

/// `RPUSH key element [element …]`: the length. O(1) per element.
fn rpush(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    push_all(view, args, End::Right, effects)
}

fn push_existing(
    view: &mut View<'_>,
    args: Args<'_>,
    end: End,
    effects: &mut Effects,
) -> CommandResult {
    if view.peek(args[1]).is_none() {
        // Counted as a look that found nothing.
        let _ = view.get(args[1]);
        return Ok(Reply::Integer(0));
    }
    push_all(view, args, end, effects)
}

/// `LPUSHX key element [element …]`: as LPUSH, but 0 if there is no list. O(1) per element.
fn lpushx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    push_existing(view, args, End::Left, effects)
}

/// `RPUSHX key element [element …]`: as RPUSH, but 0 if there is no list. O(1) per element.
fn rpushx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    push_existing(view, args, End::Right, effects)
}

/// Takes up to `count` elements from an end of a list.
pub(super) fn take(list: &mut List, end: End, count: usize, limit: NodeLimit) -> BulkList {
    let mut taken = BulkList::with_capacity(count.min(list.len()), 16);
    for _ in 0..count {
        if list.pop(end, |entry| entry.push_to(&mut taken)).is_none() {
            break;
        }
    }
    list.settle(limit);
    taken
}

fn pop(view: &mut View<'_>, args: Args<'_>, end: End, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let count = match args {
        [_, _] => None,
        [_, _, count] => match integer_text(count).map(usize::try_from) {
            Some(Ok(count)) => Some(count),
            _ => return Err(CommandError::NOT_POSITIVE),
        },
        [name, ..] => {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            return Err(CommandError::wrong_arity(&name));
        }
        [] => return Err(CommandError::SYNTAX),
    };
    let Some(count) = count else {
        let popped = change(view, key, effects, |list, limit| {
            let reply = list.pop(end, |entry| entry.reply());
            list.settle(limit);
            Ok(Edit::Made((reply, list.len())))
        })?;
        return Ok(match popped {
            Some((Some(reply), left)) => {
                removed(view, key, pop_event(end), (1, left), effects);
                reply
            }
            _ => Reply::Nil,
        });
    };
    let popped = change(view, key, effects, |list, limit| {
        Ok(match count {
            0 => Edit::Declined((BulkList::default(), list.len())),
            _ => Edit::Made((take(list, end, count, limit), list.len())),
        })
    })?;
    Ok(match popped {
        None => Reply::NilArray,
        Some((taken, left)) => {
            if !taken.is_empty() {
                removed(view, key, pop_event(end), (taken.len(), left), effects);
            }
            Reply::Bulks(taken)
        }
    })
}

/// `LPOP key [count]`: the first element, or the first few. O(1) per element.
fn lpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    pop(view, args, End::Left, effects)
}

/// `RPOP key [count]`: the last element, or the last few, the last first. O(1) per element.
fn rpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    pop(view, args, End::Right, effects)
}

/// `LLEN key`: the length. O(1).
fn llen(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::count(find(view, args[1])?.map_or(0, List::len)))
}

const INSERT: &[KeySpec] = &[KeySpec::one(1, Access::Insert)];
const TAKE: &[KeySpec] = &[KeySpec::one(1, Access::Take)];
const PUSH_FLAGS: Flags = Flags::DENYOOM.with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("lpush", -3, Group::List, lpush).keys(INSERT).flags(PUSH_FLAGS).doc(
        "1.0.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "key element [element ...]",
        "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
    ),
    Command::write("rpush", -3, Group::List, rpush).keys(INSERT).flags(PUSH_FLAGS).doc(
        "1.0.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "key element [element ...]",
        "Appends one or more elements to a list. Creates the key if it doesn't exist.",
    ),
    Command::write("lpushx", -3, Group::List, lpushx).keys(INSERT).flags(PUSH_FLAGS).doc(
        "2.2.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "key element [element ...]",
        "Prepends one or more elements to a list only when the list exists.",
    ),
    Command::write("rpushx", -3, Group::List, rpushx).keys(INSERT).flags(PUSH_FLAGS).doc(
        "2.2.0",
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
        "key element [element ...]",
        "Appends an element to a list only when the list exists.",
    ),
    Command::write("lpop", -2, Group::List, lpop).keys(TAKE).flags(Flags::FAST).doc(
        "1.0.0",
        "O(N) where N is the number of elements returned",
        "key [count]",
        "Returns the first elements in a list after removing it. Deletes the list if the last element was popped.",
    ),
    Command::write("rpop", -2, Group::List, rpop).keys(TAKE).flags(Flags::FAST).doc(
        "1.0.0",
        "O(N) where N is the number of elements returned",
        "key [count]",
        "Returns and removes the last elements of a list. Deletes the list if the last element was popped.",
    ),
    Command::read("llen", 2, Group::List, llen)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc("1.0.0", "O(1)", "key", "Returns the length of a list."),
];
