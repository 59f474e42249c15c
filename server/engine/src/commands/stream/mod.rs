//! Streams: entries by id, and consumer groups that share them.
//!
//! Ids come from the proposal's time, as do the times at which entries were delivered and
//! consumers seen. A reader that finds nothing says so by `Wait`; the server parks the session
//! and runs the command again when an entry is added, or the group has gone.

pub mod add;
pub mod claim;
pub mod group;
pub mod info;
#[cfg(test)]
mod model;
pub mod pending;
pub mod range;
pub mod read;
pub mod remove;
#[cfg(test)]
mod tests;

use crate::command::options::integer;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::raw::{Record, Value};
use crate::reply::{BulkList, Reply};
use crate::value::Object;
use crate::value::stream::block::Item;
use crate::value::stream::{Entries, Group, Stream, StreamId};

const INVALID_ID: CommandError =
    CommandError::known("ERR Invalid stream ID specified as stream command argument");
const INVALID_START: CommandError = CommandError::known("ERR invalid start ID for the interval");
const INVALID_END: CommandError = CommandError::known("ERR invalid end ID for the interval");

/// The stream that a record holds.
///
/// # Errors
/// `WRONGTYPE` if it holds something else.
fn stream_of(record: &Record) -> Result<&Stream, CommandError> {
    match record.value() {
        Value::Object(Object::Stream(stream)) => Ok(stream),
        _ => Err(CommandError::WRONG_TYPE),
    }
}

/// The stream at `key`, if there is one.
///
/// # Errors
/// `WRONGTYPE`
fn stream_at<'v>(view: &'v View<'_>, key: &[u8]) -> Result<Option<&'v Stream>, CommandError> {
    view.get(key).map(stream_of).transpose()
}

/// As [`stream_at`], for a second look of the same command.
fn peek_stream<'v>(view: &'v View<'_>, key: &[u8]) -> Result<Option<&'v Stream>, CommandError> {
    view.peek(key).map(stream_of).transpose()
}

/// Lets `work` change the stream at `key`, if there is one, and says what it returned.
///
/// # Errors
/// `WRONGTYPE`, or what `work` failed with; it must not have changed anything then.
fn edit_stream<T>(
    view: &mut View<'_>,
    key: &[u8],
    effects: &mut Effects,
    work: impl FnOnce(&mut Stream) -> Result<Edit<T>, CommandError>,
) -> Result<Option<T>, CommandError> {
    let edited = view.edit(key, effects, |record| match record.object_mut() {
        Some(Object::Stream(stream)) => match work(stream) {
            Ok(edit) => edit.map(Ok),
            Err(error) => Edit::Declined(Err(error)),
        },
        _ => Edit::Declined(Err(CommandError::WRONG_TYPE)),
    });
    edited.transpose()
}

/// Lets `work` change a group of the stream at `key`; `None` if there is no such key or group.
/// As in Redis, that is no change of the key to WATCH.
///
/// # Errors
/// As [`edit_stream`].
fn edit_group<T>(
    view: &mut View<'_>,
    (key, group): (&[u8], &[u8]),
    effects: &mut Effects,
    work: impl FnOnce(&Entries, &mut Group) -> Result<Edit<T>, CommandError>,
) -> Result<Option<T>, CommandError> {
    let edited = edit_stream(view, key, effects, |stream| {
        let Stream { entries, groups } = stream;
        let Some(group) = groups.get_mut(group) else { return Ok(Edit::Declined(None)) };
        Ok(work(entries, group)?.map(Some))
    })?;
    Ok(edited.flatten())
}

/// An id with both halves, or the time alone with `missing_seq` for the rest.
///
/// # Errors
/// `ERR Invalid stream ID …`
fn strict_id(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    StreamId::parse(text, missing_seq).ok_or(INVALID_ID)
}

/// As [`strict_id`], or `-` for the least and `+` for the greatest.
///
/// # Errors
/// `ERR Invalid stream ID …`
fn any_id(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => strict_id(text, missing_seq),
    }
}

/// The first id of a range; `(id` is the one after it.
///
/// # Errors
/// `ERR Invalid stream ID …`, `ERR invalid start ID for the interval`
fn range_start(text: &[u8]) -> Result<StreamId, CommandError> {
    match text {
        [b'(', open @ ..] if !open.is_empty() => strict_id(open, 0)?.next().ok_or(INVALID_START),
        _ => any_id(text, 0),
    }
}

/// The last id of a range; `(id` is the one before it.
///
/// # Errors
/// `ERR Invalid stream ID …`, `ERR invalid end ID for the interval`
fn range_end(text: &[u8]) -> Result<StreamId, CommandError> {
    match text {
        [b'(', open @ ..] if !open.is_empty() => {
            strict_id(open, u64::MAX)?.previous().ok_or(INVALID_END)
        }
        _ => any_id(text, u64::MAX),
    }
}

/// How many are wanted at most: all if 0 or less.
///
/// # Errors
/// `ERR value is not an integer or out of range`
fn count_or_all(text: &[u8]) -> Result<usize, CommandError> {
    Ok(match integer(text)? {
        ..=0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    })
}

fn id_reply(id: StreamId) -> Reply {
    Reply::bulk(&id.text())
}

/// An entry: its id, its fields and values in turn.
fn entry_reply(item: Item<'_>) -> Reply {
    let mut fields = BulkList::with_capacity(2 * item.fields.len(), 16);
    for (field, value) in item.fields {
        field.push_to(&mut fields);
        value.push_to(&mut fields);
    }
    Reply::Array(vec![id_reply(item.id), Reply::Bulks(fields)])
}

fn event(view: &View<'_>, name: &'static str, key: &[u8], effects: &mut Effects) {
    effects.event(EventClass::STREAM, name, view.db(), key);
}

/// An event of a change that leaves the stream's entries as they were.
fn bookkeeping_event(view: &View<'_>, name: &'static str, key: &[u8], effects: &mut Effects) {
    effects.bookkeeping_event(EventClass::STREAM, name, view.db(), key);
}

/// `NOGROUP No such key '…' or consumer group '…'`, and what follows it.
fn no_key_or_group(key: &[u8], group: &[u8], rest: &str) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::new(format!("NOGROUP No such key '{key}' or consumer group '{group}'{rest}"))
}

/// `NOGROUP No such consumer group '…' for key name '…'`
fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::new(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// `ERR unknown subcommand or wrong number of arguments for '…'. Try … HELP.`
fn bad_subcommand(args: &[&[u8]]) -> CommandError {
    let sub = String::from_utf8_lossy(&args[1][..args[1].len().min(128)]).into_owned();
    let name = String::from_utf8_lossy(args[0]).to_uppercase();
    CommandError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."
    ))
}
