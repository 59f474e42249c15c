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
use std::slice;

use mlua::Lua;
use mlua::ffi::{self, lua_CFunction, lua_Debug, lua_State};
use smallvec::SmallVec;

use super::scoped::CallerSlot;
use crate::script::{Interrupt, number};
use crate::{Blob, CommandError, Reply};

/// How deep a script's result may nest; each level costs a frame here and in the encoder.
const RESULT_DEPTH_MAX: usize = 1_000;

/// The longest pattern `string.find` and its kin accept: the matcher recurses once per item.
const PATTERN_LEN_MAX: usize = 2_048;

/// Its address is the error value that means "this script is being killed".
static KILL_MARK: u8 = 0;
/// Its address is the registry key of the [`Shared`] pointer, for the hook has no upvalues.
static SHARED_KEY: u8 = 1;

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
    reply: RefCell<Reply>,
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

/// How a run that did not return a value ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller's interrupt said so.
    Killed(CommandError),
    /// An error nobody caught: its text with a code, and the line if known.
    Raised {
        /// `ERR user_script:1: …`
        text: Vec<u8>,
        /// 1-based; 0 is unknown.
        line: i32,
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
struct Refs {
    handler: c_int,
    enter: c_int,
    globals: c_int,
    keys: c_int,
    argv: c_int,
    fields: [c_int; FIELDS.len()],
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
                let mut setup = Setup {
                    raw: top - 1,
                    globals: top,
                    refs: Refs::default(),
                };
                install(state, shared_pointer, &mut setup);
                *out = setup.refs;
                ffi::lua_settop(state, 0);
            })?;
        }
        let state = lua.exec_raw_lua(|raw| raw.state());
        Ok(Self {
            lua: lua.clone(),
            state,
            shared,
            refs,
        })
    }

    /// Compiles `body` as a script.
    ///
    /// # Errors
    /// Lua's message, without a code.
    pub(crate) fn compile(&self, body: &[u8]) -> Result<ChunkRef, Vec<u8>> {
        // Precompiled chunks can crash the interpreter; they never get that far.
        if body.first() == Some(&0x1b) {
            return Err(b"user_script:1: unexpected symbol near 'char(27)'".to_vec());
        }
        let mut job = CompileJob {
            body,
            status: 0,
            chunk: 0,
        };
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
        keys: &[&[u8]],
        argv: &[&[u8]],
        instructions_per_interrupt: u32,
        memory_max: usize,
    ) -> Result<Reply, Failure> {
        let shared = &*self.shared;
        shared.resp3.set(false);
        shared.random.set(None);
        shared.run.set(shared.run.get() + 1);
        shared.error_line.set(0);
        shared.instructions.set(0);
        shared
            .instructions_per_interrupt
            .set(u64::from(instructions_per_interrupt));
        shared.kill.replace(None);
        let frame = Frame {
            chunk,
            keys,
            argv,
            refs: &self.refs,
        };
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
            let result = if status == 0 {
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
            return Failure::Killed(error);
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
    status: c_int,
    chunk: c_int,
}

unsafe extern "C-unwind" fn compile_protected(state: *mut lua_State) -> c_int {
    // SAFETY: argument 1 is the job `compile` passed; protected mode; nothing owned here.
    unsafe {
        let job = &mut *ffi::lua_touserdata(state, 1).cast::<CompileJob<'_>>();
        job.status = ffi::luaL_loadbuffer(
            state,
            job.body.as_ptr().cast::<c_char>(),
            job.body.len(),
            c"@user_script".as_ptr(),
        );
        if job.status != 0 {
            ffi::lua_error(state);
        }
        job.chunk = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        0
    }
}

struct Frame<'a> {
    chunk: ChunkRef,
    keys: &'a [&'a [u8]],
    argv: &'a [&'a [u8]],
    refs: &'a Refs,
}

