//! Every directive of Redis 7.2 and our own, one row each, by theme.
//!
//! A row's default is the text Redis would have in its file. Rows are active unless they say
//! `inert` (with the reason an operator is told) or `refused` (with what to do instead).
//! To add a directive: a row here and, where it is read while serving, a getter in
//! `settings`.

use super::directive::{Directive, Kind, Words};
use super::value::Value;

const INT: i128 = i32::MAX as i128;
const UINT: i128 = u32::MAX as i128;
const LONG: i128 = i64::MAX as i128;
const ULONG: i128 = u64::MAX as i128;
const PORT: i128 = 65_535;
const MEGABYTE: i128 = 1 << 20;

const NO_REPLICAS: &str = "this server has no replicas of its own kind; Raft replicates it";
const NO_BUS: &str = "there is no Redis Cluster bus here";
const NO_TLS: &str = "TLS is not served yet";
const NO_RDB: &str = "loading and saving are never slowed down";
const NO_AOF: &str = "the journal is not Redis's append-only file";
const NO_MODULES: &str = "modules cannot be loaded";
const NO_SYSLOG: &str = "logs go to standard output or to logfile";
const NO_DEFRAG: &str = "the allocator is mimalloc, which has no active defragmentation";
const NO_CRASH_LOG: &str = "a panic writes its own report to the log";
const NO_PINNING: &str = "threads are not pinned to cores; use taskset or systemd's CPUAffinity";
const NO_LAZY_FREE: &str = "values are freed by the thread that removes them, off the shard lock";
const NO_TITLE: &str = "the process title is left as the command line";

const POLICIES: Words = &[
    ("volatile-lru", 0),
    ("volatile-lfu", 1),
    ("volatile-random", 2),
    ("volatile-ttl", 3),
    ("allkeys-lru", 4),
    ("allkeys-lfu", 5),
    ("allkeys-random", 6),
    ("noeviction", 7),
];
const LOG_LEVELS: Words = &[("debug", 0), ("verbose", 1), ("notice", 2), ("warning", 3)];
const SUPERVISORS: Words = &[("upstart", 1), ("systemd", 2), ("auto", 3), ("no", 0)];
const BUSY_SCOPES: Words = &[("keys", 0), ("all", 1)];
const LOCK_SCOPES: Words = &[("native", 0), ("all", 1)];
const FSYNC: Words = &[("everysec", 2), ("always", 1), ("no", 0)];
const EXPOSURE: Words = &[("no", 0), ("yes", 1), ("local", 2)];
const SHUTDOWN: Words = &[("default", 0), ("save", 1), ("nosave", 2), ("now", 4), ("force", 8)];
const OOM: Words = &[("no", 0), ("yes", 1), ("relative", 1), ("absolute", 2)];
const DISKLESS_LOAD: Words = &[("disabled", 0), ("on-empty-db", 1), ("swapdb", 2)];
const TLS_CLIENTS: Words = &[("no", 0), ("yes", 1), ("optional", 2)];
const PUBSUB_DEFAULT: Words = &[("allchannels", 1), ("resetchannels", 0)];
const SANITIZE: Words = &[("no", 0), ("yes", 1), ("clients", 2)];
const ENDPOINTS: Words = &[("ip", 0), ("hostname", 1), ("unknown-endpoint", 2)];
const ON_ERROR: Words = &[("ignore", 0), ("panic", 1), ("panic-on-replicas", 2)];
const FACILITIES: Words = &[
    ("user", 8),
    ("local0", 128),
    ("local1", 136),
    ("local2", 144),
    ("local3", 152),
    ("local4", 160),
    ("local5", 168),
    ("local6", 176),
    ("local7", 184),
];

/// The themes in the order CONFIG GET answers.
pub const THEMES: &[&[Directive]] = &[
    NETWORK,
    GENERAL,
    CLIENTS,
    MEMORY,
    SCRIPTS,
    LOCKS,
    ENCODINGS,
    OBSERVING,
    SAVING,
    JOURNAL,
    REPLICATION,
    RAFT,
    CLUSTER,
    TLS,
    DEFRAG,
    HIDDEN,
];

