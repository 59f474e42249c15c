//! The one room with `unsafe` code: the record's single allocation, walking a shard's table,
//! and prefetching.
//!
//! Each `unsafe` block states the invariant it leans on. What leaves this room is safe to use
//! in any order. The gain that pays for it is measured in ARCHITECTURE.md: one allocation and
//! one pointer per key, and cache misses of a pipeline that overlap.

mod prefetch;
mod record;
mod table;

pub use prefetch::prefetch_record;
pub use record::{INLINE_VALUE_LEN_MAX, Record, StringValue, Value};
pub use table::{Table, iterate};
