//! Members one by one: SADD, SREM, SISMEMBER, SCARD, SMEMBERS, SMOVE.

use super::{edit_set, remove_emptied, set_at, set_of};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::keyspace::{Edit, View};
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::Object;
use crate::value::set::Set;

/// Adds members to the set at `key`, which is made if need be; how many were not there.
fn add(
    view: &mut View<'_>,
    key: &[u8],
    members: Args<'_>,
    effects: &mut Effects,
) -> Result<usize, crate::CommandError> {
    let limits = view.limits();
    let insert_all =
        |set: &mut Set| members.iter().filter(|member| set.insert(member, limits)).count();
    let added = edit_set(view, key, effects, |set| {
        set.expect(members.len(), limits);
        match insert_all(set) {
            0 => Edit::Declined(0),
            added => Edit::Made(added),
        }
    })?;
    if let Some(added) = added {
        return Ok(added);
    }
    let mut set = Set::for_members(members[0], members.len(), limits);
    let added = insert_all(&mut set);
    view.set_object(key, Object::Set(set), None, effects);
    Ok(added)
}

/// `SADD key member [member ...]`: how many members were not there. O(1) each.
fn sadd(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let added = add(view, args[1], &args[2..], effects)?;
    if added > 0 {
        effects.event(EventClass::SET, "sadd", view.db(), args[1]);
        effects.changed(added as u64);
    }
    Ok(Reply::count(added))
}

/// `SREM key member [member ...]`: how many members were there. O(1) each.
fn srem(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let removed = edit_set(view, key, effects, |set| {
        let removed = args[2..].iter().filter(|member| set.remove(member)).count();
        match removed {
            0 => Edit::Declined((0, false)),
            _ => Edit::Made((removed, set.is_empty())),
        }
    })?;
    let (removed, emptied) = removed.unwrap_or((0, false));
    if removed > 0 {
        effects.event(EventClass::SET, "srem", view.db(), key);
        effects.changed(removed as u64);
    }
    if emptied {
        remove_emptied(view, key, effects);
    }
    Ok(Reply::count(removed))
}

/// `SMOVE source destination member`: whether the member was in the source. O(1).
fn smove(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (source, destination, member) = (args[1], args[2], args[3]);
    let Some(from) = set_at(view, source)? else {
        return Ok(Reply::flag(false));
    };
    let is_there = from.contains(member);
    if let Some(record) = view.get(destination) {
        set_of(record)?;
    }
    if source == destination || !is_there {
        return Ok(Reply::flag(is_there));
    }
    let emptied = edit_set(view, source, effects, |set| {
        set.remove(member);
        Edit::Made(set.is_empty())
    })?;
    effects.event(EventClass::SET, "srem", view.db(), source);
    if emptied == Some(true) {
        remove_emptied(view, source, effects);
    }
    effects.changed(1);
    if add(view, destination, &[member], effects)? > 0 {
        effects.changed(1);
        effects.event(EventClass::SET, "sadd", view.db(), destination);
    }
    Ok(Reply::flag(true))
}

/// `SISMEMBER key member`: whether it is one. O(1).
fn sismember(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let set = set_at(view, args[1])?;
    Ok(Reply::flag(set.is_some_and(|set| set.contains(args[2]))))
}

/// `SMISMEMBER key member [member ...]`: whether each is one. O(1) each.
fn smismember(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let set = set_at(view, args[1])?;
    let is_member = |member: &&[u8]| Reply::flag(set.is_some_and(|set| set.contains(member)));
    Ok(Reply::Array(args[2..].iter().map(is_member).collect()))
}

/// `SCARD key`: how many members it has. O(1).
fn scard(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::count(set_at(view, args[1])?.map_or(0, Set::len)))
}

/// `SMEMBERS key`: its members. O(N).
fn smembers(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::BulkSet(match set_at(view, args[1])? {
        Some(set) => members_of(set),
        None => BulkList::default(),
    }))
}

/// All members as one list.
pub(super) fn members_of(set: &Set) -> BulkList {
    let mut list = BulkList::with_capacity(set.len(), 16);
    for member in set.iter() {
        member.push_to(&mut list);
    }
    list
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("sadd", -3, Group::Set, sadd)
        .keys(&[KeySpec::one(1, Access::Insert)])
        .flags(Flags::DENYOOM.with(Flags::FAST))
        .doc(
            "1.0.0",
            "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            "key member [member ...]",
            "Adds one or more members to a set. Creates the key if it doesn't exist.",
        ),
    Command::write("srem", -3, Group::Set, srem)
        .keys(&[KeySpec::one(1, Access::Remove)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(N) where N is the number of members to be removed.",
            "key member [member ...]",
            "Removes one or more members from a set. Deletes the set if the last member was removed.",
        ),
    Command::write("smove", 4, Group::Set, smove)
        .keys(&[KeySpec::one(1, Access::Take), KeySpec::one(2, Access::Insert)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(1)",
            "source destination member",
            "Moves a member from one set to another.",
        ),
    Command::read("sismember", 3, Group::Set, sismember)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(1)",
            "key member",
            "Determines whether a member belongs to a set.",
        ),
    Command::read("smismember", -3, Group::Set, smismember)
        .keys(&[KeySpec::one(1, Access::Read)])
        .flags(Flags::FAST)
        .doc(
            "6.2.0",
            "O(N) where N is the number of elements being checked for membership",
            "key member [member ...]",
            "Determines whether multiple members belong to a set.",
        ),
    Command::read("scard", 2, Group::Set, scard)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc("1.0.0", "O(1)", "key", "Returns the number of members in a set."),
    Command::read("smembers", 2, Group::Set, smembers)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "1.0.0",
            "O(N) where N is the set cardinality.",
            "key",
            "Returns all members of a set.",
        ),
];
