//! A disk that loses what was not synced when its server is killed, as a power cut does: a library that
//! is preloaded into the server notes what was, and [`lose_unsynced`] takes the rest.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use crate::preload::{self, Environment};

const FILE: &str = "synced";
/// As the library has them: an inode and a length.
const ENTRIES: usize = 1024;
const ENTRY_LEN: usize = 16;

/// What a server needs in its environment, so that [`lose_unsynced`] with the same `dir` works.
///
/// # Errors
/// Why this machine does not allow it.
pub fn environment(dir: &Path) -> Result<Environment, String> {
    fs::write(dir.join(FILE), vec![0; ENTRIES * ENTRY_LEN]).map_err(|error| error.to_string())?;
    let file = ("HOLDFAST_SYNCED", FILE);
    preload::environment(dir, "lossy_disk", include_str!("lossy_disk.c"), file)
}

/// The lengths of files when they were last synced, by their inodes.
fn synced(dir: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let table = fs::read(dir.join(FILE))?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let entries = table.chunks_exact(ENTRY_LEN);
    let entries = entries.map(|entry| (number(&entry[..8]), number(&entry[8..])));
    Ok(entries.filter(|(inode, _)| *inode != 0).collect())
}

/// Takes from the files under `data`, whose server is dead, some of what was not synced: `draw` gives
/// a number up to the one it is given. What goes from the middle on may come back as zeros.
/// Returns how many bytes were lost. Files that were never synced are left as they are.
///
/// # Errors
/// Those of the system.
pub fn lose_unsynced(
    dir: &Path,
    data: &Path,
    draw: &mut impl FnMut(u64) -> u64,
) -> io::Result<u64> {
    lose_below(&synced(dir)?, data, draw)
}

fn lose_below(
    synced: &BTreeMap<u64, u64>,
    dir: &Path,
    draw: &mut impl FnMut(u64) -> u64,
) -> io::Result<u64> {
    let mut lost = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = fs::metadata(&path)?;
        if meta.is_dir() {
            lost += lose_below(synced, &path, draw)?;
            continue;
        }
        let Some(promised) = synced.get(&meta.ino()).filter(|len| **len < meta.len()) else {
            continue;
        };
        let kept = promised + draw(meta.len() - promised);
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(kept)?;
        if draw(1) == 1 && kept < meta.len() {
            // Its new length reached the disk, and what stands there did not.
            let zeros = 1 + draw(meta.len() - kept - 1);
            file.write_all_at(&vec![0; zeros as usize], kept)?;
        }
        lost += meta.len() - kept;
    }
    Ok(lost)
}
