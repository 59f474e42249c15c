//! Taking a lock once: one attempt on all nodes, or one wait in the queues of all nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::ballot::{Ballot, EqualGrants, Step};
use crate::claim::Held;
use crate::client::Shared;
use crate::clock::BootInstant;
use crate::error::{Error, NodeCause};
use crate::guard::{Guarantee, Guard};
use crate::lease::Ttl;
use crate::net::claim::Claim;
use crate::net::command::{Dialect, Outcome, Outcomes, Verb};
use crate::net::wait::{self, Patience};
use crate::owner::random_fraction;
use crate::stats::Event;

/// Nodes are given at least this long to fence.
const HEDGE_MIN: Duration = Duration::from_millis(1);

/// One acquisition under way, with an owner of its own.
pub(crate) struct Acquisition {
    held: Held,
    ttl: Ttl,
    ballot: Ballot,
    /// From when the lease counts.
    start: BootInstant,
    answers: mpsc::UnboundedReceiver<(usize, Outcome)>,
    outcomes: Outcomes,
    deadline: Option<Instant>,
    /// How long nodes may take to fence.
    timeout: Duration,
    /// When to do without a node that is slow to fence, if another one could take its place.
    hedge_at: Option<Instant>,
}

/// Why a wait ended without the lock.
pub(crate) enum Waited {
    /// Others hold what is missing, and wait for what this one holds: all give way.
    Split,
    Failed(Error),
}

impl Acquisition {
    /// Nothing is sent yet.
    fn new(
        shared: &Arc<Shared>,
        claim: Claim,
        ttl: Ttl,
        equal: EqualGrants,
        require: Option<Guarantee>,
    ) -> Self {
        let ballot = Ballot::new(&shared.dialects(), claim.quorum(), equal, require);
        let (outcomes, answers) = mpsc::unbounded_channel();
        Self {
            // From here on, whatever ends this acquisition other than success releases on every node.
            held: Held::new(Arc::clone(shared), Arc::new(claim), ttl),
            ttl,
            ballot,
            start: BootInstant::now(),
            answers,
            outcomes,
            deadline: None,
            timeout: ttl.round_timeout(shared.node_timeout),
            hedge_at: None,
        }
    }

    fn tell(&self, node: usize, verb: Verb, deadline: Instant) {
        let outcomes = Some(self.outcomes.clone());
        self.held.shared().tell(node, verb, self.held.claim(), deadline, outcomes);
    }

    /// Begins the second phase on `nodes`.
    fn fence(&mut self, token: u64, nodes: &[usize]) {
        let deadline = Instant::now() + self.timeout;
        self.deadline = Some(deadline);
        for node in nodes {
            self.tell(*node, Verb::Fence { ttl: self.ttl, token }, deadline);
        }
    }

    /// The guard, if anything of the lease is left.
    fn finish(self, token: Option<u64>, asked: Duration) -> Result<Guard, Error> {
        let elapsed = BootInstant::now().since(self.start);
        let Some(validity) = self.ttl.validity(elapsed) else {
            return Err(Error::TooSlow { elapsed, ttl: asked });
        };
        self.held.shared().counters.count(Event::acquired);
        tracing::debug!(?elapsed, ?validity, token, "acquired");
        let guarantee = match token {
            None => Guarantee::Lease,
            Some(_) if self.held.shared().is_cluster() => Guarantee::Linearizable,
            Some(_) => Guarantee::FencedQuorum,
        };
        let deadline = self.start.after(self.ttl.usable());
        Ok(Guard::new(self.held, deadline, token, guarantee))
    }

    fn error(&self) -> Error {
        let shared = self.held.shared();
        self.ballot.tally.acquire_error(&shared.labels())
    }
}

