//! Node to node: framed TCP, one connection per purpose.
//!
//! A connection begins with a handshake in which both ends prove that they know the cluster's
//! secret ([`handshake`]); nothing else is read from a peer before that. Then come frames of a
//! bounded length ([`frame`]). Heartbeats and votes, replication and snapshots have connections of
//! their own, so that none waits behind another ([`client`], [`server`]).

pub mod client;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod server;
