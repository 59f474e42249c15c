//! COMPATIBILITY.md, written from the command table.
//!
//! The file in the project's root must equal [`markdown`]; a test holds that, and
//! `HOLDFAST_WRITE_COMPATIBILITY=1 cargo test -p holdfast compatibility` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::route::{Entry, table};

const PREAMBLE: &str = "\
# Compatibility

Written from the command table; do not edit. To write it anew:
`HOLDFAST_WRITE_COMPATIBILITY=1 cargo test -p holdfast compatibility`.

Holdfast speaks RESP2 and RESP3 and answers as Redis 7.2.4 does, errors included, where nothing else is said
below. Later commands that lock libraries use are there too: `SET … IFEQ`, `DELEX`, `DELIFEQ`, hash field
expiry.

## What is different everywhere

- Commands run on all cores. Each command, transaction and script is atomic and isolated against all others.
- A script that runs for long holds up only commands that need its keys: those are answered `BUSY`; in Redis
  every command is, and here too under `busy-reply-scope all`.
- Keys expire by a clock that never jumps (see ARCHITECTURE.md). TIME has the precision of a millisecond.
- Scripts may use undeclared keys; such a script runs with every key locked.
- The order of KEYS, SCAN, HGETALL, SMEMBERS and their like is not Redis's, which leaves it open.
- SORT of a set `BY` a constant answers in alphabetical order, as Redis does in scripts and with STORE.
- There are no replicas of Redis's kind: `min-replicas-to-write` above 0 refuses every write (`NOREPLICAS`).
- DBSIZE does not count keys that have expired and still stand.
- A request has at most 1,048,576 arguments.
- MEMORY USAGE cannot be called by scripts, which hold the keys that it would look at.
- Scripts are limited by `lua-memory-limit` and `lua-instruction-limit`; patterns that would search without end
  are an error; `collectgarbage('count')` is always 0.
- A key may hold a lock (TYPE `lock`). Commands of other types answer WRONGTYPE, also those that would replace,
  rename, copy or expire it; SET NX finds it taken; DEL breaks it; FLUSHALL and SWAPDB treat it as any key. It has
  no form that DUMP could give. In RDB files locks stand in fields that Redis reads over.
- `XINFO STREAM` counts as radix-tree-nodes the blocks of entries and the root of their tree. DUMP writes streams
  as Redis 7.0 does, without the time at which a consumer was last given anything; files keep it.
- The time at which a consumer was last seen is kept, but is no change: it is not journaled and fails no WATCH.
  Reading a consumer's history again is a change, for it raises delivery counts.
- The events of locks are the class `k` of `notify-keyspace-events`, which `A` does not include.
- ACL users are this server's own, as in Redis: they stand in its configuration or its `aclfile`, not in snapshots
  or the journal (in a cluster see below). There is one category more, `@lock`. SORT's patterns are refused when the
  command is queued, not at EXEC. A lease is named by its number, not by keys: who may LEASE.REVOKE may remove
  whatever lives by any lease. The rules of a transaction are those at the beginning of EXEC, even if it changes
  them itself. ACL LOAD ends the clients of all users but `default`, as in 7.2.
- Distances between places are computed by one library on every machine, so that their last digit, which STOREDIST
  keeps, may be another than Redis's.
- Under `rename-command`, COMMAND and the statistics keep a command's own name, as in Redis.

## What is different in a cluster (`--raft yes`)

- Every node serves every client: a follower sends proposals to the leader, and reads its own data once the
  leader has said from where on it may. CLIENT LIST, KILL and PAUSE, MONITOR, SLOWLOG and INFO's counters are those
  of the node; a pause at the leader holds up the writes of all nodes.
- Reads are linearizable, on followers too. Under `raft-stale-reads yes`, READONLY reads what the node has, which
  includes what the client itself wrote.
- Without a leader that reaches a majority: `-CLUSTERDOWN`, and nothing was done. `-UNKNOWN` when a write was on its
  way and nobody knows what became of it.
- Keys expire by the time of the log; relative to it a TTL can only become longer when a new leader is elected.
- PUBLISH reaches the subscribers of all nodes and counts them, and PUBSUB tells of all nodes, of those that answer
  within half a second. Inside a script or a transaction PUBLISH answers 0 and PUBSUB tells of this node.
- A script that goes through the log may call no command that tells of a node (INFO, SLOWLOG GET, …); EVAL_RO and
  its like may.
- Scripts may not write after a command whose reply has no order (KEYS, SCAN, RANDOMKEY, …).
- Scripts cannot be killed; `lua-instruction-limit` (at most a billion) stops them.
- CLIENT TRACKING: NOLOOP is not heeded, and a script's undeclared reads are not tracked.
- Nothing is evicted: `maxmemory` with a policy other than noeviction is refused, else commands that need memory are.
  SAVE and its like are refused: the log keeps the data set. DEBUG POPULATE is refused. `min-replicas-to-write` is
  not heeded: a majority has every write.
- The leader keeps the queues of blocked clients; when it goes, they wait on at the next one. LOCK.INFO in scripts
  and transactions tells of nobody who waits. There is no quarantine.
- ACL SETUSER, DELUSER and LOAD, and CONFIG SET of what concerns data or clients (README lists it), hold on all
  members; inside MULTI they are an error. What a client's scripts were refused is not in ACL LOG. MIGRATE is refused.
- `rename-command` is refused; the limits of encodings begin with Redis's defaults, whatever a member's own
  configuration says, and that of arguments keeps it; `databases` must be the same on all members.

## Redis's own test suite

`scripts/compat` runs the suite of Redis 7.0.15 and says how much of what redis-server 7.0.15 itself passes does
here. What does not, and why, stands in two lists: `tests/compat/changed-by-7.2.txt` (Redis 7.2 itself changed what
the test expects) and `tests/compat/not-passing.txt`.

## What is not here

Modules and asynchronous replication (SYNC, REPLICAOF). Such a command is unknown, or says what is missing.

## Commands
";

/// The text of COMPATIBILITY.md.
#[must_use]
pub fn markdown() -> String {
    let mut groups: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in table().entries() {
        let shown =
            if entry.children.is_empty() { vec![entry] } else { entry.children.iter().collect() };
        groups.entry(entry.row.group.name()).or_default().extend(shown);
    }
    let mut text = PREAMBLE.to_owned();
    for (group, mut entries) in groups {
        entries.sort_by(|a, b| a.full_name.cmp(&b.full_name));
        let _ = write!(
            text,
            "\n### {group}\n\n| command | since | difference |\n| --- | --- | --- |\n"
        );
        for entry in entries {
            let name = entry.full_name.to_uppercase().replace('|', " ");
            let syntax = format!("{name} {}", entry.row.syntax).trim_end().replace('|', "\\|");
            let _ =
                writeln!(text, "| `{syntax}` | {} | {} |", entry.row.since, entry.row.difference);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn compatibility_md_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../COMPATIBILITY.md");
        let text = super::markdown();
        if std::env::var_os("HOLDFAST_WRITE_COMPATIBILITY").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == text,
            "COMPATIBILITY.md is out of date; write it anew with \
             HOLDFAST_WRITE_COMPATIBILITY=1 cargo test -p holdfast compatibility"
        );
    }
}
