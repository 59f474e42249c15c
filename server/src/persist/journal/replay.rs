//! Reading the journal back: its base, then every record of its logs in order.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use holdfast_engine::command::{Command, CommandTable, Handler};
use holdfast_engine::context::Context;
use holdfast_engine::dump::journal::Reader;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Alone;
use holdfast_engine::time::UnixMillis;

use super::frame::{Fault, FrameReader, records};
use super::{Location, LogFile, Manifest};
use crate::persist::files;
use crate::persist::rdb::{self, Expired, ReadOptions};

/// A record of this time is no change: it tells the thresholds of encodings from here on, each
/// `name value`, for the order in which a set is iterated depends on them.
pub const LIMITS_MARK: UnixMillis = UnixMillis(i64::MIN);

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replaying {
    /// Bytes read.
    pub done: u64,
    /// Keys of the base and calls of the logs.
    pub items: u64,
}

/// What was replayed.
#[derive(Debug)]
pub struct Replayed {
    /// The file to go on with.
    pub file: LogFile,
    /// Its manifest.
    pub manifest: Manifest,
    /// Bytes of the base.
    pub base_len: u64,
    /// Bytes of the logs.
    pub log_len: u64,
    /// Keys of the base.
    pub keys: u64,
    /// Calls of the logs.
    pub calls: u64,
    /// The time of the last record.
    pub last: UnixMillis,
}

