//! One interpreter: compiles scripts once, runs them, words their errors.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::Lua;

use super::{Caller, Sha, Shebang, sandbox};
use crate::raw::lua::{Bridge, ChunkRef, Failure, Shared};
use crate::{CommandError, CommandResult};

/// Bounds of an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes all values of the interpreter may take; a script that wants more gets the error
    /// `not enough memory`.
    pub memory_bytes_max: usize,
    /// How many instructions pass between two calls of [`Caller::interrupt`].
    pub instructions_per_interrupt: u32,
    /// How many compiled scripts are kept; beyond it all are forgotten and compiled anew.
    pub compiled_scripts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A reply of proto-max-bulk-len (512 MiB) does not fit, which is the intent: a
            // script should not be able to hold half a gigabyte per thread.
            memory_bytes_max: 256 << 20,
            instructions_per_interrupt: 10_000,
            compiled_scripts_max: 10_000,
        }
    }
}

/// A Lua interpreter for scripts; belongs to the thread that made it.
///
/// Nothing a script does outlives its run, except compiled code and garbage.
pub struct Vm {
    lua: Lua,
    bridge: Bridge,
    shared: Rc<Shared>,
    limits: Limits,
    compiled: RefCell<hashbrown::HashMap<Sha, ChunkRef, foldhash::fast::FixedState>>,
    running: Cell<bool>,
}

impl Vm {
    /// A fresh interpreter.
    ///
    /// # Panics
    /// If there is not even memory for an empty interpreter.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let shared = Rc::new(Shared::default());
        let (lua, bridge) = match sandbox::build(&shared) {
            Ok(built) => built,
            // The inputs are constants of this room, so only memory can be missing.
            Err(error) => panic!("the Lua sandbox cannot be built: {error}"),
        };
        // Cannot fail: the interpreter's memory is ours to govern.
        let _ = lua.set_memory_limit(limits.memory_bytes_max);
        let compiled = RefCell::default();
        Self { lua, bridge, shared, limits, compiled, running: Cell::new(false) }
    }

    /// Checks that `body` compiles, and keeps the result for [`Vm::run`] (SCRIPT LOAD).
    ///
    /// # Errors
    /// `ERR Error compiling script (new function): …`, or an error in the `#!` line.
    pub fn compile(&self, sha: &Sha, body: &[u8]) -> Result<(), CommandError> {
        self.chunk(sha, body).map(drop)
    }

    /// Forgets every compiled script (SCRIPT FLUSH).
    pub fn forget_compiled(&self) {
        for (_, chunk) in self.compiled.borrow_mut().drain() {
            self.bridge.release(chunk);
        }
    }

    /// Bytes the interpreter's values take now, garbage included.
    #[must_use]
    pub fn used_memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Runs the script `body`, whose name is `sha`.
    ///
    /// A table `{err = …}` that the script returns is the reply `Ok(Reply::Error)`. In either
    /// case of error, what the script wrote before stays written.
    ///
    /// # Errors
    /// The script does not compile, an error of it was not caught, or the caller killed it.
    ///
    /// # Panics
    /// Passes on a panic of the caller.
    pub fn run(
        &self,
        sha: &Sha,
        body: &[u8],
        keys: &[&[u8]],
        argv: &[&[u8]],
        caller: &mut dyn Caller,
    ) -> CommandResult {
        if self.running.get() {
            return Err(CommandError::known("ERR This Redis command is not allowed from script"));
        }
        self.make_room();
        let chunk = self.chunk(sha, body)?;
        self.running.set(true);
        let _idle_again = ResetOnDrop(&self.running);
        let limits = &self.limits;
        let result = self.shared.caller.enter(caller, || {
            let interval = limits.instructions_per_interrupt;
            self.bridge.run(chunk, keys, argv, interval, limits.memory_bytes_max)
        });
        match result {
            Ok(reply) => Ok(reply),
            Err(Failure::Killed(error)) => Err(error),
            Err(Failure::Raised { text, line }) => {
                let text = String::from_utf8_lossy(&text);
                Err(CommandError::new(if line > 0 {
                    format!("{text} script: {sha}, on @user_script:{line}.")
                } else {
                    format!("{text} script: {sha}.")
                }))
            }
        }
    }

    fn chunk(&self, sha: &Sha, body: &[u8]) -> Result<ChunkRef, CommandError> {
        if let Some(chunk) = self.compiled.borrow().get(sha) {
            return Ok(*chunk);
        }
        let code = Shebang::parse(body)?.code;
        let chunk = self.bridge.compile(code).map_err(|message| {
            let message = String::from_utf8_lossy(&message);
            CommandError::new(format!("ERR Error compiling script (new function): {message}"))
        })?;
        if self.compiled.borrow().len() >= self.limits.compiled_scripts_max {
            self.forget_compiled();
        }
        self.compiled.borrow_mut().insert(*sha, chunk);
        Ok(chunk)
    }

    /// Collects what earlier scripts left when it is much: Lua 5.1 fails an allocation beyond
    /// the limit without first looking for garbage.
    fn make_room(&self) {
        let much = self.limits.memory_bytes_max / 4;
        if self.lua.used_memory() > much {
            // An error here could only be one of a finalizer, and there are none.
            let _ = self.lua.gc_collect();
            if self.lua.used_memory() > much {
                self.forget_compiled();
                let _ = self.lua.gc_collect();
            }
        }
    }
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("limits", &self.limits).finish_non_exhaustive()
    }
}

struct ResetOnDrop<'a>(&'a Cell<bool>);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
