//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE, WAITAOF, SHUTDOWN, and when they happen unasked.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::context::Context;
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use super::server::timeout;
use crate::node::Node;
use crate::persist::journal::{OnFailure, Stage, Target};
use crate::persist::rdb::{Expired, ReadOptions};
use crate::persist::save::Checksum;
use crate::persist::{Job, JobEnd};
use crate::route::{Answer, Call, ServerCommand, Waiting, deliver};

/// After a save that failed the next one is tried so much later.
const RETRY_AFTER_US: u64 = 5_000_000;
/// Writes are held back for so long at most while the last snapshot is saved.
const LAST_SAVE_US_MAX: u64 = 3_600_000_000;
/// How long the end of the process waits for a snapshot to be given up.
const GIVE_UP_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether a job has ended.
const STEP: Duration = Duration::from_millis(5);

/// What saving is answered in a cluster: the log and its snapshots keep the data set there.
fn kept_by_raft(node: &Node) -> Option<CommandError> {
    node.log_time().map(|_| {
        CommandError::known("ERR the Raft log and its snapshots keep the data set on this node")
    })
}

/// Runs what blocks; other tasks of this worker go on elsewhere meanwhile.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    if tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread)
    {
        return tokio::task::block_in_place(work);
    }
    work()
}

/// Tells the engine that writing to the journal fails, or works again.
#[must_use]
pub fn on_failure(node: &Arc<Node>) -> OnFailure {
    let node = Arc::downgrade(node);
    Arc::new(move |_| {
        if let Some(node) = node.upgrade() {
            node.persist.update_refusal(&node.engine);
        }
    })
}

/// What follows the moment that is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Commands go on.
    GoesOn,
    /// Nothing may change any more.
    Sealed,
}

/// Saves to the RDB file; the job has begun.
fn save_now(node: &Node, job: Job, after: After) -> io::Result<()> {
    let path = node.persist.rdb_path();
    let mut changes = 0;
    let checksum = if node.settings.rdbchecksum() { Checksum::Yes } else { Checksum::No };
    let saved = node.persist.claim_dir().and_then(|()| {
        node.persist.write_snapshot(&node.engine, node, &path, checksum, || {
            changes = node.changes.load(Relaxed);
            if after == After::Sealed {
                node.persist.seal(&node.engine, true);
            }
        })
    });
    let now_us = node.clock.monotonic_us();
    node.persist.finish(job, JobEnd::from(&saved), now_us, node.clock.now_ms() / 1000);
    node.persist.update_refusal(&node.engine);
    match saved {
        Ok(written) => {
            node.changes.fetch_sub(changes, Relaxed);
            tracing::info!("DB saved on disk: {} keys, {} bytes", written.keys, written.len);
            Ok(())
        }
        Err(error) => {
            tracing::warn!("Error saving {}: {error}", path.display());
            Err(error)
        }
    }
}

fn rewrite_now(node: &Node) {
    let rewritten = if node.persist.journal.is_on() {
        node.persist.rewrite(&node.engine, node)
    } else {
        node.persist.write_journal(&node.engine, node)
    };
    let now_us = node.clock.monotonic_us();
    node.persist.finish(Job::Rewrite, JobEnd::from(&rewritten), now_us, node.clock.now_ms() / 1000);
    match rewritten {
        Ok(written) => tracing::info!(
            "the journal was rewritten: {} keys, {} bytes",
            written.keys,
            written.len
        ),
        Err(error) => tracing::warn!("the journal could not be rewritten: {error}"),
    }
}

/// Runs a job on a thread of its own; it has begun.
fn in_background(node: &Arc<Node>, job: Job) -> io::Result<()> {
    let shared = Arc::clone(node);
    let spawned =
        std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || match job {
            Job::Rewrite => rewrite_now(&shared),
            Job::Save | Job::BackgroundSave => drop(save_now(&shared, job, After::GoesOn)),
        });
    spawned.map(drop).inspect_err(|error| {
        let now_us = node.clock.monotonic_us();
        node.persist.finish(job, JobEnd::Failed, now_us, node.clock.now_ms() / 1000);
        tracing::warn!("no thread could be started for a snapshot: {error}");
    })
}

