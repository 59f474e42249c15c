//! The maps the engine may use: their order and hashes depend on nothing but their content.
//!
//! The standard library's randomly seeded ones would let an iteration order differ between two
//! engines fed the same proposals, so the linter forbids them outside this file.
#![allow(clippy::disallowed_types)]

/// A hash map with a fixed seed, for keys no client chooses, or where iteration never shows.
pub(crate) type FixedMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// A hash state seeded per process, against members chosen to collide. Only for an index whose
/// order nothing shows: neither a reply, nor a cursor, nor a digest.
pub(crate) type HiddenState = foldhash::fast::RandomState;
