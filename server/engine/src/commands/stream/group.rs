//! XGROUP: making, setting and removing groups and their consumers.

use super::{
    any_id, bad_subcommand, bookkeeping_event, edit_group, edit_stream, event, no_group, strict_id,
};
use crate::command::options::{integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::{Edit, View};
use crate::reply::{CommandResult, Reply};
use crate::value::Object;
use crate::value::stream::{Group as StreamGroup, Stream, StreamId};

const NO_KEY: CommandError = CommandError::known(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use \
     the MKSTREAM option to create an empty stream automatically.",
);

/// The options of CREATE and SETID.
#[derive(Debug, Default)]
struct Options {
    mkstream: bool,
    entries_read: Option<i64>,
}

impl Options {
    fn parse(args: Args<'_>, may_make: bool) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = &args[5..];
        while let [option, after @ ..] = rest {
            rest = match after {
                _ if may_make && is(option, "MKSTREAM") => {
                    options.mkstream = true;
                    after
                }
                [count, after @ ..] if is(option, "ENTRIESREAD") => {
                    options.entries_read = match integer(count)? {
                        -1 => None,
                        count @ 0.. => Some(count),
                        _ => {
                            return Err(CommandError::known(
                                "ERR value for ENTRIESREAD must be positive or -1",
                            ));
                        }
                    };
                    after
                }
                _ => return Err(bad_subcommand(args)),
            };
        }
        Ok(options)
    }
}

/// `XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read]`: OK. O(1).
fn create(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    /// With every option once.
    const ARGS_MAX: usize = 8;
    let (key, name) = (args[2], args[3]);
    let options = Options::parse(args, true)?;
    super::stream_at(view, key)?;
    let is_there = view.peek(key).is_some();
    if !is_there && !options.mkstream {
        return Err(NO_KEY);
    }
    if args.len() > ARGS_MAX {
        return Err(bad_subcommand(args));
    }
    let given = match args[4] {
        b"$" => None,
        id => Some(strict_id(id, 0)?),
    };
    let add = |stream: &mut Stream| -> Result<(), CommandError> {
        if stream.groups.contains_key(name) {
            return Err(CommandError::known("BUSYGROUP Consumer Group name already exists"));
        }
        let last_id = given.unwrap_or(stream.entries.last_id);
        stream.groups.insert(name.into(), StreamGroup::new(last_id, options.entries_read));
        Ok(())
    };
    if is_there {
        edit_stream(view, key, effects, |stream| add(stream).map(Edit::Bookkeeping))?;
        bookkeeping_event(view, "xgroup-create", key, effects);
    } else {
        let mut stream = Stream::default();
        add(&mut stream)?;
        view.set_object(key, Object::Stream(Box::new(stream)), None, effects);
        event(view, "xgroup-create", key, effects);
    }
    effects.changed(1);
    Ok(Reply::Ok)
}

/// Lets `work` change a group that must be there.
///
/// # Errors
/// Those of Redis for a missing key or group; what `work` failed with.
fn change<T>(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    work: impl FnOnce(StreamId, &mut StreamGroup) -> Result<Edit<T>, CommandError>,
) -> Result<T, CommandError> {
    let (key, name) = (args[2], args[3]);
    if super::stream_at(view, key)?.is_none() {
        return Err(NO_KEY);
    }
    edit_group(view, (key, name), effects, |entries, group| work(entries.last_id, group))?
        .ok_or_else(|| no_group(key, name))
}

/// `XGROUP SETID key group id|$ [ENTRIESREAD entries-read]`: OK. O(1).
fn setid(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let options = Options::parse(args, false)?;
    change(view, args, effects, |last_id, group| {
        if args.len() != 5 && args.len() != 7 {
            return Err(bad_subcommand(args));
        }
        group.last_id = match args[4] {
            b"$" => last_id,
            id => any_id(id, 0)?,
        };
        group.entries_read = options.entries_read;
        Ok(Edit::Bookkeeping(()))
    })?;
    bookkeeping_event(view, "xgroup-setid", args[2], effects);
    effects.changed(1);
    Ok(Reply::Ok)
}

/// `XGROUP DESTROY key group`: whether there was such a group. O(N) in what waited in it.
fn destroy(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[2];
    let removed = edit_stream(view, key, effects, |stream| {
        Ok(match stream.groups.remove(args[3]) {
            Some(_) => Edit::Bookkeeping(true),
            None => Edit::Declined(false),
        })
    })?;
    let removed = removed.ok_or(NO_KEY)?;
    if removed {
        bookkeeping_event(view, "xgroup-destroy", key, effects);
        effects.changed(1);
        // Its readers wait no longer.
        if view.host().has_blocked_clients() {
            effects.ready(view.db(), key);
        }
    }
    Ok(Reply::flag(removed))
}

/// `XGROUP CREATECONSUMER key group consumer`: whether there was none of that name. O(1).
fn createconsumer(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let now = view.now();
    let created = change(view, args, effects, |_, group| {
        Ok(match group.create_consumer(args[4], now) {
            true => Edit::Bookkeeping(true),
            false => Edit::Declined(false),
        })
    })?;
    if created {
        bookkeeping_event(view, "xgroup-createconsumer", args[2], effects);
        effects.changed(1);
    }
    Ok(Reply::flag(created))
}

/// `XGROUP DELCONSUMER key group consumer`: how many entries waited for its acknowledgement,
/// which wait no longer. O(N) in their number.
fn delconsumer(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let waited = change(view, args, effects, |_, group| {
        Ok(match group.delete_consumer(args[4]) {
            Some(waited) => Edit::Bookkeeping(Some(waited)),
            None => Edit::Declined(None),
        })
    })?;
    if waited.is_some() {
        bookkeeping_event(view, "xgroup-delconsumer", args[2], effects);
        effects.changed(1);
    }
    Ok(Reply::count(waited.unwrap_or(0)))
}

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Prints this help.",
];

