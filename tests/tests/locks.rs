//! Native locks under load, from many connections at once.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received, encode};
use holdfast_tests::server::{Kind, Server, is_available};
use holdfast_tests::wire::Reply;

fn server() -> Option<Server> {
    is_available(Kind::Ours).then(|| Server::start(Kind::Ours, &[]))
}

/// The token of a grant; `None` if the lock was held by others.
fn token(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Array(items) => Some(items[0].int()),
        reply if reply.is_nil() => None,
        other => panic!("{other:?}"),
    }
}

fn info(client: &mut Client, field: &str) -> String {
    let text = client.line("INFO locks").text();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field} is not in {text}")).to_owned()
}

#[test]
fn one_holder_at_a_time_and_tokens_grow() {
    const CLIENTS: usize = 24;
    const LOCKS: usize = 3;
    const ROUNDS: usize = 150;
    let Some(server) = server() else { return };
    let inside: Arc<[AtomicUsize; LOCKS]> = Arc::default();
    let tokens: Arc<[AtomicU64; LOCKS]> = Arc::default();
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (inside, tokens, mut client) =
                (Arc::clone(&inside), Arc::clone(&tokens), server.client());
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let which = (n + round) % LOCKS;
                    let (key, owner) = (format!("lock:{which}"), format!("{n}:{round}"));
                    let args = ["LOCK.ACQUIRE", &key, &owner, "60000", "BLOCK", "30000"];
                    let token = token(&client.cmd(&args)).expect("served in time");
                    assert_eq!(inside[which].fetch_add(1, SeqCst), 0, "two hold {key}");
                    let before = tokens[which].swap(token.unsigned_abs(), SeqCst);
                    assert!(token.unsigned_abs() > before, "{token} after {before}");
                    inside[which].fetch_sub(1, SeqCst);
                    assert_eq!(client.cmd(&["LOCK.RELEASE", &key, &owner]).int(), 1);
                }
            });
        }
    });
    let mut client = server.client();
    assert_eq!(info(&mut client, "locks_granted"), (CLIENTS * ROUNDS).to_string());
    assert_eq!(info(&mut client, "locks_released"), (CLIENTS * ROUNDS).to_string());
    assert_eq!(info(&mut client, "locks_held"), "0");
    assert_eq!(info(&mut client, "locks_waiting"), "0");
}

#[test]
fn readers_never_meet_a_writer_and_permits_keep_their_limit() {
    const LIMIT: usize = 3;
    let Some(server) = server() else { return };
    let (readers, writers, permits) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for n in 0..12 {
            let (readers, writers, permits) = (&readers, &writers, &permits);
            let mut client = server.client();
            scope.spawn(move || {
                for round in 0..60 {
                    let owner = format!("{n}:{round}");
                    let reads = (n + round) % 3 > 0;
                    let mut args = vec!["LOCK.ACQUIRE", "rw", &owner, "60000"];
                    args.extend(reads.then_some("SHARED"));
                    args.extend(["BLOCK", "30000"]);
                    token(&client.cmd(&args)).expect("served in time");
                    if reads {
                        readers.fetch_add(1, SeqCst);
                        assert_eq!(writers.load(SeqCst), 0);
                        readers.fetch_sub(1, SeqCst);
                    } else {
                        assert_eq!(writers.fetch_add(1, SeqCst), 0);
                        assert_eq!(readers.load(SeqCst), 0);
                        writers.fetch_sub(1, SeqCst);
                    }
                    assert_eq!(client.cmd(&["LOCK.RELEASE", "rw", &owner]).int(), 1);

                    let take = 1 + (n + round) % 2;
                    let taken = take.to_string();
                    let limit = LIMIT.to_string();
                    let args = ["LOCK.ACQUIRE", "s", &owner, "60000", "PERMITS", &taken, "LIMIT"];
                    let args = [&args[..], &[&limit, "BLOCK", "30000"]].concat();
                    token(&client.cmd(&args)).expect("served in time");
                    assert!(permits.fetch_add(take, SeqCst) + take <= LIMIT);
                    permits.fetch_sub(take, SeqCst);
                    assert_eq!(client.cmd(&["LOCK.RELEASE", "s", &owner]).int(), 1);
                }
            });
        }
    });
}

/// Clients that wait for `key`, in the order in which they came.
fn waiters(server: &Server, key: &str, count: usize) -> Vec<Client> {
    let mut control = server.client();
    (0..count)
        .map(|n| {
            let mut client = server.client();
            let owner = format!("w{n}");
            client.send(&["LOCK.ACQUIRE", key, &owner, "600000", "BLOCK", "0"]).unwrap();
            // Waits until it stands in the queue, so that the order is known.
            while info(&mut control, "locks_waiting") != (n + 1).to_string() {
                std::thread::sleep(Duration::from_micros(200));
            }
            client
        })
        .collect()
}