/// Sets KEYS and ARGV and calls the script; runs in protected mode.
unsafe extern "C-unwind" fn enter(state: *mut lua_State) -> c_int {
    // SAFETY: argument 1 is the frame `run` passed; only borrowed data is live.
    unsafe {
        let frame = &*ffi::lua_touserdata(state, 1).cast::<Frame<'_>>();
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, frame.refs.globals.into());
        for (name, values) in [(frame.refs.keys, frame.keys), (frame.refs.argv, frame.argv)] {
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, name.into());
            push_strings(state, values);
            ffi::lua_rawset(state, -3);
        }
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, frame.chunk.0.into());
        ffi::lua_call(state, 0, 1);
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
                && CStr::from_ptr(info.source) == c"@user_script"
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
    let answer = catch_unwind(AssertUnwindSafe(|| {
        shared.caller.with(|c| c.interrupt(so_far))
    }));
    match answer {
        Ok(None | Some(Interrupt::Continue)) => false,
        Ok(Some(Interrupt::Kill(error))) => {
            shared.kill.replace(Some(error));
            true
        }
        Err(panic) => {
            keep_panic(shared, panic);
            true
        }
    }
}

/// Stores a panic until Lua's frames are gone, for it cannot unwind through them.
fn keep_panic(shared: &Shared, panic: Box<dyn Any + Send>) {
    shared.panic.replace(Some(panic));
    shared
        .kill
        .replace(Some(CommandError::known("ERR script aborted")));
}

unsafe fn raise_kill(state: *mut lua_State) -> ! {
    // SAFETY: pushing a light userdata does not allocate; the caller owns nothing.
    unsafe {
        ffi::lua_pushlightuserdata(state, (&raw const KILL_MARK).cast_mut().cast::<c_void>());
        ffi::lua_error(state)
    }
}

unsafe fn is_kill(state: *mut lua_State, index: c_int) -> bool {
    // SAFETY: plain reads.
    unsafe {
        ffi::lua_type(state, index) == ffi::LUA_TLIGHTUSERDATA
            && ffi::lua_touserdata(state, index).cast_const() == (&raw const KILL_MARK).cast()
    }
}

unsafe fn shared_upvalue<'a>(state: *mut lua_State) -> &'a Shared {
    // SAFETY: `install` gives every function that uses this a first upvalue that points to the
    // `Shared` which the `Bridge` keeps alive longer than any run.
    unsafe { &*ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Shared>() }
}

/// `redis.call`: errors are raised.
unsafe extern "C-unwind" fn redis_call(state: *mut lua_State) -> c_int {
    // SAFETY: as `command`.
    unsafe {
        if command(state) {
            ffi::lua_error(state);
        }
        1
    }
}

/// `redis.pcall`: errors are returned.
unsafe extern "C-unwind" fn redis_pcall(state: *mut lua_State) -> c_int {
    // SAFETY: as `command`.
    unsafe {
        command(state);
        1
    }
}

/// Executes the command on the stack and pushes its reply; answers whether it is an error.
unsafe fn command(state: *mut lua_State) -> bool {
    // SAFETY: `perform` returns before anything raises; the reply being pushed lives in `shared`
    // and stays there if a push raises.
    unsafe {
        let shared = shared_upvalue(state);
        if !perform(state, shared) {
            raise_kill(state);
        }
        let reply = &*shared.reply.as_ptr().cast_const();
        push_reply(state, reply, shared.resp3.get());
        let is_error = matches!(reply, Reply::Error(_));
        // Frees a long reply now rather than at the next command.
        if !matches!(reply, Reply::Nil | Reply::Integer(_) | Reply::Ok) {
            shared.reply.replace(Reply::Nil);
        }
        is_error
    }
}

