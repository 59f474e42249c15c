//! What the state machine needs of the node: its engine, and somebody to deliver effects to.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use holdfast_engine::command::Command;
use holdfast_engine::effects::{Audience, Effects, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::{Host, ScriptProgress};
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};

use super::batch::Seen;
use super::forward::serve::Turns;
use super::forward::{Answer, Park, Request};

/// The node, as the state machine sees it.
pub trait Surroundings: Host + Send + Sync + 'static {
    /// The data.
    fn engine(&self) -> &Engine;

    /// The classes of keyspace events that anyone on this node may see.
    fn wanted_events(&self) -> EventClass;

    /// Delivers what an entry did to the clients of this node, and empties it.
    fn deliver(&self, effects: &mut Effects);

    /// A script has held its thread for long: lets the thread's other tasks move elsewhere.
    fn hand_over(&self);

    /// Microseconds of a clock that is never set, from any origin.
    fn monotonic_us(&self) -> u64;

    /// Milliseconds since 1970.
    fn wall_ms(&self) -> i64;

    /// Instructions a script of a new proposal may execute.
    fn instruction_limit(&self) -> u64;

    /// This node led, and does no longer.
    fn lost_leadership(&self);

    /// Whether the user whose rules these are may run what its script calls. The same on every
    /// member: only rules and arguments decide.
    ///
    /// # Errors
    /// `ERR ACL failure in script: …`
    fn rules_admit(&self, rules: &[u8], args: &[&[u8]]) -> Result<(), CommandError> {
        let _ = (rules, args);
        Ok(())
    }

    /// Whether the user may run a command; `None` if there is no such command. Without rules, who
    /// may do everything.
    fn rules_check(&self, rules: Option<&[u8]>, args: &[&[u8]]) -> Option<bool> {
        let _ = (rules, args);
        Some(true)
    }

    /// Changes settings that all members share: names and values in turn.
    ///
    /// # Errors
    /// When a value cannot be put in force.
    fn change_settings(&self, pairs: &[&[u8]]) -> Result<(), CommandError>;

    /// Makes a user what its rules say, whatever it was; without rules it is removed.
    ///
    /// # Errors
    /// When this version does not know a rule.
    fn change_user(&self, name_and_rules: &[&[u8]]) -> Result<(), CommandError>;

    /// Answers what another member asks on behalf of its clients.
    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer>;

    /// Lets a command of another member's client wait for its keys, until it is over.
    fn park(self: Arc<Self>, park: Park, turns: Turns) -> BoxFuture<'static, ()>;
}

/// The host of commands that are applied: nothing it says may differ between replicas.
pub(crate) struct Replica<'a> {
    pub(crate) node: &'a dyn Surroundings,
    /// Instructions a script may execute, 0 for any number.
    pub(crate) instruction_limit: u64,
    /// Whether replies tell how many clients a message reached. Inside scripts and transactions
    /// they do not: a script could write what it was told.
    pub(crate) counts_receivers: bool,
    /// What the leader saw when it proposed.
    pub(crate) seen: Seen,
    /// The rules that bound what scripts may call.
    pub(crate) rules: Option<&'a [u8]>,
}

impl Host for Replica<'_> {
    fn receivers(&self, audience: Audience, channel: &[u8]) -> i64 {
        if self.counts_receivers { self.node.receivers(audience, channel) } else { 0 }
    }

    fn has_blocked_clients(&self) -> bool {
        // Decides only whether this node looks for waiting clients.
        self.node.has_blocked_clients()
    }

    fn has_lock_waiters(&self) -> bool {
        // As above.
        self.node.has_lock_waiters()
    }

    fn is_lock_awaited(&self, _db: DbIndex, _key: &[u8]) -> bool {
        self.seen.stands_behind
    }

    fn is_out_of_memory(&self) -> bool {
        self.seen.is_full
    }

    fn is_replica(&self) -> bool {
        true
    }

    fn script_progress(&self, progress: ScriptProgress) -> Result<(), CommandError> {
        /// About ten milliseconds of work.
        const LONG: u64 = 1_000_000;
        if let ScriptProgress::Running { instructions, .. } = progress {
            let limit = self.instruction_limit;
            if limit > 0 && instructions > limit {
                return Err(CommandError::new(format!(
                    "ERR script exceeded lua-instruction-limit ({limit} instructions)"
                )));
            }
            if instructions.is_multiple_of(LONG) {
                self.node.hand_over();
            }
        }
        Ok(())
    }

    fn script_log(&self, level: i64, text: &[u8]) {
        self.node.script_log(level, text);
    }

    fn follows_scripts(&self) -> bool {
        self.node.follows_scripts()
    }

    fn script_calls(&self, row: &Command, db: DbIndex, args: &[&[u8]]) {
        self.node.script_calls(row, db, args);
    }

    fn limits_scripts(&self) -> bool {
        self.rules.is_some()
    }

    fn script_may_call(&self, args: &[&[u8]]) -> Result<(), CommandError> {
        self.rules.map_or(Ok(()), |rules| self.node.rules_admit(rules, args))
    }

    fn acl_check(&self, args: &[&[u8]]) -> Option<bool> {
        self.node.rules_check(self.rules, args)
    }

    fn server_command(&self, args: &[&[u8]]) -> Option<Reply> {
        // What the server tells of itself differs from node to node; refusals do not.
        match self.node.server_command(args)? {
            refused @ Reply::Error(_) => Some(refused),
            _ => Some(Reply::error(CommandError::known(
                "ERR This Redis command is not allowed from script",
            ))),
        }
    }
}
