//! RDB files: the frame around what the engine's `dump` writes and reads.
//!
//! `REDIS0010`, fields about the file, per database its keys, an end mark and a CRC-64. Version
//! 10 is written, which redis-server 7.0 loads; versions up to 12 are read. What RDB lacks
//! stands in AUX fields, which Redis reads over. Must know neither paths nor the node.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Expired, Loaded, RdbError, ReadOptions, read};
pub use write::{Written, write};

/// Begins every file, before four digits of version.
const MAGIC: &[u8] = b"REDIS";
/// AUX: two keyspaces of the same number place keys alike, see `Keyspace::placement`.
const AUX_PLACEMENT: &[u8] = b"holdfast-placement";
/// AUX: the marks of deleted keys of one shard.
const AUX_MARKS: &[u8] = b"holdfast-marks";
