//! Bodies of the fuzz targets: functions of the input bytes that panic on a finding.
//!
//! `cargo +nightly fuzz run <target>` explores; `server/tests/fuzz_bodies.rs` includes the same
//! files and runs them on a few thousand seeded inputs, so that they are part of every test
//! run. A body must not depend on libfuzzer, on time or on randomness of its own.

pub mod compact;
pub mod execute;
pub mod glob;
pub mod lua;
pub mod parser;
pub mod restore;
