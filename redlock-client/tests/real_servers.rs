//! The same against real servers: Debian's redis-server, and ours when `HOLDFAST_SERVER_BIN` is set.
//!
//! What cannot be run prints `SKIPPED`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "clippy sees the helpers as no tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::server::{Server, binaries, everywhere, nowhere};
use common::{BOUND, LONG, eventually_async};
use redlock_client::{Builder, Error, RedLock, Retry};

fn client(servers: &[Server]) -> Builder {
    RedLock::builder()
        .nodes(servers.iter().map(Server::url))
        .node_timeout(Duration::from_secs(5))
        .retry(Retry::none())
}

fn insistent(servers: &[Server]) -> RedLock {
    client(servers)
        .node_timeout(Duration::from_millis(500))
        .retry(Retry::forever(Duration::from_millis(20)))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_lock_lives_and_ends_on_real_servers() {
    for (name, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let redlock = client(&servers).build().unwrap();
        let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
        everywhere(&servers, "k").await;
        let other = client(&servers).build().unwrap();
        assert!(
            matches!(other.lock("k", LONG).acquire().await, Err(Error::Contended { .. })),
            "{name}"
        );
        guard.extend(2 * LONG).await.unwrap();
        assert!(guard.remaining() > LONG);
        eventually_async("every server extended", async || {
            for server in &servers {
                let reply = server.call("PTTL k").await;
                let pttl: u128 = reply.trim_start_matches(':').trim_end().parse().unwrap();
                if pttl <= LONG.as_millis() {
                    return false;
                }
            }
            true
        })
        .await;
        guard.release().await.unwrap();
        nowhere(&servers, "k").await;
        drop(other.lock("k", LONG).acquire().await.unwrap());
        nowhere(&servers, "k").await;
    }
}

#[tokio::test]
async fn scripts_survive_a_script_flush() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let redlock = client(&servers).build().unwrap();
        for _ in 0..3 {
            let mut guard = redlock.lock_many(["a", "b"], LONG).acquire().await.unwrap();
            everywhere(&servers, "b").await;
            for server in &servers {
                assert!(server.call("SCRIPT FLUSH").await.starts_with("+OK"));
            }
            guard.extend(LONG).await.unwrap();
            guard.release().await.unwrap();
            nowhere(&servers, "a").await;
            nowhere(&servers, "b").await;
        }
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_someone_elses() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 1).await;
        servers[0].call("RPUSH k x").await;
        let redlock = client(&servers).build().unwrap();
        for keys in [vec!["k"], vec!["k", "l"]] {
            let result = redlock.lock_many(keys, LONG).acquire().await;
            assert!(matches!(result, Err(Error::Contended { .. })), "{result:?}");
        }
        assert!(servers[0].call("LLEN k").await.starts_with(":1"));
        assert!(!servers[0].holds("l").await);
    }
}

#[tokio::test]
async fn contenders_exclude_one_another_while_a_server_is_killed() {
    for (name, binary) in binaries() {
        let mut servers = Server::many(&binary, 3).await;
        let inside = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let lock = insistent(&servers).lock("k", Duration::from_secs(10));
            let (inside, done) = (Arc::clone(&inside), Arc::clone(&done));
            workers.spawn(async move {
                for _ in 0..15 {
                    let guard = lock.acquire_before(Instant::now() + 2 * BOUND).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                    // With one server gone the other two must both confirm; contention may hide that.
                    let _ = guard.release().await;
                }
            });
        }
        eventually_async("they work", async || done.load(Ordering::SeqCst) >= 10).await;
        servers[0].kill();
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
        assert_eq!(done.load(Ordering::SeqCst), 60, "{name}");
        nowhere(&servers[1..], "k").await;
    }
}

#[tokio::test]
async fn a_stopped_process_neither_slows_nor_keeps_a_lock() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let redlock = client(&servers).silence_timeout(Duration::from_millis(500)).build().unwrap();
        redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
        nowhere(&servers, "k").await;
        servers[0].signal("-STOP");
        let start = Instant::now();
        for _ in 0..10 {
            redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(5), "the node timeout was waited for");
        eventually_async("the silence is noticed", async || redlock.stats().disconnected > 0).await;
        servers[0].signal("-CONT");
        // It now carries out what was sent before it was given up: grants too.
        nowhere(&servers, "k").await;
    }
}

#[tokio::test]
async fn a_successors_keys_are_neither_extended_nor_released() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let redlock = client(&servers).build().unwrap();
        for keys in [vec!["k"], vec!["k", "l"]] {
            let mut guard = redlock.lock_many(keys.clone(), LONG).acquire().await.unwrap();
            everywhere(&servers, "k").await;
            for server in &servers {
                // A native lock is not overwritten; an administrator breaks it.
                server.call("DEL k").await;
                assert!(server.call("SET k successor PX 500000").await.starts_with("+OK"));
            }
            assert!(matches!(guard.extend(2 * LONG).await, Err(Error::Lost)));
            assert!(matches!(guard.release().await, Err(Error::Lost)));
            nowhere(&servers, "l").await;
            for server in &servers {
                assert_eq!(server.call("GET k").await, "$9\r\nsuccessor\r\n");
                let pttl = server.call("PTTL k").await;
                assert!(pttl.trim_start_matches(':').trim_end().parse::<u64>().unwrap() <= 500_000);
                server.call("DEL k").await;
            }
        }
    }
}

