//! Raft: the same proposals, ordered by one replicated log.
//!
//! The only room that knows openraft. A proposal is encoded by its connection ([`batch`]), strung
//! together with others into one log entry, replicated, and applied by every node in the order of
//! the log.

pub mod applied;
pub mod batch;
pub mod cluster;
pub mod contacts;
mod data;
pub mod forward;
pub mod identity;
pub mod log;
pub mod node;
mod once;
pub mod outcome;
mod proposer;
mod reader;
mod shared;
#[cfg(test)]
mod sim;
pub mod snapshot;
pub mod state_machine;
pub mod surroundings;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod types;
mod upkeep;
pub mod wire;

pub use node::RaftNode;
pub use outcome::{Outcome, Refusal};
pub use surroundings::Surroundings;

/// One log entry is at most so long, and so is what one connection submits at a time.
pub const ENTRY_LEN_MAX: usize = 64 << 20;
