//! Sockets: accepting clients and moving bytes between them and the route.

pub mod connection;
pub mod cron;
pub mod listener;
pub mod members;
mod stream;

pub use stream::Stream;
