//! A node: everything that connections share.

use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};

use holdfast_engine::command::Command;
use holdfast_engine::effects::{Audience, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::{
    Grant, GrantKind, Host, LockWaiter, RunningFunction, ScriptKind, ScriptProgress,
};
use holdfast_engine::time::{DbIndex, UnixMillis};
use holdfast_engine::{CommandError, Reply};
use tokio::sync::watch;

use crate::acl::{Catalogue, Users};
use crate::clock::{Clock, kept};
use crate::commit::raft::RaftNode;
use crate::commit::raft::applied::Applied;
use crate::commit::raft::identity::Identity;
use crate::commit::raft::transport::handshake::Secret;
use crate::config::settings::FsyncPolicy;
use crate::config::{Config, Settings};
use crate::memory::Eviction;
use crate::observe::Observed;
use crate::persist::Persist;
use crate::persist::claim::Claims;
use crate::persist::journal::Policy as Sync;
use crate::pubsub::Registry as PubSub;
use crate::quarantine::{Policy, Quarantine, Recovery};
use crate::route::blocked::Blocked;
use crate::route::monitor::Monitors;
use crate::route::pause::Pause;
use crate::route::scripts::Scripts;
use crate::session::Registry;
use crate::session::tracking::{self, Reads, Tracking};

/// How the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It is not.
    No,
    /// As soon as replies are sent.
    Requested,
}

/// A clock that is further off wall time when the server starts is worth a warning.
const CLOCK_OFFSET_TOLD_MS: i64 = 1_000;

/// Everything that connections share.
#[derive(Debug)]
pub struct Node {
    /// The directives.
    pub config: Config,
    /// Their values, for the hot path.
    pub settings: Arc<Settings>,
    /// The data.
    pub engine: Engine,
    /// The server's clock.
    pub clock: Clock,
    /// What is known of evictions.
    pub eviction: Eviction,
    /// Users and what they may do.
    pub acl: Users,
    /// Connected clients.
    pub clients: Registry,
    /// Files: snapshots and the journal.
    pub persist: Persist,
    /// Subscriptions.
    pub pubsub: Arc<PubSub>,
    /// What INFO, SLOWLOG and LATENCY tell.
    pub observe: Observed,
    /// Clients that wait for keys.
    pub blocked: Blocked,
    /// What may be granted after a restart.
    pub quarantine: Quarantine,
    /// Clients that see every command.
    pub monitors: Monitors,
    /// CLIENT TRACKING.
    pub tracking: Tracking,
    /// The classes of keyspace events to record, kept in step with `notify-keyspace-events` and
    /// with whether any client tracks; what every command asks for in one word.
    events: AtomicU32,
    refreshing: parking_lot::Mutex<()>,
    /// How far off the clock was when that was last looked at, ms.
    clock_told_ms: AtomicI64,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Scripts that run for long.
    pub scripts: Scripts,
    /// Whether expired keys are removed without being looked at (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: std::sync::atomic::AtomicBool,
    /// Whether scripts may call DEBUG (DEBUG SET-DISABLE-DENY-SCRIPTS).
    pub debug_in_scripts: std::sync::atomic::AtomicBool,
    /// When it started, Unix seconds.
    pub started_unix_s: u64,
    /// A name of 40 hex digits that no other run bears.
    pub run_id: String,
    /// Changes of the data set since the last save.
    pub changes: AtomicU64,
    connected: AtomicUsize,
    /// The time by the log, on a node that runs Raft.
    log_time: Option<Arc<Applied>>,
    raft: OnceLock<Arc<RaftNode>>,
    /// Itself, for commands of the server that scripts call.
    this: OnceLock<Weak<Node>>,
    shutdown: watch::Sender<Shutdown>,
}

