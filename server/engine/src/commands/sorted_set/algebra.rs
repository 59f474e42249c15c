//! ZUNION, ZINTER, ZDIFF, their STORE forms and ZINTERCARD. Inputs may be plain sets, too, whose
//! members score 1.

use super::{Run, store};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::set::algebra::limit_value;
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::Value;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::Object;
use crate::value::listpack::Entry;
use crate::value::number::parse_f64;
use crate::value::set::Set;
use crate::value::sorted_set::{Accumulator, Direction, SortedSet};

/// Which combination is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combination {
    Union,
    Intersection,
    Difference,
}

/// What a command does with the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Reply,
    Store,
    Count,
}

/// AGGREGATE: how the scores of one member become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Sum => zero_if_nan(one + other),
            // Not `f64::min`: of a NaN (an infinite score times a weight of 0) the first stays.
            Self::Min => {
                if other < one {
                    other
                } else {
                    one
                }
            }
            Self::Max => {
                if other > one {
                    other
                } else {
                    one
                }
            }
        }
    }
}

/// Infinities that cancel each other make 0, as in Redis.
fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// An input's members.
#[derive(Debug, Clone, Copy)]
enum Members<'v> {
    None,
    Plain(&'v Set),
    Scored(&'v SortedSet),
}

#[derive(Debug, Clone, Copy)]
struct Source<'v> {
    members: Members<'v>,
    weight: f64,
}

impl<'v> Source<'v> {
    fn at(view: &'v View<'_>, key: &[u8]) -> Result<Self, CommandError> {
        let members = match view.get(key).map(|record| record.value()) {
            None => Members::None,
            Some(Value::Object(Object::Set(set))) => Members::Plain(set),
            Some(Value::Object(Object::SortedSet(set))) => Members::Scored(set),
            Some(_) => return Err(CommandError::WRONG_TYPE),
        };
        Ok(Self { members, weight: 1.0 })
    }

    fn len(&self) -> usize {
        match self.members {
            Members::None => 0,
            Members::Plain(set) => set.len(),
            Members::Scored(set) => set.len(),
        }
    }

    fn score(&self, member: Entry<'_>) -> Option<f64> {
        match self.members {
            Members::None => None,
            Members::Plain(set) => set.contains_entry(member).then_some(1.0),
            Members::Scored(set) => set.score(member.text(&mut itoa::Buffer::new())),
        }
    }