const NETWORK: &[Directive] = &[
    Directive::special("bind", Kind::Addresses, "* -::*").by_hook(),
    Directive::int("port", "6379", 0, PORT).by_hook(),
    Directive::int("tcp-backlog", "511", 0, INT).immutable(),
    Directive::int("tcp-keepalive", "300", 0, INT),
    Directive::int("timeout", "0", 0, INT),
    Directive::text("unixsocket", "").immutable(),
    Directive::special("unixsocketperm", Kind::Octal(0, 0o777), "0").immutable(),
    Directive::yes_no("protected-mode", "yes"),
    Directive::text("bind-source-addr", "").inert(NO_REPLICAS),
    Directive::int("socket-mark-id", "0", 0, UINT)
        .immutable()
        .inert("sockets are not marked; use the unit's own cgroup or netns rules"),
    Directive::int("worker-threads", "0", 0, 1024).by_hook(),
    Directive::int("io-threads", "1", 1, 128)
        .immutable()
        .inert("every connection is already served by worker-threads threads"),
    Directive::yes_no("io-threads-do-reads", "no")
        .immutable()
        .inert("every connection is already served by worker-threads threads"),
];

const GENERAL: &[Directive] = &[
    Directive::yes_no("daemonize", "no").immutable().refused(
        "the server stays in the foreground: run it under systemd, a container, or with '&'; \
         remove the line or pass --daemonize no",
    ),
    Directive::one_of("supervised", SUPERVISORS, "no").immutable(),
    Directive::text("pidfile", "").immutable(),
    Directive::one_of("loglevel", LOG_LEVELS, "notice"),
    Directive::text("logfile", "").immutable(),
    Directive::yes_no("syslog-enabled", "no").immutable().inert(NO_SYSLOG),
    Directive::text("syslog-ident", "redis").immutable().inert(NO_SYSLOG),
    Directive::one_of("syslog-facility", FACILITIES, "local0").immutable().inert(NO_SYSLOG),
    Directive::yes_no("crash-log-enabled", "yes").inert(NO_CRASH_LOG),
    Directive::yes_no("crash-memcheck-enabled", "yes").inert(NO_CRASH_LOG),
    Directive::int("databases", "16", 1, INT).immutable(),
    Directive::yes_no("always-show-logo", "no").immutable().inert("there is no logo"),
    Directive::yes_no("set-proc-title", "yes").immutable().inert(NO_TITLE),
    Directive::text("proc-title-template", "{title} {listen-addr} {server-mode}")
        .check(title_template)
        .inert(NO_TITLE),
    Directive::text("locale-collate", "").inert("strings are compared as bytes"),
    Directive::text("ignore-warnings", "").inert("there are no warnings to ignore"),
    Directive::yes_no("disable-thp", "yes").immutable(),
    Directive::one_of("oom-score-adj", OOM, "no")
        .inert("the score is left to systemd's OOMScoreAdjust"),
    Directive::special("oom-score-adj-values", Kind::OomScores, "0 200 800")
        .inert("the score is left to systemd's OOMScoreAdjust"),
    Directive::text("server_cpulist", "").alias("server-cpulist").immutable().inert(NO_PINNING),
    Directive::text("bio_cpulist", "").alias("bio-cpulist").immutable().inert(NO_PINNING),
    Directive::text("aof_rewrite_cpulist", "")
        .alias("aof-rewrite-cpulist")
        .immutable()
        .inert(NO_PINNING),
    Directive::text("bgsave_cpulist", "").alias("bgsave-cpulist").immutable().inert(NO_PINNING),
    Directive::special("shutdown-on-sigint", Kind::FlagWords(SHUTDOWN), "default")
        .check(save_xor_nosave),
    Directive::special("shutdown-on-sigterm", Kind::FlagWords(SHUTDOWN), "default")
        .check(save_xor_nosave),
    Directive::int("shutdown-timeout", "10", 0, INT),
    Directive::one_of("enable-protected-configs", EXPOSURE, "no").immutable(),
    Directive::one_of("enable-debug-command", EXPOSURE, "no").immutable(),
    Directive::one_of("enable-module-command", EXPOSURE, "no").immutable().inert(NO_MODULES),
];

