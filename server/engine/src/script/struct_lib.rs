//! The table `struct`: packing values into bytes by a format, as Redis's struct library.
//!
//! `> <` byte order, `!n` alignment, `b B h H l L T i<n> I<n>` integers, `f d` floats,
//! `s` zero-ended strings, `c<n>` fixed strings, `x` a pad byte.
//! Source: <https://redis.io/docs/latest/develop/interact/programmability/lua-api/#struct-library>

use mlua::{Lua, MultiValue, Table, Value};

use super::args::{Args, LibError, LibResult, RESULTS_MAX, one, one_string, register};

/// Integers are at most this wide.
const INTEGER_SIZE_MAX: usize = 32;
/// The alignment of a bare `!`: that of a double.
const ALIGN_DEFAULT: usize = 8;
/// Sizes in formats fit C's int.
const SIZE_MAX: usize = i32::MAX as usize;

/// The functions.
pub(crate) fn table(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    register(lua, &table, "pack", pack)?;
    register(lua, &table, "unpack", unpack)?;
    register(lua, &table, "size", size)?;
    Ok(table)
}

/// A format being read, with the state that its control letters change.
struct Format<'a> {
    args: &'a Args<'a>,
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

/// One letter of a format, its size in bytes, and the padding before it.
struct Item {
    letter: u8,
    size: usize,
    padding: usize,
}

impl<'a> Format<'a> {
    fn new(args: &'a Args<'a>, text: &'a [u8]) -> Self {
        Self { args, rest: text, big_endian: cfg!(target_endian = "big"), align: 1 }
    }

