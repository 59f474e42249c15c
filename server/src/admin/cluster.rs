//! CLUSTER, READONLY, READWRITE, ASKING: a Raft cluster as Redis Cluster's clients see one.
//!
//! There is one shard with all slots. The leader is its master and the other members are its
//! replicas, so that cluster clients go straight to the leader and may read from the others.

use std::fmt::Write;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::context::Touch;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::time::{DbIndex, UnixMillis};
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use crate::commit;
use crate::commit::raft::RaftNode;
use crate::commit::raft::cluster::{MemberStatus, Status};
use crate::node::Node;
use crate::route::slots::{SLOTS, slot_of};
use crate::route::{Answer, Call, ServerCommand};

const DISABLED: CommandError =
    CommandError::known("ERR This instance has cluster support disabled");
/// Keys looked at per step when keys of a slot are counted.
const SCAN_STEP: &[u8] = b"1000";
/// GETKEYSINSLOT gives at most so many.
const KEYS_MAX: usize = 1_000_000;

/// The 40 digits by which Redis Cluster's clients know a node.
fn long_id(status: &Status, id: u64) -> String {
    format!("{:016x}{id:024x}", status.cluster)
}

fn host_port(addr: &str) -> (&str, i64) {
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, "0"));
    (host, port.parse().unwrap_or(0))
}

fn raft_of<'a>(call: &'a Call<'_>) -> Result<&'a RaftNode, CommandError> {
    call.node.raft().map(|raft| &**raft).ok_or(DISABLED)
}

/// Leader first. While one is elected that is the last one: clients that found no slots at all would
/// give up.
fn in_order(status: &Status) -> Vec<&MemberStatus> {
    let Some(leader) = status.last_leader else { return Vec::new() };
    let (mut first, rest): (Vec<_>, Vec<_>) =
        status.members.iter().partition(|member| member.id == leader);
    first.extend(rest.into_iter().filter(|member| member.voter));
    first
}

/// As [`in_order`], without followers that are lost: nobody shall be sent to them.
fn reachable(status: &Status) -> Vec<&MemberStatus> {
    let leads = |member: &MemberStatus| status.last_leader == Some(member.id);
    in_order(status).into_iter().filter(|member| leads(member) || !member.is_lost()).collect()
}

/// `CLUSTER SLOTS`
fn slots(call: &mut Call<'_>) -> Answer {
    let status = match raft_of(call) {
        Ok(raft) => raft.status(),
        Err(error) => return error.into(),
    };
    call.session.moves = true;
    let members: Vec<Reply> = reachable(&status)
        .into_iter()
        .map(|member| {
            let (host, port) = host_port(&member.member.client_addr);
            let id = long_id(&status, member.id);
            Reply::Array(vec![
                Reply::bulk(host.as_bytes()),
                Reply::Integer(port),
                Reply::bulk(id.as_bytes()),
                Reply::Array(Vec::new()),
            ])
        })
        .collect();
    if members.is_empty() {
        return Reply::Array(Vec::new()).into();
    }
    let mut range = vec![Reply::Integer(0), Reply::Integer(i64::from(SLOTS) - 1)];
    range.extend(members);
    Reply::Array(vec![Reply::Array(range)]).into()
}

