//! A node's Raft: started, or waiting to be told which cluster it belongs to.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use holdfast_engine::time::UnixMillis;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, Instant, ServerState, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use super::applied::Applied;
use super::batch::Items;
use super::contacts::Contacts;
use super::forward::{Links, reads};
use super::identity::Identity;
use super::log::{LogError, LogStore};
use super::outcome::{Outcome, Refusal};
use super::proposer::{self, Submission};
use super::reader::{Reading, Rounds};
use super::snapshot::Store;
use super::state_machine::StateMachine;
use super::surroundings::Surroundings;
use super::transport::client::Network;
use super::transport::handshake::Secret;
use super::types::{Group, Member, NodeId};

/// A leader that hears nothing from a majority for so many election timeouts takes no more on.
const QUORUM_LOST_AFTER: u64 = 4;

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where log, snapshots and identity are.
    pub dir: PathBuf,
    /// The cluster's secret.
    pub secret: Secret,
    /// The port of the other members' connections.
    pub raft_port: u16,
    /// The port of clients.
    pub client_port: u16,
    /// The host that others are told, or empty to go by the connection.
    pub announce: String,
    /// A follower that hears nothing for so long stands for election; up to twice that at random.
    pub election_timeout_ms: u64,
    /// What the keyspace's order is made from.
    pub seed: u64,
    /// A snapshot is made when so many bytes came into the log since the last one.
    pub snapshot_log_len: u64,
    /// How many databases there are.
    pub databases: u32,
}

/// Why a node's Raft cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The disk.
    Io(io::Error),
    /// The log.
    Log(LogError),
    /// Anything else, in words for the operator.
    Refused(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Log(error) => write!(f, "{error}"),
            Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<LogError> for StartError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Who leads, as this node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<(NodeId, Member)>,
    /// Whether that is this node.
    pub here: bool,
}

/// A node's Raft once it belongs to a cluster.
pub struct Running {
    /// This node's number.
    pub id: NodeId,
    /// The cluster's number.
    pub cluster: u64,
    pub(super) raft: openraft::Raft<Group, StateMachine>,
    pub(super) log: LogStore,
    pub(super) snapshots: Arc<Store>,
    /// Held while a snapshot is being received.
    pub(super) receiving: tokio::sync::Mutex<()>,
    pub(super) proposals: mpsc::UnboundedSender<Submission>,
    readings: mpsc::UnboundedSender<Reading>,
    /// Reads of this node's state while another leads.
    pub(super) member_readings: mpsc::UnboundedSender<reads::Reading>,
}

impl Running {
    /// The last entry in the snapshot; 0 without one.
    pub(super) fn snapshot_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().snapshot.as_ref().map_or(0, |id| id.index)
    }
}

/// A node's Raft.
pub struct RaftNode {
    pub(super) options: Options,
    pub(super) surroundings: Arc<dyn Surroundings>,
    applied: Arc<Applied>,
    running: OnceLock<Running>,
    /// Taken while the node is being made part of a cluster.
    pub(super) founding: tokio::sync::Mutex<()>,
    leads: AtomicBool,
    /// Whether it is again at least where it was when it stopped.
    recovered: AtomicBool,
    /// Whether a leader's majority has answered it lately.
    quorum: AtomicBool,
    leadership: RwLock<Leadership>,
    /// The last leader that was known: while another is elected, clients are still shown it.
    last_leader: RwLock<Option<(NodeId, Member)>>,
    /// Told of each change of leader: its number.
    changed: watch::Sender<Option<NodeId>>,
    links: Links,
    contacts: Contacts,
    /// Since when this node leads.
    led_since: RwLock<Option<std::time::Instant>>,
    /// The latest time that TIME told.
    told_ms: AtomicI64,
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("leads", &self.leads()).finish_non_exhaustive()
    }
}