const CLIENTS: &[Directive] = &[
    Directive::text("requirepass", "").sensitive(),
    Directive::int("maxclients", "10000", 1, UINT),
    Directive::size("client-query-buffer-limit", "1073741824", MEGABYTE, LONG),
    Directive::special(
        "client-output-buffer-limit",
        Kind::BufferLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    ),
    Directive::size("proto-max-bulk-len", "536870912", MEGABYTE, LONG),
    Directive::special("maxmemory-clients", Kind::SizeOrPercent, "0")
        .inert("each client is bounded by its own buffer limits; clients are not evicted"),
    Directive::special("notify-keyspace-events", Kind::Events, "").shared(),
    Directive::int("tracking-table-max-keys", "1000000", 0, LONG),
    Directive::text("aclfile", "").immutable(),
    Directive::one_of("acl-pubsub-default", PUBSUB_DEFAULT, "resetchannels"),
    Directive::int("acllog-max-len", "128", 0, LONG),
];

const MEMORY: &[Directive] = &[
    Directive::size("maxmemory", "0", 0, ULONG),
    Directive::one_of("maxmemory-policy", POLICIES, "noeviction"),
    Directive::int("maxmemory-samples", "5", 1, INT),
    Directive::int("maxmemory-eviction-tenacity", "10", 0, 100),
    Directive::int("lfu-log-factor", "10", 0, INT),
    Directive::int("lfu-decay-time", "1", 0, INT),
    Directive::int("active-expire-effort", "1", 1, 10),
    // Redis moves a rate out of bounds into them rather than refuse it.
    Directive::int("hz", "10", 0, INT).clamp(1, 500),
    Directive::yes_no("dynamic-hz", "yes").inert("periodic work does not grow with clients"),
    Directive::yes_no("activerehashing", "yes").inert("tables of shards are small and grow alone"),
    Directive::yes_no("lazyfree-lazy-eviction", "no").inert(NO_LAZY_FREE),
    Directive::yes_no("lazyfree-lazy-expire", "no").inert(NO_LAZY_FREE),
    Directive::yes_no("lazyfree-lazy-server-del", "no").inert(NO_LAZY_FREE),
    Directive::yes_no("lazyfree-lazy-user-del", "no").inert(NO_LAZY_FREE),
    Directive::yes_no("lazyfree-lazy-user-flush", "no").inert(NO_LAZY_FREE),
];

const SCRIPTS: &[Directive] = &[
    Directive::int("busy-reply-threshold", "5000", 0, LONG).alias("lua-time-limit"),
    Directive::one_of("busy-reply-scope", BUSY_SCOPES, "keys"),
    // About a minute of one core: far beyond any script meant to end, and an end to the others.
    Directive::int("lua-instruction-limit", "10000000000", 0, LONG).shared(),
    // Twice the largest value a command may carry, so that a script can copy one.
    Directive::size("lua-memory-limit", "1gb", 0, LONG).shared(),
];

const LOCKS: &[Directive] = &[
    // Of the next start: when this one began, what it may have forgotten was decided.
    Directive::text("lock-quarantine", "auto").check(quarantine),
    Directive::one_of("lock-quarantine-scope", LOCK_SCOPES, "native"),
    // For a data directory that was restored from an old backup.
    Directive::int("lock-token-floor", "0", 0, 1 << 52).shared(),
];

const ENCODINGS: &[Directive] = &[
    Directive::int("hash-max-listpack-entries", "512", 0, LONG)
        .shared()
        .alias("hash-max-ziplist-entries"),
    Directive::size("hash-max-listpack-value", "64", 0, LONG)
        .shared()
        .alias("hash-max-ziplist-value"),
    Directive::int("list-max-listpack-size", "-2", -INT - 1, INT)
        .shared()
        .alias("list-max-ziplist-size"),
    Directive::int("list-compress-depth", "0", 0, INT).inert("lists are not compressed"),
    Directive::int("set-max-intset-entries", "512", 0, LONG).shared(),
    Directive::int("set-max-listpack-entries", "128", 0, LONG).shared(),
    Directive::size("set-max-listpack-value", "64", 0, LONG).shared(),
    Directive::int("zset-max-listpack-entries", "128", 0, LONG)
        .shared()
        .alias("zset-max-ziplist-entries"),
    Directive::size("zset-max-listpack-value", "64", 0, LONG)
        .shared()
        .alias("zset-max-ziplist-value"),
    Directive::size("hll-sparse-max-bytes", "3000", 0, LONG).shared(),
    Directive::size("stream-node-max-bytes", "4096", 0, LONG).shared(),
    Directive::int("stream-node-max-entries", "100", 0, LONG).shared(),
    Directive::one_of("sanitize-dump-payload", SANITIZE, "no")
        .inert("payloads of RESTORE are always checked in full"),
];

