//! Replies as they stand on the wire, without loss.
//!
//! `redis-protocol` reads maps and sets into hash tables and both RESP2 nulls
//! into one, so what a transcript must tell apart (order, duplicates, `$-1`
//! against `*-1`) would be gone. The decoder here keeps all of it, and each
//! reply is measured a second time by `redis-protocol`: two readers that were
//! written apart must agree on where a reply ends, or the server's bytes are
//! suspect.

use redis_protocol::{resp2, resp3};

/// One reply, push or element of either.
#[derive(Clone, PartialEq)]
pub enum Reply {
    /// `+OK`
    Simple(Vec<u8>),
    /// `-ERR …`, without the dash.
    Error(Vec<u8>),
    /// `:1`
    Int(i64),
    /// `$3 abc`
    Bulk(Vec<u8>),
    /// `$-1` in RESP2, `_` in RESP3.
    Nil,
    /// `*-1`, which only RESP2 has.
    NilArray,
    /// `*2 …`
    Array(Vec<Reply>),
    /// `%1 …`, in the order sent.
    Map(Vec<(Reply, Reply)>),
    /// `~2 …`, in the order sent.
    Set(Vec<Reply>),
    /// `>3 …`
    Push(Vec<Reply>),
    /// `,1.5`
    Double(f64),
    /// `#t`
    Bool(bool),
    /// `(123…`
    BigNumber(Vec<u8>),
    /// `=15 txt:…`, with the three-letter format kept in front.
    Verbatim(Vec<u8>),
}

impl Reply {
    /// The text of a string-like reply, for assertions.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Simple(b) | Self::Bulk(b) | Self::BigNumber(b) | Self::Verbatim(b) => {
                String::from_utf8_lossy(b).into_owned()
            }
            Self::Error(b) => format!("-{}", String::from_utf8_lossy(b)),
            Self::Int(n) => n.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// The number of an integer reply, or of a string that holds one.
    ///
    /// # Panics
    /// When the reply is neither: a test asked for the wrong thing.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => other.text().parse().unwrap_or_else(|_| panic!("not an integer: {other:?}")),
        }
    }

    /// The elements of an array, set or push.
    ///
    /// # Panics
    /// When the reply is no such aggregate.
    #[must_use]
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            other => panic!("not an aggregate: {other:?}"),
        }
    }

    /// Whether this is an error whose text begins with `prefix`.
    #[must_use]
    pub fn is_error(&self, prefix: &str) -> bool {
        matches!(self, Self::Error(text) if text.starts_with(prefix.as_bytes()))
    }

    /// Whether this is an error.
    #[must_use]
    pub fn is_any_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The texts of an aggregate's elements.
    ///
    /// # Panics
    /// When it is none, or an element is no text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.elements().iter().map(Self::text).collect()
    }

    /// Whether this is `+OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == b"OK")
    }

    /// Whether this is either null.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil | Self::NilArray)
    }
}

/// Reads one reply from the front of `buf`: the reply and its length in bytes,
/// or `None` when more bytes are needed.
///
/// # Errors
/// Text that says which rule of the protocol the bytes break.
pub fn decode(buf: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let mut at = 0;
    match element(buf, &mut at)? {
        Some(reply) => Ok(Some((reply, at))),
        None => Ok(None),
    }
}

/// The version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, what a connection starts with.
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

/// How many bytes `redis-protocol` takes the reply at the front of `buf` to
/// be, or `None` when it will not read it: it has no map inside a set, and no
/// RESP2 null beside RESP3.
#[must_use]
pub fn second_opinion(buf: &[u8]) -> Option<usize> {
    if let Ok(Some((_, len))) = resp2::decode::decode(buf) {
        return Some(len);
    }
    match resp3::decode::complete::decode(buf) {
        Ok(Some((_, len))) => Some(len),
        _ => None,
    }
}

fn element(buf: &[u8], at: &mut usize) -> Result<Option<Reply>, String> {
    let Some(line) = line(buf, at)? else {
        return Ok(None);
    };
    let Some((&kind, rest)) = line.split_first() else {
        return Err("an empty line where a reply should begin".into());
    };
    let reply = match kind {
        b'+' => Reply::Simple(rest.to_vec()),
        b'-' => Reply::Error(rest.to_vec()),
        b':' => Reply::Int(number(rest)?),
        b'_' => Reply::Nil,
        b'#' => match rest {
            b"t" => Reply::Bool(true),
            b"f" => Reply::Bool(false),
            other => return Err(format!("boolean {:?}", String::from_utf8_lossy(other))),
        },
        b',' => Reply::Double(double(rest)?),
        b'(' => Reply::BigNumber(rest.to_vec()),
        b'$' | b'=' | b'!' => {
            let len = number(rest)?;
            if len == -1 && kind == b'$' {
                return Ok(Some(Reply::Nil));
            }
            let Some(bytes) = body(buf, at, len)? else {
                return Ok(None);
            };
            match kind {
                b'$' => Reply::Bulk(bytes),
                b'=' => Reply::Verbatim(bytes),
                _ => Reply::Error(bytes),
            }
        }
        b'*' | b'~' | b'>' => {
            let count = number(rest)?;
            if count == -1 && kind == b'*' {
                return Ok(Some(Reply::NilArray));
            }
            let Some(items) = elements(buf, at, count)? else {
                return Ok(None);
            };
            match kind {
                b'*' => Reply::Array(items),
                b'~' => Reply::Set(items),
                _ => Reply::Push(items),
            }
        }
        b'%' => {
            let count = number(rest)?;
            let Some(items) = elements(buf, at, count.saturating_mul(2))? else {
                return Ok(None);
            };
            let mut pairs = Vec::with_capacity(items.len() / 2);
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Reply::Map(pairs)
        }
        other => return Err(format!("unknown type byte {:?}", char::from(other))),
    };
    Ok(Some(reply))
}

fn elements(buf: &[u8], at: &mut usize, count: i64) -> Result<Option<Vec<Reply>>, String> {
    let count = usize::try_from(count).map_err(|_| format!("aggregate of {count}"))?;
    let mut items = Vec::with_capacity(count.min(4096));
    for _ in 0..count {
        match element(buf, at)? {
            Some(item) => items.push(item),
            None => return Ok(None),
        }
    }
    Ok(Some(items))
}

fn line<'a>(buf: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, String> {
    let rest = &buf[*at..];
    let Some(end) = rest.iter().position(|&b| b == b'\r') else {
        return Ok(None);
    };
    match rest.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => {
            *at += end + 2;
            Ok(Some(&rest[..end]))
        }
        Some(_) => Err("a carriage return inside a line".into()),
    }
}

fn body(buf: &[u8], at: &mut usize, len: i64) -> Result<Option<Vec<u8>>, String> {
    let len = usize::try_from(len).map_err(|_| format!("a string of {len} bytes"))?;
    let Some(bytes) = buf.get(*at..*at + len) else {
        return Ok(None);
    };
    match buf.get(*at + len..*at + len + 2) {
        None => Ok(None),
        Some(b"\r\n") => {
            *at += len + 2;
            Ok(Some(bytes.to_vec()))
        }
        Some(_) => Err(format!("a string of {len} bytes without its line end")),
    }
}

fn number(text: &[u8]) -> Result<i64, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| format!("number {:?}", String::from_utf8_lossy(text)))
}

fn double(text: &[u8]) -> Result<f64, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| format!("double {:?}", String::from_utf8_lossy(text)))
}
