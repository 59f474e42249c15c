//! Saving a snapshot to a file, while commands go on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Acquire;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_engine::dump::Sink;
use holdfast_engine::dump::record::Detail;
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Host;
use holdfast_engine::keyspace::SnapshotError;

use super::rdb::{self, Written};
use super::{Persist, files};

/// Bytes gathered before they are handed to the system.
const BUFFER_LEN: usize = 256 * 1024;

/// So many bytes are synced at a time: a large file synced at once would hold up the syncs of
/// the journal.
const SYNC_STEP_LEN: usize = 4 << 20;

/// A file that is synced while it is written.
struct InSteps<'f> {
    file: &'f mut File,
    unsynced: usize,
}

impl Write for InSteps<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_STEP_LEN {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether a file ends in a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// As a journal demands of the file it begins with.
    Yes,
    /// As `rdbchecksum no` wishes.
    No,
}

fn begin_failed(error: SnapshotError) -> io::Error {
    match error {
        SnapshotError::InProgress => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another snapshot is being taken")
        }
        SnapshotError::Busy(error) => {
            io::Error::new(io::ErrorKind::ResourceBusy, error.text().to_owned())
        }
    }
}

impl Persist {
    fn check_cancelled(&self) -> io::Result<()> {
        if self.cancelled.load(Acquire) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "given up: a shutdown came"));
        }
        Ok(())
    }

    /// Writes all keys as they are now to `path`, whole or not at all. `at_cut` runs at the
    /// moment that is saved.
    ///
    /// # Errors
    /// Those of the disk, or when another snapshot is being taken.
    pub fn write_snapshot(
        &self,
        engine: &Engine,
        host: &dyn Host,
        path: &Path,
        checksum: Checksum,
        at_cut: impl FnOnce(),
    ) -> io::Result<Written> {
        let keyspace = engine.keyspace();
        let compress = self.settings.rdbcompression();
        let sink = if compress { Sink::compressing() } else { Sink::plain() };
        let created =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let memory = crate::alloc::used_memory().to_string();
        let aux: [(&[u8], &[u8]); 5] = [
            (b"redis-ver", crate::config::REDIS_VERSION.as_bytes()),
            (b"redis-bits", b"64"),
            (b"ctime", created.as_bytes()),
            (b"used-mem", memory.as_bytes()),
            (b"holdfast-ver", env!("CARGO_PKG_VERSION").as_bytes()),
        ];
        files::replace(path, |file: &mut File| {
            let mut snapshot =
                keyspace.begin_snapshot(Detail::Plain, sink, host, at_cut).map_err(begin_failed)?;
            let out = BufWriter::with_capacity(BUFFER_LEN, InSteps { file, unsynced: 0 });
            rdb::write(keyspace, &mut snapshot, &aux, checksum == Checksum::Yes, out, |_| {
                self.check_cancelled()
            })
        })
    }
}
