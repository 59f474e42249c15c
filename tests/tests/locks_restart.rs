//! What a server keeps of its locks when it is killed: the quarantine, and tokens that never repeat.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use holdfast_tests::client::Client;
use holdfast_tests::server::{Kind, Server, is_available};
use holdfast_tests::wire::Reply;
use holdfast_tests::{skip_loudly, wall_clock};

/// A data directory that outlives its servers.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Option<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if !is_available(Kind::Ours) {
            return None;
        }
        let name = format!("{}-{}", std::process::id(), SERIAL.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(format!("holdfast-restart-{name}"));
        fs::create_dir_all(&dir).unwrap();
        Some(Self(dir))
    }

    /// A server in this directory; dropping it is a kill -9.
    fn start(&self, args: &[&str]) -> Server {
        let dir = ["--dir", self.0.to_str().unwrap()];
        Server::start(Kind::Ours, &[&dir[..], args].concat())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn token(reply: &Reply) -> i64 {
    reply.elements()[0].int()
}

/// The ms that a refusal tells.
fn quarantine_ms(reply: &Reply) -> u64 {
    assert!(reply.is_error("QUARANTINE "), "{reply:?}");
    let text = reply.text();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

fn terminate(server: &mut Server) {
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
}

#[test]
fn a_killed_server_grants_nothing_until_its_locks_are_over() {
    let Some(dir) = Dir::new() else { return };
    let server = dir.start(&[]);
    let mut client = server.client();
    let before = token(&client.line("LOCK.ACQUIRE k a 1500"));
    for n in 0..100 {
        client.cmd(&["LOCK.ACQUIRE", &format!("k{n}"), "a", "10"]);
    }
    let last = token(&client.line("LOCK.ACQUIRE last a 10"));
    assert_eq!(last, before + 101);
    drop(server);
    let killed = Instant::now();

    let server = dir.start(&[]);
    let mut client = server.client();
    let left_ms = quarantine_ms(&client.line("LOCK.ACQUIRE k b 1500"));
    assert!((1..=1_700).contains(&left_ms), "{left_ms}");
    // Waiting does not help, nor do scripts and transactions; plain keys are free.
    quarantine_ms(&client.line("LOCK.ACQUIRE k b 1500 BLOCK 5000"));
    assert!(client.line("SET plain v NX PX 1500").is_ok());
    assert!(client.line("LOCK.RENEW k a 1500").is_nil());
    let deadline = Instant::now() + Duration::from_secs(10);
    let granted = loop {
        let reply = client.line("LOCK.ACQUIRE k b 1500");
        if !reply.is_error("QUARANTINE") {
            break reply;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(killed.elapsed() >= Duration::from_millis(1_500));
    assert!(token(&granted) > last, "{granted:?} after {last}");
}

#[test]
fn killed_again_and_again_it_never_repeats_a_token() {
    let Some(dir) = Dir::new() else { return };
    let mut last = 0;
    for _ in 0..4 {
        let server = dir.start(&["--lock-quarantine", "no"]);
        let mut client = server.client();
        for n in 0..50 {
            let token = token(&client.cmd(&["LOCK.ACQUIRE", &format!("k{n}"), "a", "60000"]));
            assert!(token > last, "{token} after {last}");
            last = token;
        }
    }
    let server = dir.start(&["--lock-quarantine", "no", "--lock-token-floor", "5000000000"]);
    assert_eq!(token(&server.client().line("LOCK.ACQUIRE k a 10")), 5_000_000_001);
}

#[test]
fn a_clean_stop_waits_only_for_what_is_held() {
    let Some(dir) = Dir::new() else { return };
    let mut server = dir.start(&[]);
    let mut client = server.client();
    client.line("LOCK.ACQUIRE k a 600000");
    client.line("LOCK.RELEASE k a");
    terminate(&mut server);
    let mut server = dir.start(&[]);
    let mut client = server.client();
    token(&client.line("LOCK.ACQUIRE k b 30000"));
    terminate(&mut server);
    let server = dir.start(&[]);
    let left_ms = quarantine_ms(&server.client().line("LOCK.ACQUIRE k c 10"));
    assert!((20_000..=30_000).contains(&left_ms), "{left_ms}");
}

#[test]
fn an_operator_may_say_how_long() {
    let Some(dir) = Dir::new() else { return };
    // An empty directory is a new node, unless it replaces a lost one.
    token(&dir.start(&[]).client().line("LOCK.ACQUIRE k a 600000"));
    token(&dir.start(&["--lock-quarantine", "no"]).client().line("LOCK.ACQUIRE k a 600000"));
    let Some(empty) = Dir::new() else { return };
    let server = empty.start(&["--lock-quarantine", "300"]);
    let mut client = server.client();
    assert!(quarantine_ms(&client.line("LOCK.ACQUIRE k a 10")) <= 300);
    std::thread::sleep(Duration::from_millis(310));
    token(&client.line("LOCK.ACQUIRE k a 10"));
}

#[test]
fn the_scope_may_include_plain_locks() {
    let Some(dir) = Dir::new() else { return };
    let args = ["--lock-quarantine-scope", "all"];
    let server = dir.start(&args);
    assert!(server.client().line("SET k a NX PX 1000").is_ok());
    drop(server);
    let server = dir.start(&args);
    let mut client = server.client();
    quarantine_ms(&client.line("SET k b NX PX 1000"));
    quarantine_ms(&client.line("LOCK.ACQUIRE l b 1000"));
    // Neither of these is a lock.
    assert!(client.line("SET k b PX 1000").is_ok());
    assert!(client.line("SET j b NX").is_ok());
    std::thread::sleep(Duration::from_millis(1_150));
    assert!(client.line("SET k b NX PX 1000").is_ok());
}

#[test]
fn a_damaged_file_is_told_and_not_ignored() {
    let Some(dir) = Dir::new() else { return };
    token(&dir.start(&[]).client().line("LOCK.ACQUIRE k a 1000"));
    let path = dir.0.join("holdfast-locks");
    let mut bytes = fs::read(&path).unwrap();
    bytes[25] ^= 1;
    fs::write(&path, bytes).unwrap();
    let started = std::panic::catch_unwind(|| dir.start(&[]));
    let message = match started {
        Ok(_) => panic!("it started on a damaged file"),
        Err(panic) => panic.downcast::<String>().unwrap(),
    };
    assert!(message.contains("holdfast-locks: it is damaged"), "{message}");
    assert!(message.contains("lock-token-floor"), "{message}");
}

#[test]
fn a_server_without_locks_leaves_no_file() {
    let Some(dir) = Dir::new() else { return };
    let mut server = dir.start(&[]);
    assert!(server.client().line("SET k v NX PX 1000").is_ok());
    terminate(&mut server);
    assert!(!dir.0.join("holdfast-locks").exists());
}

const JOURNAL: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[test]
fn a_synced_journal_brings_locks_and_tokens_back() {
    let Some(dir) = Dir::new() else { return };
    let server = dir.start(&JOURNAL);
    let mut client = server.client();
    let lease = client.line("LEASE.GRANT 600000").int();
    // From many threads at once, so that records of different shards come in any order.
    let tokens: Vec<(String, i64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let mut client = server.client();
                scope.spawn(move || {
                    let mut taken = Vec::new();
                    for n in 0..100 {
                        let key = format!("k:{worker}:{n}");
                        let reply = client.cmd(&["LOCK.ACQUIRE", &key, "me", "600000"]);
                        taken.push((key, token(&reply)));
                    }
                    taken
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    token(&client.line("LOCK.ACQUIRE readers a 600000 SHARED DATA here"));
    token(&client.line("LOCK.ACQUIRE readers b 600000 SHARED DELAY 5"));
    token(&client.cmd(&["LOCK.ACQUIRE", "leased", "a", "LEASE", &lease.to_string()]));
    assert_eq!(client.line("LOCK.RENEW k:0:0 me 600000 FENCE 7000").int(), 7000);
    let last = token(&client.line("LOCK.ACQUIRE last a 600000"));
    assert_eq!(last, 7001);
    let before = client.line("LOCK.INFO readers");
    drop(server);

    let server = dir.start(&JOURNAL);
    let mut client = server.client();
    for (key, token) in &tokens[1..] {
        assert!(client.cmd(&["LOCK.CHECK", key, &token.to_string()]).is_ok(), "{key} {token}");
    }
    assert!(client.line("LOCK.CHECK k:0:0 7000").is_ok());
    let after = client.line("LOCK.INFO readers");
    // All but the times that pass.
    let owner = |info: &Reply| info.elements()[3].elements()[1].elements()[1].text();
    assert_eq!((owner(&before), owner(&after)), ("b".to_owned(), "b".to_owned()));
    assert_eq!(client.cmd(&["LEASE.RENEW", &lease.to_string()]).int(), 600_000);
    assert_eq!(client.cmd(&["LEASE.REVOKE", &lease.to_string()]).int(), 1);
    assert_eq!(client.line("EXISTS leased").int(), 0);
    // No quarantine, and no token a second time.
    assert!(token(&client.line("LOCK.ACQUIRE next a 600000")) > last);
    drop(server);
    // A journal that began anew from a snapshot tells the same.
    let server = dir.start(&JOURNAL);
    let mut client = server.client();
    assert!(client.line("BGREWRITEAOF").text().starts_with("Background"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !client.line("INFO persistence").text().contains("aof_rewrite_in_progress:0") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(server);
    let server = dir.start(&JOURNAL);
    let mut client = server.client();
    for (key, token) in &tokens[1..] {
        assert!(client.cmd(&["LOCK.CHECK", key, &token.to_string()]).is_ok(), "{key} {token}");
    }
    assert!(client.line("LOCK.CHECK last 7001").is_ok());
    assert!(client.line("LOCK.ACQUIRE last b 5").is_nil());
}

#[test]
fn a_restart_at_another_wall_time_neither_ends_locks_nor_keeps_them() {
    let Some(dir) = Dir::new() else { return };
    let environment = match wall_clock::environment(&dir.0) {
        Ok(environment) => environment,
        Err(why) => return skip_loudly(&format!("a wall clock that is set: {why}")),
    };
    let mut server = Server::start_in(Kind::Ours, &JOURNAL, &environment);
    let held = token(&server.client().line("LOCK.ACQUIRE k a 600000"));
    for seconds in [3_600, -3_600] {
        server.crash();
        wall_clock::set(&dir.0, seconds);
        server.start_again(&JOURNAL).unwrap();
        let mut client = server.client();
        assert!(client.cmd(&["LOCK.CHECK", "k", &held.to_string()]).is_ok(), "{seconds} s");
        assert!(client.line("LOCK.ACQUIRE k b 1000").is_nil(), "{seconds} s");
        let left_ms = client.line("LOCK.INFO k").elements()[5].int();
        assert!((500_000..=600_000).contains(&left_ms), "{seconds} s: {left_ms} ms");
        assert!(server.log().contains("delete holdfast-clock"), "{}", server.log());
    }
    // A damaged file says nothing: the clock begins at wall time.
    server.crash();
    let path = server.dir().join("holdfast-clock");
    let mut bytes = fs::read(&path).unwrap();
    bytes[60] ^= 1;
    fs::write(&path, bytes).unwrap();
    wall_clock::set(&dir.0, 0);
    server.start_again(&JOURNAL).unwrap();
    assert!(server.client().cmd(&["LOCK.CHECK", "k", &held.to_string()]).is_ok());
}

/// A machine that starts before its clock is right: the server's clock follows once it is set,
/// unless something counts time by it.
#[test]
fn a_wall_clock_that_is_set_right_is_followed_while_nothing_expires() {
    let Some(dir) = Dir::new() else { return };
    let environment = match wall_clock::environment(&dir.0) {
        Ok(environment) => environment,
        Err(why) => return skip_loudly(&format!("a wall clock that is set: {why}")),
    };
    for wrong_s in [7_200, -7_200] {
        wall_clock::set(&dir.0, wrong_s);
        let server = Server::start_in(Kind::Ours, &[], &environment);
        let mut client = server.client();
        let time_s = |client: &mut Client| client.line("TIME").elements()[0].int();
        let right_s = time_s(&mut client) - wrong_s;
        assert!(client.line("SET plain v").is_ok());
        let held = token(&client.line("LOCK.ACQUIRE k a 600000"));
        wall_clock::set(&dir.0, 0);
        // While a lock is held, the clock slews, and says so.
        let until = Instant::now() + Duration::from_secs(60);
        while !server.log().contains("runs ") {
            assert!(Instant::now() < until, "nothing is said: {}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(client.cmd(&["LOCK.CHECK", "k", &held.to_string()]).is_ok());
        let left_ms = client.line("LOCK.INFO k").elements()[5].int();
        assert!((300_000..=600_000).contains(&left_ms), "{left_ms} ms");
        let right_in_s: i64 = client.info("server", "holdfast_clock_right_in_s").parse().unwrap();
        assert!((7_000 * 2_000..7_400 * 2_000).contains(&right_in_s), "{right_in_s} s");
        // Then it is set.
        assert!(!client.line("LOCK.RELEASE k a").is_nil());
        let until = Instant::now() + Duration::from_secs(120);
        while client.info("server", "holdfast_clock_right_in_s") != "0" {
            assert!(Instant::now() < until, "the clock is not set: {}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let now_s = time_s(&mut client);
        assert!((right_s - 5..right_s + 300).contains(&now_s), "{now_s} and not {right_s}");
        let soon = (right_s + 600).to_string();
        assert!(client.cmd(&["SET", "lives", "v", "EXAT", &soon]).is_ok());
        let ttl = client.line("TTL lives").int();
        assert!((200..=605).contains(&ttl), "{ttl}");
    }
}

#[test]
fn a_journal_that_may_have_lost_its_end_needs_the_quarantine() {
    let Some(dir) = Dir::new() else { return };
    let args = ["--appendonly", "yes", "--appendfsync", "everysec"];
    token(&dir.start(&args).client().line("LOCK.ACQUIRE k a 600000"));
    // That it is synced now does not tell that it was then.
    let server = dir.start(&JOURNAL);
    quarantine_ms(&server.client().line("LOCK.ACQUIRE other b 10"));
    drop(server);
    let Some(dir) = Dir::new() else { return };
    let server = dir.start(&JOURNAL);
    let mut client = server.client();
    token(&client.line("LOCK.ACQUIRE k a 600000"));
    assert!(client.line("CONFIG SET appendfsync everysec").is_ok());
    drop(server);
    quarantine_ms(&dir.start(&JOURNAL).client().line("LOCK.ACQUIRE other b 10"));
}

#[test]
fn a_snapshot_at_the_end_keeps_locks() {
    let Some(dir) = Dir::new() else { return };
    let args = ["--save", "3600 1"];
    let mut server = dir.start(&args);
    let mut client = server.client();
    let held = token(&client.line("LOCK.ACQUIRE k a 600000"));
    assert!(client.line("DUMP k").is_error("ERR a lock cannot be dumped"));
    terminate(&mut server);
    let mut server = dir.start(&args);
    let mut client = server.client();
    assert!(client.cmd(&["LOCK.CHECK", "k", &held.to_string()]).is_ok());
    assert!(token(&client.line("LOCK.ACQUIRE j a 600000")) > held);
    client.send(&["SHUTDOWN"]).unwrap();
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
    let server = dir.start(&args);
    let mut client = server.client();
    assert!(client.line("LOCK.ACQUIRE j b 5").is_nil());
    token(&client.line("LOCK.ACQUIRE free b 5"));
    // A crash after that is another matter: the file is older than the locks.
    drop(server);
    quarantine_ms(&dir.start(&args).client().line("LOCK.ACQUIRE free b 5"));
}
