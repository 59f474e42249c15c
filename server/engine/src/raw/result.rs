//! What a script returns, as a reply. Every read here is raw: no metamethod, no conversion in
//! place, no allocation in the interpreter, hence nothing that raises.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::slice;

use mlua::ffi::{self, lua_State};

use super::lua::Refs;
use crate::script::number;
use crate::{Blob, CommandError, Reply};

/// How deep a script's result may nest; each level costs a frame here and in the encoder.
const RESULT_DEPTH_MAX: usize = 1_000;

/// The bytes of the string at `index`, which must be one (a number would be converted in place,
/// which allocates). The slice is valid while the string stays on the stack.
pub(super) unsafe fn string_at<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    // SAFETY: Lua strings are immutable and do not move; the caller keeps it on the stack.
    unsafe {
        let mut len = 0;
        let start = ffi::lua_tolstring(state, index, &raw mut len);
        if start.is_null() { b"" } else { slice::from_raw_parts(start.cast::<u8>(), len) }
    }
}

/// What `tostring` makes of an error value that is no table, as far as it is worth telling.
pub(super) unsafe fn error_text(state: *mut lua_State, index: c_int) -> Option<Vec<u8>> {
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
pub(super) unsafe fn raw_field(state: *mut lua_State, table: c_int, field: c_int) {
    // SAFETY: `table` is absolute; the key is an interned string, so nothing allocates or raises.
    unsafe {
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, field.into());
        ffi::lua_rawget(state, table);
    }
}

/// The reply for the value at the absolute `index`, by Redis's rules.
pub(super) unsafe fn read_reply(
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
        let [err, ok, double, map, set, big_number, verbatim, string, _format] = refs.fields;
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
    if text == b"OK" { Reply::Ok } else { Reply::Simple(one_line(text).into()) }
}

/// `text` fit for one line of the protocol.
fn one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}
