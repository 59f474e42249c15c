//! The one room where `unsafe` is allowed; every block argues why it is sound.
//!
//! Two things live here: [`scoped`], which lends a `&mut dyn Caller` to a running script, and
//! [`lua`], the few entry points of Lua's C interface that are too hot, or too delicate, for
//! mlua's safe one (measured: a script of two calls costs 1,400–1,800 ns through the safe
//! interface and a third of that here). What they offer to the rest of the crate is safe.

pub(crate) mod lua;
pub(crate) mod scoped;
