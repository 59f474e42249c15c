//! COMMAND: the command table, told to clients.

use holdfast_engine::command::{
    Access, Args, Argument, ArgumentKind, Begin, Command, Find, Flags, Group, KeySpec, KeysError,
    categories, parse_syntax,
};
use holdfast_engine::value::glob::Glob;
use holdfast_engine::{CommandError, Reply};

use crate::route::{Answer, Call, Entry, Run, ServerCommand, table};

fn simple(text: &'static str) -> Reply {
    Reply::simple(text)
}

fn bulk(text: &str) -> Reply {
    Reply::bulk(text.as_bytes())
}

/// The ten elements COMMAND INFO tells of a command.
fn info_of(entry: &Entry) -> Reply {
    let row = entry.row;
    let (first, last, step) = row.legacy_keys();
    let mut flags = row.flags.names();
    if row.has_movable_keys() && !flags.contains(&"movablekeys") {
        flags.push("movablekeys");
    }
    let container = matches!(entry.run, Run::Container);
    let flags = if container { Vec::new() } else { flags.into_iter().map(simple).collect() };
    Reply::Array(vec![
        bulk(&entry.full_name),
        Reply::Integer(i64::from(row.arity)),
        Reply::Set(flags),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(categories(row).into_iter().map(simple).collect()),
        Reply::Array(Vec::new()),
        Reply::Set(row.keys.iter().map(key_spec).collect()),
        Reply::Array(entry.children.iter().map(info_of).collect()),
    ])
}

fn key_spec(spec: &KeySpec) -> Reply {
    let map = |pairs: Vec<(&str, Reply)>| {
        Reply::Map(pairs.into_iter().map(|(name, value)| (bulk(name), value)).collect())
    };
    let unknown = || map(vec![("type", bulk("unknown")), ("spec", Reply::Map(Vec::new()))]);
    let begin = match spec.begin {
        Begin::Unknown(_) => unknown(),
        Begin::Index(index) | Begin::IndexIf(index, _) => {
            map(vec![("type", bulk("index")), ("spec", map(vec![("index", Reply::count(index))]))])
        }
        Begin::Keyword(word, from, _) => map(vec![
            ("type", bulk("keyword")),
            ("spec", map(vec![("keyword", bulk(word)), ("startfrom", Reply::Integer(from))])),
        ]),
    };
    let find = match spec.find {
        _ if matches!(spec.begin, Begin::Unknown(_)) => unknown(),
        Find::Range { last, step, limit } => map(vec![
            ("type", bulk("range")),
            (
                "spec",
                map(vec![
                    ("lastkey", Reply::Integer(last)),
                    ("keystep", Reply::count(step)),
                    ("limit", Reply::count(limit)),
                ]),
            ),
        ]),
        Find::Count { at, first, step } => map(vec![
            ("type", bulk("keynum")),
            (
                "spec",
                map(vec![
                    ("keynumidx", Reply::count(at)),
                    ("firstkey", Reply::count(first)),
                    ("keystep", Reply::count(step)),
                ]),
            ),
        ]),
    };
    let flags = spec.access.names().iter().map(|name| simple(name)).collect();
    map(vec![("flags", Reply::Set(flags)), ("begin_search", begin), ("find_keys", find)])
}

/// `COMMAND`: everything of every command.
fn command(_call: &mut Call<'_>) -> Answer {
    Reply::Array(table().entries().iter().map(info_of).collect()).into()
}

/// `COMMAND COUNT`
fn count(_call: &mut Call<'_>) -> Answer {
    Reply::count(table().entries().len()).into()
}

/// The entry of `name` or `container|name`.
fn named(name: &[u8]) -> Option<&'static Entry> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let entry = table().find(parts.next()?)?;
    match parts.next() {
        Some(child) => entry.child(child),
        None => Some(entry),
    }
}

/// `COMMAND INFO [command-name [command-name ...]]`
fn info(call: &mut Call<'_>) -> Answer {
    let names = &call.args[2..];
    if names.is_empty() {
        return command(call);
    }
    let info = |name: &&[u8]| named(name).map_or(Reply::Nil, info_of);
    Reply::Array(names.iter().map(info).collect()).into()
}

