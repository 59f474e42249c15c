//! Memory that is no longer used goes back to the system without being asked for.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use holdfast_tests::client::Client;
use holdfast_tests::server::{Kind, Server, is_available};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(20);

/// Sends `count` commands by several connections, so that each worker thread allocates.
fn fill(server: &Server, count: usize, command: impl Fn(usize) -> String + Sync) {
    const CLIENTS: usize = 8;
    const BATCH: usize = 100;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let command = &command;
            scope.spawn(move || {
                let mut connection = server.client();
                let share = count / CLIENTS;
                for from in (client * share..(client + 1) * share).step_by(BATCH) {
                    let mut text = String::new();
                    for n in from..from + BATCH {
                        write!(text, "{}\r\n", command(n)).unwrap();
                    }
                    connection.send_raw(text.as_bytes()).unwrap();
                    for _ in from..from + BATCH {
                        assert!(!connection.read().is_error(""), "no command is refused");
                    }
                }
            });
        }
    });
}

fn shrinks_after(server: &Server, client: &mut Client, what: &str, command: &str) {
    let full = server.rss_bytes();
    assert!(full > 90 * MIB, "{what}: only {full} bytes were used");
    assert!(!client.line(command).is_error(""));
    let end = Instant::now() + SOON;
    // What is freed is counted within a moment. From then on nothing is sent to the server, because
    // a busy thread gives memory back by itself.
    std::thread::sleep(Duration::from_secs(1));
    // In a cluster the log still holds what was deleted, until the next snapshot.
    let used: u64 = client.info("memory", "used_memory").parse().unwrap();
    while server.rss_bytes() > used + used / 4 + 48 * MIB {
        let rss = server.rss_bytes();
        assert!(Instant::now() < end, "{what}: {rss} of {full} bytes are kept, {used} are used");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn memory_goes_back_to_the_system_after_much_was_deleted() {
    if !is_available(Kind::Ours) {
        return;
    }
    let value = "x".repeat(100);
    for mode in [&[][..], &["--raft", "yes"]] {
        let server = Server::start(Kind::Ours, mode);
        let mut client = server.client();
        if mode.contains(&"--raft") {
            assert!(client.line("RAFT.CLUSTER INIT").text().starts_with("OK"));
        }
        fill(&server, 800_000, |n| format!("SET key:{n} {value}"));
        shrinks_after(&server, &mut client, &format!("FLUSHALL {mode:?}"), "FLUSHALL");
        fill(&server, 800_000, |n| format!("HSET hash {n} {value}"));
        shrinks_after(&server, &mut client, &format!("DEL {mode:?}"), "DEL hash");
        assert_eq!(client.line("PING").text(), "PONG");
    }
}

/// The greatest resident memory since the last call, in bytes; `None` where the system does not tell.
fn peak_bytes(server: &Server) -> Option<u64> {
    let process = format!("/proc/{}", server.pid());
    let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    std::fs::write(format!("{process}/clear_refs"), "5").ok()?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[test]
fn a_large_value_stands_in_memory_once() {
    if !is_available(Kind::Ours) {
        return;
    }
    const LEN: usize = 100 << 20;
    let server = Server::start(Kind::Ours, &[]);
    let mut client = server.client();
    if peak_bytes(&server).is_none() {
        return holdfast_tests::skip_loudly("the peak of a process's memory cannot be read");
    }
    let before = server.rss_bytes();
    let value = vec![b'v'; LEN];
    assert!(client.cmd(&[&b"SET"[..], b"large", &value]).is_ok());
    let peak = peak_bytes(&server).unwrap() - before;
    assert!(peak < LEN as u64 + 40 * MIB, "{} MiB for a value of 100 MiB", peak / MIB);
    // Options behind it and a command that follows change nothing, and it is stored as it was sent.
    let mut both = holdfast_tests::client::encode(&[&b"SET"[..], b"large", &value, b"GET"]);
    both.extend(holdfast_tests::client::encode(&["STRLEN", "large"]));
    client.send_raw(&both).unwrap();
    assert_eq!(client.read().text().len(), LEN);
    assert_eq!(client.read().int(), LEN as i64);
    assert_eq!(client.line("APPEND large tail").int(), LEN as i64 + 4);
    assert_eq!(client.cmd(&["GETRANGE", "large", "-6", "-1"]).text(), "vvtail");
    for line in ["MULTI", "EXEC"] {
        let _ = client.line(line);
        if line == "MULTI" {
            assert_eq!(client.cmd(&[&b"SET"[..], b"other", &value]).text(), "QUEUED");
        }
    }
    assert_eq!(client.line("STRLEN other").int(), LEN as i64);
}
