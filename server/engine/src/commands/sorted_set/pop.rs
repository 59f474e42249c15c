//! ZPOPMIN, ZPOPMAX, ZMPOP and their blocking forms.
//!
//! A blocking form that finds nothing says so by [`Wait`] and answers what a client gets that
//! may not wait; the server parks the session and runs the same command again.

use super::{Run, edit_sorted_set, positive, sorted_set_at};
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::set::random::positive_count;
use crate::commands::set::remove_emptied;
use crate::effects::{Effects, EventClass, Wait};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::number::parse_f64;
use crate::value::sorted_set::Direction;

/// Popped members with their scores.
type Popped = Vec<(Reply, Reply)>;

/// Removes up to `count` elements, at least one, from the end of the sorted set at `key` where
/// `direction` begins; `None` if there is no such key.
fn pop(
    view: &mut View<'_>,
    key: &[u8],
    direction: Direction,
    count: usize,
    effects: &mut Effects,
) -> Result<Option<Popped>, CommandError> {
    let popped = edit_sorted_set(view, key, effects, |set| {
        let run = Run::cut((0, set.len()), direction, 0, -1);
        let count = count.min(run.count);
        let mut popped = Vec::with_capacity(count);
        Run { count, ..run }.visit(set, |member, score| {
            popped.push((member.reply(), Reply::Double(score)));
        });
        set.remove_range(
            match direction {
                Direction::Ascending => 0,
                Direction::Descending => set.len() - count,
            },
            count,
        );
        Ok(Edit::Made((popped, set.is_empty())))
    })?;
    let Some((popped, emptied)) = popped else {
        return Ok(None);
    };
    let event = match direction {
        Direction::Ascending => "zpopmin",
        Direction::Descending => "zpopmax",
    };
    effects.event(EventClass::SORTED_SET, event, view.db(), key);
    effects.changed(popped.len() as u64);
    if emptied {
        remove_emptied(view, key, effects);
    }
    Ok(Some(popped))
}

/// The first of `keys` at which a sorted set stands.
fn first_present<'a>(view: &View<'_>, keys: Args<'a>) -> Result<Option<&'a [u8]>, CommandError> {
    for key in keys {
        if sorted_set_at(view, key)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn pop_one_key(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    direction: Direction,
) -> CommandResult {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(positive_count(count)?),
        _ => return Err(CommandError::SYNTAX),
    };
    if count == Some(0) {
        sorted_set_at(view, args[1])?;
        return Ok(Reply::Bulks(BulkList::default()));
    }
    let popped = pop(view, args[1], direction, count.unwrap_or(1), effects)?;
    Ok(match (popped, count) {
        (None, _) => Reply::Bulks(BulkList::default()),
        // A single element is flat in RESP3, too.
        (Some(popped), None) => Reply::Array(flat(popped)),
        (Some(popped), Some(_)) => Reply::Pairs(popped),
    })
}

fn flat(popped: Popped) -> Vec<Reply> {
    popped.into_iter().flat_map(|(member, score)| [member, score]).collect()
}

/// `ZPOPMIN key [count]`: the members with the least scores, removed. O(M log N).
fn zpopmin(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    pop_one_key(view, args, effects, Direction::Ascending)
}

/// `ZPOPMAX key [count]`: the members with the greatest scores, removed. O(M log N).
fn zpopmax(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    pop_one_key(view, args, effects, Direction::Descending)
}

/// Reads a timeout in seconds.
///
/// # Errors
/// Not a number, negative, or beyond what a clock can count to.
fn timeout(text: &[u8], view: &View<'_>) -> Result<Wait, CommandError> {
    /// The first number of milliseconds that is too large.
    const TOO_LARGE: f64 = i64::MAX as f64;
    let seconds =
        parse_f64(text).ok_or(CommandError::known("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    let out_of_range = CommandError::known("ERR timeout is out of range");
    if ms >= TOO_LARGE {
        return Err(out_of_range);
    }
    match ms as i64 {
        ..0 => Err(CommandError::known("ERR timeout is negative")),
        0 => Ok(Wait { timeout_ms: None }),
        ms => match view.now().checked_add_ms(ms) {
            Some(_) => Ok(Wait { timeout_ms: Some(ms.unsigned_abs()) }),
            None => Err(out_of_range),
        },
    }
}

fn blocking_pop(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    direction: Direction,
) -> CommandResult {
    let (keys, last) = (&args[1..args.len() - 1], args[args.len() - 1]);
    let wait = timeout(last, view)?;
    if let Some(key) = first_present(view, keys)?
        && let Some(popped) = pop(view, key, direction, 1, effects)?
    {
        let mut reply = vec![Reply::bulk(key)];
        reply.extend(flat(popped));
        return Ok(Reply::Array(reply));
    }
    effects.wait = Some(wait);
    Ok(Reply::NilArray)
}

/// `BZPOPMIN key [key ...] timeout`: key, member and least score of the first sorted set that
/// is there; waits for one. O(log N).
fn bzpopmin(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    blocking_pop(view, args, effects, Direction::Ascending)
}

/// `BZPOPMAX key [key ...] timeout`: key, member and greatest score of the first sorted set
/// that is there; waits for one. O(log N).
fn bzpopmax(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    blocking_pop(view, args, effects, Direction::Descending)
}

/// `numkeys key [key ...] MIN|MAX [COUNT count]`
struct ManyKeys<'a> {
    keys: Args<'a>,
    direction: Direction,
    count: usize,
}

impl<'a> ManyKeys<'a> {
    /// Reads the arguments from the number of keys on.
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let numkeys = positive(args[0], "ERR numkeys should be greater than 0")?;
        let rest = &args[1..];
        if numkeys >= rest.len() {
            return Err(CommandError::SYNTAX);
        }
        let (keys, rest) = rest.split_at(numkeys);
        let direction = match rest[0] {
            word if is(word, "MIN") => Direction::Ascending,
            word if is(word, "MAX") => Direction::Descending,
            _ => return Err(CommandError::SYNTAX),
        };
        let count = match &rest[1..] {
            [] => 1,
            [option, count, more @ ..] if is(option, "COUNT") => {
                let count = positive(count, "ERR count should be greater than 0")?;
                if !more.is_empty() {
                    return Err(CommandError::SYNTAX);
                }
                count
            }
            _ => return Err(CommandError::SYNTAX),
        };
        Ok(Self { keys, direction, count })
    }

    fn pop(
        &self,
        view: &mut View<'_>,
        effects: &mut Effects,
    ) -> Result<Option<Reply>, CommandError> {
        let Some(key) = first_present(view, self.keys)? else {
            return Ok(None);
        };
        let popped = pop(view, key, self.direction, self.count, effects)?.unwrap_or_default();
        let pair = |(member, score)| Reply::Array(vec![member, score]);
        let pairs = popped.into_iter().map(pair).collect();
        Ok(Some(Reply::Array(vec![Reply::bulk(key), Reply::Array(pairs)])))
    }
}

/// `ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]`: the first key at which a sorted set
/// stands, with what was popped there. O(K + M log N).
fn zmpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let popped = ManyKeys::parse(&args[1..])?.pop(view, effects)?;
    Ok(popped.unwrap_or(Reply::NilArray))
}

