//! The hot and the delicate parts of the Lua bridge, on Lua's C interface.
//!
//! Lua raises errors with `longjmp`, which runs no destructor. Hence the rule of this file:
//! a function that calls a raising Lua function holds nothing with a destructor on its Rust
//! stack at that moment. Owned data (replies, errors, panics) lives in [`Shared`], which stays
//! put; work that owns data happens in functions that call only non-raising Lua functions
//! (`lua_type`, `lua_tolstring` of a string, raw reads, pushes of plain values).
//! The scripts' view of all this is set up in `script::sandbox`.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use mlua::Lua;
use mlua::ffi::{self, lua_CFunction, lua_Debug, lua_State};

use super::base;
use super::command::{push_bytes, redis_call, redis_pcall};
use super::result::{error_text, raw_field, read_reply, string_at};
use super::scoped::CallerSlot;
use crate::script::{Caller, Interrupt};
use crate::{CommandError, Reply};

/// Its address is the error value that means "this script is being killed".
static KILL_MARK: u8 = 0;
/// Its address is the registry key of the [`Shared`] pointer, for the hook has no upvalues.
static SHARED_KEY: u8 = 1;

/// The names of chunks, which stand in messages.
const SCRIPT_SOURCE: &CStr = c"@user_script";
const FUNCTION_SOURCE: &CStr = c"@user_function";

/// What a run shares with the callbacks registered in its interpreter.
pub(crate) struct Shared {
    /// The caller of the script that runs now.
    pub(crate) caller: CallerSlot,
    /// Whether the script chose RESP3 for the replies it reads.
    pub(crate) resp3: Cell<bool>,
    /// The state of `math.random`; `None` until a run first draws.
    pub(crate) random: Cell<Option<u64>>,
    /// How many runs began; settings that must not outlive a run remember theirs.
    pub(crate) run: Cell<u64>,
    /// Why the script is being killed; set once per run.
    kill: RefCell<Option<CommandError>>,
    /// A panic of the caller, carried around Lua's frames.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// The reply being turned into Lua values. It lives here, not on the stack, because the
    /// pushes may raise.
    pub(super) reply: RefCell<Reply>,
    /// The line of the script where the last unprotected error arose, 0 if unknown.
    error_line: Cell<c_int>,
    instructions: Cell<u64>,
    instructions_per_interrupt: Cell<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            caller: CallerSlot::default(),
            resp3: Cell::new(false),
            random: Cell::new(None),
            run: Cell::new(0),
            kill: RefCell::new(None),
            panic: RefCell::new(None),
            reply: RefCell::new(Reply::Nil),
            error_line: Cell::new(0),
            instructions: Cell::new(0),
            instructions_per_interrupt: Cell::new(0),
        }
    }
}

impl Shared {
    /// Lends the caller to a library function; `None` if there is none or it panicked. Such a
    /// panic goes on when the run has ended, for Lua's `pcall` must not swallow it.
    pub(crate) fn ask<R>(&self, question: impl FnOnce(&mut dyn Caller) -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| self.caller.with(question))) {
            Ok(answer) => answer,
            Err(panic) => {
                keep_panic(self, panic);
                None
            }
        }
    }
}

/// How a run that did not return a value ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller's interrupt said so; the line it was at, if known.
    Killed(CommandError, c_int),
    /// An error nobody caught: its text with a code, and the line if known.
    Raised {
        /// `ERR user_script:1: …`
        text: Vec<u8>,
        /// 1-based; 0 is unknown.
        line: i32,
    },
}

/// What a chunk is compiled as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChunkKind {
    /// A script of EVAL.
    Script,
    /// The code of a library of functions.
    Library,
}

/// How a chunk is entered.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// As a script, with KEYS and ARGV in its globals.
    Script {
        /// `KEYS`
        keys: &'a [&'a [u8]],
        /// `ARGV`
        argv: &'a [&'a [u8]],
    },
    /// As a library that is to tell what functions it registers.
    Load,
    /// As a library of which one function is to be called.
    Function {
        /// The function, spelt as it was registered.
        name: &'a [u8],
        /// Its first argument.
        keys: &'a [&'a [u8]],
        /// Its second.
        argv: &'a [&'a [u8]],
    },
}