const OBSERVING: &[Directive] = &[
    Directive::int("slowlog-log-slower-than", "10000", -1, LONG),
    Directive::int("slowlog-max-len", "128", 0, LONG),
    Directive::int("latency-monitor-threshold", "0", 0, LONG),
    Directive::yes_no("latency-tracking", "yes"),
    Directive::special("latency-tracking-info-percentiles", Kind::Percentiles, "50 99 99.9"),
];

const SAVING: &[Directive] = &[
    // Redis's own default is `3600 1 300 100 60 10000`; here nothing is written unasked.
    Directive::special("save", Kind::SavePoints, ""),
    Directive::special("dir", Kind::Directory, "").protected(),
    Directive::text("dbfilename", "dump.rdb").protected().check(plain_rdb_name),
    Directive::yes_no("rdbcompression", "yes"),
    Directive::yes_no("rdbchecksum", "yes").immutable(),
    Directive::yes_no("rdb-del-sync-files", "no").inert(NO_REPLICAS),
    Directive::yes_no("rdb-save-incremental-fsync", "yes")
        .inert("a snapshot is always synced in steps"),
    Directive::yes_no("stop-writes-on-bgsave-error", "yes"),
];

const JOURNAL: &[Directive] = &[
    Directive::yes_no("appendonly", "no").by_hook(),
    Directive::one_of("appendfsync", FSYNC, "everysec"),
    Directive::text("appendfilename", "appendonly.aof").immutable().check(plain_journal_name),
    Directive::text("appenddirname", "appendonlydir").immutable().check(plain_journal_dir),
    Directive::yes_no("no-appendfsync-on-rewrite", "no")
        .inert("a rewrite does not hold up syncing"),
    Directive::int("auto-aof-rewrite-percentage", "100", 0, INT),
    Directive::size("auto-aof-rewrite-min-size", "67108864", 0, LONG),
    Directive::yes_no("aof-load-truncated", "yes"),
    Directive::yes_no("aof-use-rdb-preamble", "yes").inert(NO_AOF),
    Directive::yes_no("aof-timestamp-enabled", "no").inert("every record bears its time"),
    Directive::yes_no("aof-rewrite-incremental-fsync", "yes")
        .inert("a snapshot is always synced in steps"),
    Directive::yes_no("aof-disable-auto-gc", "no").inert(NO_AOF),
];

const REPLICATION: &[Directive] = &[
    Directive::special("replicaof", Kind::HostPort, "").alias("slaveof").immutable().refused(
        "this server cannot follow a Redis primary: replication is through Raft; remove the line",
    ),
    Directive::text("masteruser", "").sensitive().inert(NO_REPLICAS),
    Directive::text("masterauth", "").sensitive().inert(NO_REPLICAS),
    Directive::yes_no("replica-serve-stale-data", "yes")
        .alias("slave-serve-stale-data")
        .inert(NO_REPLICAS),
    Directive::yes_no("replica-read-only", "yes").alias("slave-read-only").inert(NO_REPLICAS),
    Directive::yes_no("replica-lazy-flush", "no").alias("slave-lazy-flush").inert(NO_REPLICAS),
    Directive::yes_no("replica-ignore-maxmemory", "yes")
        .alias("slave-ignore-maxmemory")
        .inert(NO_REPLICAS),
    Directive::yes_no("replica-ignore-disk-write-errors", "no").inert(NO_REPLICAS),
    Directive::yes_no("replica-announced", "yes").inert(NO_REPLICAS),
    Directive::text("replica-announce-ip", "").alias("slave-announce-ip").inert(NO_REPLICAS),
    Directive::int("replica-announce-port", "0", 0, PORT)
        .alias("slave-announce-port")
        .inert(NO_REPLICAS),
    Directive::int("replica-priority", "100", 0, INT).alias("slave-priority").inert(NO_REPLICAS),
    Directive::yes_no("repl-diskless-sync", "yes").inert(NO_REPLICAS),
    Directive::int("repl-diskless-sync-delay", "5", 0, INT).inert(NO_REPLICAS),
    Directive::int("repl-diskless-sync-max-replicas", "0", 0, INT).inert(NO_REPLICAS),
    Directive::one_of("repl-diskless-load", DISKLESS_LOAD, "disabled").inert(NO_REPLICAS),
    Directive::yes_no("repl-disable-tcp-nodelay", "no").inert(NO_REPLICAS),
    Directive::int("repl-ping-replica-period", "10", 1, INT)
        .alias("repl-ping-slave-period")
        .inert(NO_REPLICAS),
    Directive::int("repl-timeout", "60", 1, INT).inert(NO_REPLICAS),
    Directive::size("repl-backlog-size", "1048576", 1, LONG).inert(NO_REPLICAS),
    Directive::int("repl-backlog-ttl", "3600", 0, LONG).inert(NO_REPLICAS),
    Directive::int("min-replicas-to-write", "0", 0, INT).alias("min-slaves-to-write"),
    Directive::int("min-replicas-max-lag", "10", 0, INT)
        .alias("min-slaves-max-lag")
        .inert(NO_REPLICAS),
    Directive::one_of("propagation-error-behavior", ON_ERROR, "ignore").inert(NO_REPLICAS),
];