/// One attempt on all nodes at once, to be decided by `deadline` if there is one.
pub(crate) async fn attempt(
    shared: &Arc<Shared>,
    claim: Claim,
    ttl: Ttl,
    asked: Duration,
    require: Option<Guarantee>,
    deadline: Option<Instant>,
) -> Result<Guard, Error> {
    let mut this = Acquisition::new(shared, claim, ttl, EqualGrants::Count, require);
    let answer_by = Instant::now() + this.timeout;
    let answer_by = deadline.map_or(answer_by, |deadline| deadline.min(answer_by));
    this.deadline = Some(answer_by);
    this.start = BootInstant::now();
    for node in 0..shared.node_count() {
        this.tell(node, Verb::Acquire(ttl), answer_by);
    }
    loop {
        match this.ballot.step() {
            Step::Won(token) => return this.finish(token, asked),
            Step::Failed => return Err(this.error()),
            Step::Fence(token, nodes) => {
                // So long as the grants of a majority took, twice.
                let patience = BootInstant::now().since(this.start) * 2 + HEDGE_MIN;
                this.hedge_at = Some(Instant::now() + patience);
                this.fence(token, &nodes);
            }
            Step::Wait => {
                let by = this.deadline.unwrap_or(answer_by);
                let hedge_at = this.hedge_at.filter(|at| this.ballot.could_raise() && *at < by);
                let wait_until = hedge_at.unwrap_or(by);
                match timeout_at(wait_until, this.answers.recv()).await.ok().flatten() {
                    Some((node, outcome)) => this.ballot.record(node, outcome),
                    None if hedge_at.is_some() => this.ballot.raise(),
                    None => this.ballot.time_is_up(),
                }
            }
        }
    }
}

/// One wait in the queues of all nodes that have one, until a majority has granted.
pub(crate) async fn wait_in_queues(
    shared: &Arc<Shared>,
    claim: Claim,
    asked: Duration,
    require: Option<Guarantee>,
    patience: Patience,
) -> Result<Guard, Waited> {
    let mut this = Acquisition::new(shared, claim, patience.ttl, EqualGrants::FenceToo, require);
    let mut queues = JoinSet::new();
    for (node, dialect) in shared.dialects().into_iter().enumerate() {
        if dialect == Some(Dialect::Plain) {
            let why = "has no queue to wait in".to_owned();
            this.ballot.record(node, Err(NodeCause::Unsupported(why)));
            continue;
        }
        let (config, claim) = (shared.node_config(node), this.held.claim());
        let outcomes = this.outcomes.clone();
        queues.spawn(wait::wait(Arc::clone(config), Arc::clone(claim), node, patience, outcomes));
    }
    // With the claim, so that it leaves the queues before it releases. A winner stays in those it still
    // waits in: what it is granted there later makes its majority larger.
    this.held.wait_in(queues);
    let mut split_at = None;
    loop {
        match this.ballot.step() {
            Step::Won(token) => return this.finish(token, asked).map_err(Waited::Failed),
            Step::Failed => return Err(Waited::Failed(this.error())),
            Step::Fence(token, nodes) => {
                if this.deadline.is_none() {
                    // Every grant is older; what is fenced from now on counts from now on.
                    this.start = BootInstant::now();
                }
                this.fence(token, &nodes);
                continue;
            }
            Step::Wait => {}
        }
        if split_at.is_none() && this.ballot.tally.done() > 0 {
            let spread = shared.node_timeout.mul_f64(1.0 + random_fraction());
            split_at = Some(Instant::now() + spread);
        }
        let by = [this.deadline.or(split_at), patience.until].into_iter().flatten().min();
        let answer = match by {
            Some(by) => timeout_at(by, this.answers.recv()).await.ok().flatten(),
            None => this.answers.recv().await,
        };
        match answer {
            Some((node, outcome)) => this.ballot.record(node, outcome),
            None if this.deadline.is_some() => this.ballot.time_is_up(),
            None if patience.until.is_some_and(|until| until <= Instant::now()) => {
                let tally = &this.ballot.tally;
                return Err(Waited::Failed(Error::Contended {
                    granted: tally.done(),
                    held: shared.node_count() - tally.done(),
                    quorum: tally.quorum(),
                }));
            }
            None => return Err(Waited::Split),
        }
    }
}
