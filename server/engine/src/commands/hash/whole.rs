//! Many fields at once: HGETALL, HKEYS, HVALS, HSCAN, HRANDFIELD.

use std::collections::BTreeSet;

use super::find;
use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::commands::keys::browse::parse_cursor;
use crate::commands::set::random::{REPETITIONS_DIFFER, repeated};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::glob::Glob;
use crate::value::hash::Hash;
use crate::value::listpack::Entry;

/// How many fields a call of HSCAN visits unless told.
const SCAN_COUNT: usize = 10;

/// Which halves of a pair a reply holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halves {
    Fields,
    Values,
    Both,
}

impl Halves {
    #[inline]
    fn push(self, list: &mut BulkList, field: Entry<'_>, value: Entry<'_>) {
        if self != Self::Values {
            field.push_to(list);
        }
        if self != Self::Fields {
            value.push_to(list);
        }
    }
}

fn all(view: &View<'_>, args: Args<'_>, halves: Halves) -> Result<BulkList, CommandError> {
    let Some(hash) = find(view, args[1])? else {
        return Ok(BulkList::default());
    };
    let count = hash.stored_len() * if halves == Halves::Both { 2 } else { 1 };
    let mut list = BulkList::with_capacity(count, 12);
    hash.each(view.now(), |field, value| halves.push(&mut list, field, value));
    Ok(list)
}

/// `HGETALL key`: the fields with their values. O(N).
fn hgetall(view: &View<'_>, args: Args<'_>) -> CommandResult {
    all(view, args, Halves::Both).map(Reply::BulkMap)
}

/// `HKEYS key`: the fields. O(N).
fn hkeys(view: &View<'_>, args: Args<'_>) -> CommandResult {
    all(view, args, Halves::Fields).map(Reply::Bulks)
}

