//! EVAL, EVALSHA and their read-only forms: running a script on a view; FCALL runs by it, too.
//!
//! A script runs with the shards of its declared keys. One that reaches for another key gets
//! that shard too if it is free; if not, and it has changed nothing yet, it starts again with
//! every shard held, and is remembered as one that does so.

use std::cell::RefCell;
use std::sync::Arc;

use crate::command::{
    Access, Args, Begin, Command, Find, Flags, Group, Handler, KeySpec, Reach, Scope, ScriptFlags,
};
use crate::effects::Effects;
use crate::engine::{Engine, ScriptError};
use crate::error::CommandError;
use crate::host::{ScriptKind, ScriptProgress};
use crate::keyspace::{Plan, View};
use crate::limits::Limits;
use crate::reply::{CommandResult, Reply};
use crate::script::{self, Caller, Interrupt, RespVersion, Sha, Shebang, Vm};
use crate::scripts::Script;
use crate::time::DbIndex;
use crate::value::integer_text;

/// How often a running script asks whether it may go on, in instructions.
const INSTRUCTIONS_PER_INTERRUPT: u32 = 10_000;

thread_local! {
    /// One interpreter per thread, made anew when the memory limit changes.
    static VM: RefCell<Option<(usize, Vm)>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's interpreter.
pub(super) fn with_vm<T>(limits: &Limits, work: impl FnOnce(&Vm) -> T) -> T {
    let limit = limits.lua_memory_limit();
    let memory_bytes_max = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let memory_bytes_max = memory_bytes_max.unwrap_or(usize::MAX >> 1);
    VM.with_borrow_mut(|place| {
        if place.as_ref().is_none_or(|(limit, _)| *limit != memory_bytes_max) {
            let limits = script::Limits {
                memory_bytes_max,
                instructions_per_interrupt: INSTRUCTIONS_PER_INTERRUPT,
                ..script::Limits::default()
            };
            *place = Some((memory_bytes_max, Vm::new(limits)));
        }
        match place {
            Some((_, vm)) => work(vm),
            None => unreachable!("Invariant: the interpreter was made just above"),
        }
    })
}

/// Checks that a script compiles.
///
/// # Errors
/// `ERR Error compiling script …`
pub(crate) fn compile(engine: &Engine, sha: &Sha, body: &[u8]) -> Result<(), CommandError> {
    with_vm(engine.keyspace().limits(), |vm| vm.compile(sha, body))
}

/// Keys and arguments of a script call; `not_a_count` if there is no number of keys.
pub(super) fn split(
    args: Args<'_>,
    not_a_count: CommandError,
) -> Result<(Args<'_>, Args<'_>), CommandError> {
    let Some(count) = integer_text(args[2]) else { return Err(not_a_count) };
    let rest = &args[3..];
    if count > rest.len() as i64 {
        return Err(CommandError::known("ERR Number of keys can't be greater than number of args"));
    }
    let Ok(count) = usize::try_from(count) else {
        return Err(CommandError::known("ERR Number of keys can't be negative"));
    };
    Ok(rest.split_at(count))
}

/// `EVAL script numkeys [key [key ...]] [arg [arg ...]]`: the script's result; O(script).
fn eval(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> Result<Reply, ScriptError> {
    eval_body(engine, view, args, effects, Mode::Any)
}

fn eval_ro(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> Result<Reply, ScriptError> {
    eval_body(engine, view, args, effects, Mode::ReadOnly)
}

/// `EVALSHA sha1 numkeys [key [key ...]] [arg [arg ...]]`: as EVAL, by the script's name.
fn evalsha(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> Result<Reply, ScriptError> {
    eval_named(engine, view, args, effects, Mode::Any)
}

fn evalsha_ro(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> Result<Reply, ScriptError> {
    eval_named(engine, view, args, effects, Mode::ReadOnly)
}

/// Whether a script may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Any,
    ReadOnly,
}

fn eval_body(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    mode: Mode,
) -> Result<Reply, ScriptError> {
    let (keys, argv) = split(args, CommandError::NOT_AN_INTEGER)?;
    let sha = Sha::of(args[1]);
    let script = match engine.scripts().find(&sha) {
        Some(script) => script,
        None => {
            let flags = Shebang::parse(args[1])?.flags;
            compile(engine, &sha, args[1])?;
            engine.scripts().remember(sha, args[1], flags)
        }
    };
    run_script(engine, view, args, (&sha, &script), (keys, argv), effects, mode)
}

fn eval_named(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    mode: Mode,
) -> Result<Reply, ScriptError> {
    let (keys, argv) = split(args, CommandError::NOT_AN_INTEGER)?;
    let Some(sha) = Sha::parse(args[1]) else { return Err(CommandError::NO_SCRIPT.into()) };
    let Some(script) = engine.scripts().find(&sha) else {
        return Err(CommandError::NO_SCRIPT.into());
    };
    run_script(engine, view, args, (&sha, &script), (keys, argv), effects, mode)
}

fn run_script(
    engine: &Engine,
    view: &mut View<'_>,
    args: Args<'_>,
    (sha, script): (&Sha, &Arc<Script>),
    (keys, argv): (Args<'_>, Args<'_>),
    effects: &mut Effects,
    mode: Mode,
) -> Result<Reply, ScriptError> {
    let run = Run { args, flags: script.flags, reach: &script.reach, kind: ScriptKind::Script };
    run.run(engine, view, effects, mode, |vm, caller| vm.run(sha, &script.body, keys, argv, caller))
}

/// A script or function that is about to run.
pub(super) struct Run<'a> {
    /// The whole command.
    pub(super) args: Args<'a>,
    pub(super) flags: Option<ScriptFlags>,
    pub(super) reach: &'a Reach,
    pub(super) kind: ScriptKind,
}

impl Run<'_> {
    /// Checks whether it may run now, and has `start` run it.
    pub(super) fn run(
        &self,
        engine: &Engine,
        view: &mut View<'_>,
        effects: &mut Effects,
        mode: Mode,
        start: impl FnOnce(&Vm, &mut dyn Caller) -> CommandResult,
    ) -> Result<Reply, ScriptError> {
        let (host, flags) = (view.host(), self.flags);
        if flags.is_some_and(|flags| !flags.no_writes && mode == Mode::ReadOnly) {
            return Err(CommandError::known(
                "ERR Can not execute a script with write flag using *_ro command.",
            )
            .into());
        }
        if flags.is_some_and(|flags| !flags.allow_oom && !flags.no_writes)
            && host.is_out_of_memory()
        {
            return Err(CommandError::known(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > \
                 'maxmemory'",
            )
            .into());
        }
        if flags.is_some_and(|flags| !flags.no_writes)
            && let Some(error) = view.refusal()
        {
            return Err(error.into());
        }
        let read_only = mode == Mode::ReadOnly || flags.is_some_and(|flags| flags.no_writes);
        let selected = view.db();
        host.script_progress(ScriptProgress::Begin(self.kind))?;
        let mut caller = ScriptCaller {
            engine,
            view,
            effects,
            args: self.args,
            reach: self.reach,
            read_only,
            may_exceed_memory: flags.is_some_and(|flags| flags.allow_oom),
            followed: host.follows_scripts(),
            limited: host.limits_scripts(),
            published: false,
            unordered: false,
            starts_again: false,
        };
        let result = with_vm(engine.keyspace().limits(), |vm| start(vm, &mut caller));
        let starts_again = caller.starts_again;
        // The script's end is told whatever became of it.
        let ended = host.script_progress(ScriptProgress::End);
        view.select(selected);
        effects.wait = None;
        if starts_again {
            return Err(ScriptError::NeedsEverything);
        }
        ended?;
        Ok(result?)
    }
}

/// What a running script reaches of the engine.
struct ScriptCaller<'a, 'k> {
    engine: &'a Engine,
    view: &'a mut View<'k>,
    effects: &'a mut Effects,
    /// The whole command that began it.
    args: Args<'a>,
    reach: &'a Reach,
    read_only: bool,
    may_exceed_memory: bool,
    /// The host wants to know of every call.
    followed: bool,
    /// The caller may not call everything.
    limited: bool,
    /// A message was published: the script can no longer start again unseen.
    published: bool,
    /// It was told something that may come in another order on another node.
    unordered: bool,
    /// It needs what it does not hold; nothing it still does counts.
    starts_again: bool,
}

impl ScriptCaller<'_, '_> {
    fn execute(&mut self, args: Args<'_>) -> Result<Reply, CommandError> {
        if self.limited {
            self.view.host().script_may_call(args)?;
        }
        if args[0].eq_ignore_ascii_case(b"select") {
            return self.select(args);
        }
        let Some(row) = find_row(args)? else {
            return self
                .view
                .host()
                .server_command(args)
                .ok_or(CommandError::known("ERR Unknown Redis command called from script"));
        };
        if !row.accepts(args.len()) {
            return Err(CommandError::known(
                "ERR Wrong number of args calling Redis command from script",
            ));
        }
        if row.flags.has(Flags::NOSCRIPT) {
            return Err(CommandError::known("ERR This Redis command is not allowed from script"));
        }
        if row.flags.has(Flags::BLOCKING)
            && row.group == Group::Stream
            && crate::commands::stream::read::would_wait(args)
        {
            let name = String::from_utf8_lossy(args[0]);
            return Err(CommandError::new(format!(
                "ERR {name} command is not allowed with BLOCK option from scripts"
            )));
        }
        if row.is_write() && self.read_only {
            return Err(CommandError::known(
                "ERR Write commands are not allowed from read-only scripts.",
            ));
        }
        if row.is_write() && self.unordered && self.view.host().is_replica() {
            return Err(CommandError::known(
                "ERR Write commands are not allowed in a cluster after a command whose reply has \
                 no order (KEYS, SCAN, RANDOMKEY, ...)",
            ));
        }
        self.unordered |= row.flags.has(Flags::UNORDERED);
        if row.flags.has(Flags::DENYOOM)
            && !self.may_exceed_memory
            && !self.view.wrote()
            && self.view.host().is_out_of_memory()
        {
            return Err(CommandError::OUT_OF_MEMORY);
        }
        self.hold_what_it_needs(row, args)?;
        self.published |= row.flags.has(Flags::PUBSUB);
        if self.followed {
            self.view.host().script_calls(row, self.view.db(), args);
        }
        let reply = self.engine.call_in_view(row, args, self.view, self.effects);
        // A blocking command only tries inside a script.
        self.effects.wait = None;
        reply
    }

    fn select(&mut self, args: Args<'_>) -> Result<Reply, CommandError> {
        let [_, index] = args else {
            return Err(CommandError::known(
                "ERR Wrong number of args calling Redis command from script",
            ));
        };
        let index = integer_text(index).ok_or(CommandError::known("ERR invalid DB index"))?;
        let index = u16::try_from(index).ok().filter(|index| *index < self.view.databases());
        self.view.select(DbIndex(index.ok_or(CommandError::DB_OUT_OF_RANGE)?));
        Ok(Reply::Ok)
    }

    /// Makes sure that the view holds the shards of a command's keys.
    fn hold_what_it_needs(
        &mut self,
        row: &'static Command,
        args: Args<'_>,
    ) -> Result<(), CommandError> {
        if self.view.covers_all() {
            return Ok(());
        }
        let held = match self.engine.plan(row, args, self.view.db()) {
            Plan::Nothing => !row.flags.has(Flags::UNORDERED) || self.view.widen_to_all(),
            Plan::One(place) => self.view.widen_to(place),
            Plan::Some(places) => places.iter().all(|place| self.view.widen_to(*place)),
            Plan::Db(_) | Plan::All => self.reach_all(),
        };
        if held {
            return Ok(());
        }
        self.reach.note_undeclared();
        if !self.view.wrote() && !self.published {
            self.starts_again = true;
            return Err(CommandError::known("ERR the script starts again"));
        }
        self.wait_to_widen(row, args)
    }

    fn reach_all(&mut self) -> bool {
        // Before the first write it is simpler, and surer, to start again.
        (self.view.wrote() || self.published) && self.view.widen_to_all()
    }

    /// Waits for an undeclared key after a write. Whoever else holds it waits for nothing, so
    /// this ends soon; only two scripts that do this to each other end by the limit.
    fn wait_to_widen(&mut self, row: &'static Command, args: Args<'_>) -> Result<(), CommandError> {
        const TRIES: u32 = 2_000;
        let plan = self.engine.plan(row, args, self.view.db());
        let mut tries = 0;
        // A replica may not give up: the others would not.
        while tries < TRIES || self.view.host().is_replica() {
            tries += 1;
            // How long a thread waited decides nothing that is stored or answered.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(std::time::Duration::from_micros(500));
            let held = match &plan {
                Plan::One(place) => self.view.widen_to(*place),
                Plan::Some(places) => places.iter().all(|place| self.view.widen_to(*place)),
                Plan::Nothing | Plan::Db(_) | Plan::All => self.view.widen_to_all(),
            };
            if held {
                return Ok(());
            }
        }
        Err(CommandError::known(
            "ERR a key that the script did not declare is held by another script; declare all \
             keys in KEYS",
        ))
    }
}

/// The row of a command that a script calls; `None` if it is not the engine's.
fn find_row(args: Args<'_>) -> Result<Option<&'static Command>, CommandError> {
    let table = crate::engine::table();
    let Some(row) = table.find(args[0]) else { return Ok(None) };
    if !matches!(row.handler, Handler::Container) {
        return Ok(Some(row));
    }
    let Some(name) = args.get(1) else {
        return Err(CommandError::known(
            "ERR Wrong number of args calling Redis command from script",
        ));
    };
    table
        .find_sub(row, name)
        .map(Some)
        .ok_or(CommandError::known("ERR Unknown Redis command called from script"))
}

impl Caller for ScriptCaller<'_, '_> {
    fn call(&mut self, args: &[&[u8]]) -> Reply {
        if self.starts_again {
            return Reply::error(CommandError::known("ERR the script starts again"));
        }
        self.execute(args).into()
    }

    fn log(&mut self, level: i64, text: &[u8]) {
        self.view.host().script_log(level, text);
    }

    fn seed(&self) -> u64 {
        self.view.context().seed
    }

    fn interrupt(&mut self, instructions: u64) -> Interrupt {
        if self.starts_again {
            return Interrupt::Kill(CommandError::known("ERR the script starts again"));
        }
        let wrote = self.view.wrote();
        let progress = ScriptProgress::Running { instructions, wrote, args: self.args };
        match self.view.host().script_progress(progress) {
            Ok(()) => Interrupt::Continue,
            Err(error) => Interrupt::Kill(error),
        }
    }

    fn set_resp(&mut self, _version: RespVersion) {}

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        self.view.host().acl_check(args)
    }
}

/// The keys of a script call: a count at argument 2, the keys behind it.
pub(super) const KEYS: &[KeySpec] = &[KeySpec {
    begin: Begin::Index(2),
    find: Find::Count { at: 0, first: 1, step: 1 },
    access: Access::Update,
}];

pub(super) const READ_KEYS: &[KeySpec] = &[KeySpec {
    begin: Begin::Index(2),
    find: Find::Count { at: 0, first: 1, step: 1 },
    access: Access::Read,
}];

pub(super) const FLAGS: Flags = Flags::NOSCRIPT
    .with(Flags::STALE)
    .with(Flags::SKIP_MONITOR)
    .with(Flags::NO_ASYNC_LOADING)
    .with(Flags::MAY_REPLICATE)
    .with(Flags::MOVABLE_KEYS);

pub(super) const RO_FLAGS: Flags = Flags::NOSCRIPT
    .with(Flags::STALE)
    .with(Flags::SKIP_MONITOR)
    .with(Flags::NO_ASYNC_LOADING)
    .with(Flags::READONLY)
    .with(Flags::MOVABLE_KEYS);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::script("eval", -3, eval).keys(KEYS).flags(FLAGS).scope(Scope::Keys).doc(
        "2.6.0",
        "Depends on the script that is executed.",
        "script numkeys [key [key ...]] [arg [arg ...]]",
        "Executes a server-side Lua script.",
    ),
    Command::script("eval_ro", -3, eval_ro).keys(READ_KEYS).flags(RO_FLAGS).doc(
        "7.0.0",
        "Depends on the script that is executed.",
        "script numkeys [key [key ...]] [arg [arg ...]]",
        "Executes a read-only server-side Lua script.",
    ),
    Command::script("evalsha", -3, evalsha).keys(KEYS).flags(FLAGS).doc(
        "2.6.0",
        "Depends on the script that is executed.",
        "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        "Executes a server-side Lua script by SHA1 digest.",
    ),
    Command::script("evalsha_ro", -3, evalsha_ro).keys(READ_KEYS).flags(RO_FLAGS).doc(
        "7.0.0",
        "Depends on the script that is executed.",
        "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        "Executes a read-only server-side Lua script by SHA1 digest.",
    ),
];
