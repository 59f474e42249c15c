//! What a snapshot's data consists of: scripts, and then what an RDB file for a replica holds.
//!
//! That is keys with the form each stands in and its version, marks of deleted keys, libraries of
//! functions, locks with the counter of their tokens, and leases: so that a replica made from a
//! snapshot goes on exactly like one that applied the log.

use std::io::{self, Read, Write};

use holdfast_engine::context::Context;
use holdfast_engine::dump::record::Detail;
use holdfast_engine::dump::{DumpError, Sink, Source};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Alone;
use holdfast_engine::keyspace::SnapshotError;
use holdfast_engine::time::UnixMillis;

use crate::persist::rdb::{self, Expired, ReadOptions};

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn damaged(error: DumpError) -> io::Error {
    bad(error.to_string())
}

/// Writes what the engine holds at the moment at which `at_cut` is called; commands go on.
///
/// # Errors
/// Those of `out`, and when the shards could not be had.
pub(super) fn save(engine: &Engine, at_cut: impl FnOnce(), out: &mut impl Write) -> io::Result<()> {
    let mut scripts = Vec::new();
    let begun = engine.keyspace().begin_snapshot(Detail::Replica, Sink::plain(), &Alone, || {
        scripts = engine.scripts().all();
        at_cut();
    });
    let mut snapshot = begun.map_err(|error| match error {
        SnapshotError::InProgress => io::Error::other("another snapshot is being taken"),
        SnapshotError::Busy(error) => io::Error::other(error.to_string()),
    })?;
    let mut sink = Sink::plain();
    sink.len(scripts.len() as u64);
    for (script, loaded) in &scripts {
        sink.byte(u8::from(*loaded));
        sink.len(script.body.len() as u64);
        sink.raw(&script.body);
    }
    out.write_all(&sink.bytes)?;
    // The snapshot's own checksum covers it.
    rdb::write(engine.keyspace(), &mut snapshot, &[], false, out, |_| Ok(()))?;
    Ok(())
}

/// Replaces what the engine holds by what [`save`] wrote; `now` is the snapshot's time.
///
/// # Errors
/// Those of `from`, and bytes that are not what was written.
pub(super) fn load(engine: &Engine, now: UnixMillis, from: &mut impl Read) -> io::Result<()> {
    let keyspace = engine.keyspace();
    let cleared = keyspace.clear(Context::at(now, 0));
    drop(cleared.map_err(|error| io::Error::other(error.to_string()))?);
    engine.scripts().flush();
    let mut source = Source::new(from);
    for _ in 0..source.length().map_err(damaged)? {
        let loaded = source.byte().map_err(damaged)? == 1;
        let len = source.length().map_err(damaged)?;
        let body = source.bytes(len).map_err(damaged)?;
        engine
            .restore_script(&body, loaded)
            .map_err(|_| bad("a script of the snapshot does not compile"))?;
    }
    // What has expired stands as it stood: the log goes on from there.
    let options = ReadOptions { now, expired: Expired::Kept, merge: false };
    let loaded = rdb::read(keyspace, source.inner_mut(), options, |_, _| {})
        .map_err(|error| bad(error.to_string()))?;
    if let Some(lost) = loaded.lost.first() {
        return Err(bad(format!("the snapshot holds {lost}")));
    }
    if !loaded.placed_alike {
        return Err(bad("the snapshot is of a cluster with another hash seed"));
    }
    Ok(())
}
