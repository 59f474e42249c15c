//! What a snapshot's data consists of: scripts, marks of deleted keys, keys with their versions.
//!
//! Values are as RDB has them, with the form each stood in and its version beside it, so that a
//! replica made from a snapshot goes on exactly like one that applied the log.

use std::io::{self, Read, Write};

use holdfast_engine::context::Context;
use holdfast_engine::dump::record::{
    AUX_FIELD_EXPIRIES, AUX_KEYS, Beside, Detail, opcode, set_field_expiries,
};
use holdfast_engine::dump::{DumpError, Fit, Sink, Source, decode};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Alone;
use holdfast_engine::keyspace::{Marks, SnapshotError};
use holdfast_engine::time::{DbIndex, UnixMillis};

/// Bytes are handed on in runs of about so many.
const RUN_LEN: usize = 256 << 10;
/// Marks per shard; more is damage.
const MARKS_MAX: u64 = 1024;

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn damaged(error: DumpError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
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
    sink.len(snapshot.marks().len() as u64);
    for marks in snapshot.marks() {
        sink.len(u64::from(marks.db.0));
        sink.len(u64::from(marks.shard));
        sink.len(marks.marks.len() as u64);
        for mark in &marks.marks {
            sink.raw(&mark.to_le_bytes());
        }
    }
    while let Some(chunk) = snapshot.next_chunk() {
        sink.byte(opcode::SELECT_DB);
        sink.len(u64::from(chunk.db.0));
        chunk.write(&mut sink);
        if sink.bytes.len() > RUN_LEN {
            out.write_all(&sink.bytes)?;
            sink.bytes.clear();
        }
    }
    sink.byte(opcode::END);
    out.write_all(&sink.bytes)
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
    let marks = read_marks(&mut source).map_err(damaged)?;
    read_keys(engine, now, &mut source)?;
    // Last, for putting keys back leaves marks, too.
    for told in &marks {
        keyspace.set_marks(told);
    }
    Ok(())
}

fn read_marks<R: Read>(source: &mut Source<R>) -> Result<Vec<Marks>, DumpError> {
    const BAD: DumpError = DumpError::Damaged("marks of deleted keys");
    let mut found = Vec::new();
    for _ in 0..source.length()? {
        let db = u16::try_from(source.length()?).map_err(|_| BAD)?;
        let shard = u16::try_from(source.length()?).map_err(|_| BAD)?;
        let count = source.length()?;
        if count > MARKS_MAX {
            return Err(BAD);
        }
        let mut marks = Vec::new();
        for _ in 0..count {
            marks.push(u64::from_le_bytes(source.array()?));
        }
        found.push(Marks { db: DbIndex(db), shard, marks });
    }
    Ok(found)
}

fn read_keys<R: Read>(engine: &Engine, now: UnixMillis, source: &mut Source<R>) -> io::Result<()> {
    let mut db = DbIndex(0);
    let mut beside = Beside::default();
    let mut expires_at = None;
    let mut field_expiries = None;
    loop {
        match source.byte().map_err(damaged)? {
            opcode::END if beside.is_done() => return Ok(()),
            opcode::SELECT_DB => {
                let index = source.length().map_err(damaged)?;
                let index = u16::try_from(index).map_err(|_| bad("a database"))?;
                if index >= engine.keyspace().databases() {
                    return Err(bad("the snapshot has more databases than 'databases' allows"));
                }
                db = DbIndex(index);
            }
            opcode::AUX => {
                let name = source.string().map_err(damaged)?;
                let told = source.string().map_err(damaged)?;
                if name == AUX_KEYS && beside.is_done() {
                    beside = Beside::read(&told).map_err(damaged)?;
                } else if name == AUX_FIELD_EXPIRIES {
                    field_expiries = Some(told);
                } else {
                    return Err(bad("an unknown field in the snapshot"));
                }
            }
            opcode::EXPIRE_MS => {
                let at = source.array().map_err(damaged)?;
                expires_at = Some(UnixMillis(i64::from_le_bytes(at)));
            }
            opcode::END => return Err(bad("keys are missing from the snapshot")),
            kind => {
                let (Some(form), Some(version)) = (beside.next_form(), beside.next_version())
                else {
                    return Err(bad("a key without a version"));
                };
                let key = source.string().map_err(damaged)?;
                let mut value = decode(kind, source, Fit::As(form)).map_err(damaged)?;
                if let Some(told) = field_expiries.take() {
                    set_field_expiries(&mut value, &told).map_err(damaged)?;
                }
                let record = value.into_record(&key, expires_at.take());
                engine.keyspace().load(db, record, version, now);
            }
        }
    }
}
