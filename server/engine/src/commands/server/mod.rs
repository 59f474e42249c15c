//! Commands that concern no key, or every one; what scripts and transactions may call of the
//! server's own.

pub mod basic;
pub mod databases;
pub mod publish;
