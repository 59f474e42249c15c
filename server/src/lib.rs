//! Holdfast.

pub mod pubsub;
pub mod resp;
