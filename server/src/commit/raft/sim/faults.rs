//! What goes wrong in a simulation, and what operators do meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::super::types::NodeId;
use super::world::{NODES, World, member};

/// Things that happen in one simulation.
const STEPS: u64 = 14;

/// Does one thing after the other, and returns with some still broken.
pub(super) async fn run(world: Arc<World>) {
    SimRuntime::sleep(Duration::from_millis(600)).await;
    for _ in 0..STEPS {
        let pause = 30 + world.random.below(250);
        SimRuntime::sleep(Duration::from_millis(pause)).await;
        world.note_leaders();
        let id = 1 + world.random.below(NODES);
        match world.random.below(16) {
            0 | 1 => isolate(&world, id),
            2 => one_way(&world, id),
            3 => split(&world),
            4 | 5 => world.heal(),
            6 => world.crash(id).await,
            7 => {
                if let Some((leader, _)) = world.leader() {
                    world.crash(leader).await;
                }
            }
            8 | 9 => {
                for id in 1..=NODES {
                    if world.raft(id).is_none() {
                        world.start(id).await;
                    }
                }
            }
            10 => {
                if let Some(raft) = world.raft(id) {
                    let _ = raft.trigger().snapshot().await;
                }
            }
            11 => change_members(&world),
            12 => transfer(&world),
            13 | 14 => restart_others(&world).await,
            _ => {
                let hours = world.random.below(5) as i64 - 2;
                world.set_clock(id, hours * 3_600_000);
            }
        }
    }
}

fn isolate(world: &World, id: NodeId) {
    world.tally.partitions.fetch_add(1, Relaxed);
    for other in (1..=NODES).filter(|other| *other != id) {
        world.cut(id, other);
        world.cut(other, id);
    }
}

/// The leader is cut off, and all others start anew: they have forgotten when they last heard of
/// it, and elect another at once, while it may believe that it leads. See also `directed`.
async fn restart_others(world: &Arc<World>) {
    let Some((leader, _)) = world.leader() else { return };
    isolate(world, leader);
    for id in (1..=NODES).filter(|id| *id != leader) {
        world.crash(id).await;
        world.start(id).await;
    }
}

fn one_way(world: &World, id: NodeId) {
    world.tally.partitions.fetch_add(1, Relaxed);
    for other in (1..=NODES).filter(|other| *other != id) {
        world.cut(id, other);
    }
}

/// Two halves; one node may see both.
fn split(world: &World) {
    world.tally.partitions.fetch_add(1, Relaxed);
    let bridge = world.random.below(NODES + 1);
    let side = |id: NodeId| id % 2;
    for from in 1..=NODES {
        for to in 1..=NODES {
            if side(from) != side(to) && from != bridge && to != bridge {
                world.cut(from, to);
            }
        }
    }
}

/// Asks the leader for other voters: three to five of all nodes.
fn change_members(world: &Arc<World>) {
    let Some((_, raft)) = world.leader() else { return };
    let left_out: BTreeSet<NodeId> =
        (0..world.random.below(3)).map(|_| 1 + world.random.below(NODES)).collect();
    let wanted: BTreeSet<NodeId> = (1..=NODES).filter(|id| !left_out.contains(id)).collect();
    let world = Arc::clone(world);
    drop(SimRuntime::spawn(async move {
        let change = async {
            for id in &wanted {
                let _ = raft.add_learner(*id, member(*id), false).await;
            }
            // Who leaves goes for good: a member that votes no more must not come back as one.
            raft.change_membership(wanted, true).await
        };
        if let Ok(Ok(_)) = SimRuntime::timeout(Duration::from_secs(3), change).await {
            world.tally.changes.fetch_add(1, Relaxed);
        }
    }));
}

fn transfer(world: &World) {
    let Some((_, raft)) = world.leader() else { return };
    let to = 1 + world.random.below(NODES);
    world.tally.transfers.fetch_add(1, Relaxed);
    drop(SimRuntime::spawn(async move {
        let _ = raft.trigger().transfer_leader(to).await;
    }));
}
