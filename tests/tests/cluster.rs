//! Three real processes: nothing acknowledged is lost, whoever is killed; bad input is refused.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::cluster::{Cluster, Node};
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::wire::{Protocol, Reply};

/// Runs a check unless there is no server to check.
fn with_server(check: impl FnOnce()) {
    if is_available(Kind::Ours) {
        check();
    }
}

/// Sends a command until it is answered without an error about the cluster; the reply.
fn until_served(node: &Node, line: &str) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = node.client();
        client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
        if let Received::Reply(reply) = client.receive(Duration::from_secs(8))
            && !reply.is_error("CLUSTERDOWN")
            && !reply.is_error("UNKNOWN")
            && !reply.is_error("LOADING")
        {
            return reply;
        }
        assert!(Instant::now() < deadline, "{line} is not served");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_node_serves_every_kind_of_command() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let mut clients: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
        for place in 0..3 {
            let (one, other) = (place, (place + 1) % 3);
            let [a, b] = clients.get_disjoint_mut([one, other]).unwrap();
            assert!(a.line(&format!("SET k{place} v")).is_ok());
            assert_eq!(b.line(&format!("GET k{place}")).text(), "v");
            a.line("SELECT 3");
            assert_eq!(a.line(&format!("INCR n{place}")).int(), 1);
            b.line("SELECT 3");
            assert_eq!(b.line(&format!("INCR n{place}")).int(), 2);
            a.line("SELECT 0");
            b.line("SELECT 0");
            // WATCH sees what came by another node.
            a.line(&format!("WATCH k{place}"));
            b.line(&format!("SET k{place} w"));
            a.line("MULTI");
            assert_eq!(a.line("INCR never").text(), "QUEUED");
            assert!(a.line("EXEC").is_nil());
            a.line("MULTI");
            a.line(&format!("APPEND k{place} x"));
            a.line(&format!("STRLEN k{place}"));
            let done = a.line("EXEC");
            assert_eq!(done.elements().iter().map(Reply::int).collect::<Vec<_>>(), [2, 2]);
            // Scripts, by text and by name.
            let body = "return redis.call('incrby', KEYS[1], ARGV[1])";
            assert_eq!(a.cmd(&["EVAL", body, "1", "sum", "5"]).int(), 5 * place as i64 * 2 + 5);
            let sha = b.cmd(&["SCRIPT", "LOAD", body]).text();
            assert_eq!(a.cmd(&["EVALSHA", &sha, "1", "sum", "5"]).int(), 5 * place as i64 * 2 + 10);
            // Who waits at one node is served by another.
            a.send(&["BLPOP", "queue", "10"]).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            b.line("RPUSH queue job");
            assert_eq!(a.read().elements()[1].text(), "job");
            // Messages reach subscribers of other nodes.
            let mut listener = cluster.nodes[one].client();
            listener.line("SUBSCRIBE news");
            let mut speaker = cluster.nodes[other].client();
            assert_eq!(speaker.line("PUBLISH news hello").int(), 1);
            assert_eq!(listener.read().elements()[2].text(), "hello");
            // Expiry, and WAIT.
            a.line(&format!("SET t{place} v PX 60"));
            assert_eq!(a.line("WAIT 2 2000").int(), 2);
            std::thread::sleep(Duration::from_millis(120));
            assert!(b.line(&format!("GET t{place}")).is_nil());
        }
        cluster.assert_alike();
    });
}

