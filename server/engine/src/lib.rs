//! The engine: values, keyspace, commands and scripts as pure state.
//!
//! A write is a proposal and a node is a log of proposals plus the pure function `execute`.
//! Nothing here does I/O, reads a clock or draws randomness of its own: what a command needs
//! of the world (time, seed, who listens) is handed in. Start at [`reply`] and `command`.

pub mod error;
mod raw;
pub mod reply;
pub mod script;

pub use error::CommandError;
pub use reply::{Blob, BulkList, CommandResult, Reply};
