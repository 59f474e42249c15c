//! One interpreter: compiles scripts once, runs them, words their errors.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::Lua;

use super::library::{self, Metadata};
use super::{Caller, Sha, Shebang, sandbox};
use crate::keyspace::{Function, Library};
use crate::raw::lua::{Bridge, ChunkKind, ChunkRef, Entry, Failure, Shared};
use crate::{CommandError, CommandResult, Reply};

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
    /// By [`Library::id`].
    libraries: RefCell<hashbrown::HashMap<u64, ChunkRef, foldhash::fast::FixedState>>,
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
        let (compiled, libraries) = (RefCell::default(), RefCell::default());
        Self { lua, bridge, shared, limits, compiled, libraries, running: Cell::new(false) }
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
        for (_, chunk) in self.libraries.borrow_mut().drain() {
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
        self.make_room();
        let chunk = self.chunk(sha, body)?;
        self.enter(chunk, Entry::Script { keys, argv }, caller)?
            .map_err(|failure| worded(failure, sha.as_bytes(), "user_script"))
    }

    /// Runs the code of a library, to learn which functions it registers (FUNCTION LOAD).
    ///
    /// # Errors
    /// It does not compile, or it failed to register them.
    ///
    /// # Panics
    /// Passes on a panic of the caller.
    pub(crate) fn load(
        &self,
        metadata: &Metadata<'_>,
        caller: &mut dyn Caller,
    ) -> Result<Vec<Function>, CommandError> {
        self.make_room();
        let chunk = self.bridge.compile(metadata.code, ChunkKind::Library).map_err(uncompiled)?;
        let result = self.enter(chunk, Entry::Load, caller);
        self.bridge.release(chunk);
        match result? {
            Ok(reply) => Ok(library::registered(reply)),
            Err(Failure::Killed(error, _)) => {
                Err(CommandError::new(format!("ERR Error registering functions: {error}")))
            }
            Err(Failure::Raised { text, .. }) => {
                let text = String::from_utf8_lossy(&text);
                Err(CommandError::new(format!("ERR Error registering functions: {text}")))
            }
        }
    }

    /// Calls a function of a library.
    ///
    /// Its code registers the functions anew before each call: so nothing that a call leaves in
    /// variables of the library reaches the next, which may run on another thread or node.
    ///
    /// # Errors
    /// As [`Vm::run`].
    ///
    /// # Panics
    /// Passes on a panic of the caller.
    pub(crate) fn call(
        &self,
        (library, function): (&Library, &Function),
        keys: &[&[u8]],
        argv: &[&[u8]],
        caller: &mut dyn Caller,
    ) -> CommandResult {
        self.make_room();
        let chunk = self.library_chunk(library)?;
        let name = function.name.as_bytes();
        self.enter(chunk, Entry::Function { name, keys, argv }, caller)?
            .map_err(|failure| worded(failure, name, "user_function"))
    }

    /// Runs a chunk to its end.
    fn enter(
        &self,
        chunk: ChunkRef,
        entry: Entry<'_>,
        caller: &mut dyn Caller,
    ) -> Result<Result<Reply, Failure>, CommandError> {
        if self.running.get() {
            return Err(CommandError::known("ERR This Redis command is not allowed from script"));
        }
        self.running.set(true);
        let _idle_again = ResetOnDrop(&self.running);
        let limits = &self.limits;
        Ok(self.shared.caller.enter(caller, || {
            let interval = limits.instructions_per_interrupt;
            self.bridge.run(chunk, &entry, interval, limits.memory_bytes_max)
        }))
    }

    fn chunk(&self, sha: &Sha, body: &[u8]) -> Result<ChunkRef, CommandError> {
        if let Some(chunk) = self.compiled.borrow().get(sha) {
            return Ok(*chunk);
        }
        let code = Shebang::parse(body)?.code;
        let chunk = self.bridge.compile(code, ChunkKind::Script).map_err(|message| {
            let message = String::from_utf8_lossy(&message);
            CommandError::new(format!("ERR Error compiling script (new function): {message}"))
        })?;
        if self.compiled.borrow().len() >= self.limits.compiled_scripts_max {
            self.forget_compiled();
        }
        self.compiled.borrow_mut().insert(*sha, chunk);
        Ok(chunk)
    }

    fn library_chunk(&self, library: &Library) -> Result<ChunkRef, CommandError> {
        if let Some(chunk) = self.libraries.borrow().get(&library.id) {
            return Ok(*chunk);
        }
        let code = Metadata::parse(&library.code)?.code;
        let chunk = self.bridge.compile(code, ChunkKind::Library).map_err(uncompiled)?;
        if self.libraries.borrow().len() >= self.limits.compiled_scripts_max {
            self.forget_compiled();
        }
        self.libraries.borrow_mut().insert(library.id, chunk);
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

/// The error of a library that does not compile.
fn uncompiled(message: Vec<u8>) -> CommandError {
    let message = String::from_utf8_lossy(&message);
    CommandError::new(format!("ERR Error compiling function: {message}"))
}

/// The error of a run that ended early; `name` is the script's SHA1 or the function's name.
fn worded(failure: Failure, name: &[u8], source: &str) -> CommandError {
    match failure {
        Failure::Killed(error, line) => located(error.text(), name, source, line),
        Failure::Raised { text, line } => {
            located(&String::from_utf8_lossy(&text), name, source, line)
        }
    }
}

/// An error that says where it comes from, as Redis words it.
fn located(text: &str, name: &[u8], source: &str, line: i32) -> CommandError {
    let name = String::from_utf8_lossy(name);
    CommandError::new(if line > 0 {
        format!("{text} script: {name}, on @{source}:{line}.")
    } else {
        format!("{text} script: {name}.")
    })
}

struct ResetOnDrop<'a>(&'a Cell<bool>);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
