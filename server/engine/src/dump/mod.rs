//! Values as RDB has them: what DUMP gives, RESTORE takes and snapshots are made of.
//!
//! [`encode`] writes a value and [`decode`] reads it back, whatever Redis up to 7.2 wrote. Both
//! work on memory and `std::io::Read`; files and their framing belong to the server's `persist`.
//! RDB does not say everything: in which of our encodings a value stood travels beside it as a
//! [`Form`], so that a replica loaded from a snapshot iterates in the same order as its origin.
//! Start at [`value`]; [`record`] adds key and expiry, [`payload`] is DUMP's frame.

pub mod compact;
mod crc64;
pub mod journal;
pub mod lzf;
pub mod payload;
pub mod record;
mod sink;
mod source;
mod stream;
pub mod value;

pub use crc64::crc64;
pub use sink::Sink;
pub use source::{DumpError, Source, Writer};
pub use value::{Decoded, Fit, Form, decode, encode};

/// The version of RDB that is written: the newest that redis-server 7.0 reads.
pub const RDB_VERSION_WRITTEN: u16 = 10;
/// The newest version of a DUMP payload that is read: Redis 7.4's, which added expiries of fields.
pub const RDB_VERSION_MAX: u16 = 12;
/// The version of a DUMP payload that holds expiries of fields.
const RDB_VERSION_FIELD_EXPIRY: u16 = 12;
