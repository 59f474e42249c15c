//! Fenced RedLock and its restart quarantine, proved on small instances by walking every state.
//! Run with `--nocapture` to see how many states there are, and the counterexamples.
//!
//! [`fenced`] has no clocks at all: locks expire when they please, messages are delayed, repeated
//! or lost, servers crash, clients stop between any two steps. Its tokens must be unique and in
//! real-time order. [`timed`] has clocks that run alike, and asks that no two clients count on the
//! lock at once, crashes included. Each ingredient is then left out, and must be missed: the
//! walk finds a counterexample and prints it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod fenced;
mod timed;

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use fenced::{Fenced, Omission};
use timed::Timed;

/// Longer than this no walk may take.
const DEADLINE: Duration = Duration::from_secs(110);

/// Walks every state, of states that differ only in the servers' names one, and asserts that every
/// property holds in all.
fn assert_holds<M>(name: &str, model: M, representative: fn(&M::State) -> M::State)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let began = Instant::now();
    let walk = model.checker().threads(2).timeout(DEADLINE).symmetry_fn(representative);
    let checker = walk.spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("{name}: holds in {states} states, {:.1} s", began.elapsed().as_secs_f64());
    assert!(checker.is_done() && began.elapsed() < DEADLINE, "{name}: the walk did not end");
    checker.assert_properties();
}

/// Finds the shortest way to a state in which a property does not hold, and prints it.
fn assert_refuted<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let walk = model.checker().threads(2).timeout(DEADLINE).finish_when(HasDiscoveries::Any);
    assert_counterexample(name, &walk.spawn_bfs().join());
}

/// The same where there are too many states to look for the shortest way.
fn assert_refuted_somehow<M>(name: &str, model: M, representative: fn(&M::State) -> M::State)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let walk = model.checker().timeout(DEADLINE).finish_when(HasDiscoveries::Any);
    assert_counterexample(name, &walk.symmetry_fn(representative).spawn_dfs().join());
}

/// Prints what was found, and sees that it is what it is said to be.
fn assert_counterexample<M>(name: &str, checker: &impl Checker<M>)
where
    M: Model,
    M::State: Clone + Debug + Hash + PartialEq,
    M::Action: Clone + Debug + PartialEq,
{
    println!("{name}: refuted after {} states", checker.unique_state_count());
    let discoveries = checker.discoveries();
    assert!(!discoveries.is_empty(), "{name}: what was left out is not missed");
    for (property, path) in discoveries {
        println!("  not so: {property}");
        let condition = checker.model().property(property).condition;
        assert!(!condition(checker.model(), path.last_state()), "{name}: {property} does hold");
        for action in path.into_actions() {
            println!("    {action:?}");
        }
    }
}

#[test]
fn fenced_tokens_are_unique_and_in_order() {
    let assert_holds = |name, model| assert_holds(name, model, fenced::with_servers_sorted::<3>);
    assert_holds("fenced, 2 clients, 4 losses", Fenced::sound(2, 4, 2));
    // All that refutes what lacks an ingredient fits in here.
    assert_holds("fenced, 3 clients, 4 losses", Fenced::sound(3, 4, 0));
}

/// As far as it goes for five: bounded are the acquisitions and the losses of locks, and with three
/// acquisitions all counters begin with 0. Messages and pauses are not. All that refutes what lacks an
/// ingredient fits in there too.
#[test]
fn fenced_tokens_of_five_servers_are_unique_and_in_order() {
    let assert_holds = |name, model| assert_holds(name, model, fenced::with_servers_sorted::<5>);
    assert_holds("fenced, 5 servers, 2 clients, 3 losses", Fenced::sound(2, 3, 1));
    assert_holds("fenced, 5 servers, 3 clients, 4 losses", Fenced::sound(3, 4, 0));
}

#[test]
fn every_ingredient_of_fencing_is_needed() {
    for (omission, clients, losses) in [
        (Omission::SecondPhase, 2, 2),
        (Omission::DurableCounters, 2, 2),
        (Omission::GrantCheck, 3, 4),
    ] {
        let three = Fenced::<3> { omission: Some(omission), ..Fenced::sound(clients, losses, 0) };
        assert_refuted(&format!("without {omission:?}"), three);
        let five = Fenced::<5> { omission: Some(omission), ..Fenced::sound(clients, losses, 0) };
        let name = format!("without {omission:?}, 5 servers");
        assert_refuted_somehow(&name, five, fenced::with_servers_sorted);
    }
}

#[test]
fn quarantine_keeps_redlock_exclusive() {
    assert_holds("with quarantine", Timed::<3> { quarantine: true }, timed::with_servers_sorted);
    assert_refuted("without quarantine", Timed::<3> { quarantine: false });
    let five = Timed::<5> { quarantine: true };
    assert_holds("with quarantine, 5 servers", five, timed::with_servers_sorted);
    assert_refuted("without quarantine, 5 servers", Timed::<5> { quarantine: false });
}
