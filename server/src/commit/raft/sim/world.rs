//! Everything a simulated cluster consists of, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use holdfast_engine::context::{Context, Touch};
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::{Alone, Host};
use holdfast_engine::time::{DbIndex, UnixMillis};
use holdfast_engine::{CommandError, Reply};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{AsyncRuntime, Config, ServerState, SnapshotPolicy};
use openraft_rt_sim::{SimInstant, SimRuntime};

use super::super::applied::Applied;
use super::super::forward::serve::Turns;
use super::super::forward::{Answer, Park, Request};
use super::super::log::tests::TempDir;
use super::super::outcome::Refusal;
use super::super::snapshot::Store;
use super::super::state_machine::StateMachine;
use super::super::surroundings::Surroundings;
use super::super::types::{Member, NodeId};
use super::disk::Disk;
use super::network::SimNetwork;
use super::{SimGroup, Tally};

pub(super) type SimRaft = openraft::Raft<SimGroup, StateMachine>;

/// Nodes there are; three of them found the cluster.
pub(super) const NODES: u64 = 5;
/// The real time at which a simulation begins.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// With all faults gone the cluster is well again within this.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// The seed's numbers.
#[derive(Debug)]
pub(super) struct Random(Mutex<u64>);

impl Random {
    pub(super) fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().expect("the generator");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Microseconds since the simulation began.
pub(super) fn now_us() -> u64 {
    SimInstant::try_now().map_or(0, |now| now.elapsed_since_start().as_micros() as u64)
}

/// What a node's state machine sees.
struct Around {
    engine: Engine,
    id: NodeId,
    applied: Arc<Applied>,
    wall_offset_ms: Arc<Mutex<i64>>,
    digests: Arc<Mutex<BTreeMap<u64, (NodeId, u64)>>>,
}

impl Host for Around {}

impl Surroundings for Around {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn wanted_events(&self) -> EventClass {
        EventClass::NONE
    }

    /// Called after each entry: here replicas are compared.
    fn deliver(&self, effects: &mut Effects) {
        effects.notices.clear();
        effects.garbage.clear();
        effects.changes = 0;
        effects.expired_keys = 0;
        let index = self.applied.next_index();
        let digest = self.engine.keyspace().digest(self.applied.now());
        let mut digests = self.digests.lock().expect("the digests");
        let (other, first) = *digests.entry(index).or_insert((self.id, digest));
        assert_eq!(first, digest, "nodes {other} and {} differ at index {}", self.id, index - 1);
    }

    fn hand_over(&self) {}

    fn monotonic_us(&self) -> u64 {
        now_us()
    }

    fn wall_ms(&self) -> i64 {
        EPOCH_MS + (now_us() / 1000) as i64 + *self.wall_offset_ms.lock().expect("the clock")
    }

    fn instruction_limit(&self) -> u64 {
        100_000
    }

    fn lost_leadership(&self) {}

    fn change_settings(&self, _pairs: &[&[u8]]) -> Result<(), CommandError> {
        Ok(())
    }

    fn change_user(&self, _name_and_rules: &[&[u8]]) -> Result<(), CommandError> {
        Ok(())
    }

    fn serve(self: Arc<Self>, _request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async { Answer::Refused(Refusal::NotLeader) })
    }

