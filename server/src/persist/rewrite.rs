//! Beginning the journal anew: a snapshot, and a log of what follows it.
//!
//! The next log is created and named in the manifest before the cut, at which the writer goes
//! over to it; when the snapshot is on disk the manifest names it and that log alone. A crash
//! at any moment leaves a manifest whose files replay to the same state.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use holdfast_engine::context::Touch;
use holdfast_engine::dump::journal::{Call, Changes};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Host;
use holdfast_engine::time::DbIndex;

use super::journal::{Journal, LIMITS_MARK, Location, LogFile, Manifest, OnFailure};
use super::rdb::Written;
use super::save::Checksum;
use super::{Held, Persist, claim, files};

/// How long the writer may take to go over to the next log, its disk being slow.
const SWITCH_PATIENCE: Duration = Duration::from_secs(60);

/// Records the thresholds of encodings.
pub(super) fn append_limits(journal: &Journal, engine: &Engine) {
    let mut changes = Changes::default();
    engine.keyspace().limits().each(|name, value| {
        let value = value.to_string();
        changes.push(&Call {
            token: None,
            db: DbIndex(0),
            seed: None,
            touch: Touch::Counts,
            args: &[name.as_bytes(), value.as_bytes()],
        });
    });
    journal.append(&mut |out| changes.write(LIMITS_MARK, out));
}

fn remove(location: &Location, name: String) {
    let path = location.dir.join(name);
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} could not be removed: {error}", path.display());
    }
}

fn remove_all(location: &Location, old: Manifest) {
    if let Some(base) = old.base {
        remove(location, location.names.base(base));
    }
    for log in old.logs {
        remove(location, location.names.log(log));
    }
}

impl Persist {
    /// Replaces the journal by a snapshot of now and a new log.
    ///
    /// # Errors
    /// Those of the disk; the journal then goes on as it was.
    pub fn rewrite(&self, engine: &Engine, host: &dyn Host) -> io::Result<Written> {
        let location = self.location();
        let Some(mut manifest) = Manifest::read(&location.dir, &location.names)? else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the journal's manifest is gone"));
        };
        let old = manifest.clone();
        let number = manifest.logs.iter().chain(&manifest.base).max().map_or(1, |last| last + 1);
        let next = LogFile::create(&location, number)?;
        manifest.logs.push(number);
        manifest.write(&location.dir, &location.names)?;
        let path = location.dir.join(location.names.base(number));
        let journal = &self.journal;
        let mut next = Some(next);
        let written = self.write_snapshot(engine, host, &path, Checksum::Yes, || {
            if let Some(next) = next.take() {
                journal.switch_to(next);
                append_limits(journal, engine);
            }
        })?;
        let since = Instant::now();
        while journal.number() != number {
            if since.elapsed() > SWITCH_PATIENCE || !journal.is_on() {
                remove(&location, location.names.base(number));
                return Err(io::Error::other("the writer did not go over to the next log"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let new = Manifest { base: Some(number), logs: vec![number] };
        new.write(&location.dir, &location.names)?;
        journal.set_sizes(written.len, 0);
        remove_all(&location, old);
        Ok(written)
    }

    /// Writes a journal of all keys as they are now while none is kept: the next start with
    /// `appendonly yes` goes on from there.
    ///
    /// # Errors
    /// Those of the disk; an earlier journal is then still there.
    pub fn write_journal(&self, engine: &Engine, host: &dyn Host) -> io::Result<Written> {
        let location = self.location();
        files::create_dir(&location.dir)?;
        self.claim(&location)?;
        let written = self.write_files(engine, host, &location);
        self.release();
        written
    }

    fn write_files(
        &self,
        engine: &Engine,
        host: &dyn Host,
        location: &Location,
    ) -> io::Result<Written> {
        let (old, number) = self.next_number(location)?;
        LogFile::create(location, number)?;
        let path = location.dir.join(location.names.base(number));
        let written = self.write_snapshot(engine, host, &path, Checksum::Yes, || {})?;
        let manifest = Manifest { base: Some(number), logs: vec![number] };
        manifest.write(&location.dir, &location.names)?;
        remove_all(location, old);
        Ok(written)
    }

    /// The manifest that is there, and a number that none of its files bears.
    fn next_number(&self, location: &Location) -> io::Result<(Manifest, u64)> {
        let old = Manifest::read(&location.dir, &location.names)?.unwrap_or_default();
        if old.is_empty() {
            // From here on a file without a name in it is what a crash left behind.
            old.write(&location.dir, &location.names)?;
        }
        let number = old.logs.iter().chain(&old.base).max().map_or(1, |last| last + 1);
        Ok((old, number))
    }

    /// Begins a journal where there is none, with all keys as they are now.
    ///
    /// # Errors
    /// Those of the disk; nothing is recorded then.
    pub fn start_journal(
        &self,
        engine: &Engine,
        host: &dyn Host,
        on_failure: OnFailure,
    ) -> io::Result<Written> {
        let location = self.location();
        files::create_dir(&location.dir)?;
        self.claim(&location)?;
        // What an earlier journal left behind is not what follows this snapshot.
        let (old, number) = self.next_number(&location)?;
        let mut file = Some(LogFile::create(&location, number)?);
        let path = location.dir.join(location.names.base(number));
        let mut started = Ok(());
        let written = self.write_snapshot(engine, host, &path, Checksum::Yes, || {
            if let Some(file) = file.take() {
                started = self.journal.start(file, self.policy(), on_failure);
                if started.is_ok() {
                    append_limits(&self.journal, engine);
                    engine.keyspace().record_changes(true);
                }
            }
        });
        let written = started.and(written).and_then(|written| {
            let manifest = Manifest { base: Some(number), logs: vec![number] };
            manifest.write(&location.dir, &location.names)?;
            Ok(written)
        });
        match &written {
            Ok(written) => {
                self.journal.set_sizes(written.len, 0);
                remove_all(&location, old);
            }
            Err(_) => self.stop_journal(engine),
        }
        written
    }

    /// Records nothing any more; what was recorded is synced first.
    pub fn stop_journal(&self, engine: &Engine) {
        engine.keyspace().record_changes(false);
        if self.journal.is_on() {
            self.journal.stop();
        }
        self.release();
    }

    /// Lets others write to the journal's directory.
    pub(super) fn release(&self) {
        *self.lock.lock() = None;
    }

    /// Makes sure that no other process writes to the journal's directory.
    ///
    /// # Errors
    /// When another does.
    pub(super) fn claim(&self, location: &Location) -> io::Result<()> {
        // One's own lock is in one's own way, too.
        let mut held = self.lock.lock();
        *held = None;
        *held = Some(Held { location: location.clone(), _lock: claim::lock_inner(&location.dir)? });
        Ok(())
    }
}
