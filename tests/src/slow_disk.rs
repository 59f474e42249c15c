//! A disk that dawdles on command: a library that is preloaded into the server.

use std::fs;
use std::path::Path;

use crate::preload::{self, Environment};

/// What a server needs in its environment, so that [`dawdle`] with the same `dir` works.
///
/// # Errors
/// Why this machine does not allow it.
pub fn environment(dir: &Path) -> Result<Environment, String> {
    let file = ("HOLDFAST_SLOW_DISK", "slow");
    preload::environment(dir, "slow_disk", include_str!("slow_disk.c"), file)
}

/// Lets every sync of a server take so many milliseconds longer; 0 for no longer than it does.
///
/// # Panics
/// When the directory cannot be written.
pub fn dawdle(dir: &Path, ms: u64) {
    if ms == 0 {
        let _ = fs::remove_file(dir.join("slow"));
    } else {
        // Whole at once: the server reads it at any time.
        let (part, whole) = (dir.join("slow.part"), dir.join("slow"));
        fs::write(&part, ms.to_string()).expect("telling the disk to dawdle");
        fs::rename(part, whole).expect("telling the disk to dawdle");
    }
}
