//! FUNCTION and FCALL: libraries of functions, which are part of the data.
//!
//! A change of libraries holds every shard, so that it has its place among all other changes.

use std::sync::Arc;

use super::scripting::{FLAGS, KEYS, Mode, READ_KEYS, RO_FLAGS, Run, split, with_vm};
use crate::command::options::is;
use crate::command::{Args, Command, Flags, Group, Scope};
use crate::dump::payload;
use crate::effects::Effects;
use crate::engine::{Engine, ScriptError};
use crate::error::CommandError;
use crate::host::{Host, ScriptKind};
use crate::keyspace::{Function, Libraries, Library, View};
use crate::limits::Limits;
use crate::reply::{CommandResult, Reply};
use crate::script::library::{LOAD_INSTRUCTIONS_MAX, Metadata};
use crate::script::{Caller, Interrupt};
use crate::value::glob::{Case, glob_matches};

/// Whether a library may take the place of one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collision {
    /// It is refused.
    Refused,
    /// The old one goes.
    Replaces,
}

/// What the code of a library reaches of the world while it registers its functions.
struct Loader<'a> {
    host: &'a dyn Host,
}

impl Caller for Loader<'_> {
    fn call(&mut self, _args: &[&[u8]]) -> Reply {
        Reply::error(CommandError::known("ERR This Redis command is not allowed from script"))
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        self.host.script_log(level, text);
    }

    fn seed(&self) -> u64 {
        0
    }

    fn interrupt(&mut self, instructions: u64) -> Interrupt {
        if instructions > LOAD_INSTRUCTIONS_MAX {
            return Interrupt::Kill(CommandError::known("ERR FUNCTION LOAD timeout"));
        }
        Interrupt::Continue
    }
}

/// Adds the library of this code to `libraries` and returns its name.
///
/// # Errors
/// In Redis's words; `libraries` are as they were.
pub fn add_library(
    limits: &Limits,
    libraries: &mut Libraries,
    code: &[u8],
    collision: Collision,
    host: &dyn Host,
) -> Result<String, CommandError> {
    let metadata = Metadata::parse(code)?;
    let name = metadata.name.clone();
    if collision == Collision::Refused && libraries.get(name.as_bytes()).is_some() {
        return Err(CommandError::new(format!("ERR Library '{name}' already exists")));
    }
    let functions: Vec<Function> = with_vm(limits, |vm| vm.load(&metadata, &mut Loader { host }))?;
    if functions.is_empty() {
        return Err(CommandError::known("ERR No functions registered"));
    }
    libraries.put(&Library::new(name.clone(), code, functions))?;
    Ok(name)
}

/// `FUNCTION LOAD [REPLACE] function-code`: the library's name. O(code).
fn load(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let mut collision = Collision::Refused;
    for option in &args[2..args.len() - 1] {
        if !is(option, "REPLACE") {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::new(format!("ERR Unknown option given: {option}")));
        }
        collision = Collision::Replaces;
    }
    let mut libraries = (*view.libraries()).clone();
    let code = args[args.len() - 1];
    let name = add_library(view.limits(), &mut libraries, code, collision, view.host())?;
    change(view, libraries, effects);
    Ok(Reply::bulk(name.as_bytes()))
}

fn change(view: &mut View<'_>, libraries: Libraries, effects: &mut Effects) {
    view.set_libraries(libraries);
    effects.changed(1);
}

/// `FUNCTION DELETE library-name`: OK. O(functions).
fn delete(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let mut libraries = (*view.libraries()).clone();
    if !libraries.remove(args[2]) {
        return Err(CommandError::known("ERR Library not found"));
    }
    change(view, libraries, effects);
    Ok(Reply::Ok)
}

fn bad_subcommand(name: &[u8]) -> CommandError {
    CommandError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try FUNCTION HELP.",
        String::from_utf8_lossy(&name[..name.len().min(128)])
    ))
}