/// What to do about damage.
fn advice(location: &Location) -> String {
    format!(
        "restore the directory from a backup, or cut the journal there with \
         'holdfast-server --repair-journal {}', which keeps what it cuts off",
        location.dir.display()
    )
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Bytes of all files of a journal.
///
/// # Errors
/// When one is missing.
pub(in crate::persist) fn total_len(location: &Location, manifest: &Manifest) -> io::Result<u64> {
    let len = |name: String| {
        let path = location.dir.join(name);
        std::fs::metadata(&path)
            .map(|meta| meta.len())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let base = manifest.base.map(|number| len(location.names.base(number))).transpose()?;
    let logs: io::Result<u64> =
        manifest.logs.iter().map(|number| len(location.names.log(*number))).sum();
    Ok(base.unwrap_or(0) + logs?)
}

/// Replays a journal into an empty engine. With `truncate` a torn tail is cut off and told,
/// else it is an error.
///
/// # Errors
/// When a file is missing, cannot be read or is damaged: with its name, the offset, and what to
/// do.
pub fn replay(
    engine: &Engine,
    location: &Location,
    manifest: Manifest,
    truncate: bool,
    mut progress: impl FnMut(Replaying),
) -> io::Result<Replayed> {
    let mut told = Replaying::default();
    let mut base_len = 0;
    if let Some(number) = manifest.base {
        let path = location.dir.join(location.names.base(number));
        let file = open(&path)?;
        base_len = file.metadata()?.len();
        let options =
            ReadOptions { now: UnixMillis(i64::MIN), expired: Expired::Kept, merge: false };
        let loaded = rdb::read(engine.keyspace(), file, options, |done, keys| {
            progress(Replaying { done, items: keys });
        });
        let loaded = loaded.map_err(|error| {
            invalid(format!("{} is damaged {error}. {}", path.display(), advice(location)))
        })?;
        told = Replaying { done: base_len, items: loaded.keys };
    }
    let keys = told.items;
    let mut player = Player::new(engine);
    let mut torn: Option<(PathBuf, u64)> = None;
    let mut resumed = None;
    let mut log_len = 0;
    for number in &manifest.logs {
        let path = location.dir.join(location.names.log(*number));
        let file = open(&path)?;
        let len = file.metadata()?.len();
        let input = BufReader::with_capacity(1 << 20, file);
        let (good, next) = match read_log(input, len, *number, &mut player, |done, calls| {
            progress(Replaying { done: told.done + done, items: keys + calls });
        }) {
            Ok((good, next, None)) => (good, next),
            Ok((good, next, Some(()))) => {
                torn = Some((path.clone(), good));
                (good, next)
            }
            Err(Fault::Io(error)) => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
            Err(Fault::Damaged { offset, reason }) => {
                return Err(invalid(format!(
                    "{} is damaged at byte {offset}: {reason}. {}",
                    path.display(),
                    advice(location)
                )));
            }
            Err(Fault::Torn { .. }) => unreachable!("Invariant: read_log tells a torn tail"),
        };
        if let Some((torn_path, at)) = &torn
            && *torn_path != path
            && next > 1
        {
            return Err(invalid(format!(
                "{} is damaged at byte {at}: it ends there, and {} goes on. {}",
                torn_path.display(),
                path.display(),
                advice(location)
            )));
        }
        told.done += len;
        log_len += good;
        resumed = Some((path, *number, good, next));
    }
    if let Some((path, good)) = &torn {
        drop_tail(path, *good, truncate)?;
    }
    let Some((path, number, good, next)) = resumed else {
        return Err(invalid("the manifest names no log".to_owned()));
    };
    let file = LogFile::resume(&path, number, good, next)?;
    let (calls, last) = (player.calls, player.last);
    Ok(Replayed { file, manifest, base_len, log_len, keys, calls, last })
}

fn open(path: &std::path::Path) -> io::Result<File> {
    File::open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Cuts off a torn tail and keeps it beside the file.
fn drop_tail(path: &std::path::Path, good: u64, truncate: bool) -> io::Result<()> {
    let len = std::fs::metadata(path)?.len();
    if !truncate {
        return Err(invalid(format!(
            "{} ends in a record that was not written whole, at byte {good}, and \
             'aof-load-truncated' is 'no': set it to 'yes' to drop that record",
            path.display()
        )));
    }
    tracing::warn!(
        "{} ends in a record that was not written whole: {} bytes from byte {good} on are \
         dropped. They were not acknowledged under 'appendfsync always'",
        path.display(),
        len - good
    );
    let file = File::options().write(true).open(path)?;
    file.set_len(good)?;
    file.sync_all()?;
    files::sync_dir(&files::dir_of(path))
}

/// Reads a log to its end: bytes that are good, the next frame's number, and whether a torn tail
/// follows.
fn read_log(
    input: impl io::Read,
    len: u64,
    number: u64,
    player: &mut Player<'_>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(u64, u64, Option<()>), Fault> {
    let mut reader = match FrameReader::new(input, len, number) {
        Ok(reader) => reader,
        Err(Fault::Torn { good }) => return Ok((good, 1, Some(()))),
        Err(fault) => return Err(fault),
    };
    let mut payload = Vec::new();
    loop {
        let offset = reader.offset();
        match reader.next_frame(&mut payload) {
            Ok(true) => {}
            Ok(false) => return Ok((offset, reader.next_number(), None)),
            Err(Fault::Torn { good }) => return Ok((good, reader.next_number(), Some(()))),
            Err(fault) => return Err(fault),
        }
        for record in records(&payload) {
            record
                .ok_or_else(|| "a record is longer than its frame".to_owned())
                .and_then(|record| player.play(record))
                .map_err(|reason| Fault::Damaged { offset, reason })?;
        }
        progress(reader.offset(), player.calls);
    }
}

/// Runs records on an engine.
#[derive(Debug)]
pub struct Player<'e> {
    engine: &'e Engine,
    table: &'static CommandTable,
    sequence: u64,
    calls: u64,
    last: UnixMillis,
}

impl<'e> Player<'e> {
    /// Begins with the engine as it is.
    #[must_use]
    pub fn new(engine: &'e Engine) -> Self {
        Self { engine, table: table(), sequence: 0, calls: 0, last: UnixMillis(0) }
    }

    /// Runs the calls of one record.
    ///
    /// # Errors
    /// When it is no record, or one that cannot be replayed here.
    pub fn play(&mut self, record: &[u8]) -> Result<(), String> {
        const BAD: &str = "a record is not what a record should be";
        let mut reader = Reader::new(record).ok_or(BAD)?;
        let now = reader.now();
        let mut args = Vec::new();
        let mut effects = Effects::new(EventClass::NONE);
        while let Some((db, seed, touch)) = reader.next_call(&mut args).map_err(|()| BAD)? {
            if now == LIMITS_MARK {
                self.set_limit(&args);
                continue;
            }
            if db.0 >= self.engine.keyspace().databases() {
                let databases = self.engine.keyspace().databases();
                return Err(format!(
                    "it uses database {} and there are {databases}: raise 'databases'",
                    db.0
                ));
            }
            let row = self.row(&args).ok_or_else(|| {
                let name = String::from_utf8_lossy(args[0]);
                format!("it holds the command '{name}', which cannot be replayed here")
            })?;
            self.sequence += 1;
            self.calls += 1;
            let context =
                Context { db, now, seed: seed.unwrap_or(0), sequence: self.sequence, touch };
            let outcome = self.engine.run(row, &args, context, &Alone, &mut effects);
            if outcome.reply.is_error() {
                // It may have failed then, too, after it had changed something.
                let name = String::from_utf8_lossy(args[0]);
                tracing::warn!("the command '{name}' fails when it is replayed");
            }
            effects.notices.clear();
            effects.garbage.clear();
            effects.wait = None;
            self.last = self.last.max(now);
        }
        Ok(())
    }

    fn set_limit(&self, args: &[&[u8]]) {
        if let [name, value] = args
            && let Ok(name) = std::str::from_utf8(name)
            && let Some(value) = holdfast_engine::value::integer_text(value)
        {
            self.engine.keyspace().limits().set(name, value);
        }
    }

    fn row(&self, args: &[&[u8]]) -> Option<&'static Command> {
        let mut row = self.table.find(args.first()?)?;
        if matches!(row.handler, Handler::Container) {
            row = self.table.find_sub(row, args.get(1)?)?;
        }
        (matches!(row.handler, Handler::Write(_)) && row.accepts(args.len())).then_some(row)
    }
}
