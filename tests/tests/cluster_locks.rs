//! Native locks and functions in a cluster of real processes: queues, tokens, leases, new leaders.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::cluster::{Cluster, Node};
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::wire::Reply;

/// Runs a check unless there is no server to check.
fn with_server(check: impl FnOnce()) {
    if is_available(Kind::Ours) {
        check();
    }
}

/// The token of a grant.
fn token(reply: &Reply) -> i64 {
    match reply {
        Reply::Array(items) if items.len() == 2 => items[0].int(),
        other => panic!("no grant: {other:?}"),
    }
}

fn waiting(cluster: &mut Cluster) -> u64 {
    let text = cluster.client().line("INFO locks").text();
    let line = text.lines().find_map(|line| line.strip_prefix("locks_waiting:"));
    line.unwrap().parse().unwrap()
}

/// A client of any node that stands in a lock's queue as the last of `place`.
fn waiter(cluster: &mut Cluster, line: &str, place: u64) -> Client {
    let mut client = cluster.nodes[place as usize % cluster.nodes.len()].client();
    client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while waiting(cluster) != place {
        assert!(Instant::now() < deadline, "{line} does not wait");
        std::thread::sleep(Duration::from_millis(5));
    }
    client
}

/// How many stand in a lock's queue, whichever node is asked.
fn waiters_of(cluster: &mut Cluster, key: &str) -> usize {
    let Reply::Array(fields) = cluster.client().cmd(&["LOCK.INFO", key]) else { return 0 };
    let at = fields.iter().position(|field| field.text() == "waiters").unwrap();
    fields[at + 1].elements().len()
}

fn says_nothing(client: &mut Client) {
    assert!(matches!(client.receive(Duration::from_millis(150)), Received::Nothing));
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_order() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let mut holder = cluster.client();
        let first = token(&holder.line("LOCK.ACQUIRE k a 60000"));
        let mut next = waiter(&mut cluster, "LOCK.ACQUIRE k b 60000 BLOCK 20000", 1);
        let mut after = waiter(&mut cluster, "LOCK.ACQUIRE k c 60000 BLOCK 20000", 2);
        let mut oldest = waiter(&mut cluster, "LOCK.ACQUIRE k d 60000 BLOCK 20000 AGE 90000", 3);
        let info = holder.line("LOCK.INFO k");
        assert!(format!("{info:?}").contains("waiters"), "{info:?}");
        // The holder may ask again, whoever waits; nobody else gets past the queue.
        assert_eq!(token(&holder.line("LOCK.ACQUIRE k a 60000")), first);
        assert!(holder.line("LOCK.ACQUIRE k e 60000").is_nil());
        assert!(holder.line("LOCK.ACQUIRE k e 60000 BLOCK 60").is_nil());
        let began = Instant::now();
        assert_eq!(holder.line("LOCK.RELEASE k a").int(), 1);
        let second = token(&oldest.read());
        println!("handed over after {:?}", began.elapsed());
        assert!(second > first);
        // The next one's command follows a release into the log; one that comes to nothing opens nothing.
        assert_eq!(oldest.line("LOCK.RELEASE k d 1").int(), 0);
        says_nothing(&mut next);
        assert_eq!(oldest.line("LOCK.RELEASE k d").int(), 1);
        let third = token(&next.read());
        says_nothing(&mut after);
        // One that has gone is passed over, and what it was granted is given back.
        drop(after);
        let mut last = waiter(&mut cluster, "LOCK.ACQUIRE k f 400 BLOCK 20000", 1);
        assert_eq!(next.line("LOCK.RELEASE k b").int(), 1);
        let fourth = token(&last.read());
        assert!(fourth > third && third > second, "{second} {third} {fourth}");
        // Nobody touches the lock: time alone opens it.
        let mut patient = cluster.client();
        let began = Instant::now();
        assert!(token(&patient.line("LOCK.ACQUIRE k g 60000 BLOCK 20000")) > fourth);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(patient.line(&format!("LOCK.CHECK k {fourth}")).is_error("FENCED"));
        // A plain key is a lock of somebody else's making.
        assert!(patient.line("SET plain x NX PX 60000").is_ok());
        let mut other = waiter(&mut cluster, "LOCK.ACQUIRE plain a 60000 BLOCK 20000", 1);
        patient.line("DEL plain");
        assert!(token(&other.read()) > fourth);
        // Readers behind a writer; in MULTI an ACQUIRE only tries.
        patient.line("LOCK.ACQUIRE rw r1 60000 SHARED");
        let mut writer = waiter(&mut cluster, "LOCK.ACQUIRE rw w 60000 BLOCK 20000", 1);
        assert!(patient.line("LOCK.ACQUIRE rw r2 60000 SHARED").is_nil());
        patient.line("MULTI");
        patient.line("LOCK.ACQUIRE rw r3 60000 SHARED BLOCK 5000");
        assert!(patient.line("EXEC").elements()[0].is_nil());
        assert_eq!(patient.line("LOCK.RELEASE rw r1").int(), 1);
        token(&writer.read());
        cluster.assert_alike();
    });
}

