//! Lua scripts: EVAL's interpreter, its sandbox and its libraries.
//!
//! A [`Vm`] is one Lua 5.1 interpreter, one per thread. [`Vm::run`] executes a script against a
//! [`Caller`], which is all a script knows of the engine: commands, the log, a seed, and an
//! interrupt that keeps every limit on running time in the engine's hands. The room keeps no
//! store of scripts (only compiled forms), reads no clock and draws no randomness.
//!
//! `vm` compiles and runs; `sandbox` and `prelude.lua` decide what a script may see;
//! `redis_lib`, `cjson`, `cmsgpack`, `struct_lib`, `bit` and `random` are the libraries;
//! `crate::raw` holds the few unsafe lines. Texts and results are Redis 7.2's.

mod args;
mod bit;
mod cjson;
mod cmsgpack;
#[cfg(test)]
mod cve_tests;
pub(crate) mod library;
pub(crate) mod number;
#[cfg(test)]
mod oracle_tests;
pub(crate) mod pattern;
mod random;
mod redis_lib;
mod sandbox;
mod sha;
mod shebang;
mod struct_lib;
#[cfg(test)]
mod tests;
mod vm;

pub use sha::Sha;
pub use shebang::Shebang;
pub use vm::{Limits, Vm};

use crate::{CommandError, Reply};

/// What the engine gives a running script.
pub trait Caller {
    /// Executes one command inside the script. An error comes back as [`Reply::Error`];
    /// `redis.call` raises it and `redis.pcall` returns it. `args` is never empty.
    fn call(&mut self, args: &[&[u8]]) -> Reply;

    /// `redis.log(level, text)`; level 0 (debug) to 3 (warning).
    fn log(&mut self, level: i64, text: &[u8]);

    /// What `math.random` is seeded with; the same seed gives the same numbers.
    fn seed(&self) -> u64;

    /// Called every [`Limits::instructions_per_interrupt`] instructions with the number executed
    /// so far: the place for SCRIPT KILL, BUSY and an instruction limit.
    fn interrupt(&mut self, instructions: u64) -> Interrupt;

    /// `redis.setresp(version)`: the spelling of replies the script wants to read. The bridge
    /// converts by itself; a caller needs this only if its commands answer differently.
    fn set_resp(&mut self, _version: RespVersion) {}

    /// `redis.acl_check_cmd(…)`; `None` means that there is no such command.
    fn acl_check(&mut self, _args: &[&[u8]]) -> Option<bool> {
        Some(true)
    }
}

/// What [`Caller::interrupt`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupt {
    /// The script goes on.
    Continue,
    /// The script ends at once, whatever it tries to catch, and its run answers this error.
    Kill(CommandError),
}

/// The spelling of replies inside a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RespVersion {
    /// Maps are flat arrays, nil is `false`.
    Resp2,
    /// Maps, sets, doubles are tables with one field; nil is `nil`.
    Resp3,
}