#[test]
fn cluster_clients_find_the_leader() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let leader = cluster.leader();
        let follower = (leader + 1) % 3;
        cluster.client().line("SET foo bar");
        cluster.settle();
        let mut client = cluster.nodes[follower].client();
        let slots = client.line("CLUSTER SLOTS");
        let range = slots.elements()[0].elements();
        assert_eq!((range[0].int(), range[1].int()), (0, 16_383));
        assert_eq!(range[2].elements()[1].int(), i64::from(cluster.nodes[leader].port));
        assert_eq!(range.len(), 5);
        let moved = client.line("SET foo x").text();
        assert_eq!(moved, format!("-MOVED 12182 127.0.0.1:{}", cluster.nodes[leader].port));
        assert_eq!(client.line("CLUSTER KEYSLOT foo").int(), 12_182);
        assert_eq!(client.line("CLUSTER COUNTKEYSINSLOT 12182").int(), 1);
        assert_eq!(client.line("CLUSTER GETKEYSINSLOT 12182 5").elements()[0].text(), "foo");
        assert!(client.line("CLUSTER INFO").text().contains("cluster_state:ok"));
        let id = client.line("CLUSTER MYID").text();
        let nodes = client.line("CLUSTER NODES").text();
        assert!(nodes.lines().any(|line| line.starts_with(&id) && line.contains("myself,slave")));
        assert_eq!(nodes.lines().filter(|line| line.contains("master - ")).count(), 1);
        client.hello(Protocol::Resp3);
        assert!(matches!(client.line("CLUSTER SHARDS"), Reply::Array(shards) if shards.len() == 1));
        // READONLY reads here, and sends writes away.
        let mut reader = cluster.nodes[follower].client();
        assert!(reader.line("READONLY").is_ok());
        assert_eq!(reader.line("GET foo").text(), "bar");
        assert!(reader.line("SET foo x").is_error("MOVED"));
        assert!(reader.line("READWRITE").is_ok());
    });
}

/// Writes numbered keys through `node`'s cluster until told to stop; those that were acknowledged.
fn write_until(addrs: &[std::net::SocketAddr], stop: &AtomicBool, tag: &str) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let mut turn = 0;
    while !stop.load(Relaxed) {
        turn += 1;
        let Ok(mut client) = Client::connect(addrs[turn % addrs.len()]) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        while !stop.load(Relaxed) {
            number += 1;
            let key = format!("{tag}:{number}");
            if client.send(&["SET", &key, "v"]).is_err() {
                break;
            }
            match client.receive(Duration::from_secs(8)) {
                Received::Reply(reply) if reply.is_ok() => acknowledged.push(number),
                Received::Reply(reply) => {
                    let known = ["CLUSTERDOWN", "UNKNOWN", "LOADING"];
                    assert!(known.iter().any(|word| reply.is_error(word)), "{reply:?}");
                    break;
                }
                Received::Nothing | Received::Closed => break,
            }
        }
    }
    acknowledged
}

#[test]
fn killed_leaders_lose_nothing_that_was_acknowledged() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let addrs: Vec<_> = cluster.nodes.iter().map(Node::addr).collect();
        let stop = AtomicBool::new(false);
        let mut acknowledged = BTreeMap::new();
        std::thread::scope(|scope| {
            let writers: Vec<_> = ["a", "b", "c", "d"]
                .map(|tag| (tag, scope.spawn(|| write_until(&addrs, &stop, tag))))
                .into();
            for _ in 0..4 {
                std::thread::sleep(Duration::from_millis(400));
                let leader = cluster.leader();
                cluster.nodes[leader].kill();
                let began = Instant::now();
                let other = (leader + 1) % 3;
                assert!(until_served(&cluster.nodes[other], "SET back 1").is_ok());
                println!("a new leader after {:?}", began.elapsed());
                cluster.nodes[leader].start();
            }
            stop.store(true, Relaxed);
            for (tag, writer) in writers {
                acknowledged.insert(tag, writer.join().unwrap());
            }
        });
        let mut client = cluster.client();
        for (tag, numbers) in &acknowledged {
            assert!(numbers.len() > 10, "{tag} wrote {}", numbers.len());
            for number in numbers {
                let reply = client.line(&format!("EXISTS {tag}:{number}"));
                assert_eq!(reply.int(), 1, "{tag}:{number} was acknowledged and is gone");
            }
        }
        cluster.assert_alike();
    });
}

