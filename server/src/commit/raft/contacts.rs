//! Which members answer: the leader hears from all of them, and the others ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;

use super::node::RaftNode;
use super::types::NodeId;

/// How often this is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// A member that has been silent for this long is lost. Elections take less.
pub const LOST_AFTER: Duration = Duration::from_millis(1500);

/// When members were last heard of by whoever leads.
#[derive(Debug, Default)]
pub struct Contacts {
    heard: Mutex<BTreeMap<NodeId, Instant>>,
    /// Members whose loss has been logged.
    lost: Mutex<BTreeSet<NodeId>>,
}

impl Contacts {
    /// For how long nobody has heard of a member; `None` when that is not known.
    #[must_use]
    pub fn silent_for(&self, id: NodeId) -> Option<Duration> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&id).map(Instant::elapsed)
    }

    fn note(&self, silences: impl IntoIterator<Item = (NodeId, Duration)>) {
        let now = Instant::now();
        let heard =
            silences.into_iter().filter_map(|(id, silent)| Some((id, now.checked_sub(silent)?)));
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard.collect();
    }
}

impl RaftNode {
    /// What this node, which leads, knows of the others; itself it has just heard.
    pub(super) fn silences(&self) -> Option<Vec<(NodeId, Duration)>> {
        let running = self.running()?;
        let metrics = running.raft.metrics();
        let seen = metrics.borrow_watched();
        if seen.state != ServerState::Leader {
            return None;
        }
        let heartbeats = seen.heartbeat.as_ref()?;
        let led_for = self.led_for();
        let members = seen.membership_config.membership().nodes();
        Some(
            members
                .map(|(id, _)| {
                    let heard = heartbeats.get(id).and_then(Option::as_ref);
                    let silent = match heard {
                        _ if *id == running.id => Duration::ZERO,
                        Some(at) => {
                            openraft::Instant::elapsed(&**at).min(led_for.max(LOST_AFTER) * 1000)
                        }
                        // Not one answer since this node leads.
                        None => led_for,
                    };
                    (*id, silent)
                })
                .collect(),
        )
    }

    async fn look_for_members(&self) {
        if let Some(silences) = self.silences() {
            self.contacts().note(silences);
        } else if let Some(silences) = self.ask_for_silences().await {
            self.contacts().note(silences);
        }
        self.tell_of_members();
    }

    /// Logs members that are lost and those that are back.
    fn tell_of_members(&self) {
        let status = self.status();
        let mut lost = self.contacts().lost.lock().unwrap_or_else(PoisonError::into_inner);
        for other in &status.members {
            let Some(silent) = self.contacts().silent_for(other.id) else { continue };
            let addr = &other.member.client_addr;
            if silent >= LOST_AFTER && lost.insert(other.id) {
                tracing::warn!(
                    "node {} at {addr} has not answered the leader for {} ms: it is down, hangs or \
                     is cut off",
                    other.id,
                    silent.as_millis()
                );
            } else if silent < LOST_AFTER && lost.remove(&other.id) {
                tracing::warn!("node {} at {addr} answers again", other.id);
            }
        }
        lost.retain(|id| status.members.iter().any(|other| other.id == *id));
    }
}

/// Looks which members answer until the process ends.
pub(super) async fn run(node: Arc<RaftNode>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        node.look_for_members().await;
    }
}
