//! Publish and subscribe on this node: channels, patterns and shard channels.
//!
//! A session holds a [`Subscriptions`], which enters and leaves the [`Registry`] for it and
//! leaves everything when dropped. Messages go to a [`PushSink`], which the net room
//! implements with a bounded outbox; they are encoded once, not per subscriber. Must never
//! know a connection, wait for one, or hold a map's lock while messages are handed out.

mod message;
mod registry;
mod subscriptions;
mod topic;

pub use message::PushMessage;
pub use registry::Registry;
pub use subscriptions::{Left, Subscriptions};
pub use topic::PushSink;

#[cfg(test)]
mod tests;