/// `BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]`: as ZMPOP, but waits.
/// O(K + M log N).
fn bzmpop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let asked = ManyKeys::parse(&args[2..])?;
    let wait = timeout(args[1], view)?;
    let popped = asked.pop(view, effects)?;
    if popped.is_none() {
        effects.wait = Some(wait);
    }
    Ok(popped.unwrap_or(Reply::NilArray))
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Take)];
const KEYS_BEFORE_TIMEOUT: &[KeySpec] = &[KeySpec::range(1, -2, 1, Access::Take)];

const COMPLEXITY: &str = "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.";
const MANY_KEYS_COMPLEXITY: &str = "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("zpopmin", -2, Group::SortedSet, zpopmin)
        .keys(KEY)
        .flags(Flags::FAST)
        .doc(
            "5.0.0",
            COMPLEXITY,
            "key [count]",
            "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
        ),
    Command::write("zpopmax", -2, Group::SortedSet, zpopmax)
        .keys(KEY)
        .flags(Flags::FAST)
        .doc(
            "5.0.0",
            COMPLEXITY,
            "key [count]",
            "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
        ),
    Command::write("zmpop", -4, Group::SortedSet, zmpop)
        .keys(&[KeySpec::counted(1, Access::Take)])
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "7.0.0",
            MANY_KEYS_COMPLEXITY,
            "numkeys key [key ...] <MIN | MAX> [COUNT count]",
            "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped.",
        ),
    Command::write("bzpopmin", -3, Group::SortedSet, bzpopmin)
        .keys(KEYS_BEFORE_TIMEOUT)
        .flags(Flags::BLOCKING.with(Flags::FAST))
        .doc(
            "5.0.0",
            "O(log(N)) with N being the number of elements in the sorted set.",
            "key [key ...] timeout",
            "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
        ),
    Command::write("bzpopmax", -3, Group::SortedSet, bzpopmax)
        .keys(KEYS_BEFORE_TIMEOUT)
        .flags(Flags::BLOCKING.with(Flags::FAST))
        .doc(
            "5.0.0",
            "O(log(N)) with N being the number of elements in the sorted set.",
            "key [key ...] timeout",
            "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member available otherwise.  Deletes the sorted set if the last element was popped.",
        ),
    Command::write("bzmpop", -5, Group::SortedSet, bzmpop)
        .keys(&[KeySpec::counted(2, Access::Take)])
        .flags(Flags::BLOCKING.with(Flags::MOVABLE_KEYS))
        .doc(
            "7.0.0",
            MANY_KEYS_COMPLEXITY,
            "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
            "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
        ),
];