/// `CLUSTER SHARDS`
fn shards(call: &mut Call<'_>) -> Answer {
    let status = match raft_of(call) {
        Ok(raft) => raft.status(),
        Err(error) => return error.into(),
    };
    call.session.moves = true;
    let pair = |name: &str, value| (Reply::bulk(name.as_bytes()), value);
    let nodes: Vec<Reply> = in_order(&status)
        .into_iter()
        .enumerate()
        .map(|(place, member)| {
            let (host, port) = host_port(&member.member.client_addr);
            let role: &[u8] = if place == 0 { b"master" } else { b"replica" };
            Reply::Map(vec![
                pair("id", Reply::bulk(long_id(&status, member.id).as_bytes())),
                pair("port", Reply::Integer(port)),
                pair("ip", Reply::bulk(host.as_bytes())),
                pair("endpoint", Reply::bulk(host.as_bytes())),
                pair("role", Reply::bulk(role)),
                pair("replication-offset", Reply::Integer(status.commit_index as i64)),
                pair("health", Reply::bulk(if member.is_lost() { b"fail" } else { b"online" })),
            ])
        })
        .collect();
    if nodes.is_empty() {
        return Reply::Array(Vec::new()).into();
    }
    let range = vec![Reply::Integer(0), Reply::Integer(i64::from(SLOTS) - 1)];
    Reply::Array(vec![Reply::Map(vec![
        pair("slots", Reply::Array(range)),
        pair("nodes", Reply::Array(nodes)),
    ])])
    .into()
}

/// `CLUSTER NODES`
fn nodes(call: &mut Call<'_>) -> Answer {
    let status = match raft_of(call) {
        Ok(raft) => raft.status(),
        Err(error) => return error.into(),
    };
    call.session.moves = true;
    let mut text = String::new();
    let leader = status.last_leader;
    for member in &status.members {
        let leads = leader == Some(member.id);
        let (_, raft_port) = host_port(&member.member.raft_addr);
        let myself = if member.id == status.id { "myself," } else { "" };
        let master = match leader {
            Some(leader) if !leads => long_id(&status, leader),
            _ => "-".to_owned(),
        };
        let _ = write!(
            text,
            "{} {}@{raft_port} {myself}{}{} {master} 0 0 {} {}",
            long_id(&status, member.id),
            member.member.client_addr,
            if leads { "master" } else { "slave" },
            if member.is_lost() { ",fail" } else { "" },
            status.term,
            if member.is_lost() { "disconnected" } else { "connected" },
        );
        if leads {
            let _ = write!(text, " 0-{}", SLOTS - 1);
        }
        text.push('\n');
    }
    Reply::Verbatim(text.into()).into()
}

/// `CLUSTER INFO`
fn info(call: &mut Call<'_>) -> Answer {
    let status = match raft_of(call) {
        Ok(raft) => raft.status(),
        Err(error) => return error.into(),
    };
    let up = status.leader.is_some() && status.quorum;
    let (state, slots) = if up { ("ok", SLOTS) } else { ("fail", 0) };
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{slots}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\ncluster_known_nodes:{}\r\n\
         cluster_size:1\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
        SLOTS - slots,
        status.members.len(),
        status.term,
        status.term,
    );
    Reply::Verbatim(text.into()).into()
}

/// `CLUSTER MYID`
fn my_id(call: &mut Call<'_>) -> Answer {
    match raft_of(call) {
        Ok(raft) => {
            let status = raft.status();
            Reply::bulk(long_id(&status, status.id).as_bytes()).into()
        }
        Err(error) => error.into(),
    }
}

/// `CLUSTER KEYSLOT key`
fn key_slot(call: &mut Call<'_>) -> Answer {
    match raft_of(call) {
        Ok(_) => Reply::Integer(i64::from(slot_of(call.args[2]))).into(),
        Err(error) => error.into(),
    }
}

fn slot_argument(text: &[u8]) -> Result<u16, CommandError> {
    let slot = integer_text(text).and_then(|slot| u16::try_from(slot).ok());
    slot.filter(|slot| *slot < SLOTS).ok_or(CommandError::known("ERR Invalid or out of range slot"))
}

/// `CLUSTER COUNTKEYSINSLOT slot`: looks at every key of database 0.
fn count_keys_in_slot(call: &mut Call<'_>) -> Answer {
    let slot = match raft_of(call).and_then(|_| slot_argument(call.args[2])) {
        Ok(slot) => slot,
        Err(error) => return error.into(),
    };
    let mut count = 0;
    each_key(call.node, |key| {
        count += i64::from(slot_of(key) == slot);
        true
    });
    Reply::Integer(count).into()
}

