//! `math.random` and `math.randomseed`: a generator of our own, seeded by the proposal.
//!
//! Every node that executes the same proposal must draw the same numbers, hence neither the C
//! library's generator nor state that survives a run.

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::args::{Args, LibError, LibResult, one, register};
use crate::raw::lua::Shared;

/// Replaces the two functions in Lua's `math` library.
pub(crate) fn install(lua: &Lua, math: &Table, shared: &Rc<Shared>) -> mlua::Result<()> {
    let this = Rc::clone(shared);
    register(lua, math, "random", move |args| random(&this, &args))?;
    let this = Rc::clone(shared);
    register(lua, math, "randomseed", move |args| {
        this.random.set(Some(args.integer(1)? as u64));
        Ok(MultiValue::new())
    })
}

fn random(shared: &Shared, args: &Args<'_>) -> LibResult {
    // In [0, 1) with 53 bits, all that a double can tell apart there.
    let unit = (next(shared) >> 11) as f64 / (1_u64 << 53) as f64;
    let (low, high) = match args.len() {
        0 => return one(Value::Number(unit)),
        1 => (1.0, args.number(1)?.trunc()),
        2 => (args.number(1)?.trunc(), args.number(2)?.trunc()),
        _ => return Err(LibError::text("wrong number of arguments")),
    };
    if low > high {
        return Err(args.bad(args.len(), "interval is empty"));
    }
    one(Value::Number((unit * (high - low + 1.0)).floor() + low))
}

/// One step of SplitMix64 (Steele, Lea and Flood, 2014).
fn next(shared: &Shared) -> u64 {
    let state =
        shared.random.get().unwrap_or_else(|| shared.ask(|caller| caller.seed()).unwrap_or(0));
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    shared.random.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