/// `COMMAND DOCS [command-name [command-name ...]]`
fn docs(call: &mut Call<'_>) -> Answer {
    let names = &call.args[2..];
    let entries: Vec<&Entry> = if names.is_empty() {
        table().entries().iter().collect()
    } else {
        names.iter().filter_map(|name| named(name)).collect()
    };
    Reply::Map(entries.into_iter().map(|entry| (bulk(&entry.full_name), docs_of(entry))).collect())
        .into()
}

fn docs_of(entry: &Entry) -> Reply {
    let row = entry.row;
    let mut pairs = vec![
        (bulk("summary"), bulk(row.summary)),
        (bulk("since"), bulk(row.since)),
        (bulk("group"), bulk(row.group.name())),
        (bulk("complexity"), bulk(row.complexity)),
    ];
    let arguments = parse_syntax(row.syntax);
    if !arguments.is_empty() {
        let arguments = arguments.iter().map(argument_reply).collect();
        pairs.push((bulk("arguments"), Reply::Array(arguments)));
    }
    if !entry.children.is_empty() {
        let children =
            entry.children.iter().map(|child| (bulk(&child.full_name), docs_of(child))).collect();
        pairs.push((bulk("subcommands"), Reply::Map(children)));
    }
    Reply::Map(pairs)
}

fn argument_reply(argument: &Argument) -> Reply {
    let kind = match argument.kind {
        ArgumentKind::Value(kind) => kind,
        ArgumentKind::PureToken => "pure-token",
        ArgumentKind::OneOf => "oneof",
        ArgumentKind::Block => "block",
    };
    let mut pairs = vec![(bulk("name"), bulk(&argument.name)), (bulk("type"), bulk(kind))];
    if matches!(argument.kind, ArgumentKind::Value(_) | ArgumentKind::PureToken) {
        pairs.push((bulk("display_text"), bulk(&argument.name)));
    }
    if argument.kind == ArgumentKind::Value("key") {
        pairs.push((bulk("key_spec_index"), Reply::Integer(0)));
    }
    if let Some(token) = &argument.token {
        pairs.push((bulk("token"), bulk(token)));
    }
    let mut flags = Vec::new();
    if argument.optional {
        flags.push(simple("optional"));
    }
    if argument.multiple {
        flags.push(simple("multiple"));
    }
    if !flags.is_empty() {
        pairs.push((bulk("flags"), Reply::Array(flags)));
    }
    if !argument.children.is_empty() {
        let children = argument.children.iter().map(argument_reply).collect();
        pairs.push((bulk("arguments"), Reply::Array(children)));
    }
    Reply::Map(pairs)
}

/// `COMMAND LIST [FILTERBY MODULE module | ACLCAT category | PATTERN pattern]`
fn list(call: &mut Call<'_>) -> Answer {
    let fits: Box<dyn Fn(&Entry) -> bool> = match call.args[2..] {
        [] => Box::new(|_| true),
        [filter, by, what] if filter.eq_ignore_ascii_case(b"filterby") => {
            match by.to_ascii_lowercase().as_slice() {
                b"module" => Box::new(|_| false),
                b"aclcat" => {
                    let name = format!("@{}", String::from_utf8_lossy(what).to_ascii_lowercase());
                    Box::new(move |entry| categories(entry.row).contains(&name.as_str()))
                }
                b"pattern" => {
                    let glob = Glob::new(&what.to_ascii_lowercase());
                    Box::new(move |entry| glob.matches(entry.full_name.as_bytes()))
                }
                _ => return CommandError::SYNTAX.into(),
            }
        }
        _ => return CommandError::SYNTAX.into(),
    };
    let mut names = Vec::new();
    for entry in table().entries() {
        for entry in std::iter::once(entry).chain(&entry.children) {
            if fits(entry) {
                names.push(bulk(&entry.full_name));
            }
        }
    }
    Reply::Array(names).into()
}

