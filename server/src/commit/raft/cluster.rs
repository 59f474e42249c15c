//! What operators do to a cluster: found, join, remove, hand over, look.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::Reply;
use holdfast_engine::time::UnixMillis;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, ServerState};

use super::batch::Items;
use super::contacts::LOST_AFTER;
use super::identity::Identity;
use super::node::{RaftNode, Running};
use super::outcome::{Outcome, Refusal};
use super::transport::frame::{Connection, open_stream};
use super::transport::handshake::{Hello, Purpose};
use super::transport::message as msg;
use super::types::{Group, Member, NodeId};
use super::wire::{self, Malformed, Reader};
use crate::persist::files;

/// A joining node catches up within this, or is told that it takes longer.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(3600);
/// A change of members that is under way is waited for.
const CHANGE_RETRY: Duration = Duration::from_millis(100);
const CHANGE_TRIES: usize = 100;
/// A node whose clock is further off does not join.
const CLOCK_OFFSET_MAX_MS: i64 = 10_000;
/// A new leader is up within this.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub id: NodeId,
    /// Where it is.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// On the leader: entries it lacks, if it is known what it has.
    pub lag: Option<u64>,
    /// For how long the leader has not heard of it, ms; `None` if that is not known here.
    pub silent_ms: Option<u64>,
}

impl MemberStatus {
    /// Whether the leader has not heard of it for too long.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.silent_ms.is_some_and(|ms| u128::from(ms) >= LOST_AFTER.as_millis())
    }
}

/// Versions of keys that were there before the cluster are smaller.
const SEQUENCE_AFTER_OTHERS: u64 = 1 << 62;
/// Writing the first snapshot takes no longer.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

impl Running {
    /// Writes a snapshot of all that is applied, and purges the log up to it.
    async fn snapshot_now(&self) -> Result<(), String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        // The members, and the leader's first entry.
        let applied = self.raft.wait(Some(SNAPSHOT_TIMEOUT));
        let applied = applied.applied_index_at_least(Some(1), "the first entries").await;
        let index = applied.map_err(|error| told(&error))?.last_applied.map_or(1, |id| id.index);
        self.raft.trigger().snapshot().await.map_err(|error| told(&error))?;
        let wait = self.raft.wait(Some(SNAPSHOT_TIMEOUT));
        let written = wait.metrics(
            |seen| seen.snapshot.as_ref().is_some_and(|id| id.index >= index),
            "the first snapshot",
        );
        written.await.map_err(|error| told(&error))?;
        self.raft.trigger().purge_log(index).await.map_err(|error| told(&error))
    }
}

/// What RAFT.STATUS and INFO tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// `leader`, `follower`, `candidate`, `learner`, or `none` outside a cluster.
    pub role: &'static str,
    /// This node.
    pub id: NodeId,
    /// The cluster.
    pub cluster: u64,
    /// The term.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<(NodeId, Member)>,
    /// The leader, or the last one that was known.
    pub last_leader: Option<NodeId>,
    /// The last entry of the log.
    pub last_index: u64,
    /// The last entry known to be committed.
    pub commit_index: u64,
    /// The last entry applied.
    pub applied_index: u64,
    /// The last entry in the snapshot.
    pub snapshot_index: u64,
    /// Entries in the log, and bytes of those in memory.
    pub log: (usize, usize),
    /// The members.
    pub members: Vec<MemberStatus>,
    /// Whether this node, if it leads, hears from a majority.
    pub quorum: bool,
    /// Why Raft has stopped, if it has.
    pub failed: Option<String>,
}

fn refused(text: impl Into<String>) -> String {
    format!("ERR {}", text.into())
}

