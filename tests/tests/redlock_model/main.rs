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
    let began = Instant::now();
    let walk = model.checker().threads(2).timeout(DEADLINE).finish_when(HasDiscoveries::Any);
    let checker = walk.spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{name}: {states} states, {:.1} s", began.elapsed().as_secs_f64());
    let discoveries = checker.discoveries();
    for (property, path) in &discoveries {
        println!("  refuted: {property}");
        for action in path.clone().into_actions() {
            println!("    {action:?}");
        }
    }
    assert!(!discoveries.is_empty(), "{name}: what was left out is not missed");
}

#[test]
fn fenced_tokens_of_five_servers_are_unique_and_in_order() {
    let assert_holds = |name, model| assert_holds(name, model, fenced::with_servers_sorted::<5>);
    assert_holds("fenced, 5 servers, 2 clients, 1 loss", Fenced::sound(2, 1, 0));
}

#[test]
fn fenced_tokens_are_unique_and_in_order() {
    let assert_holds = |name, model| assert_holds(name, model, fenced::with_servers_sorted::<3>);
    assert_holds("fenced, 2 clients, 4 losses", Fenced::sound(2, 4, 2));
    // All that refutes what lacks an ingredient fits in here.
    assert_holds("fenced, 3 clients, 4 losses", Fenced::sound(3, 4, 0));
}

#[test]
fn every_ingredient_of_fencing_is_needed() {
    for (omission, clients, losses) in [
        (Omission::SecondPhase, 2, 2),
        (Omission::DurableCounters, 2, 2),
        (Omission::GrantCheck, 3, 4),
    ] {
        let model = Fenced::<3> { omission: Some(omission), ..Fenced::sound(clients, losses, 0) };
        assert_refuted(&format!("without {omission:?}"), model);
    }
}

#[test]
fn quarantine_keeps_redlock_exclusive() {
    assert_holds("with quarantine", Timed { quarantine: true }, timed::with_servers_sorted);
    assert_refuted("without quarantine", Timed { quarantine: false });
}
