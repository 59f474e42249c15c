//! RAFT.CLUSTER, RAFT.NODE, RAFT.TRANSFER_LEADER, RAFT.STATUS, and INFO's section about Raft.
//!
//! The names are RedisRaft's. What takes time answers later; the connection waits without
//! holding a thread.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::commit::raft::RaftNode;
use crate::commit::raft::cluster::Status;
use crate::node::Node;
use crate::route::waiting::Later;
use crate::route::{Answer, Call, ServerCommand, Waiting};

const OFF: CommandError =
    CommandError::known("ERR Raft is off on this node: start it with --raft yes");
/// Asking another node where its leader is takes at most so long.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Its answer is a few hundred bytes per member.
const ANSWER_LEN_MAX: usize = 256 << 10;
/// A cluster that is just electing is asked again.
const JOIN_TRIES: usize = 20;
const JOIN_RETRY: Duration = Duration::from_millis(150);

fn raft_of(call: &Call<'_>) -> Result<Arc<RaftNode>, CommandError> {
    call.node.raft().map(Arc::clone).ok_or(OFF)
}

fn later(work: impl Future<Output = Result<Reply, String>> + Send + 'static) -> Answer {
    // A task of its own: what has begun goes on when the operator's connection breaks.
    let work = tokio::spawn(work);
    Answer::Wait(Waiting::Later(Later(Box::pin(async {
        let done = work.await.unwrap_or_else(|error| Err(format!("ERR {error}")));
        done.unwrap_or_else(|text| Reply::error(CommandError::new(text)))
    }))))
}

/// `RAFT.CLUSTER INIT`
fn init(call: &mut Call<'_>) -> Answer {
    let raft = match raft_of(call) {
        Ok(raft) => raft,
        Err(error) => return error.into(),
    };
    let left_ms = call.node.quarantine.left_ms(call.node.clock.monotonic_us());
    if left_ms > 0 && raft.running().is_none() {
        return CommandError::new(format!(
            "QUARANTINE {left_ms} locks granted before the restart may still be held, and a \
             cluster would not know of them"
        ))
        .into();
    }
    let local = call.session.client.local_addr.clone();
    let node = Arc::clone(call.node);
    later(async move {
        let cluster = raft.init(&local).await?;
        if node.persist.journal.is_on() {
            // From here on the Raft log keeps the data set.
            node.persist.stop_journal(&node.engine);
        }
        Ok(Reply::Simple(format!("OK {cluster:016x}").into()))
    })
}

/// `RAFT.CLUSTER JOIN host:port`
fn join(call: &mut Call<'_>) -> Answer {
    let raft = match raft_of(call) {
        Ok(raft) => raft,
        Err(error) => return error.into(),
    };
    let Some(addr) = address(call.args[2]) else {
        return CommandError::known("ERR not an address: give host:port of any member").into();
    };
    let node = Arc::clone(call.node);
    if raft.running().is_none() && !is_empty(&node) {
        return CommandError::known(
            "ERR this node holds keys, functions or a token of locks, which joining would replace by \
             those of the cluster: start it with an empty directory",
        )
        .into();
    }
    later(async move {
        let mut tries = 0;
        loop {
            tries += 1;
            let joined = match ask_for_leader(&node, &addr).await {
                Ok(leader) => raft.join(&leader).await,
                Err(text) => Err(text),
            };
            match joined {
                Ok(id) => return Ok(Reply::Simple(format!("OK {id}").into())),
                // An election, or a leader that has just changed.
                Err(text) if tries < JOIN_TRIES && text.contains("lead") => {
                    tokio::time::sleep(JOIN_RETRY).await;
                }
                Err(text) => return Err(text),
            }
        }
    })
}

fn is_empty(node: &Node) -> bool {
    node.engine.keyspace().is_pristine(node.now())
}

fn address(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (host, port) = text.rsplit_once(':')?;
    let fits = !host.is_empty() && host.len() <= 255 && port.parse::<u16>().is_ok_and(|p| p != 0);
    fits.then(|| text.to_owned())
}

/// Asks the node whose clients connect to `addr` where the leader listens for members.
async fn ask_for_leader(node: &Node, addr: &str) -> Result<String, String> {
    let failed = |what: String| format!("ERR {addr} cannot be asked where the leader is: {what}");
    let talk = async {
        let mut stream = TcpStream::connect(addr).await?;
        let password = node.settings.requirepass();
        let mut request = Vec::new();
        if !password.is_empty() {
            put_command(&mut request, &[b"AUTH", &password]);
        }
        put_command(&mut request, &[b"INFO", b"server", b"raft"]);
        put_command(&mut request, &[b"QUIT"]);
        stream.write_all(&request).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LEN_MAX as u64).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(ASK_TIMEOUT, talk).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("it does not answer".to_owned())),
    };
    let answer = String::from_utf8_lossy(&answer);
    let field = |name: &str| {
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if field("run_id") == Some(node.run_id.as_str()) {
        return Err("ERR a node cannot join itself: RAFT.CLUSTER INIT makes it a cluster".into());
    }
    match (field("raft_role"), field("raft_leader_raft")) {
        (Some("none"), _) => Err(format!("ERR the node at {addr} belongs to no cluster itself")),
        (Some(_), Some(leader)) if !leader.is_empty() => Ok(leader.to_owned()),
        (Some(_), _) => Err(format!("ERR the node at {addr} knows of no leader")),
        (None, _) => {
            let told = answer.lines().find(|line| line.starts_with('-')).unwrap_or("");
            Err(failed(format!("it does not run Raft, or does not let us in {told}")))
        }
    }
}