#[test]
fn locks_tokens_and_leases_outlive_their_leader_and_a_restart() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &["--raft-snapshot-log-size", "65536"]);
        let mut holder = cluster.client();
        let first = token(&holder.line("LOCK.ACQUIRE k a 60000 DATA d"));
        let lease = holder.line("LEASE.GRANT 60000").int().to_string();
        holder.cmd(&["SET", "leased", "v", "LEASE", &lease]);
        let mut waiters: Vec<Client> = (1..=3)
            .map(|n| waiter(&mut cluster, &format!("LOCK.ACQUIRE k w{n} 60000 BLOCK 60000"), n))
            .collect();
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        // The one whose own node went hears so; the others wait on, in their order.
        let gone = if leader == 0 { 2 } else { leader - 1 };
        let mut lost = waiters.remove(gone);
        match lost.receive(Duration::from_secs(10)) {
            Received::Reply(reply) => assert!(reply.is_any_error(), "{reply:?}"),
            Received::Closed => {}
            Received::Nothing => panic!("a waiter of a dead node hears nothing"),
        }
        waiters.iter_mut().for_each(says_nothing);
        // It comes again with the age it has reached, which here is the greatest.
        let alive = (leader + 1) % 3;
        let mut holder = cluster.nodes[alive].client();
        let _ = cluster.leader();
        assert!(holder.line(&format!("LOCK.CHECK k {first}")).is_ok());
        let line = format!("LOCK.ACQUIRE k w{} 60000 BLOCK 20000 AGE 90000", gone + 1);
        let mut client = cluster.nodes[alive].client();
        client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
        waiters.insert(0, client);
        let deadline = Instant::now() + Duration::from_secs(10);
        while waiters_of(&mut cluster, "k") != 3 {
            assert!(Instant::now() < deadline, "they do not wait at the new leader");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(holder.line("LOCK.RENEW k a 60000").int(), first);
        assert_eq!(holder.line("LOCK.RELEASE k a").int(), 1);
        let mut before = first;
        let mut owners: Vec<usize> = (0..3).filter(|n| *n != gone).collect();
        owners.insert(0, gone);
        for (client, owner) in waiters.iter_mut().zip(owners) {
            let granted = token(&client.read());
            assert!(granted > before, "w{}: {granted} after {before}", owner + 1);
            before = granted;
            let owner = format!("w{}", owner + 1);
            assert_eq!(client.cmd(&["LOCK.RELEASE", "k", &owner]).int(), 1);
        }
        assert!(holder.line("LEASE.RENEW").is_any_error());
        assert_eq!(holder.cmd(&["LEASE.RENEW", &lease]).int(), 60_000);
        // By the log, and by a snapshot.
        cluster.nodes[leader].start();
        cluster.assert_alike();
        let code = "#!lua name=lib\nredis.register_function('f', function(keys, args) \
                    return redis.call('incr', keys[1]) end)";
        assert_eq!(holder.cmd(&["FUNCTION", "LOAD", code]).text(), "lib");
        let held = token(&holder.line("LOCK.ACQUIRE s r 60000 SHARED DATA x DELAY 5"));
        let value = "x".repeat(300);
        for number in 0..1_500 {
            assert!(holder.cmd(&["SET", &format!("key:{}", number % 50), &value]).is_ok());
        }
        let leader = cluster.leader();
        let deadline = Instant::now() + Duration::from_secs(20);
        while cluster.nodes[leader].number("raft_snapshot_index") == 0 {
            assert!(Instant::now() < deadline, "no snapshot was made");
            std::thread::sleep(Duration::from_millis(20));
        }
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
        assert!(client.line(&format!("LOCK.CHECK s {held}")).is_ok());
        assert_eq!(client.cmd(&["LEASE.RENEW", &lease]).int(), 60_000);
        assert_eq!(client.line("FCALL f 1 n").int(), 1);
        assert!(token(&client.line("LOCK.ACQUIRE t a 1000")) > held);
        assert_eq!(client.cmd(&["LEASE.REVOKE", &lease]).int(), 1);
        assert!(client.line("GET leased").is_nil());
        cluster.assert_alike();
    });
}

