//! Damage and full disks: what a server drops, what it refuses, and that it says what to do.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_tests::client::Received;
use holdfast_tests::server::{Kind, Server, is_available};

const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn log_file(server: &Server) -> PathBuf {
    let dir = server.dir().join("appendonlydir");
    let mut logs: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort();
    logs.pop().unwrap()
}

/// Bytes of a log without the room behind its last frame, which ends in no zero.
fn frames_len(log: &[u8]) -> usize {
    log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// With `always` small groups overwrite zeros: the power may fail while any part of the last is on disk.
#[test]
fn a_write_into_the_room_ahead_may_be_torn_anywhere() {
    if !is_available(Kind::Ours) {
        return;
    }
    const SECTOR_LEN: usize = 512;
    let mut server = Server::start(Kind::Ours, ALWAYS);
    let mut c = server.client();
    let value = "v".repeat(3 * SECTOR_LEN);
    let mut told_len = 0;
    let mut last_frame = 0;
    for n in 0..100 {
        assert!(c.cmd(&["SET", &format!("key:{n}"), &value]).is_ok());
        last_frame = told_len;
        told_len = c.info("persistence", "aof_current_size").parse().unwrap();
    }
    let path = log_file(&server);
    server.crash();
    let whole = fs::read(&path).unwrap();
    let end = frames_len(&whole);
    assert!(whole.len().is_multiple_of(512 << 10), "{} bytes: no room was made", whole.len());
    assert_eq!(told_len, end, "room is no content");
    // One of the last frame's sectors is missing, or all but that one.
    let middle = (last_frame / SECTOR_LEN + 2) * SECTOR_LEN;
    let (sector, behind) = (middle..middle + SECTOR_LEN, middle + SECTOR_LEN..end);
    for missing in [vec![sector.clone()], vec![last_frame..sector.start, behind]] {
        let mut torn = whole.clone();
        for part in missing {
            torn[part].fill(0);
        }
        fs::write(&path, &torn).unwrap();
        server.start_again(ALWAYS).unwrap();
        assert!(server.log().contains("not written whole"), "{}", server.log());
        assert_eq!(server.client().line("DBSIZE").int(), 99);
        server.crash();
    }
    // Room that was not used is nothing to speak of; elsewhere than at the end it is damage.
    fs::write(&path, &whole).unwrap();
    server.start_again(ALWAYS).unwrap();
    assert!(!server.log().contains("not written whole"), "{}", server.log());
    let mut c = server.client();
    assert_eq!(c.line("DBSIZE").int(), 100);
    server.crash();
    let mut damaged = whole.clone();
    damaged[end / 2..end / 2 + SECTOR_LEN].fill(0);
    fs::write(&path, &damaged).unwrap();
    assert!(server.start_again(ALWAYS).unwrap_err().contains("damaged at byte"));
    fs::write(&path, &whole).unwrap();
    // Whoever syncs less often appends.
    server.start_again(ALWAYS).unwrap();
    let mut c = server.client();
    for _ in 0..100 {
        c.line("INCR counter");
    }
    assert!(fs::metadata(&path).unwrap().len().is_multiple_of(512 << 10));
    assert!(c.line("CONFIG SET appendfsync everysec").is_ok());
    c.line("INCR counter");
    let until = Instant::now() + Duration::from_secs(10);
    while fs::metadata(&path).unwrap().len().is_multiple_of(512 << 10) {
        assert!(Instant::now() < until, "the room is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.crash();
    server.start_again(ALWAYS).unwrap();
    assert_eq!(server.client().line("GET counter").text(), "101");
}

#[test]
fn a_torn_tail_is_dropped_and_damage_is_refused_until_it_is_repaired() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut server = Server::start(Kind::Ours, ALWAYS);
    let mut c = server.client();
    for n in 0..50 {
        c.line(&format!("SET key:{n} value"));
    }
    server.crash();
    let path = log_file(&server);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..frames_len(&whole) - 3]).unwrap();
    let log = server.start_again(&[ALWAYS, &["--aof-load-truncated", "no"]].concat()).unwrap_err();
    assert!(log.contains("not written whole") && log.contains("aof-load-truncated"), "{log}");
    server.start_again(ALWAYS).unwrap();
    assert!(server.log().contains("not written whole"), "{}", server.log());
    let mut c = server.client();
    assert_eq!(c.line("DBSIZE").int(), 49);
    c.line("SET after torn");
    server.crash();
    // A bit that flips in the middle is no torn tail.
    let mut damaged = fs::read(&path).unwrap();
    let middle = frames_len(&damaged) / 2;
    damaged[middle] ^= 4;
    fs::write(&path, &damaged).unwrap();
    let log = server.start_again(ALWAYS).unwrap_err();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(log.contains("damaged at byte") && log.contains(name), "{log}");
    assert!(log.contains("--repair-journal"), "{log}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "nothing was touched");
    let repaired = std::process::Command::new(Kind::Ours.binary().unwrap())
        .args(["--repair-journal", path.parent().unwrap().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(repaired.status.success(), "{repaired:?}");
    server.start_again(ALWAYS).unwrap();
    let left = server.client().line("DBSIZE").int();
    assert!((10..49).contains(&left), "{left}");
    let kept = fs::read_dir(path.parent().unwrap()).unwrap();
    let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(kept.into_iter().any(|name| name.contains("cut-at")), "what was cut is kept");
    // Two servers never share a journal.
    let dir = server.dir().to_str().unwrap().to_owned();
    let second = std::process::Command::new(Kind::Ours.binary().unwrap())
        .args(["--port", "0", "--unixsocket", "second.sock", "--dir", &dir, "--appendonly", "yes"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let told = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(told.contains("another server uses this directory"), "{told}");
}

#[test]
fn a_damaged_snapshot_is_refused_and_shutdown_saves() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut server = Server::start(Kind::Ours, &[]);
    let mut c = server.client();
    c.line("SET key value");
    assert!(c.line("CONFIG SET save 3600:1").is_any_error());
    assert!(c.cmd(&["CONFIG", "SET", "save", "3600 1000"]).is_ok());
    let changes = c.info("persistence", "rdb_changes_since_last_save");
    assert_eq!(changes, "1");
    let _ = c.send(&["SHUTDOWN"]);
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
    let path = server.dir().join("dump.rdb");
    let mut file = fs::read(&path).unwrap();
    server.start_again(&[]).unwrap();
    assert_eq!(server.client().line("GET key").text(), "value");
    let middle = file.len() - 12;
    file[middle] ^= 1;
    fs::write(&path, &file).unwrap();
    let log = server.start_again(&[]).unwrap_err();
    assert!(log.contains("dump.rdb") && log.contains("at byte"), "{log}");
}

/// A disk that takes no more refuses changes, and nothing that was acknowledged is lost.
#[test]
fn a_full_disk_refuses_changes_until_it_has_room() {
    if !is_available(Kind::Ours) {
        return;
    }
    for policy in ["always", "everysec"] {
        let args = ["--appendonly", "yes", "--appendfsync", policy];
        let mut server = Server::start(Kind::Ours, &args);
        let mut c = server.client();
        assert!(c.line("SET before full").is_ok());
        if !server.limit_files("20000") {
            return;
        }
        let value = "x".repeat(1000);
        let mut acknowledged = 0;
        let refused = loop {
            c.send(&["SET", &format!("key:{acknowledged}"), &value]).unwrap();
            match c.receive(Duration::from_secs(60)) {
                Received::Reply(reply) if reply.is_ok() => acknowledged += 1,
                Received::Reply(reply) => break reply,
                _ => panic!("a write has no answer: {}", server.log()),
            }
            assert!(acknowledged < 100_000, "it does not fail");
        };
        if policy == "always" {
            // The first write that fails has been carried out: nobody knows whether it stays.
            assert!(refused.is_error("UNKNOWN The journal cannot be written"), "{refused:?}");
            assert!(c.closed_within(Duration::from_secs(20)));
        } else {
            assert!(refused.is_error("MISCONF Errors writing to the AOF file"), "{refused:?}");
        }
        // Others are told at once, may read, and see why.
        let mut other = server.client();
        let refused = other.line("SET another key");
        assert!(refused.is_error("MISCONF Errors writing to the AOF file"), "{refused:?}");
        assert!(other.line("EVAL return{redis.call('incr','n')} 0").is_any_error());
        for line in ["MULTI", "GET before"] {
            other.line(line);
        }
        let refused = other.line("SET another key");
        assert!(refused.is_error("MISCONF Errors writing to the AOF file"), "{refused:?}");
        assert!(other.line("EXEC").is_error("EXECABORT Transaction discarded because of previous"));
        assert_eq!(other.line("GET before").text(), "full");
        assert_eq!(other.info("persistence", "aof_last_write_status"), "err");
        assert!(other.line("SHUTDOWN NOSAVE").is_error("ERR Errors trying to SHUTDOWN"));
        assert!(server.log().contains("Error writing to the journal"), "{}", server.log());
        assert!(server.limit_files("unlimited"));
        if policy == "always" {
            // Once there is room it stays.
            acknowledged += 1;
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while other.line("SET after full").is_any_error() {
            assert!(Instant::now() < deadline, "it does not recover");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(other.info("persistence", "aof_last_write_status"), "ok");
        other.line("WAITAOF 1 0 5000");
        server.start_again(&args).unwrap();
        let mut c = server.client();
        assert_eq!(c.line("DBSIZE").int(), acknowledged + 2, "{policy}");
        assert_eq!(c.line("EXISTS before after").int(), 2);
        // Neither does a snapshot that cannot be written take the place of the last one.
        if policy == "everysec" {
            assert!(c.line("SAVE").is_ok());
            assert!(c.cmd(&["CONFIG", "SET", "save", "3600 1000000"]).is_ok());
            assert!(c.line("CONFIG SET rdbcompression no").is_ok());
            assert!(server.limit_files("5000"));
            assert!(c.line("SAVE").is_any_error());
            assert!(!c.line("BGSAVE").is_any_error());
            let deadline = Instant::now() + Duration::from_secs(10);
            while c.info("persistence", "rdb_last_bgsave_status") != "err" {
                assert!(Instant::now() < deadline, "BGSAVE does not fail");
                std::thread::sleep(Duration::from_millis(10));
            }
            let refused = c.line("SET key value");
            assert!(refused.is_error("MISCONF Redis is configured to save RDB"), "{refused:?}");
            assert!(server.limit_files("unlimited"));
            assert!(c.line("SAVE").is_ok());
            assert!(c.line("SET key value").is_ok());
        }
    }
}

/// A base that is damaged is no good journal, and nothing of it is touched.
#[test]
fn a_damaged_base_is_not_called_good() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut server = Server::start(Kind::Ours, ALWAYS);
    let mut c = server.client();
    for n in 0..100 {
        assert!(c.cmd(&["SET", &format!("key:{n}"), "value"]).is_ok());
    }
    assert!(!c.line("BGREWRITEAOF").is_any_error());
    let dir = server.dir().join("appendonlydir");
    let base = || {
        let mut names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.to_str().unwrap().ends_with(".base.rdb"))
    };
    let until = Instant::now() + Duration::from_secs(10);
    while base().is_none() || c.info("persistence", "aof_rewrite_in_progress") != "0" {
        assert!(Instant::now() < until, "it is not rewritten");
        std::thread::sleep(Duration::from_millis(10));
    }
    let path = base().unwrap();
    server.crash();
    let repair = || {
        let output = std::process::Command::new(Kind::Ours.binary().unwrap())
            .args(["--repair-journal", dir.to_str().unwrap()])
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(told).unwrap())
    };
    let (good, told) = repair();
    assert!(good && told.contains(".base.rdb is good") && told.contains(".log is good"), "{told}");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (good, told) = repair();
    assert!(!good && told.contains(".base.rdb") && told.contains("damaged"), "{told}");
    assert!(!told.contains("is good"), "{told}");
    fs::remove_file(&path).unwrap();
    let (good, told) = repair();
    assert!(!good && told.contains(".base.rdb"), "{told}");
}

/// `--check` refuses what the start refuses.
#[test]
fn check_refuses_what_a_start_would() {
    if !is_available(Kind::Ours) {
        return;
    }
    let server = Server::start_with_files(Kind::Ours, &[], &[("users.acl", b"user x nonsense\n")]);
    let dir = server.dir().to_str().unwrap().to_owned();
    let mut checks = vec![
        (vec!["--maxmemory", "100mb"], None),
        (
            vec!["--raft", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            Some("maxmemory-policy"),
        ),
        (vec!["--raft", "yes", "--rename-command", "GET", "OTHER"], Some("rename-command")),
        (vec!["--raft", "yes", "--port", "60000"], Some("Raft port")),
        (vec!["--rename-command", "NOSUCH", "OTHER"], Some("No such command")),
        (vec!["--user", "x", "nonsense"], Some("nonsense")),
        (vec!["--aclfile", "users.acl"], Some("users.acl")),
    ];
    std::fs::create_dir_all(server.dir().join("member/raft/log")).unwrap();
    let member = server.dir().join("member");
    checks.push((vec!["--dir", member.to_str().unwrap()], Some("raft yes")));
    for (args, refusal) in checks {
        let output = std::process::Command::new(Kind::Ours.binary().unwrap())
            .args(["--check", "--dir", &dir])
            .args(&args)
            .output()
            .unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.success(), refusal.is_none(), "{args:?}: {told}");
        assert!(told.contains(refusal.unwrap_or("is valid")), "{args:?}: {told}");
    }
}