/// Collects the arguments and has the caller execute them; the reply goes to `shared.reply`.
/// Answers false if the script must be killed.
#[inline(never)]
unsafe fn perform(state: *mut lua_State, shared: &Shared) -> bool {
    // SAFETY: `lua_gettop`, `lua_type`, `lua_tonumber` and `lua_tolstring` of a string neither
    // allocate nor raise. The strings stay on the stack, hence alive and unmoved, while the
    // slices are used: the caller cannot touch this interpreter (`Vm` is busy).
    unsafe {
        let count = ffi::lua_gettop(state);
        if count == 0 {
            shared.reply.replace(Reply::error(CommandError::known(
                "ERR Please specify at least one argument for this redis.call() call",
            )));
            return true;
        }
        let mut numbers: SmallVec<[number::Text; 2]> = SmallVec::new();
        for index in 1..=count {
            match ffi::lua_type(state, index) {
                ffi::LUA_TSTRING => {}
                ffi::LUA_TNUMBER => {
                    numbers.push(number::Text::new(ffi::lua_tonumber(state, index)));
                }
                _ => {
                    shared.reply.replace(Reply::error(CommandError::known(
                        "ERR Lua redis lib command arguments must be strings or integers",
                    )));
                    return true;
                }
            }
        }
        let mut next_number = numbers.iter();
        let args: SmallVec<[&[u8]; 8]> = (1..=count)
            .map(|index| match ffi::lua_type(state, index) {
                ffi::LUA_TSTRING => string_at(state, index),
                _ => next_number.next().map_or(&b""[..], number::Text::as_bytes),
            })
            .collect();
        let answer = catch_unwind(AssertUnwindSafe(|| shared.caller.with(|c| c.call(&args))));
        match answer {
            Ok(reply) => {
                let none = || {
                    Reply::error(CommandError::known(
                        "ERR redis.call/pcall can only be called inside a script invocation",
                    ))
                };
                shared.reply.replace(reply.unwrap_or_else(none));
                true
            }
            Err(panic) => {
                keep_panic(shared, panic);
                false
            }
        }
    }
}

/// Pushes the Lua value of `reply`.
/// Source: <https://redis.io/docs/latest/develop/interact/programmability/lua-api/#data-type-conversion>
unsafe fn push_reply(state: *mut lua_State, reply: &Reply, resp3: bool) {
    // SAFETY: the caller is in protected mode, `reply` is borrowed from `Shared`, and nothing
    // here has a destructor (iterators of slices have none).
    unsafe {
        ffi::luaL_checkstack(state, 6, c"reply nests too deep".as_ptr());
        match reply {
            Reply::Bulk(bytes) => push_bytes(state, bytes),
            Reply::Integer(n) => ffi::lua_pushnumber(state, *n as f64),
            Reply::Nil | Reply::NilArray => push_nil(state, resp3),
            Reply::Ok => push_field(state, c"ok", b"OK"),
            Reply::Simple(text) => push_field(state, c"ok", text.as_bytes()),
            Reply::Error(error) => {
                push_field(state, c"err", error.text().as_bytes());
                ffi::lua_pushboolean(state, 1);
                ffi::lua_setfield(state, -2, c"ignore_error_stats_update".as_ptr());
            }
            Reply::Double(n) if resp3 => {
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_pushnumber(state, *n);
                ffi::lua_setfield(state, -2, c"double".as_ptr());
            }
            Reply::Double(n) => push_bytes(state, number::Text::new(*n).as_bytes()),
            Reply::Bool(yes) if resp3 => ffi::lua_pushboolean(state, c_int::from(*yes)),
            Reply::Bool(yes) => ffi::lua_pushnumber(state, f64::from(u8::from(*yes))),
            Reply::Verbatim(bytes) if resp3 => {
                ffi::lua_createtable(state, 0, 1);
                push_field(state, c"string", bytes);
                push_bytes(state, b"txt");
                ffi::lua_setfield(state, -2, c"format".as_ptr());
                ffi::lua_setfield(state, -2, c"verbatim_string".as_ptr());
            }
            Reply::BigNumber(bytes) if resp3 => push_field(state, c"big_number", bytes),
            Reply::Verbatim(bytes) | Reply::BigNumber(bytes) => push_bytes(state, bytes),
            Reply::Array(items) | Reply::Push(items) => push_array(state, items, resp3),
            Reply::Set(items) if !resp3 => push_array(state, items, resp3),
            Reply::Bulks(list) => push_list(state, list, resp3),
            Reply::BulkSet(list) | Reply::BulkMap(list) if !resp3 => {
                push_list(state, list, resp3);
            }
            Reply::Set(items) => {
                open(state);
                for item in items {
                    push_reply(state, item, resp3);
                    ffi::lua_pushboolean(state, 1);
                    set_entry(state);
                }
                ffi::lua_setfield(state, -2, c"set".as_ptr());
            }
            Reply::BulkSet(list) => {
                open(state);
                for item in list.iter() {
                    push_optional(state, item, resp3);
                    ffi::lua_pushboolean(state, 1);
                    set_entry(state);
                }
                ffi::lua_setfield(state, -2, c"set".as_ptr());
            }
            Reply::BulkMap(list) => {
                open(state);
                let mut items = list.iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    push_optional(state, key, resp3);
                    push_optional(state, value, resp3);
                    set_entry(state);
                }
                ffi::lua_setfield(state, -2, c"map".as_ptr());
            }
            Reply::Map(entries) if resp3 => {
                open(state);
                for (key, value) in entries {
                    push_reply(state, key, resp3);
                    push_reply(state, value, resp3);
                    set_entry(state);
                }
                ffi::lua_setfield(state, -2, c"map".as_ptr());
            }
            Reply::Pairs(entries) if resp3 => {
                ffi::lua_createtable(state, table_room(entries.len()), 0);
                for (i, (first, second)) in entries.iter().enumerate() {
                    ffi::lua_createtable(state, 2, 0);
                    push_reply(state, first, resp3);
                    ffi::lua_rawseti(state, -2, 1);
                    push_reply(state, second, resp3);
                    ffi::lua_rawseti(state, -2, 2);
                    ffi::lua_rawseti(state, -2, (i + 1) as ffi::lua_Integer);
                }
            }
            Reply::Map(entries) | Reply::Pairs(entries) => {
                ffi::lua_createtable(state, table_room(entries.len() * 2), 0);
                for (i, (first, second)) in entries.iter().enumerate() {
                    push_reply(state, first, resp3);
                    ffi::lua_rawseti(state, -2, (2 * i + 1) as ffi::lua_Integer);
                    push_reply(state, second, resp3);
                    ffi::lua_rawseti(state, -2, (2 * i + 2) as ffi::lua_Integer);
                }
            }
        }
    }
}

