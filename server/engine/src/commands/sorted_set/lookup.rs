//! Scores, ranks and counts.

use super::bounds::{LexRange, ScoreRange};
use super::sorted_set_at;
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::sorted_set::{Bound, Direction, SortedSet};

/// `ZSCORE key member`: the score, or nil. O(1).
fn zscore(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let score = sorted_set_at(view, args[1])?.and_then(|set| set.score(args[2]));
    Ok(score.map_or(Reply::Nil, Reply::Double))
}

/// `ZMSCORE key member [member ...]`: each score, or nil. O(1) each.
fn zmscore(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let set = sorted_set_at(view, args[1])?;
    let score =
        |member: &&[u8]| set.and_then(|set| set.score(member)).map_or(Reply::Nil, Reply::Double);
    Ok(Reply::Array(args[2..].iter().map(score).collect()))
}

/// `ZCARD key`: how many members it has. O(1).
fn zcard(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let len = sorted_set_at(view, args[1])?.map_or(0, SortedSet::len);
    Ok(Reply::count(len))
}

/// `ZCOUNT key min max`: how many scores lie in the range. O(log N).
fn zcount(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let range = ScoreRange::parse(args[2], args[3])?;
    let count = sorted_set_at(view, args[1])?.map_or(0, |set| {
        let (start, end) = range.ranks(set);
        end - start
    });
    Ok(Reply::count(count))
}

/// `ZLEXCOUNT key min max`: how many members lie in the range, all scores being equal.
/// O(log N).
fn zlexcount(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let range = LexRange::parse(args[2], args[3])?;
    let count = sorted_set_at(view, args[1])?.map_or(0, |set| {
        let (start, end) = range.ranks(set);
        end - start
    });
    Ok(Reply::count(count))
}

fn rank(view: &View<'_>, args: Args<'_>, direction: Direction) -> CommandResult {
    let with_score = match args {
        [_, _, _] => false,
        [_, _, _, option] if is(option, "WITHSCORE") => true,
        [_, _, _, _] => return Err(CommandError::SYNTAX),
        // The row's arity bounds the arguments from below only.
        _ => {
            let name = match direction {
                Direction::Ascending => "zrank",
                Direction::Descending => "zrevrank",
            };
            return Err(CommandError::wrong_arity(name));
        }
    };
    let found = sorted_set_at(view, args[1])?.and_then(|set| {
        let score = set.score(args[2])?;
        let rank = set.rank(Bound::Element(score, args[2]));
        Some(match direction {
            Direction::Ascending => (rank, score),
            Direction::Descending => (set.len() - 1 - rank, score),
        })
    });
    Ok(match found {
        Some((rank, score)) if with_score => {
            Reply::Array(vec![Reply::count(rank), Reply::Double(score)])
        }
        Some((rank, _)) => Reply::count(rank),
        None if with_score => Reply::NilArray,
        None => Reply::Nil,
    })
}

/// `ZRANK key member [WITHSCORE]`: its index by ascending score, or nil. O(log N).
fn zrank(view: &View<'_>, args: Args<'_>) -> CommandResult {
    rank(view, args, Direction::Ascending)
}

/// `ZREVRANK key member [WITHSCORE]`: its index by descending score, or nil. O(log N).
fn zrevrank(view: &View<'_>, args: Args<'_>) -> CommandResult {
    rank(view, args, Direction::Descending)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("zscore", 3, Group::SortedSet, zscore)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc("1.2.0", "O(1)", "key member", "Returns the score of a member in a sorted set."),
    Command::read("zmscore", -3, Group::SortedSet, zmscore)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "6.2.0",
            "O(N) where N is the number of members being requested.",
            "key member [member ...]",
            "Returns the score of one or more members in a sorted set.",
        ),
    Command::read("zcard", 2, Group::SortedSet, zcard)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc("1.2.0", "O(1)", "key", "Returns the number of members in a sorted set."),
    Command::read("zcount", 4, Group::SortedSet, zcount)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "2.0.0",
            "O(log(N)) with N being the number of elements in the sorted set.",
            "key min max",
            "Returns the count of members in a sorted set that have scores within a range.",
        ),
    Command::read("zlexcount", 4, Group::SortedSet, zlexcount)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "2.8.9",
            "O(log(N)) with N being the number of elements in the sorted set.",
            "key min max",
            "Returns the number of members in a sorted set within a lexicographical range.",
        ),
    Command::read("zrank", -3, Group::SortedSet, zrank)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "2.0.0",
            "O(log(N))",
            "key member [WITHSCORE]",
            "Returns the index of a member in a sorted set ordered by ascending scores.",
        ),
    Command::read("zrevrank", -3, Group::SortedSet, zrevrank)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "2.0.0",
            "O(log(N))",
            "key member [WITHSCORE]",
            "Returns the index of a member in a sorted set ordered by descending scores.",
        ),
];
