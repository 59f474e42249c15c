//! Intersections, unions and differences: SINTER, SUNION, SDIFF, their STORE forms, SINTERCARD.

use super::{remove_emptied, set_at};
use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::lock::spare_lock;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::limits::Limits;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::Object;
use crate::value::listpack::{Entry, Listpack};
use crate::value::set::Set;

/// The sets at `keys`; a key that is not there is an empty one.
fn sets_at<'v>(view: &'v View<'_>, keys: Args<'_>) -> Result<Vec<Option<&'v Set>>, CommandError> {
    keys.iter().map(|key| set_at(view, key)).collect()
}

/// Calls `found` with every member of the intersection while it says to go on. The smallest
/// set is walked, the others, from small to large, are asked.
fn intersect<'v>(sets: &[Option<&'v Set>], mut found: impl FnMut(Entry<'v>) -> bool) {
    let present: Option<Vec<&Set>> = sets.iter().copied().collect();
    let Some(mut sets) = present else { return };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    for member in smallest.iter() {
        // The same set may be named twice.
        let in_all = others
            .iter()
            .all(|other| std::ptr::eq(*other, *smallest) || other.contains_entry(member));
        if in_all && !found(member) {
            return;
        }
    }
}

/// `SINTER key [key ...]`: the members of all sets. O(N × M), N the size of the smallest.
fn sinter(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let mut list = BulkList::default();
    intersect(&sets_at(view, &args[1..])?, |member| {
        member.push_to(&mut list);
        true
    });
    Ok(Reply::BulkSet(list))
}

/// `SINTERCARD numkeys key [key ...] [LIMIT limit]`: how many members all sets share; counting
/// ends at the limit, 0 for none. O(N × M).
fn sintercard(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let count = integer(args[1])
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(CommandError::known("ERR numkeys should be greater than 0"))?;
    if count > args.len() - 2 {
        return Err(CommandError::known("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = 0;
    let mut options = Options::after(args, 2 + count);
    while let Some(option) = options.next() {
        if !is(option, "LIMIT") {
            return Err(CommandError::SYNTAX);
        }
        limit = limit_value(options.value()?)?;
    }
    let mut shared = 0;
    intersect(&sets_at(view, &args[2..2 + count])?, |_| {
        shared += 1;
        limit == 0 || shared < limit
    });
    Ok(Reply::count(shared))
}

/// The value of LIMIT in SINTERCARD and ZINTERCARD.
///
/// # Errors
/// `ERR LIMIT can't be negative`, also for what is no integer.
pub(crate) fn limit_value(text: &[u8]) -> Result<usize, CommandError> {
    integer(text)
        .ok()
        .and_then(|limit| usize::try_from(limit).ok())
        .ok_or(CommandError::known("ERR LIMIT can't be negative"))
}

/// Where the members of a union or difference are collected: ascending if all sets are of
/// integers, as Redis answers then, otherwise in the order they are met.
fn empty_result(sets: &[Option<&Set>]) -> Set {
    if sets.iter().flatten().all(|set| matches!(set, Set::Ints(_))) {
        return Set::default();
    }
    let count = sets.iter().flatten().map(|set| set.len()).max();
    Set::hashed(count.unwrap_or(0))
}

fn unite(sets: &[Option<&Set>], mut result: Set, limits: &Limits) -> Set {
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        result.insert_entry(member, limits);
    }
    result
}

/// The first set's members that are in no other: asked of the others, or, when that takes more
/// steps than all sets have members, by taking the others' members away.
fn subtract(sets: &[Option<&Set>], mut result: Set, limits: &Limits) -> Set {
    let Some((Some(first), others)) = sets.split_first() else {
        return result;
    };
    let mut others: Vec<&Set> = others.iter().flatten().copied().collect();
    let total = first.len() + others.iter().map(|set| set.len()).sum::<usize>();
    if first.len() * (others.len() + 1) / 2 <= total {
        // The largest is the likeliest to have a member.
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        for member in first.iter() {
            if !others.iter().any(|other| other.contains_entry(member)) {
                result.insert_entry(member, limits);
            }
        }
        return result;
    }
    for member in first.iter() {
        result.insert_entry(member, limits);
    }
    for member in others.into_iter().flat_map(Set::iter) {
        if result.is_empty() {
            break;
        }
        result.remove(member.text(&mut itoa::Buffer::new()));
    }
    result
}

/// `SUNION key [key ...]`: the members of any set. O(N).
fn sunion(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let sets = sets_at(view, &args[1..])?;
    if let [Some(only)] = sets.as_slice() {
        return Ok(Reply::BulkSet(super::basic::members_of(only)));
    }
    let limits = view.limits();
    let union = unite(&sets, empty_result(&sets), limits);
    Ok(Reply::BulkSet(super::basic::members_of(&union)))
}

/// `SDIFF key [key ...]`: the members of the first set that are in no other. O(N).
fn sdiff(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let sets = sets_at(view, &args[1..])?;
    let limits = view.limits();
    let difference = subtract(&sets, empty_result(&sets), limits);
    Ok(Reply::BulkSet(super::basic::members_of(&difference)))
}

/// Puts a result in the place of whatever `key` held, or removes the key if it is empty.
fn store(
    view: &mut View<'_>,
    key: &[u8],
    result: Set,
    event: &'static str,
    effects: &mut Effects,
) -> CommandResult {
    let len = result.len();
    spare_lock(view, key)?;
    if len > 0 {
        view.set_object(key, Object::Set(result), None, effects);
        effects.event(EventClass::SET, event, view.db(), key);
        effects.changed(1);
    } else if view.peek(key).is_some() {
        remove_emptied(view, key, effects);
        effects.changed(1);
    }
    Ok(Reply::count(len))
}

/// `SINTERSTORE destination key [key ...]`: the size of the intersection. O(N × M).
fn sinterstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let limits = view.limits();
    let sets = sets_at(view, &args[2..])?;
    let smallest = sets.iter().flatten().min_by_key(|set| set.len());
    let mut result = match smallest {
        Some(Set::Ints(_)) => Set::default(),
        _ => Set::Pack(Listpack::new()),
    };
    intersect(&sets, |member| {
        result.insert_entry(member, limits);
        true
    });
    result.prefer_ints(limits);
    store(view, args[1], result, "sinterstore", effects)
}

/// `SUNIONSTORE destination key [key ...]`: the size of the union. O(N).
fn sunionstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let limits = view.limits();
    let union = unite(&sets_at(view, &args[2..])?, Set::default(), limits);
    store(view, args[1], union, "sunionstore", effects)
}