    fn park(self: Arc<Self>, _park: Park, _turns: Turns) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Running {
    raft: SimRaft,
    around: Arc<Around>,
}

struct SimNode {
    disk: Disk,
    snapshots: PathBuf,
    wall_offset_ms: Arc<Mutex<i64>>,
    running: Option<Running>,
}

/// A simulated cluster.
pub(super) struct World {
    pub(super) random: Arc<Random>,
    pub(super) tally: Arc<Tally>,
    dir: TempDir,
    nodes: Mutex<BTreeMap<NodeId, SimNode>>,
    /// Pairs between which nothing passes, in this direction.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    digests: Arc<Mutex<BTreeMap<u64, (NodeId, u64)>>>,
    stopped: AtomicBool,
    /// What each client knows to be in its list, in order, and what may be there besides.
    pub(super) promised: Mutex<BTreeMap<u64, Vec<u64>>>,
    /// Until when each lock is held at least.
    held_until_us: Mutex<BTreeMap<&'static str, u64>>,
    /// The greatest fencing token that a client was told.
    token: Mutex<u64>,
}

pub(super) fn member(id: NodeId) -> Member {
    Member { raft_addr: format!("n{id}:2"), client_addr: format!("n{id}:1") }
}

impl World {
    pub(super) fn new(seed: u64, tally: Arc<Tally>) -> Arc<Self> {
        let random = Arc::new(Random(Mutex::new(seed.wrapping_mul(0x1234_5678_9abc_def1))));
        let dir = TempDir::new();
        let nodes = (1..=NODES).map(|id| {
            let snapshots = dir.path().join(id.to_string());
            let disk = Disk::new(Arc::clone(&random));
            let wall_offset_ms = Arc::new(Mutex::new(0));
            (id, SimNode { disk, snapshots, wall_offset_ms, running: None })
        });
        Arc::new(Self {
            nodes: Mutex::new(nodes.collect()),
            random,
            tally,
            dir,
            cut: Mutex::default(),
            digests: Arc::default(),
            stopped: AtomicBool::new(false),
            promised: Mutex::default(),
            held_until_us: Mutex::default(),
            token: Mutex::default(),
        })
    }

    /// Starts all nodes; the first three found the cluster.
    pub(super) async fn found(self: &Arc<Self>) {
        for id in 1..=NODES {
            self.start(id).await;
        }
        let founders: BTreeMap<NodeId, Member> = (1..=3).map(|id| (id, member(id))).collect();
        let raft = self.raft(1).expect("node 1");
        raft.initialize(founders).await.expect("founding");
    }

    /// Starts a node from what its disk holds.
    pub(super) async fn start(self: &Arc<Self>, id: NodeId) {
        let (disk, snapshots, wall_offset_ms) = {
            let nodes = self.nodes.lock().expect("the nodes");
            let node = &nodes[&id];
            (node.disk.clone(), node.snapshots.clone(), Arc::clone(&node.wall_offset_ms))
        };
        let applied = Arc::new(Applied::default());
        let around = Arc::new(Around {
            engine: Engine::new(2, 1),
            id,
            applied: Arc::clone(&applied),
            wall_offset_ms,
            digests: Arc::clone(&self.digests),
        });
        let store = Store::open_single_threaded(&snapshots).expect("a directory");
        let surroundings: Arc<dyn Surroundings> = Arc::<Around>::clone(&around);
        let machine = StateMachine::new(surroundings, applied, store);
        let config = Config {
            heartbeat_interval: 50,
            election_timeout_min: 150,
            election_timeout_max: 300,
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(60),
            max_in_snapshot_log_to_keep: 10,
            purge_batch_size: 4,
            max_payload_entries: 16,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("a configuration"));
        let network = SimNetwork { world: Arc::clone(self), from: id };
        let raft = SimRaft::new(id, config, network, disk, machine).await.expect("a start");
        let mut nodes = self.nodes.lock().expect("the nodes");
        if let Some(node) = nodes.get_mut(&id) {
            node.running = Some(Running { raft, around });
        }
    }

    /// Crashes a node, if it runs.
    pub(super) async fn crash(&self, id: NodeId) {
        let running = {
            let mut nodes = self.nodes.lock().expect("the nodes");
            let Some(node) = nodes.get_mut(&id) else { return };
            let running = node.running.take();
            if running.is_some() {
                node.disk.crash();
            }
            running
        };
        if let Some(running) = running {
            self.tally.crashes.fetch_add(1, Relaxed);
            let _ = running.raft.shutdown().await;
        }
    }

