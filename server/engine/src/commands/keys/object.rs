//! OBJECT: how a value is stored.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec, Scope};
use crate::context::ACCESS_CLOCK_MASK;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::raw::{Record, Value};
use crate::reply::{CommandResult, Reply};

/// Longest string that Redis keeps beside its header, what it calls `embstr`.
const EMBSTR_LEN_MAX: usize = 44;

/// The name OBJECT ENCODING gives a record's value.
pub(crate) fn encoding_of(record: &Record) -> &'static str {
    match record.value() {
        Value::Integer(_) => "int",
        Value::String(bytes) if record.is_raw() || bytes.len() > EMBSTR_LEN_MAX => "raw",
        Value::String(_) => "embstr",
        Value::Object(object) => object.encoding(),
    }
}

/// `OBJECT ENCODING key`: the encoding's name, or nil. O(1).
fn encoding(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::bulk_or_nil(view.peek(args[2]).map(|record| encoding_of(record).as_bytes())))
}

/// `OBJECT REFCOUNT key`: 1, or nil. O(1).
fn refcount(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(view.peek(args[2]).map_or(Reply::Nil, |_| Reply::Integer(1)))
}

/// `OBJECT IDLETIME key`: seconds since its last use, or nil. O(1).
fn idletime(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let Some(record) = view.peek(args[2]) else {
        return Ok(Reply::Nil);
    };
    if view.limits().lfu_policy() != 0 {
        return Err(CommandError::known(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let idle = view.context().access_clock().wrapping_sub(record.access()) & ACCESS_CLOCK_MASK;
    Ok(Reply::Integer(i64::from(idle)))
}

/// `OBJECT FREQ key`: an error, for frequencies are not tracked; nil without a key. O(1).
fn freq(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let Some(record) = view.peek(args[2]) else {
        return Ok(Reply::Nil);
    };
    if view.limits().lfu_policy() != 0 {
        let counter = crate::access::counter(record.access(), view.now());
        return Ok(Reply::Integer(i64::from(counter)));
    }
    Err(CommandError::known(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

/// `OBJECT HELP`: what the subcommands do.
fn help(_view: &View<'_>, _args: Args<'_>) -> CommandResult {
    Ok(Reply::Array(HELP.iter().copied().map(Reply::simple).collect()))
}

const KEY: &[KeySpec] = &[KeySpec::one(2, Access::Look)];

const SUBCOMMANDS: &[Command] = &[
    Command::read("encoding", 3, Group::Generic, encoding).of("object").keys(KEY).doc(
        "2.2.3",
        "O(1)",
        "key",
        "Returns the internal encoding of a Redis object.",
    ),
    Command::read("freq", 3, Group::Generic, freq)
        .of("object")
        .keys(KEY)
        .doc(
            "4.0.0",
            "O(1)",
            "key",
            "Returns the logarithmic access frequency counter of a Redis object.",
        )
        .differs(
            "Frequencies are not tracked: always the error Redis gives without an LFU policy.",
        ),
    Command::read("help", 2, Group::Generic, help)
        .of("object")
        .scope(Scope::Free)
        .without_key_flags()
        .flags(Flags::LOADING.with(Flags::STALE).with(Flags::KEYSPACE))
        .doc("6.2.0", "O(1)", "", "Returns helpful text about the different subcommands."),
    Command::read("idletime", 3, Group::Generic, idletime).of("object").keys(KEY).doc(
        "2.2.3",
        "O(1)",
        "key",
        "Returns the time since the last access to a Redis object.",
    ),
    Command::read("refcount", 3, Group::Generic, refcount)
        .of("object")
        .keys(KEY)
        .doc("2.2.3", "O(1)", "key", "Returns the reference count of a value of a key.")
        .differs("Always 1: small integers are not shared."),
];

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::container("object", Group::Generic, SUBCOMMANDS).doc(
    "2.2.3",
    "Depends on subcommand.",
    "",
    "A container for object introspection commands.",
)];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn encodings_are_named_as_in_redis() {
        let mut bench = Bench::new();
        let (short, long) = ("x".repeat(44), "x".repeat(45));
        bench.run(&["MSET", "short", &short, "long", &long]);
        bench.check(&[
            ("OBJECT ENCODING short", "\"embstr\""),
            ("OBJECT ENCODING long", "\"raw\""),
            ("SET n 12", "OK"),
            ("OBJECT ENCODING n", "\"int\""),
            ("SET n 012", "OK"),
            ("OBJECT ENCODING n", "\"embstr\""),
            ("APPEND n 3", "4"),
            ("object encoding n", "\"raw\""),
            ("OBJECT ENCODING none", "nil"),
            ("OBJECT REFCOUNT n", "1"),
            ("OBJECT REFCOUNT none", "nil"),
            ("OBJECT FREQ none", "nil"),
            ("OBJECT IDLETIME none", "nil"),
        ]);
        assert!(bench.show("OBJECT FREQ n").starts_with("-ERR An LFU"));
        bench.pass_ms(2_000);
        bench.check(&[("OBJECT IDLETIME n", "2")]);
        bench.engine.keyspace().limits().set("lfu-policy", 1);
        assert!(bench.show("OBJECT IDLETIME n").starts_with("-ERR An LFU"));
    }

    #[test]
    fn subcommands_are_checked() {
        let mut bench = Bench::new();
        bench.check(&[
            ("OBJECT FOO", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP."),
            ("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command"),
            ("OBJECT HELP x", "-ERR wrong number of arguments for 'object|help' command"),
        ]);
        assert!(bench.show("OBJECT HELP").starts_with("[OBJECT <subcommand>"));
    }
}
