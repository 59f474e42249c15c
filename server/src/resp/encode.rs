//! Replies as RESP2 or RESP3 bytes.
//!
//! How each variant is spelt is said at [`Reply`]; this is the only place that knows the
//! protocol a client speaks. Must never fail: what cannot be said in RESP2 has a spelling
//! there. Lists nest as deep as the handler (or script bridge) that built them allowed.

use bytes::Bytes;
use holdfast_engine::value::number::DoubleText;
use holdfast_engine::{Blob, BulkList, CommandError, Reply};

use super::limits::ProtocolError;
use super::output::{Output, SHARED_LEN_MIN};

/// What HELLO chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// Maps, sets, doubles, pushes.
    Resp3,
}

/// Appends `reply` to a connection's output; long bulks are shared with it, not copied.
#[inline]
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut Output) {
    write(reply, protocol, out);
}

/// Appends `reply` to plain bytes: for messages that are encoded once and sent to many.
pub fn encode_into(reply: &Reply, protocol: Protocol, out: &mut Vec<u8>) {
    write(reply, protocol, out);
}

/// Appends attributes of the reply that follows, `|n`; in RESP2 there are none.
pub fn encode_attributes(attributes: &[(Reply, Reply)], protocol: Protocol, out: &mut Output) {
    if protocol == Protocol::Resp3 {
        header(b'|', attributes.len(), out.tail());
        for (key, value) in attributes {
            write(key, protocol, out);
            write(value, protocol, out);
        }
    }
}

/// Appends the error a connection ends with.
pub fn encode_protocol_error(error: ProtocolError, out: &mut Output) {
    out.push_copy(b"-ERR ");
    out.push_copy(&error.text());
    out.push_copy(b"\r\n");
}

/// Where encoded bytes go.
trait Sink {
    fn tail(&mut self) -> &mut Vec<u8>;
    fn shared(&mut self, bytes: &Bytes);
}

impl Sink for Output {
    #[inline(always)]
    fn tail(&mut self) -> &mut Vec<u8> {
        self.tail_mut()
    }

    fn shared(&mut self, bytes: &Bytes) {
        self.push(bytes);
    }
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn tail(&mut self) -> &mut Vec<u8> {
        self
    }

    fn shared(&mut self, bytes: &Bytes) {
        self.extend_from_slice(bytes);
    }
}

#[inline]
fn write<S: Sink>(reply: &Reply, protocol: Protocol, out: &mut S) {
    match reply {
        Reply::Ok => out.tail().extend_from_slice(b"+OK\r\n"),
        Reply::Integer(n) => integer(*n, out.tail()),
        Reply::Bulk(blob) => bulk(blob, out),
        Reply::Nil => nil(protocol, out.tail()),
        other => write_other(other, protocol, out),
    }
}

/// The variants that are less frequent, or long enough for a call not to matter.
fn write_other<S: Sink>(reply: &Reply, protocol: Protocol, out: &mut S) {
    let resp3 = protocol == Protocol::Resp3;
    match reply {
        Reply::Ok | Reply::Integer(_) | Reply::Bulk(_) | Reply::Nil => write(reply, protocol, out),
        Reply::Simple(text) => line(b'+', text.as_bytes(), out.tail()),
        Reply::NilArray => {
            out.tail().extend_from_slice(if resp3 { b"_\r\n" } else { b"*-1\r\n" });
        }
        Reply::Double(value) => double(*value, protocol, out.tail()),
        Reply::Bool(yes) => out.tail().extend_from_slice(match (resp3, yes) {
            (true, true) => b"#t\r\n",
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        }),
        Reply::Verbatim(text) if resp3 => {
            header(b'=', text.len() + 4, out.tail());
            out.tail().extend_from_slice(b"txt:");
            body(text, out);
        }
        Reply::BigNumber(digits) if resp3 => line(b'(', digits, out.tail()),
        Reply::Decimal(number) if resp3 => line(b',', number, out.tail()),
        Reply::Verbatim(bytes) | Reply::BigNumber(bytes) | Reply::Decimal(bytes) => {
            bulk(bytes, out);
        }
        Reply::Array(items) => list(b'*', items, protocol, out),
        Reply::Set(items) => list(if resp3 { b'~' } else { b'*' }, items, protocol, out),
        Reply::Push(items) => list(if resp3 { b'>' } else { b'*' }, items, protocol, out),
        Reply::Map(entries) => {
            map_header(entries.len(), protocol, out.tail());
            for (key, value) in entries {
                write(key, protocol, out);
                write(value, protocol, out);
            }
        }
        Reply::Record(fields) => {
            header(if resp3 { b'%' } else { b'*' }, fields.len(), out.tail());
            for (name, value) in fields {
                if resp3 {
                    bulk(&Blob::copy_from(name.as_bytes()), out);
                }
                write(value, protocol, out);
            }
        }
        Reply::Pairs(pairs) => {
            header(b'*', if resp3 { pairs.len() } else { 2 * pairs.len() }, out.tail());
            for (first, second) in pairs {
                if resp3 {
                    out.tail().extend_from_slice(b"*2\r\n");
                }
                write(first, protocol, out);
                write(second, protocol, out);
            }
        }
        Reply::PairMap(entries) => {
            header(if resp3 { b'%' } else { b'*' }, entries.len(), out.tail());
            for (key, value) in entries {
                if !resp3 {
                    out.tail().extend_from_slice(b"*2\r\n");
                }
                write(key, protocol, out);
                write(value, protocol, out);
            }
        }
        Reply::Bulks(items) => {
            header(b'*', items.len(), out.tail());
            bulks(items, protocol, out.tail());
        }
        Reply::BulkSet(items) => {
            header(if resp3 { b'~' } else { b'*' }, items.len(), out.tail());
            bulks(items, protocol, out.tail());
        }
        Reply::BulkMap(items) => {
            debug_assert!(items.len() % 2 == 0, "a map has a value for each field");
            map_header(items.len() / 2, protocol, out.tail());
            bulks(items, protocol, out.tail());
        }
        Reply::Error(error) => command_error(error, out.tail()),
    }
}