    pub(super) fn raft(&self, id: NodeId) -> Option<SimRaft> {
        let nodes = self.nodes.lock().expect("the nodes");
        nodes.get(&id)?.running.as_ref().map(|running| running.raft.clone())
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> Vec<NodeId> {
        let nodes = self.nodes.lock().expect("the nodes");
        nodes.iter().filter(|(_, node)| node.running.is_some()).map(|(id, _)| *id).collect()
    }

    /// A node that takes itself for the leader.
    pub(super) fn leader(&self) -> Option<(NodeId, SimRaft)> {
        let leads: Vec<_> = self
            .running()
            .into_iter()
            .filter_map(|id| Some((id, self.raft_if_leader(id)?)))
            .collect();
        let place = self.random.below(leads.len().max(1) as u64) as usize;
        leads.into_iter().nth(place)
    }

    /// A node's Raft, if it takes itself for the leader.
    pub(super) fn raft_if_leader(&self, id: NodeId) -> Option<SimRaft> {
        let raft = self.raft(id)?;
        let leads = raft.metrics().borrow_watched().state == ServerState::Leader;
        leads.then_some(raft)
    }

    pub(super) fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let lost = self.random.below(100) == 0;
        !lost && !self.cut.lock().expect("the links").contains(&(from, to))
    }

    pub(super) fn cut(&self, from: NodeId, to: NodeId) {
        self.cut.lock().expect("the links").insert((from, to));
    }

    pub(super) fn heal(&self) {
        self.cut.lock().expect("the links").clear();
    }

    pub(super) fn set_clock(&self, id: NodeId, offset_ms: i64) {
        let nodes = self.nodes.lock().expect("the nodes");
        *nodes[&id].wall_offset_ms.lock().expect("the clock") = offset_ms;
    }

    /// A file for a snapshot that a node receives.
    pub(super) fn part(&self, id: NodeId) -> PathBuf {
        self.dir.path().join(id.to_string()).join(format!("r{}.part", self.random.below(1 << 40)))
    }

    /// Notes that a client was told that the number is in its list.
    pub(super) fn promise(&self, client: u64, number: u64) {
        let mut promised = self.promised.lock().expect("the promises");
        promised.entry(client).or_default().push(number);
    }

