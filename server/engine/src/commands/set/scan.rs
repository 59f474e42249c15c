//! SSCAN, and the options it shares with ZSCAN.

use super::set_at;
use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::commands::keys::browse::parse_cursor;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{BulkList, CommandResult, Reply};
use crate::value::glob::Glob;

/// How many members a call visits unless told.
const SCAN_COUNT: usize = 10;

/// `[MATCH pattern] [COUNT count]`.
pub(crate) struct ScanOptions {
    pattern: Option<Glob>,
    pub(crate) count: usize,
}

impl ScanOptions {
    /// Reads the options behind the cursor.
    ///
    /// # Errors
    /// Unknown options, and counts below 1.
    pub(crate) fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        let (mut pattern, mut count) = (None, SCAN_COUNT);
        let mut options = Options::after(args, 3);
        while let Some(option) = options.next() {
            if is(option, "COUNT") {
                count = usize::try_from(integer(options.value()?)?)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(CommandError::SYNTAX)?;
            } else if is(option, "MATCH") {
                pattern = Some(Glob::new(options.value()?));
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(Self { pattern, count })
    }

    /// Whether a member is asked for.
    pub(crate) fn wants(&self, member: &[u8]) -> bool {
        self.pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_any() || pattern.matches(member))
    }
}

/// The reply of a scan: where to go on, and what was found.
pub(crate) fn scan_reply(next: u64, found: BulkList) -> Reply {
    let next = Reply::bulk(itoa::Buffer::new().format(next).as_bytes());
    Reply::Array(vec![next, Reply::Bulks(found)])
}

/// `SSCAN key cursor [MATCH pattern] [COUNT count]`: the next cursor, 0 at the end, and some
/// members. O(1) a call, O(N) a whole iteration.
///
/// A member that is there from the first call to the last is told, and told once, however the
/// set grows or shrinks meanwhile: the cursor is a position in the order of hashes.
fn sscan(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args[2])?.0;
    let Some(set) = set_at(view, args[1])? else {
        return Ok(scan_reply(0, BulkList::default()));
    };
    let options = ScanOptions::parse(args)?;
    let mut found = BulkList::default();
    let next = set.scan(cursor, options.count, |member| {
        if options.wants(member.text(&mut itoa::Buffer::new())) {
            member.push_to(&mut found);
        }
    });
    Ok(scan_reply(next, found))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::read("sscan", -3, Group::Set, sscan)
    .keys(&[KeySpec::one(1, Access::Read)])
    .doc(
        "2.8.0",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        "key cursor [MATCH pattern] [COUNT count]",
        "Iterates over members of a set.",
    )];
