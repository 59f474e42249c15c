//! CONFIG, and what the directives set beyond the config room.

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::{CommandError, Reply};

use crate::config::commands;
use crate::config::rewrite::rewrite;
use crate::config::settings::Origin;
use crate::route::{Answer, Call, ServerCommand};

/// Where the client of a call connects from.
pub(super) fn origin(call: &Call<'_>) -> Origin {
    let client = &call.session.client;
    let local = client.is_unix
        || client
            .addr
            .parse::<std::net::SocketAddr>()
            .is_ok_and(|addr| addr.ip().to_canonical().is_loopback());
    if local { Origin::Local } else { Origin::Remote }
}

/// `CONFIG GET parameter [parameter ...]`
fn get(call: &mut Call<'_>) -> Answer {
    commands::get(&call.node.config, &call.args[2..]).into()
}

/// `CONFIG SET parameter value [parameter value ...]`
fn set(call: &mut Call<'_>) -> Answer {
    commands::set(&call.node.config, &call.args[2..], origin(call)).into()
}

/// `CONFIG RESETSTAT`
fn resetstat(call: &mut Call<'_>) -> Answer {
    call.node.observe.reset_stats();
    Reply::Ok.into()
}

/// `CONFIG REWRITE`
fn rewrite_file(call: &mut Call<'_>) -> Answer {
    let node = call.node;
    // Where the users have a file of their own, this one names none.
    let users = match node.settings.aclfile().is_empty() {
        true => crate::acl::file::configuration(&node.acl),
        false => Vec::new(),
    };
    with_files(|| rewrite(&node.config, &users)).into()
}

/// Does what reads or syncs a file: other tasks of this worker go on elsewhere meanwhile.
pub(super) fn with_files<T>(work: impl FnOnce() -> T) -> T {
    if tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
    {
        return tokio::task::block_in_place(work);
    }
    work()
}

/// `CONFIG HELP`
fn help(_call: &mut Call<'_>) -> Answer {
    commands::help().into()
}

const FLAGS: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);

const fn sub(name: &'static str, arity: i32) -> Command {
    Command::server(name, arity, Group::Server).of("config").flags(FLAGS)
}

const CONFIG: &[ServerCommand] = &[
    ServerCommand::new(
        sub("get", -3).doc(
            "2.0.0",
            "O(N) when N is the number of configuration parameters provided",
            "parameter [parameter ...]",
            "Returns the effective values of configuration parameters.",
        ),
        get,
    ),
    ServerCommand::new(
        Command::server("help", 2, Group::Server)
            .of("config")
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .doc("5.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
        help,
    ),
    ServerCommand::new(
        sub("resetstat", 2).doc("2.0.0", "O(1)", "", "Resets the server's statistics."),
        resetstat,
    ),
    ServerCommand::new(
        sub("rewrite", 2).doc("2.8.0", "O(1)", "", "Persists the effective configuration to file."),
        rewrite_file,
    ),
    ServerCommand::new(
        sub("set", -4).doc(
            "2.0.0",
            "O(N) when N is the number of configuration parameters provided",
            "parameter value [parameter value ...]",
            "Sets configuration parameters in-flight.",
        ),
        set,
    ),
];

/// An option that is a switch: `ON` or `OFF`.
pub(super) fn switch(text: &[u8]) -> Result<bool, CommandError> {
    if text.eq_ignore_ascii_case(b"on") {
        Ok(true)
    } else if text.eq_ignore_ascii_case(b"off") {
        Ok(false)
    } else {
        Err(CommandError::SYNTAX)
    }
}

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::container(
    Command::container("config", Group::Server, &[]).doc(
        "2.0.0",
        "Depends on subcommand.",
        "",
        "A container for server configuration commands.",
    ),
    CONFIG,
)];
