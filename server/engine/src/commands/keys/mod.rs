//! Commands on keys of any type.

pub mod basic;
pub mod browse;
pub mod copy;
pub mod dump;
pub mod expire;
pub mod object;
pub mod rename;
pub mod sort;
pub mod ttl;
