//! CLIENT: what a client says of itself, and what it does to others.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::context::Touch;
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use super::client_list::{self, Kind};
use super::config::switch;
use super::connection::{invalid_name, is_valid_name};
use super::tracking;
use crate::acl::Users;
use crate::route::{Answer, Call, ServerCommand};
use crate::session::client::Unblock;
use crate::session::{Client, Kill, ReplyMode};

/// `CLIENT ID`
fn id(call: &mut Call<'_>) -> Answer {
    Reply::Integer(call.session.client.id as i64).into()
}

/// `CLIENT GETNAME`: nil when it has none.
fn getname(call: &mut Call<'_>) -> Answer {
    let name = call.session.client.names().name;
    if name.is_empty() { Reply::Nil.into() } else { Reply::bulk(&name).into() }
}

/// `CLIENT SETNAME connection-name`
fn setname(call: &mut Call<'_>) -> Answer {
    let name = call.args[2];
    if !is_valid_name(name) {
        return invalid_name().into();
    }
    call.session.client.rename(|names| names.name = name.to_vec());
    Reply::Ok.into()
}

/// `CLIENT SETINFO LIB-NAME libname | LIB-VER libver`
fn setinfo(call: &mut Call<'_>) -> Answer {
    let (option, value) = (call.args[2], call.args[3]);
    let is_name = option.eq_ignore_ascii_case(b"lib-name");
    if !is_name && !option.eq_ignore_ascii_case(b"lib-ver") {
        let option = String::from_utf8_lossy(option);
        return CommandError::new(format!("ERR Unrecognized option '{option}'")).into();
    }
    if !is_valid_name(value) {
        let option = if is_name { "lib-name" } else { "lib-ver" };
        return CommandError::new(format!(
            "ERR {option} cannot contain spaces, newlines or special characters."
        ))
        .into();
    }
    call.session.client.rename(|names| {
        *(if is_name { &mut names.lib_name } else { &mut names.lib_ver }) = value.to_vec();
    });
    Reply::Ok.into()
}

/// `CLIENT INFO`
fn info(call: &mut Call<'_>) -> Answer {
    note_self(call);
    let mut line = client_list::line(&call.session.client, call.node.clock.monotonic_us());
    line.push('\n');
    Reply::Verbatim(line.into()).into()
}

/// The caller's own line shows this very command.
fn note_self(call: &mut Call<'_>) {
    if let Ok(entry) = crate::route::table().resolve(call.args) {
        call.session.client.shown.last_command.store(u32::from(entry.id) + 1, Relaxed);
    }
    call.session.client.shown.last_used_us.store(call.node.clock.monotonic_us(), Relaxed);
    call.session.publish();
}

/// The clients but for those that were told to go and have not yet gone.
fn present(call: &Call<'_>) -> Vec<Arc<Client>> {
    let mut clients = call.node.clients.all();
    clients.retain(|client| client.killed() != Kill::Now);
    clients
}

/// `CLIENT LIST [TYPE normal|master|replica|pubsub] [ID client-id [client-id ...]]`
fn list(call: &mut Call<'_>) -> Answer {
    note_self(call);
    let clients = match call.args[2..] {
        [] => present(call),
        [option, kind] if option.eq_ignore_ascii_case(b"type") => {
            let kind = match Kind::parse(kind) {
                Ok(kind) => kind,
                Err(error) => return error.into(),
            };
            let mut clients = present(call);
            clients.retain(|client| Kind::of(client) == kind);
            clients
        }
        [option, ref ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let mut clients = Vec::new();
            for id in ids {
                let Some(id) = integer_text(id).and_then(|id| u64::try_from(id).ok()) else {
                    return CommandError::known("ERR Invalid client ID").into();
                };
                clients.extend(call.node.clients.get(id));
            }
            clients
        }
        _ => return CommandError::SYNTAX.into(),
    };
    let now_us = call.node.clock.monotonic_us();
    let mut text = String::new();
    for client in clients {
        text.push_str(&client_list::line(&client, now_us));
        text.push('\n');
    }
    Reply::Verbatim(text.into()).into()
}

/// Which clients CLIENT KILL is for.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    kind: Option<Kind>,
    max_age_s: Option<u64>,
    user: Option<&'a [u8]>,
    keep_self: bool,
}