/// A compiled script's place in the interpreter's registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChunkRef(c_int);

/// The raw side of one interpreter.
pub(crate) struct Bridge {
    /// Keeps the interpreter, and with it `state`, alive.
    lua: Lua,
    state: *mut lua_State,
    shared: Rc<Shared>,
    refs: Refs,
}

/// Registry places of values a run needs without allocating.
#[derive(Default, Clone, Copy)]
pub(super) struct Refs {
    handler: c_int,
    enter: c_int,
    globals: c_int,
    keys: c_int,
    argv: c_int,
    /// The prelude's functions that run a library, and the environment of its code.
    load_library: c_int,
    call_function: c_int,
    library_env: c_int,
    pub(super) fields: [c_int; FIELDS.len()],
}

/// The table fields that give a returned table its type, in the order Redis tries them.
const FIELDS: [&CStr; 9] = [
    c"err",
    c"ok",
    c"double",
    c"map",
    c"set",
    c"big_number",
    c"verbatim_string",
    c"string",
    c"format",
];

struct Setup {
    raw: c_int,
    globals: c_int,
    refs: Refs,
}

impl Bridge {
    /// Wraps `lua`, filling its table `raw` with the functions of this file that the sandbox
    /// installs; `globals` is the table behind the scripts' globals.
    pub(crate) fn new(
        lua: &Lua,
        shared: Rc<Shared>,
        raw: &mlua::Table,
        globals: &mlua::Table,
    ) -> mlua::Result<Self> {
        let shared_pointer = Rc::as_ptr(&shared);
        let mut refs = Refs::default();
        let out = &raw mut refs;
        // SAFETY: `exec_raw` runs the closure in protected mode with the two tables on the
        // stack at 1 and 2. The closure owns nothing with a destructor. The light userdata
        // points into `shared`, which the `Bridge` keeps alive as long as the interpreter.
        unsafe {
            lua.exec_raw::<()>((raw, globals), |state| {
                let top = ffi::lua_gettop(state);
                let mut setup = Setup { raw: top - 1, globals: top, refs: Refs::default() };
                install(state, shared_pointer, &mut setup);
                *out = setup.refs;
                ffi::lua_settop(state, 0);
            })?;
        }
        let state = lua.exec_raw_lua(|raw| raw.state());
        Ok(Self { lua: lua.clone(), state, shared, refs })
    }

    /// Takes over what the prelude made to run libraries.
    pub(crate) fn set_library_entries(
        &mut self,
        load: &mlua::Function,
        call: &mlua::Function,
        env: &mlua::Table,
    ) -> mlua::Result<()> {
        let out = &raw mut self.refs;
        // SAFETY: `exec_raw` runs the closure in protected mode with the three values on top of
        // the stack; it owns nothing. `refs` outlives the call.
        unsafe {
            self.lua.exec_raw::<()>((load, call, env), |state| {
                (*out).library_env = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                (*out).call_function = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                (*out).load_library = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                ffi::lua_settop(state, 0);
            })
        }
    }

    /// Compiles `body`.
    ///
    /// # Errors
    /// Lua's message, without a code.
    pub(crate) fn compile(&self, body: &[u8], kind: ChunkKind) -> Result<ChunkRef, Vec<u8>> {
        // Precompiled chunks can crash the interpreter; they never get that far.
        if body.first() == Some(&0x1b) {
            return Err(b"user_script:1: unexpected symbol near 'char(27)'".to_vec());
        }
        let env = match kind {
            ChunkKind::Script => None,
            ChunkKind::Library => Some(self.refs.library_env),
        };
        let mut job = CompileJob { body, env, chunk: 0 };
        // SAFETY: `cpcall` is protected mode; `job` outlives the call and owns nothing. On an
        // error one value is on top of the stack, which is read without raising and popped.
        unsafe {
            let state = self.state;
            let status = ffi::lua_cpcall(state, compile_protected, (&raw mut job).cast::<c_void>());
            if status != 0 {
                let text = error_text(state, -1).unwrap_or_else(|| b"not enough memory".to_vec());
                ffi::lua_pop(state, 1);
                return Err(text);
            }
        }
        Ok(ChunkRef(job.chunk))
    }

