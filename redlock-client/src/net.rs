//! Everything between a request and a socket: addresses, TLS, framing, one connection per node.
//!
//! Knows what requests and answers look like, not what a quorum is. Start at [`node`], the handle the
//! rest of the crate holds; [`actor`] is the task behind it that owns the socket.

pub(crate) mod actor;
pub(crate) mod address;
pub(crate) mod claim;
pub(crate) mod codec;
pub(crate) mod command;
pub(crate) mod handshake;
pub(crate) mod node;
pub(crate) mod rescue;
pub(crate) mod script;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod wait;
