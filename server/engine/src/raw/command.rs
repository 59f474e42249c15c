//! `redis.call` and `redis.pcall`: arguments to the caller, its reply to Lua values.
//!
//! The rule of `lua.rs` holds: nothing with a destructor on the stack while Lua may raise.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

use mlua::ffi::{self, lua_State};
use smallvec::SmallVec;

use super::lua::{Shared, raise_kill, shared_upvalue};
use super::result::string_at;
use crate::script::number;
use crate::{CommandError, Reply};

/// `redis.call`: errors are raised.
pub(super) unsafe extern "C-unwind" fn redis_call(state: *mut lua_State) -> c_int {
    // SAFETY: as `command`.
    unsafe {
        if command(state) {
            ffi::lua_error(state);
        }
        1
    }
}

/// `redis.pcall`: errors are returned.
pub(super) unsafe extern "C-unwind" fn redis_pcall(state: *mut lua_State) -> c_int {
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
        // The arguments, which may be as many as the stack holds, make way for the reply.
        ffi::lua_settop(state, 0);
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
        match shared.ask(|caller| caller.call(&args)) {
            Some(reply) => {
                shared.reply.replace(reply);
                true
            }
            // The caller panicked. It is always there, for scripts run only inside `enter`.
            None => false,
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
            Reply::Decimal(text) if resp3 => {
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_pushnumber(state, crate::value::number::parse_f64(text).unwrap_or(0.0));
                ffi::lua_setfield(state, -2, c"double".as_ptr());
            }
            Reply::Verbatim(bytes) | Reply::BigNumber(bytes) | Reply::Decimal(bytes) => {
                push_bytes(state, bytes);
            }
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
            Reply::Map(entries) | Reply::PairMap(entries) if resp3 => {
                open(state);
                for (key, value) in entries {
                    push_reply(state, key, resp3);
                    push_reply(state, value, resp3);
                    set_entry(state);
                }
                ffi::lua_setfield(state, -2, c"map".as_ptr());
            }
            Reply::Record(fields) if resp3 => {
                open(state);
                for (name, value) in fields {
                    push_bytes(state, name.as_bytes());
                    push_reply(state, value, resp3);
                    set_entry(state);
                }
                ffi::lua_setfield(state, -2, c"map".as_ptr());
            }
            Reply::Record(fields) => {
                ffi::lua_createtable(state, table_room(fields.len()), 0);
                for (i, (_, value)) in fields.iter().enumerate() {
                    push_reply(state, value, resp3);
                    ffi::lua_rawseti(state, -2, (i + 1) as ffi::lua_Integer);
                }
            }
            Reply::Pairs(entries) if resp3 => push_pairs(state, entries, resp3),
            Reply::PairMap(entries) => push_pairs(state, entries, resp3),
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

/// Pushes an array of two-element arrays.
unsafe fn push_pairs(state: *mut lua_State, pairs: &[(Reply, Reply)], resp3: bool) {
    // SAFETY: as `push_reply`.
    unsafe {
        ffi::lua_createtable(state, table_room(pairs.len()), 0);
        for (i, (first, second)) in pairs.iter().enumerate() {
            ffi::lua_createtable(state, 2, 0);
            push_reply(state, first, resp3);
            ffi::lua_rawseti(state, -2, 1);
            push_reply(state, second, resp3);
            ffi::lua_rawseti(state, -2, 2);
            ffi::lua_rawseti(state, -2, (i + 1) as ffi::lua_Integer);
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

pub(super) unsafe fn push_bytes(state: *mut lua_State, bytes: &[u8]) {
    // SAFETY: as `push_reply`; the bytes are copied.
    unsafe {
        ffi::lua_pushlstring(state, bytes.as_ptr().cast::<c_char>(), bytes.len());
    }
}
