//! The node as its state machine sees it, the Raft port, and clients that other nodes pass on.

use std::collections::HashMap;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::command::Command;
use holdfast_engine::context::Touch;
use holdfast_engine::effects::{Audience, Effects, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Host;
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::Stream;
use super::connection::Connection;
use super::listener::Place;
use crate::acl::{User, Users};
use crate::commit::raft::node::{Options, StartError};
use crate::commit::raft::transport::handshake::Secret;
use crate::commit::raft::transport::server;
use crate::commit::raft::wire::{Malformed, Reader, put_bytes};
use crate::commit::raft::{RaftNode, Surroundings};
use crate::config::Config;
use crate::node::Node;
use crate::observe::Counter;
use crate::resp::Protocol;
use crate::route::scripts::hold_thread;
use crate::route::{deliver, rights};
use crate::session::{Client, ReplyMode, Session};

/// A script stops after so many instructions at the latest: every member runs it, one after the
/// other entry.
const INSTRUCTION_LIMIT_MAX: u64 = 1_000_000_000;
/// A long script that is applied sleeps for so long now and then, so that another thread takes its
/// worker's other tasks.
const OFFER: Duration = Duration::from_micros(500);
/// A planned hand-over takes at most so long before the process ends anyway.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(4);

/// The node, as the state machine sees it.
struct Here {
    node: Arc<Node>,
    users: BoundUsers,
}

/// Users whose rules came with proposals, by these.
#[derive(Default)]
struct BoundUsers(Mutex<HashMap<Box<[u8]>, Arc<User>>>);

impl BoundUsers {
    /// The user of these rules; one that may do nothing, if they cannot be read.
    fn get(&self, rules: &[u8], users: &Users) -> Arc<User> {
        /// Rules that are kept read.
        const KEPT_MAX: usize = 256;
        let mut known = self.0.lock();
        if let Some(user) = known.get(rules) {
            return Arc::clone(user);
        }
        let user = User::from_rules(rules, users.catalogue());
        let user = Arc::new(user.unwrap_or_else(|| User::new(b"unknown", &users.reading())));
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(rules.into(), Arc::clone(&user));
        user
    }
}

impl Host for Here {
    fn receivers(&self, audience: Audience, channel: &[u8]) -> i64 {
        self.node.receivers(audience, channel)
    }

    fn has_blocked_clients(&self) -> bool {
        self.node.has_blocked_clients()
    }

    fn has_lock_waiters(&self) -> bool {
        self.node.has_lock_waiters()
    }

    fn follows_scripts(&self) -> bool {
        self.node.monitors.any()
    }

    fn script_calls(&self, _row: &Command, db: DbIndex, args: &[&[u8]]) {
        self.node.monitors.show_script(&self.node, db, args);
    }

    fn server_command(&self, args: &[&[u8]]) -> Option<Reply> {
        self.node.server_command(args)
    }

    fn script_log(&self, level: i64, text: &[u8]) {
        self.node.script_log(level, text);
    }
}

impl Surroundings for Here {
    fn engine(&self) -> &Engine {
        &self.node.engine
    }

    fn wanted_events(&self) -> EventClass {
        deliver::wanted_events(&self.node)
    }

    fn deliver(&self, effects: &mut Effects) {
        self.node.changes.fetch_add(std::mem::take(&mut effects.changes), Relaxed);
        let expired = std::mem::take(&mut effects.expired_keys);
        if expired > 0 {
            self.node.observe.stats.add(Counter::ExpiredKeys, expired);
        }
        if !effects.is_quiet() {
            deliver::deliver(&self.node, effects);
        }
    }

    fn hand_over(&self) {
        hold_thread(OFFER);
    }

    fn monotonic_us(&self) -> u64 {
        self.node.clock.monotonic_us()
    }

    fn wall_ms(&self) -> i64 {
        self.node.clock.now_ms() as i64
    }

    fn instruction_limit(&self) -> u64 {
        match self.node.settings.lua_instruction_limit() {
            0 => INSTRUCTION_LIMIT_MAX,
            limit => limit.min(INSTRUCTION_LIMIT_MAX),
        }
    }

    fn lost_leadership(&self) {
        self.node.blocked.unblock_all();
    }

    fn rules_admit(&self, rules: &[u8], args: &[&[u8]]) -> Result<(), CommandError> {
        rights::user_may_call(&self.users.get(rules, &self.node.acl), args)
    }

    fn rules_check(&self, rules: Option<&[u8]>, args: &[&[u8]]) -> Option<bool> {
        let user = rules.map(|rules| self.users.get(rules, &self.node.acl));
        rights::user_may(user.as_deref(), args)
    }

    fn adopt(&self, stream: TcpStream, session: Vec<u8>) {
        if let Err(error) = adopt(&self.node, stream, &session) {
            tracing::warn!("a client that another node passed on is not served: {error}");
        }
    }
}

/// What a client is told whose user is not known where it was passed on to.
const USER_UNKNOWN: &[u8] =
    b"-NOPERM the leader of the cluster does not know this user: users are each \
    node's own, and have to be the same on all of them\r\n";

/// The Raft port of a configuration with `raft yes` whose directives go together.
///
/// # Errors
/// Which do not, in words for the operator.
pub fn acceptable(config: &Config) -> Result<u16, String> {
    let settings = config.settings();
    if !config.renamed_commands().is_empty() {
        return Err(
            "'rename-command' cannot be used with 'raft yes': scripts see the new names, and must \
             do the same on every member"
                .to_owned(),
        );
    }
    if crate::memory::evicts(settings) {
        return Err(crate::memory::NO_EVICTION_IN_A_CLUSTER.to_owned());
    }
    match settings.raft_port() {
        0 => settings.port().checked_add(10_000).ok_or_else(|| {
            format!(
                "port {} leaves no room for the Raft port 10,000 above it: name one with --raft-port",
                settings.port()
            )
        }),
        port => Ok(port),
    }
}

/// Starts the node's Raft and listens for other members.
///
/// # Errors
/// In words for the operator.
pub async fn start(node: &Arc<Node>) -> Result<(), StartError> {
    let settings = &node.settings;
    let Some(applied) = node.log_time() else { return Ok(()) };
    let raft_port = acceptable(&node.config).map_err(StartError::Refused)?;
    let secret = Secret::new(&settings.raft_secret());
    let announce = String::from_utf8_lossy(&settings.raft_announce()).into_owned();
    let options = Options {
        dir: crate::node::raft_dir(settings),
        secret: secret.clone(),
        raft_port,
        client_port: settings.port(),
        announce,
        election_timeout_ms: settings.raft_election_timeout_ms(),
        seed: crate::node::seed(settings)?,
        snapshot_log_len: settings.raft_snapshot_log_size(),
        databases: settings.databases(),
    };
    let listeners = bind(node, raft_port, &secret)?;
    let here = Arc::new(Here { node: Arc::clone(node), users: BoundUsers::default() });
    let raft = RaftNode::start(options, Arc::clone(applied), here).await?;
    node.set_raft(Arc::clone(&raft));
    for listener in listeners {
        tokio::spawn(server::run(Arc::clone(&raft), listener));
    }
    if raft.running().is_none() {
        tracing::info!("this node belongs to no cluster yet: RAFT.CLUSTER INIT or JOIN");
    }
    Ok(())
}

/// Listens where clients are listened for; without a secret, only on this machine.
fn bind(node: &Node, port: u16, secret: &Secret) -> Result<Vec<TcpListener>, StartError> {
    if secret.is_empty() {
        tracing::warn!(
            "no raft-secret is set: only members on this machine (127.0.0.1) can connect"
        );
        return Ok(vec![bind_one("127.0.0.1", port)?]);
    }
    let mut listeners = Vec::new();
    for text in node.settings.bind().iter() {
        let (host, optional) = match text.strip_prefix('-') {
            Some(host) => (host, true),
            None => (text.as_str(), false),
        };
        let host = match host {
            "*" => "0.0.0.0",
            "::*" => "::",
            other => other,
        };
        match bind_one(host, port) {
            Ok(listener) => listeners.push(listener),
            Err(_) if optional => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

fn bind_one(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let bound = || -> io::Result<TcpListener> {
        let address = (host, port).to_socket_addrs()?.next();
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let kind = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(kind, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(128)?;
        TcpListener::from_std(socket.into())
    };
    bound().map_err(|error| {
        StartError::Refused(format!(
            "could not listen for other members on {host}:{port}: {error}. Choose another port \
             with --raft-port"
        ))
    })
}

/// Hands leadership over, so that the process can end without an election.
pub async fn hand_over_before_end(node: &Node) {
    let Some(raft) = node.raft().filter(|raft| raft.leads()) else { return };
    match tokio::time::timeout(HAND_OVER_PATIENCE, raft.hand_over(None)).await {
        Ok(Ok(id)) => tracing::warn!("handed leadership over to node {id}"),
        Ok(Err(text)) => tracing::warn!("leadership was not handed over: {text}"),
        Err(_) => tracing::warn!("leadership was not handed over in time"),
    }
}

/// What the leader must know of a session that it takes over.
#[must_use]
pub fn encode_session(session: &Session) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&session.db.0.to_le_bytes());
    out.push(u8::from(session.protocol == Protocol::Resp3));
    out.push(u8::from(session.authenticated));
    out.push(u8::from(session.touch == Touch::Leaves));
    out.push(match session.reply_mode {
        ReplyMode::On => 0,
        ReplyMode::Off => 1,
        ReplyMode::SkipNext => 2,
        ReplyMode::Skip => 3,
    });
    out.push(u8::from(session.moves));
    out.push(session.hops + 1);
    let names = session.client.names();
    for text in [session.client.addr.as_bytes(), &names.name, &names.lib_name, &names.lib_ver] {
        put_bytes(&mut out, text);
    }
    put_bytes(&mut out, session.user.name());
    out.push(u8::from(session.watch_lost));
    out
}

fn adopt(node: &Arc<Node>, stream: TcpStream, bytes: &[u8]) -> Result<(), Malformed> {
    use std::os::fd::AsRawFd;
    let mut from = Reader::new(bytes);
    let db = DbIndex(from.u16("db")?);
    let resp3 = from.u8("protocol")? == 1;
    let authenticated = from.u8("authenticated")? == 1;
    let leaves = from.u8("touch")? == 1;
    let reply_mode = match from.u8("reply mode")? {
        0 => ReplyMode::On,
        1 => ReplyMode::Off,
        2 => ReplyMode::SkipNext,
        3 => ReplyMode::Skip,
        _ => return Err(Malformed("reply mode")),
    };
    let moves = from.u8("mode")? == 1;
    let hops = from.u8("hops")?;
    let addr = from.text("address")?;
    let name = from.bytes("name")?.to_vec();
    let lib_name = from.bytes("library")?.to_vec();
    let lib_ver = from.bytes("library")?.to_vec();
    // By its name, for users are each node's own: what it may do is what the leader says.
    let Some(user) = node.acl.get(from.bytes("user")?) else {
        tokio::spawn(async move {
            let mut stream = stream;
            let _ = stream.write_all(USER_UNKNOWN).await;
        });
        return Err(Malformed("user: this node does not know it"));
    };
    // The release before this one did not send it.
    let watch_lost = from.u8("watches").is_ok_and(|lost| lost == 1);
    if u32::from(db.0) >= node.settings.databases() {
        return Err(Malformed("db"));
    }
    if !node.admit() {
        return Err(Malformed("moment: the maximum of clients is reached"));
    }
    let id = node.clients.next_id();
    let local = stream.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let fd = stream.as_raw_fd();
    let client = Arc::new(Client::new(id, (addr, local), fd, false, node.clock.monotonic_us()));
    client.rename(|names| {
        names.name = name;
        names.lib_name = lib_name;
        names.lib_ver = lib_ver;
    });
    node.clients.add(Arc::clone(&client));
    let place = Place::new(node, id);
    let (node, acl) = (Arc::clone(node), Arc::clone(node));
    tokio::spawn(async move {
        let _place = place;
        let mut connection = Connection::new(node, Stream::Tcp(stream), client);
        connection.resume(|session| {
            session.db = db;
            if authenticated {
                session.log_in(user, &acl.acl);
            } else {
                session.log_out(&acl.acl);
            }
            session.touch = if leaves { Touch::Leaves } else { Touch::Counts };
            session.reply_mode = reply_mode;
            session.watch_lost = watch_lost;
            session.protocol = if resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
            session.client.set_protocol(session.protocol);
            session.moves = moves;
            session.hops = hops;
            session.publish();
        });
        connection.run().await;
    });
    Ok(())
}