#[test]
fn a_cluster_that_was_stopped_is_as_it_was() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let mut client = cluster.client();
        client.line("SET s v");
        client.line("RPUSH l a b c");
        client.line("HSET h f 1");
        client.line("ZADD z 1.5 m");
        client.line("SADD set x y z");
        client.line("SET t v EX 1000");
        let sha = client.cmd(&["SCRIPT", "LOAD", "return 'loaded'"]).text();
        for node in &mut cluster.nodes {
            node.kill();
        }
        for node in &mut cluster.nodes {
            node.spawn();
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut client = cluster.client();
        assert_eq!(client.line("GET s").text(), "v");
        assert_eq!(client.line("LRANGE l 0 -1").elements().len(), 3);
        assert_eq!(client.line("HGET h f").text(), "1");
        assert_eq!(client.line("ZSCORE z m").text(), "1.5");
        assert_eq!(client.line("SCARD set").int(), 3);
        assert!((900..=1000).contains(&client.line("TTL t").int()));
        assert_eq!(client.cmd(&["EVALSHA", &sha, "0"]).text(), "loaded");
        cluster.assert_alike();
        // A snapshot, and on from it.
        for node in &mut cluster.nodes {
            assert_eq!(node.stop(), Some(0));
        }
        for node in &mut cluster.nodes {
            node.spawn();
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(cluster.client().line("GET s").text(), "v");
    });
}

#[test]
fn members_that_lag_and_new_ones_get_a_snapshot() {
    with_server(|| {
        let small = ["--raft-snapshot-log-size", "65536"];
        let mut cluster = Cluster::new(3, &small);
        let leader = cluster.leader();
        let lagging = (leader + 1) % 3;
        cluster.nodes[lagging].kill();
        let mut client = cluster.client();
        let value = "x".repeat(200);
        // More entries than are kept behind a snapshot.
        for number in 0..3_000 {
            assert!(client.cmd(&["SET", &format!("key:{}", number % 500), &value]).is_ok());
        }
        client.line("SADD set a b c d e f g");
        client.line("SPOP set 2");
        let deadline = Instant::now() + Duration::from_secs(20);
        while cluster.nodes[leader].number("raft_snapshot_index") < 1_500 {
            assert!(Instant::now() < deadline, "no snapshot was made");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster.nodes[lagging].start();
        cluster.assert_alike();
        let place = cluster.add(&small);
        cluster.assert_alike();
        assert!(cluster.nodes[place].number("raft_snapshot_index") > 0, "it came by the log");
        // It stands on its own: a restart keeps it all.
        cluster.nodes[place].kill();
        cluster.nodes[place].start();
        cluster.client().line("SPOP set 2");
        cluster.assert_alike();
    });
}

#[test]
fn members_leave_and_leadership_moves() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let leader = cluster.leader();
        let follower = (leader + 1) % 3;
        let id = cluster.nodes[follower].number("raft_node_id");
        let mut client = cluster.nodes[leader].client();
        assert!(client.line("RAFT.NODE REMOVE 77").is_error("ERR there is no node 77"));
        assert!(client.line("RAFT.TRANSFER_LEADER 77").is_error("ERR node 77 is no voter"));
        // Asked at a follower, the leader does it.
        let mut other = cluster.nodes[(leader + 2) % 3].client();
        let moved = other.cmd(&["RAFT.TRANSFER_LEADER", &id.to_string()]);
        assert_eq!(moved.text(), format!("OK {id}"));
        assert_eq!(cluster.leader(), follower);
        assert!(client.line("SET after transfer").is_ok(), "the old leader passes on");
        // SIGTERM hands over first.
        let began = Instant::now();
        assert_eq!(cluster.nodes[follower].stop(), Some(0));
        assert!(until_served(&cluster.nodes[leader], "SET after term").is_ok());
        println!("served again {:?} after SIGTERM", began.elapsed());
        assert!(cluster.nodes[follower].log().contains("handed leadership over"));
        cluster.nodes[follower].start();
        // Down to one, who stays.
        for _ in 0..2 {
            let leader = cluster.leader();
            let own = cluster.nodes[leader].number("raft_node_id");
            let ids: Vec<u64> =
                cluster.nodes.iter().map(|node| node.number("raft_node_id")).collect();
            let gone = ids.iter().position(|id| *id != own).unwrap();
            let reply = cluster.client().cmd(&["RAFT.NODE", "REMOVE", &ids[gone].to_string()]);
            assert!(reply.is_ok(), "{reply:?}");
            cluster.nodes.remove(gone);
        }
        let own = cluster.nodes[0].number("raft_node_id");
        let mut client = cluster.client();
        assert!(
            client.cmd(&["RAFT.NODE", "REMOVE", &own.to_string()]).is_error("ERR the last voter")
        );
        assert_eq!(client.line("GET after").text(), "term");
        // A new one gets a number that nobody had.
        let place = cluster.add(&[]);
        assert_eq!(cluster.nodes[place].number("raft_node_id"), 4);
    });
}