/// Pushes the outer table of a map or set and the inner one to be filled.
unsafe fn open(state: *mut lua_State) {
    // SAFETY: as `push_reply`.
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        ffi::lua_createtable(state, 0, 0);
    }
}

/// Stores the pair on top of the stack, unless the key cannot be one (nil or NaN).
unsafe fn set_entry(state: *mut lua_State) {
    // SAFETY: as `push_reply`.
    unsafe {
        let bad = match ffi::lua_type(state, -2) {
            ffi::LUA_TNIL => true,
            ffi::LUA_TNUMBER => ffi::lua_tonumber(state, -2).is_nan(),
            _ => false,
        };
        if bad {
            ffi::lua_pop(state, 2);
        } else {
            ffi::lua_rawset(state, -3);
        }
    }
}

unsafe fn push_array(state: *mut lua_State, items: &[Reply], resp3: bool) {
    // SAFETY: as `push_reply`.
    unsafe {
        ffi::lua_createtable(state, table_room(items.len()), 0);
        for (i, item) in items.iter().enumerate() {
            push_reply(state, item, resp3);
            ffi::lua_rawseti(state, -2, (i + 1) as ffi::lua_Integer);
        }
    }
}

unsafe fn push_list(state: *mut lua_State, list: &crate::BulkList, resp3: bool) {
    // SAFETY: as `push_reply`.
    unsafe {
        ffi::lua_createtable(state, table_room(list.len()), 0);
        for (i, item) in list.iter().enumerate() {
            push_optional(state, item, resp3);
            ffi::lua_rawseti(state, -2, (i + 1) as ffi::lua_Integer);
        }
    }
}

