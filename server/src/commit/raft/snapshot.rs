//! Snapshots of the state machine: files in a directory, one current at a time.
//!
//! `magic 8 | length u32 and the position | length u32, the tagged replies and what members share |
//! data | crc32 u32`. The position says which entry is the last inside; what the data consists of is told in `data`. A file is
//! written under another name, synced, renamed, and its directory synced; it is checked
//! whole before any of it replaces what is there.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_engine::engine::Engine;
use holdfast_engine::time::UnixMillis;
use openraft::storage::{RaftSnapshotBuilder, Snapshot};
use tokio::sync::oneshot;

use super::applied::Position;
use super::data;
use super::once::Once;
use super::shared::Shared;
use super::surroundings::Surroundings;
use super::types::{Leader, Member, NodeId, SnapshotMeta, Types};
use super::wire::{self, Malformed, Reader};
use crate::persist::files;

const MAGIC: &[u8; 8] = b"HFSNAP\x00\x01";
const TRAILER_LEN: u64 = 4;
/// The position is a few hundred bytes; a member list of this size is no longer one.
const POSITION_LEN_MAX: u32 = 1 << 20;

/// A snapshot on disk.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    len: u64,
}

impl SnapshotFile {
    /// A file at `path`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), len: fs::metadata(path)?.len() })
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes; never so for one that is whole.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads it whole and compares its sum.
    ///
    /// # Errors
    /// When it is not as it was written.
    pub fn verify(&self) -> io::Result<()> {
        verify(&mut self.open()?, &self.path)
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

/// The directory of snapshots.
pub struct Store {
    dir: PathBuf,
    /// Whether snapshots are written on a thread of their own; a simulation has but one.
    beside: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Makes the snapshot that was captured a file that lasts.
#[derive(Debug)]
pub struct Builder {
    store: Arc<Store>,
    position: Position,
    written: Option<oneshot::Receiver<io::Result<PathBuf>>>,
}

/// Passes writes on and sums them up.
struct Summing<W> {
    inner: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn meta_of(position: &Position) -> SnapshotMeta {
    SnapshotMeta { last_log_id: position.last, last_membership: position.membership.clone() }
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    wire::put_option(out, position.last, wire::put_log_id);
    wire::put_stored_membership(out, &position.membership);
    wire::put_u64(out, position.sequence);
    wire::put_u64(out, position.next_member);
    wire::put_u64(out, position.now_ms as u64);
}

fn position(bytes: &[u8]) -> Result<Position, Malformed> {
    let mut from = Reader::new(bytes);
    Ok(Position {
        last: wire::option(&mut from, wire::log_id)?,
        membership: wire::stored_membership(&mut from)?,
        sequence: from.u64("sequence")?,
        next_member: from.u64("member")?,
        now_ms: from.u64("time")? as i64,
    })
}

fn bad(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the snapshot {} is corrupt: {what}", path.display()),
    )
}

/// Reads a snapshot's position; the file then stands at its data.
fn read_position(file: &mut impl Read, path: &Path) -> io::Result<Position> {
    let mut head = [0; 12];
    file.read_exact(&mut head)?;
    let (magic, len) = head.split_at(8);
    if magic != MAGIC {
        return Err(bad(path, "it does not begin as one"));
    }
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
    if len > POSITION_LEN_MAX {
        return Err(bad(path, "its position is too long"));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    position(&bytes).map_err(|error| bad(path, error.0))
}

fn read_tables(file: &mut impl Read, path: &Path) -> io::Result<(Once, Shared)> {
    let mut len = [0; 4];
    file.read_exact(&mut len)?;
    let mut bytes = Vec::new();
    file.take(u64::from(u32::from_le_bytes(len))).read_to_end(&mut bytes)?;
    let mut from = Reader::new(&bytes);
    let once = Once::read(&mut from).map_err(|error| bad(path, error.0))?;
    // The release before this one wrote no more.
    let shared = match from.is_empty() {
        true => Shared::default(),
        false => Shared::read(&mut from).map_err(|error| bad(path, error.0))?,
    };
    Ok((once, shared))
}

/// Reads a whole snapshot and compares its sum.
fn verify(file: &mut File, path: &Path) -> io::Result<()> {
    let len = file.metadata()?.len();
    let Some(mut left) = len.checked_sub(TRAILER_LEN) else {
        return Err(bad(path, "it is cut"));
    };
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    file.seek(SeekFrom::Start(0))?;
    while left > 0 {
        let step = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buffer[..step])?;
        hasher.update(&buffer[..step]);
        left -= step as u64;
    }
    let mut sum = [0; TRAILER_LEN as usize];
    file.read_exact(&mut sum)?;
    if u32::from_le_bytes(sum) != hasher.finalize() {
        return Err(bad(path, "its checksum does not match"));
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

impl Store {
    /// The snapshots in `dir`, which is made if it is not there; what was left half-written goes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(dir: &Path) -> io::Result<Arc<Self>> {
        files::create_dir(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(Arc::new(Self { dir: dir.to_owned(), beside: true }))
    }

    /// As [`Store::open`], but snapshots are written at once, by whoever asks for them.
    #[cfg(test)]
    pub(super) fn open_single_threaded(dir: &Path) -> io::Result<Arc<Self>> {
        files::create_dir(dir)?;
        Ok(Arc::new(Self { dir: dir.to_owned(), beside: false }))
    }

    /// A name for a file that is being written.
    #[must_use]
    pub fn part(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.part"))
    }

    /// The current snapshot's length; 0 if there is none.
    #[must_use]
    pub fn current_len(&self) -> u64 {
        let newest = self.newest().ok().flatten();
        newest.and_then(|path| fs::metadata(path).ok()).map_or(0, |file| file.len())
    }

    /// The newest snapshot's file.
    fn newest(&self) -> io::Result<Option<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "snap") {
                found.push(path);
            }
        }
        // Names hold the index in as many digits as any has.
        found.sort();
        Ok(found.pop())
    }

    /// Begins to write down what the engine holds now; called between two entries. The writing
    /// goes on beside what is applied from here on.
    pub(crate) fn capture(
        self: &Arc<Self>,
        node: Arc<dyn Surroundings>,
        position: Position,
        (once, shared): (&Once, &Shared),
    ) -> Builder {
        let mut replies = Vec::new();
        once.put(&mut replies);
        shared.put(&mut replies);
        let (cut, is_cut) = std::sync::mpsc::sync_channel(1);
        let (tell, written) = oneshot::channel();
        if !self.beside {
            let path = self.part("build");
            let done =
                self.write(node.engine(), (&position, &replies), &path, || {}).map(|()| path);
            let _ = tell.send(done);
            return Builder { store: Arc::clone(self), position, written: Some(written) };
        }
        let (store, at) = (Arc::clone(self), position.clone());
        let spawned = std::thread::Builder::new().name("raft-snapshot".into()).spawn(move || {
            let path = store.part("build");
            let at_cut = || {
                let _ = cut.send(());
            };
            let done = store.write(node.engine(), (&at, &replies), &path, at_cut).map(|()| path);
            let _ = tell.send(done);
        });
        if spawned.is_ok() {
            // Some microseconds; or the thread has failed and says so later.
            let _ = is_cut.recv();
        }
        Builder { store: Arc::clone(self), position, written: Some(written) }
    }

    fn write(
        &self,
        engine: &Engine,
        (position, replies): (&Position, &[u8]),
        path: &Path,
        at_cut: impl FnOnce(),
    ) -> io::Result<()> {
        let file = BufWriter::with_capacity(1 << 20, files::create(path)?);
        let mut out = Summing { inner: file, hasher: crc32fast::Hasher::new() };
        let mut bytes = Vec::new();
        put_position(&mut bytes, position);
        out.write_all(MAGIC)?;
        out.write_all(&(bytes.len() as u32).to_le_bytes())?;
        out.write_all(&bytes)?;
        out.write_all(&(replies.len() as u32).to_le_bytes())?;
        out.write_all(replies)?;
        data::save(engine, at_cut, &mut out)?;
        let sum = out.hasher.clone().finalize();
        out.inner.write_all(&sum.to_le_bytes())?;
        out.inner.flush()
    }

    /// Gives a whole file its lasting name and removes the others.
    fn keep(&self, path: &Path, position: &Position) -> io::Result<SnapshotFile> {
        File::open(path)?.sync_all()?;
        let index = position.last.map_or(0, |last| last.index + 1);
        let name = self.dir.join(format!("{index:020}.snap"));
        if path != name {
            fs::rename(path, &name)?;
        }
        File::open(&self.dir)?.sync_all()?;
        for entry in fs::read_dir(&self.dir)? {
            let other = entry?.path();
            if other != name && other.extension().is_some_and(|extension| extension == "snap") {
                fs::remove_file(other)?;
            }
        }
        SnapshotFile::at(&name)
    }

    /// Replaces the engine's data by a snapshot and keeps it as the current one.
    pub(crate) fn install(
        &self,
        meta: &SnapshotMeta,
        snapshot: &SnapshotFile,
        engine: &Engine,
    ) -> io::Result<(Position, Once, Shared)> {
        let mut file = snapshot.open()?;
        verify(&mut file, &snapshot.path)?;
        let mut from = BufReader::with_capacity(1 << 20, file);
        let position = read_position(&mut from, &snapshot.path)?;
        if position.last != meta.last_log_id {
            return Err(bad(&snapshot.path, "it is not the one that was announced"));
        }
        let (once, shared) = read_tables(&mut from, &snapshot.path)?;
        data::load(engine, UnixMillis(position.now_ms), &mut from)?;
        self.keep(&snapshot.path, &position)?;
        Ok((position, once, shared))
    }

    /// The current snapshot.
    pub(crate) fn current(
        &self,
    ) -> io::Result<Option<Snapshot<Leader, NodeId, Member, SnapshotFile>>> {
        let Some(path) = self.newest()? else { return Ok(None) };
        let position = read_position(&mut BufReader::new(File::open(&path)?), &path)?;
        Ok(Some(Snapshot { meta: meta_of(&position), snapshot: SnapshotFile::at(&path)? }))
    }
}

impl<C: Types> RaftSnapshotBuilder<C> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<Snapshot<Leader, NodeId, Member, SnapshotFile>> {
        let written = self.written.take();
        let written = written.ok_or_else(|| io::Error::other("a snapshot is built once"))?;
        let path = written.await.map_err(|_| io::Error::other("writing a snapshot failed"))??;
        let snapshot = self.store.keep(&path, &self.position)?;
        Ok(Snapshot { meta: meta_of(&self.position), snapshot })
    }
}
