//! One question to all nodes, and the moment its outcome is decided.
//!
//! [`Tally`] is pure counting; [`Round`] feeds it with answers until a quorum is reached, has become
//! impossible, or time is up. It never waits for a node whose answer can change nothing.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, NodeCause, NodeFailure};
use crate::net::command::{Answer, Outcome};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Reached,
    Impossible,
    Open,
}

/// Outcomes by node.
pub(crate) struct Tally {
    outcomes: Vec<Option<Outcome>>,
    quorum: usize,
}

impl Tally {
    pub(crate) fn new(nodes: usize, quorum: usize) -> Self {
        Self { outcomes: vec![None; nodes], quorum }
    }

    pub(crate) fn quorum(&self) -> usize {
        self.quorum
    }

    pub(crate) fn outcomes(&self) -> &[Option<Outcome>] {
        &self.outcomes
    }

    pub(crate) fn record(&mut self, node: usize, outcome: Outcome) {
        self.outcomes[node] = Some(outcome);
    }

    /// Nodes that did what was asked.
    pub(crate) fn done(&self) -> usize {
        let is_done =
            |o: &&Option<Outcome>| matches!(o, Some(Ok(Answer::Done | Answer::Granted(_))));
        self.outcomes.iter().filter(is_done).count()
    }

    /// Nodes that have not answered.
    pub(crate) fn open(&self) -> usize {
        self.outcomes.iter().filter(|o| o.is_none()).count()
    }

    fn count(&self, answer: &Answer) -> usize {
        self.outcomes.iter().flatten().filter(|o| o.as_ref() == Ok(answer)).count()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let (done, open) = (self.done(), self.open());
        if done >= self.quorum() {
            Verdict::Reached
        } else if done + open < self.quorum() {
            Verdict::Impossible
        } else {
            Verdict::Open
        }
    }

    /// Nodes whose answer is that they have forgotten the keys.
    pub(crate) fn missing(&self) -> Vec<usize> {
        (0..self.outcomes.len())
            .filter(|node| self.outcomes[*node] == Some(Ok(Answer::Missing)))
            .collect()
    }

    pub(crate) fn give_up_on_open(&mut self, cause: &NodeCause) {
        for outcome in self.outcomes.iter_mut().filter(|o| o.is_none()) {
            *outcome = Some(Err(cause.clone()));
        }
    }

    /// Nodes that answered that the lock is not, or not only, ours there.
    fn denials(&self) -> usize {
        self.count(&Answer::Missing) + self.count(&Answer::Foreign)
    }

    /// Whether so many nodes deny that no quorum can hold the lock, whatever the silent ones know.
    pub(crate) fn disproves(&self) -> bool {
        self.outcomes.len() - self.denials() < self.quorum()
    }

    /// Why an acquisition found no quorum.
    pub(crate) fn acquire_error(&self, labels: &[&str]) -> Error {
        let nodes = self.outcomes.len();
        let failed = self.outcomes.iter().flatten().filter(|o| o.is_err()).count();
        let quarantined: Vec<Duration> = self.quarantines().collect();
        let held = self.count(&Answer::Foreign);
        if nodes - failed < self.quorum() {
            return self.unreachable(labels);
        }
        if held > 0 && nodes - failed - quarantined.len() >= self.quorum() {
            return Error::Contended { granted: self.done(), held, quorum: self.quorum() };
        }
        if quarantined.is_empty() {
            return self.unreachable(labels);
        }
        // A quorum is possible once enough of the shortest quarantines have ended.
        let needed = self.quorum().saturating_sub(nodes - failed - quarantined.len());
        let mut sorted = quarantined;
        sorted.sort_unstable();
        let index = needed.clamp(1, sorted.len()) - 1;
        Error::Quarantined { retry_after: sorted[index] }
    }

    fn quarantines(&self) -> impl Iterator<Item = Duration> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Some(Ok(Answer::Quarantined(left))) => Some(*left),
            _ => None,
        })
    }

    /// The error for a round that found too few nodes, with what each of the others did.
    pub(crate) fn unreachable(&self, labels: &[&str]) -> Error {
        let failures = self
            .outcomes
            .iter()
            .zip(labels)
            .filter_map(|(outcome, label)| {
                let cause = match outcome.as_ref()? {
                    Ok(Answer::Done | Answer::Granted(_) | Answer::Seen(_)) => return None,
                    Ok(Answer::Missing | Answer::Foreign) => NodeCause::NotHeld,
                    Ok(Answer::Quarantined(left)) => NodeCause::Quarantined(*left),
                    Err(cause) => cause.clone(),
                };
                Some(NodeFailure { node: (*label).to_owned(), cause })
            })
            .collect();
        let seen = self.outcomes.iter().flatten().filter(|o| matches!(o, Ok(Answer::Seen(_))));
        let answered = self.done() + seen.count();
        Error::Unreachable { answered, quorum: self.quorum(), failures }
    }
}

