//! Bad things that happen to a cluster, one at a time.

use std::time::Duration;

use super::Random;
use crate::cluster::Cluster;
use crate::netns::Net;
use crate::slow_disk::dawdle;

/// What can be done to this cluster.
pub(super) struct Faults {
    /// The links between its nodes, if they can be cut.
    pub(super) net: Option<Net>,
    /// Whether its disks can be told to dawdle.
    pub(super) dawdle: bool,
}

/// How links are cut.
const PARTITIONS: &[(&str, Cut)] = &[
    ("the leader alone", leader_alone),
    ("any node alone", node_alone),
    ("one way: the leader is not heard", leader_unheard),
    ("one way: any node is not heard", node_unheard),
    ("two halves", halves),
    ("two halves and a bridge", bridged),
];

type Cut = fn(&mut Cluster, &Net, &mut Random);

impl Faults {
    /// Does one bad thing, and takes it back unless it is that a node is dead; its name.
    pub(super) fn disturb(&self, cluster: &mut Cluster, random: &mut Random) -> &'static str {
        let count = cluster.nodes.len();
        if let Some(dead) = (0..count).find(|place| !cluster.nodes[*place].is_alive()) {
            cluster.nodes[dead].start();
            return "restart";
        }
        let place = below(random, count);
        match random.below(12) {
            0 => {
                cluster.nodes[place].kill();
                "kill -9 of any node"
            }
            1 => {
                let leader = cluster.leader();
                cluster.nodes[leader].kill();
                "kill -9 of the leader"
            }
            2 => {
                let leader = cluster.leader();
                pause(cluster, leader, random);
                "SIGSTOP of the leader"
            }
            3 => {
                pause(cluster, place, random);
                "SIGSTOP of any node"
            }
            4 => {
                cluster.nodes[place].stop();
                "SIGTERM"
            }
            5 if self.dawdle => {
                dawdle(cluster.nodes[place].dir(), 20 + random.below(400));
                sleep(random, 300, 1_500);
                dawdle(cluster.nodes[place].dir(), 0);
                "slow disk"
            }
            6 if self.dawdle => {
                let leader = cluster.leader();
                dawdle(cluster.nodes[leader].dir(), 20 + random.below(400));
                sleep(random, 300, 1_500);
                dawdle(cluster.nodes[leader].dir(), 0);
                "slow disk of the leader"
            }
            7..=10 if self.net.is_some() => self.partition(cluster, random),
            _ => {
                let _ = cluster.client().line("RAFT.TRANSFER_LEADER");
                "leadership moved"
            }
        }
    }
}

impl Faults {
    fn partition(&self, cluster: &mut Cluster, random: &mut Random) -> &'static str {
        let (name, cut) = PARTITIONS[below(random, PARTITIONS.len())];
        if let Some(net) = &self.net {
            cut(cluster, net, random);
            sleep(random, 300, 2_000);
            net.heal();
        }
        name
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

fn sleep(random: &mut Random, least_ms: u64, most_ms: u64) {
    std::thread::sleep(Duration::from_millis(least_ms + random.below(most_ms - least_ms)));
}

fn pause(cluster: &Cluster, place: usize, random: &mut Random) {
    cluster.nodes[place].signal("STOP");
    sleep(random, 100, 1_300);
    cluster.nodes[place].signal("CONT");
}

fn isolate(cluster: &Cluster, net: &Net, place: usize) {
    for other in (0..cluster.nodes.len()).filter(|other| *other != place) {
        net.cut(place, other);
        net.cut(other, place);
    }
}

fn silence(cluster: &Cluster, net: &Net, place: usize) {
    for other in (0..cluster.nodes.len()).filter(|other| *other != place) {
        net.cut(place, other);
    }
}

fn leader_alone(cluster: &mut Cluster, net: &Net, _: &mut Random) {
    let leader = cluster.leader();
    isolate(cluster, net, leader);
}

fn node_alone(cluster: &mut Cluster, net: &Net, random: &mut Random) {
    isolate(cluster, net, below(random, cluster.nodes.len()));
}

fn leader_unheard(cluster: &mut Cluster, net: &Net, _: &mut Random) {
    let leader = cluster.leader();
    silence(cluster, net, leader);
}

fn node_unheard(cluster: &mut Cluster, net: &Net, random: &mut Random) {
    silence(cluster, net, below(random, cluster.nodes.len()));
}

fn halves(cluster: &mut Cluster, net: &Net, random: &mut Random) {
    split(cluster, net, usize::MAX, random);
}

fn bridged(cluster: &mut Cluster, net: &Net, random: &mut Random) {
    let bridge = below(random, cluster.nodes.len());
    split(cluster, net, bridge, random);
}

/// Cuts what leads from one half to the other, but for what one node has to do with it.
fn split(cluster: &Cluster, net: &Net, bridge: usize, random: &mut Random) {
    let count = cluster.nodes.len();
    let (first, len) = (below(random, count), count.div_ceil(2));
    let is_here = |place: usize| (place + count - first) % count < len;
    for from in (0..count).filter(|from| *from != bridge) {
        for to in (0..count).filter(|to| *to != bridge && is_here(*to) != is_here(from)) {
            net.cut(from, to);
        }
    }
}