    /// Forgets a compiled script.
    pub(crate) fn release(&self, chunk: ChunkRef) {
        // SAFETY: `luaL_unref` writes existing registry slots only (the place itself and the head
        // of the free list, which `install` made), so it neither allocates nor raises.
        unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, chunk.0) }
    }

    /// Runs a compiled script to its end.
    ///
    /// # Panics
    /// Passes on a panic of the caller.
    pub(crate) fn run(
        &self,
        chunk: ChunkRef,
        entry: &Entry<'_>,
        instructions_per_interrupt: u32,
        memory_max: usize,
    ) -> Result<Reply, Failure> {
        let shared = &*self.shared;
        shared.resp3.set(false);
        shared.random.set(None);
        shared.run.set(shared.run.get() + 1);
        shared.error_line.set(0);
        shared.instructions.set(0);
        shared.instructions_per_interrupt.set(u64::from(instructions_per_interrupt));
        shared.kill.replace(None);
        let frame = Frame { chunk, entry, refs: &self.refs };
        // SAFETY: `state` is the interpreter's main thread, idle between runs (`Vm` refuses to
        // run while running), with Lua's minimum of 20 free slots. `frame` outlives the call.
        // The pushes before `pcall` allocate nothing. Everything that can raise is inside it.
        let result = unsafe {
            let state = self.state;
            let base = ffi::lua_gettop(state);
            let count = c_int::try_from(instructions_per_interrupt).unwrap_or(c_int::MAX);
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, count);
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, self.refs.handler.into());
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, self.refs.enter.into());
            ffi::lua_pushlightuserdata(state, (&raw const frame).cast_mut().cast::<c_void>());
            let status = ffi::lua_pcall(state, 1, 1, base + 1);
            ffi::lua_sethook(state, None, 0, 0);
            let result = if status == 0 && shared.kill.borrow().is_none() {
                Ok(self.result(base + 2, memory_max))
            } else {
                Err(self.failure(base + 2))
            };
            ffi::lua_settop(state, base);
            result
        };
        shared.reply.replace(Reply::Nil);
        if let Some(panic) = shared.panic.take() {
            std::panic::resume_unwind(panic);
        }
        result
    }

    /// The reply a script's return value at `index` stands for.
    unsafe fn result(&self, index: c_int, memory_max: usize) -> Reply {
        // SAFETY: see `read_reply`; growing the stack for nested tables may need memory, so the
        // limit is lifted while it runs: then growing cannot fail, and nothing can raise.
        unsafe {
            if ffi::lua_type(self.state, index) != ffi::LUA_TTABLE {
                return read_reply(self.state, index, &self.refs, self.shared.resp3.get(), 0);
            }
            // The interpreter is ours, so its memory can be governed and this cannot fail.
            let _ = self.lua.set_memory_limit(0);
            let reply = read_reply(self.state, index, &self.refs, self.shared.resp3.get(), 0);
            let _ = self.lua.set_memory_limit(memory_max);
            reply
        }
    }

    unsafe fn failure(&self, index: c_int) -> Failure {
        let shared = &*self.shared;
        if let Some(error) = shared.kill.borrow().clone() {
            return Failure::Killed(error, shared.error_line.get());
        }
        let line = shared.error_line.get();
        // SAFETY: raw reads of existing values; they neither allocate nor raise.
        unsafe {
            let state = self.state;
            if ffi::lua_type(state, index) == ffi::LUA_TTABLE {
                raw_field(state, index, self.refs.fields[0]);
                let text = if ffi::lua_type(state, -1) == ffi::LUA_TSTRING {
                    string_at(state, -1).to_vec()
                } else {
                    b"ERR unknown error".to_vec()
                };
                ffi::lua_pop(state, 1);
                return Failure::Raised { text, line };
            }
            let mut text = b"ERR ".to_vec();
            text.extend(error_text(state, index).unwrap_or_else(|| b"unknown error".to_vec()));
            Failure::Raised { text, line }
        }
    }
}

struct CompileJob<'a> {
    body: &'a [u8],
    /// The environment of a library's code.
    env: Option<c_int>,
    chunk: c_int,
}

