//! DEBUG: what test suites and investigators lean on.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::command::{Args, Command, Flags, Group};
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::table as engine_table;
use holdfast_engine::value::integer_text;
use holdfast_engine::value::number::parse_f64;
use holdfast_engine::{Blob, CommandError, Reply};

use crate::commit;
use crate::node::Node;
use crate::route::{Answer, Call, ServerCommand, Waiting, deliver};

/// Longest DEBUG SLEEP: a day.
const SLEEP_S_MAX: f64 = 86_400.0;

/// `DEBUG subcommand [argument ...]`
fn debug(call: &mut Call<'_>) -> Answer {
    let exposure = call.node.settings.enable_debug_command();
    if !exposure.admits(super::config::origin(call)) {
        return CommandError::known(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
             you can run it from a local connection, otherwise you need to set this option in the \
             configuration file, and then restart the server.",
        )
        .into();
    }
    let args = call.args;
    match (args[1].to_ascii_lowercase().as_slice(), &args[2..]) {
        (b"help", []) => super::help_reply(super::help_texts::DEBUG),
        (b"sleep", [seconds]) => sleep(seconds, call.in_transaction),
        (b"set-active-expire", [on]) => {
            call.node.active_expire.store(*on != b"0", Relaxed);
            Reply::Ok.into()
        }
        (b"object", [key]) => object(call, key),
        (b"populate", [count, rest @ ..]) if rest.len() <= 2 => populate(call, count, rest),
        (b"digest", []) => Reply::Simple(
            digest_text(call.node.engine.keyspace().content_digest(call.node.now())).into(),
        )
        .into(),
        (b"digest-value", keys) if !keys.is_empty() => digest_values(call, keys),
        (b"log", [text]) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(text));
            Reply::Ok.into()
        }
        (b"error", [text]) => CommandError::new(String::from_utf8_lossy(text).into_owned()).into(),
        (b"protocol", [what]) => protocol(what),
        (b"change-repl-id" | b"jmap", []) if args[1].len() > 4 => Reply::Ok.into(),
        (b"set-disable-deny-scripts", [on]) => {
            call.node.debug_in_scripts.store(*on != b"0", Relaxed);
            Reply::Ok.into()
        }
        (b"reload", options) => super::persistence::reload(call, options),
        (b"loadaof", []) => super::persistence::loadaof(call),
        (b"quicklist-packed-threshold" | b"replicate", [_]) => Reply::Ok.into(),
        (b"htstats" | b"htstats-key" | b"listpack" | b"ziplist", _) => CommandError::known(
            "ERR Holdfast's tables are not Redis's: there is nothing of this kind to show",
        )
        .into(),
        _ => {
            let name = String::from_utf8_lossy(&args[1][..args[1].len().min(128)]);
            CommandError::new(format!(
                "ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP."
            ))
            .into()
        }
    }
}

/// What a script may call of DEBUG once DEBUG SET-DISABLE-DENY-SCRIPTS has allowed it.
pub(crate) fn from_script(node: &Node, args: Args<'_>) -> Option<Reply> {
    if !node.debug_in_scripts.load(Relaxed) {
        return None;
    }
    let answer = match (args[1].to_ascii_lowercase().as_slice(), &args[2..]) {
        (b"protocol", [what]) => protocol(what),
        (b"sleep", [seconds]) => sleep(seconds, true),
        _ => return None,
    };
    match answer {
        // Scripts see no attributes.
        Answer::Reply(reply) | Answer::Attributed(_, reply) => Some(reply),
        _ => None,
    }
}

/// `DEBUG SLEEP seconds`: this client alone sleeps; no other is held up.
fn sleep(seconds: &[u8], in_transaction: bool) -> Answer {
    let seconds = parse_f64(seconds).unwrap_or(0.0).clamp(0.0, SLEEP_S_MAX);
    if seconds == 0.0 {
        return Reply::Ok.into();
    }
    let duration = Duration::from_secs_f64(seconds);
    if in_transaction {
        // EXEC cannot wait: it keeps its thread, whose other clients move to another.
        crate::route::scripts::hold_thread(duration);
        return Reply::Ok.into();
    }
    Answer::Wait(Waiting::Sleep(duration, Reply::Ok))
}