unsafe fn push_optional(state: *mut lua_State, bytes: Option<&[u8]>, resp3: bool) {
    // SAFETY: as `push_reply`.
    unsafe {
        match bytes {
            Some(bytes) => push_bytes(state, bytes),
            None => push_nil(state, resp3),
        }
    }
}

unsafe fn push_nil(state: *mut lua_State, resp3: bool) {
    // SAFETY: plain pushes.
    unsafe {
        if resp3 {
            ffi::lua_pushnil(state);
        } else {
            ffi::lua_pushboolean(state, 0);
        }
    }
}

unsafe fn push_field(state: *mut lua_State, name: &'static CStr, value: &[u8]) {
    // SAFETY: as `push_reply`.
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        push_bytes(state, value);
        ffi::lua_setfield(state, -2, name.as_ptr());
    }
}

fn table_room(len: usize) -> c_int {
    c_int::try_from(len).unwrap_or(0)
}

unsafe fn push_bytes(state: *mut lua_State, bytes: &[u8]) {
    // SAFETY: as `push_reply`; the bytes are copied.
    unsafe {
        ffi::lua_pushlstring(state, bytes.as_ptr().cast::<c_char>(), bytes.len());
    }
}

/// The bytes of the string at `index`, which must be one (a number would be converted in place,
/// which allocates). The slice is valid while the string stays on the stack.
unsafe fn string_at<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: Lua strings are immutable and do not move; the caller keeps it on the stack.
    unsafe {
        let mut len = 0;
        let start = ffi::lua_tolstring(state, index, &raw mut len);
        if start.is_null() {
            b""
        } else {
            slice::from_raw_parts(start.cast::<u8>(), len)
        }
    }
}

/// What `tostring` makes of an error value that is no table, as far as it is worth telling.
unsafe fn error_text(state: *mut lua_State, index: c_int) -> Option<Vec<u8>> {
    // SAFETY: plain reads.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TSTRING => Some(string_at(state, index).to_vec()),
            ffi::LUA_TNUMBER => {
                Some(number::format_g(ffi::lua_tonumber(state, index), 14).into_bytes())
            }
            ffi::LUA_TNIL => Some(b"nil".to_vec()),
            ffi::LUA_TBOOLEAN if ffi::lua_toboolean(state, index) != 0 => Some(b"true".to_vec()),
            ffi::LUA_TBOOLEAN => Some(b"false".to_vec()),
            _ => None,
        }
    }
}

/// Pushes `table[field]` without metamethods.
unsafe fn raw_field(state: *mut lua_State, table: c_int, field: c_int) {
    // SAFETY: `table` is absolute; the key is an interned string, so nothing allocates or raises.
    unsafe {
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, field.into());
        ffi::lua_rawget(state, table);
    }
}

/// The reply for the value at the absolute `index`, by Redis's rules.
unsafe fn read_reply(
    state: *mut lua_State,
    index: c_int,
    refs: &Refs,
    resp3: bool,
    depth: usize,
) -> Reply {
    // SAFETY: the value's own reads are plain; `read_table` argues the rest.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TSTRING => Reply::bulk(string_at(state, index)),
            ffi::LUA_TNUMBER => Reply::Integer(number::truncate(ffi::lua_tonumber(state, index))),
            ffi::LUA_TBOOLEAN => match (ffi::lua_toboolean(state, index) != 0, resp3) {
                (yes, true) => Reply::Bool(yes),
                (true, false) => Reply::Integer(1),
                (false, false) => Reply::Nil,
            },
            ffi::LUA_TTABLE if depth >= RESULT_DEPTH_MAX => stack_limit(),
            ffi::LUA_TTABLE => read_table(state, index, refs, resp3, depth + 1),
            _ => Reply::Nil,
        }
    }
}

fn stack_limit() -> Reply {
    Reply::error(CommandError::known("ERR reached lua stack limit"))
}

