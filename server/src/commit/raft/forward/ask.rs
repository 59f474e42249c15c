//! Asking the leader, or any member, on behalf of this node's clients.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_engine::Reply;
use holdfast_engine::time::UnixMillis;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, sleep, timeout};

use super::super::batch::Items;
use super::super::node::RaftNode;
use super::super::outcome::{Outcome, Refusal};
use super::super::types::{Member, NodeId};
use super::link::{Link, Lost};
use super::links::Target;
use super::message::{Answer, Park, Request};
use super::parked::Parked;

/// A client waits so long for a leader that can be reached before it hears that there is none.
const LEADER_PATIENCE: Duration = Duration::from_millis(1500);
/// A leader that was reached and is silent is given up after this; the leader itself gives up a
/// proposal a little earlier.
const ANSWER_PATIENCE: Duration = Duration::from_secs(6);
/// An answer of a leader that has lost leadership is waited for this long.
const OLD_LEADER_PATIENCE: Duration = Duration::from_millis(500);
/// What changes nothing is asked again after this.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// Delay before a request that did not reach a leader is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// While CLIENT PAUSE holds up writes at the leader, it is asked this often.
const PAUSED_RETRY: Duration = Duration::from_millis(20);
/// A member that has not caught up within this has its reads run by the leader.
const BEHIND_PATIENCE: Duration = Duration::from_secs(1);
/// Members that pass a message on, or count listeners, have this long to answer.
const MEMBER_PATIENCE: Duration = Duration::from_millis(500);

/// Where a linearizable read may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPoint {
    /// On this node, at this time.
    Here(UnixMillis),
    /// On the leader: this node is too far behind.
    AtLeader,
}

impl RaftNode {
    /// Proposes at the leader, whoever that is; an outcome for each proposal, and the index below
    /// which all of it holds.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] when it may have been proposed; all others say that nothing was done.
    pub async fn propose(&self, items: Items) -> Result<(u64, Vec<Outcome>), Refusal> {
        let count = items.count();
        self.propose_as(Request::Submit(items.into_bytes().into()), count).await
    }

    /// As [`RaftNode::propose`], for a command that waited at the leader and whose turn it is.
    ///
    /// # Errors
    /// As [`RaftNode::propose`].
    pub async fn propose_turn(&self, items: Items) -> Result<(u64, Vec<Outcome>), Refusal> {
        let count = items.count();
        self.propose_as(Request::SubmitTurn(items.into_bytes().into()), count).await
    }

    async fn propose_as(
        &self,
        request: Request,
        count: usize,
    ) -> Result<(u64, Vec<Outcome>), Refusal> {
        let (Request::Submit(bytes) | Request::SubmitTurn(bytes)) = &request else {
            return Err(Refusal::NotLeader);
        };
        let until = Instant::now() + LEADER_PATIENCE;
        loop {
            let refusal = if self.leads() {
                let told = self.submit(Items::from_parts(bytes.to_vec(), count)).await;
                match told.unwrap_or(Err(Refusal::Unknown)) {
                    Ok(outcomes) => return Ok((self.applied().next_index(), outcomes)),
                    Err(refusal) => refusal,
                }
            } else {
                match self.ask_leader(&request, false).await {
                    Ok(Answer::Done(next, outcomes)) if outcomes.len() == count => {
                        return Ok((next, outcomes));
                    }
                    Ok(_) => Refusal::Unknown,
                    Err(refusal) => refusal,
                }
            };
            if refusal != Refusal::NotLeader {
                return Err(refusal);
            }
            if Instant::now() >= until {
                return Err(Refusal::NoQuorum);
            }
            sleep(RETRY).await;
        }
    }

    /// Runs reads on the leader; an outcome for each.
    ///
    /// # Errors
    /// When there is no leader that answers.
    pub async fn read_at_leader(&self, items: Items) -> Result<Vec<Outcome>, Refusal> {
        let count = items.count();
        let request = Request::Read(items.into_bytes().into());
        match self.ask_leader(&request, true).await? {
            Answer::Done(_, outcomes) if outcomes.len() == count => Ok(outcomes),
            _ => Err(Refusal::NoQuorum),
        }
    }

    /// Asks the leader from where on, and at which time, a read is linearizable, and waits until
    /// this node's state is there.
    pub(in super::super) async fn read_point(&self) -> Result<ReadPoint, Refusal> {
        let Answer::ReadAt(next, now) = self.ask_leader(&Request::ReadAt, true).await? else {
            return Err(Refusal::NoQuorum);
        };
        match timeout(BEHIND_PATIENCE, self.applied().reaches(next)).await {
            Ok(()) => Ok(ReadPoint::Here(now)),
            Err(_) => Ok(ReadPoint::AtLeader),
        }
    }

    /// Runs a command of the server on the leader.
    ///
    /// # Errors
    /// When there is no leader, or what became of the command is unknown.
    pub async fn run_at_leader(&self, args: Vec<Vec<u8>>) -> Result<Reply, Refusal> {
        match self.ask_leader(&Request::Run(args), false).await? {
            Answer::Reply(reply) => Ok(reply),
            _ => Err(Refusal::Unknown),
        }
    }

    /// How many followers have the log up to an index, as the leader knows, and which index: that
    /// which is applied there now, if it is 0.
    ///
    /// # Errors
    /// When there is no leader.
    pub async fn acked_at(&self, index: u64) -> Result<(u64, u64), Refusal> {
        if self.leads() {
            let index = match index {
                0 => self.applied().next_index().saturating_sub(1),
                index => index,
            };
            return Ok((index, self.followers_at(index) as u64));
        }
        match self.ask_leader(&Request::Acked(index), true).await? {
            Answer::Acked(index, count) => Ok((index, count)),
            _ => Err(Refusal::NoQuorum),
        }
    }