/// Begins what the `save` rules, the growth of the journal or an earlier command ask for; called
/// several times a second.
pub fn tick(node: &Arc<Node>) {
    let report = node.persist.report();
    let loading = node.persist.loading.is_active();
    if report.running.is_some() || loading || node.log_time().is_some() {
        return;
    }
    let now_us = node.clock.monotonic_us();
    let start = |job| {
        if node.persist.begin(job, now_us).is_ok() {
            let _ = in_background(node, job);
        }
    };
    if report.rewrite_scheduled {
        return start(Job::Rewrite);
    }
    if report.save_scheduled {
        return start(Job::BackgroundSave);
    }
    let changes = node.changes.load(Relaxed);
    let since_s = (node.clock.now_ms() / 1000).saturating_sub(report.last_save_s);
    let waited = report.last_save_ok || now_us.saturating_sub(report.last_try_us) > RETRY_AFTER_US;
    for point in node.settings.save_points().iter() {
        if changes >= point.changes && since_s > point.seconds && waited {
            tracing::info!("{changes} changes in {} seconds. Saving...", point.seconds);
            return start(Job::BackgroundSave);
        }
    }
    let percentage = node.settings.auto_aof_rewrite_percentage();
    let (base, log) = node.persist.journal.sizes();
    // Each one that fails leaves one more log behind.
    let rewrite_retry_us = RETRY_AFTER_US << report.rewrite_failures.min(10);
    let grown = log.saturating_mul(100) / base.max(1);
    if node.persist.journal.is_on()
        && percentage > 0
        && base + log > node.settings.auto_aof_rewrite_min_size()
        && grown >= percentage
        && (report.rewrite_failures == 0
            || now_us.saturating_sub(report.last_rewrite_try_us) > rewrite_retry_us)
    {
        tracing::info!("Starting automatic rewriting of the journal on {grown}% growth");
        start(Job::Rewrite);
    }
}

/// Has CONFIG SET appendonly and appendfsync take effect.
pub fn follow_settings(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    node.config.on_change(&["appendfsync"], move |_| {
        if let Some(node) = weak.upgrade() {
            node.persist.journal.set_policy(node.persist.policy());
        }
        Ok(())
    });
    let weak = Arc::downgrade(node);
    node.config.on_change(&["dir", "save", "appendonly"], move |settings| {
        let Some(node) = weak.upgrade() else { return Ok(()) };
        let keeps = settings.appendonly() || !settings.save_points().is_empty();
        // Whoever keeps state in one directory will in the next.
        if !keeps && !node.persist.claims.any() {
            return Ok(());
        }
        node.persist.claim_dir().map_err(|error| error.to_string())
    });
    let weak = Arc::downgrade(node);
    node.config.on_change(&["appendonly"], move |settings| match weak.upgrade() {
        Some(node) => switch_journal(&node, settings.appendonly()),
        None => Ok(()),
    });
    let weak = Arc::downgrade(node);
    node.config.on_change(
        &["stop-writes-on-bgsave-error", "save", "min-replicas-to-write"],
        move |_| {
            if let Some(node) = weak.upgrade() {
                node.persist.update_refusal(&node.engine);
            }
            Ok(())
        },
    );
}

fn switch_journal(node: &Arc<Node>, on: bool) -> Result<(), String> {
    if let Some(error) = kept_by_raft(node) {
        return Err(error.text().trim_start_matches("ERR ").to_owned());
    }
    if on == node.persist.journal.is_on() {
        return Ok(());
    }
    if node.persist.loading.is_active() {
        return Err("the data set is being loaded; try again when that is done".to_owned());
    }
    if !on {
        blocking(|| node.persist.stop_journal(&node.engine));
        node.persist.update_refusal(&node.engine);
        return Ok(());
    }
    let now_us = node.clock.monotonic_us();
    node.persist
        .begin(Job::Rewrite, now_us)
        .map_err(|_| "a snapshot is being written; try again when it is done".to_owned())?;
    let started = blocking(|| node.persist.start_journal(&node.engine, &**node, on_failure(node)));
    let now_us = node.clock.monotonic_us();
    node.persist.finish(Job::Rewrite, JobEnd::from(&started), now_us, node.clock.now_ms() / 1000);
    started.map(drop).map_err(|error| format!("the journal could not be started: {error}"))
}

