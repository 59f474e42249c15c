//! `maxmemory`: what goes and what stays when memory is full, on our server and on Redis.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use holdfast_tests::client::Client;
use holdfast_tests::server::{self, Kind, Server};
use holdfast_tests::skip_loudly;

const VALUE_LEN: usize = 1000;
const LIMIT_BYTES: i64 = 10 << 20;
const LIMIT: &str = "10485760";
/// More than fits.
const MANY: usize = 16_000;

/// Sets `prefix:0` to `prefix:count`, each with `more` arguments; how many were refused.
fn fill(client: &mut Client, prefix: &str, count: usize, more: &[&str]) -> usize {
    const BATCH: usize = 200;
    let value = "v".repeat(VALUE_LEN);
    let mut refused = 0;
    for begin in (0..count).step_by(BATCH) {
        let end = (begin + BATCH).min(count);
        for n in begin..end {
            let key = format!("{prefix}:{n}");
            client.send(&[&["SET", &key, &value][..], more].concat()).unwrap();
        }
        for _ in begin..end {
            let reply = client.read();
            if reply.is_any_error() {
                let text = "OOM command not allowed when used memory > 'maxmemory'.";
                assert!(reply.is_error(text), "{reply:?}");
                refused += 1;
            }
        }
    }
    refused
}

fn info(client: &mut Client, name: &str) -> i64 {
    let text = client.line("INFO").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().parse().unwrap()
}