/// `XGROUP HELP`: what the subcommands do.
fn help(_view: &View<'_>, _args: Args<'_>) -> CommandResult {
    Ok(Reply::Array(HELP.iter().copied().map(Reply::simple).collect()))
}

const SUBCOMMANDS: &[Command] = &[
    Command::write("create", -5, Group::Stream, create)
        .of("xgroup")
        .keys(&[KeySpec::one(2, Access::Insert)])
        .flags(Flags::DENYOOM)
        .doc(
            "5.0.0",
            "O(1)",
            "key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
            "Creates a consumer group.",
        ),
    Command::write("createconsumer", 5, Group::Stream, createconsumer)
        .of("xgroup")
        .keys(&[KeySpec::one(2, Access::Insert)])
        .flags(Flags::DENYOOM)
        .doc("6.2.0", "O(1)", "key group consumer", "Creates a consumer in a consumer group."),
    Command::write("delconsumer", 5, Group::Stream, delconsumer)
        .of("xgroup")
        .keys(&[KeySpec::one(2, Access::Remove)])
        .doc("5.0.0", "O(1)", "key group consumer", "Deletes a consumer from a consumer group."),
    Command::write("destroy", 4, Group::Stream, destroy)
        .of("xgroup")
        .keys(&[KeySpec::one(2, Access::Remove)])
        .doc(
            "5.0.0",
            "O(N) where N is the number of entries in the group's pending entries list (PEL).",
            "key group",
            "Destroys a consumer group.",
        ),
    Command::read("help", 2, Group::Stream, help)
        .of("xgroup")
        .without_key_flags()
        .flags(Flags::LOADING.with(Flags::STALE))
        .doc("5.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
    Command::write("setid", -5, Group::Stream, setid)
        .of("xgroup")
        .keys(&[KeySpec::one(2, Access::Modify)])
        .doc(
            "5.0.0",
            "O(1)",
            "key group <id | $> [ENTRIESREAD entries-read]",
            "Sets the last-delivered ID of a consumer group.",
        ),
];

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::container("xgroup", Group::Stream, SUBCOMMANDS).doc(
    "5.0.0",
    "Depends on subcommand.",
    "",
    "A container for consumer groups commands.",
)];
