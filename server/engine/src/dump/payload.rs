//! DUMP's payload: `[type] [value] [RDB version, u16 LE] [CRC-64 of all before, LE]`.

use super::sink::Sink;
use super::source::{DumpError, Source};
use super::value::{Decoded, Fit, decode, encode, encode_hash_with_expiries, kind, kind_of};
use super::{RDB_VERSION_FIELD_EXPIRY, RDB_VERSION_MAX, RDB_VERSION_WRITTEN, crc64};
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
    sink.raw(&version.to_le_bytes());
    let crc = crc64(0, &sink.bytes);
    sink.raw(&crc.to_le_bytes());
    sink.bytes
}

/// The type and value of a payload whose frame is as it should be; `None` for another.
#[must_use]
pub fn unframe(payload: &[u8]) -> Option<&[u8]> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER_LEN)?)?;
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let told = u64::from_le_bytes(*footer.last_chunk()?);
    let covered = &payload[..body.len() + 2];
    (version <= RDB_VERSION_MAX && told == crc64(0, covered) && !body.is_empty()).then_some(body)
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
