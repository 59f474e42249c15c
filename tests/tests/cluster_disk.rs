//! What disks do to a cluster of real processes: full ones, snapshots that break off or are cut,
//! and a node of another cluster at a member's address.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::cluster::{Cluster, Node};
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::skip_loudly;

/// Runs a check unless there is no server to check.
fn with_server(check: impl FnOnce()) {
    if is_available(Kind::Ours) {
        check();
    }
}

fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn snapshots(node: &Node, ending: &str) -> Vec<PathBuf> {
    let dir = fs::read_dir(node.dir().join("raft/snapshot"));
    let paths = dir.into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

/// Writes `count` keys of 20 kB, until the leader has a snapshot of them.
fn fill(cluster: &mut Cluster, count: usize) {
    let mut client = cluster.client();
    let value = "x".repeat(20_000);
    for number in 0..count {
        assert!(client.cmd(&["SET", &format!("key:{number}"), &value]).is_ok());
    }
    let leader = cluster.leader();
    until("a snapshot", || cluster.nodes[leader].number("raft_snapshot_index") > 0);
}

#[test]
fn a_snapshot_that_breaks_off_is_sent_again() {
    with_server(|| {
        let small = ["--raft-snapshot-log-size", "1mb"];
        let mut cluster = Cluster::new(3, &small);
        let leader = cluster.leader();
        let lagging = (leader + 1) % 3;
        cluster.nodes[lagging].kill();
        fill(&mut cluster, 2_000);
        // Whoever receives dies in the middle, and then whoever sends.
        let mut caught = 0;
        for _ in 0..6 {
            cluster.nodes[lagging].spawn();
            let deadline = Instant::now() + Duration::from_secs(10);
            let begun = |node: &Node| {
                let parts = snapshots(node, "part");
                parts.iter().any(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0))
            };
            while !begun(&cluster.nodes[lagging]) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
            }
            let received = cluster.nodes[lagging].number("raft_snapshot_index") > 0;
            cluster.nodes[lagging].kill();
            if received {
                break;
            }
            caught += 1;
        }
        println!("broken off {caught} times");
        cluster.nodes[lagging].spawn();
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        cluster.nodes[leader].start();
        cluster.assert_alike();
        // One that is being made is no leftover: it ends.
        until("no broken part is left", || snapshots(&cluster.nodes[lagging], "part").is_empty());
    });
}

#[test]
fn a_snapshot_that_was_cut_is_refused_at_the_start() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &["--raft-snapshot-log-size", "1mb"]);
        fill(&mut cluster, 300);
        let leader = cluster.leader();
        let place = (leader + 1) % 3;
        let node = &mut cluster.nodes[place];
        until("a snapshot", || !snapshots(node, "snap").is_empty());
        assert_eq!(node.stop(), Some(0));
        let path = snapshots(node, "snap").pop().unwrap();
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&whole[..whole.len() / 2], &flipped] {
            fs::write(&path, damaged).unwrap();
            node.spawn();
            assert_eq!(node.wait_exit(), Some(1));
            assert!(node.log().contains("is corrupt"), "{}", node.log());
            assert!(node.log().contains("RAFT.NODE REMOVE"), "{}", node.log());
        }
        fs::write(&path, &whole).unwrap();
        node.start();
        cluster.assert_alike();
    });
}

/// A small file system in memory; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(size: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("holdfast-full-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &path)?;
        Ok(Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn mount(args: &[&str], path: &Path) -> Result<(), String> {
    let done = Command::new("mount").args(args).arg(path).output();
    let done = done.map_err(|error| format!("mount: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
    }
}

#[test]
fn a_full_disk_stops_its_node_and_not_the_cluster() {
    with_server(|| {
        // Room for two files of the log.
        let disk = match Mount::new("150m") {
            Ok(disk) => disk,
            Err(why) => return skip_loudly(&format!("a full disk: {why}")),
        };
        let mut cluster = Cluster::new(2, &[]);
        let dir = disk.0.display().to_string();
        let full = cluster.add(&["--dir", &dir]);
        let id = cluster.nodes[full].number("raft_node_id").to_string();
        let moved = cluster.client().cmd(&["RAFT.TRANSFER_LEADER", &id]).text();
        assert!(moved.starts_with("OK"), "{moved}");
        assert_eq!(cluster.leader(), full);
        let value = "x".repeat(1 << 20);
        let mut acknowledged = Vec::new();
        let mut turn = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        while cluster.nodes[full].info("raft_error").is_some_and(|error| error.is_empty()) {
            assert!(Instant::now() < deadline, "the disk does not fill");
            turn += 1;
            let key = format!("key:{turn}");
            let mut client = cluster.nodes[full].client();
            match client.cmd(&["SET", &key, &value]) {
                reply if reply.is_ok() => acknowledged.push(key),
                reply => assert!(reply.is_any_error(), "{reply:?}"),
            }
        }
        println!("full after {turn} MB");
        assert!(
            cluster.nodes[full].log().contains("No space left"),
            "{}",
            cluster.nodes[full].log()
        );
        let told = cluster.nodes[full].client().line("SET k v");
        assert!(told.is_error("MISCONF Raft has stopped on this node"), "{told:?}");
        // The others go on, and nothing that was acknowledged is gone.
        cluster.nodes[full].kill();
        let mut client = cluster.client();
        assert!(client.line("SET k v").is_ok());
        for key in &acknowledged {
            assert_eq!(client.cmd(&["EXISTS", key]).int(), 1, "{key} is gone");
        }
        // With room again it comes back.
        mount(&["-o", "remount,size=2g"], &disk.0).unwrap();
        cluster.nodes[full].start();
        cluster.assert_alike();
        drop(cluster);
    });
}

#[test]
fn a_node_of_another_cluster_is_not_heard() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let leader = cluster.leader();
        let place = (leader + 1) % 3;
        cluster.nodes[place].kill();
        let mut stranger = Node::new(&[]);
        assert!(stranger.client().line("RAFT.CLUSTER INIT").text().starts_with("OK"));
        stranger.stop();
        (stranger.port, stranger.raft_port) =
            (cluster.nodes[place].port, cluster.nodes[place].raft_port);
        stranger.start();
        assert!(cluster.client().line("SET k v").is_ok());
        until("it says so", || stranger.log().contains("belongs to another cluster"));
        assert!(stranger.client().line("GET k").is_nil());
        assert!(stranger.client().line("SET other 1").is_ok());
        drop(stranger);
        cluster.nodes[place].start();
        cluster.assert_alike();
    });
}
