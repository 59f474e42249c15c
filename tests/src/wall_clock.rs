//! A wall clock that is set on command, for one process: a library that is preloaded into it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::preload::{self, Environment};

const FILE: &str = "wall-clock";

/// What a process needs in its environment, so that [`set`] with the same `dir` works.
///
/// # Errors
/// Why this machine does not allow it.
pub fn environment(dir: &Path) -> Result<Environment, String> {
    fs::write(dir.join(FILE), 0_i64.to_ne_bytes()).map_err(|error| error.to_string())?;
    let file = ("HOLDFAST_WALL_CLOCK", FILE);
    preload::environment(dir, "wall_clock", include_str!("wall_clock.c"), file)
}

/// Sets the wall clock so many seconds ahead of the machine's, or behind it.
///
/// # Panics
/// When the directory cannot be written.
pub fn set(dir: &Path, seconds: i64) {
    let file = OpenOptions::new().write(true).open(dir.join(FILE)).expect("the clock's file");
    file.write_all_at(&seconds.to_ne_bytes(), 0).expect("setting the clock");
}
