//! ROLE, WAIT, LOLWUT, MONITOR and what else concerns the server as a whole.

use std::time::Duration;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use crate::commit::raft::cluster::MemberStatus;
use crate::node::Node;
use crate::route::{Answer, Call, ServerCommand, Waiting};

/// `ROLE`
fn role(call: &mut Call<'_>) -> Answer {
    let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let raft = call.node.raft().filter(|raft| raft.running().is_some());
    let Some(raft) = raft else {
        let nobody = Reply::Array(Vec::new());
        return Reply::Array(vec![Reply::bulk(b"master"), Reply::Integer(0), nobody]).into();
    };
    let status = raft.status();
    if raft.leads() {
        let replica = |other: &MemberStatus| {
            let (host, port) = other.member.client_addr.rsplit_once(':')?;
            let offset = status.last_index.saturating_sub(other.lag?).to_string();
            let fields = [host, port, &offset].map(|field| Reply::bulk(field.as_bytes()));
            Some(Reply::Array(fields.into()))
        };
        let others =
            status.members.iter().filter(|other| other.id != status.id && !other.is_lost());
        let replicas = Reply::Array(others.filter_map(replica).collect());
        let offset = number(status.last_index);
        return Reply::Array(vec![Reply::bulk(b"master"), offset, replicas]).into();
    }
    let leader = raft.last_leader().map(|(_, member)| member.client_addr).unwrap_or_default();
    let (host, port) = leader.rsplit_once(':').unwrap_or(("", "0"));
    let state: &[u8] = if status.leader.is_some() { b"connected" } else { b"connect" };
    Reply::Array(vec![
        Reply::bulk(b"slave"),
        Reply::bulk(host.as_bytes()),
        Reply::Integer(port.parse().unwrap_or(0)),
        Reply::bulk(state),
        number(status.applied_index),
    ])
    .into()
}

/// What kind of server this is, as INFO and HELLO tell it.
pub(super) fn mode(node: &Node) -> &'static str {
    if node.raft().is_some() { "cluster" } else { "standalone" }
}

/// A timeout in milliseconds; 0 is without end.
pub(super) fn timeout(text: &[u8]) -> Result<Option<Duration>, CommandError> {
    let ms = integer_text(text)
        .ok_or(CommandError::known("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| CommandError::known("ERR timeout is negative"))?;
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

/// `WAIT numreplicas timeout`: how many replicas have what this client wrote: none, as none
/// are there; a client that asks for more waits for its timeout.
fn wait(call: &mut Call<'_>) -> Answer {
    let Some(replicas) = integer_text(call.args[1]) else {
        return CommandError::NOT_AN_INTEGER.into();
    };
    match timeout(call.args[2]) {
        Err(error) => error.into(),
        Ok(_) if call.in_transaction => Reply::Integer(0).into(),
        Ok(_) if replicas <= 0 && call.node.raft().is_none() => Reply::Integer(0).into(),
        Ok(timeout) => Answer::Wait(Waiting::Replicas {
            wanted: Some(u64::try_from(replicas).unwrap_or(0)),
            timeout,
            reply: Reply::Integer(0),
        }),
    }
}

/// `REPLICAOF host port | NO ONE`
fn replicaof(call: &mut Call<'_>) -> Answer {
    if call.args[1].eq_ignore_ascii_case(b"no") && call.args[2].eq_ignore_ascii_case(b"one") {
        return Reply::Ok.into();
    }
    CommandError::known("ERR asynchronous replication is not supported by Holdfast").into()
}

/// `LOLWUT [VERSION version]`
fn lolwut(call: &mut Call<'_>) -> Answer {
    if let [_, option, version, ..] = call.args
        && option.eq_ignore_ascii_case(b"version")
        && integer_text(version).is_none()
    {
        return CommandError::NOT_AN_INTEGER.into();
    }
    const PICTURE: &str = "\
        \x20      .--.\n\
        \x20     / .. \\\n\
        \x20     | || |\n\
        \x20   .-'----'-.\n\
        \x20   |  .--.  |\n\
        \x20   |  '||'  |   hold fast\n\
        \x20   |   ''   |\n\
        \x20   '--------'\n";
    let text = format!(
        "{PICTURE}\nRedis ver. {} (Holdfast {})\n",
        crate::config::REDIS_VERSION,
        env!("CARGO_PKG_VERSION")
    );
    Reply::Verbatim(text.into()).into()
}

/// `MONITOR`: every command from now on.
fn monitor(call: &mut Call<'_>) -> Answer {
    if call.in_transaction {
        return CommandError::known("ERR MONITOR isn't allowed for DENY BLOCKING client").into();
    }
    if !call.session.monitor {
        call.session.monitor = true;
        call.session.publish();
        // OK must come before the first line, and lines are queued from now on.
        call.node.monitors.add(std::sync::Arc::clone(&call.session.client));
    }
    Reply::Ok.into()
}

/// `MODULE LIST`: none.
fn module(call: &mut Call<'_>) -> Answer {
    if call.args[1].eq_ignore_ascii_case(b"list") {
        return Reply::Array(Vec::new()).into();
    }
    CommandError::known("ERR modules are not supported").into()
}

const ADMIN: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE);

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("role", 1, Group::Server)
            .flags(Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST))
            .doc("2.8.12", "O(1)", "", "Returns the replication role."),
        role,
    ),
    ServerCommand::new(
        Command::server("wait", 3, Group::Generic).flags(Flags::BLOCKING).doc(
            "3.0.0",
            "O(1)",
            "numreplicas timeout",
            "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed.",
        ),
        wait,
    ),
    ServerCommand::new(
        Command::server("replicaof", 3, Group::Server)
            .flags(ADMIN)
            .doc("5.0.0", "O(1)", "<host port | NO ONE>", "Configures a server as replica of another, or promotes it to a master.")
            .differs("only `NO ONE`: replication is by Raft, never asynchronous"),
        replicaof,
    ),
    ServerCommand::new(
        Command::server("slaveof", 3, Group::Server)
            .flags(ADMIN)
            .doc("1.0.0", "O(1)", "<host port | NO ONE>", "Sets a Redis server as a replica of another, or promotes it to being a master.")
            .differs("only `NO ONE`: replication is by Raft, never asynchronous"),
        replicaof,
    ),
    ServerCommand::new(
        Command::server("lolwut", -1, Group::Server)
            .flags(Flags::READONLY.with(Flags::FAST))
            .doc("5.0.0", "", "[VERSION version]", "Displays computer art and the Redis version"),
        lolwut,
    ),
    ServerCommand::new(
        Command::server("monitor", 1, Group::Server)
            .flags(ADMIN)
            .doc("1.0.0", "", "", "Listens for all requests received by the server in real-time."),
        monitor,
    ),
    ServerCommand::new(
        Command::server("module", -2, Group::Server)
            .flags(Flags::ADMIN.with(Flags::NOSCRIPT))
            .doc("4.0.0", "Depends on subcommand.", "subcommand", "A container for module commands.")
            .differs("only `LIST`: modules are not supported"),
        module,
    ),
];
