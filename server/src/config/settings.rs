//! What the rest of the server reads while serving: each directive as a typed getter.
//!
//! Numbers, words and flags are atomics, one relaxed load each (under 1 ns); texts and lists
//! are behind a read lock and handed out as shared slices, for places that are not hot.
//! Nothing here changes a value: that is `Config`'s, which stores each change
//! here before it calls the hooks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

use super::special::{BufferLimit, EventFlags, SavePoint};
use super::value::Value;

/// What to evict when `maxmemory` is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Keys with a TTL, least recently used first.
    VolatileLru,
    /// Keys with a TTL, least frequently used first.
    VolatileLfu,
    /// Keys with a TTL, any.
    VolatileRandom,
    /// Keys with a TTL, the nearest to expiry first.
    VolatileTtl,
    /// Any key, least recently used first.
    AllKeysLru,
    /// Any key, least frequently used first.
    AllKeysLfu,
    /// Any key.
    AllKeysRandom,
    /// Nothing: refuse writes.
    NoEviction,
}

impl EvictionPolicy {
    /// Redis's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
            Self::AllKeysLru => "allkeys-lru",
            Self::AllKeysLfu => "allkeys-lfu",
            Self::AllKeysRandom => "allkeys-random",
            Self::NoEviction => "noeviction",
        }
    }

    /// Whether the policy counts uses rather than their times.
    #[must_use]
    pub const fn is_lfu(self) -> bool {
        matches!(self, Self::VolatileLfu | Self::AllKeysLfu)
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Rarely useful information.
    Verbose,
    /// What production wants.
    Notice,
    /// Only what needs attention.
    Warning,
}

/// Who may use a guarded feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Clients of the loopback interface and the Unix socket.
    Local,
}

impl Exposure {
    /// Whether a client may use it.
    #[must_use]
    pub const fn admits(self, client: Origin) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => matches!(client, Origin::Local),
        }
    }
}

/// Where a client connects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The loopback interface or a Unix socket.
    Local,
    /// Anywhere else.
    Remote,
}

/// When the journal is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Before each reply.
    Always,
    /// Once a second.
    EverySecond,
    /// When the system gets around to it.
    No,
}

/// Whom a script that runs for long makes answer BUSY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyScope {
    /// Those that wait for its keys.
    Keys,
    /// Everybody, as Redis does, which has one thread for all.
    All,
}

/// What tells the service manager that the server is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// Nobody.
    None,
    /// Upstart, by stopping ourselves.
    Upstart,
    /// systemd, through `$NOTIFY_SOCKET`.
    Systemd,
    /// systemd if `$NOTIFY_SOCKET` is set.
    Auto,
}

/// What a signal asks of the shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownFlags {
    /// Save even without save points.
    pub save: bool,
    /// Do not save.
    pub nosave: bool,
    /// Do not wait for replicas.
    pub now: bool,
    /// Exit though saving failed.
    pub force: bool,
}

/// Which clients a buffer limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientClass {
    /// Clients that send commands.
    Normal,
    /// Replicas.
    Replica,
    /// Clients with a subscription.
    PubSub,
}

/// How a getter's type comes out of an atomic.
trait FromBits {
    fn from_bits(bits: u64) -> Self;
}

macro_rules! from_bits {
    ($($type:ty: |$bits:ident| $body:expr;)*) => {
        $(impl FromBits for $type {
            #[inline]
            fn from_bits($bits: u64) -> Self {
                $body
            }
        })*
    };
}

// The table's bounds keep each number within the getter's type; `as` only changes its width.
from_bits! {
    bool: |bits| bits != 0;
    u16: |bits| bits as u16;
    u32: |bits| bits as u32;
    i32: |bits| bits as i32;
    u64: |bits| bits;
    i64: |bits| bits as i64;
    usize: |bits| bits as usize;
    EventFlags: |bits| Self::from_bits(bits as u32);
    EvictionPolicy: |bits| match bits {
        0 => Self::VolatileLru,
        1 => Self::VolatileLfu,
        2 => Self::VolatileRandom,
        3 => Self::VolatileTtl,
        4 => Self::AllKeysLru,
        5 => Self::AllKeysLfu,
        6 => Self::AllKeysRandom,
        _ => Self::NoEviction,
    };
    LogLevel: |bits| match bits {
        0 => Self::Debug,
        1 => Self::Verbose,
        2 => Self::Notice,
        _ => Self::Warning,
    };
    Exposure: |bits| match bits {
        1 => Self::Yes,
        2 => Self::Local,
        _ => Self::No,
    };
    FsyncPolicy: |bits| match bits {
        1 => Self::Always,
        2 => Self::EverySecond,
        _ => Self::No,
    };
    BusyScope: |bits| match bits {
        1 => Self::All,
        _ => Self::Keys,
    };
    Supervisor: |bits| match bits {
        1 => Self::Upstart,
        2 => Self::Systemd,
        3 => Self::Auto,
        _ => Self::None,
    };
    ShutdownFlags: |bits| Self {
        save: bits & 1 != 0,
        nosave: bits & 2 != 0,
        now: bits & 4 != 0,
        force: bits & 8 != 0,
    };
}

