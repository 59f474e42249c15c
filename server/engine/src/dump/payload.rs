//! DUMP's payload: `[type] [value] [RDB version, u16 LE] [CRC-64 of all before, LE]`.

use super::record::opcode;
use super::sink::Sink;
use super::source::{DumpError, Source};
use super::value::{Decoded, Fit, decode, encode, encode_hash_with_expiries, kind, kind_of};
use super::{RDB_VERSION_FIELD_EXPIRY, RDB_VERSION_MAX, RDB_VERSION_WRITTEN, crc64};
use crate::error::CommandError;
use crate::keyspace::Libraries;
use crate::limits::Limits;
use crate::raw::{Record, Value};
use crate::value::Object;
use crate::value::hash::Expiries;

const FOOTER_LEN: usize = 10;

/// The payload of a record's value. A hash with expiring fields is written as Redis 7.4 does:
/// an older one refuses it rather than lose the expiries.
#[must_use]
pub fn dump(record: &Record) -> Vec<u8> {
    let mut sink = Sink::compressing();
    let mut version = RDB_VERSION_WRITTEN;
    if let Value::Object(Object::Hash(hash)) = record.value()
        && let Some(earliest) = hash.expiries().and_then(Expiries::first)
    {
        version = RDB_VERSION_FIELD_EXPIRY;
        sink.byte(kind::HASH_METADATA);
        encode_hash_with_expiries(hash, earliest, &mut sink);
    } else {
        sink.byte(kind_of(record));
        encode(record, &mut sink);
    }
    framed(sink, version)
}

/// The payload that a body makes.
fn framed(mut sink: Sink, version: u16) -> Vec<u8> {
    sink.raw(&version.to_le_bytes());
    let crc = crc64(0, &sink.bytes);
    sink.raw(&crc.to_le_bytes());
    sink.bytes
}

/// The payload of all libraries (FUNCTION DUMP).
#[must_use]
pub fn dump_libraries(libraries: &Libraries) -> Vec<u8> {
    let mut sink = Sink::compressing();
    write_libraries(libraries, &mut sink);
    framed(sink, RDB_VERSION_WRITTEN)
}

/// Writes every library as RDB has it: its mark and its code, which tells the rest.
pub fn write_libraries(libraries: &Libraries, sink: &mut Sink) {
    for library in libraries.iter() {
        sink.byte(opcode::FUNCTION2);
        // Never as an integer: no code reads as one.
        sink.string(&library.code);
    }
}

/// The codes that [`unframe_any`] gave.
///
/// # Errors
/// When something else stands there.
pub fn restore_libraries(body: &[u8]) -> Result<Vec<Vec<u8>>, CommandError> {
    const NOT_A_FUNCTION: CommandError = CommandError::known("ERR given type is not a function");
    const FAILED: CommandError =
        CommandError::known("ERR failed loading the given functions payload");
    let mut source = Source::new(body);
    let mut codes = Vec::new();
    while !source.inner().is_empty() {
        match source.byte().map_err(|_| FAILED)? {
            opcode::FUNCTION2 => codes.push(source.string().map_err(|_| FAILED)?),
            _ => return Err(NOT_A_FUNCTION),
        }
    }
    Ok(codes)
}

/// The type and value of a payload whose frame is as it should be; `None` for another.
#[must_use]
pub fn unframe(payload: &[u8]) -> Option<&[u8]> {
    unframe_any(payload).filter(|body| !body.is_empty())
}

/// As [`unframe`], where the body may be empty (FUNCTION RESTORE).
#[must_use]
pub fn unframe_any(payload: &[u8]) -> Option<&[u8]> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_LEN)?)?;
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let told = u64::from_le_bytes(*footer.last_chunk()?);
    let covered = &payload[..body.len() + 2];
    (version <= RDB_VERSION_MAX && told == crc64(0, covered)).then_some(body)
}

/// The value that [`unframe`] gave.
///
/// # Errors
/// When it is no valid value, or more than one.
pub fn restore(body: &[u8], limits: &Limits) -> Result<Decoded, DumpError> {
    let mut source = Source::new(body);
    let kind = source.byte()?;
    let value = decode(kind, &mut source, Fit::By(limits))?;
    if source.inner().is_empty() {
        Ok(value)
    } else {
        Err(DumpError::Damaged("something follows the value"))
    }
}
