//! What a cluster does not take: more than a record holds, and anything without a majority.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received, encode};
use holdfast_tests::cluster::Cluster;
use holdfast_tests::server::{Kind, is_available};

/// Clients whose writes are in flight when the majority goes.
const CLIENTS: usize = 8;
/// A client is answered within this, whatever happened.
const PATIENCE: Duration = Duration::from_secs(8);

/// Runs a check unless there is no server to check.
fn with_server(check: impl FnOnce()) {
    if is_available(Kind::Ours) {
        check();
    }
}

#[test]
fn a_write_larger_than_a_record_is_refused() {
    with_server(|| {
        let mut cluster = Cluster::new(1, &[]);
        let mut client = cluster.client();
        let value = vec![b'x'; 65 << 20];
        let reply = client.cmd(&[b"SET".as_slice(), b"k", &value]);
        assert!(reply.is_error("ERR the command is larger than a record"), "{reply:?}");
        assert!(client.line("GET k").is_nil());
        // A transaction is one record; a pipeline may be several.
        let value = &value[..30 << 20];
        client.line("MULTI");
        for key in ["a", "b", "c"] {
            assert_eq!(client.cmd(&[b"SET", key.as_bytes(), value]).text(), "QUEUED");
        }
        let reply = client.line("EXEC");
        let told =
            "EXECABORT Transaction discarded because of: the command is larger than a record";
        assert!(reply.is_error(told), "{reply:?}");
        assert_eq!(client.line("DBSIZE").int(), 0);
        for key in ["a", "b", "c"] {
            client.send(&[b"SET", key.as_bytes(), value]).unwrap();
        }
        for _ in 0..3 {
            assert!(client.read().is_ok());
        }
        assert!(client.line("SET k v").is_ok());
        assert_eq!(client.line("DBSIZE").int(), 4);
    });
}

#[test]
fn a_pipeline_longer_than_one_read_is_answered_whole() {
    with_server(|| {
        let mut cluster = Cluster::new(2, &[]);
        cluster.settle();
        for node in &cluster.nodes {
            for (count, len) in [(2, 20_000), (3, 300_000), (100, 1000), (5000, 10)] {
                let value = vec![b'x'; len];
                let set = |n| encode(&[b"SET".as_slice(), format!("k:{n}").as_bytes(), &value]);
                let mut client = node.client();
                client.send_raw(&(0..count).flat_map(set).collect::<Vec<u8>>()).unwrap();
                for n in 0..count {
                    let reply = client.receive(PATIENCE);
                    let ok = matches!(&reply, Received::Reply(reply) if reply.is_ok());
                    assert!(ok, "reply {n} of {count} of {len} bytes each: {reply:?}");
                }
            }
        }
        cluster.assert_alike();
    });
}

/// Each node has its own idea of how full its memory is; the leader's counts, and what it refuses
/// while others make room changes nobody.
#[test]
fn what_memory_refuses_changes_no_replica() {
    const ROOM: u64 = 8 << 20;
    const PIPELINE: usize = 8;
    with_server(|| {
        let mut cluster = Cluster::new(2, &[]);
        let used: u64 = cluster.client().info("memory", "used_memory").parse().unwrap();
        let full = (used + ROOM).to_string();
        assert!(cluster.client().cmd(&["CONFIG", "SET", "maxmemory", &full]).is_ok());
        let mut clients: Vec<Client> = (0..6).map(|_| cluster.client()).collect();
        let began = Instant::now();
        let write = |(nth, client): (usize, &mut Client)| {
            let value = "x".repeat(20_000);
            let (mut refused, mut done, mut next) = (0, 0, nth);
            while began.elapsed() < Duration::from_secs(3) {
                let mut key = || {
                    next = (next * 7 + 11) % 1999;
                    format!("{nth}:{}", next % 200)
                };
                for _ in 0..PIPELINE {
                    client.send(&["APPEND", &key(), &value]).unwrap();
                }
                client.send(&["DEL", &key(), &key(), &key()]).unwrap();
                for _ in 0..=PIPELINE {
                    let reply = client.read();
                    refused += usize::from(reply.is_error("OOM"));
                    done += usize::from(!reply.is_any_error());
                }
            }
            (refused, done)
        };
        let (refused, done) = std::thread::scope(|scope| {
            let start = |writer| scope.spawn(|| write(writer));
            let writers: Vec<_> = clients.iter_mut().enumerate().map(start).collect();
            let counts = writers.into_iter().map(|writer| writer.join().unwrap());
            counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
        });
        println!("{refused} refused, {done} done");
        assert!(refused > 100 && done > 100, "{refused} refused, {done} done");
        cluster.assert_alike();
    });
}

/// Keys that were written, by what was answered.
#[derive(Debug, Default)]
struct Told {
    done: BTreeSet<String>,
    refused: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Writes one key after the other, until refusals say that nothing more is taken.
fn write_until_refused(mut client: Client, number: usize, told: &Mutex<Told>) {
    for turn in 0.. {
        let key = format!("key:{number}:{turn}");
        client.send(&["SET", &key, "v"]).unwrap();
        let began = Instant::now();
        let Received::Reply(reply) = client.receive(PATIENCE) else {
            panic!("no answer after {:?}", began.elapsed());
        };
        let mut told = told.lock().unwrap();
        if reply.is_ok() {
            told.done.insert(key);
        } else if reply.is_error("UNKNOWN") {
            told.unknown.insert(key);
        } else {
            assert!(reply.is_error("CLUSTERDOWN"), "{reply:?}");
            told.refused.insert(key);
            return;
        }
    }
}

#[test]
fn what_was_in_flight_when_the_majority_went_is_told_honestly() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let leader = cluster.leader();
        let told = Mutex::new(Told::default());
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (client, told) = (cluster.nodes[leader].client(), &told);
                scope.spawn(move || write_until_refused(client, number, told));
            }
            std::thread::sleep(Duration::from_millis(300));
            for place in [(leader + 1) % 3, (leader + 2) % 3] {
                cluster.nodes[place].kill();
            }
        });
        let told = told.into_inner().unwrap();
        let (done, refused, unknown) = (told.done.len(), told.refused.len(), told.unknown.len());
        println!("{done} acknowledged, {refused} refused, {unknown} unknown");
        assert!(done > 0 && refused == CLIENTS, "{told:?}");
        for place in [(leader + 1) % 3, (leader + 2) % 3] {
            cluster.nodes[place].start();
        }
        let mut client = cluster.client();
        let mut is_there = |key: &String| client.line(&format!("EXISTS {key}")).int() == 1;
        for key in &told.done {
            assert!(is_there(key), "{key} was acknowledged, and is gone");
        }
        for key in &told.refused {
            assert!(!is_there(key), "{key} was refused, and is there");
        }
        let there = told.unknown.iter().filter(|key| is_there(key)).count();
        println!("of the unknown {there} were done");
        cluster.assert_alike();
    });
}