#[test]
fn joining_what_cannot_be_joined_says_why() {
    with_server(|| {
        let mut cluster = Cluster::new(2, &[]);
        let mut node = Node::new(&[]);
        let mut client = node.client();
        let own = node.addr().to_string();
        for (target, told) in [
            ("127.0.0.1:1", "cannot be asked where the leader is"),
            (own.as_str(), "a node cannot join itself"),
            ("nonsense", "not an address"),
        ] {
            let reply = client.cmd(&["RAFT.CLUSTER", "JOIN", target]).text();
            assert!(reply.contains(told), "{target}: {reply}");
        }
        assert!(client.line("SET k v").is_error("CLUSTERDOWN"));
        assert!(cluster.nodes[1].client().line("RAFT.CLUSTER INIT").is_error("ERR"));
        let twice = cluster.nodes[1].client().cmd(&[
            "RAFT.CLUSTER",
            "JOIN",
            &cluster.nodes[0].addr().to_string(),
        ]);
        assert!(twice.text().contains("belongs to a cluster already"), "{twice:?}");
        // Another secret.
        node.stop();
        node.set_args(&["--raft-secret", "another"]);
        node.start();
        let reply = cluster.join(&node).text();
        assert!(reply.contains("does not know this node's raft-secret"), "{reply}");
        // Another number of databases.
        node.stop();
        node.set_args(&["--databases", "5"]);
        node.start();
        let reply = cluster.join(&node).text();
        assert!(reply.contains("16 databases and this node 5"), "{reply}");
        node.stop();
        node.set_args(&[]);
        node.start();
        assert!(cluster.join(&node).text().starts_with("OK"));
    });
}

#[test]
fn without_a_majority_nothing_is_promised() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let leader = cluster.leader();
        let mut client = cluster.nodes[leader].client();
        assert!(client.line("SET k before").is_ok());
        for place in [(leader + 1) % 3, (leader + 2) % 3] {
            cluster.nodes[place].kill();
        }
        let began = Instant::now();
        let first = client.line("SET k during");
        assert!(first.is_error("UNKNOWN") || first.is_error("CLUSTERDOWN"), "{first:?}");
        assert!(began.elapsed() < Duration::from_secs(8));
        let began = Instant::now();
        let second = client.line("SET k later");
        assert!(second.is_error("CLUSTERDOWN"), "{second:?}");
        assert!(client.line("GET k").is_error("CLUSTERDOWN"));
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(client.line("CLUSTER INFO").text().contains("cluster_state:fail"));
        for place in [(leader + 1) % 3, (leader + 2) % 3] {
            cluster.nodes[place].start();
        }
        let value = until_served(&cluster.nodes[leader], "GET k").text();
        assert!(value == "before" || value == "during", "{value}");
        cluster.assert_alike();
    });
}

#[test]
fn a_node_that_forgot_does_not_come_back_under_its_number() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let leader = cluster.leader();
        let node = &mut cluster.nodes[(leader + 1) % 3];
        node.kill();
        let raft = node.dir().join("raft");
        std::fs::rename(raft.join("log"), raft.join("log.away")).unwrap();
        node.spawn();
        assert_eq!(node.wait_exit(), Some(1));
        assert!(node.log().contains("must not come back under its old number"), "{}", node.log());
        std::fs::remove_dir_all(raft.join("log")).unwrap();
        std::fs::rename(raft.join("log.away"), raft.join("log")).unwrap();
        std::fs::rename(raft.join("identity"), raft.join("identity.away")).unwrap();
        node.spawn();
        assert_eq!(node.wait_exit(), Some(1));
        assert!(node.log().contains("no identity beside it"), "{}", node.log());
        std::fs::rename(raft.join("identity.away"), raft.join("identity")).unwrap();
        node.start();
        cluster.assert_alike();
    });
}

