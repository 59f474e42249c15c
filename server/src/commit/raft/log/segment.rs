//! The files of the log: naming, making ready, listing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::record::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC};
use crate::persist::files;

/// A segment is closed once it is longer.
pub(super) const SEGMENT_LEN: u64 = 64 << 20;
/// Zeros are written in steps of so many bytes.
const FILL_STEP: usize = 1 << 20;

pub(super) fn path(dir: &Path, first_frame: u64) -> PathBuf {
    dir.join(format!("{first_frame:016x}.log"))
}

/// The number of the first frame of every segment, ascending.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".log")) else {
            continue;
        };
        if let Ok(number) = u64::from_str_radix(number, 16) {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn header(first_frame: u64) -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..8].copy_from_slice(SEGMENT_MAGIC);
    header[8..].copy_from_slice(&first_frame.to_le_bytes());
    header
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    files::private().read(true).write(true).create(true).truncate(true).open(path)
}

/// Makes room for `len` bytes, so that writing changes no length and cannot find the disk full.
pub(super) fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        // Some file systems cannot; then the file just grows.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

/// A file of zeros under `path`, synced: overwriting it costs the least per sync.
fn fill(path: &Path) -> io::Result<File> {
    let file = create(path)?;
    reserve(&file, SEGMENT_LEN)?;
    let zeros = vec![0; FILL_STEP];
    for at in (0..SEGMENT_LEN).step_by(FILL_STEP) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Makes segments ready ahead of time, on a thread of its own.
#[derive(Debug)]
pub(super) struct Spares {
    dir: PathBuf,
    orders: mpsc::SyncSender<()>,
    ready: mpsc::Receiver<io::Result<File>>,
}

impl Spares {
    /// Begins to make the first one.
    pub(super) fn start(dir: &Path) -> io::Result<Self> {
        let (orders, ordered) = mpsc::sync_channel(1);
        let (made, ready) = mpsc::sync_channel(1);
        let spare = dir.join("spare");
        std::thread::Builder::new().name("raft-log-spare".into()).spawn(move || {
            while ordered.recv().is_ok() {
                if made.send(fill(&spare)).is_err() {
                    return;
                }
            }
        })?;
        let _ = orders.try_send(());
        Ok(Self { dir: dir.to_owned(), orders, ready })
    }

    /// A new segment under its name, with its header, synced. Takes the spare if one is ready.
    pub(super) fn open(&self, first_frame: u64) -> io::Result<File> {
        let path = path(&self.dir, first_frame);
        let file = match self.ready.try_recv() {
            Ok(Ok(file)) => {
                fs::rename(self.dir.join("spare"), &path)?;
                let _ = self.orders.try_send(());
                file
            }
            // A full disk is told of by whoever cannot go on without.
            Ok(Err(_)) | Err(_) => {
                let file = create(&path)?;
                reserve(&file, SEGMENT_LEN)?;
                file
            }
        };
        file.write_all_at(&header(first_frame), 0)?;
        file.sync_all()?;
        sync_dir(&self.dir)?;
        Ok(file)
    }
}