fn list<S: Sink>(marker: u8, items: &[Reply], protocol: Protocol, out: &mut S) {
    header(marker, items.len(), out.tail());
    for item in items {
        write(item, protocol, out);
    }
}

fn map_header(entries: usize, protocol: Protocol, out: &mut Vec<u8>) {
    match protocol {
        Protocol::Resp3 => header(b'%', entries, out),
        Protocol::Resp2 => header(b'*', 2 * entries, out),
    }
}

fn bulks(items: &BulkList, protocol: Protocol, out: &mut Vec<u8>) {
    // Each element's `$len\r\n…\r\n` takes at most a few bytes more than its packed form.
    out.reserve(items.packed_len() + 4 * items.len());
    for item in items.iter() {
        match item {
            Some(bytes) => {
                header(b'$', bytes.len(), out);
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            None => nil(protocol, out),
        }
    }
}

#[inline]
fn bulk<S: Sink>(blob: &Blob, out: &mut S) {
    match blob {
        Blob::Inline(len, room) => short_bulk(usize::from(*len), room, out.tail()),
        Blob::Heap(_) => {
            header(b'$', blob.len(), out.tail());
            body(blob, out);
        }
    }
}

/// Bytes put together aside and appended at once. All are copied, whatever their number, and
/// the surplus is cut off: a copy of constant length is two moves where another is a call.
struct Scratch {
    bytes: [u8; SCRATCH_LEN],
    len: usize,
}

const SCRATCH_LEN: usize = 32;

impl Scratch {
    #[inline(always)]
    fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

#[inline]
fn short_bulk<const N: usize>(len: usize, room: &[u8; N], out: &mut Vec<u8>) {
    // `$`, two digits, two line ends.
    const { assert!(N < 100 && N + 7 <= SCRATCH_LEN) };
    debug_assert!(len <= N);
    let mut bytes = [0u8; SCRATCH_LEN];
    bytes[0] = b'$';
    let start = if len < 10 {
        bytes[1] = b'0' + len as u8;
        bytes[2..4].copy_from_slice(b"\r\n");
        4
    } else {
        bytes[1] = b'0' + (len / 10) as u8;
        bytes[2] = b'0' + (len % 10) as u8;
        bytes[3..5].copy_from_slice(b"\r\n");
        5
    };
    bytes[start..][..N].copy_from_slice(room);
    bytes[start + len..][..2].copy_from_slice(b"\r\n");
    Scratch { bytes, len: start + len + 2 }.append_to(out);
}

/// The bytes of a bulk whose header stands, and its line end.
fn body<S: Sink>(blob: &Blob, out: &mut S) {
    match blob {
        Blob::Heap(bytes) if bytes.len() >= SHARED_LEN_MIN => out.shared(bytes),
        _ => out.tail().extend_from_slice(blob),
    }
    out.tail().extend_from_slice(b"\r\n");
}

#[inline]
fn nil(protocol: Protocol, out: &mut Vec<u8>) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

#[inline]
fn integer(n: i64, out: &mut Vec<u8>) {
    number_line(b":-", n < 0, n.unsigned_abs(), out);
}

/// `marker`, a length or count, and the line end.
#[inline]
fn header(marker: u8, n: usize, out: &mut Vec<u8>) {
    number_line(&[marker, b'-'], false, n as u64, out);
}

/// A line that is a number: the marker and the sign of `head`, the latter if `negative`.
#[inline]
fn number_line(head: &[u8; 2], negative: bool, mut n: u64, out: &mut Vec<u8>) {
    if n < 10 && !negative {
        out.extend_from_slice(&[head[0], b'0' + n as u8, b'\r', b'\n']);
        return;
    }
    // Marker, sign, twenty digits and the line end fit.
    let mut bytes = [0u8; SCRATCH_LEN];
    bytes[..2].copy_from_slice(head);
    let end = 1 + usize::from(negative) + n.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut at = end;
    while n >= 100 {
        at -= 2;
        bytes[at..][..2].copy_from_slice(&DIGIT_PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    if n >= 10 {
        bytes[at - 2..][..2].copy_from_slice(&DIGIT_PAIRS[n as usize]);
    } else {
        bytes[at - 1] = b'0' + n as u8;
    }
    bytes[end..][..2].copy_from_slice(b"\r\n");
    Scratch { bytes, len: end + 2 }.append_to(out);
}

/// `00` to `99`: two digits for one division.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

fn double(value: f64, protocol: Protocol, out: &mut Vec<u8>) {
    let text = DoubleText::new(value);
    let text = text.as_bytes();
    match protocol {
        Protocol::Resp3 => line(b',', text, out),
        Protocol::Resp2 => {
            header(b'$', text.len(), out);
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn command_error(error: &CommandError, out: &mut Vec<u8>) {
    line(b'-', error.text().as_bytes(), out);
}

/// A line. Invariant: it ends where its text ends, so a line end inside, which could otherwise
/// forge replies, is sent as a space.
fn line(marker: u8, text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 3);
    out.push(marker);
    let start = out.len();
    out.extend_from_slice(text);
    if memchr::memchr2(b'\r', b'\n', text).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