/// `CLUSTER GETKEYSINSLOT slot count`: looks at every key of database 0.
fn get_keys_in_slot(call: &mut Call<'_>) -> Answer {
    let slot = match raft_of(call).and_then(|_| slot_argument(call.args[2])) {
        Ok(slot) => slot,
        Err(error) => return error.into(),
    };
    let count = integer_text(call.args[3]).and_then(|count| usize::try_from(count).ok());
    let Some(count) = count else {
        return CommandError::known("ERR Invalid number of keys").into();
    };
    let mut found = Vec::new();
    each_key(call.node, |key| {
        if slot_of(key) == slot && found.len() < count.min(KEYS_MAX) {
            found.push(Reply::bulk(key));
        }
        found.len() < count.min(KEYS_MAX)
    });
    Reply::Array(found).into()
}

/// Shows every key of database 0 until `each` has enough.
fn each_key(node: &Node, mut each: impl FnMut(&[u8]) -> bool) {
    let Some(row) = holdfast_engine::engine::table().find(b"scan") else { return };
    let mut cursor = b"0".to_vec();
    let mut effects = Effects::new(EventClass::NONE);
    loop {
        let args: [&[u8]; 4] = [b"scan", &cursor, b"count", SCAN_STEP];
        let reply = scan(&node.engine, row, &args, node.now(), &mut effects);
        let Reply::Array(parts) = reply else { return };
        let [Reply::Bulk(next), Reply::Bulks(keys)] = parts.as_slice() else { return };
        if !keys.iter().flatten().all(&mut each) {
            return;
        }
        if &next[..] == b"0" {
            return;
        }
        cursor = next.to_vec();
    }
}

fn scan(
    engine: &Engine,
    row: &'static Command,
    args: &[&[u8]],
    now: UnixMillis,
    effects: &mut Effects,
) -> Reply {
    let context = commit::context(DbIndex(0), now, Touch::Leaves);
    engine.run(row, args, context, &holdfast_engine::host::Alone, effects).reply
}

/// `CLUSTER RESET | MEET | …`: members come and go by RAFT.CLUSTER and RAFT.NODE.
fn refused(call: &mut Call<'_>) -> Answer {
    match raft_of(call) {
        Ok(_) => CommandError::known(
            "ERR not supported: use RAFT.CLUSTER, RAFT.NODE and RAFT.TRANSFER_LEADER",
        )
        .into(),
        Err(error) => error.into(),
    }
}

/// `READONLY`: this client reads what this node has, though it may be stale.
fn read_only(call: &mut Call<'_>) -> Answer {
    if let Err(error) = raft_of(call) {
        return error.into();
    }
    call.session.readonly = true;
    call.session.moves = true;
    Reply::Ok.into()
}

/// `READWRITE`: the end of READONLY.
fn read_write(call: &mut Call<'_>) -> Answer {
    if let Err(error) = raft_of(call) {
        return error.into();
    }
    call.session.readonly = false;
    Reply::Ok.into()
}

/// `ASKING`: nothing ever moves, so there is nothing to ask for.
fn asking(call: &mut Call<'_>) -> Answer {
    match raft_of(call) {
        Ok(_) => Reply::Ok.into(),
        Err(error) => error.into(),
    }
}

const fn sub(name: &'static str, arity: i32) -> Command {
    Command::server(name, arity, Group::Cluster).of("cluster").flags(Flags::STALE)
}

const SHARD: &str = "there is one shard, the leader its master";
const REFUSED: &str = "refused: members come and go by RAFT.CLUSTER and RAFT.NODE";

