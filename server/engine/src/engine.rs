//! `execute`: a command, a transaction or a script on the keyspace, and nothing else.
//!
//! [`Engine::run`] plans which shards the command needs, locks them once, runs the handler on
//! the view and returns the reply; the effects are left for the caller to deliver. The same
//! call serves a live server, the replay of a journal and a replicated log.

use std::sync::OnceLock;

use smallvec::SmallVec;

use crate::command::{Access, Args, Command, CommandTable, Flags, Group, Handler, Renamed, Scope};
use crate::commands;
use crate::context::{Context, Touch};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::host::{Alone, Host};
use crate::keyspace::{Candidate, Keyspace, LockMode, Place, Plan, View, hooks, is_lock};
use crate::raw::{Record, Value};
use crate::reply::{CommandResult, Reply};
use crate::script::{Sha, Shebang};
use crate::scripts::Scripts;
use crate::time::{DbIndex, UnixMillis};

/// A node's whole state, and what runs commands on it.
#[derive(Debug)]
pub struct Engine {
    keyspace: Keyspace,
    scripts: Scripts,
}

/// One command of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Its row.
    pub row: &'static Command,
    /// Its arguments, the name first.
    pub args: Args<'a>,
    /// The database selected when its turn comes.
    pub db: DbIndex,
}

/// A key a transaction depends on, as WATCH saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its database.
    pub db: DbIndex,
    /// The key.
    pub key: Vec<u8>,
    /// Its version then, see [`View::version`].
    pub version: u64,
}

/// What a command answered, and what its looks at keys found.
#[derive(Debug)]
pub struct Outcome {
    /// The reply.
    pub reply: Reply,
    /// Looks that found a key.
    pub hits: u32,
    /// Looks that found none.
    pub misses: u32,
    /// An expired key was met that still stands: [`Keyspace::expire_key`] should remove it.
    pub overdue: bool,
}

impl Outcome {
    fn of(reply: Reply, view: &View<'_>) -> Self {
        let (hits, misses, overdue) = view.lookups();
        Self { reply, hits, misses, overdue }
    }

    /// Of a condition that held when the transaction began; another error is its own.
    fn condition(step: &Step<'_>, view: &View<'_>) -> Self {
        let reply = match run_condition(step, view) {
            Some(Err(error)) if !is_refusal(&error) => Reply::error(error),
            _ => Reply::Ok,
        };
        Self { reply, hits: 0, misses: 0, overdue: false }
    }

    fn error(error: CommandError) -> Self {
        Self { reply: Reply::error(error), hits: 0, misses: 0, overdue: false }
    }
}

/// Runs a step that is a condition (LOCK.CHECK); `None` if it is none.
fn run_condition(step: &Step<'_>, view: &View<'_>) -> Option<CommandResult> {
    match step.row.handler {
        Handler::Read(run) if step.row.flags.has(Flags::CONDITION) => Some(run(view, step.args)),
        _ => None,
    }
}

/// Whether a condition failed, rather than that it was asked wrongly.
fn is_refusal(error: &CommandError) -> bool {
    matches!(error.code(), "FENCED" | "WRONGTYPE")
}

/// Whether every condition of a transaction holds, before anything runs.
fn conditions_hold(steps: &[Step<'_>], view: &mut View<'_>) -> bool {
    steps.iter().all(|step| {
        if !step.row.flags.has(Flags::CONDITION) {
            return true;
        }
        view.select(step.db);
        !matches!(run_condition(step, view), Some(Err(error)) if is_refusal(&error))
    })
}

/// What DEBUG OBJECT tells of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// As OBJECT ENCODING says.
    pub encoding: &'static str,
    /// Bytes it takes, about.
    pub memory_len: usize,
    /// When it was last used, in the eviction policy's unit.
    pub access: u32,
    /// Seconds since then.
    pub idle_s: u64,
    /// A digest of its value.
    pub digest: u64,
}