/// A question under way.
pub(crate) struct Round {
    pub(crate) tally: Tally,
    pub(crate) answers: mpsc::UnboundedReceiver<(usize, Outcome)>,
    pub(crate) deadline: Instant,
}

impl Round {
    /// Waits until the outcome is decided; never returns [`Verdict::Open`].
    ///
    /// # Cancel safety
    /// An answer is recorded as soon as it is received; none is lost.
    pub(crate) async fn decide(&mut self) -> Verdict {
        loop {
            let verdict = self.tally.verdict();
            if verdict != Verdict::Open {
                return verdict;
            }
            self.next().await;
        }
    }

    /// Waits until every node has answered, or time is up.
    pub(crate) async fn complete(&mut self) {
        while self.tally.outcomes.iter().any(Option::is_none) {
            self.next().await;
        }
    }

    /// Waits until the loss of the lock is proven, or cannot be proven any more.
    pub(crate) async fn prove_loss(&mut self) -> bool {
        while !self.tally.disproves() && self.tally.outcomes.iter().any(Option::is_none) {
            self.next().await;
        }
        self.tally.disproves()
    }

    /// Records one more outcome, or that no more can come in time.
    pub(crate) async fn next(&mut self) {
        match timeout_at(self.deadline, self.answers.recv()).await {
            Ok(Some((node, outcome))) => self.tally.record(node, outcome),
            // Every request is gone without an outcome: their tasks were dropped with a runtime.
            Ok(None) => self
                .tally
                .give_up_on_open(&NodeCause::Disconnected("its task has ended".to_owned())),
            Err(_) => self.tally.give_up_on_open(&NodeCause::Timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::quorum;

    const DOWN: Outcome = Err(NodeCause::Timeout);
    const OK: Outcome = Ok(Answer::Done);
    const HELD: Outcome = Ok(Answer::Foreign);

    fn quarantined(ms: u64) -> Outcome {
        Ok(Answer::Quarantined(Duration::from_millis(ms)))
    }

    fn tally(outcomes: &[Outcome], open: usize) -> Tally {
        let nodes = outcomes.len() + open;
        let mut tally = Tally::new(nodes, quorum(nodes));
        for (node, outcome) in outcomes.iter().enumerate() {
            tally.record(node, outcome.clone());
        }
        tally
    }

    #[test]
    fn the_outcome_is_decided_as_early_as_it_can_be() {
        assert_eq!(tally(&[OK, OK], 1).verdict(), Verdict::Reached);
        assert_eq!(tally(&[OK, DOWN], 1).verdict(), Verdict::Open);
        assert_eq!(tally(&[HELD, DOWN], 1).verdict(), Verdict::Impossible);
        assert_eq!(tally(&[OK, OK, HELD, HELD], 1).verdict(), Verdict::Open);
        // Half of an even number is no majority.
        assert_eq!(tally(&[OK, OK, DOWN, DOWN], 0).verdict(), Verdict::Impossible);
    }

    #[test]
    fn errors_tell_the_reasons_apart() {
        let error = |outcomes: &[Outcome], open| {
            tally(outcomes, open).acquire_error(&["a", "b", "c", "d", "e"])
        };
        assert!(matches!(error(&[HELD, HELD], 1), Error::Contended { held: 2, .. }));
        assert!(matches!(error(&[OK, HELD, DOWN], 0), Error::Contended { granted: 1, .. }));
        assert!(matches!(error(&[DOWN, DOWN], 1), Error::Unreachable { .. }));
        let Error::Unreachable { failures, .. } = error(&[DOWN, HELD, DOWN], 0) else {
            panic!("a majority is down");
        };
        assert_eq!(failures.len(), 3);
        assert_eq!(failures[1].cause, NodeCause::NotHeld);
    }

    #[test]
    fn quarantine_tells_when_a_quorum_can_be_had() {
        let retry_after =
            |outcomes: &[Outcome]| match tally(outcomes, 0).acquire_error(&["a", "b", "c"]) {
                Error::Quarantined { retry_after } => retry_after.as_millis(),
                other => panic!("{other}"),
            };
        assert_eq!(retry_after(&[OK, quarantined(900), quarantined(400)]), 400);
        assert_eq!(retry_after(&[DOWN, quarantined(900), quarantined(400)]), 900);
        assert_eq!(retry_after(&[OK, quarantined(900), DOWN]), 900);
    }

    #[test]
    fn loss_is_proven_by_denials_only() {
        let missing: Outcome = Ok(Answer::Missing);
        assert!(tally(&[OK, missing.clone(), HELD], 0).disproves());
        assert!(!tally(&[OK, missing.clone(), DOWN], 0).disproves());
        assert!(!tally(&[DOWN, DOWN, DOWN], 0).disproves());
    }
}
