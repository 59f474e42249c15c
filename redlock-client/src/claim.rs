//! The duty to release, tied to a value: what is dropped is released, on every node.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::client::Shared;
use crate::clock::BootInstant;
use crate::lease::Ttl;
use crate::net::claim::Claim;
use crate::net::command::Verb;
use crate::round::Round;

/// A claim that may be on some nodes. Releases on all of them when dropped, won or not.
///
/// Invariant: exists before the first request of its claim is sent, so there is no await at which
/// dropping a future could leave keys without someone to release them.
pub(crate) struct Held {
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    /// The longest TTL any node was asked for.
    ttl: Ttl,
    /// Its waits in the queues of nodes that have not granted it yet.
    queues: JoinSet<()>,
    released: bool,
}

impl Held {
    pub(crate) fn new(shared: Arc<Shared>, claim: Arc<Claim>, ttl: Ttl) -> Self {
        Self { shared, claim, ttl, queues: JoinSet::new(), released: false }
    }

    pub(crate) fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Keeps waiting in these queues for as long as the claim is kept.
    pub(crate) fn wait_in(&mut self, queues: JoinSet<()>) {
        self.queues = queues;
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released
    }

    /// Notes that nodes may now hold the keys for up to `ttl`.
    pub(crate) fn lasts(&mut self, ttl: Ttl) {
        if ttl.as_duration() > self.ttl.as_duration() {
            self.ttl = ttl;
        }
    }

    /// Gives the keys up on every node, the silent ones too, once. The round reports how it went;
    /// it can be dropped, for the releases go on without it.
    pub(crate) fn release(&mut self) -> Round {
        self.released = true;
        self.queues.abort_all();
        // Before the releases are queued: what is written afterwards would land behind them.
        self.claim.abandon();
        // Twice the TTL, for a request that was still on its way when its time was taken.
        let not_after = BootInstant::now().after(self.ttl.as_duration() * 2);
        let timeout = self.shared.node_timeout;
        self.shared.ask(Verb::Release { not_after }, &self.claim, timeout)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released {
            drop(self.release());
        }
    }
}
