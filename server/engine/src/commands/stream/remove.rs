//! XDEL, XTRIM and XSETID: what takes entries away, and what sets the counts of them.

use super::add::{AddOptions, Reader};
use super::{bookkeeping_event, edit_stream, event, strict_id};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::value::stream::StreamId;

/// `XDEL key id [id ...]`: how many entries were removed. O(1) each.
fn xdel(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let gone = {
        // A key of another type is told before an id that is none.
        super::peek_stream(view, key)?;
        let ids = if view.peek(key).is_some() {
            args[2..].iter().map(|id| strict_id(id, 0)).collect::<Result<Vec<_>, _>>()?
        } else {
            Vec::new()
        };
        edit_stream(view, key, effects, |stream| Ok(made_if_any(stream.entries.delete(&ids))))?
    };
    let gone = gone.unwrap_or(0);
    if gone > 0 {
        event(view, "xdel", key, effects);
        effects.changed(gone);
    }
    Ok(Reply::Integer(gone as i64))
}

fn made_if_any(count: u64) -> Edit<u64> {
    if count > 0 { Edit::Made(count) } else { Edit::Declined(count) }
}

/// `XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count]`: how many entries were removed. O(N)
/// in their number.
fn xtrim(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let (options, _) = AddOptions::parse(args, Reader::Xtrim, view.limits())?;
    let Some(trim) = options.trim else { return Err(CommandError::SYNTAX) };
    let gone =
        edit_stream(view, key, effects, |stream| Ok(made_if_any(stream.entries.trim(trim))))?;
    let gone = gone.unwrap_or(0);
    if gone > 0 {
        event(view, "xtrim", key, effects);
        effects.changed(gone);
    }
    Ok(Reply::Integer(gone as i64))
}

/// `XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]`: sets the id
/// after which new ones come, and the counts. O(1).
fn xsetid(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let id = strict_id(args[2], 0)?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut rest = &args[3..];
    while let [option, value, after @ ..] = rest {
        if is(option, "ENTRIESADDED") {
            let count = u64::try_from(integer(value)?)
                .map_err(|_| CommandError::known("ERR entries_added must be positive"))?;
            added = Some(count);
        } else if is(option, "MAXDELETEDID") {
            max_deleted = strict_id(value, 0)?;
            if id < max_deleted {
                return Err(CommandError::known(
                    "ERR The ID specified in XSETID is smaller than the provided \
                     max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::SYNTAX);
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(CommandError::SYNTAX);
    }
    let set = edit_stream(view, key, effects, |stream| {
        let entries = &mut stream.entries;
        if id < entries.max_deleted_id {
            return Err(CommandError::known(
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
            ));
        }
        if entries.last_standing().is_some_and(|last| id < last) {
            return Err(CommandError::known(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if !entries.is_empty() && added.is_some_and(|added| added < entries.len()) {
            return Err(CommandError::known(
                "ERR The entries_added specified in XSETID is smaller than the target stream \
                 length",
            ));
        }
        entries.last_id = id;
        entries.added = added.unwrap_or(entries.added);
        if max_deleted != StreamId::MIN {
            entries.max_deleted_id = max_deleted;
        }
        Ok(Edit::Bookkeeping(()))
    })?;
    if set.is_none() {
        return Err(CommandError::NO_SUCH_KEY);
    }
    bookkeeping_event(view, "xsetid", key, effects);
    effects.changed(1);
    Ok(Reply::Ok)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("xdel", -3, Group::Stream, xdel)
        .keys(&[KeySpec::one(1, Access::Remove)])
        .flags(Flags::FAST)
        .doc(
            "5.0.0",
            "O(1) for each single item to delete in the stream, regardless of the stream size.",
            "key id [id ...]",
            "Returns the number of messages after removing them from a stream.",
        ),
    Command::write("xtrim", -4, Group::Stream, xtrim)
        .keys(&[KeySpec::one(1, Access::Remove)])
        .doc(
            "5.0.0",
            "O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.",
            "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
            "Deletes messages from the beginning of a stream.",
        ),
    Command::write("xsetid", -3, Group::Stream, xsetid)
        .keys(&[KeySpec::one(1, Access::Modify)])
        .flags(Flags::DENYOOM.with(Flags::FAST))
        .doc(
            "5.0.0",
            "O(1)",
            "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
            "An internal command for replicating stream values.",
        ),
];