macro_rules! settings {
    (
        numbers { $($(#[$doc:meta])* $number:ident: $type:ty = $name:literal,)* }
        texts { $($(#[$text_doc:meta])* $text:ident = $text_name:literal,)* }
    ) => {
        /// The settings in force.
        #[derive(Debug, Default)]
        pub struct Settings {
            $($number: AtomicU64,)*
            $($text: RwLock<Arc<[u8]>>,)*
            lists: Lists,
        }

        impl Settings {
            $($(#[$doc])*
            #[inline]
            #[must_use]
            pub fn $number(&self) -> $type {
                <$type as FromBits>::from_bits(self.$number.load(Relaxed))
            })*

            $($(#[$text_doc])*
            #[must_use]
            pub fn $text(&self) -> Arc<[u8]> {
                Arc::clone(&self.$text.read())
            })*

            /// Puts the value of the directive `name` in force.
            pub(super) fn store(&self, name: &str, value: &Value) {
                match name {
                    $($name => self.$number.store(value.bits(), Relaxed),)*
                    $($text_name => *self.$text.write() = value.as_text().into(),)*
                    _ => self.lists.store(name, value),
                }
            }

            /// The directives with a getter of their own.
            #[cfg(test)]
            pub(super) const NAMES: &[&str] = &[$($name,)* $($text_name,)*];
        }
    };
}

settings! {
    numbers {
        /// TCP port, 0 for none.
        port: u16 = "port",
        /// Pending connections the kernel keeps.
        tcp_backlog: u32 = "tcp-backlog",
        /// Whether this node replicates through Raft.
        raft: bool = "raft",
        /// The port for other members, 0 for the clients' and 10,000.
        raft_port: u16 = "raft-port",
        /// A follower that hears nothing for so long stands for election.
        raft_election_timeout_ms: u64 = "raft-election-timeout",
        /// A snapshot is made when so many bytes came into the Raft log since the last one.
        raft_snapshot_log_size: u64 = "raft-snapshot-log-size",
        /// Whether a follower's READONLY clients read what it has, though it may be stale.
        raft_stale_reads: bool = "raft-stale-reads",
        /// Seconds between keep-alive probes, 0 for none.
        tcp_keepalive_s: u32 = "tcp-keepalive",
        /// Seconds after which an idle client is disconnected, 0 for never.
        timeout_s: u32 = "timeout",
        /// Mode of the Unix socket, 0 to leave it to the umask.
        unixsocketperm: u32 = "unixsocketperm",
        /// Whether the kernel is asked for small pages only.
        disable_thp: bool = "disable-thp",
        /// Whether remote clients are refused while there is no password.
        protected_mode: bool = "protected-mode",
        /// Threads as configured, 0 to choose; see [`worker_threads`](Settings::worker_threads).
        worker_threads_configured: usize = "worker-threads",
        /// Who is told that the server is ready.
        supervised: Supervisor = "supervised",
        /// How much is logged.
        loglevel: LogLevel = "loglevel",
        /// How many databases SELECT knows.
        databases: u32 = "databases",
        /// What SIGINT does.
        shutdown_on_sigint: ShutdownFlags = "shutdown-on-sigint",
        /// What SIGTERM does.
        shutdown_on_sigterm: ShutdownFlags = "shutdown-on-sigterm",
        /// Seconds a shutdown waits for others.
        shutdown_timeout_s: u32 = "shutdown-timeout",
        /// Who may change protected directives.
        enable_protected_configs: Exposure = "enable-protected-configs",
        /// Who may use DEBUG.
        enable_debug_command: Exposure = "enable-debug-command",
        /// Connections at most.
        maxclients: u32 = "maxclients",
        /// Unparsed bytes a client may send at most.
        client_query_buffer_limit: usize = "client-query-buffer-limit",
        /// The longest bulk, and so the longest string.
        proto_max_bulk_len: usize = "proto-max-bulk-len",
        /// Which keyspace events are published.
        notify_keyspace_events: EventFlags = "notify-keyspace-events",
        /// Keys the invalidation table keeps, 0 for no limit.
        tracking_table_max_keys: usize = "tracking-table-max-keys",
        /// Bytes, 0 for no limit.
        maxmemory: u64 = "maxmemory",
        /// What to evict.
        maxmemory_policy: EvictionPolicy = "maxmemory-policy",
        /// Keys looked at for each eviction.
        maxmemory_samples: usize = "maxmemory-samples",
        /// 0 to 100: how long an eviction may hold up a command.
        maxmemory_eviction_tenacity: u32 = "maxmemory-eviction-tenacity",
        /// How slowly the frequency counter grows.
        lfu_log_factor: u32 = "lfu-log-factor",
        /// Minutes after which the frequency counter is decremented.
        lfu_decay_time_min: u32 = "lfu-decay-time",
        /// 1 to 10: share of time given to active expiry.
        active_expire_effort: u32 = "active-expire-effort",
        /// Rounds of periodic work per second, 1 to 500.
        hz: u32 = "hz",
        /// Milliseconds after which a script makes others answer BUSY, 0 for never.
        busy_reply_threshold_ms: u64 = "busy-reply-threshold",
        /// Whom a script makes wait, and answer BUSY, once it has run for that long.
        busy_reply_scope: BusyScope = "busy-reply-scope",
        /// Lua instructions a script may run, 0 for no limit.
        lua_instruction_limit: u64 = "lua-instruction-limit",
        /// Bytes a script's heap may take, 0 for no limit.
        lua_memory_limit: usize = "lua-memory-limit",
        /// Fields of a hash kept as a listpack.
        hash_max_listpack_entries: usize = "hash-max-listpack-entries",
        /// Bytes of a field or value in a listpack.
        hash_max_listpack_value: usize = "hash-max-listpack-value",
        /// Entries of a list node if positive, else -1 to -5 for 4 to 64 KiB.
        list_max_listpack_size: i32 = "list-max-listpack-size",
        /// Members of a set kept as integers.
        set_max_intset_entries: usize = "set-max-intset-entries",
        /// Members of a set kept as a listpack.
        set_max_listpack_entries: usize = "set-max-listpack-entries",
        /// Bytes of a member in a listpack.
        set_max_listpack_value: usize = "set-max-listpack-value",
        /// Members of a sorted set kept as a listpack.
        zset_max_listpack_entries: usize = "zset-max-listpack-entries",
        /// Bytes of a member in a listpack.
        zset_max_listpack_value: usize = "zset-max-listpack-value",
        /// Bytes of a block of a stream, 0 for no limit.
        stream_node_max_bytes: usize = "stream-node-max-bytes",
        /// Entries of a block of a stream, 0 for no limit.
        stream_node_max_entries: usize = "stream-node-max-entries",
        /// Bytes of a sparse HyperLogLog.
        hll_sparse_max_bytes: usize = "hll-sparse-max-bytes",
        /// Microseconds from which a command is logged as slow; negative for never.
        slowlog_log_slower_than_us: i64 = "slowlog-log-slower-than",
        /// Entries of the slow log.
        slowlog_max_len: usize = "slowlog-max-len",
        /// Milliseconds from which an event is monitored, 0 for never.
        latency_monitor_threshold_ms: u64 = "latency-monitor-threshold",
        /// Whether commands are recorded in histograms.
        latency_tracking: bool = "latency-tracking",
        /// Whether new users begin with all channels.
        acl_pubsub_default: bool = "acl-pubsub-default",
        /// Entries of ACL LOG.
        acllog_max_len: usize = "acllog-max-len",
        /// Whether SET NX PX is held to the quarantine of locks as well.
        lock_quarantine_all: bool = "lock-quarantine-scope",
        /// No lower token is given out.
        lock_token_floor: u64 = "lock-token-floor",
        /// Whether writes go to the journal.
        appendonly: bool = "appendonly",
        /// When the journal is synced.
        appendfsync: FsyncPolicy = "appendfsync",
        /// By how many percent the journal grows before it is rewritten, 0 for never.
        auto_aof_rewrite_percentage: u64 = "auto-aof-rewrite-percentage",
        /// Bytes below which it is not.
        auto_aof_rewrite_min_size: u64 = "auto-aof-rewrite-min-size",
        /// Whether a journal that ends in a torn record is loaded without it.
        aof_load_truncated: bool = "aof-load-truncated",
        /// Whether long strings are compressed in RDB files.
        rdbcompression: bool = "rdbcompression",
        /// Whether RDB files end in a checksum.
        rdbchecksum: bool = "rdbchecksum",
        /// Whether changes are refused after a save in the background has failed.
        stop_writes_on_bgsave_error: bool = "stop-writes-on-bgsave-error",
        /// Replicas of Redis's kind without which writes are refused; there are none.
        min_replicas_to_write: u32 = "min-replicas-to-write",
    }
    texts {
        /// The password of the default user, empty for none.
        requirepass = "requirepass",
        /// The file that holds the users, empty for none.
        aclfile = "aclfile",
        /// `auto`, `no` or milliseconds.
        lock_quarantine = "lock-quarantine",
        /// What members of a cluster prove to each other.
        raft_secret = "raft-secret",
        /// The host that other members are told; empty to go by the connection.
        raft_announce = "raft-announce",
        /// Path of the Unix socket, empty for none.
        unixsocket = "unixsocket",
        /// Path of the file that holds our process id, empty for none.
        pidfile = "pidfile",
        /// Path of the log, empty for standard output.
        logfile = "logfile",
        /// The working directory, absolute.
        dir_bytes = "dir",
        /// Name of the RDB file within `dir`.
        dbfilename = "dbfilename",
        /// What the names of the journal's files begin with.
        appendfilename = "appendfilename",
        /// The journal's directory within `dir`.
        appenddirname = "appenddirname",
    }
}

#[derive(Debug, Default)]
struct Lists {
    bind: RwLock<Arc<[String]>>,
    save: RwLock<Arc<[SavePoint]>>,
    percentiles: RwLock<Arc<[f64]>>,
    /// Nine words rather than a lock: every write to a socket may look at them.
    limits: [[AtomicU64; 3]; 3],
}

impl Lists {
    fn store(&self, name: &str, value: &Value) {
        match (name, value) {
            ("bind", Value::Addresses(list)) => *self.bind.write() = list.as_slice().into(),
            ("save", Value::SavePoints(points)) => *self.save.write() = points.as_slice().into(),
            (_, Value::Percentiles(list)) => *self.percentiles.write() = list.as_slice().into(),
            (_, Value::BufferLimits(limits)) => {
                for (words, limit) in self.limits.iter().zip(limits) {
                    words[0].store(limit.hard_bytes, Relaxed);
                    words[1].store(limit.soft_bytes, Relaxed);
                    words[2].store(limit.soft_seconds, Relaxed);
                }
            }
            _ => {}
        }
    }
}

impl Settings {
    /// Threads that serve connections: as configured, else one less than the cores, at least 2: a slow
    /// command must leave a thread for the others, and on two cores a single thread loses its share
    /// of the processor to a busy client.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        match self.worker_threads_configured() {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get() - 1).max(2),
            n => n,
        }
    }

    /// Addresses to listen on, unresolved: `*` and `::*` are all interfaces, and one that
    /// begins with `-` may be missing on this machine.
    #[must_use]
    pub fn bind(&self) -> Arc<[String]> {
        Arc::clone(&self.lists.bind.read())
    }

    /// When to save.
    #[must_use]
    pub fn save_points(&self) -> Arc<[SavePoint]> {
        Arc::clone(&self.lists.save.read())
    }

    /// The percentiles INFO latencystats shows.
    #[must_use]
    pub fn latency_percentiles(&self) -> Arc<[f64]> {
        Arc::clone(&self.lists.percentiles.read())
    }

    /// The output buffer limit of a class of clients.
    #[must_use]
    pub fn output_buffer_limit(&self, class: ClientClass) -> BufferLimit {
        let words = &self.lists.limits[match class {
            ClientClass::Normal => 0,
            ClientClass::Replica => 1,
            ClientClass::PubSub => 2,
        }];
        BufferLimit {
            hard_bytes: words[0].load(Relaxed),
            soft_bytes: words[1].load(Relaxed),
            soft_seconds: words[2].load(Relaxed),
        }
    }

    /// The working directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        path(&self.dir_bytes())
    }
}

/// A text setting as a path.
#[must_use]
pub fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
