//! A disk that dawdles on command: a library that is preloaded into the server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("slow_disk.c");

fn compile(dir: &Path) -> Result<PathBuf, String> {
    let (source, library) = (dir.join("slow_disk.c"), dir.join("slow_disk.so"));
    fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output();
    let done = done.map_err(|error| format!("cc: {error}"))?;
    match done.status.success() {
        true => Ok(library),
        false => Err(format!("cc: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}

/// What a server whose data is in `dir` needs in its environment, so that [`dawdle`] works.
///
/// # Errors
/// Why this machine does not allow it.
pub fn environment(dir: &Path) -> Result<Vec<(String, String)>, String> {
    let text = |path: PathBuf| path.display().to_string();
    Ok(vec![
        ("LD_PRELOAD".to_owned(), text(compile(dir)?)),
        ("HOLDFAST_SLOW_DISK".to_owned(), text(dir.join("slow"))),
    ])
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
