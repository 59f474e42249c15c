//! RDB files: the frame around what the engine's `dump` writes and reads.
//!
//! `REDIS0010`, fields about the file, per database its keys, an end mark and a CRC-64. Version
//! 10 is written, which redis-server 7.0 loads; Redis's and Valkey's files of any version are read,
//! as long as every type in them is known. What RDB lacks
//! stands in AUX fields, which Redis reads over. Must know neither paths nor the node.

mod read;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use read::{Expired, Loaded, RdbError, ReadOptions, read};
pub use verify::verify;
pub use write::{Written, write};

/// Begins every file, before four digits of version.
const MAGIC: &[u8] = b"REDIS";
/// AUX: two keyspaces of the same number place keys alike, see `Keyspace::placement`.
const AUX_PLACEMENT: &[u8] = b"holdfast-placement";
/// AUX: the token counter and the leases, see `Locks::save`.
const AUX_LOCKS: &[u8] = b"holdfast-locks";
/// AUX: the marks of deleted keys of one shard.
const AUX_MARKS: &[u8] = b"holdfast-marks";
