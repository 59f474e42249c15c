//! Holdfast's server: sockets, sessions, routing and administration around the engine.
//!
//! Floors, imports point down only: `net`, `admin`, `observe` · `route` · `commit` · `session`,
//! `acl`, `pubsub`, `persist`, `resp` · the engine's `commands`, `script` · its `command`, `keyspace`, `value`.
//! A journey: `net::connection` reads, `resp` parses, `route` finds the row and runs it on the
//! engine, `resp` encodes. Start at [`node`], then [`route`].

pub mod acl;
pub mod admin;
pub mod alloc;
pub mod clock;
pub mod commit;
pub mod config;
pub mod limits;
pub mod memory;
pub mod net;
pub mod node;
pub mod observe;
pub mod persist;
pub mod pubsub;
pub mod quarantine;
pub mod resp;
pub mod route;
pub mod session;
