//! The engine: values, keyspace, commands and scripts as pure state.
//!
//! A write is a proposal and a node is a log of proposals plus the pure function `execute`.
//! Nothing here does I/O, reads a clock or draws randomness of its own: what a command needs
//! of the world (time, seed, who listens) is handed in. Start at [`reply`] and `command`.

mod access;
mod collections;
pub mod command;
pub mod commands;
pub mod context;
pub mod dump;
pub mod effects;
pub mod engine;
pub mod error;
pub mod host;
pub mod keyspace;
pub mod limits;
mod random;
pub mod raw;
pub mod reply;
pub mod script;
pub mod scripts;
#[cfg(test)]
mod testing;
pub mod time;
pub mod value;

pub use error::CommandError;
pub use reply::{Blob, BulkList, CommandResult, Reply};
