//! Deterministic simulation: the real state machine and engine under openraft, on virtual time.
//!
//! One seed decides everything: delays, losses, partitions, crashes, which writes of a crashed
//! disk survive, snapshots, changes of members, clocks that are set. What is checked: replicas are
//! equal at equal applied index, nothing acknowledged is lost, a read sees all that was
//! acknowledged before it began, a lock is not given to two, and in the end, with all faults gone,
//! the cluster serves. `HOLDFAST_SIM_SEED=n` replays one seed; `HOLDFAST_SIM_SEEDS=n` runs so many.

mod clients;
mod directed;
mod disk;
mod faults;
mod network;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder};
use openraft::{OptionalSend, RaftTypeConfig};
use openraft_rt_sim::SimRuntime;

use super::outcome::Outcome;
use super::types::{Batch, Entry, Leader, Member, NodeId, Payload, Vote};
use world::World;

/// Seeds of one run of the tests …
const SEEDS: u64 = 2_000;
/// … unless the machine is so slow or busy that they take longer than this.
const TIME_LIMIT: Duration = Duration::from_secs(360);

/// openraft's types on simulated time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SimGroup;

impl RaftTypeConfig for SimGroup {
    type D = Batch;
    type R = Vec<Outcome>;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = Leader;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = SimRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// What a run has come to, so that seeds that test nothing show.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    reads: AtomicU64,
    locks: AtomicU64,
    crashes: AtomicU64,
    partitions: AtomicU64,
    snapshots_sent: AtomicU64,
    changes: AtomicU64,
    transfers: AtomicU64,
}

/// Runs one seed; panics if anything is wrong.
fn run(seed: u64, tally: &Arc<Tally>) {
    let mut runtime = SimRuntime::with_seed(seed);
    let world = World::new(seed, Arc::clone(tally));
    runtime.block_on(async {
        world.found().await;
        let faults = SimRuntime::spawn(faults::run(Arc::clone(&world)));
        let clients: Vec<_> = (0..clients::COUNT)
            .map(|number| SimRuntime::spawn(clients::run(Arc::clone(&world), number)))
            .collect();
        let watcher = SimRuntime::spawn(clients::watch(Arc::clone(&world)));
        let _ = faults.await;
        SimRuntime::sleep(Duration::from_millis(200)).await;
        world.stop_clients();
        for client in clients {
            client.await.expect("a client that finds nothing wrong");
        }
        watcher.await.expect("a reader that sees everything it must");
        world.settle().await;
        world.check_end().await;
        world.shut_down().await;
    });
}

fn seed_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn two_thousand_seeds() {
    let tally = Arc::new(Tally::default());
    if let Some(seed) = seed_of("HOLDFAST_SIM_SEED") {
        run(seed, &tally);
        return;
    }
    let is_asked_for = seed_of("HOLDFAST_SIM_SEEDS").is_some();
    let count = seed_of("HOLDFAST_SIM_SEEDS").unwrap_or(SEEDS);
    // How long the test itself may take is nothing that is simulated.
    #[allow(clippy::disallowed_methods)]
    let began = std::time::Instant::now();
    let (next, ran) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    let over = began.elapsed() > TIME_LIMIT && !is_asked_for;
                    if seed >= count || over || !failed.lock().expect("the list").is_empty() {
                        return;
                    }
                    ran.fetch_add(1, Relaxed);
                    if catch_unwind(AssertUnwindSafe(|| run(seed, &tally))).is_err() {
                        failed.lock().expect("the list").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("the list");
    assert!(failed.is_empty(), "replay with HOLDFAST_SIM_SEED={}", failed[0]);
    let count = ran.load(Relaxed);
    if count < SEEDS && !is_asked_for {
        eprintln!("\n!!! only {count} of {SEEDS} seeds: the machine is slow or busy\n");
    }
    // Each kind of thing must have happened many times, or the seeds show little.
    let total = |of: &AtomicU64| of.load(Relaxed);
    assert!(total(&tally.acknowledged) > count * 20, "{tally:?}");
    for of in [&tally.crashes, &tally.partitions, &tally.reads, &tally.locks] {
        assert!(total(of) > count / 2, "{tally:?}");
    }
    assert!(total(&tally.changes) > count / 10, "{tally:?}");
    assert!(total(&tally.snapshots_sent) > count / 50, "{tally:?}");
    println!("{count} seeds: {tally:?}");
}

/// The same seed does the same: else a failure could not be looked at again.
#[test]
fn a_seed_replays() {
    let fingerprint = |seed| {
        let tally = Arc::new(Tally::default());
        run(seed, &tally);
        format!("{tally:?}")
    };
    assert_eq!(fingerprint(7), fingerprint(7));
}
