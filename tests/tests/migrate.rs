//! MIGRATE between servers: ours and the oracle's, both ways, and under changes.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use holdfast_tests::client::Client;
use holdfast_tests::server::{Kind, Server, available, is_available};
use holdfast_tests::wire::Reply;

fn migrate(from: &mut Client, to: &Server, key: &str, options: &[&str]) -> Reply {
    let port = to.addr().port().to_string();
    let mut args = vec!["MIGRATE", "127.0.0.1", &port, key, "3", "5000"];
    args.extend(options);
    from.cmd(&args)
}

#[test]
fn keys_of_every_type_move_both_ways() {
    if !is_available(Kind::Ours) {
        return;
    }
    for other in available() {
        let (ours, theirs) = (Server::start(Kind::Ours, &[]), Server::start(other, &[]));
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            let (mut source, mut target) = (from.client(), to.client());
            for line in [
                "SET string value",
                "SET number 12",
                "RPUSH list a b c",
                "SADD set a b c",
                "HSET hash f v",
                "ZADD zset 1 a 2 b",
                "PFADD hll a b c",
                "GEOADD geo 13.361389 38.115556 Palermo",
                "SET timed value PX 100000",
            ] {
                assert!(!source.line(line).is_any_error(), "{line}");
            }
            target.line("SELECT 3");
            let read = |client: &mut Client| {
                [
                    "GET string",
                    "GET number",
                    "LRANGE list 0 -1",
                    "SCARD set",
                    "HGETALL hash",
                    "ZRANGE zset 0 -1 WITHSCORES",
                    "PFCOUNT hll",
                    "GEOHASH geo Palermo",
                    "GET timed",
                ]
                .map(|line| client.line(line))
            };
            let before = read(&mut source);
            let keys = ["KEYS", "number", "list", "nosuch", "set", "hash", "zset", "hll", "geo"];
            assert!(migrate(&mut source, to, "string", &[]).is_ok());
            assert!(migrate(&mut source, to, "", &keys).is_ok());
            assert!(migrate(&mut source, to, "timed", &[]).is_ok());
            assert_eq!(source.line("DBSIZE").int(), 0);
            assert_eq!(read(&mut target), before);
            assert!((1..=100_000).contains(&target.line("PTTL timed").int()));
            assert_eq!(target.line("PTTL string").int(), -1);
            assert_eq!(migrate(&mut source, to, "string", &[]).text(), "NOKEY");
            target.line("FLUSHALL");
        }
    }
}

#[test]
fn options_and_refusals_of_the_target() {
    if !is_available(Kind::Ours) {
        return;
    }
    for other in available() {
        let from = Server::start(Kind::Ours, &[]);
        let to = Server::start(other, &["--requirepass", "pw"]);
        let (mut source, mut target) = (from.client(), to.client());
        source.line("SET k here");
        let refused = "ERR Target instance replied with error: ";
        let told = migrate(&mut source, &to, "k", &[]);
        assert!(told.is_error(&format!("{refused}NOAUTH")), "{told:?}");
        let told = migrate(&mut source, &to, "k", &["AUTH", "wrong"]);
        assert!(told.is_error(&format!("{refused}WRONGPASS")), "{told:?}");
        assert_eq!(source.line("GET k").text(), "here");
        assert!(migrate(&mut source, &to, "k", &["COPY", "AUTH", "pw"]).is_ok());
        assert_eq!(source.line("GET k").text(), "here");
        let told = migrate(&mut source, &to, "k", &["AUTH2", "default", "pw"]);
        assert!(told.is_error(&format!("{refused}BUSYKEY")), "{told:?}");
        source.line("SET k there");
        source.line("SET other x");
        // What the target takes is moved, though it refuses another.
        let told = migrate(&mut source, &to, "", &["AUTH", "pw", "KEYS", "k", "other"]);
        assert!(told.is_error(&format!("{refused}BUSYKEY")), "{told:?}");
        assert_eq!(source.line("EXISTS k other").int(), 1);
        assert!(migrate(&mut source, &to, "k", &["REPLACE", "AUTH", "pw"]).is_ok());
        target.line("AUTH pw");
        target.line("SELECT 3");
        assert_eq!(target.line("MGET k other").texts(), ["there", "x"]);
        assert_eq!(source.line("DBSIZE").int(), 0);
        // A database that is not there: nothing is restored anywhere.
        source.line("SET k v");
        let port = to.addr().port().to_string();
        let told = source.cmd(&["MIGRATE", "127.0.0.1", &port, "k", "99", "1000", "AUTH", "pw"]);
        assert!(told.is_error(&format!("{refused}ERR DB index is out of range")), "{told:?}");
        target.line("SELECT 0");
        assert_eq!(target.line("DBSIZE").int(), 0);
        drop(target);
        drop(to);
        let told = source.cmd(&["MIGRATE", "127.0.0.1", &port, "k", "0", "200"]);
        assert!(told.is_error("IOERR error or timeout writing to target instance"), "{told:?}");
        assert_eq!(source.line("GET k").text(), "v");
        source.line("MULTI");
        let told = source.cmd(&["MIGRATE", "127.0.0.1", &port, "nosuch", "0", "200"]);
        assert!(told.is_error("ERR Command not allowed inside a transaction"), "{told:?}");
        assert!(source.line("EXEC").is_error("EXECABORT"));
    }
}

#[test]
fn a_target_that_is_silent_costs_the_timeout_and_no_key() {
    if !is_available(Kind::Ours) {
        return;
    }
    let from = Server::start(Kind::Ours, &[]);
    let mut source = from.client();
    source.line("SET k v");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let told = source.cmd(&["MIGRATE", "127.0.0.1", &port, "k", "0", "200"]);
    assert!(told.is_error("IOERR error or timeout reading from target instance"), "{told:?}");
    assert_eq!(source.line("GET k").text(), "v");
}

#[test]
fn no_change_is_lost_while_a_key_moves() {
    const ROUNDS: usize = 20;
    if !is_available(Kind::Ours) {
        return;
    }
    let (from, to) = (Server::start(Kind::Ours, &[]), Server::start(Kind::Ours, &[]));
    let (mut source, mut target) = (from.client(), to.client());
    target.line("SELECT 3");
    for round in 0..ROUNDS {
        let key = format!("k{round}");
        let (done, mut other) = (AtomicBool::new(false), from.client());
        let mut increments = 0;
        std::thread::scope(|scope| {
            let increments = &mut increments;
            let (done, name) = (&done, &key);
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    other.cmd(&["INCR", name]);
                    *increments += 1;
                }
            });
            while source.cmd(&["EXISTS", &key]).int() == 0 {}
            let told = migrate(&mut source, &to, &key, &[]);
            // At worst it changes too often: then it stands here, whole.
            assert!(told.is_ok() || told.is_error("ERR key"), "{told:?}");
            if !told.is_ok() {
                target.cmd(&["DEL", &key]);
            }
            done.store(true, SeqCst);
        });
        let count = |reply: Reply| if reply.is_nil() { 0 } else { reply.text().parse().unwrap() };
        let total: i64 = count(source.cmd(&["GET", &key])) + count(target.cmd(&["GET", &key]));
        assert_eq!(total, increments, "round {round}");
    }
}