const CLUSTER: &[ServerCommand] = &[
    ServerCommand::new(
        sub("countkeysinslot", 3)
            .doc(
                "3.0.0",
                "O(N) with N being all keys",
                "slot",
                "Returns the number of keys in a hash slot.",
            )
            .differs("looks at every key of database 0"),
        count_keys_in_slot,
    ),
    ServerCommand::new(
        sub("failover", -2)
            .doc(
                "3.0.0",
                "O(1)",
                "[FORCE | TAKEOVER]",
                "Forces a replica to perform a manual failover of its master.",
            )
            .differs("refused: use RAFT.TRANSFER_LEADER"),
        refused,
    ),
    ServerCommand::new(
        sub("forget", 3)
            .doc("3.0.0", "O(1)", "node-id", "Removes a node from the nodes table.")
            .differs(REFUSED),
        refused,
    ),
    ServerCommand::new(
        sub("getkeysinslot", 4)
            .doc(
                "3.0.0",
                "O(N) with N being all keys",
                "slot count",
                "Returns the key names in a hash slot.",
            )
            .differs("looks at every key of database 0"),
        get_keys_in_slot,
    ),
    ServerCommand::new(
        sub("info", 2)
            .doc("3.0.0", "O(1)", "", "Returns information about the state of a node.")
            .differs("epochs are terms; nothing is told of the bus, which is not Redis's"),
        info,
    ),
    ServerCommand::new(
        sub("keyslot", 3).doc(
            "3.0.0",
            "O(N) where N is the number of bytes in the key",
            "key",
            "Returns the hash slot for a key.",
        ),
        key_slot,
    ),
    ServerCommand::new(
        sub("meet", -4)
            .doc(
                "3.0.0",
                "O(1)",
                "ip port [cluster-bus-port]",
                "Forces a node to handshake with another node.",
            )
            .differs(REFUSED),
        refused,
    ),
    ServerCommand::new(sub("myid", 2).doc("3.0.0", "O(1)", "", "Returns the ID of a node."), my_id),
    ServerCommand::new(
        sub("nodes", 2)
            .doc(
                "3.0.0",
                "O(N) where N is the total number of Cluster nodes",
                "",
                "Returns the cluster configuration for a node.",
            )
            .differs(SHARD),
        nodes,
    ),
    ServerCommand::new(
        sub("reset", -2).doc("3.0.0", "O(1)", "[HARD | SOFT]", "Resets a node.").differs(REFUSED),
        refused,
    ),
    ServerCommand::new(
        sub("shards", 2)
            .flags(Flags::LOADING)
            .doc(
                "7.0.0",
                "O(N) where N is the total number of cluster nodes",
                "",
                "Returns the mapping of cluster slots to shards.",
            )
            .differs(SHARD),
        shards,
    ),
    ServerCommand::new(
        sub("slots", 2)
            .flags(Flags::LOADING)
            .doc(
                "3.0.0",
                "O(N) where N is the total number of Cluster nodes",
                "",
                "Returns the mapping of cluster slots to nodes.",
            )
            .differs(SHARD),
        slots,
    ),
];

const MODE: Flags = Flags::LOADING.with(Flags::STALE).with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::container(
        Command::container("cluster", Group::Cluster, &[]).doc(
            "3.0.0",
            "Depends on subcommand.",
            "",
            "A container for Redis Cluster commands.",
        ),
        CLUSTER,
    ),
    ServerCommand::new(
        Command::server("readonly", 1, Group::Cluster).flags(MODE).doc(
            "3.0.0",
            "O(1)",
            "",
            "Enables read-only queries for a connection to a Redis Cluster replica node.",
        ),
        read_only,
    ),
    ServerCommand::new(
        Command::server("readwrite", 1, Group::Cluster).flags(MODE).doc(
            "3.0.0",
            "O(1)",
            "",
            "Enables read-write queries for a connection to a Reids Cluster replica node.",
        ),
        read_write,
    ),
    ServerCommand::new(
        Command::server("asking", 1, Group::Cluster).flags(Flags::FAST).doc(
            "3.0.0",
            "O(1)",
            "",
            "Signals that a cluster client is following an -ASK redirect.",
        ),
        asking,
    ),
];