impl RaftNode {
    /// What this node knows of the cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let Some(running) = self.running() else {
            return Status { role: "none", ..Status::default() };
        };
        let metrics = running.raft.metrics();
        let seen = metrics.borrow_watched();
        let membership = seen.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let last = seen.last_log_index.unwrap_or(0);
        let members = membership.nodes().map(|(id, member)| {
            let matched = seen.replication.as_ref().and_then(|all| all.get(id));
            let lag = match matched {
                Some(matched) => {
                    Some(matched.as_ref().map_or(last + 1, |at| last.saturating_sub(at.index)))
                }
                None if *id == running.id && seen.state == ServerState::Leader => Some(0),
                None => None,
            };
            let silent = self.contacts().silent_for(*id).filter(|_| *id != running.id);
            let silent_ms = match *id == running.id {
                true => Some(0),
                false => silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
            };
            let voter = voters.contains(id);
            MemberStatus { id: *id, member: member.clone(), voter, lag, silent_ms }
        });
        Status {
            role: match seen.state {
                ServerState::Leader => "leader",
                ServerState::Follower => "follower",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
                ServerState::Shutdown => "stopped",
            },
            id: running.id,
            cluster: running.cluster,
            term: seen.current_term,
            leader: self.leadership().leader,
            last_leader: self.last_leader().map(|(id, _)| id),
            last_index: last,
            commit_index: seen.local_committed.map_or(0, |id| id.index),
            applied_index: self.applied().next_index().saturating_sub(1),
            snapshot_index: seen.snapshot.map_or(0, |id| id.index),
            log: running.log.sizes(),
            members: members.collect(),
            quorum: self.has_quorum(),
            failed: seen.running_state.as_ref().err().map(ToString::to_string),
        }
    }

    /// How many followers have everything up to what this node has applied.
    #[must_use]
    pub fn followers_at(&self, index: u64) -> usize {
        let Some(running) = self.running() else { return 0 };
        let metrics = running.raft.metrics();
        let seen = metrics.borrow_watched();
        let others = seen.replication.iter().flatten().filter(|(id, _)| **id != running.id);
        others.filter(|(_, at)| at.as_ref().is_some_and(|at| at.index >= index)).count()
    }

    fn host(&self, local: &str) -> String {
        if !self.options.announce.is_empty() {
            return self.options.announce.clone();
        }
        local.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host).to_owned()
    }

    fn member_at(&self, local: &str) -> Member {
        let host = self.host(local);
        Member {
            raft_addr: format!("{host}:{}", self.options.raft_port),
            client_addr: format!("{host}:{}", self.options.client_port),
        }
    }

    /// RAFT.CLUSTER INIT: founds a cluster of this node alone. `local` is the address by which
    /// the operator reached it.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn init(self: &Arc<Self>, local: &str) -> Result<u64, String> {
        let _founding = self.founding.lock().await;
        if self.running().is_some() {
            return Err(refused("this node belongs to a cluster already"));
        }
        let member = self.member_at(local);
        let mut cluster = [0; 8];
        getrandom::fill(&mut cluster).map_err(|error| refused(error.to_string()))?;
        let mut identity = Identity {
            cluster: u64::from_le_bytes(cluster) | 1,
            id: 1,
            seed: self.options.seed,
            databases: self.options.databases,
            member: false,
            raft_addr: member.raft_addr.clone(),
            client_addr: member.client_addr.clone(),
        };
        let dir = &self.options.dir;
        let keyspace = self.surroundings.engine().keyspace();
        let wall = UnixMillis(self.surroundings.wall_ms());
        let holds_data = !keyspace.is_pristine(wall);
        if holds_data {
            let now_us = self.surroundings.monotonic_us();
            self.applied().move_on(now_us, |place| place.sequence = SEQUENCE_AFTER_OTHERS);
        }
        identity.save(dir).map_err(|error| refused(format!("{}: {error}", dir.display())))?;
        self.run(&identity).await.map_err(|error| refused(error.to_string()))?;
        let Some(running) = self.running() else { return Err(refused("Raft did not start")) };
        let members = BTreeMap::from([(identity.id, member)]);
        running.raft.initialize(members).await.map_err(|error| refused(error.to_string()))?;
        self.wait_for_leader(HAND_OVER_TIMEOUT).await;
        if holds_data {
            // What was here before is in no entry: others must get it by a snapshot.
            running.snapshot_now().await.map_err(refused)?;
        }
        identity.member = true;
        identity.save(dir).map_err(|error| refused(format!("{}: {error}", dir.display())))?;
        tracing::info!("founded the cluster {:016x} as node 1", identity.cluster);
        Ok(identity.cluster)
    }

    /// RAFT.CLUSTER JOIN: becomes a voter of the cluster whose leader listens at `leader_raft`.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn join(self: &Arc<Self>, leader_raft: &str) -> Result<NodeId, String> {
        let _founding = self.founding.lock().await;
        let dir = &self.options.dir;
        let known = Identity::load(dir).map_err(|error| refused(error.to_string()))?;
        if known.as_ref().is_some_and(|known| known.member) {
            return Err(refused("this node belongs to a cluster already"));
        }
        let failed =
            |error: io::Error| refused(format!("joining by {leader_raft} failed: {error}"));
        let known_id = known.as_ref().map_or(0, |known| known.id);
        let cluster = known.as_ref().map_or(0, |known| known.cluster);
        let hello = Hello { purpose: Purpose::Join, cluster, group: 0, from: known_id, to: 0 };
        let stream = open_stream(leader_raft, &hello, self.secret()).await.map_err(failed)?;
        let local = stream.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
        let member = self.member_at(&local);
        let mut connection = Connection::new(stream);
        let asked = connection.ask(msg::JOIN, |out| {
            wire::put_u64(out, known_id);
            wire::put_bytes(out, member.raft_addr.as_bytes());
            wire::put_bytes(out, member.client_addr.as_bytes());
            wire::put_u64(out, self.surroundings.wall_ms() as u64);
        });
        let welcome = expect(asked.await, msg::WELCOME).map_err(failed)?;
        let mut from = Reader::new(&welcome);
        let read = |from: &mut Reader<'_>| -> Result<_, Malformed> {
            let numbers = (from.u64("cluster")?, from.u64("id")?, from.u64("seed")?);
            Ok((numbers, from.u32("databases")?))
        };
        let ((cluster, id, seed), databases) =
            read(&mut from).map_err(|error| failed(error.into()))?;
        if databases != self.options.databases {
            return Err(refused(format!(
                "the cluster has {databases} databases and this node {}: set 'databases'",
                self.options.databases
            )));
        }
        if seed != self.options.seed {
            let identity = self.options.dir.join("seed");
            files::create_dir(dir).map_err(failed)?;
            files::create(&identity)
                .and_then(|mut file| writeln!(file, "{seed}"))
                .map_err(failed)?;
            return Err(refused(
                "this node has taken over the cluster's hash seed: restart it and let it join again",
            ));
        }
        let mut identity = Identity {
            cluster,
            id,
            seed,
            databases,
            member: false,
            raft_addr: member.raft_addr,
            client_addr: member.client_addr,
        };
        identity.save(dir).map_err(failed)?;
        if self.running().is_none() {
            self.run(&identity).await.map_err(|error| refused(error.to_string()))?;
        }
        connection.writer.send(msg::READY, |_| {}).await.map_err(failed)?;
        let answer = tokio::time::timeout(CATCH_UP_TIMEOUT, connection.reader.next()).await;
        let answer =
            answer.map_err(|_| refused("still catching up; the leader goes on with it"))?;
        let answer =
            answer.and_then(|frame| frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        expect(answer, msg::PROMOTED).map_err(failed)?;
        identity.member = true;
        identity.save(dir).map_err(failed)?;
        tracing::info!("joined the cluster {cluster:016x} as node {id}");
        Ok(id)
    }

    /// RAFT.NODE REMOVE.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn remove(&self, id: NodeId) -> Result<(), String> {
        let running = self.leading()?;
        let (voters, known) = {
            let metrics = running.raft.metrics();
            let seen = metrics.borrow_watched();
            let membership = seen.membership_config.membership();
            let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
            (voters, membership.get_node(&id).is_some())
        };
        if !known {
            return Err(refused(format!("there is no node {id}")));
        }
        if voters.len() == 1 && voters.contains(&id) {
            return Err(refused("the last voter cannot be removed"));
        }
        if voters.contains(&id) {
            change(running, || ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await?;
        } else {
            change(running, || ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await?;
        }
        Ok(())
    }

    fn leading(&self) -> Result<&Running, String> {
        let running = self.running().ok_or_else(|| refused("this node belongs to no cluster"))?;
        if !self.leads() {
            return Err(refused("this node does not lead the cluster"));
        }
        Ok(running)
    }

    /// RAFT.TRANSFER_LEADER: to a member, or to whoever has most of the log.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<NodeId, String> {
        let running = self.leading()?;
        let target = {
            let metrics = running.raft.metrics();
            let seen = metrics.borrow_watched();
            let voters: BTreeSet<NodeId> =
                seen.membership_config.membership().voter_ids().collect();
            let others = seen.replication.iter().flatten();
            let best = others
                .filter(|(id, _)| **id != running.id && voters.contains(id))
                .max_by_key(|(_, at)| at.as_ref().map_or(0, |at| at.index + 1))
                .map(|(id, _)| *id);
            match to {
                Some(id) if id == running.id => {
                    return Err(refused("this node leads already"));
                }
                Some(id) if !voters.contains(&id) => {
                    return Err(refused(format!("node {id} is no voter of this cluster")));
                }
                Some(id) => id,
                None => best.ok_or_else(|| refused("there is no other voter"))?,
            }
        };
        let triggered = running.raft.trigger().transfer_leader(target).await;
        triggered.map_err(|error| refused(error.to_string()))?;
        let mut metrics = running.raft.metrics();
        let moved = async {
            loop {
                if metrics.borrow_watched().current_leader == Some(target) {
                    return true;
                }
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
        };
        match tokio::time::timeout(HAND_OVER_TIMEOUT, moved).await {
            Ok(true) => Ok(target),
            _ => Err(refused(format!("node {target} has not taken over in time"))),
        }
    }
}

