//! Loading at the start: the journal if one is kept, else the RDB file.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Release;
use std::time::{Duration, Instant};

use holdfast_engine::engine::Engine;
use holdfast_engine::host::Host;
use holdfast_engine::time::UnixMillis;

use super::Persist;
use super::files;
use super::journal::{self, LogFile, Manifest, OnFailure};
use super::rdb::{self, Expired, ReadOptions};

/// How often the log tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Tells progress to INFO and, now and then, to the log.
struct Teller<'a> {
    persist: &'a Persist,
    total: u64,
    told: Instant,
}

impl<'a> Teller<'a> {
    fn new(persist: &'a Persist, total: u64) -> Self {
        persist.loading.set_total(total);
        Self { persist, total, told: Instant::now() }
    }

    fn tell(&mut self, done: u64, items: u64) {
        self.persist.loading.set_done(done);
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let percent = done as f64 * 100.0 / self.total.max(1) as f64;
            tracing::info!("Loading: {percent:.1}% of {} bytes, {items} items", self.total);
        }
    }
}

impl Persist {
    /// Loads what is there into an empty engine and, with `appendonly yes`, begins to record.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read, told with what to do; the server must not serve
    /// then.
    pub fn load_at_start(
        &self,
        engine: &Engine,
        host: &dyn Host,
        now: UnixMillis,
        on_failure: OnFailure,
    ) -> io::Result<()> {
        let began = Instant::now();
        if !self.settings.appendonly() {
            self.warn_of_journal();
            if self.load_rdb(engine, now)? {
                tracing::info!("DB loaded from disk: {:.3} seconds", began.elapsed().as_secs_f64());
            }
            return Ok(());
        }
        let location = self.location();
        files::create_dir(&location.dir).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", location.dir.display()))
        })?;
        self.claim(&location)?;
        let manifest = Manifest::read(&location.dir, &location.names)?;
        let strangers =
            manifest.clone().unwrap_or_default().strangers(&location.dir, &location.names)?;
        if manifest.is_none()
            && let Some(name) = strangers.iter().find(|name| !name.starts_with("temp-"))
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is part of a journal whose manifest {} is missing: restore the directory \
                     from a backup, or move it away to start without it",
                    location.dir.join(name).display(),
                    location.names.manifest()
                ),
            ));
        }
        for name in strangers {
            tracing::info!("{name} was left behind by a crash and is removed");
            fs::remove_file(location.dir.join(name))?;
        }
        if let Some(manifest) = manifest.filter(|manifest| !manifest.is_empty()) {
            let total = journal::total_len(&location, &manifest)?;
            let mut teller = Teller::new(self, total);
            let truncate = self.settings.aof_load_truncated();
            let replayed = journal::replay(engine, &location, manifest, truncate, |told| {
                teller.tell(told.done, told.items);
            })?;
            self.replayed_whole.store(!replayed.torn, Release);
            self.note_load(replayed.keys, 0);
            if replayed.last > now {
                tracing::warn!(
                    "the wall clock was set back since the last change, by {} ms at least: keys \
                     expire so much later",
                    replayed.last.0 - now.0
                );
            }
            tracing::info!(
                "DB loaded from the journal: {} keys of its base and {} changes in {:.3} seconds",
                replayed.keys,
                replayed.calls,
                began.elapsed().as_secs_f64()
            );
            return self.go_on(engine, replayed, on_failure);
        }
        if self.load_rdb(engine, now)? {
            tracing::warn!("there was no journal yet: it begins with the RDB file's data set");
            self.start_journal(engine, host, on_failure)?;
            return Ok(());
        }
        Manifest::default().write(&location.dir, &location.names)?;
        let file = LogFile::create(&location, 1)?;
        Manifest { base: None, logs: vec![1] }.write(&location.dir, &location.names)?;
        self.record_to(engine, file, on_failure)
    }

    /// Loads the journal that is there into an empty engine while none is kept.
    ///
    /// # Errors
    /// When there is none, or it is damaged or cannot be read.
    pub fn load_journal(&self, engine: &Engine) -> io::Result<()> {
        let location = self.location();
        self.claim(&location)?;
        let loaded = Manifest::read(&location.dir, &location.names).and_then(|manifest| {
            let manifest = manifest
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no journal"))?;
            let truncate = self.settings.aof_load_truncated();
            journal::replay(engine, &location, manifest, truncate, |_| {}).map(drop)
        });
        self.release();
        loaded
    }

    /// Tells of a journal that is there and not asked for.
    fn warn_of_journal(&self) {
        let location = self.location();
        if let Ok(Some(manifest)) = Manifest::read(&location.dir, &location.names)
            && !manifest.is_empty()
        {
            tracing::warn!(
                "there is a journal in {}, which is not loaded: 'appendonly' is 'no'",
                location.dir.display()
            );
        }
    }

    fn go_on(
        &self,
        engine: &Engine,
        replayed: journal::Replayed,
        on_failure: OnFailure,
    ) -> io::Result<()> {
        let older_len = replayed.log_len.saturating_sub(replayed.file.len());
        let base_len = replayed.base_len;
        self.record_to(engine, replayed.file, on_failure)?;
        self.journal.set_sizes(base_len, older_len);
        Ok(())
    }

    fn record_to(&self, engine: &Engine, file: LogFile, on_failure: OnFailure) -> io::Result<()> {
        self.journal.start(file, self.policy(), on_failure)?;
        engine.keyspace().record_changes(true);
        Ok(())
    }

    /// Loads the RDB file, if there is one.
    fn load_rdb(&self, engine: &Engine, now: UnixMillis) -> io::Result<bool> {
        let path = self.rdb_path();
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
        }
        let options = ReadOptions { now, expired: Expired::Dropped, merge: false };
        self.load_file(engine, &path, options)?;
        Ok(true)
    }

    /// Loads an RDB file.
    ///
    /// # Errors
    /// When it is damaged or cannot be read, told with its name.
    pub fn load_file(&self, engine: &Engine, path: &Path, options: ReadOptions) -> io::Result<u64> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let mut teller = Teller::new(self, file.metadata().map_err(named)?.len());
        let loaded =
            rdb::read(engine.keyspace(), file, options, |done, keys| teller.tell(done, keys));
        let loaded = loaded.map_err(|error| {
            let reason = format!(
                "{} cannot be loaded {error}. Restore it from a backup, or move it away to start \
                 with an empty data set",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        for what in &loaded.lost {
            tracing::warn!("{} is loaded without {what}", path.display());
        }
        for what in &loaded.corrected {
            tracing::warn!("{}: {what}: corrected", path.display());
        }
        let produced = loaded.aux.iter().find(|(name, _)| name == b"redis-ver");
        if let Some((_, version)) = produced {
            tracing::info!("Loading RDB produced by version {}", String::from_utf8_lossy(version));
        }
        tracing::info!(
            "Done loading RDB, keys loaded: {}, keys expired: {}.",
            loaded.keys,
            loaded.expired
        );
        self.note_load(loaded.keys, loaded.expired);
        Ok(loaded.keys)
    }
}