impl RaftNode {
    /// A node's Raft; it starts if the node belongs to a cluster.
    ///
    /// # Errors
    /// When log and identity do not belong together, or either is not whole.
    pub async fn start(
        options: Options,
        applied: Arc<Applied>,
        surroundings: Arc<dyn Surroundings>,
    ) -> Result<Arc<Self>, StartError> {
        let identity = Identity::load(&options.dir)?;
        let log_dir = options.dir.join("log");
        let node = Arc::new(Self {
            options,
            surroundings,
            applied,
            running: OnceLock::new(),
            founding: tokio::sync::Mutex::new(()),
            leads: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            quorum: AtomicBool::new(true),
            leadership: RwLock::default(),
            last_leader: RwLock::default(),
            changed: watch::channel(None).0,
            links: Links::default(),
            contacts: Contacts::default(),
            led_since: RwLock::new(None),
            told_ms: AtomicI64::new(0),
        });
        match identity {
            Some(identity) if identity.id == 1 && !identity.member => {
                return Err(StartError::Refused(format!(
                    "founding a cluster on this node was cut off: delete {} and found it again; \
                     what the node held before is still where it was",
                    node.options.dir.display()
                )));
            }
            Some(identity) => node.run(&identity).await?,
            None if log_dir.is_dir() => {
                return Err(StartError::Refused(format!(
                    "there is a Raft log in {} but no identity beside it: restore the file \
                     'identity', or move the directory away to begin as a new node",
                    node.options.dir.display()
                )));
            }
            None => {}
        }
        Ok(node)
    }

    /// Opens log and snapshots and runs Raft as `identity`.
    pub(super) async fn run(self: &Arc<Self>, identity: &Identity) -> Result<(), StartError> {
        if identity.databases != self.options.databases {
            return Err(StartError::Refused(format!(
                "this node's cluster has {} databases, but 'databases' says {}: every member must \
                 have the same",
                identity.databases, self.options.databases
            )));
        }
        let log = LogStore::open(&self.options.dir.join("log"))?;
        if log.is_empty() && identity.member {
            return Err(StartError::Refused(format!(
                "this node's identity says that it is node {} of a cluster, but its Raft log is \
                 empty: a node that has forgotten its votes must not come back under its old \
                 number. Remove it on another member (RAFT.NODE REMOVE {}), delete {} and let it \
                 join anew",
                identity.id,
                identity.id,
                self.options.dir.display()
            )));
        }
        let snapshots = Store::open(&self.options.dir.join("snapshot"))?;
        let machine = StateMachine::new(
            Arc::clone(&self.surroundings),
            Arc::clone(&self.applied),
            Arc::clone(&snapshots),
        );
        let network = Network {
            secret: self.options.secret.clone(),
            cluster: identity.cluster,
            id: identity.id,
        };
        let config = config(&self.options).map_err(StartError::Refused)?;
        let raft =
            openraft::Raft::new(identity.id, Arc::new(config), network, log.clone(), machine).await;
        let raft = raft.map_err(|fatal| {
            StartError::Refused(format!(
                "{fatal}. If {} cannot be mended: remove this node on another member (RAFT.NODE \
                 REMOVE {}), delete the directory and let it join anew",
                self.options.dir.display(),
                identity.id
            ))
        })?;
        let (proposals, submissions) = mpsc::unbounded_channel();
        let (readings, waiting) = mpsc::unbounded_channel();
        let (member_readings, member_waiting) = mpsc::unbounded_channel();
        let rounds = Rounds {
            raft: raft.clone(),
            node: Arc::clone(&self.surroundings),
            applied: Arc::clone(&self.applied),
            proposals: proposals.clone(),
        };
        tokio::spawn(proposer::run(
            raft.clone(),
            Arc::clone(&self.surroundings),
            Arc::clone(&self.applied),
            submissions,
        ));
        tokio::spawn(rounds.run(waiting));
        let running = Running {
            id: identity.id,
            cluster: identity.cluster,
            raft: raft.clone(),
            log: log.clone(),
            snapshots,
            receiving: tokio::sync::Mutex::new(()),
            proposals,
            readings,
            member_readings,
        };
        if self.running.set(running).is_err() {
            return Err(StartError::Refused("this node belongs to a cluster already".into()));
        }
        tokio::spawn(Arc::clone(self).follow());
        tokio::spawn(reads::run(Arc::clone(self), member_waiting));
        let node = Arc::clone(self);
        tokio::spawn(async move {
            // Needs a leader; until then nobody is told anything of what is here.
            if raft.wait_for_recovery(None).await.is_ok() {
                node.recovered.store(true, Release);
                tracing::info!("this node has caught up with what it had before it started");
            }
        });
        tokio::spawn(super::contacts::run(Arc::clone(self)));
        tokio::spawn(super::upkeep::run(Arc::clone(self)));
        Ok(())
    }

