//! XLEN, XRANGE and XREVRANGE.

use super::{entry_reply, range_end, range_start, stream_at};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::stream::Entries;

/// `XLEN key`: how many entries the stream has. O(1).
fn xlen(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let len = stream_at(view, args[1])?.map_or(0, |stream| stream.entries.len());
    Ok(Reply::Integer(len as i64))
}

/// The options of a range: how many entries are wanted, if that is said.
fn wanted(args: Args<'_>) -> Result<Option<usize>, CommandError> {
    let mut count = None;
    let mut rest = &args[4..];
    while let [option, value, after @ ..] = rest {
        if !is(option, "COUNT") {
            return Err(CommandError::SYNTAX);
        }
        count = Some(usize::try_from(integer(value)?.max(0)).unwrap_or(usize::MAX));
        rest = after;
    }
    if rest.is_empty() { Ok(count) } else { Err(CommandError::SYNTAX) }
}

/// Answers with the entries that `find` gives, up to the count.
fn entries(
    view: &View<'_>,
    args: Args<'_>,
    find: impl FnOnce(&Entries, usize) -> Vec<Reply>,
) -> CommandResult {
    let count = wanted(args)?;
    let Some(stream) = stream_at(view, args[1])? else { return Ok(Reply::Array(Vec::new())) };
    Ok(match count {
        Some(0) => Reply::NilArray,
        count => Reply::Array(find(&stream.entries, count.unwrap_or(usize::MAX))),
    })
}

/// `XRANGE key start end [COUNT count]`: the entries between two ids. O(log N), and O(1) each.
fn xrange(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (range_start(args[2])?, range_end(args[3])?);
    entries(view, args, |entries, count| {
        entries.range(from, to).take(count).map(entry_reply).collect()
    })
}

/// `XREVRANGE key end start [COUNT count]`: the entries between two ids, the last first.
/// O(log N), and O(1) each.
fn xrevrange(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (range_start(args[3])?, range_end(args[2])?);
    entries(view, args, |entries, count| {
        entries.range_back(from, to).take(count).map(entry_reply).collect()
    })
}

const COMPLEXITY: &str = "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).";
const REVERSE_COMPLEXITY: &str = "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("xlen", 2, Group::Stream, xlen)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc("5.0.0", "O(1)", "key", "Return the number of messages in a stream."),
    Command::read("xrange", -4, Group::Stream, xrange).keys(&[KeySpec::one(1, Access::Read)]).doc(
        "5.0.0",
        COMPLEXITY,
        "key start end [COUNT count]",
        "Returns the messages from a stream within a range of IDs.",
    ),
    Command::read("xrevrange", -4, Group::Stream, xrevrange)
        .keys(&[KeySpec::one(1, Access::Read)])
        .doc(
            "5.0.0",
            REVERSE_COMPLEXITY,
            "key end start [COUNT count]",
            "Returns the messages from a stream within a range of IDs in reverse order.",
        ),
];
