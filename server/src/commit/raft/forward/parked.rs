//! A command of this node's client that waits for its keys at the leader.
//!
//! The leader keeps the queue and says whose turn it is. The command itself is then proposed by
//! this node like any other, so that whether it ran is known, or said to be unknown, the same way.
//! A wait that is lost with its leader has changed nothing and begins anew at the next one.

use std::sync::Arc;

use holdfast_engine::effects::Wait;
use tokio::sync::{mpsc, watch};

use super::super::types::NodeId;
use super::link::Link;
use super::message::{Answer, Request};

/// What a parked command hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is its turn.
    Turn,
    /// Its leader is gone, hangs or leads no longer.
    Lost,
}

/// A place in the leader's queues; given up when dropped.
pub struct Parked {
    link: Arc<Link>,
    place: u64,
    answers: mpsc::UnboundedReceiver<Answer>,
    leader: watch::Receiver<Option<NodeId>>,
    at: NodeId,
}

impl Parked {
    pub(super) fn new(
        link: Arc<Link>,
        place: u64,
        answers: mpsc::UnboundedReceiver<Answer>,
        leader: watch::Receiver<Option<NodeId>>,
        at: NodeId,
    ) -> Self {
        Self { link, place, answers, leader, at }
    }

    /// Waits for the next turn.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Standing {
        let at = self.at;
        tokio::select! {
            biased;
            answer = self.answers.recv() => match answer {
                Some(Answer::Turn) => Standing::Turn,
                _ => Standing::Lost,
            },
            _ = self.leader.wait_for(|known| *known != Some(at)) => Standing::Lost,
        }
    }

    /// Says that the command ran and waits on, in its place.
    pub fn waits_on(&self, wait: Wait) {
        self.link.say(self.place, Request::Parked(Some(wait)));
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.link.say(self.place, Request::Parked(None));
        self.link.forget(self.place);
    }
}
