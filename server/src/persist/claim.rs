//! Which process keeps its state in a directory: an exclusive lock that ends with the process.
//!
//! Two servers that write to one directory corrupt its files, and both grant the same lock. So a
//! server claims its data directory before it reads anything there, if it is going to keep state in
//! it, and otherwise before it writes a file there for the first time. A server that writes no
//! file claims nothing: several of them can run in one directory.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files;
use crate::config::Settings;

/// The lock file of a data directory.
const DATA_LOCK: &str = "holdfast.lock";
/// The lock file of a directory that belongs to the server whole: `raft`, the journal's.
const INNER_LOCK: &str = "lock";
/// A lock file says who holds it in no more bytes.
const HOLDER_LEN_MAX: u64 = 256;

/// Locks a file in `dir` until it is closed, and writes into it who holds it.
///
/// # Errors
/// `ResourceBusy` when another process holds it, by name; else the system's.
fn lock(dir: &Path, name: &str) -> io::Result<File> {
    let path = dir.join(name);
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{} cannot be locked: {error}", path.display()))
    };
    // Not truncated: until the lock is ours, the text is the holder's.
    let mut file =
        files::private().read(true).write(true).create(true).open(&path).map_err(named)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = Read::by_ref(&mut file).take(HOLDER_LEN_MAX).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process",
                holder => holder,
            };
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "{} is held by {holder}: another server uses this directory. Give each \
                     server a 'dir' of its own",
                    path.display()
                ),
            ));
        }
        Err(error) => return Err(named(error.into())),
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    // Who holds it helps the operator only: a full disk must not stop the server here.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| {
        file.write_all(format!("process {}{host}\n", std::process::id()).as_bytes())
    });
    Ok(file)
}

/// Locks a journal's directory or a member's `raft` directory until the file is closed.
///
/// # Errors
/// When another process holds it, or the lock file cannot be written.
pub fn lock_inner(dir: &Path) -> io::Result<File> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    lock(dir, INNER_LOCK)
}

/// The directories that this process holds; it lets go of them when it ends.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Vec<(PathBuf, File)>>);

impl Claims {
    /// Claims what the settings say that state will be kept in: to be called before anything is
    /// read there. `granted` says that native locks were granted in `dir`.
    ///
    /// # Errors
    /// When another process holds one of the directories, or a lock file cannot be written.
    pub fn at_start(settings: &Settings, raft_dir: &Path, granted: bool) -> io::Result<Self> {
        let claims = Self::default();
        let (raft, journal) = (settings.raft(), settings.appendonly());
        if raft || journal || granted || !settings.save_points().is_empty() {
            claims.take(&settings.dir())?;
        }
        // It may be a volume or a link of its own.
        if raft && raft_dir.is_dir() {
            claims.take_named(raft_dir, INNER_LOCK)?;
        }
        Ok(claims)
    }

    /// Claims a data directory, unless this process holds it; whether it did not yet.
    ///
    /// # Errors
    /// When another process holds it, or the lock file cannot be written.
    pub fn take(&self, dir: &Path) -> io::Result<bool> {
        self.take_named(dir, DATA_LOCK)
    }

    fn take_named(&self, dir: &Path, name: &str) -> io::Result<bool> {
        let dir = fs::canonicalize(dir)?;
        let mut held = self.0.lock();
        // A second lock of one's own would be refused.
        if held.iter().any(|(known, _)| *known == dir) {
            return Ok(false);
        }
        let file = lock(&dir, name)?;
        held.push((dir, file));
        Ok(true)
    }

    /// Whether this process holds a directory.
    #[must_use]
    pub fn holds(&self, dir: &Path) -> bool {
        fs::canonicalize(dir).is_ok_and(|dir| self.0.lock().iter().any(|(known, _)| *known == dir))
    }

    /// Lets go of a directory.
    pub fn release(&self, dir: &Path) {
        if let Ok(dir) = fs::canonicalize(dir) {
            self.0.lock().retain(|(known, _)| *known != dir);
        }
    }

    /// Whether this process holds any directory.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_has_one_holder_whose_name_is_told() {
        let dir = std::env::temp_dir().join(format!("holdfast-claim-{}", std::process::id()));
        files::create_dir(&dir).unwrap();
        let first = Claims::default();
        assert!(!first.any());
        assert!(first.take(&dir).unwrap(), "it was free");
        assert!(!first.take(&dir).unwrap(), "one's own lock is in nobody's way");
        assert!(first.holds(&dir) && first.any());
        let link = dir.with_extension("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        let second = Claims::default();
        for name in [&dir, &link] {
            let error = second.take(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
            let text = error.to_string();
            assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        }
        let mode = fs::metadata(dir.join(DATA_LOCK)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        first.release(&dir);
        assert!(second.take(&link).unwrap());
        let gone = Claims::default().take(&dir.join("nosuch")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
