//! The power fails: what was acknowledged is there afterwards, whatever the disk had not synced.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use holdfast::commit::raft::transport::frame::Connection;
use holdfast::commit::raft::transport::handshake::{Hello, Purpose, Secret};
use holdfast::commit::raft::transport::message as msg;
use holdfast_tests::client::{Client, Received};
use holdfast_tests::cluster::{Cluster, Node, Place, SECRET};
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::{power, skip_loudly};

/// Writers at work when the power fails.
const WRITERS: usize = 4;
/// For so long.
const TIME: Duration = Duration::from_millis(900);

/// A place whose power can fail; `None`, said aloud, where that cannot be had.
fn place() -> Option<Place> {
    static WORKS: OnceLock<Result<(), String>> = OnceLock::new();
    if !is_available(Kind::Ours) {
        return None;
    }
    let works = WORKS.get_or_init(|| {
        let probe = std::env::temp_dir().join(format!("holdfast-power-{}", std::process::id()));
        let works = power::environment(&probe).map(drop);
        power::clean(&probe);
        works
    });
    if let Err(why) = works {
        skip_loudly(&format!("power failures: {why}"));
    }
    works.as_ref().ok().map(|()| Place { loses: true, ..Place::default() })
}

/// Writes numbered keys until the server is gone; those that were acknowledged.
fn write_until_it_dies(
    addr: SocketAddr,
    writer: usize,
    told: &Mutex<Vec<String>>,
    stop: &AtomicBool,
) {
    let Ok(mut client) = Client::connect(addr) else { return };
    for number in 0.. {
        let key = format!("key:{writer}:{number}");
        if stop.load(Relaxed) || client.send(&["SET", &key, "v"]).is_err() {
            return;
        }
        match client.receive(Duration::from_secs(8)) {
            Received::Reply(reply) if reply.is_ok() => told.lock().unwrap().push(key),
            Received::Reply(_) => {}
            Received::Nothing | Received::Closed => return,
        }
    }
}

/// Lets all `nodes` fail at once while clients write at `addr`; what was acknowledged.
fn fail_amid_writes(nodes: &mut [Node], addr: SocketAddr, slow: bool) -> Vec<String> {
    let (told, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    for node in &*nodes {
        power::slow(node.dir(), slow);
    }
    let mut undone = 0;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (told, stop) = (&told, &stop);
            scope.spawn(move || write_until_it_dies(addr, writer, told, stop));
        }
        std::thread::sleep(TIME);
        // All die before any writes are taken back: it is one moment.
        for node in &mut *nodes {
            node.kill();
        }
        stop.store(true, Relaxed);
        undone = nodes.iter_mut().map(Node::fail_power).sum();
    });
    for node in &*nodes {
        power::slow(node.dir(), false);
    }
    let told = told.into_inner().unwrap();
    println!("{} acknowledged, {undone} writes taken back, slow: {slow}", told.len());
    assert!(!told.is_empty(), "nothing was acknowledged");
    // With slow syncs the power fails amid one for sure: there is something to take back.
    assert!(undone > 0 || !slow, "nothing was under way");
    told
}

fn holds(client: &mut Client, keys: &[String]) {
    for key in keys {
        assert_eq!(
            client.line(&format!("EXISTS {key}")).int(),
            1,
            "{key} was acknowledged, and is gone"
        );
    }
}

#[test]
fn a_journal_synced_always_loses_nothing_acknowledged() {
    let Some(place) = place() else { return };
    let args = ["--raft", "no", "--appendonly", "yes", "--appendfsync", "always"];
    let mut node = Node::at(&place, &args);
    for slow in [false, true, false] {
        let addr = node.addr();
        let told = fail_amid_writes(std::slice::from_mut(&mut node), addr, slow);
        node.start();
        holds(&mut node.client(), &told);
    }
}

#[test]
fn a_cluster_whose_power_fails_everywhere_loses_nothing_acknowledged() {
    let Some(place) = place() else { return };
    let mut cluster = Cluster::at(&[place.clone(), place.clone(), place], &[]);
    for slow in [false, true] {
        let leader = cluster.leader();
        let addr = cluster.nodes[leader].addr();
        let told = fail_amid_writes(&mut cluster.nodes, addr, slow);
        for node in &mut cluster.nodes {
            node.spawn();
        }
        std::thread::sleep(Duration::from_millis(300));
        holds(&mut cluster.client(), &told);
        cluster.assert_alike();
    }
}

/// Asks `node`, as member `candidate`, to vote for it in `term`; whether it does.
async fn ask_for_vote(node: &Node, candidate: u64, term: u64) -> std::io::Result<bool> {
    let cluster = node.info("raft_cluster_id").unwrap_or_default();
    let hello = Hello {
        purpose: Purpose::Control,
        cluster: u64::from_str_radix(&cluster, 16).unwrap(),
        group: 0,
        from: candidate,
        to: node.number("raft_node_id"),
    };
    let addr = format!("127.0.0.1:{}", node.raft_port);
    let mut connection = Connection::open(&addr, &hello, &Secret::new(SECRET.as_bytes())).await?;
    // Term and candidate, not elected yet; then a last entry beyond anything that is there.
    let mut body = Vec::new();
    body.extend([term, candidate].iter().flat_map(|number| number.to_le_bytes()));
    body.extend([0, 1]);
    body.extend([term, candidate, 1 << 40].iter().flat_map(|number| number.to_le_bytes()));
    body.push(0);
    let (kind, answer) = connection.ask(msg::VOTE, |out| out.extend(body)).await?;
    assert_eq!(kind, msg::VOTED);
    // Behind the vote that the node now has.
    Ok(answer[17] == 1)
}

#[tokio::test]
async fn a_vote_that_was_given_is_not_given_again() {
    let Some(place) = place() else { return };
    let mut cluster = Cluster::at(&[place.clone(), place.clone(), place], &[]);
    let ids: Vec<u64> = cluster.nodes.iter().map(|node| node.number("raft_node_id")).collect();
    let term = cluster.nodes[0].number("raft_term") + 5;
    for place in [1, 2] {
        cluster.nodes[place].kill();
    }
    let voter = &mut cluster.nodes[0];
    power::slow(voter.dir(), true);
    // As long as it believes that somebody leads it votes for nobody. Of candidates of one term the
    // greater number counts for more in openraft, so that the other one is asked for first.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask_for_vote(voter, ids[2], term).await.unwrap_or(false) {
        assert!(Instant::now() < deadline, "it votes for nobody");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let undone = voter.fail_power();
    power::slow(voter.dir(), false);
    println!("{undone} writes taken back");
    voter.start();
    for _ in 0..20 {
        let again = ask_for_vote(voter, ids[1], term).await.unwrap();
        assert!(!again, "it has voted twice in term {term}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for place in [1, 2] {
        cluster.nodes[place].start();
    }
    assert!(cluster.client().line("SET k v").is_ok());
    cluster.assert_alike();
}
