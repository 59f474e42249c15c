//! Writing a snapshot as an RDB file.

use std::collections::BTreeSet;
use std::io::{self, Write};

use holdfast_engine::dump::record::{Detail, opcode};
use holdfast_engine::dump::{RDB_VERSION_WRITTEN, Sink, crc64};
use holdfast_engine::keyspace::{Keyspace, Snapshot};

use super::{AUX_MARKS, AUX_PLACEMENT, MAGIC};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes.
    pub len: u64,
    /// Keys.
    pub keys: u64,
}

/// Counts and sums up what passes.
struct Output<W> {
    inner: W,
    len: u64,
    crc: Option<u64>,
}

impl<W: Write> Output<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.len += bytes.len() as u64;
        if let Some(crc) = &mut self.crc {
            *crc = crc64(*crc, bytes);
        }
        self.inner.write_all(bytes)
    }

    fn flush_sink(&mut self, sink: &mut Sink) -> io::Result<()> {
        self.put(&sink.bytes)?;
        sink.bytes.clear();
        Ok(())
    }
}

fn push_aux(sink: &mut Sink, name: &[u8], value: &[u8]) {
    sink.byte(opcode::AUX);
    sink.string(name);
    sink.string(value);
}

/// Writes everything a snapshot holds, with `aux` among the fields at its head. `progress` is
/// told the number of keys so far; it may end the whole by an error.
///
/// # Errors
/// Those of `out` and of `progress`.
pub fn write<W: Write>(
    keyspace: &Keyspace,
    snapshot: &mut Snapshot<'_>,
    aux: &[(&[u8], &[u8])],
    checksum: bool,
    out: W,
    mut progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Written> {
    let mut out = Output { inner: out, len: 0, crc: checksum.then_some(0) };
    let mut sink = Sink::plain();
    sink.raw(MAGIC);
    sink.raw(format!("{RDB_VERSION_WRITTEN:04}").as_bytes());
    for (name, value) in aux {
        push_aux(&mut sink, name, value);
    }
    if snapshot.detail() == Detail::Replica {
        push_aux(&mut sink, AUX_PLACEMENT, &keyspace.placement().to_le_bytes());
        for marks in snapshot.marks() {
            let mut value = Vec::with_capacity(4 + 8 * marks.marks.len());
            value.extend_from_slice(&marks.db.0.to_le_bytes());
            value.extend_from_slice(&marks.shard.to_le_bytes());
            marks.marks.iter().for_each(|mark| value.extend_from_slice(&mark.to_le_bytes()));
            push_aux(&mut sink, AUX_MARKS, &value);
        }
    }
    out.flush_sink(&mut sink)?;
    let sizes = snapshot.sizes().to_vec();
    let (mut keys, mut selected, mut sized) = (0u64, None, BTreeSet::new());
    while let Some(chunk) = snapshot.next_chunk() {
        if selected != Some(chunk.db) {
            selected = Some(chunk.db);
            sink.byte(opcode::SELECT_DB);
            sink.len(chunk.db.0.into());
            if sized.insert(chunk.db)
                && let Some(size) = sizes.iter().find(|size| size.db == chunk.db)
            {
                sink.byte(opcode::RESIZE_DB);
                sink.len(size.keys as u64);
                sink.len(size.expires as u64);
            }
        }
        chunk.write(&mut sink);
        keys += chunk.len() as u64;
        out.flush_sink(&mut sink)?;
        progress(keys)?;
    }
    sink.byte(opcode::END);
    out.flush_sink(&mut sink)?;
    let crc = out.crc.take().unwrap_or(0);
    out.put(&crc.to_le_bytes())?;
    out.inner.flush()?;
    Ok(Written { len: out.len, keys })
}
