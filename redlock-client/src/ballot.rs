//! The two phases of taking a lock on several servers, as pure counting.
//!
//! First each node grants the lock under a token of its own. Then the greatest token of a majority, t, is
//! made known to a majority by a fence, which a node accepts only if t is no less than what it granted
//! and the owner still holds the lock there; from then on it grants nothing but greater tokens. Two
//! winners share a node on which both fenced, and held it one after the other: so the later grant
//! there, and with it the later token, is the greater. No clock takes part in this.
//!
//! Nodes that do not know tokens count for a plain RedLock, whose worth is that of a lease.

use crate::error::NodeCause;
use crate::guard::Guarantee;
use crate::lease::quorum;
use crate::net::command::{Answer, Dialect, Outcome};
use crate::round::Tally;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Wait,
    /// Ask these nodes to fence this token.
    Fence(u64, Vec<usize>),
    /// The lock is held; what the token is, if it is worth one.
    Won(Option<u64>),
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not answered, or not for us.
    None,
    /// Granted by a node without tokens.
    Plain,
    Granted(u64),
    /// Asked to fence this token.
    Fencing(u64),
    Fenced(u64),
}

/// Whether a grant under the very token that wins needs no fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EqualGrants {
    /// It is as good as one: its time began when this attempt did.
    Count,
    /// The time of a grant that was waited for began at an unknown moment; a fence begins it anew.
    FenceToo,
}

pub(crate) struct Ballot {
    pub(crate) tally: Tally,
    phases: Vec<Phase>,
    /// Nodes known not to have tokens.
    plain: Vec<bool>,
    /// How many nodes must fence.
    fences: usize,
    equal: EqualGrants,
    require: Option<Guarantee>,
    token: Option<u64>,
}

impl Ballot {
    /// A ballot in which `quorum_size` nodes must grant; `require` says what less than is a failure.
    pub(crate) fn new(
        dialects: &[Option<Dialect>],
        quorum_size: usize,
        equal: EqualGrants,
        require: Option<Guarantee>,
    ) -> Self {
        let nodes = dialects.len();
        Self {
            tally: Tally::new(nodes, quorum_size),
            phases: vec![Phase::None; nodes],
            plain: dialects.iter().map(|d| *d == Some(Dialect::Plain)).collect(),
            fences: quorum_size.max(quorum(nodes)),
            equal,
            require,
            token: None,
        }
    }

    /// Whether this node's next outcome is that of a fence.
    pub(crate) fn is_fencing(&self, node: usize) -> bool {
        matches!(self.phases[node], Phase::Fencing(_))
    }

    /// Records what a node answered to what it was asked last.
    pub(crate) fn record(&mut self, node: usize, outcome: Outcome) {
        self.phases[node] = match (&outcome, self.phases[node]) {
            (Ok(Answer::Done), Phase::Fencing(token)) => Phase::Fenced(token),
            (Ok(Answer::Done), _) => {
                self.plain[node] = true;
                Phase::Plain
            }
            (Ok(Answer::Granted(token)), _) => Phase::Granted(*token),
            _ => Phase::None,
        };
        self.tally.record(node, outcome);
    }

    /// Counts the nodes that have not answered as failed.
    pub(crate) fn time_is_up(&mut self) {
        self.tally.give_up_on_open(&NodeCause::Timeout);
        for node in 0..self.phases.len() {
            if self.is_fencing(node) {
                self.record(node, Err(NodeCause::Timeout));
            }
        }
    }

    /// Whether a node granted above the token that was chosen, and would take part under a greater one.
    pub(crate) fn could_raise(&self) -> bool {
        self.token.is_some_and(|token| self.tokens().any(|own| own > token))
    }

    /// Chooses the greatest token there is, which every node that granted can fence.
    pub(crate) fn raise(&mut self) {
        if self.token.is_some() {
            self.token = self.tokens().max();
        }
    }