impl Node {
    /// A node with no clients yet, whose process holds no directory.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        Self::holding(config, Claims::default())
    }

    /// A node with no clients yet, whose process holds the directories of `claims`.
    #[must_use]
    pub fn holding(config: Config, claims: Claims) -> Arc<Self> {
        let settings = Arc::clone(config.settings());
        let databases = u16::try_from(settings.databases()).unwrap_or(u16::MAX);
        let command_names = crate::route::table().names();
        // The clock of a cluster is in its log.
        let last = if settings.raft() { None } else { kept::read(&settings.dir()) };
        let clock = Clock::going_on_from(last);
        let log_time = settings.raft().then(Arc::default);
        let hash_seed = match &log_time {
            // Members must keep their keys in one order; what fails here is told at the start.
            Some(_) => seed(&settings).unwrap_or_default(),
            None => random_u64(),
        };
        let started_unix_s = clock.now_ms() / 1000;
        holdfast_engine::value::seed_members(hash_seed);
        let node = Arc::new(Self {
            started_unix_s,
            engine: Engine::new(databases, hash_seed),
            clock,
            eviction: Eviction::default(),
            acl: Users::new(Catalogue::new(crate::route::table().rows()), Arc::clone(&settings)),
            clients: Registry::default(),
            persist: Persist::new(Arc::clone(&settings), claims, started_unix_s),
            pubsub: Arc::new(PubSub::new()),
            observe: Observed::new(command_names.len()),
            blocked: Blocked::default(),
            quarantine: Quarantine::default(),
            monitors: Monitors::default(),
            tracking: Tracking::default(),
            events: AtomicU32::new(0),
            refreshing: parking_lot::Mutex::new(()),
            clock_told_ms: AtomicI64::new(0),
            pause: Pause::default(),
            scripts: Scripts::new(Arc::clone(&settings)),
            active_expire: std::sync::atomic::AtomicBool::new(true),
            debug_in_scripts: std::sync::atomic::AtomicBool::new(false),
            run_id: random_hex(40),
            changes: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
            log_time,
            raft: OnceLock::new(),
            this: OnceLock::new(),
            shutdown: watch::channel(Shutdown::No).0,
            config,
            settings,
        });
        let _ = node.this.set(Arc::downgrade(&node));
        node.quarantine.claim_with(Arc::clone(&node.persist.claims));
        crate::limits::keep(&node);
        node.refresh_events();
        node
    }

    /// The classes of keyspace events that someone hears of.
    #[inline]
    #[must_use]
    pub fn wanted_events(&self) -> EventClass {
        EventClass(self.events.load(Relaxed))
    }

    /// Brings [`Node::wanted_events`] in step with the configuration and the tracking clients.
    pub fn refresh_events(&self) {
        /// Every class of change: not `m` and `n`, which come beside others or change nothing.
        const CHANGES: u32 = !(EventClass::KEY_MISS.0 | EventClass::NEW.0);
        // Two that come at once must not leave behind what the first of them saw.
        let _one_at_a_time = self.refreshing.lock();
        let flags = self.settings.notify_keyspace_events().bits();
        // Without K or E nothing is published, whatever the classes.
        let published = flags & (EventClass::KEYSPACE.0 | EventClass::KEYEVENT.0) != 0;
        let tracked = if self.tracking.any() { CHANGES } else { 0 };
        self.events.store(if published { flags } else { 0 } | tracked, Release);
    }

    /// The time by which keys expire.
    #[inline]
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match &self.log_time {
            None => UnixMillis(self.clock.now_ms() as i64),
            Some(applied) => applied.now(),
        }
    }

    /// The time that a proposal made now would have: ahead of [`Node::now`] on a leader to whom
    /// nobody writes.
    #[must_use]
    pub fn proposal_time(&self) -> UnixMillis {
        match self.raft() {
            Some(raft) if raft.leads() => raft.clock(),
            _ => self.now(),
        }
    }

    /// The time by the log, on a node that runs Raft.
    #[must_use]
    pub fn log_time(&self) -> Option<&Arc<Applied>> {
        self.log_time.as_ref()
    }

    /// The node's Raft, if it runs Raft.
    #[inline]
    #[must_use]
    pub fn raft(&self) -> Option<&Arc<RaftNode>> {
        self.raft.get()
    }

    /// Sets the node's Raft, once.
    pub(crate) fn set_raft(&self, raft: Arc<RaftNode>) {
        let _ = self.raft.set(raft);
    }

    /// Takes up what the data directory says of the last run's locks and tokens.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn open_locks(self: &Arc<Self>) -> std::io::Result<()> {
        let recovery = match self.persist.replayed_whole() {
            true => Recovery::Complete,
            false => Recovery::Incomplete,
        };
        let journaled = self.settings.appendonly() && self.persist.policy() == Sync::Always;
        self.quarantine.set_journaled(journaled)?;
        let weak = Arc::downgrade(self);
        self.config.on_change(&["appendonly", "appendfsync"], move |settings| {
            let always = settings.appendonly() && settings.appendfsync() == FsyncPolicy::Always;
            // A journal that begins now does not hold what was granted before.
            match weak.upgrade().filter(|_| !always) {
                Some(node) => {
                    node.quarantine.set_journaled(false).map_err(|error| error.to_string())
                }
                None => Ok(()),
            }
        });
        let policy = Policy::parse(&self.settings.lock_quarantine()).unwrap_or(Policy::Auto);
        let (dir, now_us) = (self.settings.dir(), self.clock.monotonic_us());
        let keyspace = self.engine.keyspace();
        let held_ms = keyspace.longest_lock_ms(self.now(), self.settings.lock_quarantine_all());
        let (left_ms, tokens) = self.quarantine.open(&dir, policy, recovery, held_ms, now_us)?;
        let locks = keyspace.locks();
        locks.raise_token(tokens.max(self.settings.lock_token_floor()));
        let weak = Arc::downgrade(self);
        self.config.on_change(&["lock-token-floor"], move |settings| {
            // Tokens only ever grow: a lower floor changes nothing.
            if let Some(node) = weak.upgrade() {
                node.engine.keyspace().locks().raise_token(settings.lock_token_floor());
            }
            Ok(())
        });
        let offset_ms = self.correct_clock();
        self.keep_clock();
        if offset_ms.abs() >= CLOCK_OFFSET_TOLD_MS {
            tracing::warn!(
                "The server's clock goes on from the last run's, and is {} ms {} wall time. To begin \
                 at wall time, stop the server and delete holdfast-clock in {}: locks held then \
                 end early or late by as much",
                offset_ms.abs(),
                if offset_ms > 0 { "behind" } else { "ahead of" },
                dir.display()
            );
        }
        if left_ms > 0 {
            tracing::warn!(
                "Locks granted before the restart may still be held: none is granted for \
                 {left_ms} ms (lock-quarantine)"
            );
        }
        Ok(())
    }

    /// Sets the clock to wall time if it is far off and nothing counts time by it, and otherwise
    /// tells that it slews. The offset that is left, ms; to be called now and then.
    pub fn correct_clock(&self) -> i64 {
        let offset_ms = self.clock.wall_offset_ms();
        if offset_ms.abs() < CLOCK_OFFSET_TOLD_MS {
            return offset_ms;
        }
        let stepped = match &self.log_time {
            // A cluster counts time by its log, which slews by itself.
            Some(_) => {
                self.clock.step_to_wall();
                true
            }
            None => {
                let step = || UnixMillis(self.clock.step_to_wall() as i64);
                self.engine.keyspace().step_time(self, step).unwrap_or(false)
            }
        };
        if stepped {
            tracing::warn!(
                "The wall clock was set {} by {} ms. Nothing counts time here, so the server's \
                 clock was set, too",
                if offset_ms > 0 { "ahead" } else { "back" },
                offset_ms.abs()
            );
            self.clock_told_ms.store(0, Relaxed);
            return 0;
        }
        // Once for each time the wall clock is set.
        let told_ms = self.clock_told_ms.swap(offset_ms, Relaxed);
        if (told_ms - offset_ms).abs() >= CLOCK_OFFSET_TOLD_MS && told_ms.abs() < offset_ms.abs() {
            tracing::warn!(
                "The server's clock is {} ms {} wall time. Something here expires by it, so it is \
                 not set but runs {} by 0.05 % until it is right, in {} s (INFO server tells)",
                offset_ms.abs(),
                if offset_ms > 0 { "behind" } else { "ahead of" },
                if offset_ms > 0 { "faster" } else { "slower" },
                Clock::slewed_in_s(offset_ms)
            );
        }
        offset_ms
    }

    /// Writes down where the clock is, if a journal has times by it; to be called now and then.
    pub fn keep_clock(&self) {
        if self.settings.appendonly() && self.log_time.is_none() {
            self.keep_clock_for_the_next();
        }
    }

    fn keep_clock_for_the_next(&self) {
        if let Err(error) = kept::keep(&self.settings.dir(), self.clock.moment()) {
            tracing::debug!("where the clock is cannot be written down: {error}");
        }
    }

    /// Writes down what is left of the locks that are held; nothing, if what is `kept` on disk tells
    /// the next run of them. Grants must have been refused before.
    pub fn close_locks(&self, kept: bool) {
        let keyspace = self.engine.keyspace();
        let plain = self.settings.lock_quarantine_all();
        let kept = kept || self.quarantine.is_saved();
        if kept && self.log_time.is_none() {
            self.keep_clock_for_the_next();
        }
        let left_ms = if kept { 0 } else { keyspace.longest_lock_ms(self.now(), plain) };
        self.quarantine.close(left_ms, keyspace.locks().token(), self.clock.monotonic_us());
    }

    /// Takes a place among the clients; false when `maxclients` are connected.
    #[must_use]
    pub fn admit(&self) -> bool {
        let max = self.settings.maxclients() as usize;
        let before = self.connected.fetch_add(1, Release);
        if before >= max {
            self.connected.fetch_sub(1, Release);
            return false;
        }
        true
    }

    /// Gives the place back.
    pub fn dismiss(&self) {
        self.connected.fetch_sub(1, Release);
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.load(Acquire)
    }

    /// Asks the process to end.
    pub fn request_shutdown(&self) {
        self.shutdown.send_replace(Shutdown::Requested);
    }

    /// Tells when the process is to end.
    #[must_use]
    pub fn shutdown_signal(&self) -> watch::Receiver<Shutdown> {
        self.shutdown.subscribe()
    }
}