unsafe fn read_table(
    state: *mut lua_State,
    table: c_int,
    refs: &Refs,
    resp3: bool,
    depth: usize,
) -> Reply {
    // SAFETY: the memory limit is off (see `Bridge::result`), so `lua_checkstack` cannot fail
    // for want of memory; it answers 0 at Lua's own bound. Raw reads do not raise; `lua_next`
    // raises only on a key that is not in the table, and the key here always is.
    unsafe {
        if ffi::lua_checkstack(state, 6) == 0 {
            return stack_limit();
        }
        let base = ffi::lua_gettop(state);
        let [
            err,
            ok,
            double,
            map,
            set,
            big_number,
            verbatim,
            string,
            _format,
        ] = refs.fields;
        let reply = 'found: {
            for field in [err, ok, big_number] {
                raw_field(state, table, field);
                if ffi::lua_type(state, -1) == ffi::LUA_TSTRING {
                    let text = string_at(state, -1);
                    break 'found if field == err {
                        Reply::error(CommandError::new(String::from_utf8_lossy(text)))
                    } else if field == ok {
                        status(text)
                    } else {
                        Reply::BigNumber(Blob::from(one_line(text)))
                    };
                }
                ffi::lua_pop(state, 1);
            }
            raw_field(state, table, double);
            if ffi::lua_type(state, -1) == ffi::LUA_TNUMBER {
                break 'found Reply::Double(ffi::lua_tonumber(state, -1));
            }
            raw_field(state, table, map);
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                break 'found Reply::Map(read_pairs(state, refs, resp3, depth));
            }
            raw_field(state, table, set);
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                let pairs = read_pairs(state, refs, resp3, depth);
                break 'found Reply::Set(pairs.into_iter().map(|(member, _)| member).collect());
            }
            raw_field(state, table, verbatim);
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                let inner = ffi::lua_gettop(state);
                raw_field(state, inner, string);
                if ffi::lua_type(state, -1) == ffi::LUA_TSTRING {
                    break 'found Reply::Verbatim(Blob::copy_from(string_at(state, -1)));
                }
            }
            ffi::lua_settop(state, base);
            let mut items = Vec::new();
            for i in 1.. {
                ffi::lua_rawgeti(state, table, i);
                if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
                    break;
                }
                items.push(read_reply(state, base + 1, refs, resp3, depth));
                ffi::lua_pop(state, 1);
            }
            Reply::Array(items)
        };
        ffi::lua_settop(state, base);
        reply
    }
}

/// The entries of the table on top of the stack.
unsafe fn read_pairs(
    state: *mut lua_State,
    refs: &Refs,
    resp3: bool,
    depth: usize,
) -> Vec<(Reply, Reply)> {
    // SAFETY: as `read_table`; `read_reply` leaves the key on the stack unchanged, in
    // particular it never turns a number into a string.
    unsafe {
        let table = ffi::lua_gettop(state);
        if ffi::lua_checkstack(state, 6) == 0 {
            return Vec::new();
        }
        let mut pairs = Vec::new();
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            let key = read_reply(state, table + 1, refs, resp3, depth);
            pairs.push((key, read_reply(state, table + 2, refs, resp3, depth)));
            ffi::lua_settop(state, table + 1);
        }
        pairs
    }
}

fn status(text: &[u8]) -> Reply {
    if text == b"OK" {
        Reply::Ok
    } else {
        Reply::Simple(one_line(text).into())
    }
}

/// `text` fit for one line of the protocol.
fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}

/// `pcall` as Redis has it: an error table with a text comes out as that text.
unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    // SAFETY: runs inside the script's protected call; nothing owned.
    unsafe {
        ffi::luaL_checkany(state, 1);
        let status = ffi::lua_pcall(state, ffi::lua_gettop(state) - 1, ffi::LUA_MULTRET, 0);
        ffi::luaL_checkstack(state, 3, std::ptr::null());
        if status != 0 {
            if is_kill(state, -1) {
                ffi::lua_error(state);
            }
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                ffi::lua_pushlstring(state, c"err".as_ptr(), 3);
                ffi::lua_rawget(state, -2);
                if ffi::lua_type(state, -1) == ffi::LUA_TSTRING {
                    ffi::lua_replace(state, -2);
                } else {
                    ffi::lua_pop(state, 1);
                }
            }
        }
        ffi::lua_pushboolean(state, c_int::from(status == 0));
        ffi::lua_insert(state, 1);
        ffi::lua_gettop(state)
    }
}