#[test]
fn five_hundred_waiters_are_served_in_turn_beside_ten_thousand_locks() {
    const WAITERS: usize = 500;
    let Some(server) = server() else { return };
    let mut control = server.client();
    let mut bytes = Vec::new();
    for n in 0..10_000 {
        let (key, owner) = (format!("held:{n}"), format!("owner:{n}"));
        bytes.extend(encode(&["LOCK.ACQUIRE", &key, &owner, "600000", "SHARED"]));
    }
    control.send_raw(&bytes).unwrap();
    for n in 1..=10_000 {
        assert_eq!(token(&control.read()), Some(n));
    }
    assert!(token(&control.line("LOCK.ACQUIRE k first 600000")).is_some());
    let mut clients: Vec<Option<Client>> =
        waiters(&server, "k", WAITERS).into_iter().map(Some).collect();
    // Some die while they wait, the head among them: they are passed over.
    let dead = [0, 7, 8, 250, 499];
    for n in dead {
        clients[n] = None;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while info(&mut control, "locks_waiting") != (WAITERS - dead.len()).to_string() {
        assert!(Instant::now() < deadline, "the dead still wait");
    }
    assert_eq!(control.line("LOCK.RELEASE k first").int(), 1);
    let mut served: Vec<(i64, usize)> = Vec::new();
    for (n, client) in clients.iter_mut().enumerate() {
        let Some(client) = client else { continue };
        served.push((token(&client.read()).expect("a grant"), n));
        assert_eq!(client.cmd(&["LOCK.RELEASE", "k", &format!("w{n}")]).int(), 1);
    }
    served.sort_unstable();
    let late = served.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
    println!("{late} of {} waiters were served out of turn", served.len());
    assert_eq!(late, 0);
    assert_eq!(info(&mut control, "locks_waiting"), "0");
    assert_eq!(control.line("EXISTS k").int(), 0);
}

#[test]
fn a_release_wakes_one_client_alone() {
    let Some(server) = server() else { return };
    let mut control = server.client();
    assert!(token(&control.line("LOCK.ACQUIRE k first 600000")).is_some());
    let mut clients = waiters(&server, "k", 50);
    let served = info(&mut control, "locks_granted_after_wait");
    assert_eq!(control.line("LOCK.RELEASE k first").int(), 1);
    assert!(token(&clients[0].read()).is_some());
    for client in &mut clients[1..] {
        assert!(matches!(client.receive(Duration::from_millis(2)), Received::Nothing));
    }
    let after = info(&mut control, "locks_granted_after_wait");
    assert_eq!(after.parse::<u64>().unwrap(), served.parse::<u64>().unwrap() + 1);
}

#[test]
fn a_lock_whose_holder_dies_is_handed_on_when_its_time_is_over() {
    let Some(server) = server() else { return };
    let mut holder = server.client();
    let began = Instant::now();
    assert!(token(&holder.line("LOCK.ACQUIRE k holder 300")).is_some());
    drop(holder);
    let mut next = server.client();
    assert!(token(&next.line("LOCK.ACQUIRE k next 600000 BLOCK 10000")).is_some());
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(290), "{waited:?}");
    assert!(waited < Duration::from_millis(1_300), "{waited:?}");
}

#[test]
fn a_held_lock_takes_few_bytes() {
    const LOCKS: usize = 200_000;
    /// What issue 5 asks for, with room for the sampling of RSS.
    const BYTES_MAX: u64 = 200;
    let Some(server) = server() else { return };
    let mut client = server.client();
    // The buffers of a connection that has sent as much are no part of it.
    load(&mut client, "SET", 0, LOCKS / 10);
    client.line("FLUSHALL");
    std::thread::sleep(Duration::from_millis(300));
    let before = server.rss_bytes();
    load(&mut client, "LOCK.ACQUIRE", 0, LOCKS);
    std::thread::sleep(Duration::from_millis(300));
    let each = server.rss_bytes().saturating_sub(before) / LOCKS as u64;
    println!("{each} bytes for each of {LOCKS} held locks");
    assert!(each <= BYTES_MAX, "{each} bytes each");
}

fn load(client: &mut Client, command: &str, from: usize, to: usize) {
    const BATCH: usize = 1_000;
    for batch in (from..to).step_by(BATCH) {
        let mut bytes = Vec::new();
        for n in batch..batch + BATCH {
            let (key, owner) = (format!("lock:{n:011}"), format!("owner:{n:014}"));
            assert_eq!((key.len(), owner.len()), (16, 20));
            if command == "SET" {
                bytes.extend(encode(&["SET", &key, &owner, "PX", "6000000"]));
            } else {
                bytes.extend(encode(&[command, &key, &owner, "6000000"]));
            }
        }
        client.send_raw(&bytes).unwrap();
        for _ in 0..BATCH {
            client.read();
        }
    }
}

#[test]
fn every_event_is_published_once() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    assert!(client.line("CONFIG SET notify-keyspace-events Ek").is_ok());
    let mut listener = server.client();
    listener.line("PSUBSCRIBE __keyevent@0__:lock.*");
    for n in 0..20 {
        client.cmd(&["LOCK.ACQUIRE", &format!("k{n}"), "me", if n < 5 { "20" } else { "60000" }]);
    }
    for n in 5..15 {
        client.cmd(&["LOCK.RELEASE", &format!("k{n}"), "me"]);
    }
    for n in 15..20 {
        client.cmd(&["DEL", &format!("k{n}")]);
    }
    let counts: Mutex<HashMap<String, usize>> = Mutex::default();
    while let Received::Reply(message) = listener.receive(Duration::from_millis(1_500)) {
        let event = message.elements()[2].text();
        *counts.lock().unwrap().entry(event).or_default() += 1;
    }
    let counts = counts.into_inner().unwrap();
    let count = |event: &str| counts.get(&format!("__keyevent@0__:lock.{event}")).copied();
    assert_eq!(count("granted"), Some(20));
    assert_eq!(count("released"), Some(10));
    assert_eq!(count("broken"), Some(5));
    assert_eq!(count("expired"), Some(5));
}