fn put_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn node_id(text: &[u8]) -> Result<u64, CommandError> {
    let id = integer_text(text).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or(CommandError::known("ERR not the number of a node"))
}

/// `RAFT.NODE REMOVE id`
fn remove(call: &mut Call<'_>) -> Answer {
    let (raft, id) = match (raft_of(call), node_id(call.args[2])) {
        (Ok(raft), Ok(id)) => (raft, id),
        (Err(error), _) | (_, Err(error)) => return error.into(),
    };
    later(async move { raft.remove(id).await.map(|()| Reply::Ok) })
}

/// `RAFT.TRANSFER_LEADER [id]`
fn transfer_leader(call: &mut Call<'_>) -> Answer {
    let raft = match raft_of(call) {
        Ok(raft) => raft,
        Err(error) => return error.into(),
    };
    let to = match call.args.get(1).map(|text| node_id(text)).transpose() {
        Ok(to) => to,
        Err(error) => return error.into(),
    };
    later(async move {
        let id = raft.hand_over(to).await?;
        Ok(Reply::Simple(format!("OK {id}").into()))
    })
}

/// `RAFT.ONCE client number command [arg ...]`: comes here only when it cannot run.
fn once(call: &mut Call<'_>) -> Answer {
    if let Err(error) = raft_of(call) {
        return error.into();
    }
    match crate::route::cluster::tagged(call.args) {
        Ok(_) => CommandError::known("ERR not allowed here").into(),
        Err(error) => error.into(),
    }
}