    pub(super) fn stop_clients(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub(super) fn clients_go_on(&self) -> bool {
        !self.stopped.load(Relaxed)
    }

    /// Notes that a client holds the lock; until when it was held before.
    pub(super) fn hold_lock(&self, name: &'static str, until_us: u64) -> Option<u64> {
        self.held_until_us.lock().expect("the locks").insert(name, until_us)
    }

    /// The greatest fencing token that any client was told so far.
    pub(super) fn greatest_token(&self) -> u64 {
        *self.token.lock().expect("the token")
    }

    /// Notes that a client was told a token.
    pub(super) fn note_token(&self, token: u64) {
        let mut greatest = self.token.lock().expect("the token");
        *greatest = token.max(*greatest);
    }

    /// The stamp a leader gives now.
    pub(super) fn stamp(&self, id: NodeId) -> Option<UnixMillis> {
        let nodes = self.nodes.lock().expect("the nodes");
        let around = &nodes.get(&id)?.running.as_ref()?.around;
        Some(around.applied.clock(now_us(), around.wall_ms()))
    }

    /// Notes whether a node leads, as `RaftNode::follow` does.
    pub(super) fn note_leaders(&self) {
        let nodes = self.nodes.lock().expect("the nodes");
        for running in nodes.values().filter_map(|node| node.running.as_ref()) {
            let leads = running.raft.metrics().borrow_watched().state == ServerState::Leader;
            running.around.applied.set_leads(leads);
        }
    }

    /// Runs a command on one node's data, as a read.
    pub(super) fn look(&self, id: NodeId, args: &[&[u8]]) -> Option<Reply> {
        let nodes = self.nodes.lock().expect("the nodes");
        let around = &nodes.get(&id)?.running.as_ref()?.around;
        let row = table().find(args[0])?;
        let (db, now) = (DbIndex(0), around.applied.now());
        let context = Context { db, now, seed: 0, sequence: 0, touch: Touch::Leaves };
        let mut effects = Effects::new(EventClass::NONE);
        Some(around.engine.run(row, args, context, &Alone, &mut effects).reply)
    }

    /// Takes all faults away and waits until every member has applied everything.
    pub(super) async fn settle(self: &Arc<Self>) {
        self.heal();
        for id in 1..=NODES {
            if self.raft(id).is_none() {
                self.start(id).await;
            }
        }
        let began = now_us();
        loop {
            SimRuntime::sleep(Duration::from_millis(100)).await;
            self.note_leaders();
            if self.is_settled().await {
                return;
            }
            assert!(
                now_us() - began < SETTLE_LIMIT.as_micros() as u64,
                "the cluster does not come to itself: {}",
                self.describe()
            );
        }
    }

    async fn is_settled(&self) -> bool {
        let Some((_, raft)) = self.leader() else { return false };
        let read = raft.ensure_linearizable(openraft::ReadPolicy::ReadIndex);
        let Ok(Ok(_)) = SimRuntime::timeout(Duration::from_secs(2), read).await else {
            return false;
        };
        let (members, last) = {
            let metrics = raft.metrics();
            let seen = metrics.borrow_watched();
            let members: Vec<_> =
                seen.membership_config.membership().nodes().map(|(id, _)| *id).collect();
            (members, seen.last_log_index)
        };
        members.iter().all(|id| {
            self.raft(*id).is_some_and(|raft| {
                raft.metrics().borrow_watched().last_applied.map(|id| id.index) == last
            })
        })
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for id in self.running() {
            if let Some(raft) = self.raft(id) {
                text.push_str(&format!("\n{}", *raft.metrics().borrow_watched()));
            }
        }
        text
    }

    /// In the end: everything that was promised is there, on every member alike.
    pub(super) async fn check_end(&self) {
        let Some((leader, raft)) = self.leader() else { panic!("no leader") };
        let members: Vec<NodeId> = {
            let metrics = raft.metrics();
            let seen = metrics.borrow_watched();
            seen.membership_config.membership().nodes().map(|(id, _)| *id).collect()
        };
        {
            let nodes = self.nodes.lock().expect("the nodes");
            let digest = |id: &NodeId| {
                let around = &nodes[id].running.as_ref().expect("a member that runs").around;
                (around.applied.next_index(), around.engine.keyspace().digest(around.applied.now()))
            };
            let all: BTreeSet<_> = members.iter().map(digest).collect();
            assert_eq!(all.len(), 1, "members differ in the end");
        }
        for (client, promised) in self.promised.lock().expect("the promises").iter() {
            let list = self.list(leader, *client).expect("a list");
            assert_holds(&list, promised, *client);
        }
    }

    /// A client's list as one node has it.
    pub(super) fn list(&self, id: NodeId, client: u64) -> Option<Vec<u64>> {
        let key = format!("list:{client}");
        let reply = self.look(id, &[b"lrange", key.as_bytes(), b"0", b"-1"])?;
        let Reply::Bulks(items) = reply else { return Some(Vec::new()) };
        let number = |item: &[u8]| std::str::from_utf8(item).ok()?.parse().ok();
        Some(items.iter().flatten().filter_map(number).collect())
    }

    pub(super) async fn shut_down(&self) {
        for id in self.running() {
            let running = {
                let mut nodes = self.nodes.lock().expect("the nodes");
                nodes.get_mut(&id).and_then(|node| node.running.take())
            };
            if let Some(running) = running {
                let _ = running.raft.shutdown().await;
            }
        }
    }
}

/// That a list holds what was promised, in order and once.
pub(super) fn assert_holds(list: &[u64], promised: &[u64], client: u64) {
    let mut left = list.iter();
    for number in promised {
        assert!(
            left.any(|found| found == number),
            "client {client} was promised {number}, which is not in {list:?}"
        );
    }
    let once: BTreeSet<_> = list.iter().collect();
    assert_eq!(once.len(), list.len(), "something is twice in {list:?}");
}