#[test]
fn functions_are_the_same_on_every_member() {
    with_server(|| {
        let mut cluster = Cluster::new(3, &[]);
        let mut clients: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
        let code = "#!lua name=lib\nredis.register_function('add', function(keys, args) \
                    return redis.call('rpush', keys[1], args[1], math.random(1000)) end)\n\
                    redis.register_function{function_name='size', flags={'no-writes'}, \
                    callback=function(keys) return redis.call('llen', keys[1]) end}";
        assert_eq!(clients[0].cmd(&["FUNCTION", "LOAD", code]).text(), "lib");
        for (place, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line("FCALL add 1 l x").int(), place as i64 * 2 + 2);
            assert_eq!(client.line("FCALL_RO size 1 l").int(), place as i64 * 2 + 2);
        }
        cluster.assert_alike();
        let dump = clients[1].line("FUNCTION DUMP");
        assert!(clients[2].line("FUNCTION FLUSH").is_ok());
        assert!(clients[0].line("FCALL add 1 l x").is_error("ERR Function not found"));
        let Reply::Bulk(dump) = dump else { panic!("{dump:?}") };
        assert!(clients[0].cmd(&[b"FUNCTION".as_slice(), b"RESTORE", &dump]).is_ok());
        assert_eq!(clients[2].line("FCALL_RO size 1 l").int(), 6);
        cluster.assert_alike();
    });
}

#[test]
fn nothing_is_evicted_in_a_cluster() {
    with_server(|| {
        let mut cluster = Cluster::new(2, &["--maxmemory-policy", "allkeys-lru"]);
        let mut client = cluster.client();
        let refused = client.line("CONFIG SET maxmemory 1000000000");
        assert!(refused.is_error("ERR CONFIG SET failed"), "{refused:?}");
        assert!(refused.text().contains("cannot be used with 'raft yes'"), "{refused:?}");
        assert!(client.line("CONFIG SET maxmemory 1 maxmemory-policy noeviction").is_ok());
        assert!(client.line("SET k v").is_error("OOM"));
        let script = "return redis.call('SET', 'k', 'v')";
        assert!(client.cmd(&["EVAL", script, "0"]).is_error("OOM"));
        assert_eq!(client.line("DEL k").int(), 0);
        assert!(client.line("CONFIG SET maxmemory 0").is_ok());
        assert!(client.line("SET k v").is_ok());
        cluster.assert_alike();
        let node = &mut cluster.nodes[1];
        node.kill();
        node.set_args(&["--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb"]);
        node.spawn();
        assert_eq!(node.wait_exit(), Some(1));
        assert!(node.log().contains("cannot be used with 'raft yes'"), "{}", node.log());
    });
}
