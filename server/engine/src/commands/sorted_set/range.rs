//! ZRANGE in all its forms, the older commands it replaces, and ZRANGESTORE.

use super::bounds::{LexRange, ScoreRange};
use super::{Run, sorted_set_at, store};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::sorted_set::{Direction, SortedSet};

/// What a range is a range of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// How a command asks for its range: what its name settles, options cannot change.
#[derive(Debug, Clone, Copy)]
struct Form {
    by: Option<By>,
    direction: Option<Direction>,
    /// Index of the key; `min` and `max` follow.
    key: usize,
    /// ZRANGESTORE: WITHSCORES is not an option.
    stores: bool,
}

/// A range as it was asked for.
struct Query<'a> {
    range: Range<'a>,
    direction: Direction,
    offset: i64,
    limit: i64,
    with_scores: bool,
}

enum Range<'a> {
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Query<'a> {
    fn parse(args: Args<'a>, form: Form) -> Result<Self, CommandError> {
        let (mut by, mut direction) = (form.by, form.direction);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut at = form.key + 3;
        while let Some(option) = args.get(at) {
            if !form.stores && is(option, "WITHSCORES") {
                with_scores = true;
            } else if is(option, "LIMIT") && args.len() > at + 2 {
                offset = integer(args[at + 1])?;
                limit = integer(args[at + 2])?;
                at += 2;
            } else if direction.is_none() && is(option, "REV") {
                direction = Some(Direction::Descending);
            } else if by.is_none() && is(option, "BYLEX") {
                by = Some(By::Lex);
            } else if by.is_none() && is(option, "BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(CommandError::SYNTAX);
            }
            at += 1;
        }
        let by = by.unwrap_or(By::Rank);
        let direction = direction.unwrap_or(Direction::Ascending);
        if limit != -1 && by == By::Rank {
            return Err(CommandError::known(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CommandError::known(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (first, last) = (args[form.key + 1], args[form.key + 2]);
        // From the greatest down, the greater bound is given first.
        let (min, max) = match direction {
            Direction::Ascending => (first, last),
            Direction::Descending => (last, first),
        };
        let range = match by {
            By::Rank => Range::Rank(integer(first)?, integer(last)?),
            By::Score => Range::Score(ScoreRange::parse(min, max)?),
            By::Lex => Range::Lex(LexRange::parse(min, max)?),
        };
        Ok(Self { range, direction, offset, limit, with_scores })
    }

    fn run(&self, set: &SortedSet) -> Run {
        let ranks = match &self.range {
            Range::Rank(first, last) => {
                return Run::between(*first, *last, set.len(), self.direction);
            }
            Range::Score(range) => range.ranks(set),
            Range::Lex(range) => range.ranks(set),
        };
        Run::cut(ranks, self.direction, self.offset, self.limit)
    }
}

fn answer(view: &View<'_>, args: Args<'_>, form: Form) -> CommandResult {
    let query = Query::parse(args, form)?;
    Ok(match sorted_set_at(view, args[form.key])? {
        None => Reply::Bulks(BulkList::default()),
        Some(set) if query.with_scores => query.run(set).pairs(set),
        Some(set) => query.run(set).members(set),
    })
}

const fn form(by: Option<By>, direction: Option<Direction>) -> Form {
    Form { by, direction, key: 1, stores: false }
}

/// `ZRANGE key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`: members in
/// the range. O(log N + M).
fn zrange(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, form(None, None))
}

/// `ZREVRANGE key start stop [WITHSCORES]`: members by index from the greatest score down.
/// O(log N + M).
fn zrevrange(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, form(Some(By::Rank), Some(Direction::Descending)))
}

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`: members by score.
/// O(log N + M).
fn zrangebyscore(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, form(Some(By::Score), Some(Direction::Ascending)))
}

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`: members by score from the
/// greatest down. O(log N + M).
fn zrevrangebyscore(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, form(Some(By::Score), Some(Direction::Descending)))
}

/// `ZRANGEBYLEX key min max [LIMIT offset count]`: members in their own order. O(log N + M).
fn zrangebylex(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, form(Some(By::Lex), Some(Direction::Ascending)))
}

/// `ZREVRANGEBYLEX key max min [LIMIT offset count]`: members in the reverse of their own
/// order. O(log N + M).
fn zrevrangebylex(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, form(Some(By::Lex), Some(Direction::Descending)))
}

/// `ZRANGESTORE dst src min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]`: how many elements
/// the destination has. O(log N + M).
fn zrangestore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let form = Form { by: None, direction: None, key: 2, stores: true };
    let query = Query::parse(args, form)?;
    let limits = view.limits();
    let mut result = SortedSet::default();
    if let Some(set) = sorted_set_at(view, args[2])? {
        let run = query.run(set);
        if matches!(query.range, Range::Rank(..)) {
            // Redis knows the size of these only beforehand, and encodes for it.
            result = SortedSet::for_members(run.count, 0, limits);
        }
        run.visit(set, |member, score| {
            let text = &mut itoa::Buffer::new();
            result.upsert(member.text(text), score, limits, |_| None);
        });
    }
    store(view, args[1], result, "zrangestore", effects)
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Read)];

const COMPLEXITY: &str = "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned.";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("zrange", -4, Group::SortedSet, zrange)
        .keys(KEY)
        .doc(
            "1.2.0",
            COMPLEXITY,
            "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
            "Returns members in a sorted set within a range of indexes.",
        ),
    Command::read("zrevrange", -4, Group::SortedSet, zrevrange)
        .keys(KEY)
        .doc(
            "1.2.0",
            COMPLEXITY,
            "key start stop [WITHSCORES]",
            "Returns members in a sorted set within a range of indexes in reverse order.",
        ),
    Command::read("zrangebyscore", -4, Group::SortedSet, zrangebyscore)
        .keys(KEY)
        .doc(
            "1.0.5",
            COMPLEXITY,
            "key min max [WITHSCORES] [LIMIT offset count]",
            "Returns members in a sorted set within a range of scores.",
        ),
    Command::read("zrevrangebyscore", -4, Group::SortedSet, zrevrangebyscore)
        .keys(KEY)
        .doc(
            "2.2.0",
            COMPLEXITY,
            "key max min [WITHSCORES] [LIMIT offset count]",
            "Returns members in a sorted set within a range of scores in reverse order.",
        ),
    Command::read("zrangebylex", -4, Group::SortedSet, zrangebylex)
        .keys(KEY)
        .doc(
            "2.8.9",
            COMPLEXITY,
            "key min max [LIMIT offset count]",
            "Returns members in a sorted set within a lexicographical range.",
        ),
    Command::read("zrevrangebylex", -4, Group::SortedSet, zrevrangebylex)
        .keys(KEY)
        .doc(
            "2.8.9",
            COMPLEXITY,
            "key max min [LIMIT offset count]",
            "Returns members in a sorted set within a lexicographical range in reverse order.",
        ),
    Command::write("zrangestore", -5, Group::SortedSet, zrangestore)
        .keys(&[
            KeySpec::one(1, Access::Overwrite),
            KeySpec::one(2, Access::Read),
        ])
        .flags(Flags::DENYOOM)
        .doc(
            "6.2.0",
            "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored into the destination key.",
            "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
            "Stores a range of members from sorted set in a key.",
        ),
];
