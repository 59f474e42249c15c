//! Arguments and errors of library functions written in Rust.
//!
//! A library function answers its results or a [`LibError`]; it never raises by itself. The
//! sandbox wraps it in a Lua function that raises, so that scripts catch plain strings and
//! tables, with the position of the line that called.

use mlua::{Lua, LuaString, MultiValue, Table, Value};

/// What a library function answers.
pub(crate) type LibResult = Result<MultiValue, LibError>;

/// Why a library function failed.
#[derive(Debug)]
pub(crate) enum LibError {
    /// Raised as a string with the caller's position in front.
    Text(String),
    /// Raised as a table `{err = text}`, as the functions of `redis` do.
    Reply(&'static str),
    /// An error of the interpreter, which here means that memory ran out.
    Lua(mlua::Error),
}

impl From<mlua::Error> for LibError {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

impl LibError {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// The arguments of one call, numbered from 1 as in Lua's messages.
pub(crate) struct Args<'a> {
    pub(crate) lua: &'a Lua,
    function: &'static str,
    values: &'a MultiValue,
}

impl Args<'_> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn get(&self, position: usize) -> &Value {
        self.values.get(position - 1).unwrap_or(&Value::Nil)
    }

    /// `bad argument #n to 'function' (what)`
    pub(crate) fn bad(&self, position: usize, what: &str) -> LibError {
        LibError::Text(format!("bad argument #{position} to '{}' ({what})", self.function))
    }

    fn expected(&self, position: usize, kind: &str) -> LibError {
        let got = match self.values.get(position - 1) {
            None => "no value",
            Some(value) => type_name(value),
        };
        self.bad(position, &format!("{kind} expected, got {got}"))
    }

    /// A string, or a number as one.
    pub(crate) fn string(&self, position: usize) -> Result<LuaString, LibError> {
        match self.get(position) {
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Integer(_) | Value::Number(_)) => {
                let text = self.lua.coerce_string(value.clone())?;
                text.ok_or_else(|| self.expected(position, "string"))
            }
            _ => Err(self.expected(position, "string")),
        }
    }

    /// A number, or a string that reads as one.
    pub(crate) fn number(&self, position: usize) -> Result<f64, LibError> {
        match self.get(position) {
            Value::Integer(n) => Ok(*n as f64),
            Value::Number(n) => Ok(*n),
            value @ Value::String(_) => self
                .lua
                .coerce_number(value.clone())?
                .ok_or_else(|| self.expected(position, "number")),
            _ => Err(self.expected(position, "number")),
        }
    }

    /// A number as an integer, cut toward zero.
    pub(crate) fn integer(&self, position: usize) -> Result<i64, LibError> {
        self.number(position).map(|n| n as i64)
    }

    /// An integer, or `default` where the argument is absent or nil.
    pub(crate) fn integer_or(&self, position: usize, default: i64) -> Result<i64, LibError> {
        match self.get(position) {
            Value::Nil => Ok(default),
            _ => self.integer(position),
        }
    }
}

/// Lua's name of a value's type.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::Error(_) => "userdata",
        other => other.type_name(),
    }
}

/// Runs `work`, which allocates at most `bytes` in the interpreter, with the memory limit lifted
/// if that much is left: under a limit mlua guards every allocation by a protected call, which
/// doubles the cost of building a table.
pub(crate) fn with_room<R>(lua: &Lua, bytes: usize, work: impl FnOnce() -> R) -> R {
    struct Restore<'a>(&'a Lua, usize);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            // Cannot fail: the interpreter's memory is ours to govern.
            let _ = self.0.set_memory_limit(self.1);
        }
    }
    let limit = lua.set_memory_limit(0).unwrap_or(0);
    let restore = Restore(lua, limit);
    if limit.saturating_sub(lua.used_memory()) < bytes {
        drop(restore);
        return work();
    }
    work()
}

/// How many values a function may return: Lua's own bound, less what a call needs.
pub(crate) const RESULTS_MAX: usize = 7_900;

/// One result.
pub(crate) fn one(value: Value) -> LibResult {
    Ok(MultiValue::from_iter([value]))
}

/// One string.
pub(crate) fn one_string(lua: &Lua, bytes: &[u8]) -> LibResult {
    one(Value::String(lua.create_string(bytes)?))
}

/// Puts `function` into `table`. What is stored answers `true` and the results, or `false` and
/// the error; the sandbox turns that into raising.
pub(crate) fn register(
    lua: &Lua,
    table: &Table,
    name: &'static str,
    function: impl Fn(Args<'_>) -> LibResult + 'static,
) -> mlua::Result<()> {
    let stored = lua.create_function(move |lua, values: MultiValue| {
        let error = match function(Args { lua, function: name, values: &values }) {
            Ok(mut results) => {
                results.push_front(Value::Boolean(true));
                return Ok(results);
            }
            Err(error) => error,
        };
        let error = match error {
            LibError::Text(text) => Value::String(lua.create_string(text)?),
            LibError::Lua(mlua::Error::MemoryError(_)) => {
                Value::String(lua.create_string("not enough memory")?)
            }
            LibError::Lua(mlua::Error::RuntimeError(text)) => {
                Value::String(lua.create_string(text)?)
            }
            LibError::Lua(error) => Value::String(lua.create_string(error.to_string())?),
            LibError::Reply(text) => {
                let table = lua.create_table()?;
                table.raw_set("err", text)?;
                Value::Table(table)
            }
        };
        Ok(MultiValue::from_iter([Value::Boolean(false), error]))
    })?;
    table.raw_set(name, stored)
}
