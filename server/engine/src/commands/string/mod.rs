//! Strings.

pub mod basic;
