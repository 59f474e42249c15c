//! The commands that wait for an element: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP.
//!
//! None of them waits here. One that finds nothing says so in the effects; the server parks
//! the session and runs the same command again when one of its keys appears. A client may send
//! these inside MULTI and scripts, where they answer as if their time had run out at once.

use super::end_of;
use super::moves::{ListEnd, MOVE_KEYS, ManyPop, move_element, pop_first};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, Wait};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::list::End;
use crate::value::number::parse_f64;

/// A timeout in seconds, rounded up to milliseconds; 0 is without end.
///
/// # Errors
/// `ERR timeout is not a float or out of range`, `ERR timeout is negative`,
/// `ERR timeout is out of range`
pub(crate) fn timeout(arg: &[u8], view: &View<'_>) -> Result<Wait, CommandError> {
    let seconds =
        parse_f64(arg).ok_or(CommandError::known("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    // The deadline, not only the timeout, must fit: 2^63 is the first double that does not.
    let out_of_range = CommandError::known("ERR timeout is out of range");
    if ms >= 9_223_372_036_854_775_808.0 {
        return Err(out_of_range);
    }
    if seconds < 0.0 {
        return Err(CommandError::known("ERR timeout is negative"));
    }
    let ms = ms as i64;
    if view.now().checked_add_ms(ms).is_none() {
        return Err(out_of_range);
    }
    Ok(Wait::for_key(u64::try_from(ms).ok().filter(|ms| *ms > 0)))
}

/// The reply, or the wish to wait.
fn or_wait(found: Option<Reply>, wait: Wait, effects: &mut Effects) -> Reply {
    found.unwrap_or_else(|| {
        effects.wait = Some(wait);
        Reply::NilArray
    })
}

/// As `or_wait`, for commands that answer with one element.
fn one_or_wait(found: Option<Reply>, wait: Wait, effects: &mut Effects) -> Reply {
    found.unwrap_or_else(|| {
        effects.wait = Some(wait);
        Reply::Nil
    })
}

fn pop(view: &mut View<'_>, args: Args<'_>, end: End, effects: &mut Effects) -> CommandResult {
    let last = args.len() - 1;
    let wait = timeout(args[last], view)?;
    let found = pop_first(view, &args[1..last], end, effects)?;
    Ok(or_wait(found, wait, effects))
}

/// `BLPOP key [key …] timeout`: the key and its first element; nil when time runs out. O(N).
fn blpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    pop(view, args, End::Left, effects)
}

/// `BRPOP key [key …] timeout`: the key and its last element; nil when time runs out. O(N).
fn brpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    pop(view, args, End::Right, effects)
}

/// `BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout`: the element; nil when time runs
/// out. O(1).
fn blmove(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let from = ListEnd { key: args[1], end: end_of(args[3])? };
    let to = ListEnd { key: args[2], end: end_of(args[4])? };
    let wait = timeout(args[5], view)?;
    let found = move_element(view, from, to, effects)?;
    Ok(one_or_wait(found, wait, effects))
}

/// `BRPOPLPUSH source destination timeout`: the element; nil when time runs out. O(1).
fn brpoplpush(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let from = ListEnd { key: args[1], end: End::Right };
    let to = ListEnd { key: args[2], end: End::Left };
    let wait = timeout(args[3], view)?;
    let found = move_element(view, from, to, effects)?;
    Ok(one_or_wait(found, wait, effects))
}

/// `BLMPOP timeout numkeys key [key …] LEFT|RIGHT [COUNT count]`: as LMPOP; nil when time runs
/// out. O(N+M).
fn blmpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let wait = timeout(args[1], view)?;
    let found = ManyPop::parse(&args[2..])?.run(view, effects)?;
    Ok(or_wait(found, wait, effects))
}

const POP_KEYS: &[KeySpec] = &[KeySpec::range(1, -2, 1, Access::Take)];
const MOVE_FLAGS: Flags = Flags::DENYOOM.with(Flags::BLOCKING);

/// The rows of this file. Redis 7.2 took NOSCRIPT from all of them.
pub const ROWS: &[Command] = &[
    Command::write("blpop", -3, Group::List, blpop).keys(POP_KEYS).flags(Flags::BLOCKING).doc(
        "2.0.0",
        "O(N) where N is the number of provided keys.",
        "key [key ...] timeout",
        "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
    ),
    Command::write("brpop", -3, Group::List, brpop).keys(POP_KEYS).flags(Flags::BLOCKING).doc(
        "2.0.0",
        "O(N) where N is the number of provided keys.",
        "key [key ...] timeout",
        "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
    ),
    Command::write("blmove", 6, Group::List, blmove).keys(MOVE_KEYS).flags(MOVE_FLAGS).doc(
        "6.2.0",
        "O(1)",
        "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.",
    ),
    Command::write("brpoplpush", 4, Group::List, brpoplpush)
        .keys(MOVE_KEYS)
        .flags(MOVE_FLAGS)
        .doc(
            "2.2.0",
            "O(1)",
            "source destination timeout",
            "Pops an element from a list, pushes it to another list and returns it. Block until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
    Command::write("blmpop", -5, Group::List, blmpop)
        .keys(&[KeySpec::counted(2, Access::Take)])
        .flags(Flags::BLOCKING.with(Flags::MOVABLE_KEYS))
        .doc(
            "7.0.0",
            "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
            "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        ),
];
