//! While a journal is replayed clients are told so, and how long it will take.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::server::{Kind, Server, is_available};

/// Changes of the journal are made by scripts; how many scripts, and how many changes of each.
const SCRIPTS: u64 = 20;
const CHANGES: u64 = 30_000;

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// What INFO persistence says during a replay, and what GET does.
#[derive(Debug, Default)]
struct Seen {
    infos: Vec<String>,
    refused: usize,
}

#[test]
fn who_comes_during_the_replay_is_told_to_wait_and_how_long() {
    if !is_available(Kind::Ours) {
        return;
    }
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = Server::start(Kind::Ours, &args);
    let mut client = server.client();
    let body = "for i = ARGV[1], ARGV[2] do \
                  redis.call('zadd', KEYS[1], i * 7919 % 1000003, 'member:' .. i) \
                end return redis.call('zcard', KEYS[1])";
    for number in 1..=SCRIPTS {
        let (from, to) = (((number - 1) * CHANGES + 1).to_string(), (number * CHANGES).to_string());
        let count = client.cmd(&["EVAL", body, "1", "ran", &from, &to]).int();
        assert_eq!(count as u64, number * CHANGES);
    }
    server.crash();
    let (addr, stop) = (server.addr(), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Seen::default();
            while !stop.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let Ok(mut client) = Client::connect(addr) else { continue };
                let mut ask = |args: &[&str]| {
                    client.send(args).ok()?;
                    match client.receive(Duration::from_secs(5)) {
                        Received::Reply(reply) => Some(reply),
                        Received::Nothing | Received::Closed => None,
                    }
                };
                let Some(info) = ask(&["INFO", "persistence"]) else { continue };
                let Some(got) = ask(&["ZCARD", "ran"]) else { continue };
                if field(&info.text(), "loading") == Some("1") {
                    seen.infos.push(info.text());
                }
                if got.is_error("LOADING") {
                    let text = got.text();
                    assert_eq!(text, "-LOADING Redis is loading the dataset in memory");
                    seen.refused += 1;
                }
            }
            seen
        });
        let began = Instant::now();
        let started = server.start_again(&args);
        println!("loaded in {:?}", began.elapsed());
        stop.store(true, Relaxed);
        started.unwrap();
        watcher.join().unwrap()
    });
    println!("told {} times to wait, INFO {} times", seen.refused, seen.infos.len());
    assert!(seen.refused > 3 && seen.infos.len() > 3, "the replay was over at once");
    let number = |info: &String, name: &str| -> f64 { field(info, name).unwrap().parse().unwrap() };
    let mut done_before = 0.0;
    for info in &seen.infos {
        let (total, done) =
            (number(info, "loading_total_bytes"), number(info, "loading_loaded_bytes"));
        assert!(done <= total && done >= done_before, "{info}");
        done_before = done;
        assert!((0.0..=100.0).contains(&number(info, "loading_loaded_perc")), "{info}");
        assert!((0.0..60.0).contains(&number(info, "loading_eta_seconds")), "{info}");
        assert!(number(info, "loading_start_time") > 1e9, "{info}");
    }
    assert!(done_before > 0.0, "no progress was told: {}", seen.infos.last().unwrap());
    let mut client = server.client();
    assert_eq!(client.line("ZCARD ran").int() as u64, SCRIPTS * CHANGES);
    let info = client.line("INFO persistence").text();
    assert_eq!(field(&info, "loading"), Some("0"));
    assert_eq!(field(&info, "loading_eta_seconds"), None, "as in Redis");
}
