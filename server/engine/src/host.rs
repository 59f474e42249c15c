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
    fn script_progress(&self, progress: ScriptProgress) -> Result<(), CommandError> {
        let _ = progress;
        Ok(())
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

    /// Runs a command of the server's own table that a script called (INFO, COMMAND, …);
    /// `None` if scripts may not.
    fn server_command(&self, args: &[&[u8]]) -> Option<Reply> {
        let _ = args;
        None
    }
}

/// How far a running script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptProgress {
    /// It begins.
    Begin,
    /// It has executed about this many instructions; `wrote` once it changed the data set.
    Running {
        /// Virtual machine instructions so far.
        instructions: u64,
        /// Whether it has changed anything: then it can no longer be killed.
        wrote: bool,
    },
    /// It has ended.
    End,
}

/// A host without clients, for tests and replay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Host for Alone {}