/// How a script ends without a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptError {
    /// The error it answers with.
    Command(CommandError),
    /// It needs a key it had not declared, and has changed nothing: it runs again with every
    /// shard held.
    NeedsEverything,
}

impl From<CommandError> for ScriptError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

/// The table of the engine's own rows.
#[must_use]
pub fn table() -> &'static CommandTable {
    static TABLE: OnceLock<CommandTable> = OnceLock::new();
    TABLE.get_or_init(|| CommandTable::new(commands::FAMILIES, renamed()))
}

static RENAMED: OnceLock<Renamed> = OnceLock::new();

/// Gives commands other names, for clients and scripts alike: once, before the first look at
/// the table. Returns whether it was in time.
pub fn rename(names: Renamed) -> bool {
    RENAMED.set(names).is_ok()
}

/// The names that commands go by instead of their own.
#[must_use]
pub fn renamed() -> &'static Renamed {
    RENAMED.get_or_init(Renamed::new)
}

impl Engine {
    /// An empty engine of `databases` databases; `seed` as for [`Keyspace::new`].
    #[must_use]
    pub fn new(databases: u16, seed: u64) -> Self {
        Self { keyspace: Keyspace::new(databases, seed), scripts: Scripts::default() }
    }

    /// The keys.
    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// The scripts known by name.
    #[must_use]
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// SCRIPT LOAD: keeps a script until SCRIPT FLUSH and returns its name.
    ///
    /// # Errors
    /// `ERR Error compiling script …`, or an error in its first line.
    pub fn load_script(&self, body: &[u8]) -> Result<Sha, CommandError> {
        let sha = Sha::of(body);
        let flags = Shebang::parse(body)?.flags;
        commands::scripting::compile(self, &sha, body)?;
        self.scripts.load(sha, body, flags);
        Ok(sha)
    }

    /// Takes in a script that a snapshot held.
    ///
    /// # Errors
    /// As [`Engine::load_script`].
    pub fn restore_script(&self, body: &[u8], loaded: bool) -> Result<(), CommandError> {
        if loaded {
            return self.load_script(body).map(drop);
        }
        let flags = Shebang::parse(body)?.flags;
        self.scripts.remember(Sha::of(body), body, flags);
        Ok(())
    }

