//! Strings: bytes, or numbers that count.
//!
//! `basic` also holds how a string's record is read; the other files build on it.

pub mod basic;
pub mod conditional;
pub mod counter;
pub mod lcs;
pub mod range;
pub mod set;
