//! A node: everything that connections share.

use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use holdfast_engine::command::Command;
use holdfast_engine::effects::{Audience, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::{Host, ScriptProgress};
use holdfast_engine::time::{DbIndex, UnixMillis};
use holdfast_engine::{CommandError, Reply};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::commit::raft::RaftNode;
use crate::commit::raft::applied::Applied;
use crate::commit::raft::identity::Identity;
use crate::commit::raft::transport::handshake::Secret;
use crate::config::{Config, Settings};
use crate::memory::Eviction;
use crate::observe::Observed;
use crate::persist::Persist;
use crate::pubsub::Registry as PubSub;
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
    /// Clients that see every command.
    pub monitors: Monitors,
    /// CLIENT TRACKING.
    pub tracking: Tracking,
    /// The classes of keyspace events to record, kept in step with `notify-keyspace-events` and
    /// with whether any client tracks; what every command asks for in one word.
    events: AtomicU32,
    refreshing: parking_lot::Mutex<()>,
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
    shutdown: watch::Sender<Shutdown>,
}

impl Node {
    /// A node with no clients yet.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let settings = Arc::clone(config.settings());
        let databases = u16::try_from(settings.databases()).unwrap_or(u16::MAX);
        let command_names = crate::route::table().names();
        let clock = Clock::new();
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
            clients: Registry::default(),
            persist: Persist::new(Arc::clone(&settings), started_unix_s),
            pubsub: Arc::new(PubSub::new()),
            observe: Observed::new(command_names.len()),
            blocked: Blocked::default(),
            monitors: Monitors::default(),
            tracking: Tracking::default(),
            events: AtomicU32::new(0),
            refreshing: parking_lot::Mutex::new(()),
            pause: Pause::default(),
            scripts: Scripts::new(Arc::clone(&settings)),
            active_expire: std::sync::atomic::AtomicBool::new(true),
            debug_in_scripts: std::sync::atomic::AtomicBool::new(false),
            run_id: random_hex(40),
            changes: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
            log_time,
            raft: OnceLock::new(),
            shutdown: watch::channel(Shutdown::No).0,
            config,
            settings,
        });
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

    fn is_out_of_memory(&self) -> bool {
        crate::memory::is_exhausted(self)
    }

    fn waiting_for_lock(&self, waited_us: u64) -> Result<(), CommandError> {
        self.scripts.waiting_for_lock(waited_us)
    }

    fn script_progress(&self, progress: ScriptProgress) -> Result<(), CommandError> {
        self.scripts.progress(progress)
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

    fn server_command(&self, args: &[&[u8]]) -> Option<Reply> {
        crate::route::script_calls_server(self, args)
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
