//! The table `cjson`: JSON, as lua-cjson 2.1 does it.
//!
//! Settings last until the end of the run, not longer: a script's result must not depend on
//! which scripts ran before it on the same thread.
//! Source: <https://www.kyne.com.au/~mark/software/lua-cjson-manual.html>

mod decode;
mod encode;

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::args::{Args, LibError, LibResult, one, one_string, register, with_room};
use crate::raw::lua::Shared;

/// What a script may set about encoding and decoding.
#[derive(Clone, Copy)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_max_depth: i64,
    decode_max_depth: i64,
    number_precision: i64,
    keep_buffer: bool,
    encode_invalid_numbers: InvalidNumbers,
    decode_invalid_numbers: bool,
    decode_array_with_array_mt: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InvalidNumbers {
    Refuse,
    Write,
    Null,
}

const DEFAULT: Settings = Settings {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_max_depth: 1_000,
    decode_max_depth: 1_000,
    number_precision: 14,
    keep_buffer: true,
    encode_invalid_numbers: InvalidNumbers::Refuse,
    decode_invalid_numbers: true,
    decode_array_with_array_mt: false,
};

/// What decoding one character may allocate: the worst is `[` (a table of 64 bytes and a slot).
const BYTES_PER_CHARACTER: usize = 128;

/// What the interpreter's stacks may grow by, for values held while encoding or decoding.
const STACK_BYTES: usize = 1 << 20;

/// The settings of one library table, tied to the run that made them.
struct Store {
    shared: Rc<Shared>,
    current: Cell<(u64, Settings)>,
    array_mt: Table,
}

impl Store {
    fn get(&self) -> Settings {
        let (run, settings) = self.current.get();
        if run == self.shared.run.get() { settings } else { DEFAULT }
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.get();
        change(&mut settings);
        self.current.set((self.shared.run.get(), settings));
    }
}

