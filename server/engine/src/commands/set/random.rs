//! Random members: SPOP and SRANDMEMBER, drawn from the proposal's seed.

use super::basic::members_of;
use super::{edit_set, remove_emptied, set_at};
use crate::collections::FixedMap;
use crate::command::options::integer;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::listpack::Listpack;
use crate::value::set::Set;

/// SPOP takes members out one by one if at least this part of the count stays; otherwise it
/// takes out those that stay, as Redis does.
const STAY_FACTOR: usize = 5;

/// A count that may be negative, for repetitions.
///
/// # Errors
/// Not an integer, or the one number whose negative is none.
pub(crate) fn signed_count(text: &[u8]) -> Result<i64, CommandError> {
    match integer(text)? {
        i64::MIN => Err(CommandError::known(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// A count that may be 0.
///
/// # Errors
/// `ERR value is out of range, must be positive`, also for what is no integer.
pub(crate) fn positive_count(text: &[u8]) -> Result<usize, CommandError> {
    let count = integer(text).map_err(|_| CommandError::NOT_POSITIVE)?;
    usize::try_from(count).map_err(|_| CommandError::NOT_POSITIVE)
}

/// Replies are built whole: a negative count, which no collection limits, may ask for at most so
/// many elements …
const REPETITIONS_MAX: u64 = 4 << 20;
/// … and of so many bytes.
const REPEATED_LEN_MAX: usize = 512 << 20;
/// What COMPATIBILITY.md says of it.
pub(crate) const REPETITIONS_DIFFER: &str = "a negative count asks for at most 4,194,304 elements";

/// Calls `push` with the indices below `len` that a negative count draws; it returns the length
/// of the element there.
///
/// # Errors
/// `ERR value is out of range` for more than a reply may hold.
pub(crate) fn repeated(
    view: &View<'_>,
    len: usize,
    count: i64,
    mut push: impl FnMut(usize) -> usize,
) -> Result<(), CommandError> {
    let wanted = count.unsigned_abs();
    if wanted > REPETITIONS_MAX {
        return Err(CommandError::OUT_OF_RANGE);
    }
    let mut bytes = 0;
    for _ in 0..wanted {
        bytes += push(view.random_below(len));
        if bytes > REPEATED_LEN_MAX {
            return Err(CommandError::OUT_OF_RANGE);
        }
    }
    Ok(())
}

/// `count` distinct indices below `len`, which must be at least as much; in random order only as
/// far as the draw leaves them so.
pub(crate) fn sample(view: &View<'_>, len: usize, count: usize) -> Vec<usize> {
    // Few of many: Floyd's draw, whose memory is that of the result.
    if count < len / 3 {
        let mut drawn: FixedMap<usize, ()> = FixedMap::default();
        return (len - count..len)
            .map(|last| {
                let index = view.random_below(last + 1);
                let index = if drawn.insert(index, ()).is_none() {
                    return index;
                } else {
                    last
                };
                drawn.insert(index, ());
                index
            })
            .collect();
    }
    let mut all: Vec<usize> = (0..len).collect();
    for at in 0..count {
        let other = at + view.random_below(len - at);
        all.swap(at, other);
    }
    all.truncate(count);
    all
}

/// `SPOP key [count]`: a random member, or so many as a set, removed. O(N) in the count.
fn spop(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    match args {
        [_, key] => spop_one(view, key, effects),
        [_, key, count] => spop_count(view, key, positive_count(count)?, effects),
        _ => Err(CommandError::SYNTAX),
    }
}

fn spop_one(view: &mut View<'_>, key: &[u8], effects: &mut Effects) -> CommandResult {
    let random = view.random();
    let popped = edit_set(view, key, effects, |set| {
        let index = ((u128::from(random) * set.len() as u128) >> 64) as usize;
        let reply = set.get(index).map_or(Reply::Nil, |member| member.reply());
        set.remove_at(index);
        Edit::Made((reply, set.is_empty()))
    })?;
    let Some((reply, emptied)) = popped else {
        return Ok(Reply::Nil);
    };
    effects.event(EventClass::SET, "spop", view.db(), key);
    if emptied {
        remove_emptied(view, key, effects);
    }
    effects.changed(1);
    Ok(reply)
}

fn spop_count(
    view: &mut View<'_>,
    key: &[u8],
    count: usize,
    effects: &mut Effects,
) -> CommandResult {
    let Some(set) = set_at(view, key)? else {
        return Ok(Reply::BulkSet(BulkList::default()));
    };
    if count == 0 {
        return Ok(Reply::BulkSet(BulkList::default()));
    }
    let len = set.len();
    if count >= len {
        let all = members_of(set);
        effects.event(EventClass::SET, "spop", view.db(), key);
        remove_emptied(view, key, effects);
        effects.changed(len as u64);
        return Ok(Reply::BulkSet(all));
    }
    let stay = len - count;
    let few_stay = stay * STAY_FACTOR <= count;
    let draws = if few_stay { stay } else { count };
    let draws: Vec<usize> = (0..draws).map(|drawn| view.random_below(len - drawn)).collect();
    let limits = view.limits();
    let popped = edit_set(view, key, effects, |set| {
        let mut popped = BulkList::with_capacity(count, 16);
        if few_stay {
            // As in Redis the rest begins anew in a small encoding.
            let mut rest = match set {
                Set::Ints(_) => Set::default(),
                _ => Set::Pack(Listpack::new()),
            };
            for index in draws {
                if let Some(member) = set.get(index) {
                    rest.insert_entry(member, limits);
                    set.remove_at(index);
                }
            }
            popped = members_of(set);
            *set = rest;
        } else {
            for index in draws {
                if let Some(member) = set.get(index) {
                    member.push_to(&mut popped);
                    set.remove_at(index);
                }
            }
        }
        Edit::Made(popped)
    })?;
    effects.event(EventClass::SET, "spop", view.db(), key);
    effects.changed(count as u64);
    Ok(Reply::BulkSet(popped.unwrap_or_default()))
}

/// `SRANDMEMBER key [count]`: a random member; so many distinct ones; or, of a negative count,
/// so many with repetitions. O(N) in the count.
fn srandmember(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(signed_count(count)?),
        _ => return Err(CommandError::SYNTAX),
    };
    let set = set_at(view, args[1])?;
    let Some(count) = count else {
        return Ok(set
            .and_then(|set| set.get(view.random_below(set.len())))
            .map_or(Reply::Nil, |member| member.reply()));
    };
    let Some(set) = set else {
        return Ok(Reply::Array(Vec::new()));
    };
    let (len, wanted) = (set.len(), count.unsigned_abs() as usize);
    if count > 0 && wanted >= len {
        return Ok(Reply::Bulks(members_of(set)));
    }
    let mut list = BulkList::with_capacity(wanted, 16);
    let mut push = |index| {
        let before = list.packed_len();
        if let Some(member) = set.get(index) {
            member.push_to(&mut list);
        }
        list.packed_len() - before
    };
    if count < 0 {
        repeated(view, len, count, push)?;
    } else {
        sample(view, len, wanted).into_iter().for_each(|index| {
            push(index);
        });
    }
    Ok(Reply::Bulks(list))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("spop", -2, Group::Set, spop)
        .keys(&[KeySpec::one(1, Access::Take)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
            "key [count]",
            "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.",
        ),
    Command::read("srandmember", -2, Group::Set, srandmember)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "1.0.0",
            "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
            "key [count]",
            "Get one or multiple random members from a set",
        ).differs(REPETITIONS_DIFFER),
];
