//! The `holdfast-server` binary.
fn main() {}
