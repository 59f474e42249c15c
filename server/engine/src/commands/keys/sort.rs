//! SORT and SORT_RO: the elements of a list, set or sorted set in order, by themselves or by
//! what other keys hold.
//!
//! BY and GET name keys by a pattern, whose `*` each element takes the place of: which keys
//! these are only the value tells, so every shard of the database is held while it runs.

use std::cmp::Ordering;

use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec, Scope};
use crate::commands::string::basic::string_bytes;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::Value;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::Object;
use crate::value::list::{End, List, NodeLimit};
use crate::value::listpack::Entry;
use crate::value::number::parse_f64;

/// A pattern of BY or GET.
#[derive(Debug, Clone, Copy)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without `*`: no key.
    Constant,
    /// A key around the element, and a field of it if it is a hash.
    Key { before: &'a [u8], after: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Self {
        if text == b"#" {
            return Self::Element;
        }
        let Some(star) = text.iter().position(|byte| *byte == b'*') else {
            return Self::Constant;
        };
        let (before, after) = (&text[..star], &text[star + 1..]);
        match after.windows(2).position(|two| two == b"->") {
            // With nothing behind it the arrow belongs to the key.
            Some(arrow) if arrow + 2 < after.len() => {
                Self::Key { before, after: &after[..arrow], field: Some(&after[arrow + 2..]) }
            }
            _ => Self::Key { before, after, field: None },
        }
    }

    /// What the pattern leads to from `element`, if there is such a string or field.
    fn look_up<T>(
        self,
        view: &View<'_>,
        element: Entry<'_>,
        found: impl FnOnce(Option<&[u8]>) -> T,
    ) -> T {
        let mut digits = itoa::Buffer::new();
        let element = element.text(&mut digits);
        let (before, after, field) = match self {
            Self::Element => return found(Some(element)),
            Self::Constant => return found(None),
            Self::Key { before, after, field } => (before, after, field),
        };
        let key = [before, element, after].concat();
        let mut room = itoa::Buffer::new();
        match (view.get(&key), field) {
            (Some(record), None) => found(string_bytes(record, &mut room).ok()),
            (Some(record), Some(field)) => match record.value() {
                Value::Object(Object::Hash(hash)) => {
                    found(hash.get(field, view.now()).map(|value| value.text(&mut room)))
                }
                _ => found(None),
            },
            (None, _) => found(None),
        }
    }
}

/// What SORT was asked for.
struct Wish<'a> {
    by: Option<Pattern<'a>>,
    get: Vec<Pattern<'a>>,
    limit: Option<(i64, i64)>,
    descending: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

/// Whether STORE may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Allowed,
    Refused,
}

fn parse<'a>(args: Args<'a>, store: Store) -> Result<Wish<'a>, CommandError> {
    let mut wish = Wish {
        by: None,
        get: Vec::new(),
        limit: None,
        descending: false,
        alpha: false,
        store: None,
    };
    let mut options = Options::after(args, 2);
    while let Some(option) = options.next() {
        if is(option, "ASC") {
            wish.descending = false;
        } else if is(option, "DESC") {
            wish.descending = true;
        } else if is(option, "ALPHA") {
            wish.alpha = true;
        } else if is(option, "LIMIT") {
            let (offset, count) = (options.value()?, options.value()?);
            wish.limit = Some((integer(offset)?, integer(count)?));
        } else if is(option, "STORE") && store == Store::Allowed {
            wish.store = Some(options.value()?);
        } else if is(option, "BY") {
            wish.by = Some(Pattern::parse(options.value()?));
        } else if is(option, "GET") {
            wish.get.push(Pattern::parse(options.value()?));
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(wish)
}

impl Wish<'_> {
    /// The places from LIMIT's offset to its end, of `len`.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let Some((offset, count)) = self.limit else { return 0..len };
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(len);
        match usize::try_from(count) {
            Ok(count) => start..start.saturating_add(count).min(len),
            Err(_) => start..len,
        }
    }

    /// Whether elements keep the order they have.
    fn keeps_order(&self) -> bool {
        // `#` is a pattern of GET; to BY it is one more constant.
        matches!(self.by, Some(Pattern::Constant | Pattern::Element))
    }
}

/// What an element is ordered by.
enum Weight {
    /// Its number.
    Score(f64),
    /// Itself.
    Element,
    /// The text BY led to, if to any.
    Text(Option<Box<[u8]>>),
}

struct Item<'v> {
    weight: Weight,
    element: Entry<'v>,
}

fn compare_texts(a: Entry<'_>, b: Entry<'_>) -> Ordering {
    a.text(&mut itoa::Buffer::new()).cmp(b.text(&mut itoa::Buffer::new()))
}