#[test]
fn a_journaled_node_becomes_the_first_of_a_cluster() {
    with_server(|| {
        let mut first = Node::new(&["--raft", "no", "--appendonly", "yes"]);
        let mut client = first.client();
        for number in 0..500 {
            client.line(&format!("SET old:{number} {number}"));
        }
        client.line("ZADD z 1 a 2 b");
        assert_eq!(first.stop(), Some(0));
        first.set_args(&["--appendonly", "yes"]);
        first.start();
        assert!(first.client().line("SET k v").is_error("CLUSTERDOWN"));
        let reply = first.client().line("RAFT.CLUSTER INIT");
        assert!(reply.text().starts_with("OK"), "{reply:?}");
        let mut cluster = Cluster { nodes: vec![first] };
        assert!(cluster.client().line("SET new 1").is_ok());
        assert!(cluster.client().line("BGSAVE").is_error("ERR the Raft log"));
        // Others get what was there before, and it is there after a restart.
        cluster.add(&[]);
        cluster.add(&[]);
        cluster.assert_alike();
        for node in &mut cluster.nodes {
            node.kill();
        }
        for node in &mut cluster.nodes {
            node.spawn();
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut client = cluster.client();
        assert_eq!(client.line("GET old:499").text(), "499");
        assert_eq!(client.line("ZCARD z").int(), 2);
        assert_eq!(client.line("DBSIZE").int(), 502);
        cluster.assert_alike();
        // A node that holds keys does not join and lose them.
        let mut other = Node::new(&["--raft", "no", "--appendonly", "yes"]);
        other.client().line("SET mine 1");
        other.stop();
        other.set_args(&["--appendonly", "yes"]);
        other.start();
        let reply = cluster.join(&other);
        assert!(reply.text().contains("this node holds keys"), "{reply:?}");
    });
}

#[test]
fn a_tagged_command_runs_once() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &["--raft-snapshot-log-size", "65536"]);
        let mut client = cluster.client();
        assert_eq!(client.line("RAFT.ONCE me 1 INCR n").int(), 1);
        assert_eq!(client.line("RAFT.ONCE me 1 INCR n").int(), 1);
        assert_eq!(client.line("RAFT.ONCE other 1 INCR n").int(), 2);
        assert_eq!(client.line("RAFT.ONCE me 2 INCR n").int(), 3);
        assert!(client.line("RAFT.ONCE me 1 INCR n").is_error("ERR this client has sent number 2"));
        assert!(client.line("RAFT.ONCE me x INCR n").is_error("ERR value is not an integer"));
        assert!(client.line("RAFT.ONCE me 3 NOSUCH n").is_error("ERR unknown command"));
        assert!(client.line("RAFT.ONCE me 3 BLPOP l 0").is_error("ERR only commands on keys"));
        assert!(client.line("RAFT.ONCE me 3 LPUSH n x").is_error("WRONGTYPE"));
        assert!(client.line("RAFT.ONCE me 3 SET n 9").is_error("WRONGTYPE"), "the first reply");
        assert_eq!(client.line("GET n").text(), "3");
        // Across a new leader, and a snapshot.
        let value = "x".repeat(300);
        for number in 0..1_500 {
            client.cmd(&["SET", &format!("key:{}", number % 50), &value]);
        }
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        let other = (leader + 1) % 3;
        assert_eq!(until_served(&cluster.nodes[other], "RAFT.ONCE other 1 INCR n").int(), 2);
        for node in &mut cluster.nodes {
            node.kill();
        }
        for node in &mut cluster.nodes {
            node.spawn();
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut client = cluster.client();
        assert!(cluster.nodes[other].number("raft_snapshot_index") > 0, "no snapshot was made");
        assert_eq!(client.line("RAFT.ONCE other 1 INCR n").int(), 2);
        assert_eq!(client.line("GET n").text(), "3");
        cluster.assert_alike();
    });
}