/// `RAFT.STATUS`
fn status(call: &mut Call<'_>) -> Answer {
    let status = match raft_of(call) {
        Ok(raft) => raft.status(),
        Err(error) => return error.into(),
    };
    let text = |text: &str| Reply::bulk(text.as_bytes());
    let number = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let pair = |name: &str, value| (Reply::bulk(name.as_bytes()), value);
    let members = status.members.iter().map(|other| {
        Reply::Map(vec![
            pair("node_id", number(other.id)),
            pair("addr", text(&other.member.client_addr)),
            pair("raft_addr", text(&other.member.raft_addr)),
            pair("voter", text(yes_no(other.voter))),
            pair("lag", other.lag.map_or(Reply::Nil, number)),
            pair("last_contact_ms", other.silent_ms.map_or(Reply::Nil, number)),
        ])
    });
    let members = Reply::Array(members.collect());
    Reply::Map(vec![
        pair("role", text(status.role)),
        pair("node_id", number(status.id)),
        pair("cluster_id", text(&format!("{:016x}", status.cluster))),
        pair("term", number(status.term)),
        pair("leader_id", number(status.leader.as_ref().map_or(0, |leader| leader.0))),
        pair("leader", text(leader_addr(&status))),
        pair("quorum", text(yes_no(status.quorum))),
        pair("last_index", number(status.last_index)),
        pair("commit_index", number(status.commit_index)),
        pair("applied_index", number(status.applied_index)),
        pair("snapshot_index", number(status.snapshot_index)),
        pair("error", text(status.failed.as_deref().unwrap_or(""))),
        pair("members", members),
    ])
    .into()
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn leader_addr(status: &Status) -> &str {
    status.leader.as_ref().map_or("", |leader| leader.1.client_addr.as_str())
}

/// INFO's section `raft`.
pub(super) fn info(raft: &RaftNode, out: &mut String) {
    let status = raft.status();
    let leader_raft = status.leader.as_ref().map_or("", |leader| leader.1.raft_addr.as_str());
    let leader_id = status.leader.as_ref().map_or(0, |leader| leader.0);
    let (entries, bytes) = status.log;
    let _ = write!(
        out,
        "raft_role:{}\r\nraft_node_id:{}\r\nraft_cluster_id:{:016x}\r\nraft_leader:{}\r\n\
         raft_leader_id:{leader_id}\r\nraft_leader_raft:{leader_raft}\r\nraft_term:{}\r\n\
         raft_quorum:{}\r\nraft_last_index:{}\r\nraft_commit_index:{}\r\n\
         raft_applied_index:{}\r\nraft_snapshot_index:{}\r\nraft_log_entries:{entries}\r\n\
         raft_log_cached_bytes:{bytes}\r\nraft_error:{}\r\nraft_members:{}\r\n",
        status.role,
        status.id,
        status.cluster,
        leader_addr(&status),
        status.term,
        yes_no(status.quorum),
        status.last_index,
        status.commit_index,
        status.applied_index,
        status.snapshot_index,
        status.failed.as_deref().unwrap_or("").replace(['\r', '\n'], " "),
        status.members.len(),
    );
    for other in &status.members {
        let lag = other.lag.map_or("?".to_owned(), |lag| lag.to_string());
        let contact = other.silent_ms.map_or("?".to_owned(), |ms| ms.to_string());
        let _ = write!(
            out,
            "raft_member{}:addr={},raft_addr={},voter={},lag={lag},last_contact_ms={contact}\r\n",
            other.id,
            other.member.client_addr,
            other.member.raft_addr,
            yes_no(other.voter)
        );
    }
}

/// INFO's section `replication` in a cluster: the leader is the master.
pub(super) fn replication(node: &Node, status: &Status, out: &mut String) {
    if status.role == "leader" {
        let others = status.members.iter().filter(|other| other.id != status.id);
        let others: Vec<_> = others.filter(|other| !other.is_lost()).collect();
        let _ = write!(out, "role:master\r\nconnected_slaves:{}\r\n", others.len());
        for (place, other) in others.iter().enumerate() {
            let (host, port) = other.member.client_addr.rsplit_once(':').unwrap_or_default();
            let lag = other.lag.unwrap_or(status.last_index);
            let _ = write!(
                out,
                "slave{place}:ip={host},port={port},state=online,offset={},lag={}\r\n",
                status.last_index.saturating_sub(lag),
                // Seconds, as Redis tells it.
                other.silent_ms.unwrap_or(0) / 1000
            );
        }
    } else {
        let (host, port) = leader_addr(status).rsplit_once(':').unwrap_or(("", "0"));
        let link = if status.leader.is_some() { "up" } else { "down" };
        let _ = write!(
            out,
            "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\n\
             master_link_status:{link}\r\nmaster_sync_in_progress:0\r\n\
             slave_repl_offset:{}\r\nslave_read_only:1\r\nconnected_slaves:0\r\n",
            status.applied_index
        );
    }
    let _ = write!(
        out,
        "master_failover_state:no-failover\r\nmaster_replid:{:016x}{}\r\n\
         master_replid2:{:040}\r\nmaster_repl_offset:{}\r\nsecond_repl_offset:-1\r\n\
         repl_backlog_active:0\r\nrepl_backlog_size:0\r\n\
         repl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0\r\n",
        status.cluster,
        &node.run_id[..24],
        0,
        status.applied_index
    );
}

const OPERATOR: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_MULTI);

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::container(
        Command::container("raft.cluster", Group::Cluster, &[]).doc(
            "7.2.4",
            "Depends on subcommand.",
            "",
            "A container for commands that make a cluster.",
        ),
        &[
            ServerCommand::new(
                Command::server("init", 2, Group::Cluster)
                    .of("raft.cluster")
                    .flags(OPERATOR)
                    .doc("7.2.4", "O(1)", "", "Founds a cluster of this node alone.")
                    .differs("ours; the name is RedisRaft's"),
                init,
            ),
            ServerCommand::new(
                Command::server("join", 3, Group::Cluster)
                    .of("raft.cluster")
                    .flags(OPERATOR)
                    .doc(
                        "7.2.4",
                        "O(N) with N being the size of the data set",
                        "address",
                        "Joins the cluster of which a member is at this address; answers once this node votes.",
                    )
                    .differs("ours; the name is RedisRaft's"),
                join,
            ),
        ],
    ),
    ServerCommand::container(
        Command::container("raft.node", Group::Cluster, &[]).doc(
            "7.2.4",
            "Depends on subcommand.",
            "",
            "A container for commands about members of the cluster.",
        ),
        &[ServerCommand::new(
            Command::server("remove", 3, Group::Cluster)
                .of("raft.node")
                .flags(OPERATOR)
                .doc("7.2.4", "O(1)", "id", "Removes a member from the cluster.")
                .differs("ours; the name is RedisRaft's"),
            remove,
        )],
    ),
    ServerCommand::new(
        Command::server("raft.transfer_leader", -1, Group::Cluster)
            .flags(OPERATOR)
            .doc("7.2.4", "O(1)", "[id]", "Hands leadership over to another member.")
            .differs("ours; the name is RedisRaft's"),
        transfer_leader,
    ),
    ServerCommand::new(
        Command::server("raft.once", -4, Group::Cluster)
            .flags(Flags::NOSCRIPT.with(Flags::NO_MULTI))
            .doc(
                "7.2.4",
                "That of the command",
                "client number command [arg ...]",
                "Runs a command unless it ran before under this number; answers the first reply.",
            )
            .differs("ours: makes the retry of a write safe whose outcome was unknown"),
        once,
    ),
    ServerCommand::new(
        Command::server("raft.status", 1, Group::Cluster)
            .flags(Flags::NOSCRIPT)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .doc("7.2.4", "O(1)", "", "Tells what this node knows of the cluster.")
            .differs("ours"),
        status,
    ),
];