/// Ours: see the chapter on clusters in README.md.
const RAFT: &[Directive] = &[
    Directive::yes_no("raft", "no").immutable(),
    Directive::int("raft-port", "0", 0, PORT).immutable(),
    Directive::text("raft-secret", "").immutable().sensitive(),
    Directive::text("raft-announce", "").immutable(),
    Directive::int("raft-election-timeout", "150", 100, 60_000).immutable(),
    Directive::size("raft-snapshot-log-size", "67108864", 65_536, ULONG).immutable(),
    Directive::yes_no("raft-stale-reads", "no").shared(),
];

const CLUSTER: &[Directive] = &[
    Directive::yes_no("cluster-enabled", "no")
        .immutable()
        .refused("there is no Redis Cluster here: a cluster is formed with Raft; remove the line"),
    Directive::text("cluster-config-file", "nodes.conf").immutable().inert(NO_BUS),
    Directive::int("cluster-port", "0", 0, PORT).immutable().inert(NO_BUS),
    Directive::int("cluster-node-timeout", "15000", 0, LONG).inert(NO_BUS),
    Directive::text("cluster-announce-ip", "").inert(NO_BUS),
    Directive::text("cluster-announce-hostname", "").inert(NO_BUS),
    Directive::text("cluster-announce-human-nodename", "").inert(NO_BUS),
    Directive::int("cluster-announce-port", "0", 0, PORT).inert(NO_BUS),
    Directive::int("cluster-announce-bus-port", "0", 0, PORT).inert(NO_BUS),
    Directive::int("cluster-announce-tls-port", "0", 0, PORT).inert(NO_BUS),
    Directive::one_of("cluster-preferred-endpoint-type", ENDPOINTS, "ip").inert(NO_BUS),
    Directive::size("cluster-link-sendbuf-limit", "0", 0, ULONG).inert(NO_BUS),
    Directive::yes_no("cluster-require-full-coverage", "yes").inert(NO_BUS),
    Directive::yes_no("cluster-allow-reads-when-down", "no").inert(NO_BUS),
    Directive::yes_no("cluster-allow-pubsubshard-when-down", "yes").inert(NO_BUS),
    Directive::yes_no("cluster-allow-replica-migration", "yes").inert(NO_BUS),
    Directive::int("cluster-migration-barrier", "1", 0, INT).inert(NO_BUS),
    Directive::int("cluster-replica-validity-factor", "10", 0, INT)
        .alias("cluster-slave-validity-factor")
        .inert(NO_BUS),
    Directive::yes_no("cluster-replica-no-failover", "no")
        .alias("cluster-slave-no-failover")
        .inert(NO_BUS),
];

const TLS: &[Directive] = &[
    Directive::int("tls-port", "0", 0, PORT).refused(
        "TLS is not served yet: put a TLS proxy such as stunnel in front, and remove the line",
    ),
    Directive::yes_no("tls-replication", "no").inert(NO_TLS),
    Directive::yes_no("tls-cluster", "no").inert(NO_TLS),
    Directive::one_of("tls-auth-clients", TLS_CLIENTS, "yes").inert(NO_TLS),
    Directive::text("tls-cert-file", "").inert(NO_TLS),
    Directive::text("tls-key-file", "").inert(NO_TLS),
    Directive::text("tls-key-file-pass", "").sensitive().inert(NO_TLS),
    Directive::text("tls-client-cert-file", "").inert(NO_TLS),
    Directive::text("tls-client-key-file", "").inert(NO_TLS),
    Directive::text("tls-client-key-file-pass", "").sensitive().inert(NO_TLS),
    Directive::text("tls-dh-params-file", "").inert(NO_TLS),
    Directive::text("tls-ca-cert-file", "").inert(NO_TLS),
    Directive::text("tls-ca-cert-dir", "").inert(NO_TLS),
    Directive::text("tls-protocols", "").inert(NO_TLS),
    Directive::text("tls-ciphers", "").inert(NO_TLS),
    Directive::text("tls-ciphersuites", "").inert(NO_TLS),
    Directive::yes_no("tls-prefer-server-ciphers", "no").inert(NO_TLS),
    Directive::yes_no("tls-session-caching", "yes").inert(NO_TLS),
    Directive::int("tls-session-cache-size", "20480", 0, INT).inert(NO_TLS),
    Directive::int("tls-session-cache-timeout", "300", 0, INT).inert(NO_TLS),
];