    /// Decides what follows from all that was recorded. Marks the nodes it says to fence as asked.
    pub(crate) fn step(&mut self) -> Step {
        if self.token.is_none() && self.tokens().count() >= self.fences {
            self.token = self.tokens().max();
        }
        if self.fences_possible() < self.fences && self.tokens().count() >= self.fences {
            // A node is needed whose grant came late, and above the token that was chosen: all it
            // takes is a greater one.
            self.token = self.tokens().max();
        }
        if let Some(token) = self.token {
            if self.equal == EqualGrants::Count {
                for phase in &mut self.phases {
                    if *phase == Phase::Granted(token) {
                        *phase = Phase::Fenced(token);
                    }
                }
            }
            if self.phases.iter().filter(|p| **p == Phase::Fenced(token)).count() >= self.fences {
                return Step::Won(Some(token));
            }
            let is_due = |phase: &Phase| match phase {
                Phase::Granted(own) => *own <= token,
                Phase::Fenced(own) => *own < token,
                _ => false,
            };
            let due: Vec<usize> =
                (0..self.phases.len()).filter(|node| is_due(&self.phases[*node])).collect();
            if !due.is_empty() {
                for node in &due {
                    self.phases[*node] = Phase::Fencing(token);
                }
                return Step::Fence(token, due);
            }
        }
        if self.fences_possible() >= self.fences {
            return Step::Wait;
        }
        let lease_will_do =
            !matches!(self.require, Some(Guarantee::FencedQuorum | Guarantee::Linearizable));
        let mixed = self.plain.contains(&true);
        if lease_will_do && mixed {
            if self.tally.done() >= self.tally.quorum() {
                return Step::Won(None);
            }
            if self.tally.done() + self.tally.open() >= self.tally.quorum() {
                return Step::Wait;
            }
        }
        Step::Failed
    }