/// Loads what is there; to be called once, before the first command is admitted.
///
/// # Errors
/// When a file is damaged, told with what to do.
pub fn load_at_start(node: &Arc<Node>) -> io::Result<()> {
    if node.raft().is_some_and(|raft| raft.running().is_some()) {
        // A member's data is in its Raft log; what else lies there is from before.
        return Ok(());
    }
    let now = node.now();
    let loaded = node.persist.load_at_start(&node.engine, &**node, now, on_failure(node));
    // A journal tells thresholds of its own on the way.
    crate::limits::hand_over(node, &node.settings);
    node.persist.record_limits(&node.engine);
    loaded
}

/// Whether the process may end now: what is to be saved is saved, or it is forced.
/// Nothing changes after the cut of the last snapshot.
pub fn prepare_end(node: &Arc<Node>, save: bool, force: bool) -> bool {
    if node.persist.journal.failure().is_some() {
        tracing::error!("the last changes cannot be written to the journal");
        if !force {
            return false;
        }
    }
    node.persist.cancel(true);
    // Half a data set must not take the place of the file it is loaded from.
    if !save || node.persist.loading.is_active() || node.log_time().is_some() {
        return true;
    }
    tracing::warn!("Saving the final RDB snapshot before exiting.");
    let now_us = node.clock.monotonic_us();
    node.pause.begin(now_us, now_us.saturating_add(LAST_SAVE_US_MAX), true);
    wait_for_place(node, Job::Save);
    node.persist.cancel(false);
    if save_now(node, Job::Save, After::Sealed).is_ok() {
        node.quarantine.note_saved();
        return true;
    }
    if force {
        return true;
    }
    node.persist.seal(&node.engine, false);
    node.pause.end();
    false
}

/// Syncs the journal and waits for what is being written to be given up; whether nothing is
/// lost.
pub fn at_end(node: &Node) -> bool {
    node.persist.cancel(true);
    node.persist.journal.end();
    let since = std::time::Instant::now();
    while node.persist.report().running.is_some() && since.elapsed() < GIVE_UP_PATIENCE {
        std::thread::sleep(STEP);
    }
    node.persist.journal.failure().is_none()
}

/// Claims the one place of a job once it is free.
fn wait_for_place(node: &Node, job: Job) {
    while node.persist.begin(job, node.clock.monotonic_us()).is_err() {
        std::thread::sleep(STEP);
    }
}

/// `SAVE`: OK once everything is on disk; other clients go on.
fn save(call: &mut Call<'_>) -> Answer {
    if let Some(error) = kept_by_raft(call.node) {
        return error.into();
    }
    match call.node.persist.begin(Job::Save, call.node.clock.monotonic_us()) {
        Err(Job::BackgroundSave) => {
            return CommandError::known("ERR Background save already in progress").into();
        }
        Err(Job::Save | Job::Rewrite) => blocking(|| wait_for_place(call.node, Job::Save)),
        Ok(()) => {}
    }
    match blocking(|| save_now(call.node, Job::Save, After::GoesOn)) {
        Ok(()) => Reply::Ok.into(),
        Err(error) => CommandError::new(format!("ERR {error}")).into(),
    }
}

/// `BGSAVE [SCHEDULE]`
fn bgsave(call: &mut Call<'_>) -> Answer {
    if let Some(error) = kept_by_raft(call.node) {
        return error.into();
    }
    let schedule = match call.args {
        [_] => false,
        [_, option] if option.eq_ignore_ascii_case(b"schedule") => true,
        _ => return CommandError::SYNTAX.into(),
    };
    match call.node.persist.begin(Job::BackgroundSave, call.node.clock.monotonic_us()) {
        Ok(()) => match in_background(call.node, Job::BackgroundSave) {
            Ok(()) => Reply::simple("Background saving started").into(),
            Err(error) => CommandError::new(format!("ERR {error}")).into(),
        },
        Err(Job::Rewrite) if schedule => {
            call.node.persist.schedule(Job::BackgroundSave);
            Reply::simple("Background saving scheduled").into()
        }
        Err(Job::Rewrite) => CommandError::known(
            "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
             SCHEDULE in order to schedule a BGSAVE whenever possible.",
        )
        .into(),
        Err(_) => CommandError::known("ERR Background save already in progress").into(),
    }
}