/// `FUNCTION FLUSH [ASYNC | SYNC]`: OK; there is no library any more. O(functions).
fn flush(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    match args {
        [_, _] => {}
        [_, _, mode] if is(mode, "ASYNC") || is(mode, "SYNC") => {}
        [_, _, _] => {
            return Err(CommandError::known("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
        }
        _ => return Err(bad_subcommand(args[1])),
    }
    change(view, Libraries::default(), effects);
    Ok(Reply::Ok)
}

/// `FUNCTION DUMP`: all libraries in Redis's serialization. O(code).
fn dump(view: &View<'_>, _args: Args<'_>) -> CommandResult {
    Ok(Reply::Bulk(payload::dump_libraries(&view.libraries()).into()))
}

/// `FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]`: OK; all of the payload's
/// libraries are there, or none. O(code).
fn restore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (mut collision, mut libraries) = (Collision::Refused, (*view.libraries()).clone());
    match args {
        [_, _, _] => {}
        [_, _, _, policy] if is(policy, "APPEND") => {}
        [_, _, _, policy] if is(policy, "REPLACE") => collision = Collision::Replaces,
        [_, _, _, policy] if is(policy, "FLUSH") => libraries = Libraries::default(),
        [_, _, _, _] => {
            return Err(CommandError::known(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => return Err(bad_subcommand(args[1])),
    }
    let body = payload::unframe_any(args[2])
        .ok_or(CommandError::known("ERR DUMP payload version or checksum are wrong"))?;
    let mut restored = Libraries::default();
    for code in payload::restore_libraries(body)? {
        add_library(view.limits(), &mut restored, &code, Collision::Refused, view.host())?;
    }
    for library in restored.iter() {
        if libraries.get(library.name.as_bytes()).is_some() {
            if collision == Collision::Refused {
                let name = &library.name;
                return Err(CommandError::new(format!("ERR Library {name} already exists")));
            }
            // All that give way do so before any name is compared.
            libraries.remove(library.name.as_bytes());
        }
    }
    for library in restored.iter() {
        libraries.put(library)?;
    }
    change(view, libraries, effects);
    Ok(Reply::Ok)
}

/// `FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]`: a map of each library, by
/// name. O(functions).
fn list(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut options = args[2..].iter();
    while let Some(option) = options.next() {
        if !with_code && is(option, "WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && is(option, "LIBRARYNAME") {
            let given = options
                .next()
                .ok_or(CommandError::known("ERR library name argument was not given"))?;
            pattern = Some(*given);
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::new(format!("ERR Unknown argument {option}")));
        }
    }
    let shown = |library: &&Arc<Library>| {
        pattern
            .as_ref()
            .is_none_or(|pattern| glob_matches(pattern, library.name.as_bytes(), Case::Insensitive))
    };
    let libraries = view.libraries();
    let shown = libraries.iter().filter(shown);
    Ok(Reply::Array(shown.map(|library| library_map(library, with_code)).collect()))
}

fn library_map(library: &Library, with_code: bool) -> Reply {
    let functions = library.functions.iter().map(|function| {
        let flags = function.flags.names().map(Reply::simple).collect();
        Reply::Map(vec![
            (Reply::bulk(b"name"), Reply::bulk(function.name.as_bytes())),
            (Reply::bulk(b"description"), Reply::bulk_or_nil(function.description.as_deref())),
            (Reply::bulk(b"flags"), Reply::Set(flags)),
        ])
    });
    let mut fields = vec![
        (Reply::bulk(b"library_name"), Reply::bulk(library.name.as_bytes())),
        (Reply::bulk(b"engine"), Reply::bulk(b"LUA")),
        (Reply::bulk(b"functions"), Reply::Array(functions.collect())),
    ];
    if with_code {
        fields.push((Reply::bulk(b"library_code"), Reply::bulk(&library.code)));
    }
    Reply::Map(fields)
}

/// `FUNCTION STATS`: the function that has run for longest, and how much is loaded. O(libraries).
fn stats(view: &View<'_>, _args: Args<'_>) -> CommandResult {
    let running = view.host().running_function().map_or(Reply::Nil, |running| {
        let command = running.command.iter().map(|arg| Reply::bulk(arg)).collect();
        let duration_ms = i64::try_from(running.duration_ms).unwrap_or(i64::MAX);
        Reply::Map(vec![
            (Reply::bulk(b"name"), Reply::bulk_or_nil(running.command.get(1).map(Vec::as_slice))),
            (Reply::bulk(b"command"), Reply::Array(command)),
            (Reply::bulk(b"duration_ms"), Reply::Integer(duration_ms)),
        ])
    });
    let (libraries, functions) = view.libraries().counts();
    let engine = Reply::Map(vec![
        (Reply::bulk(b"libraries_count"), Reply::count(libraries)),
        (Reply::bulk(b"functions_count"), Reply::count(functions)),
    ]);
    Ok(Reply::Map(vec![
        (Reply::bulk(b"running_script"), running),
        (Reply::bulk(b"engines"), Reply::Map(vec![(Reply::bulk(b"LUA"), engine)])),
    ]))
}

/// `FUNCTION KILL`: ends functions that run for long and have not written.
fn kill(view: &View<'_>, _args: Args<'_>) -> CommandResult {
    view.host().kill_scripts(ScriptKind::Function).map(|()| Reply::Ok)
}

/// `FUNCTION HELP`
fn help(_view: &View<'_>, _args: Args<'_>) -> CommandResult {
    const LINES: &[&str] = &[
        "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "LOAD [REPLACE] <FUNCTION CODE>",
        "    Create a new library with the given library name and code.",
        "DELETE <LIBRARY NAME>",
        "    Delete the given library.",
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "    Return general information on all the libraries:",
        "    * Library name",
        "    * The engine used to run the Library",
        "    * Library description",
        "    * Functions list",
        "    * Library code (if WITHCODE is given)",
        "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
        "STATS",
        "    Return information about the current function running:",
        "    * Function name",
        "    * Command used to run the function",
        "    * Duration in MS that the function is running",
        "    If no function is running, return nil",
        "    In addition, returns a list of available engines.",
        "KILL",
        "    Kill the current running function.",
        "FLUSH [ASYNC|SYNC]",
        "    Delete all the libraries.",
        "    When called without the optional mode argument, the behavior is determined by the",
        "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
        "    * ASYNC: Asynchronously flush the libraries.",
        "    * SYNC: Synchronously flush the libraries.",
        "DUMP",
        "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
        "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
        "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
        "    control how to handle existing libraries (default APPEND):",
        "    * FLUSH: delete all existing libraries.",
        "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
        "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
        "      libraries with the new libraries (notice that even on this option there is a chance of failure",
        "      in case of functions name collision with another library).",
        "HELP",
        "    Prints this help.",
    ];
    Ok(Reply::Array(LINES.iter().map(|line| Reply::simple(line)).collect()))
}

/// `FCALL function numkeys [key [key ...]] [arg [arg ...]]`: the function's result; O(function).
fn fcall(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> Result<Reply, ScriptError> {
    call(engine, view, args, effects, Mode::Any)
}

fn fcall_ro(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> Result<Reply, ScriptError> {
    call(engine, view, args, effects, Mode::ReadOnly)
}

fn call(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    mode: Mode,
) -> Result<Reply, ScriptError> {
    let libraries = view.libraries();
    let (library, function) =
        libraries.function(args[1]).ok_or(CommandError::known("ERR Function not found"))?;
    let (keys, argv) = split(args, CommandError::known("ERR Bad number of keys provided"))?;
    let (flags, reach) = (Some(function.flags), &function.reach);
    let run = Run { args, flags, reach, kind: ScriptKind::Function };
    run.run(engine, view, effects, mode, |vm, caller| {
        vm.call((library, function), keys, argv, caller)
    })
}

const FUNCTION: &[Command] = &[
    Command::write("delete", 3, Group::Scripting, delete)
        .of("function")
        .flags(Flags::NOSCRIPT)
        .scope(Scope::All)
        .doc("7.0.0", "O(1)", "library-name", "Deletes a library and its functions."),
    Command::read("dump", 2, Group::Scripting, dump)
        .without_key_flags()
        .of("function")
        .flags(Flags::NOSCRIPT)
        .scope(Scope::Free)
        .doc(
            "7.0.0",
            "O(N) where N is the number of functions",
            "",
            "Dumps all libraries into a serialized binary payload.",
        ),
    Command::write("flush", -2, Group::Scripting, flush)
        .of("function")
        .flags(Flags::NOSCRIPT)
        .scope(Scope::All)
        .doc(
            "7.0.0",
            "O(N) where N is the number of functions deleted",
            "[ASYNC | SYNC]",
            "Deletes all libraries and functions.",
        ),
    Command::read("help", 2, Group::Scripting, help)
        .without_key_flags()
        .of("function")
        .flags(Flags::LOADING.with(Flags::STALE))
        .scope(Scope::Free)
        .doc("7.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
    Command::read("kill", 2, Group::Scripting, kill)
        .without_key_flags()
        .of("function")
        .flags(Flags::NOSCRIPT.with(Flags::ALLOW_BUSY))
        .scope(Scope::Free)
        .doc("7.0.0", "O(1)", "", "Terminates a function during execution.")
        .differs("stops every function that runs for long, for several may run at once"),
    Command::read("list", -2, Group::Scripting, list)
        .without_key_flags()
        .of("function")
        .flags(Flags::NOSCRIPT)
        .scope(Scope::Free)
        .doc(
            "7.0.0",
            "O(N) where N is the number of functions",
            "[LIBRARYNAME library-name-pattern] [WITHCODE]",
            "Returns information about all libraries.",
        ),
    Command::write("load", -3, Group::Scripting, load)
        .of("function")
        .flags(Flags::NOSCRIPT.with(Flags::DENYOOM))
        .scope(Scope::All)
        .doc(
            "7.0.0",
            "O(1) (considering compilation time is redundant)",
            "[REPLACE] function-code",
            "Creates a library.",
        )
        .differs("the time to load is limited in instructions, so that every node decides alike"),
    Command::write("restore", -3, Group::Scripting, restore)
        .of("function")
        .flags(Flags::NOSCRIPT.with(Flags::DENYOOM))
        .scope(Scope::All)
        .doc(
            "7.0.0",
            "O(N) where N is the number of functions on the payload",
            "serialized-value [FLUSH | APPEND | REPLACE]",
            "Restores all libraries from a payload.",
        ),
    Command::read("stats", 2, Group::Scripting, stats)
        .without_key_flags()
        .of("function")
        .flags(Flags::NOSCRIPT.with(Flags::ALLOW_BUSY))
        .scope(Scope::Free)
        .doc("7.0.0", "O(1)", "", "Returns information about a function during execution.")
        .differs("tells of the function that has run for longest, for several may run at once"),
];

const STATELESS: &str = "the library's code registers its functions anew before each call: what a \
                         call leaves in the library's variables is gone at the next";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::container("function", Group::Scripting, FUNCTION).doc(
        "7.0.0",
        "Depends on subcommand.",
        "",
        "A container for function commands.",
    ),
    Command::script("fcall", -3, fcall)
        .keys(KEYS)
        .flags(FLAGS)
        .doc(
            "7.0.0",
            "Depends on the function that is executed.",
            "function numkeys [key [key ...]] [arg [arg ...]]",
            "Invokes a function.",
        )
        .differs(STATELESS),
    Command::script("fcall_ro", -3, fcall_ro)
        .keys(READ_KEYS)
        .flags(RO_FLAGS)
        .doc(
            "7.0.0",
            "Depends on the function that is executed.",
            "function numkeys [key [key ...]] [arg [arg ...]]",
            "Invokes a read-only function.",
        )
        .differs(STATELESS),
];

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, show};

    fn load(bench: &mut Bench, code: &str) -> String {
        show(&bench.run(&["FUNCTION", "LOAD", "REPLACE", code]))
    }

    #[test]
    fn what_a_call_leaves_behind_is_gone_at_the_next() {
        let mut bench = Bench::new();
        let code = "#!lua name=lib\nlocal n, logged = 0, {}\n\
                    redis.register_function('count', function() n = n + 1 return n end)\n\
                    redis.register_function('late', function() \
                    logged.f('g', function() end) end)\n\
                    logged.f = redis.register_function";
        assert_eq!(load(&mut bench, code), "\"lib\"");
        bench.check(&[("FCALL count 0", "1"), ("FCALL COUNT 0", "1")]);
        let late = bench.show("FCALL late 0");
        assert!(late.contains("can only be called on FUNCTION LOAD command"), "{late}");
        bench.check(&[("FCALL count 0", "1"), ("FCALL g 0", "-ERR Function not found")]);
    }

    #[test]
    fn a_load_that_fails_changes_nothing() {
        let mut bench = Bench::new();
        load(&mut bench, "#!lua name=a\nredis.register_function('f', function() return 1 end)");
        for bad in ["return 1", "x = 1", "x x", "while true do end", "redis.register_function(1)"] {
            let told = load(&mut bench, &format!("#!lua name=a\n{bad}"));
            assert!(told.starts_with("-ERR "), "{told}");
            assert_eq!(bench.effects.changes, 0);
        }
        let taken = "#!lua name=b\nredis.register_function('F', function() return 2 end)";
        assert_eq!(load(&mut bench, taken), "-ERR Function F already exists");
        bench.check(&[("FLUSHALL", "OK"), ("FCALL f 0", "1"), ("FUNCTION DELETE a", "OK")]);
        assert_eq!(bench.effects.changes, 1);
        bench.check(&[("FCALL f 0", "-ERR Function not found"), ("FUNCTION LIST", "[]")]);
    }

    #[test]
    fn undeclared_keys_are_reached_and_scripts_do_not_see_what_functions_left() {
        let mut bench = Bench::new();
        let code = "#!lua name=lib\nredis.register_function('f', function(keys) \
                    redis.call('set', keys[1], 1) return redis.call('incr', 'other') end)";
        load(&mut bench, code);
        bench.check(&[("FCALL f 1 k", "1"), ("FCALL f 1 k", "2"), ("GET other", "\"2\"")]);
        assert_eq!(show(&bench.run(&["EVAL", "return #KEYS", "1", "k"])), "1");
        assert!(bench.show("FCALL_RO f 1 k").contains("write flag"));
    }
}