    /// The tokens under which nodes hold the lock.
    fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.phases.iter().filter_map(|phase| match phase {
            Phase::Granted(token) | Phase::Fencing(token) | Phase::Fenced(token) => Some(*token),
            Phase::None | Phase::Plain => None,
        })
    }

    /// How many nodes may still come to fence the token, those that have included.
    fn fences_possible(&self) -> usize {
        let outcomes = self.tally.outcomes();
        (0..self.phases.len())
            .filter(|node| match self.phases[*node] {
                Phase::Fencing(_) | Phase::Fenced(_) => true,
                // A grant above the token that was chosen cannot be fenced by it.
                Phase::Granted(own) => self.token.is_none_or(|token| own <= token),
                Phase::Plain => false,
                Phase::None => outcomes[*node].is_none() && !self.plain[*node],
            })
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Outcome = Ok(Answer::Done);
    const HELD: Outcome = Ok(Answer::Foreign);
    const DOWN: Outcome = Err(NodeCause::Timeout);

    fn grant(token: u64) -> Outcome {
        Ok(Answer::Granted(token))
    }

    fn ballot(nodes: usize) -> Ballot {
        Ballot::new(&vec![None; nodes], quorum(nodes), EqualGrants::Count, None)
    }

    fn after(ballot: &mut Ballot, outcomes: &[(usize, Outcome)]) -> Step {
        let mut step = ballot.step();
        for (node, outcome) in outcomes {
            ballot.record(*node, outcome.clone());
            step = ballot.step();
        }
        step
    }

    #[test]
    fn equal_grants_need_no_second_phase() {
        let mut three = ballot(3);
        assert_eq!(after(&mut three, &[(0, grant(5))]), Step::Wait);
        assert_eq!(after(&mut three, &[(2, grant(5))]), Step::Won(Some(5)));
    }

    #[test]
    fn the_greatest_token_of_the_majority_is_fenced_by_a_majority() {
        let mut three = ballot(3);
        assert_eq!(after(&mut three, &[(0, grant(5)), (1, grant(9))]), Step::Fence(9, vec![0]));
        assert_eq!(after(&mut three, &[(0, OK)]), Step::Won(Some(9)));

        // One that comes late helps if it can be fenced, and does no harm if it cannot.
        let mut three = ballot(3);
        assert_eq!(after(&mut three, &[(0, grant(5)), (1, grant(9))]), Step::Fence(9, vec![0]));
        assert_eq!(after(&mut three, &[(2, grant(11))]), Step::Wait);
        assert_eq!(after(&mut three, &[(0, DOWN)]), Step::Fence(11, vec![1]));
        assert_eq!(after(&mut three, &[(1, DOWN)]), Step::Failed);
        let mut three = ballot(3);
        assert_eq!(after(&mut three, &[(0, grant(5)), (1, grant(9))]), Step::Fence(9, vec![0]));
        assert_eq!(after(&mut three, &[(0, DOWN)]), Step::Wait);
        assert_eq!(after(&mut three, &[(2, grant(3))]), Step::Fence(9, vec![2]));
        assert_eq!(after(&mut three, &[(2, OK)]), Step::Won(Some(9)));
    }

    #[test]
    fn a_node_that_is_silent_can_be_done_without_by_a_greater_token() {
        let mut three = ballot(3);
        assert_eq!(after(&mut three, &[(0, grant(5)), (1, grant(9))]), Step::Fence(9, vec![0]));
        assert!(!three.could_raise());
        assert_eq!(after(&mut three, &[(2, grant(11))]), Step::Wait);
        assert!(three.could_raise());
        three.raise();
        assert_eq!(three.step(), Step::Fence(11, vec![1]));
        assert_eq!(after(&mut three, &[(1, OK)]), Step::Won(Some(11)));
        // An answer to the smaller fence would not have counted.
        let mut three = ballot(3);
        after(&mut three, &[(0, grant(5)), (1, grant(9)), (2, grant(11))]);
        three.raise();
        three.step();
        assert_eq!(after(&mut three, &[(0, OK)]), Step::Fence(11, vec![0]));
    }

    #[test]
    fn what_was_waited_for_is_always_fenced() {
        let mut three = Ballot::new(&[None; 3], 2, EqualGrants::FenceToo, None);
        let step = after(&mut three, &[(0, grant(5)), (1, grant(5))]);
        assert_eq!(step, Step::Fence(5, vec![0, 1]));
        assert_eq!(after(&mut three, &[(0, OK)]), Step::Wait);
        assert_eq!(after(&mut three, &[(1, OK)]), Step::Won(Some(5)));
    }

    #[test]
    fn nodes_without_tokens_make_a_lease() {
        assert_eq!(after(&mut ballot(3), &[(0, OK), (1, OK)]), Step::Won(None));
        assert_eq!(after(&mut ballot(5), &[(0, OK), (1, HELD), (2, OK)]), Step::Wait);
        // Three of five could fence: worth waiting for the third, and no loss if it does not come.
        let mut mixed = ballot(5);
        let four = [(0, OK), (1, OK), (2, grant(3)), (3, grant(3))];
        assert_eq!(after(&mut mixed, &four), Step::Wait);
        assert_eq!(after(&mut mixed, &[(4, DOWN)]), Step::Won(None));
        let mut mixed = ballot(5);
        after(&mut mixed, &four);
        assert_eq!(after(&mut mixed, &[(4, grant(4))]), Step::Fence(4, vec![2, 3]));

        let strict = Some(Guarantee::FencedQuorum);
        let mut strict = Ballot::new(&[None; 3], 2, EqualGrants::Count, strict);
        assert_eq!(after(&mut strict, &[(0, OK), (1, OK)]), Step::Failed);
    }

    #[test]
    fn time_runs_out_for_fences_too() {
        let mut three = ballot(3);
        after(&mut three, &[(0, grant(5)), (1, grant(9))]);
        three.time_is_up();
        assert_eq!(three.step(), Step::Failed);
    }
}
