//! Raft: the same proposals, ordered by one replicated log.
//!
//! The only room that knows openraft. A proposal is encoded by its connection ([`batch`]), strung
//! together with others into one log entry, replicated, and applied by every node in the order of
//! the log.

pub mod applied;
pub mod batch;
pub mod log;
pub mod outcome;
pub mod snapshot;
pub mod state_machine;
pub mod surroundings;
#[cfg(test)]
mod tests;
pub mod types;
pub mod wire;
