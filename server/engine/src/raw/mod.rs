//! The one room with `unsafe` code; every block states the invariant it leans on, and what
//! leaves this room is safe to use in any order. Two gains pay for it, measured in
//! ARCHITECTURE.md:
//!
//! - one allocation and one pointer per key, and cache misses of a pipeline that overlap:
//!   `record`, `table`, `prefetch`;
//! - scripts at half the cost of mlua's safe interface: `scoped` lends a `&mut dyn Caller` to a
//!   running script, `lua` runs it, `command` is redis.call, `result` reads what it returns,
//!   `base` replaces some of Lua's own functions.

mod base;
mod command;
pub(crate) mod lua;
mod prefetch;
mod record;
mod result;
pub(crate) mod scoped;
mod table;

pub use prefetch::{prefetch_record, prefetch_slots};
pub use record::{INLINE_VALUE_LEN_MAX, Record, StringValue, Value};
pub use table::{Table, iterate, iterate_from};
