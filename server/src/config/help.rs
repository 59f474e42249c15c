//! What `--help` and `--version` print.

use super::{find, rows};

/// `--version`, in the form scripts parse out of `redis-server --version`.
pub(super) fn version() -> String {
    format!(
        "Holdfast server v={} (speaks as Redis 7.2.4) malloc=mimalloc bits={}\n",
        env!("CARGO_PKG_VERSION"),
        usize::BITS
    )
}

/// The directives worth knowing first, with a word on each.
const USEFUL: &[(&str, &str)] = &[
    ("port", "TCP port, 0 for none"),
    ("bind", "addresses to listen on; '-' before one: skip it if it is missing"),
    ("unixsocket", "also listen on this path"),
    ("protected-mode", "refuse remote clients while there is no password"),
    ("requirepass", "password of the default user"),
    ("maxmemory", "evict or refuse beyond this many bytes, 0 for no limit"),
    ("maxmemory-policy", "what to evict: allkeys-lru, volatile-ttl, ..."),
    ("maxclients", "connections at most"),
    ("timeout", "disconnect clients idle for so many seconds, 0 for never"),
    ("databases", "how many databases SELECT knows"),
    ("worker-threads", "threads that serve clients, 0: one less than the cores, at least 2"),
    ("dir", "working directory"),
    ("save", "save to dbfilename after so many seconds and changes, e.g. 3600 1"),
    ("appendonly", "keep a journal, so that a crash loses nothing acknowledged"),
    ("appendfsync", "when the journal is synced: always, everysec or no"),
    ("raft", "yes: this node replicates through Raft (RAFT.CLUSTER INIT or JOIN)"),
    ("raft-secret", "what members prove to each other; without one only this machine"),
    ("raft-port", "the port for other members, 0: port and 10,000"),
    ("logfile", "path of the log, empty for standard output"),
    ("loglevel", "debug, verbose, notice or warning"),
    ("slowlog-log-slower-than", "microseconds from which a command is slow"),
    ("notify-keyspace-events", "which keyspace events to publish, e.g. KEA"),
    ("busy-reply-threshold", "milliseconds after which a script makes others BUSY"),
    ("busy-reply-scope", "who is made BUSY: 'keys', those that need its keys, or 'all'"),
    ("lua-instruction-limit", "instructions a script may run, 0 for no limit"),
    ("lua-memory-limit", "bytes a script's heap may take"),
];

/// `--help`.
pub(super) fn usage() -> String {
    let mut text = String::from(
        "\
Holdfast: a Redis-protocol server. Any Redis client can talk to it.

Usage: holdfast-server [/path/to/holdfast.conf] [--directive value ...] [-]
       holdfast-server -                  read the configuration from standard input
       holdfast-server --check [...]      read the configuration, say what is wrong, exit
       holdfast-server --repair-journal DIR
                                          cut a damaged journal where it is good, exit
       holdfast-server -v | --version
       holdfast-server -h | --help

Examples:
       holdfast-server                    port 6379, in memory, nothing else needed
       holdfast-server /etc/holdfast.conf
       holdfast-server --port 7777 --requirepass secret
       holdfast-server /etc/redis/redis.conf --daemonize no --port 7777
       echo 'maxmemory 128mb' | holdfast-server -

A file holds one directive per line, '#' begins a comment; the files of Redis 7.2 are
understood. Options of the command line override the file, the last one wins. Directives
that have no effect here are named in the log at the start.

Useful directives and their defaults:
",
    );
    for (name, about) in USEFUL {
        let default = find(name.as_bytes()).map_or("", |index| rows()[index].default);
        let default = match (*name, default) {
            ("dir", _) => "here",
            (_, "") => "none",
            (_, default) => default,
        };
        text += &format!("  {name:<24} {default:<12} {about}\n");
    }
    text + "\nCONFIG GET * lists them all; holdfast.conf explains them.\n"
}
