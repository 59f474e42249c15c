//! Looking into a list: LRANGE, LINDEX, LPOS.

use super::{find, place, range};
use crate::command::options::{self, integer};
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::list::List;
use crate::value::listpack::{Entry, Packed};

/// `LRANGE key start stop`: the elements from start to stop, both included. O(S+N), S the nodes
/// skipped.
fn lrange(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let Some(list) = find(view, args[1])? else {
        return Ok(Reply::Bulks(BulkList::default()));
    };
    let (first, count) = range(start, stop, list.len());
    let mut elements = list.iter_from(first).take(count).peekable();
    // The first element tells about how long they are.
    let element_len = elements.peek().map_or(0, |element| element.text_len());
    let mut reply = BulkList::with_capacity(count, element_len);
    elements.for_each(|element| element.push_to(&mut reply));
    Ok(Reply::Bulks(reply))
}

/// `LINDEX key index`: the element, or nil. O(S), S the nodes skipped.
fn lindex(view: &View<'_>, args: Args<'_>) -> CommandResult {
    // As in Redis, a key that is not there comes before an index that is none.
    let Some(list) = find(view, args[1])? else {
        return Ok(Reply::Nil);
    };
    let index = integer(args[2])?;
    let element = place(index, list.len()).and_then(|place| list.get(place));
    Ok(element.map_or(Reply::Nil, Entry::reply))
}

/// What LPOS looks for.
struct Search {
    /// Which match is the first wanted; negative counts from the end. Never 0.
    rank: i64,
    /// How many are wanted, 0 is all; `None` is one, as a number of its own.
    count: Option<u64>,
    /// How many elements may be compared, 0 is all.
    compared_max: u64,
}

fn parse_search(args: Args<'_>) -> Result<Search, CommandError> {
    let mut search = Search { rank: 1, count: None, compared_max: 0 };
    for option in args.chunks(2) {
        let [name, value] = option else {
            return Err(CommandError::SYNTAX);
        };
        let not_negative = |error| match crate::value::integer_text(value).map(u64::try_from) {
            Some(Ok(number)) => Ok(number),
            _ => Err(CommandError::known(error)),
        };
        if options::is(name, "rank") {
            search.rank = integer(value)?;
            match search.rank {
                0 => {
                    return Err(CommandError::known(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                    ));
                }
                i64::MIN => {
                    return Err(CommandError::known(
                        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                    ));
                }
                _ => {}
            }
        } else if options::is(name, "count") {
            search.count = Some(not_negative("ERR COUNT can't be negative")?);
        } else if options::is(name, "maxlen") {
            search.compared_max = not_negative("ERR MAXLEN can't be negative")?;
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(search)
}

fn positions(list: &List, element: &[u8], search: &Search) -> Vec<usize> {
    let wanted = Packed::new(element).entry();
    let len = list.len();
    let all = |limit: u64| {
        if limit == 0 { len } else { usize::try_from(limit).unwrap_or(len) }
    };
    let skipped = usize::try_from(search.rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let (compared, count) = (all(search.compared_max), all(search.count.unwrap_or(1)));
    let is_match = |(_, entry): &(usize, Entry<'_>)| *entry == wanted;
    if search.rank > 0 {
        let forward = list.iter().enumerate().take(compared);
        let found = forward.filter(is_match).map(|(index, _)| index);
        found.skip(skipped).take(count).collect()
    } else {
        let backward = list.iter().rev().enumerate().take(compared);
        let found = backward.filter(is_match).map(|(index, _)| len - 1 - index);
        found.skip(skipped).take(count).collect()
    }
}

/// `LPOS key element [RANK rank] [COUNT count] [MAXLEN len]`: the index of a match or nil; with
/// COUNT those of several. O(N).
fn lpos(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let search = parse_search(&args[3..])?;
    let found = match find(view, args[1])? {
        Some(list) => positions(list, args[2], &search),
        None => Vec::new(),
    };
    Ok(match search.count {
        Some(_) => Reply::Array(found.into_iter().map(Reply::count).collect()),
        None => found.first().map_or(Reply::Nil, |index| Reply::count(*index)),
    })
}

const READ: &[KeySpec] = &[KeySpec::one(1, Access::Read)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("lrange", 4, Group::List, lrange).keys(READ).doc(
        "1.0.0",
        "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
        "key start stop",
        "Returns a range of elements from a list.",
    ),
    Command::read("lindex", 3, Group::List, lindex).keys(READ).doc(
        "1.0.0",
        "O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the first or the last element of the list O(1).",
        "key index",
        "Returns an element from a list by its index.",
    ),
    Command::read("lpos", -3, Group::List, lpos).keys(READ).doc(
        "6.0.6",
        "O(N) where N is the number of elements in the list, for the average case. When searching for elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.",
        "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        "Returns the index of matching elements in a list.",
    ),
];
