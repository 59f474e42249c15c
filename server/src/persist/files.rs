//! Replacing files so that after a crash either the old or the new one is there, whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes the names in a directory durable.
///
/// # Errors
/// Those of the system.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// How files of state are opened: what is made anew is for the server's own user alone, because
/// it holds the data, and may hold secrets.
#[must_use]
pub fn private() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// Creates a file of state, or empties the one that is there.
///
/// # Errors
/// Those of the system.
pub fn create(path: &Path) -> io::Result<File> {
    private().write(true).create(true).truncate(true).open(path)
}

/// Creates a directory of state and those above it that are missing.
///
/// # Errors
/// Those of the system.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The directory of a path.
#[must_use]
pub fn dir_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where a new version of `path` is written before it takes its place.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    dir_of(path).join(format!("temp-{}-{name}", std::process::id()))
}

/// Writes a new version of `path`, syncs it and puts it in the place of the old one.
///
/// # Errors
/// Those of the system and of `write`; the old version is then still there.
pub fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let temporary = temporary(path);
    let written = create(&temporary).and_then(|mut file| {
        let done = write(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(&dir_of(path))?;
        Ok(done)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