/// `xpcall`, with the handler called after unwinding: hooks are off inside Lua's own handler
/// call when a hook raised the error, so a handler that loops could never be interrupted.
unsafe extern "C-unwind" fn xpcall(state: *mut lua_State) -> c_int {
    // SAFETY: runs inside the script's protected call; nothing owned.
    unsafe {
        ffi::luaL_checkany(state, 2);
        ffi::lua_settop(state, 2);
        ffi::lua_pushvalue(state, 1);
        let status = ffi::lua_pcall(state, 0, ffi::LUA_MULTRET, 0);
        if status != 0 {
            if is_kill(state, -1) {
                ffi::lua_error(state);
            }
            ffi::lua_pushvalue(state, 2);
            ffi::lua_insert(state, 3);
            if ffi::lua_pcall(state, 1, 1, 0) != 0 && is_kill(state, -1) {
                ffi::lua_error(state);
            }
        }
        ffi::lua_pushboolean(state, c_int::from(status == 0));
        ffi::lua_replace(state, 1);
        ffi::lua_remove(state, 2);
        ffi::lua_gettop(state)
    }
}

/// Raises the killing error again if the value is its mark: what `coroutine.resume` caught.
unsafe extern "C-unwind" fn rethrow_kill(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        if is_kill(state, 1) {
            raise_kill(state);
        }
        0
    }
}

/// Makes `raising` closures: (function) → function.
unsafe extern "C-unwind" fn make_raising(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        ffi::lua_settop(state, 1);
        ffi::lua_pushcclosure(state, raising, 1);
        1
    }
}

/// Calls a library function written in Rust, which answers `true` and results or `false` and an
/// error, and raises the error as a C function would: with the position of its caller.
unsafe extern "C-unwind" fn raising(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        let count = ffi::lua_gettop(state);
        ffi::luaL_checkstack(state, 2, std::ptr::null());
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, count, ffi::LUA_MULTRET);
        if ffi::lua_toboolean(state, 1) != 0 {
            return ffi::lua_gettop(state) - 1;
        }
        if ffi::lua_type(state, 2) == ffi::LUA_TSTRING {
            ffi::luaL_where(state, 1);
            ffi::lua_insert(state, 2);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
    }
}

/// `__newindex` of every read-only table.
unsafe extern "C-unwind" fn readonly(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe { ffi::luaL_error(state, c"Attempt to modify a readonly table".as_ptr()) }
}

/// `__index` of the globals, for names that do not exist.
unsafe extern "C-unwind" fn no_global(state: *mut lua_State) -> c_int {
    // SAFETY: `luaL_checkstring` raises or gives a string that stays on the stack.
    unsafe {
        let name = if ffi::lua_isstring(state, 2) != 0 {
            ffi::luaL_checkstring(state, 2)
        } else {
            ffi::luaL_typename(state, 2)
        };
        ffi::luaL_error(
            state,
            c"Script attempted to access nonexistent global variable '%s'".as_ptr(),
            name,
        )
    }
}

/// Makes `guarded` closures: (proxies, function) → function.
unsafe extern "C-unwind" fn make_guarded(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned; the sandbox passes exactly two values.
    unsafe {
        ffi::lua_settop(state, 2);
        ffi::lua_pushcclosure(state, guarded, 2);
        1
    }
}

/// A standard function that writes to its first argument, refusing read-only tables.
unsafe extern "C-unwind" fn guarded(state: *mut lua_State) -> c_int {
    // SAFETY: upvalue 2 is a C function of the standard library that uses no upvalue of its own
    // (rawset, setmetatable, table.insert), so it may run in this frame.
    unsafe {
        if is_proxy(state) {
            ffi::lua_settop(state, 0);
            push_bytes(state, b"Attempt to modify a readonly table");
            ffi::lua_error(state);
        }
        forward(state, ffi::lua_upvalueindex(2))
    }
}