/// `BGREWRITEAOF`: also while no journal is kept, for a later start with `appendonly yes`.
fn bgrewriteaof(call: &mut Call<'_>) -> Answer {
    if let Some(error) = kept_by_raft(call.node) {
        return error.into();
    }
    let persist = &call.node.persist;
    match persist.begin(Job::Rewrite, call.node.clock.monotonic_us()) {
        Ok(()) => match in_background(call.node, Job::Rewrite) {
            Ok(()) => Reply::simple("Background append only file rewriting started").into(),
            Err(error) => CommandError::new(format!("ERR {error}")).into(),
        },
        Err(Job::Rewrite) => {
            CommandError::known("ERR Background append only file rewriting already in progress")
                .into()
        }
        Err(_) => {
            persist.schedule(Job::Rewrite);
            Reply::simple("Background append only file rewriting scheduled").into()
        }
    }
}

/// `LASTSAVE`: when the last save succeeded, or the server started.
fn lastsave(call: &mut Call<'_>) -> Answer {
    Reply::Integer(call.node.persist.report().last_save_s as i64).into()
}

/// `WAITAOF numlocal numreplicas timeout`: whether the local journal, and how many replicas'
/// journals, hold what this client wrote.
fn waitaof(call: &mut Call<'_>) -> Answer {
    let local = match integer_text(call.args[1]) {
        None => return CommandError::NOT_AN_INTEGER.into(),
        Some(local @ (0 | 1)) => local,
        Some(_) => {
            return CommandError::known("ERR value is out of range, must be between 0 and 1")
                .into();
        }
    };
    let Some(replicas) = integer_text(call.args[2]) else {
        return CommandError::NOT_AN_INTEGER.into();
    };
    if replicas < 0 {
        return CommandError::NOT_POSITIVE.into();
    }
    let timeout = match timeout(call.args[3]) {
        Ok(timeout) => timeout,
        Err(error) => return error.into(),
    };
    let journal = &call.node.persist.journal;
    if local == 1 && !journal.is_on() {
        return CommandError::known(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        )
        .into();
    }
    // What this client wrote stands before what is queued now.
    let position = journal.appended();
    let target = Target { position, stage: Stage::Durable, owed: position };
    let durable = journal.is_on() && journal.has_reached(target);
    let enough = replicas == 0 && i64::from(durable) >= local;
    if enough || call.in_transaction {
        let counts = [i64::from(durable), 0].map(Reply::Integer);
        return Reply::Array(counts.into()).into();
    }
    if !journal.is_on() {
        let none = [Reply::Integer(0), Reply::Integer(0)];
        let reply = Reply::Array(none.into());
        return Answer::Wait(Waiting::Replicas { wanted: None, timeout, reply });
    }
    Answer::Wait(Waiting::Journal { target, timeout, replicas: replicas > 0 })
}

/// `SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]`: saves if asked to, or if there are `save`
/// rules, and ends the process; the journal is synced in any case.
fn shutdown(call: &mut Call<'_>) -> Answer {
    let (mut save, mut nosave, mut force, mut abort) = (false, false, false, false);
    for option in &call.args[1..] {
        match option.to_ascii_lowercase().as_slice() {
            b"nosave" => nosave = true,
            b"save" => save = true,
            b"force" => force = true,
            b"now" => {}
            b"abort" => abort = true,
            _ => return CommandError::SYNTAX.into(),
        }
    }
    if (abort && call.args.len() > 2) || (save && nosave) {
        return CommandError::SYNTAX.into();
    }
    if abort {
        return CommandError::known("ERR No shutdown in progress.").into();
    }
    let save = save || !nosave && !call.node.settings.save_points().is_empty();
    if !blocking(|| prepare_end(call.node, save, force)) {
        return CommandError::known("ERR Errors trying to SHUTDOWN. Check logs.").into();
    }
    call.session.closing = true;
    call.node.request_shutdown();
    Answer::Many(Vec::new())
}

