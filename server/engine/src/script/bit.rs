//! The table `bit`: operations on 32-bit integers, as the BitOp library defines them.
//! Source: <https://bitop.luajit.org/api.html>

use mlua::{Lua, Table, Value};

use super::args::{Args, LibResult, one, one_string, register};

type Fold = fn(i32, i32) -> i32;
type Shift = fn(i32, u32) -> i32;

/// The functions.
pub(crate) fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    register(lua, &table, "tobit", |args| bits_result(bits(&args, 1)?))?;
    register(lua, &table, "bnot", |args| bits_result(!bits(&args, 1)?))?;
    register(lua, &table, "bswap", |args| bits_result(bits(&args, 1)?.swap_bytes()))?;
    register(lua, &table, "tohex", tohex)?;
    let folds: [(&'static str, Fold); 3] =
        [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, fold) in folds {
        register(lua, &table, name, move |args| {
            let mut result = bits(&args, 1)?;
            for position in 2..=args.len() {
                result = fold(result, bits(&args, position)?);
            }
            bits_result(result)
        })?;
    }
    let shifts: [(&'static str, Shift); 5] = [
        ("lshift", |n, by| n << by),
        ("rshift", |n, by| ((n as u32) >> by) as i32),
        ("arshift", |n, by| n >> by),
        ("rol", i32::rotate_left),
        ("ror", i32::rotate_right),
    ];
    for (name, shift) in shifts {
        register(lua, &table, name, move |args| {
            let n = bits(&args, 1)?;
            // Only the low five bits of the count matter.
            bits_result(shift(n, (bits(&args, 2)? & 31) as u32))
        })?;
    }
    Ok(table)
}

fn bits_result(bits: i32) -> LibResult {
    one(Value::Integer(i64::from(bits)))
}

/// A number's low 32 bits, rounded to even. Adding 2^52 + 2^51 leaves the integer in the low
/// bits of the double, which also fixes what becomes of numbers too large to mean anything.
fn bits(args: &Args<'_>, position: usize) -> Result<i32, super::args::LibError> {
    let biased = args.number(position)? + 6_755_399_441_055_744.0;
    Ok(biased.to_bits() as u32 as i32)
}

fn tohex(args: Args<'_>) -> LibResult {
    let n = bits(&args, 1)? as u32;
    let digits = if args.len() < 2 { 8 } else { bits(&args, 2)? };
    let text = if digits < 0 { format!("{n:08X}") } else { format!("{n:08x}") };
    let count = digits.unsigned_abs().min(8) as usize;
    one_string(args.lua, &text.as_bytes()[8 - count..])
}
