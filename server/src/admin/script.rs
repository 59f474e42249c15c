//! SCRIPT LOAD, EXISTS, FLUSH, KILL, DEBUG, HELP.

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::host::ScriptKind;
use holdfast_engine::script::Sha;
use holdfast_engine::{CommandError, Reply};

use crate::route::{Answer, Call, ServerCommand};

/// `SCRIPT LOAD script`: keeps a script and answers its SHA1.
fn load(call: &mut Call<'_>) -> Answer {
    call.node.engine.load_script(call.args[2]).map(|sha| Reply::bulk(sha.as_bytes())).into()
}

/// `SCRIPT EXISTS sha1 [sha1 ...]`: 1 or 0 for each.
fn exists(call: &mut Call<'_>) -> Answer {
    let scripts = call.node.engine.scripts();
    let known = |name: &&[u8]| Sha::parse(name).is_some_and(|sha| scripts.find(&sha).is_some());
    Reply::Array(call.args[2..].iter().map(|name| Reply::flag(known(name))).collect()).into()
}

/// `SCRIPT FLUSH [ASYNC | SYNC]`
fn flush(call: &mut Call<'_>) -> Answer {
    match call.args {
        [_, _] => {}
        [_, _, how] if how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async") => {}
        _ => {
            return CommandError::known("ERR SCRIPT FLUSH only support SYNC|ASYNC option").into();
        }
    }
    call.node.engine.scripts().flush();
    Reply::Ok.into()
}

/// `SCRIPT KILL`: stops scripts that run for long and have not written.
fn kill(call: &mut Call<'_>) -> Answer {
    match call.node.scripts.kill(ScriptKind::Script) {
        Ok(()) => Reply::Ok.into(),
        Err(error) => error.into(),
    }
}

/// `SCRIPT DEBUG YES|SYNC|NO`: only NO, for there is no debugger.
fn debug(call: &mut Call<'_>) -> Answer {
    if call.args[2].eq_ignore_ascii_case(b"no") {
        return Reply::Ok.into();
    }
    if call.args[2].eq_ignore_ascii_case(b"yes") || call.args[2].eq_ignore_ascii_case(b"sync") {
        return CommandError::known("ERR the Lua debugger is not supported").into();
    }
    CommandError::known("ERR Use SCRIPT DEBUG YES/SYNC/NO").into()
}

/// `SCRIPT HELP`
fn help(_call: &mut Call<'_>) -> Answer {
    const LINES: &[&str] = &[
        "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "DEBUG (YES|SYNC|NO)",
        "    Set the debug mode for subsequent scripts executed. Only NO is supported.",
        "EXISTS <sha1> [<sha1> ...]",
        "    Return information about the existence of the scripts in the script cache.",
        "FLUSH [ASYNC|SYNC]",
        "    Flush the Lua scripts cache. Very dangerous on replicas.",
        "    When called without the optional mode argument, the behavior is determined by the",
        "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
        "    * ASYNC: Asynchronously flush the scripts cache.",
        "    * SYNC: Synchronously flush the scripts cache.",
        "KILL",
        "    Kill the currently executing Lua script.",
        "LOAD <script>",
        "    Load a script into the scripts cache without executing it.",
        "HELP",
        "    Print this help.",
    ];
    super::help_reply(LINES)
}

const SCRIPT: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("debug", 3, Group::Scripting)
            .of("script")
            .flags(Flags::NOSCRIPT)
            .doc("3.2.0", "O(1)", "<YES | SYNC | NO>", "Sets the debug mode of server-side Lua scripts.")
            .differs("only `NO`: there is no Lua debugger"),
        debug,
    ),
    ServerCommand::new(
        Command::server("exists", -3, Group::Scripting).of("script").flags(Flags::NOSCRIPT).doc(
            "2.6.0",
            "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
            "sha1 [sha1 ...]",
            "Determines whether server-side Lua scripts exist in the script cache.",
        ),
        exists,
    ),
    ServerCommand::new(
        Command::server("flush", -2, Group::Scripting).of("script").flags(Flags::NOSCRIPT).doc(
            "2.6.0",
            "O(N) with N being the number of scripts in cache",
            "[ASYNC | SYNC]",
            "Removes all server-side Lua scripts from the script cache.",
        ),
        flush,
    ),
    ServerCommand::new(
        Command::server("help", 2, Group::Scripting)
            .of("script")
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .doc("5.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
        help,
    ),
    ServerCommand::new(
        Command::server("kill", 2, Group::Scripting)
            .of("script")
            .flags(Flags::NOSCRIPT)
            .flags(Flags::ALLOW_BUSY)
            .doc("2.6.0", "O(1)", "", "Terminates a server-side Lua script during execution.")
            .differs("stops every script that runs for long, for several may run at once"),
        kill,
    ),
    ServerCommand::new(
        Command::server("load", 3, Group::Scripting)
            .of("script")
            .flags(Flags::NOSCRIPT)
            .flags(Flags::STALE)
            .doc(
                "2.6.0",
                "O(N) with N being the length in bytes of the script body.",
                "script",
                "Loads a server-side Lua script to the script cache.",
            ),
        load,
    ),
];

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::container(
    Command::container("script", Group::Scripting, &[]).doc(
        "2.6.0",
        "Depends on subcommand.",
        "",
        "A container for Lua scripts management commands.",
    ),
    SCRIPT,
)];