/// A total order, so that the result is the same on every node: what weighs the same is ordered
/// by the element.
fn compare(a: &Item<'_>, b: &Item<'_>) -> Ordering {
    let by_weight = match (&a.weight, &b.weight) {
        (Weight::Score(a), Weight::Score(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        // What has no text comes first.
        (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    by_weight.then_with(|| compare_texts(a.element, b.element))
}

/// The number a weight is, read as C's `strtod` does: nothing at all is 0.
fn score(text: &[u8]) -> Result<f64, CommandError> {
    let trimmed = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'));
    match trimmed {
        None if text.is_empty() => Some(0.0),
        None => None,
        Some(start) => parse_f64(&text[start..]),
    }
    .ok_or(CommandError::known("ERR One or more scores can't be converted into double"))
}

fn weigh<'v>(
    view: &View<'_>,
    wish: &Wish<'_>,
    element: Entry<'v>,
) -> Result<Item<'v>, CommandError> {
    let weight = match (wish.by, wish.alpha) {
        (None, true) => Weight::Element,
        (None, false) => Weight::Score(match element {
            Entry::Integer(number) => number as f64,
            Entry::Bytes(text) => score(text)?,
        }),
        (Some(by), true) => Weight::Text(by.look_up(view, element, |text| text.map(Into::into))),
        (Some(by), false) => {
            Weight::Score(by.look_up(view, element, |text| text.map_or(Ok(0.0), score))?)
        }
    };
    Ok(Item { weight, element })
}

/// The elements wanted, in order.
fn sorted<'v>(
    view: &'v View<'_>,
    key: &[u8],
    wish: &mut Wish<'_>,
) -> Result<Vec<Entry<'v>>, CommandError> {
    let Some(record) = view.get(key) else { return Ok(Vec::new()) };
    let Value::Object(object) = record.value() else { return Err(CommandError::WRONG_TYPE) };
    let len = match object {
        Object::List(list) => list.len(),
        Object::Set(set) => set.len(),
        Object::SortedSet(set) => set.len(),
        Object::Hash(_) | Object::String(_) => return Err(CommandError::WRONG_TYPE),
    };
    let range = wish.range(len);
    if wish.keeps_order() {
        let place = |nth: usize| if wish.descending { len - 1 - nth } else { nth };
        match object {
            Object::List(list) if wish.descending => {
                let first = len - range.end;
                let mut part: Vec<_> = list.iter_from(first).take(range.len()).collect();
                part.reverse();
                return Ok(part);
            }
            Object::List(list) => {
                return Ok(list.iter_from(range.start).take(range.len()).collect());
            }
            Object::SortedSet(set) => {
                let members = range.filter_map(|nth| set.get(place(nth)));
                return Ok(members.map(|(member, _)| member).collect());
            }
            // A set has no order to keep that every node would agree on.
            _ => (wish.by, wish.alpha) = (None, true),
        }
    }
    let weigh = |element| weigh(view, wish, element);
    let mut items: Vec<Item<'_>> = match object {
        Object::List(list) => list.iter().map(weigh).collect::<Result<_, _>>()?,
        Object::Set(set) => set.iter().map(weigh).collect::<Result<_, _>>()?,
        Object::SortedSet(set) => (0..len)
            .filter_map(|rank| set.get(rank))
            .map(|(member, _)| weigh(member))
            .collect::<Result<_, _>>()?,
        Object::Hash(_) | Object::String(_) => Vec::new(),
    };
    let order = |a: &Item<'_>, b: &Item<'_>| {
        if wish.descending { compare(b, a) } else { compare(a, b) }
    };
    if range.is_empty() {
        return Ok(Vec::new());
    }
    // Only the part that is wanted is put in order.
    if range.end < len {
        items.select_nth_unstable_by(range.end, order);
        items.truncate(range.end);
    }
    if range.start > 0 {
        items.select_nth_unstable_by(range.start, order);
        items.drain(..range.start);
    }
    items.sort_unstable_by(order);
    Ok(items.into_iter().map(|item| item.element).collect())
}

/// The elements, or what GET leads to from each.
fn output(view: &View<'_>, key: &[u8], wish: &mut Wish<'_>) -> Result<BulkList, CommandError> {
    /// A guess at the usual length of an element.
    const ELEMENT_LEN: usize = 16;
    let elements = sorted(view, key, wish)?;
    let mut list = BulkList::with_capacity(elements.len() * wish.get.len().max(1), ELEMENT_LEN);
    for element in elements {
        if wish.get.is_empty() {
            element.push_to(&mut list);
        }
        for pattern in &wish.get {
            pattern.look_up(view, element, |found| match found {
                Some(bytes) => list.push(bytes),
                None => list.push_nil(),
            });
        }
    }
    Ok(list)
}

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC]
/// [ALPHA] [STORE destination]`: the elements, or how many were stored. O(N+M*log(M)).
fn sort(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let mut wish = parse(args, Store::Allowed)?;
    let output = output(view, args[1], &mut wish)?;
    let Some(destination) = wish.store else { return Ok(Reply::Bulks(output)) };
    if output.is_empty() {
        if view.remove(destination, effects) {
            effects.changed(1);
            effects.event(EventClass::GENERIC, "del", view.db(), destination);
        }
        return Ok(Reply::Integer(0));
    }
    let elements: Vec<&[u8]> = output.iter().map(Option::unwrap_or_default).collect();
    let (mut list, limit) = (List::default(), NodeLimit::from(view.limits()));
    list.prepare(&elements, limit);
    for element in &elements {
        list.push(End::Right, element, limit);
    }
    view.set_object(destination, Object::List(list), None, effects);
    effects.changed(elements.len() as u64);
    effects.event(EventClass::LIST, "sortstore", view.db(), destination);
    Ok(Reply::count(elements.len()))
}

