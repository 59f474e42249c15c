//! Base functions of the sandbox that Lua's own would get wrong: those that catch errors (a
//! killed script must die), those that write raw (shared tables must not change), and those that
//! can hold the thread or overflow the C stack.

#![allow(unsafe_code)]

use std::ffi::c_int;

use mlua::ffi::{self, lua_State};

use super::command::push_bytes;
use super::lua::{is_kill, raise_kill};
use super::result::string_at;
use crate::script::pattern;

/// `pcall` as Redis has it: an error table with a text comes out as that text.
pub(super) unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
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
pub(super) unsafe extern "C-unwind" fn xpcall(state: *mut lua_State) -> c_int {
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
pub(super) unsafe extern "C-unwind" fn rethrow_kill(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe {
        if is_kill(state, 1) {
            raise_kill(state);
        }
        0
    }
}

/// Makes `raising` closures: (function) → function.
pub(super) unsafe extern "C-unwind" fn make_raising(state: *mut lua_State) -> c_int {
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
pub(super) unsafe extern "C-unwind" fn readonly(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned.
    unsafe { ffi::luaL_error(state, c"Attempt to modify a readonly table".as_ptr()) }
}

/// `__index` of the globals, for names that do not exist.
pub(super) unsafe extern "C-unwind" fn no_global(state: *mut lua_State) -> c_int {
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
pub(super) unsafe extern "C-unwind" fn make_guarded(state: *mut lua_State) -> c_int {
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

/// Makes `capped` closures: (function, whether it searches for all matches) → function.
pub(super) unsafe extern "C-unwind" fn make_capped(state: *mut lua_State) -> c_int {
    // SAFETY: nothing owned; the sandbox passes two values.
    unsafe {
        ffi::lua_settop(state, 2);
        ffi::lua_pushcclosure(state, capped, 2);
        1
    }
}

/// A pattern function that refuses what would overflow the C stack or hold the thread.
unsafe extern "C-unwind" fn capped(state: *mut lua_State) -> c_int {
    // SAFETY: upvalue 1 is string.find, match, gmatch or gsub, which use no upvalue of their own.
    unsafe {
        if !is_bounded(state) {
            return ffi::luaL_error(state, c"pattern too complex".as_ptr());
        }
        forward(state, ffi::lua_upvalueindex(1))
    }
}

/// Whether the search for which the arguments stand ends soon.
unsafe fn is_bounded(state: *mut lua_State) -> bool {
    // SAFETY: reads of strings and numbers, nothing raises; the strings stay on the stack.
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TSTRING
            || ffi::lua_type(state, 2) != ffi::LUA_TSTRING
        {
            // A number is a short subject or a plain pattern; the rest is a type error.
            return true;
        }
        let (subject, pattern) = (string_at(state, 1), string_at(state, 2));
        if ffi::lua_toboolean(state, ffi::lua_upvalueindex(2)) != 0 {
            return pattern::is_affordable(subject, pattern, pattern::Extent::All);
        }
        // The third argument is where to begin, negative from the end.
        let len = subject.len() as f64;
        let begin = ffi::lua_tonumber(state, 3);
        let begin = if begin < 0.0 { len + begin } else { begin - 1.0 };
        let subject = &subject[begin.clamp(0.0, len) as usize..];
        if ffi::lua_toboolean(state, 4) != 0 {
            return pattern::is_affordable_plain(subject, pattern);
        }
        pattern::is_affordable(subject, pattern, pattern::Extent::First)
    }
}

/// Makes `rep` closures: (function) → function.
pub(super) unsafe extern "C-unwind" fn make_rep(state: *mut lua_State) -> c_int {
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
pub(super) unsafe extern "C-unwind" fn make_pairs(state: *mut lua_State) -> c_int {
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