/// How many of `prefix:0` to `prefix:count` are there.
fn left(client: &mut Client, prefix: &str, count: usize) -> usize {
    let keys: Vec<String> = (0..count).map(|n| format!("{prefix}:{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    client.send(&[&["EXISTS"][..], &keys].concat()).unwrap();
    client.read().int() as usize
}

fn assert_within_limit(client: &mut Client) {
    // Buffers and what is measured roughly are on top.
    let used = info(client, "used_memory");
    assert!(used < LIMIT_BYTES + LIMIT_BYTES / 10, "{used} bytes are used");
}

#[test]
fn without_eviction_writes_are_refused_and_all_else_goes_on() {
    server::each(&["--maxmemory", LIMIT], |server| {
        let mut c = server.client();
        assert!(fill(&mut c, "k", MANY, &[]) > MANY / 4);
        assert_within_limit(&mut c);
        assert_eq!(info(&mut c, "evicted_keys"), 0);
        assert_eq!(c.line("GET k:0").text().len(), VALUE_LEN);
        assert_eq!(c.line("DEL k:0 k:1").int(), 2);
    });
}

#[test]
fn the_least_recently_used_goes_first() {
    const HOT: usize = 200;
    server::each(&["--maxmemory", LIMIT, "--maxmemory-policy", "allkeys-lru"], |server| {
        let mut c = server.client();
        assert_eq!(fill(&mut c, "hot", HOT, &[]), 0);
        assert_eq!(fill(&mut c, "old", MANY, &[]), 0, "a write was refused");
        assert_within_limit(&mut c);
        // The time of a use is kept in seconds.
        std::thread::sleep(Duration::from_millis(2200));
        fill(&mut c, "hot", HOT, &[]);
        std::thread::sleep(Duration::from_millis(2200));
        for n in 0..HOT {
            c.line(&format!("GET hot:{n}"));
        }
        assert_eq!(fill(&mut c, "new", 2_000, &[]), 0);
        let hot = left(&mut c, "hot", HOT);
        assert!(hot >= HOT * 9 / 10, "{hot} of {HOT} are left");
        assert!(left(&mut c, "new", 2_000) >= 1_800);
        assert_within_limit(&mut c);
        let gone = MANY + HOT + 2_000 - c.line("DBSIZE").int() as usize;
        assert!(info(&mut c, "evicted_keys") as usize >= gone);
    });
}

#[test]
fn the_least_frequently_used_goes_first() {
    const HOT: usize = 200;
    server::each(&["--maxmemory", LIMIT, "--maxmemory-policy", "allkeys-lfu"], |server| {
        let mut c = server.client();
        fill(&mut c, "hot", HOT, &[]);
        for _ in 0..100 {
            for n in 0..HOT {
                c.send(&["GET", &format!("hot:{n}")]).unwrap();
            }
            (0..HOT).for_each(|_| drop(c.read()));
        }
        assert_eq!(fill(&mut c, "cold", MANY, &[]), 0);
        let hot = left(&mut c, "hot", HOT);
        assert!(hot >= HOT * 9 / 10, "{hot} of {HOT} are left");
        assert_within_limit(&mut c);
    });
}

#[test]
fn volatile_policies_spare_keys_without_an_expiry() {
    for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
        server::each(&["--maxmemory", LIMIT, "--maxmemory-policy", policy], |server| {
            let mut c = server.client();
            assert_eq!(fill(&mut c, "kept", 1_500, &[]), 0);
            assert_eq!(fill(&mut c, "soon", MANY, &["EX", "10000"]), 0, "{policy}");
            assert_eq!(left(&mut c, "kept", 1_500), 1_500, "{policy}");
            assert_within_limit(&mut c);
            // With keys that stay, memory fills up until nothing is left to evict.
            assert!(fill(&mut c, "more", MANY, &[]) > MANY / 4, "{policy}");
            assert_eq!(left(&mut c, "soon", MANY), 0, "{policy}");
            assert_eq!(left(&mut c, "kept", 1_500), 1_500, "{policy}");
            assert_within_limit(&mut c);
        });
    }
}

#[test]
fn what_expires_first_goes_first() {
    server::each(&["--maxmemory", LIMIT, "--maxmemory-policy", "volatile-ttl"], |server| {
        let mut c = server.client();
        assert_eq!(fill(&mut c, "late", 2_000, &["EX", "100000"]), 0);
        assert_eq!(fill(&mut c, "soon", 2_000, &["EX", "1000"]), 0);
        assert_eq!(fill(&mut c, "later", 7_000, &["EX", "200000"]), 0);
        let (late, soon) = (left(&mut c, "late", 2_000), left(&mut c, "soon", 2_000));
        assert!(
            late > soon + soon / 2,
            "{}: {late} late ones are left, {soon} soon ones",
            server.kind().name()
        );
    });
}

#[test]
fn evictions_are_told_and_a_lower_limit_takes_effect() {
    server::each(&["--maxmemory-policy", "allkeys-random"], |server| {
        let (mut c, mut listener) = (server.client(), server.client());
        assert!(c.line("CONFIG SET notify-keyspace-events Ee").is_ok());
        listener.line("SUBSCRIBE __keyevent@0__:evicted");
        assert_eq!(fill(&mut c, "k", 9_000, &[]), 0);
        assert!(c.line("CONFIG SET maxmemory 6mb").is_ok());
        let deadline = Instant::now() + Duration::from_secs(30);
        while info(&mut c, "used_memory") > 13 << 19 {
            assert!(Instant::now() < deadline, "memory stays full");
            std::thread::sleep(Duration::from_millis(50));
        }
        let evicted = info(&mut c, "evicted_keys");
        assert!(evicted >= 2_000, "{evicted}");
        for _ in 0..evicted {
            let message = listener.read().texts();
            assert_eq!(message[1], "__keyevent@0__:evicted");
            assert!(message[2].starts_with("k:"));
        }
    });
}

#[test]
fn a_journal_knows_what_was_evicted() {
    if !server::is_available(Kind::Ours) {
        skip_loudly("our server is not built");
        return;
    }
    let limits = ["--maxmemory", LIMIT, "--maxmemory-policy", "allkeys-lru"];
    let journal = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = Server::start(Kind::Ours, &[&limits[..], &journal].concat());
    let mut c = server.client();
    assert_eq!(fill(&mut c, "k", MANY, &[]), 0);
    c.line("CONFIG SET maxmemory-policy noeviction");
    let size = c.line("DBSIZE").int();
    assert!(size < MANY as i64 - 5_000, "{size} keys");
    let digest = c.line("DEBUG DIGEST").text();
    server.crash();
    server.start_again(&journal).unwrap();
    let mut c = server.client();
    assert_eq!(c.line("DBSIZE").int(), size);
    assert_eq!(c.line("DEBUG DIGEST").text(), digest);
}
