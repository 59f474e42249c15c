//! Linearizable reads of this node's state while another leads.
//!
//! One question to the leader releases every read that waits here; the leader in turn answers all
//! members' questions of a moment by one round of ReadIndex.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep};

use super::super::node::RaftNode;
use super::super::outcome::Refusal;
use super::ask::ReadPoint;

/// Questions under way at a time. What comes meanwhile waits for the next one, because the answer to
/// an earlier question may be too old for it.
const QUESTIONS_MAX: usize = 2;
/// A read that finds no leader is refused after this.
const LEADER_PATIENCE: Duration = Duration::from_millis(1500);
/// Delay before a read is tried again that met a change of leader.
const RETRY: Duration = Duration::from_millis(2);

/// Somebody who wants to read.
pub(in super::super) type Reading = oneshot::Sender<Result<ReadPoint, Refusal>>;

/// Releases reads until the node is dropped.
pub(in super::super) async fn run(
    node: Arc<RaftNode>,
    mut readings: mpsc::UnboundedReceiver<Reading>,
) {
    let under_way = Arc::new(tokio::sync::Semaphore::new(QUESTIONS_MAX));
    while let Some(first) = readings.recv().await {
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
        let mut group = vec![first];
        while let Ok(next) = readings.try_recv() {
            group.push(next);
        }
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let point = node.read_point().await;
            drop(permit);
            for reading in group {
                let _ = reading.send(point.clone());
            }
        });
    }
}

impl RaftNode {
    /// Waits until a read is linearizable, whoever leads; where it may run.
    ///
    /// # Errors
    /// When there is no leader that reaches a majority.
    pub async fn read(&self) -> Result<ReadPoint, Refusal> {
        let running = self.running().ok_or(Refusal::NoQuorum)?;
        let until = Instant::now() + LEADER_PATIENCE;
        loop {
            let found = if self.leads() {
                self.read_barrier().await.map(ReadPoint::Here)
            } else {
                let (tell, told) = oneshot::channel();
                running.member_readings.send(tell).map_err(|_| Refusal::NoQuorum)?;
                told.await.unwrap_or(Err(Refusal::NoQuorum))
            };
            match found {
                Err(Refusal::NotLeader) if Instant::now() < until => sleep(RETRY).await,
                Err(Refusal::NotLeader) => return Err(Refusal::NoQuorum),
                found => return found,
            }
        }
    }
}