fn save_once(node: &Arc<Node>) -> io::Result<()> {
    wait_for_place(node, Job::Save);
    save_now(node, Job::Save, After::GoesOn)
}

/// `DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]`: saves, empties the data set and loads it again.
pub(super) fn reload(call: &mut Call<'_>, options: &[&[u8]]) -> Answer {
    if let Some(error) = kept_by_raft(call.node) {
        return error.into();
    }
    let (mut save, mut flush, mut merge) = (true, true, false);
    for option in options {
        match option.to_ascii_lowercase().as_slice() {
            b"merge" => merge = true,
            b"noflush" => flush = false,
            b"nosave" => save = false,
            _ => {
                return CommandError::known(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                )
                .into();
            }
        }
    }
    let node = call.node;
    if save && blocking(|| save_once(node)).is_err() {
        return CommandError::known("ERR Error trying to save the DB, check server logs").into();
    }
    let path = node.persist.rdb_path();
    let loaded = with_clients_refused(node, || {
        if flush {
            empty(node)?;
        }
        let options = ReadOptions { now: node.now(), expired: Expired::Dropped, merge };
        node.persist.load_file(&node.engine, &path, options)
    });
    match loaded {
        Ok(_) => {
            // The journal tells of none of this: it begins anew with what is there now.
            if node.persist.journal.is_on() {
                node.persist.schedule(Job::Rewrite);
            }
            tracing::warn!("DB reloaded by DEBUG RELOAD");
            Reply::Ok.into()
        }
        Err(error) => {
            tracing::warn!("DEBUG RELOAD: {error}");
            CommandError::known("ERR Error trying to load the RDB dump, check server logs").into()
        }
    }
}

/// `DEBUG LOADAOF`: syncs the journal, empties the data set and replays it.
pub(super) fn loadaof(call: &mut Call<'_>) -> Answer {
    if let Some(error) = kept_by_raft(call.node) {
        return error.into();
    }
    let node = call.node;
    let loaded = with_clients_refused(node, || {
        let records = node.persist.journal.is_on();
        node.persist.stop_journal(&node.engine);
        empty(node)?;
        if records {
            return load_at_start(node);
        }
        let loaded = node.persist.load_journal(&node.engine);
        crate::limits::hand_over(node, &node.settings);
        loaded
    });
    match loaded {
        Ok(()) => {
            tracing::warn!("Append Only File loaded by DEBUG LOADAOF");
            Reply::Ok.into()
        }
        Err(error) => {
            tracing::warn!("DEBUG LOADAOF: {error}");
            CommandError::known("ERR Error trying to load the AOF files, check server logs").into()
        }
    }
}

fn empty(node: &Arc<Node>) -> io::Result<()> {
    let sequence = crate::commit::next_sequence();
    let context = Context::at(node.now(), sequence);
    let mut effects = node
        .engine
        .keyspace()
        .clear(context)
        .map_err(|error| io::Error::other(error.text().to_owned()))?;
    deliver::deliver(node, &mut effects);
    Ok(())
}

fn with_clients_refused<T>(node: &Node, work: impl FnOnce() -> T) -> T {
    node.persist.loading.begin(node.clock.now_ms() / 1000);
    let done = blocking(work);
    node.persist.loading.end();
    done
}

/// Writes `name:value` lines.
macro_rules! lines {
    ($out:expr, $($name:literal: $value:expr),* $(,)?) => {
        $(let _ = write!($out, "{}:{}\r\n", $name, $value);)*
    };
}

