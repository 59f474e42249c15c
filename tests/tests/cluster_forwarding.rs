//! Clients of nodes that do not lead: their sessions stay where they are, whichever node leads, and
//! whatever becomes of the leader.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::cluster::{Cluster, Node};
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::wire::Reply;

/// Far more than an election takes.
const SOON: Duration = Duration::from_secs(20);

/// Runs a check on a cluster of three unless there is no server to check.
fn with_three(check: impl FnOnce(&mut Cluster)) {
    if is_available(Kind::Ours) {
        let mut cluster = Cluster::new(3, &[]);
        cluster.settle();
        check(&mut cluster);
    }
}

/// The places of the nodes that follow.
fn followers(cluster: &mut Cluster) -> Vec<usize> {
    let leader = cluster.leader();
    (0..cluster.nodes.len()).filter(|place| *place != leader).collect()
}

fn send(client: &mut Client, line: &str) {
    client.send(&line.split(' ').collect::<Vec<_>>()).unwrap();
}

fn receive(client: &mut Client, what: &str) -> Reply {
    match client.receive(SOON) {
        Received::Reply(reply) => reply,
        Received::Closed => panic!("{what}: closed"),
        Received::Nothing => panic!("{what}: no reply"),
    }
}

/// Waits until INFO clients of a node says so many blocked clients.
fn until_blocked(node: &Node, count: usize) {
    let began = Instant::now();
    loop {
        let text = node.client().line("INFO clients").text();
        if text.contains(&format!("blocked_clients:{count}\r\n")) {
            return;
        }
        assert!(began.elapsed() < SOON, "{count} blocked clients: {text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many clients of other nodes stand in the leader's queues.
fn until_parked(cluster: &mut Cluster, count: u64) {
    let began = Instant::now();
    let leader = cluster.leader();
    while cluster.nodes[leader].number("raft_waiting_clients_of_members") != count {
        assert!(began.elapsed() < SOON, "{count} clients of other nodes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a node has logged something.
fn until_logged(node: &Node, text: &str) {
    let began = Instant::now();
    while !node.log().contains(text) {
        assert!(began.elapsed() < SOON, "'{text}' is not in the log:\n{}", node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tries a command until a leader takes it.
fn insist(client: &mut Client, line: &str) -> Reply {
    let began = Instant::now();
    loop {
        let reply = client.line(line);
        if !reply.is_error("CLUSTERDOWN") {
            return reply;
        }
        assert!(began.elapsed() < SOON, "{line}: {reply:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits that changed nothing go on at the next leader, as if nothing had been.
#[test]
fn waits_outlive_the_leader() {
    with_three(|cluster| {
        let leader = cluster.leader();
        let places = followers(cluster);
        assert!(cluster.client().line("XGROUP CREATE jobs g $ MKSTREAM").is_ok());
        let waits = [
            "BLPOP list 0",
            "BLMOVE from to LEFT RIGHT 0",
            "BZPOPMIN zset 0",
            "XREAD BLOCK 0 STREAMS stream $",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS jobs >",
        ];
        let mut waiters: Vec<Client> = Vec::new();
        for (number, line) in waits.iter().enumerate() {
            let mut client = cluster.nodes[places[number % 2]].client();
            send(&mut client, line);
            waiters.push(client);
        }
        let mut subscriber = cluster.nodes[places[0]].client();
        assert_eq!(subscriber.line("SUBSCRIBE news").elements()[1].text(), "news");
        until_blocked(&cluster.nodes[places[0]], 3);
        until_blocked(&cluster.nodes[places[1]], 2);
        until_parked(cluster, 4);
        // The group's reader has looked once more when it came into the queue.
        std::thread::sleep(Duration::from_millis(200));
        cluster.nodes[leader].kill();
        let mut pusher = cluster.nodes[places[1]].client();
        insist(&mut pusher, "SET there yes");
        for (waiter, line) in waiters.iter_mut().zip(waits) {
            match waiter.receive(Duration::from_millis(50)) {
                Received::Nothing => {}
                Received::Closed => panic!("{line}: closed"),
                Received::Reply(reply) => panic!("{line}: {reply:?}"),
            }
        }
        for line in [
            "RPUSH list a b",
            "RPUSH from c",
            "ZADD zset 1 d",
            "XADD stream * f e",
            "XADD jobs * f g",
        ] {
            assert!(!pusher.line(line).is_any_error(), "{line}");
        }
        for (waiter, line) in waiters.iter_mut().zip(waits) {
            let reply = receive(waiter, line);
            assert!(!reply.is_any_error(), "{line}: {reply:?}");
        }
        // Each was served once, and nothing was taken twice.
        assert_eq!(pusher.line("LRANGE list 0 -1").elements().len(), 1);
        assert_eq!(pusher.line("LRANGE to 0 -1").elements().len(), 1);
        assert_eq!(pusher.line("ZCARD zset").int(), 0);
        assert_eq!(pusher.line("XPENDING jobs g").elements()[0].int(), 1);
        assert_eq!(pusher.line("PUBLISH news hello").int(), 1);
        assert_eq!(receive(&mut subscriber, "a message").elements()[2].text(), "hello");
    });
}

/// Blocked clients of all nodes stand in one queue, in the order in which they came.
#[test]
fn waiters_of_all_nodes_are_served_in_order() {
    with_three(|cluster| {
        let mut waiters: Vec<Client> = Vec::new();
        let leader = cluster.leader();
        for number in 0..6 {
            let place = number % 3;
            let mut client = cluster.nodes[place].client();
            send(&mut client, "BLPOP queue 0");
            until_blocked(&cluster.nodes[place], number / 3 + 1);
            let of_others = (0..=number).filter(|number| number % 3 != leader).count();
            until_parked(cluster, of_others as u64);
            waiters.push(client);
        }
        let mut pusher = cluster.nodes[0].client();
        for number in 0..6 {
            assert_eq!(pusher.line(&format!("RPUSH queue {number}")).int(), 1);
        }
        for (number, waiter) in waiters.iter_mut().enumerate() {
            let reply = receive(waiter, "an element");
            assert_eq!(reply.elements()[1].text(), number.to_string());
        }
    });
}

/// A client is unblocked, times out, is paused and killed where it is connected.
#[test]
fn clients_are_known_by_their_own_node() {
    with_three(|cluster| {
        let place = followers(cluster)[0];
        let node = &cluster.nodes[place];
        let mut waiter = node.client();
        let id = waiter.line("CLIENT ID").int();
        waiter.line("CLIENT SETNAME worker");
        send(&mut waiter, "BLPOP nothing 0");
        until_blocked(node, 1);
        let mut other = node.client();
        let list = other.line("CLIENT LIST").text();
        let line = list.lines().find(|line| line.contains("name=worker")).unwrap();
        assert!(line.contains("flags=b") && line.contains("cmd=blpop"), "{line}");
        assert_eq!(other.line(&format!("CLIENT UNBLOCK {id}")).int(), 1);
        assert!(receive(&mut waiter, "unblocked").is_nil());
        send(&mut waiter, "BLPOP nothing 0");
        until_blocked(node, 1);
        assert_eq!(other.line(&format!("CLIENT UNBLOCK {id} ERROR")).int(), 1);
        assert!(receive(&mut waiter, "unblocked").is_error("UNBLOCKED"));
        let began = Instant::now();
        assert!(waiter.line("BLPOP nothing 0.2").is_nil());
        assert!(began.elapsed() >= Duration::from_millis(190));
        send(&mut waiter, "BLPOP nothing 0");
        until_blocked(node, 1);
        assert_eq!(other.line(&format!("CLIENT KILL ID {id}")).int(), 1);
        assert!(matches!(waiter.receive(SOON), Received::Closed));
        until_blocked(node, 0);
        // It left the leader's queue too: what comes is there for others.
        assert_eq!(other.line("RPUSH nothing x").int(), 1);
        assert_eq!(other.line("LLEN nothing").int(), 1);
        // MONITOR shows this node's clients.
        let mut monitor = node.client();
        assert!(monitor.line("MONITOR").is_ok());
        assert!(other.line("SET seen 1").is_ok());
        let shown = receive(&mut monitor, "a line").text();
        assert!(shown.contains("\"SET\" \"seen\" \"1\""), "{shown}");
        // A pause at the leader holds up the writes of all nodes, and no reads.
        let mut at_leader = cluster.client();
        assert!(at_leader.line("CLIENT PAUSE 60000 WRITE").is_ok());
        send(&mut other, "SET held 1");
        assert!(matches!(other.receive(Duration::from_millis(300)), Received::Nothing));
        assert!(cluster.nodes[place].client().line("GET held").is_nil());
        assert!(at_leader.line("CLIENT UNPAUSE").is_ok());
        assert!(receive(&mut other, "the write").is_ok());
    });
}

/// Transactions and watches belong to the session, and a change of leader does not end them.
#[test]
fn a_watch_outlives_the_leader() {
    with_three(|cluster| {
        let leader = cluster.leader();
        let places = followers(cluster);
        let mut kept = cluster.nodes[places[0]].client();
        let mut broken = cluster.nodes[places[1]].client();
        assert!(kept.line("SET a 1").is_ok());
        for client in [&mut kept, &mut broken] {
            assert!(client.line("SELECT 0").is_ok());
            assert!(client.line("WATCH a b").is_ok());
            assert_eq!(client.line("GET a").text(), "1");
            assert!(client.line("MULTI").is_ok());
            assert_eq!(client.line("INCR a").text(), "QUEUED");
            assert_eq!(client.line("PING").text(), "QUEUED");
        }
        cluster.nodes[leader].kill();
        let mut other = cluster.nodes[places[0]].client();
        insist(&mut other, "SET elsewhere 1");
        let replies = kept.line("EXEC");
        assert_eq!(replies.elements()[0].int(), 2, "{replies:?}");
        assert_eq!(replies.elements()[1].text(), "PONG");
        // The key has changed since it was watched.
        assert!(broken.line("EXEC").is_nil());
        assert_eq!(broken.line("GET a").text(), "2");
    });
}

/// A leader that hangs costs its followers' clients a moment, not their connections.
#[test]
fn a_leader_that_hangs_does_not_hang_others() {
    with_three(|cluster| {
        let leader = cluster.leader();
        let places = followers(cluster);
        let mut reader = cluster.nodes[places[0]].client();
        let mut writer = cluster.nodes[places[1]].client();
        let mut waiter = cluster.nodes[places[1]].client();
        assert!(writer.line("SET k before").is_ok());
        send(&mut waiter, "BLPOP list 0");
        until_blocked(&cluster.nodes[places[1]], 1);
        until_parked(cluster, 1);
        cluster.nodes[leader].signal("STOP");
        send(&mut reader, "GET k");
        send(&mut writer, "SET k after");
        let read = receive(&mut reader, "the read");
        assert!(["before", "after"].contains(&read.text().as_str()), "{read:?}");
        let written = receive(&mut writer, "the write");
        assert!(written.is_ok() || written.is_error("UNKNOWN"), "{written:?}");
        assert!(insist(&mut writer, "SET k again").is_ok());
        assert_eq!(reader.line("GET k").text(), "again");
        assert_eq!(writer.line("RPUSH list x").int(), 1);
        assert_eq!(receive(&mut waiter, "the wait").elements()[1].text(), "x");
        cluster.nodes[leader].signal("CONT");
        cluster.assert_alike();
    });
}

/// What one client wrote anywhere, every client reads anywhere, from READONLY followers too.
#[test]
fn followers_read_what_was_acknowledged() {
    with_three(|cluster| {
        let places = followers(cluster);
        let mut writers: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
        let mut readers: Vec<Client> =
            places.iter().map(|at| cluster.nodes[*at].client()).collect();
        assert!(readers[0].line("READONLY").is_ok());
        for number in 0..600 {
            assert!(writers[number % 3].line(&format!("SET k {number}")).is_ok());
            let read = readers[number % 2].line("GET k").text();
            assert_eq!(read, number.to_string());
        }
        // Stale reads are asked for, and see at least what their own client has written.
        let place = places[0];
        let mut own = cluster.nodes[place].client();
        assert!(own.line("CONFIG SET raft-stale-reads yes").is_ok());
        assert!(own.line("READONLY").is_ok());
        let mut plain = cluster.nodes[place].client();
        for number in 0..300 {
            // One that has asked for READONLY is told where the leader is; the leader's clients write.
            assert!(plain.line(&format!("SET own {number}")).is_ok());
            assert_eq!(plain.line("GET own").text(), number.to_string());
            let read = own.line("GET own");
            assert!(read.is_nil() || read.text().parse::<u32>().unwrap() <= 300, "{read:?}");
        }
    });
}

/// Messages reach the subscribers of all nodes, and are counted; PUBSUB tells of all.
#[test]
fn messages_reach_the_subscribers_of_all_nodes() {
    with_three(|cluster| {
        let mut subscribers: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
        for client in &mut subscribers {
            client.line("SUBSCRIBE news");
            client.line("SSUBSCRIBE shard");
            client.line("PSUBSCRIBE n*");
        }
        for node in &cluster.nodes {
            let mut client = node.client();
            assert_eq!(client.line("PUBLISH news 1").int(), 6);
            assert_eq!(client.line("SPUBLISH shard 2").int(), 3);
            assert_eq!(client.line("PUBLISH nobody 3").int(), 3);
            assert_eq!(client.line("PUBLISH silence 4").int(), 0);
            assert_eq!(client.line("PUBSUB NUMSUB news silence").elements()[1].int(), 3);
            assert_eq!(client.line("PUBSUB SHARDNUMSUB shard").elements()[1].int(), 3);
            assert_eq!(client.line("PUBSUB NUMPAT").int(), 1);
            let channels = client.line("PUBSUB CHANNELS");
            assert_eq!(channels.elements().len(), 1, "{channels:?}");
            assert_eq!(client.line("PUBSUB SHARDCHANNELS s*").elements()[0].text(), "shard");
            for subscriber in &mut subscribers {
                let kinds: Vec<String> =
                    (0..4).map(|_| receive(subscriber, "a message").elements()[0].text()).collect();
                assert_eq!(kinds, ["message", "pmessage", "smessage", "pmessage"]);
            }
            // A transaction's message goes with it, through the log.
            client.line("MULTI");
            client.line("PUBLISH news 5");
            client.line("EXEC");
            for subscriber in &mut subscribers {
                assert_eq!(receive(subscriber, "a message").elements()[2].text(), "5");
                assert_eq!(receive(subscriber, "a message").elements()[3].text(), "5");
            }
        }
    });
}

/// Replies leave in the order of the commands, whatever each of them needs.
#[test]
fn a_long_pipeline_is_answered_in_order() {
    with_three(|cluster| {
        let place = followers(cluster)[0];
        let mut client = cluster.nodes[place].client();
        let mut text = Vec::new();
        for number in 0..10_000 {
            let line = match number % 10 {
                0 => format!("SET k {number}\r\n"),
                1 | 2 => "GET k\r\n".to_owned(),
                3 => format!("ECHO {number}\r\n"),
                4 => "INCR n\r\n".to_owned(),
                5 => "LOCK.INFO nobody\r\n".to_owned(),
                6 => format!("PUBLISH nobody {number}\r\n"),
                7 => "MULTI\r\n".to_owned(),
                8 => "INCR n\r\n".to_owned(),
                _ => "EXEC\r\n".to_owned(),
            };
            text.extend_from_slice(line.as_bytes());
        }
        client.send_raw(&text).unwrap();
        let (mut set, mut n) = (0, 0);
        for number in 0..10_000_i64 {
            let reply = receive(&mut client, "a reply");
            match number % 10 {
                0 => {
                    set = number;
                    assert!(reply.is_ok());
                }
                1 | 2 => assert_eq!(reply.text(), set.to_string()),
                3 => assert_eq!(reply.text(), number.to_string()),
                4 => {
                    n += 1;
                    assert_eq!(reply.int(), n);
                }
                5 => assert!(reply.is_nil(), "{reply:?}"),
                6 => assert_eq!(reply.int(), 0),
                7 => assert!(reply.is_ok()),
                8 => assert_eq!(reply.text(), "QUEUED"),
                _ => {
                    n += 1;
                    assert_eq!(reply.elements()[0].int(), n);
                }
            }
        }
    });
}

/// A script that was loaded through one node runs through every other at once.
#[test]
fn scripts_are_known_everywhere_once_loaded() {
    with_three(|cluster| {
        let mut clients: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
        for number in 0..30 {
            let body = format!("redis.call('incr', KEYS[1]) return {number}");
            let (one, other) = (number % 3, (number + 1) % 3);
            let sha = clients[one].cmd(&["SCRIPT", "LOAD", &body]).text();
            let exists = clients[other].cmd(&["SCRIPT", "EXISTS", &sha]);
            assert_eq!(exists.elements()[0].int(), 1);
            let body = format!("{body} + 100");
            let sha = clients[one].cmd(&["SCRIPT", "LOAD", &body]).text();
            assert_eq!(clients[other].cmd(&["EVALSHA", &sha, "1", "n"]).int(), number as i64 + 100);
            let body = format!("{body} + 1");
            let sha = clients[one].cmd(&["SCRIPT", "LOAD", &body]).text();
            clients[other].line("MULTI");
            clients[other].cmd(&["EVALSHA", &sha, "1", "n"]);
            let reply = clients[other].line("EXEC");
            assert_eq!(reply.elements()[0].int(), number as i64 + 101);
        }
        let unknown = "0".repeat(40);
        assert!(clients[1].cmd(&["EVALSHA", &unknown, "0"]).is_error("NOSCRIPT"));
    });
}

/// A lock that was granted to a client of a follower which has gone is given back.
#[test]
fn what_a_client_is_granted_that_has_gone_is_given_back() {
    with_three(|cluster| {
        let place = followers(cluster)[0];
        let mut holder = cluster.client();
        holder.line("LOCK.ACQUIRE k a 60000");
        let mut gone = cluster.nodes[place].client();
        send(&mut gone, "LOCK.ACQUIRE k b 60000 BLOCK 60000");
        let mut next = cluster.nodes[place].client();
        until_blocked(&cluster.nodes[place], 1);
        send(&mut next, "LOCK.ACQUIRE k c 60000 BLOCK 60000");
        until_blocked(&cluster.nodes[place], 2);
        drop(gone);
        until_blocked(&cluster.nodes[place], 1);
        assert_eq!(holder.line("LOCK.RELEASE k a").int(), 1);
        assert_eq!(receive(&mut next, "the lock").elements().len(), 2);
        // WAIT counts what the leader knows of, wherever it is asked.
        assert_eq!(next.line("WAIT 2 5000").int(), 2);
    });
}

/// Settings that concern data or clients, and users, are the same for all members: whoever is asked,
/// after a restart, and for members that join later.
#[test]
fn settings_and_users_are_shared() {
    with_three(|cluster| {
        let places = followers(cluster);
        let (one, other) = (places[0], places[1]);
        let mut client = cluster.nodes[one].client();
        assert!(
            client.line("CONFIG SET notify-keyspace-events KEA hll-sparse-max-bytes 500").is_ok()
        );
        assert!(
            client.line("CONFIG SET notify-keyspace-events nonsense").is_error("ERR CONFIG SET")
        );
        assert!(client.line("ACL SETUSER alice on >pw ~a:* resetchannels +@all -flushall").is_ok());
        assert!(client.line("ACL SETUSER bob on nopass ~* +@all").is_ok());
        assert_eq!(client.line("ACL DELUSER bob nobody").int(), 1);
        // What one node keeps for itself stays there.
        assert!(client.line("CONFIG SET slowlog-max-len 77").is_ok());
        let listener = |node: &Node| {
            let mut client = node.client();
            client.line("SUBSCRIBE __keyevent@0__:set");
            client
        };
        let mut listeners: Vec<Client> = cluster.nodes.iter().map(listener).collect();
        assert!(client.line("SET a:1 x").is_ok());
        for listener in &mut listeners {
            assert_eq!(receive(listener, "the event").elements()[2].text(), "a:1");
        }
        // A member that joins later has them by the log or by a snapshot.
        let joined = cluster.add(&[]);
        cluster.settle();
        for node in &mut cluster.nodes {
            node.kill();
        }
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.settle();
        for (place, node) in cluster.nodes.iter().enumerate() {
            let mut client = node.client();
            let value = |client: &mut Client, name: &str| {
                client.cmd(&["CONFIG", "GET", name]).elements()[1].text()
            };
            assert_eq!(value(&mut client, "notify-keyspace-events"), "AKE", "node {place}");
            assert_eq!(value(&mut client, "hll-sparse-max-bytes"), "500");
            assert_ne!(value(&mut client, "slowlog-max-len"), "77");
            assert!(client.line("AUTH bob x").is_error("WRONGPASS"), "node {place}");
            assert!(client.line("AUTH alice pw").is_ok(), "node {place}");
            assert!(client.line("GET b:1").is_error("NOPERM"));
            assert_eq!(client.line("GET a:1").text(), "x");
        }
        // A user that is removed loses its clients everywhere.
        let mut alice = cluster.nodes[other].client();
        assert!(alice.line("AUTH alice pw").is_ok());
        assert_eq!(cluster.nodes[joined].client().line("ACL DELUSER alice").int(), 1);
        assert!(matches!(alice.receive(SOON), Received::Closed));
        let mut client = cluster.nodes[one].client();
        assert!(client.line("MULTI").is_ok());
        assert_eq!(client.line("CONFIG SET hll-sparse-max-bytes 9").text(), "QUEUED");
        assert!(client.line("EXEC").elements()[0].is_error("ERR"));
        assert_eq!(client.line("CONFIG GET hll-sparse-max-bytes").elements()[1].text(), "500");
    });
}

/// TIME goes on while nobody writes, on every node.
#[test]
fn time_goes_on_while_nobody_writes() {
    with_three(|cluster| {
        let micros = |client: &mut Client| {
            let reply = client.line("TIME");
            let parts: Vec<i64> =
                reply.elements().iter().map(|part| part.text().parse().unwrap()).collect();
            parts[0] * 1_000_000 + parts[1]
        };
        let mut clients: Vec<Client> = cluster.nodes.iter().map(Node::client).collect();
        let before: Vec<i64> = clients.iter_mut().map(micros).collect();
        std::thread::sleep(Duration::from_millis(300));
        for (client, before) in clients.iter_mut().zip(before) {
            let passed = micros(client) - before;
            assert!((200_000..10_000_000).contains(&passed), "{passed} us");
        }
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let off = micros(&mut clients[0]) - wall.as_micros() as i64;
        assert!(off.abs() < 5_000_000, "{off} us off");
    });
}

/// A member that is gone is said to be gone, by every node, and to be back when it is.
#[test]
fn a_lost_member_is_told_of() {
    with_three(|cluster| {
        let places = followers(cluster);
        let (alive, gone) = (places[0], places[1]);
        let leader = cluster.leader();
        let lost_addr = cluster.nodes[gone].addr().to_string();
        let told = |node: &Node| {
            let mut client = node.client();
            let nodes = client.line("CLUSTER NODES").text();
            let line = nodes.lines().find(|line| line.contains(&lost_addr)).unwrap().to_owned();
            let slots = format!("{:?}", client.line("CLUSTER SLOTS"));
            let port = lost_addr.rsplit_once(':').unwrap().1;
            (line.contains("slave,fail") && line.ends_with("disconnected"), slots.contains(port))
        };
        let until = |cluster: &Cluster, is_lost: bool| {
            let began = Instant::now();
            for place in [leader, alive] {
                while told(&cluster.nodes[place]) != (is_lost, !is_lost) {
                    assert!(began.elapsed() < SOON, "node {place} knows {is_lost}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        };
        until(cluster, false);
        let slaves = |cluster: &Cluster| cluster.nodes[leader].client().line("INFO replication");
        assert!(slaves(cluster).text().contains("connected_slaves:2"));
        cluster.nodes[gone].signal("STOP");
        until(cluster, true);
        assert!(slaves(cluster).text().contains("connected_slaves:1"));
        let mut client = cluster.nodes[leader].client();
        let role = client.line("ROLE");
        assert_eq!(role.elements()[0].text(), "master");
        assert_eq!(role.elements()[2].elements().len(), 1, "{role:?}");
        assert!(client.line("INFO server").text().contains("redis_mode:cluster"));
        let role = cluster.nodes[alive].client().line("ROLE");
        assert_eq!(role.elements()[0].text(), "slave");
        assert_eq!(role.elements()[3].text(), "connected");
        until_logged(&cluster.nodes[leader], "has not answered the leader for");
        cluster.nodes[gone].signal("CONT");
        until(cluster, false);
        until_logged(&cluster.nodes[leader], "answers again");
    });
}
