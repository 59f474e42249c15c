//! Holdfast.

pub mod resp;