/// `DEBUG POPULATE count [prefix] [size]`: sets as many keys `prefix:n` to `value:n`, padded
/// with zeros to `size`; those that are there stay as they are.
fn populate(call: &Call<'_>, count: &[u8], rest: Args<'_>) -> Answer {
    if call.node.log_time().is_some() {
        return CommandError::known("ERR members of a cluster change only through the log").into();
    }
    let number = |text: &[u8]| integer_text(text).and_then(|number| usize::try_from(number).ok());
    let (Some(count), Some(size)) = (number(count), rest.get(1).map_or(Some(0), |s| number(s)))
    else {
        return CommandError::known("ERR value is out of range, must be positive").into();
    };
    if size > call.node.settings.proto_max_bulk_len() {
        return CommandError::known("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
            .into();
    }
    let prefix = rest.first().copied().unwrap_or(b"key");
    let Some(setnx) = engine_table().find(b"setnx") else { return CommandError::SYNTAX.into() };
    for n in 0..count {
        let key = [prefix, b":", n.to_string().as_bytes()].concat();
        let mut value = format!("value:{n}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        let mut effects = Effects::new(EventClass::NONE);
        let context = commit::context(call.session.db, call.node.now(), call.session.touch);
        let args: Args<'_> = &[b"setnx", &key, &value];
        let outcome = call.node.engine.run(setnx, args, context, &**call.node, &mut effects);
        call.node.changes.fetch_add(effects.changes, Relaxed);
        deliver::deliver(call.node, &mut effects);
        if outcome.reply.is_error() {
            return outcome.reply.into();
        }
    }
    Reply::Ok.into()
}

fn digest_text(digest: u64) -> String {
    // As long as Redis's, which is a SHA1.
    format!("{digest:040x}")
}

fn object(call: &Call<'_>, key: &[u8]) -> Answer {
    let now = call.node.now();
    let Some(seen) = call.node.engine.describe(call.session.db, key, now) else {
        return CommandError::NO_SUCH_KEY.into();
    };
    Reply::Simple(
        format!(
            "Value at:0x0 refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
            seen.encoding, seen.memory_len, seen.access, seen.idle_s
        )
        .into(),
    )
    .into()
}

fn digest_values(call: &Call<'_>, keys: Args<'_>) -> Answer {
    let (engine, db, now) = (&call.node.engine, call.session.db, call.node.now());
    let digests = keys.iter().map(|key| {
        let live = engine.group_of(db, key, now);
        let digest = live.and_then(|_| engine.describe(db, key, now));
        Reply::Simple(digest_text(digest.map_or(0, |seen| seen.digest)).into())
    });
    Reply::Array(digests.collect()).into()
}

/// `DEBUG PROTOCOL type`: a reply of each type, for client authors.
fn protocol(what: &[u8]) -> Answer {
    let numbers = |n: i64| (0..n).map(Reply::Integer).collect::<Vec<_>>();
    match what.to_ascii_lowercase().as_slice() {
        b"string" => Reply::bulk(b"Hello World"),
        b"integer" => Reply::Integer(12345),
        b"double" => Reply::Double(3141.0 / 1000.0),
        b"null" => Reply::Nil,
        b"array" => Reply::Array(numbers(3)),
        b"set" => Reply::Set(numbers(3)),
        b"map" => Reply::Map((0..3).map(|n| (Reply::Integer(n), Reply::Bool(n == 1))).collect()),
        b"push" => Reply::Push(vec![Reply::bulk(b"server-cpu-usage"), Reply::Integer(42)]),
        b"verbatim" => Reply::Verbatim(Blob::copy_from(b"This is a verbatim\nstring")),
        b"bignum" => Reply::BigNumber(Blob::copy_from(b"1234567999999999999999999999999999999")),
        b"true" => Reply::Bool(true),
        b"false" => Reply::Bool(false),
        b"attrib" => {
            let popularity = Reply::Array(vec![Reply::bulk(b"key:123"), Reply::Integer(90)]);
            return Answer::Attributed(
                vec![(Reply::bulk(b"key-popularity"), popularity)],
                Reply::bulk(b"Some real reply following the attribute"),
            );
        }
        _ => {
            return CommandError::known(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|\
                 double|null|array|set|map|attrib|push|verbatim|true|false",
            )
            .into();
        }
    }
    .into()
}

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::new(
    Command::server("debug", -2, Group::Server)
        .flags(Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE))
        .doc(
            "1.0.0",
            "Depends on subcommand.",
            "subcommand [argument [argument ...]]",
            "A container for debugging commands.",
        )
        .differs("SLEEP holds up only its own client; what shows Redis's inner tables is refused"),
    debug,
)];
