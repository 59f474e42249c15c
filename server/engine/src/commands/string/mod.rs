//! Strings: bytes, or numbers that count, or bits.
//!
//! `basic` also holds how a string's record is read; the other files build on it.

pub mod basic;
pub mod bitfield;
pub mod bitop;
pub mod bits;
pub mod conditional;
pub mod counter;
pub mod lcs;
pub mod range;
pub mod set;