unsafe extern "C-unwind" fn compile_protected(state: *mut lua_State) -> c_int {
    // SAFETY: argument 1 is the job `compile` passed; protected mode; nothing owned here.
    unsafe {
        let job = &mut *ffi::lua_touserdata(state, 1).cast::<CompileJob<'_>>();
        let (text, len) = (job.body.as_ptr().cast::<c_char>(), job.body.len());
        let source = if job.env.is_some() { FUNCTION_SOURCE } else { SCRIPT_SOURCE };
        if ffi::luaL_loadbuffer(state, text, len, source.as_ptr()) != 0 {
            ffi::lua_error(state);
        }
        if let Some(env) = job.env {
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, env.into());
            ffi::lua_setfenv(state, -2);
        }
        job.chunk = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        0
    }
}

struct Frame<'a> {
    chunk: ChunkRef,
    entry: &'a Entry<'a>,
    refs: &'a Refs,
}

/// Calls the chunk as its entry says; runs in protected mode.
unsafe extern "C-unwind" fn enter(state: *mut lua_State) -> c_int {
    // SAFETY: argument 1 is the frame `run` passed; only borrowed data is live.
    unsafe {
        let frame = &*ffi::lua_touserdata(state, 1).cast::<Frame<'_>>();
        let place = |place: c_int| {
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, place.into());
        };
        let refs = frame.refs;
        match *frame.entry {
            Entry::Script { keys, argv } => {
                place(refs.globals);
                for (name, values) in [(refs.keys, keys), (refs.argv, argv)] {
                    place(name);
                    push_strings(state, values);
                    ffi::lua_rawset(state, -3);
                }
                place(frame.chunk.0);
                ffi::lua_call(state, 0, 1);
            }
            Entry::Load => {
                place(refs.load_library);
                place(frame.chunk.0);
                ffi::lua_call(state, 1, 1);
            }
            Entry::Function { name, keys, argv } => {
                place(refs.call_function);
                place(frame.chunk.0);
                push_bytes(state, name);
                push_strings(state, keys);
                push_strings(state, argv);
                ffi::lua_call(state, 4, 1);
            }
        }
        1
    }
}

unsafe fn push_strings(state: *mut lua_State, values: &[&[u8]]) {
    // SAFETY: the caller is in protected mode and owns nothing.
    unsafe {
        ffi::lua_createtable(state, c_int::try_from(values.len()).unwrap_or(0), 0);
        for (i, value) in values.iter().enumerate() {
            push_bytes(state, value);
            ffi::lua_rawseti(state, -2, (i + 1) as ffi::lua_Integer);
        }
    }
}

/// Notes the script line an uncaught error comes from, and passes the error on.
unsafe extern "C-unwind" fn handler(state: *mut lua_State) -> c_int {
    // SAFETY: `lua_getstack` and `lua_getinfo("Sl")` fill a plain struct and do not raise.
    unsafe {
        let shared = shared_upvalue(state);
        let mut info: lua_Debug = std::mem::zeroed();
        // Skips C functions and the sandbox's own wrappers; a few levels find the script.
        for level in 1..16 {
            if ffi::lua_getstack(state, level, &raw mut info) == 0 {
                break;
            }
            if ffi::lua_getinfo(state, c"Sl".as_ptr(), &raw mut info) != 0
                && info.currentline > 0
                && [SCRIPT_SOURCE, FUNCTION_SOURCE].contains(&CStr::from_ptr(info.source))
            {
                shared.error_line.set(info.currentline);
                break;
            }
        }
        1
    }
}

/// Called every `instructions_per_interrupt` instructions.
unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut lua_Debug) {
    // SAFETY: the registry holds the pointer `install` put there; `ask` returns before the raise
    // and nothing with a destructor is live then.
    unsafe {
        ffi::lua_pushlightuserdata(state, (&raw const SHARED_KEY).cast_mut().cast::<c_void>());
        ffi::lua_rawget(state, ffi::LUA_REGISTRYINDEX);
        let shared = &*ffi::lua_touserdata(state, -1).cast::<Shared>();
        ffi::lua_pop(state, 1);
        if must_die(shared) {
            raise_kill(state);
        }
    }
}

