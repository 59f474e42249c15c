//! JSON text to Lua values.

use mlua::{Lua, Table, Value};

use super::Settings;
use crate::script::args::LibError;

/// The value of a whole JSON text.
pub(super) fn decode(
    lua: &Lua,
    text: &[u8],
    settings: &Settings,
    array_mt: &Table,
) -> Result<Value, LibError> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(LibError::text("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder { lua, text, at: 0, settings, array_mt, scratch: Vec::new() };
    let token = decoder.token();
    let value = decoder.value(token, 0)?;
    match decoder.token() {
        (_, Token::End) => Ok(value),
        other => Err(unexpected("the end", &other)),
    }
}

struct Decoder<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    settings: &'a Settings,
    array_mt: &'a Table,
    /// The text of the last string token.
    scratch: Vec<u8>,
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its text is in `scratch`.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// As lua-cjson names tokens in its errors.
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(text) => text,
        }
    }
}

/// A token and the offset an error about it names.
type Placed = (usize, Token);

fn unexpected(wanted: &str, (at, found): &Placed) -> LibError {
    let (found, character) = (found.name(), at + 1);
    LibError::text(format!("Expected {wanted} but found {found} at character {character}"))
}

impl Decoder<'_> {
    fn value(&mut self, token: Placed, depth: i64) -> Result<Value, LibError> {
        Ok(match token.1 {
            Token::String => Value::String(self.lua.create_string(&self.scratch)?),
            Token::Number(n) => Value::Number(n),
            Token::Boolean(yes) => Value::Boolean(yes),
            Token::Null => Value::NULL,
            Token::ObjectBegin => Value::Table(self.object(depth + 1)?),
            Token::ArrayBegin => Value::Table(self.array(depth + 1)?),
            _ => return Err(unexpected("value", &token)),
        })
    }

    fn check_depth(&self, depth: i64) -> Result<(), LibError> {
        if depth > self.settings.decode_max_depth {
            return Err(LibError::text(format!(
                "Found too many nested data structures ({depth}) at character {}",
                self.at
            )));
        }
        Ok(())
    }

    fn object(&mut self, depth: i64) -> Result<Table, LibError> {
        self.check_depth(depth)?;
        let table = self.lua.create_table()?;
        let mut token = self.token();
        if let Token::ObjectEnd = token.1 {
            return Ok(table);
        }
        loop {
            let Token::String = token.1 else {
                return Err(unexpected("object key string", &token));
            };
            let key = self.lua.create_string(&self.scratch)?;
            match self.token() {
                (_, Token::Colon) => {}
                other => return Err(unexpected("colon", &other)),
            }
            let token_of_value = self.token();
            let value = self.value(token_of_value, depth)?;
            table.raw_set(key, value)?;
            match self.token() {
                (_, Token::ObjectEnd) => return Ok(table),
                (_, Token::Comma) => {}
                other => return Err(unexpected("comma or object end", &other)),
            }
            token = self.token();
        }
    }

    fn array(&mut self, depth: i64) -> Result<Table, LibError> {
        self.check_depth(depth)?;
        let table = self.lua.create_table()?;
        if self.settings.decode_array_with_array_mt {
            table.set_metatable(Some(self.array_mt.clone()))?;
        }
        let mut token = self.token();
        if let Token::ArrayEnd = token.1 {
            return Ok(table);
        }
        for i in 1_i64.. {
            let value = self.value(token, depth)?;
            table.raw_set(i, value)?;
            match self.token() {
                (_, Token::ArrayEnd) => break,
                (_, Token::Comma) => {}
                other => return Err(unexpected("comma or array end", &other)),
            }
            token = self.token();
        }
        Ok(table)
    }

    fn token(&mut self) -> Placed {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let start = self.at;
        let token = match self.text.get(start) {
            None | Some(0) => return (start, Token::End),
            Some(b'{') => Token::ObjectBegin,
            Some(b'}') => Token::ObjectEnd,
            Some(b'[') => Token::ArrayBegin,
            Some(b']') => Token::ArrayEnd,
            Some(b':') => Token::Colon,
            Some(b',') => Token::Comma,
            Some(b'"') => {
                return match self.string() {
                    Ok(()) => (start, Token::String),
                    Err((at, why)) => (at, Token::Error(why)),
                };
            }
            Some(b'-' | b'0'..=b'9') => {
                if !self.settings.decode_invalid_numbers && self.is_lax_number() {
                    return (start, Token::Error("invalid number"));
                }
                return (start, self.number());
            }
            Some(_) => return (start, self.word()),
        };
        self.at += 1;
        (start, token)
    }

    fn word(&mut self) -> Token {
        let rest = &self.text[self.at..];
        for (word, token) in [
            (&b"true"[..], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let may_be_number = matches!(rest.first(), Some(b'+' | b'i' | b'I' | b'n' | b'N'));
        if may_be_number && self.settings.decode_invalid_numbers && self.is_lax_number() {
            return self.number();
        }
        Token::Error("invalid token")
    }

    /// Whether a number starts here that JSON forbids: `+1`, `01`, `0x1`, `inf`, `nan`.
    fn is_lax_number(&self) -> bool {
        let rest = &self.text[self.at..];
        if rest.starts_with(b"+") {
            return true;
        }
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        match rest {
            [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
            [b'0'..=b'9', ..] => false,
            _ => has_prefix(rest, b"inf") || has_prefix(rest, b"nan"),
        }
    }

    /// Reads the longest number at the current place, as C's `strtod` does.
    fn number(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let sign_len = usize::from(matches!(rest.first(), Some(b'-' | b'+')));
        let negative = rest.first() == Some(&b'-');
        let body = &rest[sign_len..];
        let (len, magnitude) = if has_prefix(body, b"infinity") {
            (8, f64::INFINITY)
        } else if has_prefix(body, b"inf") {
            (3, f64::INFINITY)
        } else if has_prefix(body, b"nan") {
            (3, f64::NAN)
        } else if has_prefix(body, b"0x") && body.get(2).is_some_and(u8::is_ascii_hexdigit) {
            let digits = body[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let value = body[2..2 + digits].iter().fold(0.0, |value, &byte| {
                value * 16.0 + f64::from(char::from(byte).to_digit(16).unwrap_or(0))
            });
            (2 + digits, value)
        } else {
            let len = decimal_len(body);
            match std::str::from_utf8(&body[..len]).ok().and_then(|text| text.parse().ok()) {
                Some(value) => (len, value),
                None => return Token::Error("invalid number"),
            }
        };
        self.at += sign_len + len;
        Token::Number(if negative { -magnitude } else { magnitude })
    }

    /// Reads a string into `scratch`; an error names its own offset.
    fn string(&mut self) -> Result<(), (usize, &'static str)> {
        self.scratch.clear();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0));
            let plain = plain.unwrap_or(rest.len());
            self.scratch.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.text.get(self.at) {
                None | Some(0) => return Err((self.at, "unexpected end of string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.escape()?,
            }
        }
    }

    fn escape(&mut self) -> Result<(), (usize, &'static str)> {
        let at = self.at;
        let byte = match self.text.get(at + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let (symbol, len) =
                    unicode(&self.text[at..]).ok_or((at, "invalid unicode escape code"))?;
                self.scratch.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += len;
                return Ok(());
            }
            _ => return Err((at, "invalid escape code")),
        };
        self.scratch.push(byte);
        self.at += 2;
        Ok(())
    }
}

/// The character of `\uXXXX`, or of a surrogate pair of them, and how long the escape is.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let unit = hex_escape(text)?;
    if unit & 0xf800 != 0xd800 {
        return Some((char::from_u32(unit)?, 6));
    }
    let low = hex_escape(&text[6..])?;
    if unit & 0x400 != 0 || low & 0xfc00 != 0xdc00 {
        return None;
    }
    Some((char::from_u32(0x1_0000 + ((unit & 0x3ff) << 10) + (low & 0x3ff))?, 12))
}

fn hex_escape(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &byte| Some(unit * 16 + char::from(byte).to_digit(16)?))
}

fn has_prefix(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// How many bytes at the start of `text` are a decimal number; 0 if it has no digit.
fn decimal_len(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(0);
    let mut len = whole;
    if text.get(len) == Some(&b'.') {
        let fraction = digits(len + 1);
        if whole + fraction == 0 {
            return 0;
        }
        len += 1 + fraction;
    } else if whole == 0 {
        return 0;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let exponent = digits((len + 1 + sign).min(text.len()));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    len
}