/// Makes `capped` closures: (function) → function.
unsafe extern "C-unwind" fn make_capped(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        ffi::lua_settop(state, 1);
        ffi::lua_pushcclosure(state, capped, 1);
        1
    }
}

/// A pattern function that refuses patterns deep enough to overflow the C stack.
unsafe extern "C-unwind" fn capped(state: *mut lua_State) -> c_int {
    // SAFETY: upvalue 1 is string.find, match, gmatch or gsub, which use no upvalue of their own.
    unsafe {
        if ffi::lua_type(state, 2) == ffi::LUA_TSTRING
            && ffi::lua_objlen(state, 2) > PATTERN_LEN_MAX
            && string_at(state, 2)
                .iter()
                .any(|byte| b"^$*+?.([%-".contains(byte))
        {
            return ffi::luaL_error(state, c"pattern too complex".as_ptr());
        }
        forward(state, ffi::lua_upvalueindex(1))
    }
}

/// Makes `rep` closures: (function) → function.
unsafe extern "C-unwind" fn make_rep(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        ffi::lua_settop(state, 1);
        ffi::lua_pushcclosure(state, rep, 1);
        1
    }
}

/// `string.rep`, which would repeat nothing two thousand million times: for seconds.
unsafe extern "C-unwind" fn rep(state: *mut lua_State) -> c_int {
    // SAFETY: upvalue 1 is string.rep, which uses no upvalue of its own.
    unsafe {
        if ffi::lua_type(state, 1) == ffi::LUA_TSTRING
            && ffi::lua_objlen(state, 1) == 0
            && ffi::lua_isnumber(state, 2) != 0
        {
            ffi::lua_settop(state, 1);
            return 1;
        }
        forward(state, ffi::lua_upvalueindex(1))
    }
}

/// Runs a C function in the current frame.
unsafe fn forward(state: *mut lua_State, upvalue: c_int) -> c_int {
    // SAFETY: the callers vouch for the function.
    unsafe {
        match ffi::lua_tocfunction(state, upvalue) {
            Some(function) => function(state),
            None => 0,
        }
    }
}

/// Makes the `pairs` of scripts: (proxies, next) → function.
unsafe extern "C-unwind" fn make_pairs(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        ffi::lua_settop(state, 2);
        ffi::lua_pushcclosure(state, pairs, 2);
        1
    }
}

/// `pairs`; of a read-only table it walks a copy, for the proxy itself is empty.
unsafe extern "C-unwind" fn pairs(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned; `lua_next` gets keys it gave.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(state, 1);
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rawget(state, ffi::lua_upvalueindex(1));
        if ffi::lua_type(state, 2) == ffi::LUA_TTABLE {
            ffi::lua_createtable(state, 0, 0);
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, 2) != 0 {
                ffi::lua_pushvalue(state, -2);
                ffi::lua_insert(state, -2);
                ffi::lua_rawset(state, 3);
            }
            ffi::lua_replace(state, 1);
        }
        ffi::lua_settop(state, 1);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_insert(state, 1);
        ffi::lua_pushnil(state);
        3
    }
}

/// Whether argument 1 is a key of the table in upvalue 1.
unsafe fn is_proxy(state: *mut lua_State) -> bool {
    // SAFETY: raw reads; a callback has room for two values.
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            return false;
        }
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rawget(state, ffi::lua_upvalueindex(1));
        let found = ffi::lua_type(state, -1) != ffi::LUA_TNIL;
        ffi::lua_pop(state, 1);
        found
    }
}

/// Registers everything of this file; protected mode.
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
            (c"pcall", pcall),
            (c"xpcall", xpcall),
            (c"rethrow_kill", rethrow_kill),
            (c"readonly", readonly),
            (c"no_global", no_global),
            (c"make_guarded", make_guarded),
            (c"make_capped", make_capped),
            (c"make_pairs", make_pairs),
            (c"make_rep", make_rep),
            (c"make_raising", make_raising),
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