    /// Keeps in step with who leads.
    async fn follow(self: Arc<Self>) {
        let Some(running) = self.running() else { return };
        let mut metrics = running.raft.metrics();
        loop {
            let now = {
                let seen = metrics.borrow_watched();
                let here =
                    seen.state == ServerState::Leader && seen.current_leader == Some(seen.id);
                let leader = seen.current_leader.and_then(|id| {
                    let member = seen.membership_config.membership().get_node(&id)?.clone();
                    Some((id, member))
                });
                Leadership { leader, here }
            };
            self.lead(now);
            if metrics.changed().await.is_err() {
                self.lead(Leadership::default());
                return;
            }
        }
    }

    fn lead(&self, now: Leadership) {
        let mut place = self.leadership.write().unwrap_or_else(PoisonError::into_inner);
        if *place == now {
            return;
        }
        let lost = place.here && !now.here;
        if place.here != now.here {
            self.applied.set_leads(now.here);
            self.leads.store(now.here, Release);
            *self.led_since.write().unwrap_or_else(PoisonError::into_inner) =
                now.here.then(std::time::Instant::now);
            let word = if now.here { "leads" } else { "follows" };
            tracing::info!("this node {word} now");
        }
        let leader = now.leader.as_ref().map(|(id, _)| *id);
        if now.leader.is_some() {
            let mut last = self.last_leader.write().unwrap_or_else(PoisonError::into_inner);
            last.clone_from(&now.leader);
        }
        *place = now;
        drop(place);
        if lost {
            self.surroundings.lost_leadership();
        }
        self.changed.send_replace(leader);
    }

    /// Its Raft, once it belongs to a cluster.
    #[must_use]
    pub fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// How far it has applied the log.
    #[must_use]
    pub fn applied(&self) -> &Arc<Applied> {
        &self.applied
    }

