//! The node as its state machine and other members see it, and the Raft port.

use std::collections::HashMap;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_engine::command::Command;
use holdfast_engine::effects::{Audience, Effects, EventClass};
use holdfast_engine::engine::Engine;
use holdfast_engine::host::Host;
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::acl::{User, Users};
use crate::commit::raft::forward::serve::Turns;
use crate::commit::raft::forward::{Answer, Park, Request};
use crate::commit::raft::node::{Options, StartError};
use crate::commit::raft::transport::handshake::Secret;
use crate::commit::raft::transport::server;
use crate::commit::raft::{RaftNode, Surroundings};
use crate::config::Config;
use crate::node::Node;
use crate::observe::Counter;
use crate::route::scripts::hold_thread;
use crate::route::{deliver, forwarded, rights, shared};

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
        self.node.blocked.move_away();
    }

    fn rules_admit(&self, rules: &[u8], args: &[&[u8]]) -> Result<(), CommandError> {
        rights::user_may_call(&self.users.get(rules, &self.node.acl), args)
    }

    fn rules_check(&self, rules: Option<&[u8]>, args: &[&[u8]]) -> Option<bool> {
        let user = rules.map(|rules| self.users.get(rules, &self.node.acl));
        rights::user_may(user.as_deref(), args)
    }

    fn change_settings(&self, pairs: &[&[u8]]) -> Result<(), CommandError> {
        shared::change_settings(&self.node, pairs)
    }

    fn change_user(&self, name_and_rules: &[&[u8]]) -> Result<(), CommandError> {
        shared::change_user(&self.node, name_and_rules)
    }

    fn serve(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async move {
            let user_of = |rules: &[u8]| self.users.get(rules, &self.node.acl);
            forwarded::serve(&self.node, request, user_of).await
        })
    }

    fn park(self: Arc<Self>, park: Park, turns: Turns) -> BoxFuture<'static, ()> {
        Box::pin(async move { forwarded::park(&self.node, park, turns).await })
    }
}

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
