//! Power failures: what a server wrote and did not sync is taken back after it was killed.
//!
//! A SIGKILL alone loses nothing that was written, synced or not. A library that is preloaded
//! (`power.c`) notes what stood where the server writes, until a sync is through; [`fail`] puts it
//! back. All that is not synced is lost then, the newest first: the worst that a disk may do.
//! Names of files are not taken back.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::preload::{self, Environment};

const SOURCE: &str = include_str!("power.c");

/// What a server whose data is in `dir` needs in its environment, so that [`fail`] works.
///
/// # Errors
/// Why this machine does not allow it.
pub fn environment(dir: &Path) -> Result<Environment, String> {
    let undo = undo_dir(dir);
    fs::create_dir_all(&undo).map_err(|error| error.to_string())?;
    let mut environment =
        preload::environment(&undo, "power", SOURCE, ("HOLDFAST_POWER_UNDO", ""))?;
    environment.push(("HOLDFAST_POWER_DIR".to_owned(), dir.display().to_string()));
    Ok(environment)
}

/// Beside the server's directory, so that nothing there is taken for its own.
fn undo_dir(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push("-undo");
    dir.with_file_name(name)
}

/// Removes what [`environment`] made.
pub fn clean(dir: &Path) {
    let _ = fs::remove_dir_all(undo_dir(dir));
}

/// Whether each sync of the server takes 300 ms longer: so long it has written and not synced.
///
/// # Panics
/// When the directory cannot be written.
pub fn slow(dir: &Path, slow: bool) {
    let path = undo_dir(dir).join("slow");
    match slow {
        true => fs::write(path, "").expect("telling the disk to be slow"),
        false => drop(fs::remove_file(path)),
    }
}

fn files(dir: &Path, found: &mut BTreeMap<u64, PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => files(&entry.path(), found),
            Ok(about) => drop(found.insert(about.ino(), entry.path())),
            Err(_) => {}
        }
    }
}

/// One write: where, how long, how long the file was before, and what stood there if that was not
/// zeros.
struct Write {
    offset: u64,
    len: u64,
    size: u64,
    old: Vec<u8>,
}

fn writes(path: &Path) -> Vec<Write> {
    let bytes = fs::read(path).unwrap_or_default();
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    let mut number = [0; 8];
    loop {
        let mut next = || rest.read_exact(&mut number).ok().map(|()| u64::from_le_bytes(number));
        let (Some(offset), Some(len), Some(size), Some(kept)) = (next(), next(), next(), next())
        else {
            return found;
        };
        // The last one may be torn: then its write never began.
        let Some((old, behind)) = rest.split_at_checked(kept as usize) else { return found };
        found.push(Write { offset, len, size, old: old.to_vec() });
        rest = behind;
    }
}

/// The power has failed, the server of `dir` is dead: what it had not synced is gone. Returns how
/// many writes were taken back.
///
/// # Panics
/// When the files cannot be written.
#[must_use]
pub fn fail(dir: &Path) -> usize {
    let mut paths = BTreeMap::new();
    files(dir, &mut paths);
    let mut undone = 0;
    for (inode, path) in paths {
        for ending in ["", ".syncing"] {
            let notes = undo_dir(dir).join(format!("{inode}{ending}"));
            for write in writes(&notes).into_iter().rev() {
                let file = fs::OpenOptions::new().write(true).open(&path).expect("a file");
                let mut old = write.old;
                old.resize(write.len as usize, 0);
                file.write_all_at(&old, write.offset).expect("what was there before");
                if write.size < write.offset + write.len {
                    file.set_len(write.size).expect("its length before");
                }
                undone += 1;
            }
            let _ = fs::remove_file(notes);
        }
    }
    undone
}