const DEFRAG: &[Directive] = &[
    Directive::yes_no("activedefrag", "no").inert(NO_DEFRAG),
    Directive::yes_no("jemalloc-bg-thread", "yes").inert(NO_DEFRAG),
    Directive::size("active-defrag-ignore-bytes", "104857600", 1, LONG).inert(NO_DEFRAG),
    Directive::int("active-defrag-threshold-lower", "10", 0, 1000).inert(NO_DEFRAG),
    Directive::int("active-defrag-threshold-upper", "100", 0, 1000).inert(NO_DEFRAG),
    Directive::int("active-defrag-cycle-min", "1", 1, 99).inert(NO_DEFRAG),
    Directive::int("active-defrag-cycle-max", "25", 1, 99).inert(NO_DEFRAG),
    Directive::int("active-defrag-max-scan-fields", "1000", 1, LONG).inert(NO_DEFRAG),
];

/// What Redis's own test suite sets.
const HIDDEN: &[Directive] = &[
    Directive::yes_no("use-exit-on-panic", "no").hidden().inert(NO_CRASH_LOG),
    Directive::int("rdb-key-save-delay", "0", -INT - 1, INT).hidden().inert(NO_RDB),
    Directive::int("key-load-delay", "0", -INT - 1, INT).hidden().inert(NO_RDB),
    Directive::int("watchdog-period", "0", 0, INT).hidden().inert(NO_CRASH_LOG),
    Directive::size("loading-process-events-interval-bytes", "2097152", 1024, INT)
        .hidden()
        .inert(NO_RDB),
];

fn quarantine(value: &Value) -> Result<(), &'static str> {
    let text = value.as_text();
    let is_number = !text.is_empty() && text.len() < 19 && text.iter().all(u8::is_ascii_digit);
    if is_number || text.eq_ignore_ascii_case(b"auto") || text.eq_ignore_ascii_case(b"no") {
        return Ok(());
    }
    Err("argument must be 'auto', 'no' or a number of milliseconds")
}

fn title_template(value: &Value) -> Result<(), &'static str> {
    const VARIABLES: [&str; 7] =
        ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let bad = Err("template format is invalid or contains unknown variables");
    let Ok(text) = std::str::from_utf8(value.as_text()) else {
        return bad;
    };
    for part in text.split('{').skip(1) {
        match part.split_once('}') {
            Some((name, _)) if VARIABLES.contains(&name) => {}
            _ => return bad,
        }
    }
    Ok(())
}

fn save_xor_nosave(value: &Value) -> Result<(), &'static str> {
    const BOTH: i64 = 1 | 2;
    if matches!(value, Value::Word(bits) if bits & BOTH == BOTH) {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously");
    }
    Ok(())
}

fn is_path(value: &Value) -> bool {
    value.as_text().contains(&b'/')
}

fn plain_rdb_name(value: &Value) -> Result<(), &'static str> {
    if is_path(value) { Err("dbfilename can't be a path, just a filename") } else { Ok(()) }
}

fn plain_journal_name(value: &Value) -> Result<(), &'static str> {
    if value.as_text().is_empty() {
        Err("appendfilename can't be empty")
    } else if is_path(value) {
        Err("appendfilename can't be a path, just a filename")
    } else {
        Ok(())
    }
}

fn plain_journal_dir(value: &Value) -> Result<(), &'static str> {
    if value.as_text().is_empty() {
        Err("appenddirname can't be empty")
    } else if is_path(value) {
        Err("appenddirname can't be a path, just a dirname")
    } else {
        Ok(())
    }
}
