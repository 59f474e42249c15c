//! ZSCAN.

use super::sorted_set_at;
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::commands::keys::browse::parse_cursor;
use crate::commands::set::scan::{ScanOptions, scan_reply};
use crate::keyspace::View;
use crate::reply::{BulkList, CommandResult};
use crate::value::number::DoubleText;

/// `ZSCAN key cursor [MATCH pattern] [COUNT count]`: the next cursor, 0 at the end, and some
/// members, each followed by its score as text. O(1) a call, O(N) a whole iteration.
///
/// A member that is there from the first call to the last is told, and told once, however the
/// set grows or shrinks meanwhile: the cursor is a position in the order of hashes.
fn zscan(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args[2])?.0;
    let Some(set) = sorted_set_at(view, args[1])? else {
        return Ok(scan_reply(0, BulkList::default()));
    };
    let options = ScanOptions::parse(args)?;
    let mut found = BulkList::default();
    let next = set.scan(cursor, options.count, |member, score| {
        if options.wants(member.text(&mut itoa::Buffer::new())) {
            member.push_to(&mut found);
            found.push(DoubleText::new(score).as_bytes());
        }
    });
    Ok(scan_reply(next, found))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::read("zscan", -3, Group::SortedSet, zscan)
    .keys(&[KeySpec::one(1, Access::Read)])
    .doc(
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "key cursor [MATCH pattern] [COUNT count]",
        "Iterates over members and scores of a sorted set.",
    )];
