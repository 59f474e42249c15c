//! ZRANDMEMBER, drawn from the proposal's seed.

use super::{Run, sorted_set_at};
use crate::command::options::is;
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::commands::set::random::{REPETITIONS_DIFFER, repeated, sample, signed_count};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::sorted_set::Direction;

/// `ZRANDMEMBER key [count [WITHSCORES]]`: a random member; so many distinct ones; or, of a
/// negative count, so many with repetitions. O(M log N).
fn zrandmember(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let count = match args {
        [_, _] => None,
        [_, _, count, ..] => Some(signed_count(count)?),
        _ => return Err(CommandError::SYNTAX),
    };
    let with_scores = match args {
        [_, _] | [_, _, _] => false,
        [_, _, _, option] if is(option, "WITHSCORES") => true,
        _ => return Err(CommandError::SYNTAX),
    };
    if with_scores && count.is_some_and(|count| count.unsigned_abs() > i64::MAX as u64 / 2) {
        return Err(CommandError::OUT_OF_RANGE);
    }
    let set = sorted_set_at(view, args[1])?;
    let Some(count) = count else {
        return Ok(set
            .and_then(|set| set.get(view.random_below(set.len())))
            .map_or(Reply::Nil, |(member, _)| member.reply()));
    };
    let Some(set) = set else {
        return Ok(Reply::Bulks(BulkList::default()));
    };
    let (len, wanted) = (set.len(), count.unsigned_abs() as usize);
    if count > 0 && wanted >= len {
        let all = Run::cut((0, len), Direction::Ascending, 0, -1);
        return Ok(if with_scores { all.pairs(set) } else { all.members(set) });
    }
    let (mut members, mut pairs) = (BulkList::default(), Vec::new());
    let mut push = |rank| {
        let Some((member, score)) = set.get(rank) else { return 0 };
        if with_scores {
            pairs.push((member.reply(), Reply::Double(score)));
        } else {
            member.push_to(&mut members);
        }
        member.text_len()
    };
    if count < 0 {
        repeated(view, len, count, push)?;
    } else {
        sample(view, len, wanted).into_iter().for_each(|rank| {
            push(rank);
        });
    }
    Ok(if with_scores { Reply::Pairs(pairs) } else { Reply::Bulks(members) })
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::read("zrandmember", -2, Group::SortedSet, zrandmember)
    .keys(&[KeySpec::one(1, Access::Read)])
    .doc(
        "6.2.0",
        "O(N) where N is the number of members returned",
        "key [count [WITHSCORES]]",
        "Returns one or more random members from a sorted set.",
    )
    .differs(REPETITIONS_DIFFER)];
