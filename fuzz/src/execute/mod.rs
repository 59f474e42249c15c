//! `execute`: two engines fed the same proposals give the same replies and end in one state.
//!
//! The input is read as a sequence of commands made from the rows' own syntax lines
//! ([`grammar`]). The engines hash keys differently, and only one of them removes expired keys
//! unasked, so nothing visible may depend on either. After each command, and at the end, the
//! promises that [`check`] lists must hold; [`persisted`] writes, records and replays on the way.

mod check;
mod grammar;
mod persisted;

use holdfast_engine::CommandError;
use holdfast_engine::Reply;
use holdfast_engine::command::{Command, Flags, Group, Handler};
use holdfast_engine::context::Context;
use holdfast_engine::effects::{Effects, EventClass, Notice};
use holdfast_engine::engine::{Engine, Step, table};
use holdfast_engine::host::{Host, ScriptProgress};
use holdfast_engine::script::Sha;
use holdfast_engine::time::{DbIndex, UnixMillis};

use grammar::{Choices, Grammar};

/// The time of the first command, ms.
const START_MS: i64 = 1_700_000_000_000;
/// Databases of the engines: few, so that commands meet.
const DATABASES: u16 = 3;
/// A string may be so long: low enough for inputs to reach it.
const STRING_LEN_MAX: i64 = 4096;
/// Collections leave their compact encodings at so many elements, for the same reason.
const COMPACT_MAX: i64 = 6;
/// A script is stopped after so many instructions.
const INSTRUCTIONS_MAX: u64 = 100_000;
/// Commands per input.
const COMMANDS_MAX: usize = 200;

/// One engine with what its last proposal did.
struct Side {
    engine: Engine,
    effects: Effects,
    world: World,
}

impl Side {
    fn new(seed: u64) -> Self {
        let engine = Engine::new(DATABASES, seed);
        let limits = engine.keyspace().limits();
        for (directive, value) in [
            ("proto-max-bulk-len", STRING_LEN_MAX),
            ("hash-max-listpack-entries", COMPACT_MAX),
            ("list-max-listpack-size", COMPACT_MAX),
            ("set-max-intset-entries", COMPACT_MAX),
            ("set-max-listpack-entries", COMPACT_MAX),
            ("zset-max-listpack-entries", COMPACT_MAX),
            ("stream-node-max-entries", COMPACT_MAX),
        ] {
            assert!(limits.set(directive, value), "there is a limit {directive}");
        }
        Self { engine, effects: Effects::new(EventClass(u32::MAX)), world: World::default() }
    }

    fn run(&mut self, call: &Call, context: Context) -> Reply {
        self.effects = Effects::new(EventClass(u32::MAX));
        let args = call.args();
        self.engine.run(call.row, &args, context, &self.world, &mut self.effects).reply
    }

    fn transaction(&mut self, calls: &[Call], context: Context) -> Vec<Reply> {
        self.effects = Effects::new(EventClass(u32::MAX));
        let args: Vec<_> = calls.iter().map(Call::args).collect();
        let steps: Vec<_> = calls
            .iter()
            .zip(&args)
            .map(|(call, args)| Step { row: call.row, args, db: context.db })
            .collect();
        let outcomes =
            self.engine.transaction(&steps, &[], context, &self.world, &mut self.effects);
        // Nothing is watched, but a LOCK.CHECK may not hold: then nothing runs.
        let outcomes = outcomes.expect("nobody else locks").unwrap_or_default();
        outcomes.into_iter().map(|outcome| outcome.reply).collect()
    }

    /// What the last proposal tells others, without expiries: when those are told is each
    /// node's own affair.
    fn told(&self) -> Vec<&Notice> {
        let expiry = |notice: &Notice| match notice {
            Notice::Event(event) => {
                event.class == EventClass::EXPIRED || event.name == "lock.expired"
            }
            Notice::StreamExpired(..) => true,
            _ => false,
        };
        self.effects.notices.iter().filter(|notice| !expiry(notice)).collect()
    }
}

/// A host with blocked clients, so that keys becoming ready are told, that ends long scripts.
#[derive(Default)]
struct World {
    records: persisted::Records,
}

impl Host for World {
    fn journal(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.records.push(write);
    }

    fn has_blocked_clients(&self) -> bool {
        true
    }

