//! Lua values to JSON text.

use mlua::{Table, Value};

use super::{InvalidNumbers, Settings};
use crate::script::args::{LibError, type_name};
use crate::script::number::format_g;

/// The JSON text of `value`.
pub(super) fn encode(
    value: &Value,
    settings: &Settings,
    array_mt: &Table,
) -> Result<Vec<u8>, LibError> {
    let mut encoder = Encoder { settings, array_mt, out: Vec::with_capacity(128) };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

struct Encoder<'a> {
    settings: &'a Settings,
    array_mt: &'a Table,
    out: Vec<u8>,
}

/// How a table is written.
enum Shape {
    /// With this many elements, some of which may be nil.
    Array(i64),
    Object,
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: i64) -> Result<(), LibError> {
        match value {
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Integer(n) => self.number(*n as f64)?,
            Value::Number(n) => self.number(*n)?,
            Value::String(text) => self.string(&text.as_bytes()),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            Value::Table(table) => self.table(table, depth + 1)?,
            other => return Err(unsupported(type_name(other), "type not supported")),
        }
        Ok(())
    }

    fn number(&mut self, n: f64) -> Result<(), LibError> {
        if !n.is_finite() {
            match self.settings.encode_invalid_numbers {
                InvalidNumbers::Refuse => {
                    return Err(unsupported("number", "must not be NaN or Inf"));
                }
                InvalidNumbers::Null => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                InvalidNumbers::Write if n.is_nan() => {
                    self.out.extend_from_slice(b"nan");
                    return Ok(());
                }
                InvalidNumbers::Write => {}
            }
        }
        // Short integers are most numbers; their text is the same and quicker to make.
        if n.trunc() == n && n.abs() < 1e9 && n.to_bits() != (-0.0_f64).to_bits() {
            let digits = self.settings.number_precision;
            if digits >= 9 {
                self.out.extend_from_slice(itoa::Buffer::new().format(n as i64).as_bytes());
                return Ok(());
            }
        }
        let precision = self.settings.number_precision as usize;
        self.out.extend_from_slice(format_g(n, precision).as_bytes());
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.out.push(b'"');
        for &byte in text {
            let escaped: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                0x08 => b"\\b",
                0x0c => b"\\f",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..=0x1f | 0x7f => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.push(DIGITS[usize::from(byte >> 4)]);
                    self.out.push(DIGITS[usize::from(byte & 15)]);
                    continue;
                }
                _ => {
                    self.out.push(byte);
                    continue;
                }
            };
            self.out.extend_from_slice(escaped);
        }
        self.out.push(b'"');
    }

    fn table(&mut self, table: &Table, depth: i64) -> Result<(), LibError> {
        if depth > self.settings.encode_max_depth {
            return Err(LibError::text(format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.shape(table)? {
            Shape::Array(len) => self.array(table, len, depth),
            Shape::Object => self.object(table, depth),
        }
    }

    /// An array has only positive whole numbers for keys and not too many holes.
    fn shape(&self, table: &Table) -> Result<Shape, LibError> {
        if table.metatable().is_some_and(|meta| meta == *self.array_mt) {
            return Ok(Shape::Array(table.raw_len() as i64));
        }
        let (mut highest, mut count) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            match pair?.0 {
                Value::Integer(key) if key >= 1 => highest = highest.max(key),
                _ => return Ok(Shape::Object),
            }
            count += 1;
        }
        let settings = self.settings;
        if settings.sparse_ratio > 0
            && highest > count * settings.sparse_ratio
            && highest > settings.sparse_safe
        {
            if !settings.sparse_convert {
                return Err(unsupported("table", "excessively sparse array"));
            }
            return Ok(Shape::Object);
        }
        Ok(if highest > 0 { Shape::Array(highest) } else { Shape::Object })
    }

    fn array(&mut self, table: &Table, len: i64, depth: i64) -> Result<(), LibError> {
        self.out.push(b'[');
        for i in 1..=len {
            if i > 1 {
                self.out.push(b',');
            }
            self.value(&table.raw_get(i)?, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: i64) -> Result<(), LibError> {
        self.out.push(b'{');
        let mut first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !first {
                self.out.push(b',');
            }
            first = false;
            match key {
                Value::String(text) => self.string(&text.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.value(&key, depth)?;
                    self.out.push(b'"');
                }
                other => {
                    let why = "table key must be a number or string";
                    return Err(unsupported(type_name(&other), why));
                }
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

fn unsupported(kind: &str, why: &str) -> LibError {
    LibError::text(format!("Cannot serialise {kind}: {why}"))
}