    /// The cluster's secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.options.secret
    }

    /// What the operator chose.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether this node leads, as far as it knows; reads and writes make sure.
    #[inline]
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads.load(Acquire)
    }

    /// Whether a majority has answered this node lately, if it leads.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.quorum.load(Acquire)
    }

    /// Looks whether a majority still answers; what is proposed without one would wait in vain.
    pub(super) fn look_for_quorum(&self) {
        let Some(running) = self.running() else { return };
        let patience = Duration::from_millis(self.options.election_timeout_ms * QUORUM_LOST_AFTER);
        let lost = {
            let metrics = running.raft.metrics();
            let seen = metrics.borrow_watched();
            let alone = seen.membership_config.membership().voter_ids().count() <= 1;
            let acked = seen.last_quorum_acked.as_ref().map(|at| at.elapsed());
            seen.state == ServerState::Leader && !alone && acked.is_some_and(|ago| ago > patience)
        };
        if self.quorum.swap(!lost, Release) == lost {
            match lost {
                true => tracing::warn!("this node leads, but hears from no majority any more"),
                false => tracing::info!("a majority answers again"),
            }
        }
    }

    /// Whether it is at least where it was when it stopped, so that its own data may be read.
    #[must_use]
    pub fn has_recovered(&self) -> bool {
        self.recovered.load(Acquire)
    }

    /// Why Raft has stopped on this node, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let metrics = self.running()?.raft.metrics();
        metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string)
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For how long this node has led.
    pub(super) fn led_for(&self) -> Duration {
        let since = *self.led_since.read().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// When members were last heard of.
    #[must_use]
    pub fn contacts(&self) -> &Contacts {
        &self.contacts
    }

    /// The leader, or the last one that was known while there is none.
    #[must_use]
    pub fn last_leader(&self) -> Option<(NodeId, Member)> {
        self.last_leader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a leader is known, for so long at most.
    pub async fn wait_for_leader(&self, patience: Duration) -> Leadership {
        let mut changed = self.changed.subscribe();
        let known = async {
            loop {
                let leadership = self.leadership();
                if leadership.leader.is_some() {
                    return leadership;
                }
                if changed.changed().await.is_err() {
                    return leadership;
                }
            }
        };
        tokio::time::timeout(patience, known).await.unwrap_or_default()
    }

    /// The number of the leader, as it changes.
    #[must_use]
    pub fn follow_leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.changed.subscribe()
    }

    /// The connections for requests on behalf of clients.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Submits proposals; what is received is one outcome for each.
    pub fn submit(&self, items: Items) -> oneshot::Receiver<Result<Vec<Outcome>, Refusal>> {
        let (done, told) = oneshot::channel();
        match self.running() {
            Some(_) if self.leads() && !self.has_quorum() => {
                let _ = done.send(Err(Refusal::NoQuorum));
            }
            Some(running) if self.leads() => {
                let submission = Submission { items, done };
                if let Err(back) = running.proposals.send(submission) {
                    let _ = back.0.done.send(Err(Refusal::NoQuorum));
                }
            }
            _ => {
                let _ = done.send(Err(Refusal::NotLeader));
            }
        }
        told
    }

    /// Waits until a read of the state is linearizable; the time to read at.
    ///
    /// # Errors
    /// When this node does not lead or reaches no majority.
    pub async fn read_barrier(&self) -> Result<UnixMillis, Refusal> {
        let running = self.running().ok_or(Refusal::NoQuorum)?;
        if !self.leads() {
            return Err(Refusal::NotLeader);
        }
        if !self.has_quorum() {
            return Err(Refusal::NoQuorum);
        }
        let (tell, told) = oneshot::channel();
        running.readings.send(tell).map_err(|_| Refusal::NoQuorum)?;
        told.await.unwrap_or(Err(Refusal::NoQuorum))
    }

    /// The time that this node would stamp an entry with, if it led.
    #[must_use]
    pub fn clock(&self) -> UnixMillis {
        self.applied.clock(self.surroundings.monotonic_us(), self.surroundings.wall_ms())
    }

    /// The time that TIME tells: what this node would stamp an entry with, and never less than it told
    /// before. Wall time while it belongs to no cluster.
    #[must_use]
    pub fn time(&self) -> UnixMillis {
        let now_ms = match self.running() {
            Some(_) => self.clock().0,
            None => self.surroundings.wall_ms(),
        };
        UnixMillis(self.told_ms.fetch_max(now_ms, AcqRel).max(now_ms))
    }

    /// Moves time on, if the clock has come to where a key expires.
    pub async fn tick(&self) {
        let Some(running) = self.running().filter(|_| self.leads()) else { return };
        let now = self.clock();
        if now > self.applied.now() && self.surroundings.engine().keyspace().has_due(now) {
            let _ = super::reader::tick(&running.proposals).await;
        }
    }
}

fn config(options: &Options) -> Result<Config, String> {
    let election = options.election_timeout_ms;
    Config {
        cluster_name: "holdfast".to_owned(),
        heartbeat_interval: election / 3,
        // A follower waits for the leader's lease, which is the greater of these, and then for a
        // time between them: from one and a half to twice the operator's in all.
        election_timeout_min: election / 2,
        election_timeout_max: election,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // The log's bytes decide, see `upkeep`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 1_000,
        purge_batch_size: 256,
        max_payload_entries: 256,
        // For the whole of a snapshot; its steps have limits of their own.
        install_snapshot_timeout: 3_600_000,
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..Config::default()
    }
    .validate()
    .map_err(|error| error.to_string())
}