    /// Which shards a command needs.
    #[inline]
    #[must_use]
    pub fn plan(&self, row: &Command, args: Args<'_>, db: DbIndex) -> Plan {
        if let Some(index) = row.single_key()
            && let Some(key) = args.get(index)
        {
            return Plan::One(self.place(db, key));
        }
        if matches!(row.handler, Handler::Script(_)) && self.reaches_beyond_keys(row, args) {
            return Plan::All;
        }
        match row.scope {
            Scope::Free => Plan::Nothing,
            Scope::All => Plan::All,
            Scope::Db => Plan::Db(db),
            Scope::KeysUnlessDb
                if args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"db")) =>
            {
                Plan::All
            }
            Scope::KeysUnlessPatterns if commands::keys::sort::names_other_keys(args) => {
                Plan::Db(db)
            }
            Scope::Keys | Scope::KeysUnlessDb | Scope::KeysUnlessPatterns => {
                let mut places = SmallVec::new();
                // Malformed counts: the handler answers with its own error and touches no key.
                let _ = row.each_key(args, |index, access| {
                    if access != Access::NotKey {
                        places.push(self.place(db, args[index]));
                    }
                });
                Plan::Some(places)
            }
        }
    }

    /// Whether a script or function is known to touch keys that it does not declare.
    fn reaches_beyond_keys(&self, row: &Command, args: Args<'_>) -> bool {
        let Some(text) = args.get(1) else { return false };
        if row.name.starts_with("fcall") {
            let libraries = self.keyspace.libraries();
            return libraries
                .function(text)
                .is_some_and(|(_, called)| called.reach.is_undeclared());
        }
        let sha =
            if row.name.starts_with("evalsha") { Sha::parse(text) } else { Some(Sha::of(text)) };
        sha.and_then(|sha| self.scripts.find(&sha))
            .is_some_and(|script| script.reach.is_undeclared())
    }

    #[inline]
    fn place(&self, db: DbIndex, key: &[u8]) -> Place {
        Place { db, shard: Keyspace::shard_of(self.keyspace.hash(key)) }
    }

    /// Runs one command of the engine's table whose arity has been checked.
    #[inline]
    pub fn run(
        &self,
        row: &'static Command,
        args: Args<'_>,
        context: Context,
        host: &dyn Host,
        effects: &mut Effects,
    ) -> Outcome {
        let plan = self.plan(row, args, context.db);
        let mode = match row.handler {
            Handler::Read(_) | Handler::Wait(_) => LockMode::Read,
            Handler::Script(_) if row.flags.has(Flags::READONLY) => LockMode::Read,
            _ => LockMode::Write,
        };
        let mut view = match View::lock(&self.keyspace, &plan, mode, context, host) {
            Ok(view) => view,
            Err(error) => return Outcome::error(error),
        };
        if view.hooks() != 0 {
            return self.run_hooked(row, args, view, effects);
        }
        match self.call(row, args, &mut view, effects) {
            Ok(reply) => Outcome::of(reply, &view),
            Err(ScriptError::Command(error)) => Outcome::of(Reply::error(error), &view),
            Err(ScriptError::NeedsEverything) => {
                drop(view);
                self.run_with_everything(row, args, mode, context, host, effects)
            }
        }
    }

    /// As [`Engine::run`] goes on while changes are recorded, refused or saved from.
    #[inline(never)]
    fn run_hooked(
        &self,
        row: &'static Command,
        args: Args<'_>,
        mut view: View<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let (context, host) = (*view.context(), view.host());
        let result = match row.handler {
            Handler::Script(_) => self.call(row, args, &mut view, effects),
            _ => match refusal(row, &view) {
                Some(error) => Err(error.into()),
                None => self.call(row, args, &mut view, effects),
            },
        };
        if view.hooks() & hooks::JOURNAL != 0 {
            match row.handler {
                Handler::Script(_) => view.journal_calls(),
                _ => view.journal_command(args),
            }
        }
        match result {
            Ok(reply) => Outcome::of(reply, &view),
            Err(ScriptError::Command(error)) => Outcome::of(Reply::error(error), &view),
            Err(ScriptError::NeedsEverything) => {
                drop(view);
                self.run_with_everything(row, args, LockMode::Write, context, host, effects)
            }
        }
    }

    /// Removes the key of `candidate`, if it is there and was not used since it was drawn; whether
    /// it was removed. `context.db` is the candidate's.
    ///
    /// In a journal this is an UNLINK.
    pub fn evict(
        &self,
        candidate: &Candidate,
        context: Context,
        host: &dyn Host,
        effects: &mut Effects,
    ) -> bool {
        let key = &candidate.key[..];
        let plan = Plan::One(self.place(context.db, key));
        let Ok(mut view) = View::lock(&self.keyspace, &plan, LockMode::Write, context, host) else {
            return false;
        };
        let unused = view
            .look(key)
            .is_some_and(|record| record.access() == candidate.access && !is_lock(record));
        let refused = view.refusal().is_some();
        if refused || !unused || !view.remove(key, effects) {
            return false;
        }
        effects.event(EventClass::EVICTED, "evicted", context.db, key);
        if view.hooks() & hooks::JOURNAL != 0 {
            view.journal_command(&[b"UNLINK", key]);
        }
        true
    }

    #[cold]
    fn run_with_everything(
        &self,
        row: &'static Command,
        args: Args<'_>,
        mode: LockMode,
        context: Context,
        host: &dyn Host,
        effects: &mut Effects,
    ) -> Outcome {
        let mut view = match View::lock(&self.keyspace, &Plan::All, mode, context, host) {
            Ok(view) => view,
            Err(error) => return Outcome::error(error),
        };
        let reply = Reply::from(self.call_in_view(row, args, &mut view, effects));
        view.journal_calls();
        Outcome::of(reply, &view)
    }

    #[inline]
    fn call(
        &self,
        row: &'static Command,
        args: Args<'_>,
        view: &mut View<'_>,
        effects: &mut Effects,
    ) -> Result<Reply, ScriptError> {
        match row.handler {
            Handler::Read(run) => Ok(run(view, args)?),
            Handler::Wait(run) => Ok(run(view, args, effects)?),
            Handler::Write(run) => Ok(run(view, args, effects)?),
            Handler::Script(run) => run(self, view, args, effects),
            Handler::Server | Handler::Container => {
                Err(CommandError::unknown_subcommand(row.name, b"").into())
            }
        }
    }

    /// Runs one command on a view that already holds what it needs: a step of a transaction, or
    /// a call of a script.
    ///
    /// # Errors
    /// The command's own.
    pub fn call_in_view(
        &self,
        row: &'static Command,
        args: Args<'_>,
        view: &mut View<'_>,
        effects: &mut Effects,
    ) -> CommandResult {
        let result = if view.hooks() == 0 || matches!(row.handler, Handler::Script(_)) {
            self.call(row, args, view, effects)
        } else if let Some(error) = refusal(row, view) {
            Err(error.into())
        } else if view.hooks() & hooks::JOURNAL != 0 {
            view.note_call(args, |view| self.call(row, args, view, effects))
        } else {
            self.call(row, args, view, effects)
        };
        result.map_err(|error| match error {
            ScriptError::Command(error) => error,
            ScriptError::NeedsEverything => {
                unreachable!("Invariant: a view of everything lacks nothing")
            }
        })
    }

    /// Runs the steps as one: if every watched key is as WATCH saw it, all of them, else none.
    /// A step that fails does not stop the others.
    ///
    /// # Errors
    /// `BUSY …` when the shards could not be had.
    pub fn transaction(
        &self,
        steps: &[Step<'_>],
        watches: &[Watch],
        context: Context,
        host: &dyn Host,
        effects: &mut Effects,
    ) -> Result<Option<Vec<Outcome>>, CommandError> {
        let plan = self.plan_of_transaction(steps, watches);
        let reads_only = steps
            .iter()
            .all(|step| matches!(step.row.handler, Handler::Read(_) | Handler::Wait(_)));
        let mode = if reads_only { LockMode::Read } else { LockMode::Write };
        let mut view = View::lock(&self.keyspace, &plan, mode, context, host)?;
        for watch in watches {
            view.select(watch.db);
            if view.version(&watch.key) != watch.version {
                return Ok(None);
            }
        }
        if !conditions_hold(steps, &mut view) {
            return Ok(None);
        }
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            view.select(step.db);
            if step.row.flags.has(Flags::CONDITION) {
                outcomes.push(Outcome::condition(step, &view));
                continue;
            }
            let before = view.lookups();
            let reply = Reply::from(self.call_in_view(step.row, step.args, &mut view, effects));
            let after = view.lookups();
            outcomes.push(Outcome {
                reply,
                hits: after.0 - before.0,
                misses: after.1 - before.1,
                overdue: after.2,
            });
        }
        view.journal_calls();
        Ok(Some(outcomes))
    }

    fn plan_of_transaction(&self, steps: &[Step<'_>], watches: &[Watch]) -> Plan {
        let mut places: SmallVec<[Place; 16]> =
            watches.iter().map(|watch| self.place(watch.db, &watch.key)).collect();
        for step in steps {
            match self.plan(step.row, step.args, step.db) {
                // A script may yet touch what it has not declared, when steps before it have
                // written; then it could not start again.
                _ if matches!(step.row.handler, Handler::Script(_)) => return Plan::All,
                // SCAN locks shard after shard on its own, which a transaction may not.
                Plan::Nothing if step.row.flags.has(Flags::UNORDERED) => return Plan::All,
                Plan::Nothing => {}
                Plan::One(place) => places.push(place),
                Plan::Some(more) => places.extend_from_slice(&more),
                Plan::Db(_) | Plan::All => return Plan::All,
            }
        }
        if places.is_empty() { Plan::Nothing } else { Plan::Some(places) }
    }

    /// Runs `look` on the record of a live key, without counting as a use; `None` if there is none.
    pub fn look_at<T>(
        &self,
        db: DbIndex,
        key: &[u8],
        now: UnixMillis,
        look: impl FnOnce(&Record) -> T,
    ) -> Option<T> {
        let context = Context { touch: Touch::Leaves, ..Context::in_db(db, now) };
        let plan = Plan::One(self.place(db, key));
        let view = View::lock(&self.keyspace, &plan, LockMode::Read, context, &Alone).ok()?;
        view.peek(key).map(look)
    }

    /// Bytes that a live key and its value take, its place in the table included.
    #[must_use]
    pub fn memory_of(&self, db: DbIndex, key: &[u8], now: UnixMillis) -> Option<usize> {
        self.look_at(db, key, now, memory_len)
    }

    /// What DEBUG OBJECT tells of a key, even if it has expired and still stands.
    #[must_use]
    pub fn describe(&self, db: DbIndex, key: &[u8], now: UnixMillis) -> Option<Description> {
        let clock = Context::at(now, 0).access_clock();
        let never = UnixMillis(i64::MIN);
        self.look_at(db, key, never, |record| Description {
            encoding: crate::commands::keys::object::encoding_of(record),
            memory_len: memory_len(record),
            access: record.access(),
            idle_s: u64::from(clock.wrapping_sub(record.access()) & 0x00ff_ffff),
            digest: crate::keyspace::value_digest(record),
        })
    }

    /// The group of commands that work on what `key` holds at `now`; `None` if it holds nothing.
    #[must_use]
    pub fn group_of(&self, db: DbIndex, key: &[u8], now: UnixMillis) -> Option<Group> {
        let context = Context { touch: Touch::Leaves, ..Context::in_db(db, now) };
        let plan = Plan::One(self.place(db, key));
        let view = View::lock(&self.keyspace, &plan, LockMode::Read, context, &Alone).ok()?;
        let record = view.peek(key)?;
        Some(match record.value() {
            Value::Integer(_) | Value::String(_) => Group::String,
            Value::Object(object) => object.group(),
        })
    }

    /// The arguments with which a command that waits is run again, if they are not those it came
    /// with: XREAD's `$` is the last id of now, or it would be another one every time.
    #[must_use]
    pub fn settle(&self, row: &Command, args: Args<'_>, context: Context) -> Option<Vec<Vec<u8>>> {
        if row.name != "xread" {
            return None;
        }
        let plan = self.plan(row, args, context.db);
        let view = View::lock(&self.keyspace, &plan, LockMode::Read, context, &Alone).ok()?;
        commands::stream::read::settle(&view, args)
    }

    /// The versions of keys, for WATCH; read under one lock.
    ///
    /// # Errors
    /// `BUSY …` when the shards could not be had.
    pub fn watch(
        &self,
        keys: &[&[u8]],
        context: Context,
        host: &dyn Host,
    ) -> Result<Vec<Watch>, CommandError> {
        let places = keys.iter().map(|key| self.place(context.db, key)).collect();
        let view = View::lock(&self.keyspace, &Plan::Some(places), LockMode::Read, context, host)?;
        Ok(keys
            .iter()
            .map(|key| Watch { db: context.db, key: key.to_vec(), version: view.version(key) })
            .collect())
    }
}

/// Why a command may not run, when changes are refused.
fn refusal(row: &Command, view: &View<'_>) -> Option<CommandError> {
    if row.flags.has(Flags::WRITE) { view.refusal() } else { None }
}

/// Bytes that a record, its value and its place in the table take.
fn memory_len(record: &Record) -> usize {
    /// A pointer and a tag at the table's mean load.
    const PLACE_LEN: usize = 14;
    let behind = match record.value() {
        Value::Object(object) => object.memory_len(),
        Value::Integer(_) | Value::String(_) => 0,
    };
    PLACE_LEN + record.memory_len() + behind
}