    /// Lets a command wait for its keys at the leader.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`] when this node leads: then it waits here.
    pub async fn park(&self, park: Park) -> Result<Parked, Refusal> {
        let until = Instant::now() + LEADER_PATIENCE;
        let request = Request::Park(park);
        loop {
            if self.leads() {
                return Err(Refusal::NotLeader);
            }
            let left = until.saturating_duration_since(Instant::now());
            if let Some((id, member)) = self.wait_for_leader(left).await.leader
                && let Ok(link) = self.link(id, &member, &request).await
                && let Ok((place, answers)) = link.follow(request.clone())
            {
                return Ok(Parked::new(link, place, answers, self.follow_leader(), id));
            }
            if Instant::now() >= until {
                return Err(Refusal::NoQuorum);
            }
            sleep(RETRY).await;
        }
    }

    /// Asks every other member; the answers of those that give one in time.
    pub async fn ask_others(&self, request: &Request) -> Vec<Answer> {
        let Some(running) = self.running() else { return Vec::new() };
        let members: Vec<(NodeId, Member)> = {
            let metrics = running.raft.metrics();
            let seen = metrics.borrow_watched();
            let nodes = seen.membership_config.membership().nodes();
            nodes
                .filter(|(id, _)| **id != running.id)
                .map(|(id, member)| (*id, member.clone()))
                .collect()
        };
        let asked = members.iter().map(|(id, member)| async move {
            let answer =
                timeout(MEMBER_PATIENCE, self.ask_member(*id, member, request, MEMBER_PATIENCE));
            match answer.await {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(_)) => None,
                Err(_) => {
                    self.links().note_silence(*id);
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// For how long the leader has not heard of each member, asked once.
    pub(in super::super) async fn ask_for_silences(&self) -> Option<Vec<(NodeId, Duration)>> {
        let (id, member) = self.leadership().leader?;
        let asked = self.ask_member(id, &member, &Request::Silences, MEMBER_PATIENCE);
        let Answer::Silences(silences) = asked.await.ok()? else { return None };
        Some(silences.into_iter().map(|(id, ms)| (id, Duration::from_millis(ms))).collect())
    }

    async fn link(
        &self,
        id: NodeId,
        member: &Member,
        request: &Request,
    ) -> Result<Arc<Link>, Lost> {
        let running = self.running().ok_or(Lost::NotSent)?;
        let target = Target {
            id,
            addr: &member.raft_addr,
            from: running.id,
            cluster: running.cluster,
            secret: self.secret(),
        };
        self.links().get(&target, request).await
    }

    async fn ask_member(
        &self,
        id: NodeId,
        member: &Member,
        request: &Request,
        patience: Duration,
    ) -> Result<Answer, Lost> {
        let link = self.link(id, member, request).await?;
        let heard = link.heard();
        match timeout(patience, link.ask(request.clone())).await {
            Ok(answered) => answered,
            Err(_) => {
                if link.heard() == heard {
                    // It has hung, or was cut off in silence: the next request tries anew.
                    link.close();
                }
                Err(Lost::Sent)
            }
        }
    }

    /// Asks the leader. What changes nothing is asked `again`, of the next leader too, when an
    /// answer was lost.
    async fn ask_leader(&self, request: &Request, again: bool) -> Result<Answer, Refusal> {
        let mut until = Instant::now() + LEADER_PATIENCE;
        let mut reached = false;
        loop {
            if self.leads() {
                // The caller does it here.
                return Err(Refusal::NotLeader);
            }
            if let Some(text) = self.failure() {
                return Err(Refusal::Failed(text));
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some((id, member)) = self.wait_for_leader(left).await.leader else {
                return Err(Refusal::NoQuorum);
            };
            if self.leads() {
                return Err(Refusal::NotLeader);
            }
            match self.ask_while_it_leads(id, &member, request, again).await {
                Ok(Answer::Refused(Refusal::Paused)) => {
                    until = Instant::now() + LEADER_PATIENCE;
                    sleep(PAUSED_RETRY).await;
                    continue;
                }
                Ok(Answer::Refused(Refusal::NotLeader)) | Err(Lost::NotSent) => {}
                Ok(Answer::Refused(Refusal::NoQuorum | Refusal::Unknown)) if again => {}
                Ok(Answer::Refused(refusal)) => return Err(refusal),
                Ok(answer) => return Ok(answer),
                Err(Lost::Sent) if again => {
                    if !reached {
                        // It was there: the next leader is waited for.
                        reached = true;
                        until += ANSWER_PATIENCE;
                    }
                }
                Err(Lost::Sent) => return Err(Refusal::Unknown),
            }
            if Instant::now() >= until {
                return Err(Refusal::NoQuorum);
            }
            sleep(RETRY).await;
        }
    }

    /// Asks a member until it answers, or until it has not led for a while.
    async fn ask_while_it_leads(
        &self,
        id: NodeId,
        member: &Member,
        request: &Request,
        again: bool,
    ) -> Result<Answer, Lost> {
        let patience = if again { READ_PATIENCE } else { ANSWER_PATIENCE };
        let mut leader = self.follow_leader();
        let deposed = async {
            let _ = leader.wait_for(|known| *known != Some(id)).await;
            if !again {
                sleep(OLD_LEADER_PATIENCE).await;
            }
        };
        tokio::select! {
            biased;
            answer = self.ask_member(id, member, request, patience) => answer,
            () = deposed => Err(Lost::Sent),
        }
    }
}
