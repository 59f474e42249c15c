//! Puts together what a script sees: the globals, read-only, and nothing else.
//!
//! Lua 5.1 has no read-only tables, so scripts get empty proxies whose metatable reads from the
//! real table and refuses writes; functions that write raw (rawset, table.insert, setmetatable)
//! refuse proxies. `prelude.lua` does the assembling.

use std::rc::Rc;

use mlua::{Function, Lua, LuaOptions, StdLib, Table};

use super::{bit, cjson, cmsgpack, random, redis_lib, struct_lib};
use crate::raw::lua::{Bridge, Shared};

/// Functions of ours in Lua: wrappers that raise, and the proxies.
const PRELUDE: &str = include_str!("prelude.lua");

/// A new interpreter with its sandbox, and the raw side of it.
pub(crate) fn build(shared: &Rc<Shared>) -> mlua::Result<(Lua, Bridge)> {
    // Coroutines come with the base functions. No io, os, package or debug library exists in the interpreter at all.
    let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
    // Our own pcall and xpcall replace Lua's.
    let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
    let raw = lua.create_table()?;
    let globals = lua.create_table()?;
    let mut bridge = Bridge::new(&lua, Rc::clone(shared), &raw, &globals)?;

    let standard = lua.globals();
    random::install(&lua, &standard.raw_get::<Table>("math")?, shared)?;
    let ours = lua.create_table()?;
    ours.raw_set("redis", redis_lib::table(&lua, shared)?)?;
    ours.raw_set("bit", bit::table(&lua)?)?;
    ours.raw_set("cjson", cjson::table(&lua, shared)?)?;
    ours.raw_set("cmsgpack", cmsgpack::table(&lua)?)?;
    ours.raw_set("struct", struct_lib::table(&lua)?)?;
    let this = Rc::clone(shared);
    let new_cjson = lua.create_function(move |lua, ()| cjson::table(lua, &this))?;

    let prelude: Function = lua.load(PRELUDE).set_name("=prelude").into_function()?;
    let (visible, library_env, load, call): (Table, Table, Function, Function) =
        prelude.call((raw, globals, standard, ours, new_cjson))?;
    lua.set_globals(visible)?;
    bridge.set_library_entries(&load, &call, &library_env)?;
    Ok((lua, bridge))
}