fn expect(answer: io::Result<(u8, bytes::BytesMut)>, kind: u8) -> io::Result<bytes::BytesMut> {
    match answer? {
        (got, bytes) if got == kind => Ok(bytes),
        (msg::FAILED, bytes) => Err(io::Error::other(String::from_utf8_lossy(&bytes).into_owned())),
        (got, _) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of kind {got}")))
        }
    }
}

type ChangeError = RaftError<Group, ClientWriteError<Group>>;

/// Changes the members, once no other change is under way.
async fn change(
    running: &Running,
    wanted: impl Fn() -> ChangeMembers<NodeId, Member>,
    retain: bool,
) -> Result<(), String> {
    for _ in 0..CHANGE_TRIES {
        match running.raft.change_membership(wanted(), retain).await {
            Ok(_) => return Ok(()),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) => tokio::time::sleep(CHANGE_RETRY).await,
            Err(error) => return Err(refused(told(&error))),
        }
    }
    Err(refused("another change of members is under way"))
}

fn told(error: &ChangeError) -> String {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            "this node does not lead the cluster any longer".to_owned()
        }
        other => other.to_string(),
    }
}

/// Why a node whose clock shows `theirs` cannot join a leader whose clock shows `ours`, if that is
/// too far off: the time of the log would stray from it once that node leads.
fn clocks_differ(ours_ms: i64, theirs_ms: i64) -> Option<String> {
    let off_ms = theirs_ms.saturating_sub(ours_ms);
    (off_ms.saturating_abs() > CLOCK_OFFSET_MAX_MS).then(|| {
        let (by_s, way) =
            (off_ms.unsigned_abs() / 1000, if off_ms > 0 { "ahead of" } else { "behind" });
        format!(
            "this node's clock is {by_s} s {way} the leader's, and {} s at most are allowed: set \
             both (NTP), then join again",
            CLOCK_OFFSET_MAX_MS / 1000
        )
    })
}