/// A library table with settings of its own.
pub(crate) fn table(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Table> {
    let array_mt = lua.create_table()?;
    // Out of the scripts' reach, or they would leave marks on it for later runs.
    array_mt.raw_set("__metatable", false)?;
    let store =
        Rc::new(Store { shared: Rc::clone(shared), current: Cell::new((0, DEFAULT)), array_mt });
    let table = lua.create_table()?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    table.raw_set("null", Value::NULL)?;
    let add = |name, function: fn(&Store, &Args<'_>) -> LibResult| {
        let store = Rc::clone(&store);
        register(lua, &table, name, move |args| function(&store, &args))
    };
    add("encode", encode)?;
    add("decode", decode)?;
    add("encode_sparse_array", encode_sparse_array)?;
    add("encode_max_depth", |s, a| depth(s, a, |settings| &mut settings.encode_max_depth))?;
    add("decode_max_depth", |s, a| depth(s, a, |settings| &mut settings.decode_max_depth))?;
    add("encode_number_precision", |s, a| {
        too_many(a, 1)?;
        integer(s, a, 1, 1, 14, |settings| &mut settings.number_precision)
            .and_then(|n| one(Value::Integer(n)))
    })?;
    add("encode_keep_buffer", |s, a| switch(s, a, |settings| &mut settings.keep_buffer))?;
    add("decode_invalid_numbers", |s, a| {
        switch(s, a, |settings| &mut settings.decode_invalid_numbers)
    })?;
    add("decode_array_with_array_mt", |s, a| {
        switch(s, a, |settings| &mut settings.decode_array_with_array_mt)
    })?;
    add("encode_invalid_numbers", encode_invalid_numbers)?;
    Ok(table)
}

fn encode(store: &Store, args: &Args<'_>) -> LibResult {
    if args.len() != 1 {
        return Err(args.bad(1, "expected 1 argument"));
    }
    // Encoding only reads; the stack may grow with the depth.
    let text = with_room(args.lua, STACK_BYTES, || {
        encode::encode(args.get(1), &store.get(), &store.array_mt)
    })?;
    one_string(args.lua, &text)
}

fn decode(store: &Store, args: &Args<'_>) -> LibResult {
    if args.len() != 1 {
        return Err(args.bad(1, "expected 1 argument"));
    }
    let text = args.string(1)?;
    let text = text.as_bytes();
    let room = STACK_BYTES + text.len().saturating_mul(BYTES_PER_CHARACTER);
    one(with_room(args.lua, room, || {
        decode::decode(args.lua, &text, &store.get(), &store.array_mt)
    })?)
}

fn too_many(args: &Args<'_>, most: usize) -> Result<(), LibError> {
    if args.len() > most {
        return Err(args.bad(most + 1, "found too many arguments"));
    }
    Ok(())
}

type Field<T> = fn(&mut Settings) -> &mut T;

fn depth(store: &Store, args: &Args<'_>, field: Field<i64>) -> LibResult {
    too_many(args, 1)?;
    one(Value::Integer(integer(store, args, 1, 1, i64::from(i32::MAX), field)?))
}

/// Sets an integer setting from an argument that may be absent; answers its value.
fn integer(
    store: &Store,
    args: &Args<'_>,
    position: usize,
    low: i64,
    high: i64,
    field: Field<i64>,
) -> Result<i64, LibError> {
    if !matches!(args.get(position), Value::Nil) {
        let n = args.integer(position)?;
        if !(low..=high).contains(&n) {
            let what = format!("expected integer between {low} and {high}");
            return Err(args.bad(1, &what));
        }
        store.change(|settings| *field(settings) = n);
    }
    Ok(*field(&mut store.get()))
}

/// Which of `options` the argument names; a boolean means the first or the second.
fn option(args: &Args<'_>, options: &[&str]) -> Result<Option<usize>, LibError> {
    match args.get(1) {
        Value::Nil => Ok(None),
        Value::Boolean(yes) => Ok(Some(usize::from(*yes))),
        _ => {
            let text = args.string(1)?;
            let text = text.as_bytes();
            match options.iter().position(|option| option.as_bytes() == &*text) {
                Some(index) => Ok(Some(index)),
                None => {
                    let text = String::from_utf8_lossy(&text);
                    Err(args.bad(1, &format!("invalid option '{text}'")))
                }
            }
        }
    }
}

fn switch(store: &Store, args: &Args<'_>, field: Field<bool>) -> LibResult {
    too_many(args, 1)?;
    if let Some(index) = option(args, &["off", "on"])? {
        store.change(|settings| *field(settings) = index == 1);
    }
    one(Value::Boolean(*field(&mut store.get())))
}

fn encode_invalid_numbers(store: &Store, args: &Args<'_>) -> LibResult {
    too_many(args, 1)?;
    if let Some(index) = option(args, &["off", "on", "null"])? {
        store.change(|settings| {
            settings.encode_invalid_numbers =
                [InvalidNumbers::Refuse, InvalidNumbers::Write, InvalidNumbers::Null][index];
        });
    }
    match store.get().encode_invalid_numbers {
        InvalidNumbers::Refuse => one(Value::Boolean(false)),
        InvalidNumbers::Write => one(Value::Boolean(true)),
        InvalidNumbers::Null => one_string(args.lua, b"null"),
    }
}

/// `encode_sparse_array([convert[, ratio[, safe]]])`
fn encode_sparse_array(store: &Store, args: &Args<'_>) -> LibResult {
    too_many(args, 3)?;
    if let Some(index) = option(args, &["off", "on"])? {
        store.change(|settings| settings.sparse_convert = index == 1);
    }
    let most = i64::from(i32::MAX);
    let ratio = integer(store, args, 2, 0, most, |settings| &mut settings.sparse_ratio)?;
    let safe = integer(store, args, 3, 0, most, |settings| &mut settings.sparse_safe)?;
    let convert = Value::Boolean(store.get().sparse_convert);
    Ok(MultiValue::from_iter([convert, Value::Integer(ratio), Value::Integer(safe)]))
}