impl<'a> Filter<'a> {
    fn parse(options: &[&'a [u8]], users: &Users) -> Result<Self, CommandError> {
        let (pairs, []) = options.as_chunks::<2>() else { return Err(CommandError::SYNTAX) };
        let mut filter = Self { keep_self: true, ..Self::default() };
        for [option, value] in pairs {
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = integer_text(value).and_then(|id| u64::try_from(id).ok());
                    let id = id.filter(|id| *id > 0);
                    filter.id = Some(
                        id.ok_or(CommandError::known("ERR client-id should be greater than 0"))?,
                    );
                }
                b"addr" => filter.addr = Some(value),
                b"laddr" => filter.laddr = Some(value),
                b"type" => filter.kind = Some(Kind::parse(value)?),
                b"maxage" => {
                    let age = integer_text(value).and_then(|age| u64::try_from(age).ok());
                    filter.max_age_s = Some(age.filter(|age| *age > 0).ok_or(
                        CommandError::known("ERR maxage is not an integer or out of range"),
                    )?);
                }
                b"user" if users.get(value).is_some() => filter.user = Some(value),
                b"user" => {
                    let user = String::from_utf8_lossy(value);
                    return Err(CommandError::new(format!("ERR No such user '{user}'")));
                }
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.keep_self = true,
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.keep_self = false,
                _ => return Err(CommandError::SYNTAX),
            }
        }
        Ok(filter)
    }

    fn fits(&self, client: &Client, now_us: u64) -> bool {
        let age_s = now_us.saturating_sub(client.connected_us) / 1_000_000;
        self.id.is_none_or(|id| client.id == id)
            && self.addr.is_none_or(|addr| client.addr.as_bytes() == addr)
            && self.laddr.is_none_or(|addr| client.local_addr.as_bytes() == addr)
            && self.kind.is_none_or(|kind| Kind::of(client) == kind)
            && self.max_age_s.is_none_or(|max| age_s >= max)
            && self.user.is_none_or(|user| *client.user() == *user)
    }
}

/// `CLIENT KILL ip:port | option value [option value ...]`
fn kill(call: &mut Call<'_>) -> Answer {
    if let [_, _, addr] = call.args {
        let all = call.node.clients.all();
        let Some(client) = all.iter().find(|client| client.addr.as_bytes() == *addr) else {
            return CommandError::known("ERR No such client").into();
        };
        end(call, client);
        return Reply::Ok.into();
    }
    let filter = match Filter::parse(&call.args[2..], &call.node.acl) {
        Ok(filter) => filter,
        Err(error) => return error.into(),
    };
    let own = call.session.client.id;
    let now_us = call.node.clock.monotonic_us();
    let mut killed = 0;
    for client in call.node.clients.all() {
        if (client.id != own || !filter.keep_self) && filter.fits(&client, now_us) {
            end(call, &client);
            killed += 1;
        }
    }
    Reply::Integer(killed).into()
}

