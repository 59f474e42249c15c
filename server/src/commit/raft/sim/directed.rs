//! The shortest way to a stale read by lease, gone step by step.
//!
//! A follower that acknowledges a leader grants it a lease: it votes for nobody else meanwhile.
//! openraft forgets over a restart that it did. So: C has not heard of the leader for long and
//! wants an election, which B, who has, will not grant. Then B is cut off from the leader as well
//! and starts anew, and now it votes for C, or C for it. The two take a write, while the lease of
//! the old leader still runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::context::Touch;
use holdfast_engine::time::DbIndex;
use openraft::{AsyncRuntime, ReadPolicy};
use openraft_rt_sim::SimRuntime;

use super::super::batch::Items;
use super::super::types::NodeId;
use super::Tally;
use super::clients::{PATIENCE, Written, read_at, write_at};
use super::world::{SimRaft, World, now_us};

/// Ways tried: of each seed the delays, of each the moment of B's restart is another.
const SEEDS: u64 = 60;
/// The list that is written and read.
const LIST: u64 = 0;
/// Where a way leads to that shows something.
const STALE: &str = "the lease outlived the leadership";

/// Writes a number that was not written before, at whoever of `among` leads; who that was, once
/// it is acknowledged.
async fn push(world: &World, among: &[NodeId], within: Duration) -> Option<(NodeId, SimRaft)> {
    let began = now_us();
    while now_us() - began < within.as_micros() as u64 {
        SimRuntime::sleep(Duration::from_millis(2)).await;
        world.note_leaders();
        let leads = |id: &NodeId| Some((*id, world.raft_if_leader(*id)?));
        let Some((id, raft)) = among.iter().find_map(leads) else { continue };
        let number = 1 + now_us();
        let (key, value) = (format!("list:{LIST}"), number.to_string());
        let mut items = Items::default();
        items.command(DbIndex(0), Touch::Counts, &[b"rpush", key.as_bytes(), value.as_bytes()]);
        // One that was only just elected may refuse yet.
        if let Written::Done(_) = write_at(world, id, &raft, &items, PATIENCE).await {
            world.promise(LIST, number);
            return Some((id, raft));
        }
    }
    None
}

fn part(world: &World, one: NodeId, other: NodeId) {
    world.cut(one, other);
    world.cut(other, one);
}

/// Goes the way of one seed; where it led to. At its end a read by lease would have been answered
/// with the old value.
async fn stale_lease(world: &Arc<World>, seed: u64) -> &'static str {
    world.found().await;
    let old = push(world, &[1, 2, 3], Duration::from_secs(10)).await.expect("a leader");
    // C must have it, or B would not vote for C.
    SimRuntime::sleep(Duration::from_millis(200)).await;
    let others: Vec<NodeId> = (1..=3).filter(|id| *id != old.0).collect();
    let (b, c) = (others[(seed % 2) as usize], others[1 - (seed % 2) as usize]);
    part(world, old.0, c);
    SimRuntime::sleep(Duration::from_millis(700 + seed * 7)).await;
    if world.raft_if_leader(old.0).is_none() {
        return "the old leader stepped down";
    }
    part(world, old.0, b);
    world.crash(b).await;
    world.start(b).await;
    let restarted = now_us();
    if push(world, &[b, c], Duration::from_millis(600)).await.is_none() {
        return "the others took no write";
    }
    let took_ms = (now_us() - restarted) / 1000;
    let by_lease = old.1.ensure_linearizable(ReadPolicy::LeaseRead);
    let runs = matches!(SimRuntime::timeout(PATIENCE, by_lease).await, Ok(Ok(_)));
    // What the server does: it may wait or be refused, but not answer with what was before.
    read_at(world, old.0, &old.1, PATIENCE).await;
    match runs {
        true => STALE,
        false if took_ms < 250 => "the lease ended early",
        false => "the others were too late",
    }
}

#[test]
fn a_leader_whose_lease_was_forgotten_answers_no_stale_read() {
    let tally = Arc::new(Tally::default());
    let mut ends = BTreeMap::<&str, u64>::new();
    for seed in 0..SEEDS {
        let mut runtime = SimRuntime::with_seed(seed);
        let world = World::new(seed, Arc::clone(&tally));
        let end = runtime.block_on(async {
            let way = SimRuntime::spawn({
                let world = Arc::clone(&world);
                async move { stale_lease(&world, seed).await }
            });
            let end = way.await.unwrap_or_else(|_| panic!("seed {seed} reads what is not so"));
            world.settle().await;
            world.check_end().await;
            world.shut_down().await;
            end
        });
        *ends.entry(end).or_default() += 1;
    }
    println!("{ends:?}");
    // If no way leads there any more, openraft remembers leases, and this shows nothing.
    let stale = ends.get(STALE).copied().unwrap_or_default();
    assert!(stale > SEEDS / 4, "the seeds lead to {ends:?}");
}
