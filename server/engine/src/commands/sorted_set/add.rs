//! ZADD and ZINCRBY.

use super::edit_sorted_set;
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::limits::Limits;
use crate::reply::{CommandResult, Reply};
use crate::value::Object;
use crate::value::number::parse_f64;
use crate::value::sorted_set::{SortedSet, Upsert};

/// The options of ZADD.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    /// NX: only add.
    only_add: bool,
    /// XX: only change.
    only_change: bool,
    /// GT: only to a greater score.
    only_greater: bool,
    /// LT: only to a lesser score.
    only_lesser: bool,
    /// CH: the reply counts changes too.
    count_changes: bool,
    /// INCR: the score is an increment.
    increment: bool,
}

/// What the elements of one command did.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    added: usize,
    changed: usize,
    /// The score of the last element, unless a rule held it back.
    score: Option<f64>,
}

impl Rules {
    /// Reads the options from index 2 on; also returns where the scores begin.
    fn parse(args: Args<'_>, increment: bool) -> Result<(Self, usize), CommandError> {
        let mut rules = Self { increment, ..Self::default() };
        let mut at = 2;
        while let Some(option) = args.get(at) {
            // A score is the commonest thing to stand here, and never a letter pair.
            let rule = match option.len() {
                2 if is(option, "NX") => &mut rules.only_add,
                2 if is(option, "XX") => &mut rules.only_change,
                2 if is(option, "GT") => &mut rules.only_greater,
                2 if is(option, "LT") => &mut rules.only_lesser,
                2 if is(option, "CH") => &mut rules.count_changes,
                4 if is(option, "INCR") => &mut rules.increment,
                _ => break,
            };
            *rule = true;
            at += 1;
        }
        Ok((rules, at))
    }

    fn check(self, elements: usize) -> Result<(), CommandError> {
        if self.only_add && self.only_change {
            return Err(CommandError::known(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if (self.only_add && (self.only_greater || self.only_lesser))
            || self.only_greater && self.only_lesser
        {
            return Err(CommandError::known(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.increment && elements > 1 {
            return Err(CommandError::known(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        Ok(())
    }

    /// The score a member gets that has one already; `None` if a rule holds it back.
    fn score_after(self, before: f64, score: f64) -> Result<Option<f64>, CommandError> {
        if self.only_add {
            return Ok(None);
        }
        let after = if self.increment { before + score } else { score };
        if after.is_nan() {
            return Err(CommandError::known("ERR resulting score is not a number (NaN)"));
        }
        let held_back = self.only_lesser && after >= before || self.only_greater && after <= before;
        Ok((!held_back).then_some(after))
    }

    /// Adds or changes one member. Only an increment can fail, and it is the only one then.
    fn apply(
        self,
        set: &mut SortedSet,
        (score, member): (f64, &[u8]),
        limits: &Limits,
        tally: &mut Tally,
    ) -> Result<(), CommandError> {
        tally.score = None;
        if self.only_change && set.score(member).is_none() {
            return Ok(());
        }
        let mut decided = Ok(Some(score));
        let done = set.upsert(member, score, limits, |before| {
            decided = self.score_after(before, score);
            match decided {
                Ok(Some(after)) if after != before => Some(after),
                _ => None,
            }
        });
        tally.score = decided?;
        match done {
            Upsert::Added => tally.added += 1,
            Upsert::Changed => tally.changed += 1,
            Upsert::Kept => {}
        }
        Ok(())
    }
}

fn add(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    increment: bool,
) -> CommandResult {
    let key = args[1];
    let (rules, first) = Rules::parse(args, increment)?;
    let (pairs, rest) = args[first..].as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(CommandError::SYNTAX);
    }
    rules.check(pairs.len())?;
    let mut elements = smallvec::SmallVec::<[(f64, &[u8]); 4]>::with_capacity(pairs.len());
    for [score, member] in pairs {
        elements.push((parse_f64(score).ok_or(CommandError::NOT_A_FLOAT)?, member));
    }
    let limits = view.limits();
    let tally = edit_sorted_set(view, key, effects, |set| {
        set.expect(elements.len(), limits);
        let mut tally = Tally::default();
        for element in &elements {
            rules.apply(set, *element, limits, &mut tally)?;
        }
        Ok(if tally.added + tally.changed > 0 { Edit::Made(tally) } else { Edit::Declined(tally) })
    })?;
    let tally = match tally {
        Some(tally) => tally,
        None => add_new(view, key, rules, &elements, effects)?,
    };
    let written = tally.added + tally.changed;
    if written > 0 {
        let event = if rules.increment { "zincr" } else { "zadd" };
        effects.event(EventClass::SORTED_SET, event, view.db(), key);
        effects.changed(written as u64);
    }
    Ok(if rules.increment {
        tally.score.map_or(Reply::Nil, Reply::Double)
    } else if rules.count_changes {
        Reply::count(written)
    } else {
        Reply::count(tally.added)
    })
}

/// Makes the key of these elements, unless only members that are there may change.
fn add_new(
    view: &mut View<'_>,
    key: &[u8],
    rules: Rules,
    elements: &[(f64, &[u8])],
    effects: &mut Effects,
) -> Result<Tally, CommandError> {
    let mut tally = Tally::default();
    if rules.only_change {
        return Ok(tally);
    }
    let limits = view.limits();
    let mut set = SortedSet::for_members(elements.len(), elements[0].1.len(), limits);
    for element in elements {
        rules.apply(&mut set, *element, limits, &mut tally)?;
    }
    view.set_object(key, Object::SortedSet(set), None, effects);
    Ok(tally)
}

/// `ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]`: how many members are
/// new, with CH how many are new or changed, with INCR the score or nil. O(log N) each.
pub(in crate::commands) fn zadd(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> CommandResult {
    add(view, args, effects, false)
}

/// `ZINCRBY key increment member`: the new score. O(log N).
fn zincrby(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    add(view, args, effects, true)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("zadd", -4, Group::SortedSet, zadd)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(Flags::DENYOOM.with(Flags::FAST))
        .doc(
            "1.2.0",
            "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
            "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
            "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist.",
        ),
    Command::write("zincrby", 4, Group::SortedSet, zincrby)
        .keys(&[KeySpec::one(1, Access::Update)])
        .flags(Flags::DENYOOM.with(Flags::FAST))
        .doc(
            "1.2.0",
            "O(log(N)) where N is the number of elements in the sorted set.",
            "key increment member",
            "Increments the score of a member in a sorted set.",
        ),
];
