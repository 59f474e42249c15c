//! The table `redis`, except for `call` and `pcall`, which are in `crate::raw::lua`.
//! Source: <https://redis.io/docs/latest/develop/interact/programmability/lua-api/>

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::args::{Args, LibError, LibResult, one, one_string, register};
use super::{RespVersion, Sha, number};
use crate::raw::lua::Shared;

/// The version scripts are told, that of INFO.
const REDIS_VERSION: &str = "7.2.4";
/// `0x00MMmmpp`
const REDIS_VERSION_NUM: i64 = 0x0007_0204;

const LEVELS: [(&str, i64); 4] =
    [("LOG_DEBUG", 0), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", 3)];
const REPLICATION: [(&str, i64); 5] =
    [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)];

/// The functions and constants.
pub(crate) fn table(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, value) in LEVELS.into_iter().chain(REPLICATION) {
        table.raw_set(name, value)?;
    }
    table.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    table.raw_set("REDIS_VERSION_NUM", REDIS_VERSION_NUM)?;
    register(lua, &table, "sha1hex", sha1hex)?;
    register(lua, &table, "error_reply", error_reply)?;
    register(lua, &table, "status_reply", status_reply)?;
    register(lua, &table, "set_repl", set_repl)?;
    register(lua, &table, "replicate_commands", |_| one(Value::Boolean(true)))?;
    register(lua, &table, "breakpoint", |_| one(Value::Boolean(false)))?;
    register(lua, &table, "debug", |_| Ok(MultiValue::new()))?;
    let this = Rc::clone(shared);
    register(lua, &table, "log", move |args| log(&this, &args))?;
    let this = Rc::clone(shared);
    register(lua, &table, "setresp", move |args| setresp(&this, &args))?;
    let this = Rc::clone(shared);
    register(lua, &table, "acl_check_cmd", move |args| acl_check_cmd(&this, &args))?;
    Ok(table)
}

fn sha1hex(args: Args<'_>) -> LibResult {
    if args.len() != 1 {
        return Err(LibError::Reply("ERR wrong number of arguments"));
    }
    let name = match args.get(1) {
        Value::String(text) => Sha::of(&text.as_bytes()),
        Value::Integer(_) | Value::Number(_) => Sha::of(&args.string(1)?.as_bytes()),
        _ => Sha::of(b""),
    };
    one_string(args.lua, name.as_bytes())
}

/// `{err = "CODE message"}`; a message of one word gets the code ERR.
fn error_reply(args: Args<'_>) -> LibResult {
    let (1, Value::String(text)) = (args.len(), args.get(1)) else {
        return wrong_type(&args);
    };
    let text = text.as_bytes();
    let text = text.strip_prefix(b"-").unwrap_or(&text);
    let mut line = if text.contains(&b' ') { Vec::new() } else { b"ERR ".to_vec() };
    line.extend(text.strip_suffix(b"\r\n").unwrap_or(text));
    field(&args, "err", &line)
}

fn status_reply(args: Args<'_>) -> LibResult {
    let (1, Value::String(text)) = (args.len(), args.get(1)) else {
        return wrong_type(&args);
    };
    field(&args, "ok", &text.as_bytes())
}

fn wrong_type(args: &Args<'_>) -> LibResult {
    field(args, "err", b"ERR wrong number or type of arguments")
}

fn field(args: &Args<'_>, name: &str, value: &[u8]) -> LibResult {
    let table = args.lua.create_table()?;
    table.raw_set(name, args.lua.create_string(value)?)?;
    one(Value::Table(table))
}

/// Accepted and without effect: scripts are replicated whole, or by their effects, as the
/// engine decides.
fn set_repl(args: Args<'_>) -> LibResult {
    if args.len() != 1 {
        return Err(LibError::Reply("ERR redis.set_repl() requires two arguments."));
    }
    if !(0..=3).contains(&args.integer(1).unwrap_or(0)) {
        return Err(LibError::Reply(
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ));
    }
    Ok(MultiValue::new())
}

fn log(shared: &Shared, args: &Args<'_>) -> LibResult {
    if args.len() < 2 {
        return Err(LibError::Reply("ERR redis.log() requires two arguments or more."));
    }
    let (Value::Integer(_) | Value::Number(_)) = args.get(1) else {
        return Err(LibError::Reply("ERR First argument must be a number (log level)."));
    };
    let level = args.integer(1)?;
    if !(0..=3).contains(&level) {
        return Err(LibError::Reply("ERR Invalid debug level."));
    }
    let mut text = Vec::new();
    for position in 2..=args.len() {
        if let Ok(part) = args.string(position) {
            if position > 2 {
                text.push(b' ');
            }
            text.extend_from_slice(&part.as_bytes());
        }
    }
    shared.ask(|caller| caller.log(level, &text));
    Ok(MultiValue::new())
}

fn setresp(shared: &Shared, args: &Args<'_>) -> LibResult {
    if args.len() != 1 {
        return Err(LibError::Reply("ERR redis.setresp() requires one argument."));
    }
    let version = match args.number(1) {
        Ok(2.0) => RespVersion::Resp2,
        Ok(3.0) => RespVersion::Resp3,
        _ => return Err(LibError::Reply("ERR RESP version must be 2 or 3.")),
    };
    shared.resp3.set(version == RespVersion::Resp3);
    shared.ask(|caller| caller.set_resp(version));
    Ok(MultiValue::new())
}

fn acl_check_cmd(shared: &Shared, args: &Args<'_>) -> LibResult {
    if args.len() == 0 {
        return Err(LibError::Reply(
            "ERR Please specify at least one argument for this redis.acl_check_cmd() call",
        ));
    }
    let mut owned: Vec<Vec<u8>> = Vec::with_capacity(args.len());
    for position in 1..=args.len() {
        owned.push(match args.get(position) {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Integer(n) => number::Text::new(*n as f64).as_bytes().to_vec(),
            Value::Number(n) => number::Text::new(*n).as_bytes().to_vec(),
            _ => {
                return Err(LibError::Reply(
                    "ERR redis.acl_check_cmd() require strings or integers arguments",
                ));
            }
        });
    }
    let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    match shared.ask(|caller| caller.acl_check(&slices)).flatten() {
        Some(allowed) => one(Value::Boolean(allowed)),
        None => Err(LibError::Reply("ERR Invalid command passed to redis.acl_check_cmd()")),
    }
}