/// The keys of a command, or why they cannot be told.
fn keys_of(args: Args<'_>) -> Result<Vec<(usize, Access)>, CommandError> {
    let Some(mut entry) = table().find(args[0]) else {
        return Err(CommandError::known("ERR Invalid command specified"));
    };
    if matches!(entry.run, Run::Container) {
        entry = args
            .get(1)
            .and_then(|name| entry.child(name))
            .ok_or(CommandError::known("ERR Invalid command specified"))?;
    }
    if entry.row.keys.is_empty() {
        return Err(CommandError::known("ERR The command has no key arguments"));
    }
    if !entry.row.accepts(args.len()) {
        return Err(CommandError::known("ERR Invalid number of arguments specified for command"));
    }
    match entry.row.find_keys(args) {
        Ok(keys) => Ok(keys),
        Err(KeysError::NoKeys) => Err(CommandError::known("ERR The command has no key arguments")),
        Err(KeysError::Invalid) if entry.row.has_movable_keys() => Ok(Vec::new()),
        Err(KeysError::Invalid) => {
            Err(CommandError::known("ERR Invalid arguments specified for command"))
        }
    }
}

/// `COMMAND GETKEYS command [arg [arg ...]]`
fn getkeys(call: &mut Call<'_>) -> Answer {
    let args = &call.args[2..];
    match keys_of(args) {
        Ok(keys) => {
            Reply::Array(keys.iter().map(|(index, _)| Reply::bulk(args[*index])).collect()).into()
        }
        Err(error) => error.into(),
    }
}

/// `COMMAND GETKEYSANDFLAGS command [arg [arg ...]]`
fn getkeysandflags(call: &mut Call<'_>) -> Answer {
    let args = &call.args[2..];
    let reads_too = args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"get"));
    match keys_of(args) {
        Ok(keys) => Reply::Array(
            keys.iter()
                .map(|(index, access)| {
                    // SET only reads when asked to.
                    let access = match access {
                        Access::UpdateVaries if reads_too => Access::Update,
                        Access::UpdateVaries => Access::Overwrite,
                        other => *other,
                    };
                    let flags = access.names().iter().map(|name| simple(name)).collect();
                    Reply::Array(vec![Reply::bulk(args[*index]), Reply::Set(flags)])
                })
                .collect(),
        )
        .into(),
        Err(error) => error.into(),
    }
}

/// `COMMAND HELP`
fn help(_call: &mut Call<'_>) -> Answer {
    super::help_reply(super::help_texts::COMMAND)
}

const FLAGS: Flags = Flags::LOADING.with(Flags::STALE);

const fn sub(name: &'static str, arity: i32) -> Command {
    Command::server(name, arity, Group::Server).of("command").flags(FLAGS)
}

const SUBCOMMANDS: &[ServerCommand] = &[
    ServerCommand::new(
        sub("count", 2).doc("2.8.13", "O(1)", "", "Returns a count of commands."),
        count,
    ),
    ServerCommand::new(
        sub("docs", -2).doc(
            "7.0.0",
            "O(N) where N is the number of commands to look up",
            "[command-name [command-name ...]]",
            "Returns documentary information about one, multiple or all commands.",
        ),
        docs,
    ),
    ServerCommand::new(
        sub("getkeys", -3).doc(
            "2.8.13",
            "O(N) where N is the number of arguments to the command",
            "command [arg [arg ...]]",
            "Extracts the key names from an arbitrary command.",
        ),
        getkeys,
    ),
    ServerCommand::new(
        sub("getkeysandflags", -3).doc(
            "7.0.0",
            "O(N) where N is the number of arguments to the command",
            "command [arg [arg ...]]",
            "Extracts the key names and access flags for an arbitrary command.",
        ),
        getkeysandflags,
    ),
    ServerCommand::new(
        sub("help", 2).doc(
            "5.0.0",
            "O(1)",
            "",
            "Returns helpful text about the different subcommands.",
        ),
        help,
    ),
    ServerCommand::new(
        sub("info", -2).doc(
            "2.8.13",
            "O(N) where N is the number of commands to look up",
            "[command-name [command-name ...]]",
            "Returns information about one, multiple or all commands.",
        ),
        info,
    ),
    ServerCommand::new(
        sub("list", -2).doc(
            "7.0.0",
            "O(N) where N is the total number of Redis commands",
            "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
            "Returns a list of command names.",
        ),
        list,
    ),
];

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::container_with(
    Command::container("command", Group::Server, &[]).any_arity(-1).flags(FLAGS).doc(
        "2.8.13",
        "O(N) where N is the total number of Redis commands",
        "",
        "Returns detailed information about all commands.",
    ),
    SUBCOMMANDS,
    command,
)];