/// Asks the caller whether the script may go on; a panic of the caller is a no.
fn must_die(shared: &Shared) -> bool {
    let so_far = shared.instructions.get() + shared.instructions_per_interrupt.get();
    shared.instructions.set(so_far);
    if shared.kill.borrow().is_some() {
        return true;
    }
    match shared.ask(|caller| caller.interrupt(so_far)) {
        Some(Interrupt::Kill(error)) => {
            shared.kill.replace(Some(error));
            true
        }
        // A panic of the caller is a kill, too.
        _ => shared.kill.borrow().is_some(),
    }
}

/// Stores a panic until Lua's frames are gone, for it cannot unwind through them.
pub(super) fn keep_panic(shared: &Shared, panic: Box<dyn Any + Send>) {
    shared.panic.replace(Some(panic));
    shared.kill.replace(Some(CommandError::known("ERR script aborted")));
}

pub(super) unsafe fn raise_kill(state: *mut lua_State) -> ! {
    // SAFETY: pushing a light userdata does not allocate; the caller owns nothing.
    unsafe {
        ffi::lua_pushlightuserdata(state, (&raw const KILL_MARK).cast_mut().cast::<c_void>());
        ffi::lua_error(state)
    }
}

pub(super) unsafe fn is_kill(state: *mut lua_State, index: c_int) -> bool {
    // SAFETY: plain reads.
    unsafe {
        ffi::lua_type(state, index) == ffi::LUA_TLIGHTUSERDATA
            && ffi::lua_touserdata(state, index).cast_const() == (&raw const KILL_MARK).cast()
    }
}

pub(super) unsafe fn shared_upvalue<'a>(state: *mut lua_State) -> &'a Shared {
    // SAFETY: `install` gives every function that uses this a first upvalue that points to the
    // `Shared` which the `Bridge` keeps alive longer than any run.
    unsafe { &*ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Shared>() }
}

/// Registers every function of this room; protected mode.
unsafe fn install(state: *mut lua_State, shared: *const Shared, setup: &mut Setup) {
    // SAFETY: protected mode; nothing owned; indices are absolute.
    unsafe {
        let pointer = shared.cast_mut().cast::<c_void>();
        ffi::luaL_checkstack(state, 8, std::ptr::null());
        ffi::lua_pushlightuserdata(state, (&raw const SHARED_KEY).cast_mut().cast::<c_void>());
        ffi::lua_pushlightuserdata(state, pointer);
        ffi::lua_rawset(state, ffi::LUA_REGISTRYINDEX);
        let functions: [(&CStr, lua_CFunction); 12] = [
            (c"call", redis_call),
            (c"protected_call", redis_pcall),
            (c"pcall", base::pcall),
            (c"xpcall", base::xpcall),
            (c"rethrow_kill", base::rethrow_kill),
            (c"readonly", base::readonly),
            (c"no_global", base::no_global),
            (c"make_guarded", base::make_guarded),
            (c"make_capped", base::make_capped),
            (c"make_pairs", base::make_pairs),
            (c"make_rep", base::make_rep),
            (c"make_raising", base::make_raising),
        ];
        for (name, function) in functions {
            ffi::lua_pushlightuserdata(state, pointer);
            ffi::lua_pushcclosure(state, function, 1);
            ffi::lua_setfield(state, setup.raw, name.as_ptr());
        }
        // Makes the registry's list of free places exist: `release` relies on it.
        ffi::lua_pushboolean(state, 1);
        let place = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        ffi::luaL_unref(state, ffi::LUA_REGISTRYINDEX, place);
        let refs = &mut setup.refs;
        ffi::lua_pushlightuserdata(state, pointer);
        ffi::lua_pushcclosure(state, handler, 1);
        refs.handler = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        ffi::lua_pushcclosure(state, enter, 0);
        refs.enter = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        ffi::lua_pushvalue(state, setup.globals);
        refs.globals = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        refs.keys = string_ref(state, c"KEYS");
        refs.argv = string_ref(state, c"ARGV");
        for (place, name) in refs.fields.iter_mut().zip(FIELDS) {
            *place = string_ref(state, name);
        }
    }
}

unsafe fn string_ref(state: *mut lua_State, text: &'static CStr) -> c_int {
    // SAFETY: as `install`.
    unsafe {
        push_bytes(state, text.to_bytes());
        ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX)
    }
}
