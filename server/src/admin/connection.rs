//! HELLO, AUTH, SELECT, QUIT, RESET.

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::{CommandError, Reply};

use crate::config::REDIS_VERSION;
use crate::node::Node;
use crate::resp::Protocol;
use crate::route::rows::selected_db;
use crate::route::{Answer, Call, ServerCommand, rights};
use crate::session::{ReplyMode, Session};

const WRONG_PASSWORD: CommandError =
    CommandError::known("WRONGPASS invalid username-password pair or user is disabled.");

/// Logs a session in, if the user and the password are right.
fn authenticate(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
    match call.node.acl.get(user).filter(|user| user.admits(password)) {
        Some(user) => {
            call.session.log_in(user, &call.node.acl);
            Ok(())
        }
        None => {
            rights::note_failed_login(call, user);
            Err(WRONG_PASSWORD)
        }
    }
}

/// `AUTH [username] password`
fn auth(call: &mut Call<'_>) -> Answer {
    let (user, password): (&[u8], &[u8]) = match call.args {
        [_, password] => {
            if call.node.acl.default_takes_any_password() {
                return CommandError::known(
                    "ERR AUTH <password> called without any password configured for the default \
                     user. Are you sure your configuration is correct?",
                )
                .into();
            }
            (b"default", password)
        }
        [_, user, password] => (user, password),
        _ => return CommandError::SYNTAX.into(),
    };
    match authenticate(call, user, password) {
        Ok(()) => Reply::Ok.into(),
        Err(error) => error.into(),
    }
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
fn hello(call: &mut Call<'_>) -> Answer {
    let args = call.args;
    let mut protocol = call.session.protocol;
    if let Some(version) = args.get(1) {
        let Some(version) = holdfast_engine::value::integer_text(version) else {
            return CommandError::known("ERR Protocol version is not an integer or out of range")
                .into();
        };
        protocol = match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return CommandError::known("NOPROTO unsupported protocol version").into(),
        };
    }
    let mut credentials = None;
    let mut name = None;
    let mut rest = args.get(2..).unwrap_or_default();
    while let [option, after @ ..] = rest {
        rest = match after {
            [user, password, tail @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                credentials = Some((*user, *password));
                tail
            }
            [value, tail @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                if !is_valid_name(value) {
                    return invalid_name().into();
                }
                name = Some(*value);
                tail
            }
            _ => {
                let option = String::from_utf8_lossy(option).into_owned();
                return CommandError::new(format!("ERR Syntax error in HELLO option '{option}'"))
                    .into();
            }
        };
    }
    if let Some((user, password)) = credentials
        && let Err(error) = authenticate(call, user, password)
    {
        return error.into();
    }
    if !call.session.authenticated && call.node.acl.asks_password() {
        return CommandError::known(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        )
        .into();
    }
    if let Some(name) = name {
        call.session.client.rename(|names| names.name = name.to_vec());
    }
    set_protocol(call.session, protocol);
    let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
    let pair = |name: &str, value| (Reply::bulk(name.as_bytes()), value);
    Reply::Map(vec![
        pair("server", Reply::bulk(b"redis")),
        pair("version", Reply::bulk(REDIS_VERSION.as_bytes())),
        pair("proto", Reply::Integer(version)),
        pair("id", Reply::Integer(call.session.client.id as i64)),
        pair("mode", Reply::bulk(super::server::mode(call.node).as_bytes())),
        pair("role", Reply::bulk(if follows(call.node) { b"replica" } else { b"master" })),
        pair("modules", Reply::Array(Vec::new())),
    ])
    .into()
}

/// Whether this node is a member of a cluster that another leads.
fn follows(node: &Node) -> bool {
    node.raft().is_some_and(|raft| raft.running().is_some() && !raft.leads())
}

fn set_protocol(session: &mut Session, protocol: Protocol) {
    session.protocol = protocol;
    session.client.set_protocol(protocol);
    session.publish();
}

/// Whether a client may bear this name: printable, without spaces.
#[must_use]
pub fn is_valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// What a bad client name is answered.
#[must_use]
pub fn invalid_name() -> CommandError {
    CommandError::known("ERR Client names cannot contain spaces, newlines or special characters.")
}

/// `SELECT index`
fn select(call: &mut Call<'_>) -> Answer {
    if holdfast_engine::value::integer_text(call.args[1]).is_none() {
        return CommandError::NOT_AN_INTEGER.into();
    }
    match selected_db(call.node, call.args[1]) {
        Some(db) => {
            call.session.db = db;
            call.session.publish();
            Reply::Ok.into()
        }
        None => CommandError::DB_OUT_OF_RANGE.into(),
    }
}

/// `QUIT`: answers OK and closes.
fn quit(call: &mut Call<'_>) -> Answer {
    call.session.closing = true;
    Reply::Ok.into()
}

/// `RESET`: the session becomes as new.
fn reset(call: &mut Call<'_>) -> Answer {
    super::tracking::off(call);
    let session = &mut *call.session;
    if session.monitor {
        session.monitor = false;
        call.node.monitors.remove(session.client.id);
    }
    session.discard();
    session.subscriptions.clear();
    session.reply_mode = ReplyMode::On;
    session.db = Default::default();
    session.touch = Default::default();
    session.client.rename(|names| names.name.clear());
    session.client.set_no_evict(false);
    session.log_out(&call.node.acl);
    set_protocol(session, Protocol::Resp2);
    Reply::simple("RESET").into()
}

const ANY_TIME: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("auth", -2, Group::Connection)
            .flags(ANY_TIME)
            .flags(Flags::NO_AUTH)
            .flags(Flags::ALLOW_BUSY)
            .doc(
                "1.0.0",
                "O(N) where N is the number of passwords defined for the user",
                "[username] password",
                "Authenticates the connection.",
            ),
        auth,
    ),
    ServerCommand::new(
        Command::server("hello", -1, Group::Connection)
            .flags(ANY_TIME)
            .flags(Flags::NO_AUTH)
            .flags(Flags::ALLOW_BUSY)
            .doc(
                "6.0.0",
                "O(1)",
                "[protover [AUTH username password] [SETNAME clientname]]",
                "Handshakes with the Redis server.",
            ),
        hello,
    ),
    ServerCommand::new(
        Command::server("select", 2, Group::Connection)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .flags(Flags::FAST)
            .doc("1.0.0", "O(1)", "index", "Changes the selected database."),
        select,
    ),
    ServerCommand::new(
        Command::server("quit", -1, Group::Connection)
            .flags(ANY_TIME)
            .flags(Flags::NO_AUTH)
            .flags(Flags::ALLOW_BUSY)
            .flags(Flags::NOT_QUEUED)
            .flags(Flags::IN_SUBSCRIBER_MODE)
            .doc("1.0.0", "O(1)", "", "Closes the connection."),
        quit,
    ),
    ServerCommand::new(
        Command::server("reset", 1, Group::Connection)
            .flags(ANY_TIME)
            .flags(Flags::NO_AUTH)
            .flags(Flags::ALLOW_BUSY)
            .flags(Flags::NOT_QUEUED)
            .flags(Flags::IN_SUBSCRIBER_MODE)
            .doc("6.2.0", "O(1)", "", "Resets the connection."),
        reset,
    ),
];