    fn script_progress(&self, progress: ScriptProgress) -> Result<(), CommandError> {
        match progress {
            ScriptProgress::Running { instructions, .. } if instructions > INSTRUCTIONS_MAX => {
                Err(CommandError::known("ERR too long"))
            }
            _ => Ok(()),
        }
    }
}

/// A command of the table with its arguments.
struct Call {
    row: &'static Command,
    args: Vec<Vec<u8>>,
}

impl Call {
    fn args(&self) -> Vec<&[u8]> {
        self.args.iter().map(Vec::as_slice).collect()
    }

    /// Whether the reply may depend on where keys stand, on which expired ones still do, or on
    /// when they were used, of which files do not tell.
    fn is_unordered(&self) -> bool {
        let walks = |arg: &Vec<u8>| {
            grammar::UNORDERED_SCRIPTS
                .iter()
                .any(|script| arg == script || *arg == Sha::of(script).to_string().into_bytes())
        };
        self.row.flags.has(Flags::UNORDERED)
            || matches!(self.row.name, "dbsize" | "idletime" | "freq")
            || self.args.iter().any(walks)
    }

    fn is_script(&self) -> bool {
        matches!(self.row.handler, Handler::Script(_))
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for arg in &self.args {
            write!(f, "\"{}\" ", arg.escape_ascii())?;
        }
        Ok(())
    }
}

/// Reads the input as commands and runs them.
pub fn run(data: &[u8]) {
    run_with(data, &Grammar::of(table().rows()));
}

/// As [`run`], with the commands of one group and those that work on any key: so they meet.
pub fn run_group(data: &[u8], group: Group) {
    let wanted = |row: &&&'static Command| row.group == group || row.group == Group::Generic;
    let rows: Vec<&'static Command> = table().rows().iter().filter(wanted).copied().collect();
    run_with(data, &Grammar::of(&rows));
}

/// As [`run`], with the grammar made beforehand.
pub fn run_with(data: &[u8], grammar: &Grammar) {
    let mut choices = Choices::new(data);
    let (mut one, mut other) = (Side::new(1), Side::new(2));
    let mut context = Context::at(UnixMillis(START_MS), 0);
    let mut base = None;
    for _ in 0..COMMANDS_MAX {
        if choices.is_empty() {
            break;
        }
        match choices.below(64) {
            0 => base = Some(persisted::begin(&one)),
            1 => other = persisted::replica(&one, 2, context),
            _ => {}
        }
        context.sequence += 1;
        context.seed = context.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        context.now.0 += [0, 0, 0, 1, 7, 50, 1000, 10_000][choices.below(8)];
        context.db = DbIndex(u16::from(choices.below(8) == 0));
        if choices.below(8) == 0 {
            let calls: Vec<_> = (0..2 + choices.below(3))
                .map(|_| grammar.call(&mut choices, context.now))
                .map(|(row, args)| Call { row, args })
                .collect();
            in_transaction(&mut one, &mut other, &calls, context);
        } else {
            let (row, args) = grammar.call(&mut choices, context.now);
            alone(&mut one, &mut other, &Call { row, args }, context);
        }
        // Only one engine tidies up, at moments of its own.
        if choices.below(4) == 0 {
            other.engine.keyspace().expire_due(context.now, 10, &mut other.effects);
            other.engine.keyspace().shrink();
        }
    }
    if let Some(base) = base {
        persisted::check(&one, &base, context);
    }
    context.sequence += 1;
    check::ttls(&mut one, &mut other, context);
    check::emptied(&mut one, context);
    check::emptied(&mut other, context);
}

fn alone(one: &mut Side, other: &mut Side, call: &Call, context: Context) {
    let before = one.engine.keyspace().digest(context.now);
    let reply = one.run(call, context);
    let after = one.engine.keyspace().digest(context.now);
    check::promises(call, &reply, before == after, one.effects.changes);
    let again = other.run(call, context);
    if !call.is_unordered() {
        assert_eq!(reply, again, "replies differ: {call}");
    }
    check::same(one, other, context, &call.to_string());
}

fn in_transaction(one: &mut Side, other: &mut Side, calls: &[Call], context: Context) {
    let replies = one.transaction(calls, context);
    let again = other.transaction(calls, context);
    let mut text = String::new();
    for ((call, reply), again) in calls.iter().zip(&replies).zip(&again) {
        text.push_str(&format!("{call}; "));
        assert!(
            call.is_unordered() || reply == again,
            "replies differ: {text}\n{reply:?}\n{again:?}"
        );
    }
    check::same(one, other, context, &text);
}