/// Ends a client; oneself only once the answer is sent.
pub(super) fn end(call: &mut Call<'_>, client: &Arc<Client>) {
    if client.id == call.session.client.id {
        call.session.closing = true;
        client.kill(Kill::AfterReply);
    } else {
        client.kill(Kill::Now);
    }
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`
fn pause(call: &mut Call<'_>) -> Answer {
    let Some(timeout_ms) = integer_text(call.args[2]) else {
        return CommandError::known("ERR timeout is not an integer or out of range").into();
    };
    let Ok(timeout_ms) = u64::try_from(timeout_ms) else {
        return CommandError::known("ERR timeout is negative").into();
    };
    let writes_only = match call.args[3..] {
        [] => false,
        [mode] if mode.eq_ignore_ascii_case(b"all") => false,
        [mode] if mode.eq_ignore_ascii_case(b"write") => true,
        [_] => {
            return CommandError::known("ERR CLIENT PAUSE mode must be WRITE or ALL").into();
        }
        _ => return CommandError::SYNTAX.into(),
    };
    let now_us = call.node.clock.monotonic_us();
    let until_us = now_us.saturating_add(timeout_ms.saturating_mul(1000));
    call.node.pause.begin(now_us, until_us, writes_only);
    Reply::Ok.into()
}

/// `CLIENT UNPAUSE`
fn unpause(call: &mut Call<'_>) -> Answer {
    call.node.pause.end();
    Reply::Ok.into()
}

/// `CLIENT NO-EVICT ON | OFF`
fn no_evict(call: &mut Call<'_>) -> Answer {
    match switch(call.args[2]) {
        Ok(on) => {
            call.session.client.set_no_evict(on);
            Reply::Ok.into()
        }
        Err(error) => error.into(),
    }
}

/// `CLIENT NO-TOUCH ON | OFF`
fn no_touch(call: &mut Call<'_>) -> Answer {
    match switch(call.args[2]) {
        Ok(on) => {
            call.session.touch = if on { Touch::Leaves } else { Touch::Counts };
            call.session.publish();
            Reply::Ok.into()
        }
        Err(error) => error.into(),
    }
}

/// `CLIENT REPLY ON | OFF | SKIP`
fn reply(call: &mut Call<'_>) -> Answer {
    let mode = call.args[2];
    if mode.eq_ignore_ascii_case(b"on") {
        call.session.reply_mode = ReplyMode::On;
        return Reply::Ok.into();
    }
    if mode.eq_ignore_ascii_case(b"off") {
        call.session.reply_mode = ReplyMode::Off;
    } else if mode.eq_ignore_ascii_case(b"skip") {
        if call.session.reply_mode != ReplyMode::Off {
            call.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return CommandError::SYNTAX.into();
    }
    Answer::Many(Vec::new())
}

/// `CLIENT UNBLOCK client-id [TIMEOUT | ERROR]`
fn unblock(call: &mut Call<'_>) -> Answer {
    let how = match call.args[3..] {
        [] => Unblock::Timeout,
        [how] if how.eq_ignore_ascii_case(b"timeout") => Unblock::Timeout,
        [how] if how.eq_ignore_ascii_case(b"error") => Unblock::Error,
        _ => {
            return CommandError::known("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
                .into();
        }
    };
    let Some(id) = integer_text(call.args[2]) else {
        return CommandError::NOT_AN_INTEGER.into();
    };
    let client = u64::try_from(id).ok().and_then(|id| call.node.clients.get(id));
    Reply::flag(client.is_some_and(|client| client.unblock(how))).into()
}

/// `CLIENT HELP`
fn help(_call: &mut Call<'_>) -> Answer {
    super::help_reply(super::help_texts::CLIENT)
}

const BASE: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE);
const ADMIN: Flags = BASE.with(Flags::ADMIN);

const fn sub(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command::server(name, arity, Group::Connection).of("client").flags(flags)
}

const CLIENT: &[ServerCommand] = &[
    ServerCommand::new(
        sub("caching", 3, BASE)
            .doc("6.0.0", "O(1)", "<YES | NO>", "Instructs the server whether to track the keys in the next request."),
        tracking::caching,
    ),
    ServerCommand::new(
        sub("getname", 2, BASE).doc("2.6.9", "O(1)", "", "Returns the name of the connection."),
        getname,
    ),
    ServerCommand::new(
        sub("getredir", 2, BASE).doc("6.0.0", "O(1)", "", "Returns the client ID to which the connection's tracking notifications are redirected."),
        tracking::getredir,
    ),
    ServerCommand::new(
        Command::server("help", 2, Group::Connection).of("client").flags(Flags::LOADING).flags(Flags::STALE)
            .doc("5.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
        help,
    ),
    ServerCommand::new(
        sub("id", 2, BASE).doc("5.0.0", "O(1)", "", "Returns the unique client ID of the connection."),
        id,
    ),
    ServerCommand::new(
        sub("info", 2, BASE).doc("6.2.0", "O(1)", "", "Returns information about the connection."),
        info,
    ),
    ServerCommand::new(
        sub("kill", -3, ADMIN).flags(Flags::ALLOW_BUSY).doc(
            "2.4.0",
            "O(N) where N is the number of client connections",
            "<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE maxage]> [...]>",
            "Terminates open connections.",
        ),
        kill,
    ),
    ServerCommand::new(
        sub("list", -2, ADMIN).doc(
            "2.4.0",
            "O(N) where N is the number of client connections",
            "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
            "Lists open connections.",
        ),
        list,
    ),
    ServerCommand::new(
        sub("no-evict", 3, ADMIN).doc("7.0.0", "O(1)", "<ON | OFF>", "Sets the client eviction mode of the connection."),
        no_evict,
    ),
    ServerCommand::new(
        sub("no-touch", 3, BASE).doc("7.2.0", "O(1)", "<ON | OFF>", "Controls whether commands sent by the client affect the LRU/LFU of accessed keys."),
        no_touch,
    ),
    ServerCommand::new(
        sub("pause", -3, ADMIN).flags(Flags::ALLOW_BUSY).doc("3.0.0", "O(1)", "timeout [WRITE | ALL]", "Suspends commands processing."),
        pause,
    ),
    ServerCommand::new(
        sub("reply", 3, BASE).doc("3.2.0", "O(1)", "<ON | OFF | SKIP>", "Instructs the server whether to reply to commands."),
        reply,
    ),
    ServerCommand::new(
        sub("setinfo", 4, BASE).doc("7.2.0", "O(1)", "<LIB-NAME libname | LIB-VER libver>", "Sets information specific to the client or connection."),
        setinfo,
    ),
    ServerCommand::new(
        sub("setname", 3, BASE).doc("2.6.9", "O(1)", "connection-name", "Sets the connection name."),
        setname,
    ),
    ServerCommand::new(
        sub("tracking", -3, BASE)
            .doc("6.0.0", "O(1). Some options may introduce additional complexity.", "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]", "Controls server-assisted client-side caching for the connection.")
            .differs("BCAST tells of each command at once rather than once per round of events"),
        tracking::tracking,
    ),
    ServerCommand::new(
        sub("trackinginfo", 2, BASE).doc("6.2.0", "O(1)", "", "Returns information about server-assisted client-side caching for the connection."),
        tracking::trackinginfo,
    ),
    ServerCommand::new(
        sub("unblock", -3, ADMIN).flags(Flags::ALLOW_BUSY).doc("5.0.0", "O(log N) where N is the number of client connections", "client-id [TIMEOUT | ERROR]", "Unblocks a client blocked by a blocking command from a different connection."),
        unblock,
    ),
    ServerCommand::new(
        sub("unpause", 2, ADMIN).flags(Flags::ALLOW_BUSY).doc("6.2.0", "O(N) Where N is the number of paused clients", "", "Resumes processing commands from paused clients."),
        unpause,
    ),
];

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::container(
    Command::container("client", Group::Connection, &[]).doc(
        "2.4.0",
        "Depends on subcommand.",
        "",
        "A container for client connection commands.",
    ),
    CLIENT,
)];
