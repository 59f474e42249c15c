//! The one room where `unsafe` is allowed; every block argues why it is sound.
//!
//! Two things live here: `scoped`, which lends a `&mut dyn Caller` to a running script, and
//! the parts of the Lua bridge that are too hot, or too delicate, for mlua's safe interface
//! (measured: a script of two calls costs 1,430–1,840 ns through the safe interface, 770 ns
//! here): `lua` runs scripts, `command` is redis.call, `result` reads what a script returns,
//! `base` replaces some of Lua's own functions. What they offer to the rest of the crate is safe.

mod base;
mod command;
pub(crate) mod lua;
mod result;
pub(crate) mod scoped;
