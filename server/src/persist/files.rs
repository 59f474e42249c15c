//! Replacing files so that after a crash either the old or the new one is there, whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Makes the names in a directory durable.
///
/// # Errors
/// Those of the system.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Claims a journal's directory for this process, until the file is closed.
///
/// # Errors
/// When another process holds it, or it cannot be written to.
pub fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let claimed = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    claimed.map_err(|_| {
        io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{} is held: another server uses this directory", path.display()),
        )
    })?;
    Ok(file)
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
    let written = File::create(&temporary).and_then(|mut file| {
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