/// `HVALS key`: the values. O(N).
fn hvals(view: &View<'_>, args: Args<'_>) -> CommandResult {
    all(view, args, Halves::Values).map(Reply::Bulks)
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`: the next cursor, 0 at the end,
/// and some fields with their values. O(1) a call, O(N) a whole iteration.
///
/// A field that is there from the first call to the last is told, however the hash grows or
/// shrinks meanwhile; one may be told twice. A small hash is told whole.
fn hscan(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args[2])?.0;
    let mut found = BulkList::default();
    let mut next = 0;
    // As in Redis, a key that is not there comes before options that are none.
    if let Some(hash) = find(view, args[1])? {
        let (mut pattern, mut count, mut halves) = (None, SCAN_COUNT, Halves::Both);
        let mut options = Options::after(args, 3);
        while let Some(option) = options.next() {
            if is(option, "COUNT") {
                count = usize::try_from(integer(options.value()?)?)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(CommandError::SYNTAX)?;
            } else if is(option, "MATCH") {
                pattern = Some(Glob::new(options.value()?)).filter(|glob| !glob.is_any());
            } else if is(option, "NOVALUES") {
                halves = Halves::Fields;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        next = hash.scan(cursor, count, view.now(), |field, value| {
            let matches = |glob: &Glob| glob.matches(field.text(&mut itoa::Buffer::new()));
            if pattern.as_ref().is_none_or(matches) {
                halves.push(&mut found, field, value);
            }
        });
    }
    let next = Reply::bulk(itoa::Buffer::new().format(next).as_bytes());
    Ok(Reply::Array(vec![next, Reply::Bulks(found)]))
}

/// Places of live fields: all of them without a list, while no field has expired.
enum Places {
    All(usize),
    Some(Vec<usize>),
}

impl Places {
    fn of(hash: &Hash, view: &View<'_>) -> Self {
        let (stored, now) = (hash.stored_len(), view.now());
        if hash.len(now) == stored {
            return Self::All(stored);
        }
        Self::Some((0..stored).filter(|place| hash.at(*place, now).is_some()).collect())
    }

    fn len(&self) -> usize {
        match self {
            Self::All(len) => *len,
            Self::Some(places) => places.len(),
        }
    }

    fn nth(&self, nth: usize) -> usize {
        match self {
            Self::All(_) => nth,
            Self::Some(places) => places[nth],
        }
    }
}

/// `count` different numbers below `len`, which is more, in the order drawn.
fn draw_distinct(view: &View<'_>, len: usize, count: usize) -> Vec<usize> {
    if count * 3 > len {
        // So many that most draws would repeat: shuffle the first few instead.
        let mut numbers: Vec<usize> = (0..len).collect();
        for at in 0..count {
            numbers.swap(at, at + view.random_below(len - at));
        }
        numbers.truncate(count);
        return numbers;
    }
    let (mut drawn, mut seen) = (Vec::with_capacity(count), BTreeSet::new());
    while drawn.len() < count {
        let number = view.random_below(len);
        if seen.insert(number) {
            drawn.push(number);
        }
    }
    drawn
}

/// Draws as HRANDFIELD's positive count asks: up to `wanted` different places.
fn draw(view: &View<'_>, places: &Places, wanted: usize) -> Vec<usize> {
    let len = places.len();
    let numbers = if len == 0 || wanted == 0 {
        Vec::new()
    } else if wanted >= len {
        (0..len).collect()
    } else {
        draw_distinct(view, len, wanted)
    };
    numbers.into_iter().map(|nth| places.nth(nth)).collect()
}

/// What HRANDFIELD is asked for.
struct Wish {
    /// `None` asks for one field as a bulk.
    count: Option<i64>,
    halves: Halves,
}

fn parse_wish(args: Args<'_>) -> Result<Wish, CommandError> {
    let [_, _, count, rest @ ..] = args else {
        return Ok(Wish { count: None, halves: Halves::Fields });
    };
    let count = integer(count)?;
    if count == i64::MIN {
        return Err(CommandError::known(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let halves = match rest {
        [] => Halves::Fields,
        [word] if is(word, "WITHVALUES") => Halves::Both,
        _ => return Err(CommandError::SYNTAX),
    };
    // Redis counts the bulks of the reply in a long.
    if halves == Halves::Both && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::OUT_OF_RANGE);
    }
    Ok(Wish { count: Some(count), halves })
}

/// `HRANDFIELD key [count [WITHVALUES]]`: a field drawn at random, or several; a negative count
/// allows repeats. O(N), N the fields returned; for a small hash its size too.
fn hrandfield(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let wish = parse_wish(args)?;
    let Some(hash) = find(view, args[1])? else {
        return Ok(wish.count.map_or(Reply::Nil, |_| Reply::Bulks(BulkList::default())));
    };
    let (places, now) = (Places::of(hash, view), view.now());
    let Some(count) = wish.count else {
        let place = draw(view, &places, 1).first().copied();
        let field = place.and_then(|place| hash.at(place, now));
        return Ok(field.map_or(Reply::Nil, |(field, _)| field.reply()));
    };
    let mut pairs = Vec::new();
    let mut fields = BulkList::default();
    let mut tell = |(field, value): (Entry<'_>, Entry<'_>)| match wish.halves {
        Halves::Both => {
            pairs.push((field.reply(), value.reply()));
            field.text_len() + value.text_len()
        }
        _ => {
            field.push_to(&mut fields);
            field.text_len()
        }
    };
    let mut all = Vec::new();
    if hash.is_compact() && count.unsigned_abs() > 1 {
        // Every look by place would walk the hash; walk it once instead.
        hash.each_stored(|field, value| all.push((field, value)));
    }
    let mut tell_place = |place: usize| match all.get(place) {
        Some(pair) => tell(*pair),
        None => hash.at(place, now).map_or(0, &mut tell),
    };
    if count < 0 {
        if places.len() > 0 {
            repeated(view, places.len(), count, |nth| tell_place(places.nth(nth)))?;
        }
    } else {
        draw(view, &places, count.unsigned_abs() as usize).into_iter().for_each(|place| {
            tell_place(place);
        });
    }
    Ok(match wish.halves {
        Halves::Both => Reply::Pairs(pairs),
        _ => Reply::Bulks(fields),
    })
}

const READ: &[KeySpec] = &[KeySpec::one(1, Access::Read)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("hgetall", 2, Group::Hash, hgetall).keys(READ).doc(
        "2.0.0",
        "O(N) where N is the size of the hash.",
        "key",
        "Returns all fields and values in a hash.",
    ),
    Command::read("hkeys", 2, Group::Hash, hkeys).keys(READ).doc(
        "2.0.0",
        "O(N) where N is the size of the hash.",
        "key",
        "Returns all fields in a hash.",
    ),
    Command::read("hvals", 2, Group::Hash, hvals).keys(READ).doc(
        "2.0.0",
        "O(N) where N is the size of the hash.",
        "key",
        "Returns all values in a hash.",
    ),
    Command::read("hscan", -3, Group::Hash, hscan).keys(READ).doc(
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        "Iterates over fields and values of a hash.",
    ),
    Command::read("hrandfield", -2, Group::Hash, hrandfield).keys(READ).doc(
        "6.2.0",
        "O(N) where N is the number of fields returned",
        "key [count [WITHVALUES]]",
        "Returns one or more random fields from a hash.",
    )
    .differs(REPETITIONS_DIFFER),
];