/// `SORT_RO key …`: as SORT, without STORE.
fn sort_ro(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let mut wish = parse(args, Store::Refused)?;
    Ok(Reply::Bulks(output(view, args[1], &mut wish)?))
}

/// Whether these arguments of SORT may name keys beyond the first.
pub(crate) fn names_other_keys(args: Args<'_>) -> bool {
    args.iter().skip(2).any(|arg| is(arg, "BY") || is(arg, "GET") || is(arg, "STORE"))
}

/// Where the key after the last STORE stands, the arguments of other options aside.
fn destination(args: Args<'_>) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while let Some(arg) = args.get(at) {
        if is(arg, "LIMIT") {
            at += 2;
        } else if is(arg, "BY") || is(arg, "GET") {
            at += 1;
        } else if is(arg, "STORE") && at + 1 < args.len() {
            found = Some(at + 1);
        }
        at += 1;
    }
    found
}

/// The keys of BY and GET are known to nobody beforehand.
fn patterns(_args: Args<'_>) -> Option<usize> {
    None
}

const COMPLEXITY: &str = "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).";
const FLAGS: Flags = Flags::MOVABLE_KEYS.with(Flags::DANGEROUS).with(Flags::COLLECTIONS);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("sort", -2, Group::Generic, sort)
        .keys(&[
            KeySpec::one(1, Access::Read),
            KeySpec::unknown(patterns, Access::Read),
            KeySpec::unknown(destination, Access::Overwrite),
        ])
        .flags(FLAGS.with(Flags::DENYOOM))
        .scope(Scope::KeysUnlessPatterns)
        .doc(
            "1.0.0",
            COMPLEXITY,
            "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
            "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
        ),
    Command::read("sort_ro", -2, Group::Generic, sort_ro)
        .keys(&[KeySpec::one(1, Access::Read), KeySpec::unknown(patterns, Access::Read)])
        .flags(FLAGS)
        .scope(Scope::KeysUnlessPatterns)
        .doc(
            "7.0.0",
            COMPLEXITY,
            "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
            "Returns the sorted elements of a list, a set, or a sorted set.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, show};

    #[test]
    fn every_part_is_that_of_the_whole() {
        let mut bench = Bench::new();
        for n in 0..200u64 {
            let number = (n * 7919 % 61).to_string();
            bench.run(&["RPUSH", "l", &number]);
        }
        for order in
            ["", " DESC", " ALPHA", " BY nosort", " BY nosort DESC", " BY w*", " ALPHA BY w*"]
        {
            let whole = bench.show(&format!("SORT l{order}"));
            let whole: Vec<&str> = whole.trim_matches(['[', ']']).split(' ').collect();
            assert_eq!(whole.len(), 200);
            for (offset, count) in
                [(0, 10), (5, 1), (190, 20), (199, 1), (0, 200), (7, -1), (200, 5), (3, 0)]
            {
                let part = bench.show(&format!("SORT l{order} LIMIT {offset} {count}"));
                let end = if count < 0 { 200 } else { (offset + count as usize).min(200) };
                assert_eq!(
                    part,
                    format!("[{}]", whole[offset..end.max(offset)].join(" ")),
                    "{order}"
                );
            }
        }
    }

    #[test]
    fn changes_and_events_are_counted_as_in_redis() {
        Bench::new().check_events(&[
            ("RPUSH l 3 1 2", "0:new l, 0:rpush l", 3),
            ("SORT l STORE d", "0:new d, 0:sortstore d", 3),
            ("SORT l DESC STORE d", "0:sortstore d", 3),
            ("SORT none STORE d", "0:del d", 1),
            ("SORT none STORE d", "", 0),
            ("SORT l", "", 0),
        ]);
    }

    #[test]
    fn a_transaction_and_a_script_reach_the_keys_of_patterns() {
        let mut bench = Bench::new();
        bench.check(&[("RPUSH l 1 2 3", "3"), ("MSET w1 3 w2 2 w3 1 v1 a v3 c", "OK")]);
        let replies = bench.transaction(&["SORT l BY w* GET v*", "SORT l BY w* STORE d"], &[]);
        let replies: Vec<String> = replies.unwrap_or_default().iter().map(show).collect();
        assert_eq!(replies, ["[\"c\" nil \"a\"]", "3"]);
        let body = "return redis.call('sort', KEYS[1], 'by', 'w*', 'get', '#', 'store', 'e')";
        assert_eq!(show(&bench.run(&["EVAL", body, "1", "l"])), "3");
        bench.check(&[("LRANGE e 0 -1", "[\"3\" \"2\" \"1\"]")]);
    }
}
