//! Bytes to replies and commands to bytes, with limits that `redis-protocol` does not have.
//!
//! [`frame_len`] first finds where the reply ends, without recursion and within limits; only then does
//! the decoder see it. So a hostile or confused server can neither fill memory nor overflow the stack,
//! and a reply that arrives in pieces is decoded once.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::types::BytesFrame as Resp2;
use redis_protocol::resp3::types::BytesFrame as Resp3;

use crate::net::address::Protocol;

/// No answer to any request made here comes near this.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of arrays and maps accepted.
const DEPTH_MAX: usize = 8;

/// A reply, whichever protocol it came by.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Text(Bytes),
    Error(String),
    /// Arrays and sets, and maps as key, value, key, value.
    List(Vec<Reply>),
    /// Out of band: belongs to no request.
    Push,
}

/// Appends a command, as the array of bulk strings every server takes.
pub(crate) fn encode(out: &mut BytesMut, args: &[&[u8]]) {
    use std::fmt::Write as _;
    // Writing to a BytesMut grows it; it cannot fail.
    let _ = write!(out, "*{}\r\n", args.len());
    for arg in args {
        let _ = write!(out, "${}\r\n", arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes one whole reply off the front of `input`; `None` when more bytes are needed.
///
/// # Errors
/// What is wrong with the bytes. The connection cannot be used any further.
pub(crate) fn decode(input: &mut BytesMut, protocol: Protocol) -> Result<Option<Reply>, String> {
    let Some(len) = frame_len(input)? else {
        return Ok(None);
    };
    let frame = input.split_to(len).freeze();
    let incomplete = || "reply is shorter than its own length".to_owned();
    let reply = match protocol {
        Protocol::Resp2 => {
            let decoded =
                redis_protocol::resp2::decode::decode_bytes(&frame).map_err(|e| e.to_string())?;
            Reply::from(decoded.ok_or_else(incomplete)?.0)
        }
        Protocol::Resp3 => {
            let decoded = redis_protocol::resp3::decode::complete::decode_bytes(&frame)
                .map_err(|e| e.to_string())?;
            Reply::from(decoded.ok_or_else(incomplete)?.0)
        }
    };
    Ok(Some(reply))
}

impl From<Resp2> for Reply {
    fn from(frame: Resp2) -> Self {
        match frame {
            Resp2::SimpleString(data) | Resp2::BulkString(data) => Self::Text(data),
            Resp2::Error(text) => Self::Error(text.to_string()),
            Resp2::Integer(n) => Self::Int(n),
            Resp2::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Resp2::Null => Self::Nil,
        }
    }
}

impl From<Resp3> for Reply {
    fn from(frame: Resp3) -> Self {
        match frame {
            Resp3::BlobString { data, .. }
            | Resp3::SimpleString { data, .. }
            | Resp3::BigNumber { data, .. }
            | Resp3::VerbatimString { data, .. }
            | Resp3::ChunkedString(data) => Self::Text(data),
            Resp3::BlobError { data, .. } => {
                Self::Error(String::from_utf8_lossy(&data).into_owned())
            }
            Resp3::SimpleError { data, .. } => Self::Error(data.to_string()),
            Resp3::Boolean { data, .. } => Self::Int(i64::from(data)),
            Resp3::Number { data, .. } => Self::Int(data),
            Resp3::Double { data, .. } => Self::Text(data.to_string().into()),
            Resp3::Array { data, .. } => Self::List(data.into_iter().map(Self::from).collect()),
            Resp3::Set { data, .. } => Self::List(data.into_iter().map(Self::from).collect()),
            Resp3::Map { data, .. } => Self::List(
                data.into_iter()
                    .flat_map(|(key, value)| [Self::from(key), Self::from(value)])
                    .collect(),
            ),
            Resp3::Push { .. } => Self::Push,
            Resp3::Null | Resp3::Hello { .. } => Self::Nil,
        }
    }
}

/// Length of the first reply in `input`, or `None` when it is not all there yet.
fn frame_len(input: &[u8]) -> Result<Option<usize>, String> {
    // Elements still to come on each level of nesting.
    let mut levels: Vec<usize> = vec![1];
    let mut at = 0;
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        let Some(line_len) = find_crlf(&input[at..]) else {
            return if input.len() > REPLY_BYTES_MAX {
                Err(format!("reply longer than {REPLY_BYTES_MAX} bytes"))
            } else {
                Ok(None)
            };
        };
        let line = &input[at..at + line_len];
        at += line_len + 2;
        let Some((&kind, rest)) = line.split_first() else {
            return Err("empty line instead of a reply".to_owned());
        };
        // An attribute precedes the element it describes; it is not one itself.
        if kind != b'|' {
            *left -= 1;
        }
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'!' | b'=' => {
                if let Some(len) = length(rest)? {
                    at += len + 2;
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let per_item = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                if let Some(items) = length(rest)?.filter(|items| *items > 0) {
                    if levels.len() > DEPTH_MAX {
                        return Err(format!("reply nested more than {DEPTH_MAX} deep"));
                    }
                    levels.push(items * per_item);
                }
            }
            _ => return Err(format!("reply of unknown type {:?}", char::from(kind))),
        }
        if at > REPLY_BYTES_MAX {
            return Err(format!("reply longer than {REPLY_BYTES_MAX} bytes"));
        }
        if at > input.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// A length prefix; `None` for the null of RESP2 (-1).
fn length(digits: &[u8]) -> Result<Option<usize>, String> {
    let text = std::str::from_utf8(digits).unwrap_or("?");
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(n) if (0..=REPLY_BYTES_MAX as i64).contains(&n) => Ok(usize::try_from(n).ok()),
        _ => Err(format!("reply with the length {text:?}")),
    }
}

fn find_crlf(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_all(bytes: &[u8], protocol: Protocol) -> Result<Vec<Reply>, String> {
        let mut input = BytesMut::from(bytes);
        let mut replies = Vec::new();
        while let Some(reply) = decode(&mut input, protocol)? {
            replies.push(reply);
        }
        assert!(input.is_empty(), "left over: {input:?}");
        Ok(replies)
    }

    #[test]
    fn both_protocols_give_the_same_replies() {
        let resp2 =
            b"+OK\r\n$-1\r\n:-7\r\n$3\r\na\r\n\r\n*2\r\n$1\r\nx\r\n:1\r\n*-1\r\n*0\r\n-ERR no\r\n";
        let resp3 =
            b"+OK\r\n_\r\n:-7\r\n$3\r\na\r\n\r\n%1\r\n$1\r\nx\r\n:1\r\n_\r\n*0\r\n-ERR no\r\n";
        let expected = vec![
            Reply::Text("OK".into()),
            Reply::Nil,
            Reply::Int(-7),
            Reply::Text("a\r\n".into()),
            Reply::List(vec![Reply::Text("x".into()), Reply::Int(1)]),
            Reply::Nil,
            Reply::List(vec![]),
            Reply::Error("ERR no".into()),
        ];
        assert_eq!(decode_all(resp2, Protocol::Resp2).unwrap(), expected);
        assert_eq!(decode_all(resp3, Protocol::Resp3).unwrap(), expected);
    }

    #[test]
    fn resp3_extras_are_understood() {
        let bytes = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n#t\r\n!5\r\nERR x\r\n=7\r\ntxt:abc\r\n|1\r\n+ttl\r\n:3\r\n:9\r\n";
        assert_eq!(
            decode_all(bytes, Protocol::Resp3).unwrap(),
            vec![
                Reply::Push,
                Reply::Int(1),
                Reply::Error("ERR x".into()),
                Reply::Text("abc".into()),
                Reply::Int(9)
            ]
        );
    }

    #[test]
    fn a_reply_in_pieces_waits_for_its_end() {
        let bytes = b"*2\r\n$5\r\nhello\r\n*1\r\n:1\r\n";
        for cut in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..cut]);
            assert_eq!(decode(&mut input, Protocol::Resp2), Ok(None), "cut at {cut}");
            assert_eq!(input.len(), cut);
        }
    }

    #[test]
    fn hostile_replies_are_refused_not_obeyed() {
        let nested = b"*1\r\n".repeat(10_000);
        let long_line = [b"+".as_slice(), &[b'x'; REPLY_BYTES_MAX + 1]].concat();
        for bytes in [
            nested.as_slice(),
            long_line.as_slice(),
            b"$999999999999\r\n",
            b"*99999999\r\n",
            b"$-2\r\n",
            b"$?\r\n",
            b"hello\r\n",
            b"\r\n",
        ] {
            let mut input = BytesMut::from(bytes);
            assert!(
                decode(&mut input, Protocol::Resp2).is_err(),
                "{:?}",
                &bytes[..8.min(bytes.len())]
            );
        }
        // Many elements per level, each level small: bounded by bytes once they arrive.
        let mut many = BytesMut::from(&b"*60000\r\n"[..]);
        many.extend_from_slice(&b":1\r\n".repeat(20_000));
        assert!(decode(&mut many, Protocol::Resp2).is_err());
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = BytesMut::new();
        encode(&mut out, &[b"GET", b"a\r\nb"]);
        assert_eq!(&out[..], b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }
}