#[tokio::test]
async fn a_lock_forgotten_on_real_servers_is_topped_up_only_under_a_majority() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let redlock = client(&servers).build().unwrap();
        for keys in [vec!["k"], vec!["k", "l"]] {
            let mut guard = redlock.lock_many(keys, LONG).acquire().await.unwrap();
            everywhere(&servers, "k").await;
            servers[2].call("DEL k").await;
            guard.extend(LONG).await.unwrap();
            everywhere(&servers, "k").await;
            servers[0].call("DEL k").await;
            servers[1].call("DEL k").await;
            assert!(matches!(guard.extend(LONG).await, Err(Error::Lost)));
            assert!(!servers[0].holds("k").await && !servers[1].holds("k").await);
            drop(guard);
            nowhere(&servers, "k").await;
            nowhere(&servers, "l").await;
        }
    }
}

/// p99 of an uncontended acquisition, in microseconds.
async fn p99_us(redlock: &RedLock) -> u128 {
    let mut times = Vec::new();
    for _ in 0..2000 {
        let start = Instant::now();
        let guard = redlock.lock("k", LONG).acquire().await.unwrap();
        times.push(start.elapsed().as_micros());
        guard.release().await.unwrap();
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test]
#[ignore = "measures; run it alone, in release mode, on a quiet machine"]
async fn one_blackholed_node_of_five_at_most_doubles_p99() {
    for (name, binary) in binaries() {
        let servers = Server::many(&binary, 5).await;
        let redlock = RedLock::builder().nodes(servers.iter().map(Server::url)).build().unwrap();
        p99_us(&redlock).await;
        let healthy = p99_us(&redlock).await;
        servers[0].signal("-STOP");
        let blackholed = p99_us(&redlock).await;
        servers[0].signal("-CONT");
        println!("{name}: p99 healthy {healthy} us, one of five blackholed {blackholed} us");
        assert!(blackholed <= 2 * healthy);
    }
}

#[tokio::test]
async fn a_lock_survives_a_server_that_restarts_empty_and_gives_it_the_key_again() {
    for (name, binary) in binaries() {
        // Ours would refuse new locks until the longest it may have forgotten is over.
        let extra: &[&str] =
            if name == "holdfast-server" { &["--lock-quarantine", "no"] } else { &[] };
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start(&binary, extra).await);
        }
        let redlock = insistent(&servers);
        let mut guard = redlock.lock("k", LONG).acquire().await.unwrap();
        everywhere(&servers, "k").await;
        servers[0].kill();
        guard.extend(LONG).await.unwrap();
        servers[0].start_again().await;
        eventually_async("topped up", async || {
            guard.extend(LONG).await.unwrap();
            servers[0].holds("k").await
        })
        .await;
        guard.release().await.unwrap();
        nowhere(&servers, "k").await;
    }
}

#[tokio::test]
async fn keys_expire_by_themselves_when_the_owner_is_gone() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let redlock = client(&servers).build().unwrap();
        let guard = redlock.lock("k", Duration::from_secs(2)).acquire().await.unwrap();
        let lost = guard.lost();
        std::mem::forget(guard);
        lost.await;
        nowhere(&servers, "k").await;
    }
}

#[tokio::test]
async fn passwords_users_databases_unix_sockets_and_resp3() {
    let Some(binary) = common::server::find("redis-server") else {
        common::server::skipped(
            "no redis-server in PATH; AUTH, SELECT and unix sockets were not tested",
        );
        return;
    };
    let server = Server::start(
        &binary,
        &[
            "--requirepass",
            "p@ss",
            "--unixsocket",
            "redis.sock",
            "--user",
            "worker",
            "on",
            ">w:rk",
            "~lock:*",
            "+@all",
        ],
    )
    .await;
    let port = server.port;
    let socket = server.dir().join("redis.sock");
    let socket = socket.display();
    for url in [
        format!("redis://:p%40ss@127.0.0.1:{port}"),
        format!("redis://default:p%40ss@localhost:{port}/3"),
        format!("redis://worker:w%3Ark@127.0.0.1:{port}"),
        format!("redis://worker:w%3Ark@127.0.0.1:{port}/2?protocol=resp3"),
        format!("redis://:p%40ss@127.0.0.1:{port}?protocol=resp3"),
        format!("unix://{socket}?pass=p%40ss&db=1"),
    ] {
        let redlock =
            RedLock::builder().node(&url).node_timeout(Duration::from_secs(5)).build().unwrap();
        for keys in [vec!["lock:k"], vec!["lock:a", "lock:b"]] {
            let mut guard = redlock
                .lock_many(keys, LONG)
                .acquire()
                .await
                .unwrap_or_else(|e| panic!("{url}: {e}"));
            guard.extend(LONG).await.unwrap();
            guard.release().await.unwrap();
        }
    }
    for (url, text) in [
        (format!("redis://127.0.0.1:{port}"), "NOAUTH"),
        (format!("redis://:wrong@127.0.0.1:{port}"), "WRONGPASS"),
        (format!("redis://:p%40ss@127.0.0.1:{port}/99"), "SELECT refused"),
    ] {
        let redlock =
            RedLock::builder().node(&url).node_timeout(Duration::from_secs(5)).retry(Retry::none());
        let error =
            redlock.build().unwrap().lock("k", LONG).acquire().await.unwrap_err().to_string();
        assert!(error.contains(text) && !error.contains("wrong@"), "{error}");
    }
}

#[tokio::test]
async fn ipv6_is_reachable() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        common::server::skipped("no IPv6 loopback; nothing was tested over IPv6");
        return;
    }
    let Some(binary) = common::server::find("redis-server") else {
        common::server::skipped("no redis-server in PATH; nothing was tested over IPv6");
        return;
    };
    let server = Server::start(&binary, &["--bind", "127.0.0.1", "::1"]).await;
    let url = format!("redis://[::1]:{}", server.port);
    let redlock =
        RedLock::builder().node(url).node_timeout(Duration::from_secs(5)).build().unwrap();
    redlock.lock("k", LONG).acquire().await.unwrap().release().await.unwrap();
}