/// The leader's side of a JOIN.
pub(super) async fn admit(node: &Arc<RaftNode>, mut connection: Connection) -> io::Result<()> {
    let Some((msg::JOIN, bytes)) = connection.reader.next().await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut from = Reader::new(&bytes);
    let known = from.u64("id")?;
    let member = Member { raft_addr: from.text("address")?, client_addr: from.text("address")? };
    let wall_ms = from.u64("clock")? as i64;
    let admitted = match clocks_differ(node.surroundings.wall_ms(), wall_ms) {
        Some(text) => Err(refused(text)),
        None => admit_member(node, &mut connection, known, member).await,
    };
    match admitted {
        Ok(()) => connection.writer.send(msg::PROMOTED, |_| {}).await,
        Err(text) => {
            tracing::warn!("a node could not join: {text}");
            let text = text.strip_prefix("ERR ").unwrap_or(&text);
            connection.writer.send(msg::FAILED, |out| out.extend_from_slice(text.as_bytes())).await
        }
    }
}

async fn admit_member(
    node: &Arc<RaftNode>,
    connection: &mut Connection,
    known: NodeId,
    member: Member,
) -> Result<(), String> {
    let running = node.leading()?;
    let status = node.status();
    if let Some(other) = status.members.iter().find(|other| {
        other.id != known
            && (other.member.raft_addr == member.raft_addr
                || other.member.client_addr == member.client_addr)
    }) {
        return Err(refused(format!(
            "node {} is at {} already; if it is gone for good, remove it first: RAFT.NODE REMOVE {}",
            other.id, other.member.client_addr, other.id
        )));
    }
    let id = if known == 0 { new_id(node).await? } else { known };
    let talk = async {
        let asked = connection.ask(msg::WELCOME, |out| {
            wire::put_u64(out, running.cluster);
            wire::put_u64(out, id);
            wire::put_u64(out, node.options().seed);
            wire::put_u32(out, node.options().databases);
        });
        expect(asked.await, msg::READY)
    };
    talk.await.map_err(|error| refused(error.to_string()))?;
    tracing::info!("node {id} at {} joins as a learner", member.client_addr);
    let mut tries = 0;
    loop {
        match running.raft.add_learner(id, member.clone(), true).await {
            Ok(_) => break,
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) if tries < CHANGE_TRIES => {
                tries += 1;
                tokio::time::sleep(CHANGE_RETRY).await;
            }
            Err(error) => return Err(refused(told(&error))),
        }
    }
    change(running, || ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await?;
    tracing::info!("node {id} is a voter now");
    Ok(())
}

/// Draws a number that no member has had.
async fn new_id(node: &RaftNode) -> Result<NodeId, String> {
    let mut items = Items::default();
    items.new_member();
    let outcomes = node.submit(items).await.unwrap_or(Err(Refusal::Unknown));
    match outcomes.as_deref() {
        Ok([Outcome::Reply { reply: Reply::Integer(id), .. }]) => Ok(*id as u64),
        Ok(_) => Err(refused("no number for the new node")),
        Err(_) => Err(refused("the leader reaches no majority")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_far_off_is_told_of() {
        let now_ms = 1_700_000_000_000;
        assert_eq!(clocks_differ(now_ms, now_ms + CLOCK_OFFSET_MAX_MS), None);
        assert_eq!(clocks_differ(now_ms, now_ms - CLOCK_OFFSET_MAX_MS), None);
        let ahead = clocks_differ(now_ms, now_ms + 3_600_000).unwrap_or_default();
        assert!(ahead.starts_with("this node's clock is 3600 s ahead of the leader's"), "{ahead}");
        let behind = clocks_differ(now_ms, 0).unwrap_or_default();
        assert!(behind.contains("s behind the leader's"), "{behind}");
        assert!(clocks_differ(i64::MAX, i64::MIN).is_some());
    }
}
