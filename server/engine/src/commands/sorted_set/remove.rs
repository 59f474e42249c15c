//! ZREM and the removals of ranges.

use super::bounds::{LexRange, ScoreRange};
use super::{Run, edit_sorted_set};
use crate::command::options::integer;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::set::remove_emptied;
use crate::effects::{Effects, EventClass};
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::value::sorted_set::{Direction, SortedSet};

/// Lets `work` remove elements of the sorted set at `key` and say how many; tells of them by
/// `event`, and removes the key if none are left.
fn remove(
    view: &mut View<'_>,
    key: &[u8],
    event: &'static str,
    effects: &mut Effects,
    work: impl FnOnce(&mut SortedSet) -> usize,
) -> CommandResult {
    let removed = edit_sorted_set(view, key, effects, |set| {
        Ok(match work(set) {
            0 => Edit::Declined((0, false)),
            removed => Edit::Made((removed, set.is_empty())),
        })
    })?;
    let (removed, emptied) = removed.unwrap_or((0, false));
    if removed > 0 {
        effects.event(EventClass::SORTED_SET, event, view.db(), key);
        effects.changed(removed as u64);
    }
    if emptied {
        remove_emptied(view, key, effects);
    }
    Ok(Reply::count(removed))
}

/// Removes the elements of ranks `start..end`.
fn remove_ranks(set: &mut SortedSet, (start, end): (usize, usize)) -> usize {
    set.remove_range(start, end - start);
    end - start
}

/// `ZREM key member [member ...]`: how many members were there. O(log N) each.
fn zrem(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    remove(view, args[1], "zrem", effects, |set| {
        args[2..].iter().filter(|member| set.remove(member)).count()
    })
}

/// `ZREMRANGEBYRANK key start stop`: how many were removed. O(M log N).
fn zremrangebyrank(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (first, last) = (integer(args[2])?, integer(args[3])?);
    remove(view, args[1], "zremrangebyrank", effects, |set| {
        let run = Run::between(first, last, set.len(), Direction::Ascending);
        remove_ranks(set, (run.start, run.start + run.count))
    })
}

/// `ZREMRANGEBYSCORE key min max`: how many were removed. O(M log N).
fn zremrangebyscore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let range = ScoreRange::parse(args[2], args[3])?;
    remove(view, args[1], "zremrangebyscore", effects, |set| {
        let ranks = range.ranks(set);
        remove_ranks(set, ranks)
    })
}

/// `ZREMRANGEBYLEX key min max`: how many were removed, all scores being equal. O(M log N).
fn zremrangebylex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let range = LexRange::parse(args[2], args[3])?;
    remove(view, args[1], "zremrangebylex", effects, |set| {
        let ranks = range.ranks(set);
        remove_ranks(set, ranks)
    })
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Remove)];

const COMPLEXITY: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("zrem", -3, Group::SortedSet, zrem)
        .keys(KEY)
        .flags(Flags::FAST)
        .doc(
            "1.2.0",
            "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be removed.",
            "key member [member ...]",
            "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed.",
        ),
    Command::write("zremrangebyrank", 4, Group::SortedSet, zremrangebyrank)
        .keys(KEY)
        .doc(
            "2.0.0",
            COMPLEXITY,
            "key start stop",
            "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed.",
        ),
    Command::write("zremrangebyscore", 4, Group::SortedSet, zremrangebyscore)
        .keys(KEY)
        .doc(
            "1.2.0",
            COMPLEXITY,
            "key min max",
            "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed.",
        ),
    Command::write("zremrangebylex", 4, Group::SortedSet, zremrangebylex)
        .keys(KEY)
        .doc(
            "2.8.9",
            COMPLEXITY,
            "key min max",
            "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed.",
        ),
];