impl Host for Node {
    fn receivers(&self, audience: Audience, channel: &[u8]) -> i64 {
        let count = match audience {
            Audience::Channel => self.pubsub.receiver_count(channel),
            Audience::Shard => self.pubsub.shard_subscriber_count(channel),
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    #[inline]
    fn has_blocked_clients(&self) -> bool {
        self.blocked.any()
    }

    fn has_lock_waiters(&self) -> bool {
        !self.blocked.locks().is_empty()
    }

    fn is_lock_awaited(&self, db: DbIndex, key: &[u8]) -> bool {
        self.blocked.locks().is_awaited(db, key)
    }

    fn lock_waiters(&self, db: DbIndex, key: &[u8]) -> Vec<LockWaiter> {
        self.blocked.locks().waiters(db, key, self.clock.monotonic_us())
    }

    fn may_grant(&self, grant: Grant) -> Result<(), CommandError> {
        if grant.kind == GrantKind::Plain && !self.settings.lock_quarantine_all() {
            return Ok(());
        }
        self.quarantine.may_grant(grant, || self.clock.monotonic_us())
    }

    fn is_out_of_memory(&self) -> bool {
        crate::memory::is_exhausted(self)
    }

    fn waiting_for_lock(&self, waited_us: u64) -> Result<(), CommandError> {
        self.scripts.waiting_for_lock(waited_us)
    }

    fn script_progress(&self, progress: ScriptProgress<'_>) -> Result<(), CommandError> {
        self.scripts.progress(progress)
    }

    fn running_function(&self) -> Option<RunningFunction> {
        self.scripts.running_function()
    }

    fn kill_scripts(&self, kind: ScriptKind) -> Result<(), CommandError> {
        self.scripts.kill(kind)
    }

    fn journal(&self, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.persist.journal.append(write);
    }

    fn refusal(&self) -> Option<CommandError> {
        self.persist.refusal()
    }

    fn script_log(&self, level: i64, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        match level {
            0 => tracing::debug!("{text}"),
            1 => tracing::debug!(target: "holdfast::verbose", "{text}"),
            2 => tracing::info!("{text}"),
            _ => tracing::warn!("{text}"),
        }
    }

    fn follows_scripts(&self) -> bool {
        self.monitors.any() || self.tracking.any() && tracking::caller().is_some()
    }

    fn script_calls(&self, row: &Command, db: DbIndex, args: &[&[u8]]) {
        if let Some((client_id, Reads::Tracked)) = tracking::caller() {
            crate::route::track_reads(self, client_id, row, args);
        }
        if self.monitors.any() {
            self.monitors.show_script(self, db, args);
        }
    }

    fn limits_scripts(&self) -> bool {
        crate::route::rights::limits_scripts()
    }

    fn script_may_call(&self, args: &[&[u8]]) -> Result<(), CommandError> {
        crate::route::rights::script_may_call(self, args)
    }

    fn acl_check(&self, args: &[&[u8]]) -> Option<bool> {
        crate::route::rights::acl_check(args)
    }

    fn server_command(&self, args: &[&[u8]]) -> Option<Reply> {
        let this = self.this.get().and_then(Weak::upgrade)?;
        crate::route::script_calls_server(&this, args)
    }
}

/// Where a node's Raft keeps what it keeps.
#[must_use]
pub fn raft_dir(settings: &Settings) -> PathBuf {
    settings.dir().join("raft")
}

/// What a member's keyspace makes its order from: what it was when the cluster was founded, or
/// else what all who know the secret derive.
///
/// # Errors
/// When the node's identity cannot be read.
pub fn seed(settings: &Settings) -> std::io::Result<u64> {
    let dir = raft_dir(settings);
    if let Some(identity) = Identity::load(&dir)? {
        return Ok(identity.seed);
    }
    let told = std::fs::read_to_string(dir.join("seed")).ok();
    let told = told.and_then(|text| text.trim().parse().ok());
    Ok(told.unwrap_or_else(|| Secret::new(&settings.raft_secret()).derive(b"hash seed")))
}

/// A number nobody can guess.
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill_random(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Hex digits nobody can guess.
#[must_use]
pub fn random_hex(len: usize) -> String {
    let mut bytes = vec![0; len.div_ceil(2)];
    fill_random(&mut bytes);
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(len);
    text
}

fn fill_random(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        // Without the kernel's randomness hashes could be guessed; nothing here can go on.
        panic!("the system has no source of random numbers: {error}");
    }
}