    /// The next letter, given the position it would be placed at.
    fn next(&mut self, position: usize) -> Result<Option<Item>, LibError> {
        let Some((&letter, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match letter {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.size(1)?,
            b'i' | b'I' => {
                let size = self.size(4)?;
                if size > INTEGER_SIZE_MAX {
                    return Err(LibError::text(format!(
                        "integral size {size} is larger than limit of {INTEGER_SIZE_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        let padding = if size == 0 || letter == b'c' {
            0
        } else {
            // The alignment is a power of two; a size that is none is cut down as C does it.
            let mask = size.min(self.align) - 1;
            (mask + 1).wrapping_sub(position & mask) & mask
        };
        Ok(Some(Item { letter, size, padding }))
    }

    /// The decimal number that follows, or `default`.
    fn size(&mut self, default: usize) -> Result<usize, LibError> {
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return Ok(default);
        }
        let mut size = 0;
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            self.rest = rest;
            size = size * 10 + usize::from(digit - b'0');
            if size > SIZE_MAX {
                return Err(LibError::text("integral size overflow"));
            }
        }
        Ok(size)
    }

    /// Obeys a letter that places nothing.
    fn control(&mut self, letter: u8) -> Result<(), LibError> {
        match letter {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.size(ALIGN_DEFAULT)?;
                if !align.is_power_of_two() {
                    return Err(LibError::text(format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            other => {
                let other = char::from(other);
                return Err(self.args.bad(1, &format!("invalid format option '{other}'")));
            }
        }
        Ok(())
    }

    fn ordered<const N: usize>(&self, mut little: [u8; N]) -> [u8; N] {
        if self.big_endian {
            little.reverse();
        }
        little
    }
}

fn pack(args: Args<'_>) -> LibResult {
    let text = args.string(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&args, &text);
    let mut out = Vec::new();
    let mut position = 2;
    while let Some(item) = format.next(out.len())? {
        out.resize(out.len() + item.padding, 0);
        match item.letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let n = number(&args, position)?;
                // Negative numbers wrap as two's complement in 64 bits.
                let bits = if n < 0.0 { n as i64 as u64 } else { n as u64 };
                let mut bytes = [0; INTEGER_SIZE_MAX];
                bytes[..8].copy_from_slice(&bits.to_le_bytes());
                let bytes = &mut bytes[..item.size];
                if format.big_endian {
                    bytes.reverse();
                }
                out.extend_from_slice(bytes);
                position += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let n = number(&args, position)? as f32;
                out.extend_from_slice(&format.ordered(n.to_le_bytes()));
                position += 1;
            }
            b'd' => {
                let n = number(&args, position)?;
                out.extend_from_slice(&format.ordered(n.to_le_bytes()));
                position += 1;
            }
            b'c' | b's' => {
                let value = string(&args, position)?;
                let value = value.as_bytes();
                position += 1;
                let size = if item.size == 0 { value.len() } else { item.size };
                let Some(value) = value.get(..size) else {
                    return Err(args.bad(position, "string too short"));
                };
                out.extend_from_slice(value);
                if item.letter == b's' {
                    out.push(0);
                }
            }
            letter => format.control(letter)?,
        }
    }
    one_string(args.lua, &out)
}

/// The C library marks the end of its arguments with a nil, and says so.
fn number(args: &Args<'_>, position: usize) -> Result<f64, LibError> {
    if position > args.len() {
        return Err(args.bad(position, "number expected, got nil"));
    }
    args.number(position)
}

fn string(args: &Args<'_>, position: usize) -> Result<mlua::LuaString, LibError> {
    if position > args.len() {
        return Err(args.bad(position, "string expected, got nil"));
    }
    args.string(position)
}

fn unpack(args: Args<'_>) -> LibResult {
    let text = args.string(1)?;
    let text = text.as_bytes();
    let data = args.string(2)?;
    let data = data.as_bytes();
    let start = args.integer_or(3, 1)?;
    if start < 1 {
        return Err(args.bad(3, "offset must be 1 or greater"));
    }
    let too_short = || args.bad(2, "data string too short");
    let mut format = Format::new(&args, &text);
    let mut at = usize::try_from(start - 1).unwrap_or(usize::MAX);
    let mut results: Vec<Value> = Vec::new();
    while let Some(item) = format.next(at)? {
        at = at.checked_add(item.padding).ok_or_else(too_short)?;
        let rest = data.get(at..).ok_or_else(too_short)?;
        let bytes = rest.get(..item.size).ok_or_else(too_short)?;
        if results.len() >= RESULTS_MAX {
            return Err(LibError::text("stack overflow (too many results)"));
        }
        at += item.size;
        match item.letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let n = integer(bytes, format.big_endian, item.letter.is_ascii_lowercase());
                results.push(Value::Number(n));
            }
            b'x' => {}
            b'f' => {
                let bytes = bytes.try_into().map_err(|_| too_short())?;
                let n = f32::from_le_bytes(format.ordered(bytes));
                results.push(Value::Number(f64::from(n)));
            }
            b'd' => {
                let bytes = bytes.try_into().map_err(|_| too_short())?;
                results.push(Value::Number(f64::from_le_bytes(format.ordered(bytes))));
            }
            b'c' if item.size == 0 => {
                let len = match results.pop() {
                    Some(Value::Number(n)) => n as usize,
                    _ => return Err(LibError::text("format 'c0' needs a previous size")),
                };
                let bytes = rest.get(..len).ok_or_else(too_short)?;
                results.push(Value::String(args.lua.create_string(bytes)?));
                at += len;
            }
            b'c' => results.push(Value::String(args.lua.create_string(bytes)?)),
            b's' => {
                let Some(len) = rest.iter().position(|byte| *byte == 0) else {
                    return Err(LibError::text("unfinished string in data"));
                };
                results.push(Value::String(args.lua.create_string(&rest[..len])?));
                at += len + 1;
            }
            letter => format.control(letter)?,
        }
    }
    results.push(Value::Number(at as f64 + 1.0));
    Ok(MultiValue::from_vec(results))
}

/// An integer of any width; of more than eight bytes only the low eight count.
fn integer(bytes: &[u8], big_endian: bool, signed: bool) -> f64 {
    let append = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
    let bits =
        if big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) };
    if !signed {
        return bits as f64;
    }
    let unread = 64_u32.saturating_sub(8 * bytes.len() as u32);
    if unread == 64 { 0.0 } else { ((bits << unread) as i64 >> unread) as f64 }
}

fn size(args: Args<'_>) -> LibResult {
    let text = args.string(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&args, &text);
    let mut total = 0_usize;
    while let Some(item) = format.next(total)? {
        match item.letter {
            b's' => return Err(args.bad(1, "option 's' has no fixed size")),
            b'c' if item.size == 0 => {
                return Err(args.bad(1, "option 'c0' has no fixed size"));
            }
            letter if !letter.is_ascii_alphanumeric() => format.control(letter)?,
            _ => {}
        }
        total = total.saturating_add(item.padding).saturating_add(item.size);
    }
    one(Value::Number(total as f64))
}