/// `SDIFFSTORE destination key [key ...]`: the size of the difference. O(N).
fn sdiffstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let limits = view.limits();
    let difference = subtract(&sets_at(view, &args[2..])?, Set::default(), limits);
    store(view, args[1], difference, "sdiffstore", effects)
}

/// Keys of SINTER and its kin.
const SOURCES: &[KeySpec] = &[KeySpec::range(1, -1, 1, Access::Read)];
/// Keys of the STORE forms.
const STORES: &[KeySpec] =
    &[KeySpec::one(1, Access::Overwrite), KeySpec::range(2, -1, 1, Access::Read)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("sinter", -2, Group::Set, sinter)
        .keys(SOURCES)
        .doc(
            "1.0.0",
            "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            "key [key ...]",
            "Returns the intersect of multiple sets.",
        ),
    Command::read("sintercard", -3, Group::Set, sintercard)
        .keys(&[KeySpec::counted(1, Access::Read)])
        .flags(Flags::MOVABLE_KEYS)
        .doc(
            "7.0.0",
            "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            "numkeys key [key ...] [LIMIT limit]",
            "Returns the number of members of the intersect of multiple sets.",
        ),
    Command::write("sinterstore", -3, Group::Set, sinterstore)
        .keys(&[
            KeySpec::one(1, Access::Modify),
            KeySpec::range(2, -1, 1, Access::Read),
        ])
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.0",
            "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            "destination key [key ...]",
            "Stores the intersect of multiple sets in a key.",
        ),
    Command::read("sunion", -2, Group::Set, sunion)
        .keys(SOURCES)
        .doc(
            "1.0.0",
            "O(N) where N is the total number of elements in all given sets.",
            "key [key ...]",
            "Returns the union of multiple sets.",
        ),
    Command::write("sunionstore", -3, Group::Set, sunionstore)
        .keys(STORES)
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.0",
            "O(N) where N is the total number of elements in all given sets.",
            "destination key [key ...]",
            "Stores the union of multiple sets in a key.",
        ),
    Command::read("sdiff", -2, Group::Set, sdiff)
        .keys(SOURCES)
        .doc(
            "1.0.0",
            "O(N) where N is the total number of elements in all given sets.",
            "key [key ...]",
            "Returns the difference of multiple sets.",
        ),
    Command::write("sdiffstore", -3, Group::Set, sdiffstore)
        .keys(STORES)
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.0",
            "O(N) where N is the total number of elements in all given sets.",
            "destination key [key ...]",
            "Stores the difference of multiple sets in a key.",
        ),
];
