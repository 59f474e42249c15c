//! What the engine asks of the world while a command runs.
//!
//! In a cluster every replica must get the same answers, so nothing a host says may decide what
//! a write does; it only tells counts, lets a long script be stopped and yields a thread.

use crate::command::Command;
use crate::effects::Audience;
use crate::error::CommandError;
use crate::reply::Reply;
use crate::time::DbIndex;

/// The engine's surroundings; [`Alone`] is the one that knows nothing.
pub trait Host: Sync {
    /// How many clients a message to `channel` would reach.
    fn receivers(&self, audience: Audience, channel: &[u8]) -> i64 {
        let _ = (audience, channel);
        0
    }

    /// Whether any client is blocked on keys. Asked under the shard's lock, so that a client
    /// that registers and then looks again under the same lock can miss nothing.
    fn has_blocked_clients(&self) -> bool {
        false
    }

    /// Whether any client waits for a lock; asked under the shard's lock, as above.
    fn has_lock_waiters(&self) -> bool {
        false
    }

    /// Whether clients wait for this very lock, so that one that comes now has to stand behind
    /// them. It decides what is granted: a host that applies what others apply too says no, and
    /// asks who waits before it proposes.
    fn is_lock_awaited(&self, db: DbIndex, key: &[u8]) -> bool {
        let _ = (db, key);
        false
    }

    /// The clients that wait for a lock, the next one first.
    fn lock_waiters(&self, db: DbIndex, key: &[u8]) -> Vec<LockWaiter> {
        let _ = (db, key);
        Vec::new()
    }

    /// Whether a lock may be granted now, and makes durable what must be before it is: the length
    /// of its life and its token. Asked when nothing has been changed yet. In a cluster, where all
    /// of it is in the log, always.
    ///
    /// # Errors
    /// `QUARANTINE <ms left>` while locks may be forgotten that were granted before a restart.
    fn may_grant(&self, grant: Grant) -> Result<(), CommandError> {
        let _ = grant;
        Ok(())
    }

    /// Whether commands that may grow memory are refused now (`maxmemory`).
    fn is_out_of_memory(&self) -> bool {
        false
    }

    /// Whether other nodes run the same commands and must end in the same state: then nothing
    /// that differs between them may decide what is written.
    fn is_replica(&self) -> bool {
        false
    }

    /// Called by a command that waits for a lock, every so often; an error ends the waiting.
    ///
    /// # Errors
    /// `BUSY …` while a script that has run too long holds what the command waits for.
    fn waiting_for_lock(&self, waited_us: u64) -> Result<(), CommandError> {
        let _ = waited_us;
        Ok(())
    }

    /// Called when a script begins and, with what it has cost so far, every few thousand of its
    /// instructions. An error stops the script with that text.
    ///
    /// # Errors
    /// The text that SCRIPT KILL or a limit ends the script with.
    fn script_progress(&self, progress: ScriptProgress<'_>) -> Result<(), CommandError> {
        let _ = progress;
        Ok(())
    }

    /// The function that has run for longest, if any has run for a moment.
    fn running_function(&self) -> Option<RunningFunction> {
        None
    }

    /// Ends the scripts of this kind that have run for a moment and not written.
    ///
    /// # Errors
    /// `NOTBUSY …` when none runs, `UNKILLABLE …` when all that run have written.
    fn kill_scripts(&self, kind: ScriptKind) -> Result<(), CommandError> {
        let _ = kind;
        Err(CommandError::NOT_BUSY)
    }

    /// A script's `redis.log`; `level` is 0 (debug) to 3 (warning).
    fn script_log(&self, level: i64, text: &[u8]) {
        let _ = (level, text);
    }

    /// Takes over the record of a change, which `write` appends, while the shards that it
    /// concerns are locked: records of one shard come in the order of its changes.
    fn journal(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        let _ = write;
    }

    /// Why changes are refused now, when [`Keyspace::refuse_changes`] says that they are.
    ///
    /// [`Keyspace::refuse_changes`]: crate::keyspace::Keyspace::refuse_changes
    fn refusal(&self) -> Option<CommandError> {
        None
    }

    /// Whether someone follows what scripts call; asked when a script begins.
    fn follows_scripts(&self) -> bool {
        false
    }

    /// A script calls a command and is about to run it; told only if the host follows scripts.
    fn script_calls(&self, row: &Command, db: DbIndex, args: &[&[u8]]) {
        let _ = (row, db, args);
    }

    /// Whether the caller's rights bound what its scripts may call; asked when a script begins.
    fn limits_scripts(&self) -> bool {
        false
    }

    /// Whether the caller may run what its script calls; asked only if its rights bound it. The
    /// arguments may be of no command, or too few: others tell that.
    ///
    /// # Errors
    /// `ERR ACL failure in script: …`
    fn script_may_call(&self, args: &[&[u8]]) -> Result<(), CommandError> {
        let _ = args;
        Ok(())
    }

    /// Whether the caller of a script may run a command; `None` if there is no such command.
    fn acl_check(&self, args: &[&[u8]]) -> Option<bool> {
        let _ = args;
        Some(true)
    }

    /// Runs a command of the server's own table that a script called (INFO, COMMAND, …);
    /// `None` if scripts may not.
    fn server_command(&self, args: &[&[u8]]) -> Option<Reply> {
        let _ = args;
        None
    }
}

/// A client that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWaiter {
    /// The unique bytes of its acquisition.
    pub owner: Vec<u8>,
    /// The client's number.
    pub client_id: u64,
    /// How long it has waited, what it said it had before included, ms.
    pub waited_ms: u64,
}

/// A lock that is about to be granted or prolonged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What is granted.
    pub kind: GrantKind,
    /// How long it will last if nobody renews it, its lock-delay included, ms.
    pub lifetime_ms: i64,
    /// No greater token than this will be given out by it, but for those of others meanwhile.
    pub token: u64,
}

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind {
    /// A lock of the native family.
    Native,
    /// A string that only one client sets and that expires: the locks of others (SET NX PX).
    Plain,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptKind {
    /// A script of EVAL; SCRIPT KILL ends it.
    Script,
    /// A function of FCALL; FUNCTION KILL ends it.
    Function,
}

/// How far a running script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptProgress<'a> {
    /// It begins.
    Begin(ScriptKind),
    /// It has executed about this many instructions; `wrote` once it changed the data set.
    Running {
        /// Virtual machine instructions so far.
        instructions: u64,
        /// Whether it has changed anything: then it can no longer be killed.
        wrote: bool,
        /// The command that began it.
        args: &'a [&'a [u8]],
    },
    /// It has ended.
    End,
}

/// A function that runs, as FUNCTION STATS tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningFunction {
    /// The command that began it, cut to a length worth telling.
    pub command: Vec<Vec<u8>>,
    /// For how long it has run.
    pub duration_ms: u64,
}

/// A host without clients, for tests and replay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Host for Alone {}
