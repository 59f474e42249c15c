//! CONFIG, and what the directives set beyond the config room.

use std::sync::Arc;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::{CommandError, Reply};

use crate::commit::raft::batch::Items;
use crate::config::commands;
use crate::config::rewrite::rewrite;
use crate::config::settings::Origin;
use crate::route::waiting::Later;
use crate::route::{Answer, Call, ServerCommand, Waiting, shared};

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
    let args = &call.args[2..];
    let raft = match call.node.raft() {
        Some(raft) if raft.running().is_some() => Arc::clone(raft),
        _ => return commands::set(&call.node.config, args, origin(call)).into(),
    };
    let split = match commands::split(&call.node.config, args, origin(call)) {
        Ok(split) => split,
        Err(error) => return error.into(),
    };
    if split.shared.is_empty() {
        return commands::set(&call.node.config, args, origin(call)).into();
    }
    if call.in_transaction {
        return shared_in_transaction("CONFIG SET of what the members of a cluster share");
    }
    let (node, origin) = (Arc::clone(call.node), origin(call));
    proposed(async move {
        let mut items = Items::default();
        let pairs: Vec<&[u8]> = split.shared.iter().map(Vec::as_slice).collect();
        items.settings(&pairs);
        shared::propose(&raft, items).await?;
        if !split.own.is_empty() {
            let pairs: Vec<&[u8]> = split.own.iter().map(Vec::as_slice).collect();
            commands::set(&node.config, &pairs, origin)?;
        }
        Ok(Reply::Ok)
    })
}

/// What a proposal comes to, later.
pub(super) fn proposed(
    work: impl Future<Output = Result<Reply, CommandError>> + Send + 'static,
) -> Answer {
    let work = async { work.await.unwrap_or_else(Reply::error) };
    Answer::Wait(Waiting::Later(Later(Box::pin(work))))
}

/// The answer to a change of what all members share between MULTI and EXEC.
pub(super) fn shared_in_transaction(what: &str) -> Answer {
    CommandError::new(format!("ERR {what} goes through the log by itself: not inside MULTI")).into()
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
