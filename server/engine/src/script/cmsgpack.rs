//! The table `cmsgpack`: MessagePack with the encodings Redis's library chooses.
//! Source: <https://github.com/msgpack/msgpack/blob/master/spec.md>

use mlua::{Lua, MultiValue, Table, Value};

use super::args::{Args, LibError, LibResult, RESULTS_MAX, one_string, register};

/// Tables nested deeper than this are packed as nil.
const PACK_DEPTH_MAX: usize = 16;

/// Arrays and maps nested deeper than this are refused when unpacking.
const UNPACK_DEPTH_MAX: usize = 1_000;

/// The functions and constants.
pub(crate) fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    register(lua, &table, "pack", pack)?;
    register(lua, &table, "unpack", |args| unpack(&args, 0, 0))?;
    register(lua, &table, "unpack_one", |args| {
        let offset = args.integer_or(2, 0)?;
        unpack(&args, 1, offset)
    })?;
    register(lua, &table, "unpack_limit", |args| {
        let (limit, offset) = (args.integer(2)?, args.integer_or(3, 0)?);
        unpack(&args, limit, offset)
    })?;
    Ok(table)
}

fn pack(args: Args<'_>) -> LibResult {
    if args.len() == 0 {
        return Err(args.bad(0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for position in 1..=args.len() {
        pack_value(&mut out, args.get(position), 0)?;
    }
    one_string(args.lua, &out)
}

fn pack_value(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), LibError> {
    match value {
        Value::Boolean(yes) => out.push(if *yes { 0xc3 } else { 0xc2 }),
        Value::Integer(n) => pack_integer(out, *n),
        Value::Number(n) => pack_double(out, *n),
        Value::String(text) => {
            let text = text.as_bytes();
            pack_len(out, text.len(), [(0xa0, 31), (0xd9, 0xff), (0xda, 0xffff), (0xdb, 0)]);
            out.extend_from_slice(&text);
        }
        Value::Table(table) if depth < PACK_DEPTH_MAX => pack_table(out, table, depth)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_integer(out: &mut Vec<u8>, n: i64) {
    let bytes = n.to_be_bytes();
    let (code, width) = match n {
        -32..=127 => (None, 1),
        128..=0xff => (Some(0xcc), 1),
        0x100..=0xffff => (Some(0xcd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xce), 4),
        0x1_0000_0000.. => (Some(0xcf), 8),
        -0x80..=-33 => (Some(0xd0), 1),
        -0x8000..=-0x81 => (Some(0xd1), 2),
        -0x8000_0000..=-0x8001 => (Some(0xd2), 4),
        _ => (Some(0xd3), 8),
    };
    out.extend(code);
    out.extend_from_slice(&bytes[8 - width..]);
}

fn pack_double(out: &mut Vec<u8>, n: f64) {
    if n.to_bits() == (-0.0_f64).to_bits() {
        // An integer to the C library, whose comparison does not see the sign.
        return out.push(0);
    }
    let single = n as f32;
    if f64::from(single) == n {
        out.push(0xca);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

/// Writes a length with the first of `forms` that fits: the code (the first form carries the
/// length inside it) and the greatest length it holds.
fn pack_len(out: &mut Vec<u8>, len: usize, forms: [(u8, usize); 4]) {
    let [fix, one, two, four] = forms;
    if len <= fix.1 {
        out.push(fix.0 | len as u8);
    } else if len <= one.1 {
        out.push(one.0);
        out.push(len as u8);
    } else if len <= two.1 {
        out.push(two.0);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(four.0);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn pack_table(out: &mut Vec<u8>, table: &Table, depth: usize) -> Result<(), LibError> {
    let (mut highest, mut count, mut only_indices) = (0, 0, true);
    for pair in table.pairs::<Value, Value>() {
        match pair?.0 {
            Value::Integer(key) if key >= 1 => highest = highest.max(key),
            _ => only_indices = false,
        }
        count += 1;
    }
    if only_indices && highest == count {
        pack_len(out, count as usize, [(0x90, 15), (0, 0), (0xdc, 0xffff), (0xdd, 0)]);
        for i in 1..=count {
            pack_value(out, &table.raw_get(i)?, depth + 1)?;
        }
    } else {
        pack_len(out, count as usize, [(0x80, 15), (0, 0), (0xde, 0xffff), (0xdf, 0)]);
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            pack_value(out, &key, depth + 1)?;
            pack_value(out, &value, depth + 1)?;
        }
    }
    Ok(())
}

/// Unpacks up to `limit` objects from `offset` on; with neither, all of them. Otherwise the
/// first result is where to go on, or -1 at the end.
fn unpack(args: &Args<'_>, limit: i64, offset: i64) -> LibResult {
    let text = args.string(1)?;
    let text = text.as_bytes();
    let len = text.len();
    if offset < 0 || limit < 0 {
        return Err(LibError::text(format!(
            "Invalid request to unpack with offset of {offset} and limit of {len}."
        )));
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let Some(rest) = text.get(start..) else {
        return Err(LibError::text(format!(
            "Start offset {offset} greater than input length {len}."
        )));
    };
    let all = limit == 0 && offset == 0;
    let limit = if all { i64::MAX } else { limit };
    let mut input = Input { lua: args.lua, rest };
    let mut results = Vec::new();
    while (results.len() as i64) < limit && !input.rest.is_empty() {
        if results.len() >= RESULTS_MAX {
            return Err(LibError::text("stack overflow (too many values to unpack)"));
        }
        results.push(input.value(0)?);
    }
    let mut results = MultiValue::from_vec(results);
    if !all {
        let left = input.rest.len();
        let next = if left == 0 { -1 } else { (len - left) as i64 };
        results.push_front(Value::Integer(next));
    }
    Ok(results)
}

struct Input<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

fn bad_format() -> LibError {
    LibError::text("Bad data format in input.")
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], LibError> {
        let missing = || LibError::text("Missing bytes in input.");
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(missing)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of `width` bytes.
    fn unsigned(&mut self, width: usize) -> Result<u64, LibError> {
        Ok(self.take(width)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Result<Value, LibError> {
        if depth > UNPACK_DEPTH_MAX {
            return Err(bad_format());
        }
        let code = self.take(1)?[0];
        Ok(match code {
            0x00..=0x7f => Value::Integer(i64::from(code)),
            0xe0..=0xff => Value::Integer(i64::from(code as i8)),
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xcc..=0xcf => Value::Number(self.unsigned(1 << (code - 0xcc))? as f64),
            0xd0..=0xd3 => {
                let width = 1 << (code - 0xd0);
                // Sign extension from the top byte that was read.
                let unread = 64 - 8 * width as u32;
                let n = (self.unsigned(width)? << unread) as i64 >> unread;
                Value::Number(n as f64)
            }
            0xca => Value::Number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => Value::Number(f64::from_bits(self.unsigned(8)?)),
            0xa0..=0xbf => self.string(usize::from(code & 31))?,
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (code - 0xd9))?;
                self.string(len as usize)?
            }
            0x90..=0x9f => self.array(u64::from(code & 15), depth)?,
            0xdc | 0xdd => {
                let len = self.unsigned(2 << (code - 0xdc))?;
                self.array(len, depth)?
            }
            0x80..=0x8f => self.map(u64::from(code & 15), depth)?,
            0xde | 0xdf => {
                let len = self.unsigned(2 << (code - 0xde))?;
                self.map(len, depth)?
            }
            _ => return Err(bad_format()),
        })
    }

    fn string(&mut self, len: usize) -> Result<Value, LibError> {
        let bytes = self.take(len)?;
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn array(&mut self, len: u64, depth: usize) -> Result<Value, LibError> {
        let table = self.lua.create_table()?;
        for i in 1..=len {
            let value = self.value(depth + 1)?;
            table.raw_set(i, value)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, len: u64, depth: usize) -> Result<Value, LibError> {
        let table = self.lua.create_table()?;
        for _ in 0..len {
            let key = self.value(depth + 1)?;
            let value = self.value(depth + 1)?;
            match key {
                Value::Nil => return Err(LibError::text("table index is nil")),
                Value::Number(n) if n.is_nan() => {
                    return Err(LibError::text("table index is NaN"));
                }
                key => table.raw_set(key, value)?,
            }
        }
        Ok(Value::Table(table))
    }
}