/// INFO's section persistence.
pub(super) fn info(node: &Node, out: &mut String) {
    let report = node.persist.report();
    let journal = &node.persist.journal;
    let loading = node.persist.loading.is_active();
    let running_s = |wanted: fn(Job) -> bool| match report.running {
        Some((job, since_us)) if wanted(job) => {
            (node.clock.monotonic_us().saturating_sub(since_us) / 1_000_000) as i64
        }
        _ => -1,
    };
    let saving = running_s(|job| job == Job::BackgroundSave);
    let rewriting = running_s(|job| job == Job::Rewrite);
    let word = |ok| if ok { "ok" } else { "err" };
    lines!(out,
        "loading": u8::from(loading),
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "rdb_changes_since_last_save": node.changes.load(Relaxed),
        "rdb_bgsave_in_progress": u8::from(saving >= 0),
        "rdb_last_save_time": report.last_save_s,
        "rdb_last_bgsave_status": word(report.last_save_ok),
        "rdb_last_bgsave_time_sec": report.last_save_took_s,
        "rdb_current_bgsave_time_sec": saving,
        "rdb_saves": report.saves,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": report.last_load.1,
        "rdb_last_load_keys_loaded": report.last_load.0,
        "aof_enabled": u8::from(journal.is_on()),
        "aof_rewrite_in_progress": u8::from(rewriting >= 0),
        "aof_rewrite_scheduled": u8::from(report.rewrite_scheduled),
        "aof_last_rewrite_time_sec": report.last_rewrite_took_s,
        "aof_current_rewrite_time_sec": rewriting,
        "aof_last_bgrewrite_status": word(report.rewrite_failures == 0),
        "aof_rewrites": report.rewrites,
        "aof_rewrites_consecutive_failures": report.rewrite_failures,
        "aof_last_write_status": word(journal.failure().is_none()),
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    );
    if journal.is_on() {
        let (base, log) = journal.sizes();
        let (queued, syncing, delayed) = journal.load();
        lines!(out,
            "aof_current_size": base + log,
            "aof_base_size": base,
            "aof_pending_rewrite": u8::from(report.rewrite_scheduled),
            "aof_buffer_length": queued,
            "aof_pending_bio_fsync": u8::from(syncing),
            "aof_delayed_fsync": delayed,
        );
    }
    if loading {
        let (started_s, total, done) = node.persist.loading.progress();
        let elapsed_s = (node.clock.now_ms() / 1000).saturating_sub(started_s);
        let perc = done as f64 * 100.0 / total.max(1) as f64;
        let eta_s = match done {
            0 => 1,
            done => elapsed_s.saturating_mul(total.saturating_sub(done)) / done,
        };
        lines!(out,
            "loading_start_time": started_s,
            "loading_total_bytes": total,
            "loading_loaded_bytes": done,
            "loading_loaded_perc": format_args!("{perc:.2}"),
            "loading_eta_seconds": eta_s,
        );
    }
}

const ADMIN: Flags = Flags::ADMIN.with(Flags::NOSCRIPT);

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("waitaof", 4, Group::Generic).flags(Flags::BLOCKING).doc(
            "7.2.0",
            "O(1)",
            "numlocal numreplicas timeout",
            "Blocks until all of the preceding write commands sent by the connection are written to the append-only file of the master and/or replicas.",
        ),
        waitaof,
    ),
    ServerCommand::new(
        Command::server("shutdown", -1, Group::Server)
            .flags(ADMIN.with(Flags::LOADING).with(Flags::STALE))
            .flags(Flags::NO_MULTI)
            .flags(Flags::ALLOW_BUSY)
            .doc("1.0.0", "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)", "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", "Synchronously saves the database(s) to disk and shuts down the Redis server."),
        shutdown,
    ),
    ServerCommand::new(
        Command::server("save", 1, Group::Server)
            .flags(ADMIN.with(Flags::NO_MULTI))
            .doc("1.0.0", "O(N) where N is the total number of keys in all databases", "", "Synchronously saves the database(s) to disk.")
            .differs("holds up only its own client"),
        save,
    ),
    ServerCommand::new(
        Command::server("bgsave", -1, Group::Server)
            .flags(ADMIN)
            .doc("1.0.0", "O(1)", "[SCHEDULE]", "Asynchronously saves the database(s) to disk."),
        bgsave,
    ),
    ServerCommand::new(
        Command::server("bgrewriteaof", 1, Group::Server)
            .flags(ADMIN)
            .doc("1.0.0", "O(1)", "", "Asynchronously rewrites the append-only file to disk.")
            .differs("the journal's format is Holdfast's own"),
        bgrewriteaof,
    ),
    ServerCommand::new(
        Command::server("lastsave", 1, Group::Server)
            .flags(Flags::LOADING.with(Flags::STALE).with(Flags::FAST))
            .doc("1.0.0", "O(1)", "", "Returns the Unix timestamp of the last successful save to disk."),
        lastsave,
    ),
];
