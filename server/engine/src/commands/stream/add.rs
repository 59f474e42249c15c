//! XADD, and the options it shares with XTRIM.

use super::{edit_stream, event, id_reply, strict_id};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::limits::Limits;
use crate::reply::{CommandResult, Reply};
use crate::value::Object;
use crate::value::stream::entries::BLOCK_LEN_MAX;
use crate::value::stream::{BlockLimits, Entries, Keep, Stream, StreamId, Trim};

/// What the options before the id, or those of XTRIM, say.
#[derive(Debug, Default)]
pub(super) struct AddOptions {
    pub(super) trim: Option<Trim>,
    /// NOMKSTREAM: only where a stream is.
    only_existing: bool,
}

/// Which of the two commands reads the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Xadd,
    Xtrim,
}

/// The id that a new entry gets.
#[derive(Debug, Clone, Copy)]
enum NewId {
    /// `*`
    Any,
    /// `ms-*`
    Within(u64),
    /// `ms-seq`
    Given(StreamId),
}

impl NewId {
    fn parse(text: &[u8]) -> Result<Self, CommandError> {
        if text == b"*" {
            return Ok(Self::Any);
        }
        match StreamId::parse_open(text) {
            Some(ms) => Ok(Self::Within(ms)),
            None => Ok(Self::Given(strict_id(text, 0)?)),
        }
    }

    /// The id after all others of the stream.
    fn resolve(self, entries: &Entries, view_now: u64) -> Result<StreamId, CommandError> {
        if entries.last_id == StreamId::MAX {
            return Err(CommandError::known(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = match self {
            Self::Any => entries.next_id(view_now),
            Self::Within(ms) => entries.next_id_within(ms),
            Self::Given(id) => Some(id).filter(|id| *id > entries.last_id),
        };
        id.ok_or(CommandError::known(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ))
    }
}

impl AddOptions {
    /// Reads options from index 2 on; also returns where the first that is none stands.
    ///
    /// # Errors
    /// Those of Redis; for XTRIM also what stands there that is no option.
    pub(super) fn parse(
        args: Args<'_>,
        reader: Reader,
        limits: &Limits,
    ) -> Result<(Self, usize), CommandError> {
        let mut options = Self::default();
        let mut keep = None;
        let (mut approximate, mut limit) = (false, None);
        let mut at = 2;
        while let Some(option) = args.get(at) {
            let more = args.len() - 1 - at;
            let by_len = is(option, "MAXLEN");
            if reader == Reader::Xadd && *option == b"*" {
                break;
            } else if more > 0 && (by_len || is(option, "MINID")) {
                if keep.is_some() {
                    return Err(CommandError::known(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not \
                         compatible",
                    ));
                }
                approximate = more >= 2 && args[at + 1] == b"~";
                if approximate || more >= 2 && args[at + 1] == b"=" {
                    at += 1;
                }
                keep = Some(threshold(args[at + 1], by_len)?);
                at += 2;
            } else if more > 0 && is(option, "LIMIT") {
                limit =
                    Some(u64::try_from(integer(args[at + 1])?).map_err(|_| {
                        CommandError::known("ERR The LIMIT argument must be >= 0.")
                    })?);
                at += 2;
            } else if reader == Reader::Xadd && is(option, "NOMKSTREAM") {
                options.only_existing = true;
                at += 1;
            } else if reader == Reader::Xadd {
                // An id, or an error.
                NewId::parse(option)?;
                break;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        if limit.is_some_and(|limit| limit > 0) && keep.is_none() {
            return Err(CommandError::known(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if reader == Reader::Xtrim && keep.is_none() {
            return Err(CommandError::known(
                "ERR syntax error, XTRIM must be called with a trimming strategy",
            ));
        }
        if limit.is_some() && !approximate {
            return Err(CommandError::known(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        options.trim = keep.map(|keep| Trim {
            keep,
            whole_blocks: approximate,
            limit: match limit {
                Some(limit) => limit,
                None if approximate => default_limit(limits),
                None => 0,
            },
        });
        Ok((options, at))
    }
}

/// How much `~` removes at once when no LIMIT says it: the entries of a hundred full blocks.
fn default_limit(limits: &Limits) -> u64 {
    const BLOCKS: i64 = 100;
    const UNBOUNDED: u64 = 10_000;
    const MAX: u64 = 1_000_000;
    match u64::try_from(limits.stream_node_max_entries().saturating_mul(BLOCKS)) {
        Ok(0) | Err(_) => UNBOUNDED,
        Ok(limit) => limit.min(MAX),
    }
}

fn threshold(text: &[u8], by_len: bool) -> Result<Keep, CommandError> {
    if !by_len {
        return Ok(Keep::From(strict_id(text, 0)?));
    }
    match u64::try_from(integer(text)?) {
        Ok(count) => Ok(Keep::Newest(count)),
        Err(_) => Err(CommandError::known("ERR The MAXLEN argument must be >= 0.")),
    }
}

/// `XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value
/// [field value ...]`: the id of the new entry; nil with NOMKSTREAM if there is no stream.
/// O(1), and the entries that go.
fn xadd(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let limits = view.limits();
    let (options, at) = AddOptions::parse(args, Reader::Xadd, limits)?;
    let fields = args.get(at + 1..).unwrap_or_default();
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity("xadd"));
    }
    let new_id = NewId::parse(args[at])?;
    if matches!(new_id, NewId::Given(StreamId::MIN)) {
        return Err(CommandError::known("ERR The ID specified in XADD must be greater than 0-0"));
    }
    if fields.iter().map(|text| text.len()).sum::<usize>() > BLOCK_LEN_MAX {
        return Err(CommandError::known("ERR Elements are too large to be stored"));
    }
    let now_ms = u64::try_from(view.now().0).unwrap_or(0);
    let add = |stream: &mut Stream| {
        let entries = &mut stream.entries;
        let id = new_id.resolve(entries, now_ms)?;
        entries.add(id, fields, BlockLimits::from(limits));
        Ok((id, options.trim.map_or(0, |trim| entries.trim(trim))))
    };
    let added = edit_stream(view, key, effects, |stream| add(stream).map(Edit::Made))?;
    let (id, trimmed) = match added {
        Some(added) => {
            if view.host().has_blocked_clients() {
                effects.ready(view.db(), key);
            }
            added
        }
        None if options.only_existing => return Ok(Reply::Nil),
        None => {
            let mut stream = Stream::default();
            let added = add(&mut stream)?;
            view.set_object(key, Object::Stream(Box::new(stream)), None, effects);
            added
        }
    };
    event(view, "xadd", key, effects);
    if trimmed > 0 {
        event(view, "xtrim", key, effects);
    }
    effects.changed(1);
    Ok(id_reply(id))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::write("xadd", -5, Group::Stream, xadd)
    .keys(&[KeySpec::one(1, Access::Modify)])
    .flags(Flags::DENYOOM.with(Flags::FAST))
    .doc(
        "5.0.0",
        "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
        "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]",
        "Appends a new message to a stream. Creates the key if it doesn't exist.",
    )];