    fn for_each(&self, mut found: impl FnMut(Entry<'_>, f64)) {
        match self.members {
            Members::None => {}
            Members::Plain(set) => set.iter().for_each(|member| found(member, 1.0)),
            Members::Scored(set) => set.for_each(found),
        }
    }
}

/// The arguments of one of these commands.
struct Query<'v> {
    sources: Vec<Source<'v>>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

impl<'v> Query<'v> {
    /// Reads the arguments from the number of keys on, and looks at the keys before the options
    /// behind them: Redis complains in this order.
    fn parse(
        view: &'v View<'_>,
        args: Args<'_>,
        name: &str,
        combination: Combination,
        purpose: Purpose,
    ) -> Result<Self, CommandError> {
        let count = integer(args[0])?;
        if count < 1 {
            return Err(CommandError::new(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        let Some((keys, options)) =
            usize::try_from(count).ok().and_then(|count| args[1..].split_at_checked(count))
        else {
            return Err(CommandError::SYNTAX);
        };
        let sources: Result<_, _> = keys.iter().map(|key| Source::at(view, key)).collect();
        let mut query =
            Self { sources: sources?, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        query.parse_options(options, combination, purpose)?;
        Ok(query)
    }

    fn parse_options(
        &mut self,
        mut options: Args<'_>,
        combination: Combination,
        purpose: Purpose,
    ) -> Result<(), CommandError> {
        let scores_count = combination != Combination::Difference && purpose != Purpose::Count;
        while let Some((option, rest)) = options.split_first() {
            options = match rest {
                weights
                    if scores_count
                        && weights.len() >= self.sources.len()
                        && is(option, "WEIGHTS") =>
                {
                    let (weights, rest) = weights.split_at(self.sources.len());
                    for (source, weight) in self.sources.iter_mut().zip(weights) {
                        source.weight = parse_f64(weight)
                            .ok_or(CommandError::known("ERR weight value is not a float"))?;
                    }
                    rest
                }
                [aggregate, rest @ ..] if scores_count && is(option, "AGGREGATE") => {
                    self.aggregate = match aggregate {
                        word if is(word, "SUM") => Aggregate::Sum,
                        word if is(word, "MIN") => Aggregate::Min,
                        word if is(word, "MAX") => Aggregate::Max,
                        _ => return Err(CommandError::SYNTAX),
                    };
                    rest
                }
                rest if purpose == Purpose::Reply && is(option, "WITHSCORES") => {
                    self.with_scores = true;
                    rest
                }
                [limit, rest @ ..] if purpose == Purpose::Count && is(option, "LIMIT") => {
                    self.limit = limit_value(limit)?;
                    rest
                }
                _ => return Err(CommandError::SYNTAX),
            };
        }
        Ok(())
    }

    fn combine(mut self, combination: Combination) -> Accumulator {
        match combination {
            Combination::Difference => self.difference(),
            Combination::Union => {
                self.sources.sort_by_key(Source::len);
                self.union()
            }
            Combination::Intersection => {
                let mut result = Accumulator::default();
                self.intersect(|member, score| {
                    result.merge(member, score, |_| score);
                    true
                });
                result
            }
        }
    }

    fn union(&self) -> Accumulator {
        let largest = self.sources.last().map_or(0, Source::len);
        let mut result = Accumulator::with_capacity(largest);
        for source in &self.sources {
            source.for_each(|member, score| {
                let score = zero_if_nan(source.weight * score);
                result.merge(member, score, |before| self.aggregate.of(before, score));
            });
        }
        result
    }

    /// Calls `found` with every member of the intersection while it says to go on. The smallest
    /// input is walked, the others, from small to large, are asked.
    fn intersect(&mut self, mut found: impl FnMut(Entry<'_>, f64) -> bool) {
        self.sources.sort_by_key(Source::len);
        let Some((smallest, others)) = self.sources.split_first() else {
            return;
        };
        let mut go_on = true;
        smallest.for_each(|member, score| {
            if !go_on {
                return;
            }
            let first = zero_if_nan(smallest.weight * score);
            let score = others.iter().try_fold(first, |so_far, other| {
                let score = other.score(member)? * other.weight;
                Some(self.aggregate.of(so_far, score))
            });
            if let Some(score) = score {
                go_on = found(member, score);
            }
        });
    }

    /// The first input's members that are in no other: asked of the others, or, when that takes
    /// more steps than all inputs have members, by taking the others' members away.
    fn difference(&self) -> Accumulator {
        let mut result = Accumulator::default();
        let Some((first, others)) = self.sources.split_first() else {
            return result;
        };
        let total: usize = self.sources.iter().map(Source::len).sum();
        let ask = first.len() * self.sources.len() / 2 <= total;
        first.for_each(|member, score| {
            if !ask || others.iter().all(|other| other.score(member).is_none()) {
                result.merge(member, score, |_| score);
            }
        });
        if !ask {
            for other in others {
                other.for_each(|member, _| result.remove(member));
            }
        }
        result
    }
}

fn answer(view: &View<'_>, args: Args<'_>, name: &str, combination: Combination) -> CommandResult {
    let query = Query::parse(view, &args[1..], name, combination, Purpose::Reply)?;
    let with_scores = query.with_scores;
    let result = query.combine(combination);
    if result.is_empty() {
        return Ok(Reply::Bulks(BulkList::default()));
    }
    let result = result.finish_large();
    let all = Run::cut((0, result.len()), Direction::Ascending, 0, -1);
    Ok(if with_scores { all.pairs(&result) } else { all.members(&result) })
}

fn combine_and_store(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    name: &'static str,
    combination: Combination,
) -> CommandResult {
    let query = Query::parse(view, &args[2..], name, combination, Purpose::Store)?;
    let result = query.combine(combination).finish(view.limits());
    // The event bears the command's name.
    store(view, args[1], result, name, effects)
}

/// `ZUNION numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]`: the
/// members of any input. O(N + M log M).
fn zunion(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, "zunion", Combination::Union)
}

/// `ZINTER numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]`: the
/// members of all inputs. O(N × K + M log M), N the size of the smallest.
fn zinter(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, "zinter", Combination::Intersection)
}

/// `ZDIFF numkeys key [key ...] [WITHSCORES]`: the first input's members that are in no other.
/// O(N + M log M).
fn zdiff(view: &View<'_>, args: Args<'_>) -> CommandResult {
    answer(view, args, "zdiff", Combination::Difference)
}

/// `ZUNIONSTORE destination numkeys key [key ...] …`: as ZUNION; the size. O(N + M log M).
fn zunionstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    combine_and_store(view, args, effects, "zunionstore", Combination::Union)
}

/// `ZINTERSTORE destination numkeys key [key ...] …`: as ZINTER; the size. O(N × K + M log M).
fn zinterstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    combine_and_store(view, args, effects, "zinterstore", Combination::Intersection)
}

/// `ZDIFFSTORE destination numkeys key [key ...]`: as ZDIFF; the size. O(N + M log M).
fn zdiffstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    combine_and_store(view, args, effects, "zdiffstore", Combination::Difference)
}

/// `ZINTERCARD numkeys key [key ...] [LIMIT limit]`: how many members all inputs share;
/// counting ends at the limit, 0 for none. O(N × K).
fn zintercard(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let combination = Combination::Intersection;
    let mut query = Query::parse(view, &args[1..], "zintercard", combination, Purpose::Count)?;
    let (limit, mut shared) = (query.limit, 0);
    query.intersect(|_, _| {
        shared += 1;
        limit == 0 || shared < limit
    });
    Ok(Reply::count(shared))
}

const SOURCES: &[KeySpec] = &[KeySpec::counted(1, Access::Read)];
const STORES: &[KeySpec] = &[KeySpec::one(1, Access::Overwrite), KeySpec::counted(2, Access::Read)];

const UNION_COMPLEXITY: &str = "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.";
const INTER_COMPLEXITY: &str = "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.";
const DIFF_COMPLEXITY: &str = "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("zunion", -3, Group::SortedSet, zunion)
        .keys(SOURCES)
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "6.2.0",
            UNION_COMPLEXITY,
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
            "Returns the union of multiple sorted sets.",
        ),
    Command::read("zinter", -3, Group::SortedSet, zinter)
        .keys(SOURCES)
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "6.2.0",
            INTER_COMPLEXITY,
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
            "Returns the intersect of multiple sorted sets.",
        ),
    Command::read("zdiff", -3, Group::SortedSet, zdiff)
        .keys(SOURCES)
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "6.2.0",
            DIFF_COMPLEXITY,
            "numkeys key [key ...] [WITHSCORES]",
            "Returns the difference between multiple sorted sets.",
        ),
    Command::read("zintercard", -3, Group::SortedSet, zintercard)
        .keys(SOURCES)
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "7.0.0",
            "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.",
            "numkeys key [key ...] [LIMIT limit]",
            "Returns the number of members of the intersect of multiple sorted sets.",
        ),
    Command::write("zunionstore", -4, Group::SortedSet, zunionstore)
        .keys(STORES)
        .flags(Flags::DENYOOM.with(Flags::MOVABLE_KEYS))
        .doc(
            "2.0.0",
            UNION_COMPLEXITY,
            "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
            "Stores the union of multiple sorted sets in a key.",
        ),
    Command::write("zinterstore", -4, Group::SortedSet, zinterstore)
        .keys(STORES)
        .flags(Flags::DENYOOM.with(Flags::MOVABLE_KEYS))
        .doc(
            "2.0.0",
            INTER_COMPLEXITY,
            "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
            "Stores the intersect of multiple sorted sets in a key.",
        ),
    Command::write("zdiffstore", -4, Group::SortedSet, zdiffstore)
        .keys(STORES)
        .flags(Flags::DENYOOM.with(Flags::MOVABLE_KEYS))
        .doc(
            "6.2.0",
            DIFF_COMPLEXITY,
            "destination numkeys key [key ...]",
            "Stores the difference of multiple sorted sets in a key.",
        ),
];
