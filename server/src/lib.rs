//! Holdfast.

pub mod alloc;
pub mod clock;
pub mod config;
pub mod observe;
