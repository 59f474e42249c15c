//! Snapshots and the journal of a real server: what comes back after SAVE, crashes and damage,
//! and what Redis makes of our files and we of its.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::server::{Kind, Server, is_available};
use holdfast_tests::wire::Reply;

/// Values of every type in every encoding, small and large.
fn fill(c: &mut Client) {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in [
        "SET int 12345",
        "SET byte 100",
        "SET int32 1000000",
        "SET negative -7",
        "SET wide 123456789012",
        "SET text hello",
        "APPEND raw 12",
        "SET ttl v PX 100000000",
        "RPUSH list a 1 -5 300 70000 b",
        "SADD ints 1 -5 70000 9999999999",
        "SADD ints16 1 -5",
        "SADD ints32 1 -70000",
        "SADD strings b 3 a",
        "ZADD zset 1 a 1.5 b inf c -0.1 d 1e300 e",
        "HSET hash f v 1 2 g -300",
        "EXPIRE hash 100000",
        "XADD stream 1-1 f v g 12",
        "XADD stream 1-2 f w g -70000",
        "XADD stream 5-0 other field-of-its-own another long",
        "XADD stream 6-0 f 9999999999 g x",
        "XDEL stream 1-2",
        "XGROUP CREATE stream all 0",
        "XGROUP CREATE stream none $ ENTRIESREAD 4",
        "XREADGROUP GROUP all one COUNT 2 STREAMS stream >",
        "XREADGROUP GROUP all two STREAMS stream >",
        "XACK stream all 5-0",
        "XGROUP CREATECONSUMER stream all idle",
        "XGROUP CREATE emptystream g $ MKSTREAM",
        "XADD trimmed 1-1 a b",
        "XADD trimmed MAXLEN 0 2-1 a b",
        "XSETID trimmed 9-9 ENTRIESADDED 40 MAXDELETEDID 3-3",
    ] {
        lines.push(words(line));
    }
    let many = |head: &str, make: &dyn Fn(usize) -> Vec<String>, count: usize| {
        let mut args = words(head);
        (0..count).for_each(|n| args.extend(make(n)));
        args
    };
    lines.push(many("RPUSH biglist", &|n| vec![format!("element {n}")], 5000));
    lines.push(many("SADD bigset", &|n| vec![format!("member {n}")], 1000));
    lines.push(many("SADD bigints", &|n| vec![(n * 7919).to_string()], 2000));
    lines.push(many("ZADD bigzset", &|n| vec![format!("{n}.25"), format!("m{n}")], 1000));
    lines.push(many("HSET bighash", &|n| vec![format!("f{n}"), format!("v{n}")], 1000));
    for n in 0..1000 {
        lines.push(words(&format!("XADD bigstream {n}-{} number {n} text value-{n}", 1000 - n)));
    }
    lines.push(vec!["SET".into(), "long".into(), "compressible ".repeat(3000)]);
    lines.push(vec!["RPUSH".into(), "plain".into(), "x".repeat(20_000), "short".into()]);
    for args in lines {
        assert!(!c.cmd(&args).is_any_error(), "{:?}", &args[..2]);
    }
    c.line("SELECT 9");
    c.line("SET other database");
    c.line("SELECT 0");
}

/// A library of one function, and of the code that makes it worth compressing.
const LIBRARY: &str = "#!lua name=stored\n\
    local function remember(keys, args) return redis.call('set', keys[1], args[1]) end\n\
    redis.register_function('remember', remember)\n\
    redis.register_function{function_name='recall', flags={'no-writes'}, \
    callback=function(keys) return redis.call('get', keys[1]) end}";

/// Everything in the databases as texts that do not depend on order.
fn content(c: &mut Client) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for db in [0, 9] {
        c.line(&format!("SELECT {db}"));
        for key in c.line("KEYS *").texts() {
            let kind = c.cmd(&["TYPE", &key]);
            let value = match kind.text().as_str() {
                "string" => c.cmd(&["GET", &key]),
                "list" => c.cmd(&["LRANGE", &key, "0", "-1"]),
                "set" => Reply::Array(sorted(c.cmd(&["SMEMBERS", &key]), 1)),
                "zset" => {
                    let ranked = c.cmd(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).texts();
                    // 7.0 writes 17 digits of a score, 7.2 as many as tell it apart.
                    let exact = |text: &String| match text.parse::<f64>() {
                        Ok(score) => format!("{score:?}"),
                        Err(_) => text.clone(),
                    };
                    Reply::Array(ranked.iter().map(|t| Reply::Bulk(exact(t).into())).collect())
                }
                "hash" => Reply::Array(sorted(c.cmd(&["HGETALL", &key]), 2)),
                "stream" => {
                    let told = c.cmd(&["XINFO", "STREAM", &key, "FULL", "COUNT", "0"]);
                    without(told, &["active-time", "radix-tree-nodes"])
                }
                other => panic!("a {other}"),
            };
            let expires = c.cmd(&["PEXPIRETIME", &key]).int();
            all.insert(format!("{db}:{key}"), format!("{value:?} until {expires}"));
        }
    }
    c.line("SELECT 0");
    all
}

/// A reply without these fields: 7.0 lacks the first, and has another tree.
fn without(reply: Reply, fields: &[&str]) -> Reply {
    let Reply::Array(elements) = reply else { return reply };
    let mut elements = elements.into_iter();
    let mut left = Vec::new();
    while let Some(element) = elements.next() {
        match &element {
            Reply::Bulk(name) if fields.iter().any(|field| field.as_bytes() == name) => {
                elements.next();
            }
            _ => left.push(without(element, fields)),
        }
    }
    Reply::Array(left)
}

/// What Redis's own tool says of a file.
fn check_rdb(path: &Path) {
    match std::process::Command::new("redis-check-rdb").arg(path).output() {
        Ok(done) => {
            let told = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(done.status.success() && told.contains("Checksum OK"), "{told}");
        }
        Err(error) => eprintln!("SKIPPED: redis-check-rdb cannot be run: {error}"),
    }
}

fn sorted(reply: Reply, width: usize) -> Vec<Reply> {
    let texts = reply.texts();
    let mut rows: Vec<&[String]> = texts.chunks(width).collect();
    rows.sort();
    rows.into_iter().flatten().map(|text| Reply::Bulk(text.clone().into_bytes())).collect()
}

/// Whether a reply is this text, or holds it at any depth.
fn holds(reply: &Reply, text: &str) -> bool {
    match reply {
        Reply::Array(elements) => elements.iter().any(|element| holds(element, text)),
        Reply::Bulk(bytes) => bytes == text.as_bytes(),
        _ => false,
    }
}

#[test]
fn redis_loads_our_snapshot_and_we_load_its() {
    if !is_available(Kind::Ours) || !is_available(Kind::Oracle) {
        return;
    }
    for (from, to) in [(Kind::Ours, Kind::Oracle), (Kind::Oracle, Kind::Ours)] {
        let origin = Server::start(from, &[]);
        let mut c = origin.client();
        fill(&mut c);
        assert_eq!(c.cmd(&["FUNCTION", "LOAD", LIBRARY]).text(), "stored");
        let before = content(&mut c);
        assert!(c.line("SAVE").is_ok());
        check_rdb(&origin.dir().join("dump.rdb"));
        let file = fs::read(origin.dir().join("dump.rdb")).unwrap();
        let target = Server::start_with_files(to, &[], &[("dump.rdb", &file)]);
        let mut d = target.client();
        assert_eq!(content(&mut d), before, "{from:?} to {to:?}\n{}", target.log());
        assert_eq!(d.line("FCALL_RO recall 1 text").text(), "hello");
        let Reply::Bulk(libraries) = c.line("FUNCTION DUMP") else { panic!("no payload") };
        assert!(d.cmd(&[&b"FUNCTION"[..], b"RESTORE", &libraries, b"REPLACE"]).is_ok());
        // The payloads may differ: each server compresses in its own way.
        let listed = d.line("FUNCTION LIST WITHCODE");
        assert!(holds(&listed, LIBRARY), "{from:?} to {to:?}: {listed:?}");
        for key in ["int", "text", "list", "ints", "zset", "hash", "bigset", "bigzset", "bighash"] {
            let one = c.cmd(&["OBJECT", "ENCODING", key]).text();
            let other = d.cmd(&["OBJECT", "ENCODING", key]).text();
            // What 7.2 calls a listpack is a quicklist to 7.0.
            if key != "list" {
                assert_eq!(one, other, "{key}");
            }
        }
        // Values travel one by one, too.
        for key in content(&mut c).keys().filter_map(|key| key.strip_prefix("0:")) {
            let Reply::Bulk(payload) = c.cmd(&["DUMP", key]) else { panic!("{key}") };
            let args: [&[u8]; 5] = [b"RESTORE", b"restored", b"0", &payload, b"REPLACE"];
            assert!(d.cmd(&args).is_ok(), "{key} from {from:?} to {to:?}");
        }
    }
}

#[test]
fn save_and_restart_keep_everything() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut server = Server::start(Kind::Ours, &[]);
    let mut c = server.client();
    fill(&mut c);
    c.line("HSET fields f v g w");
    c.line("HPEXPIRE fields 90000000 FIELDS 1 f");
    let (digest, before) = (c.line("DEBUG DIGEST").text(), content(&mut c));
    assert!(c.line("DEBUG RELOAD").is_ok());
    assert_eq!(c.line("DEBUG DIGEST").text(), digest);
    assert!(!c.line("BGSAVE").is_any_error());
    wait_for_job(&mut c);
    server.start_again(&[]).unwrap();
    let mut c = server.client();
    assert_eq!(content(&mut c), before);
    assert_eq!(c.line("DEBUG DIGEST").text(), digest);
    let ttl = c.line("HPTTL fields FIELDS 1 f");
    assert!(format!("{ttl:?}").contains(":8"), "{ttl:?}");
    assert_eq!(c.info("persistence", "rdb_last_load_keys_loaded"), before.len().to_string());
}

fn wait_for_job(c: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while c.info("persistence", "rdb_bgsave_in_progress") != "0"
        || c.info("persistence", "aof_rewrite_in_progress") != "0"
        || c.info("persistence", "aof_rewrite_scheduled") != "0"
    {
        assert!(Instant::now() < deadline, "the job does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(c.info("persistence", "rdb_last_bgsave_status"), "ok");
    assert_eq!(c.info("persistence", "aof_last_bgrewrite_status"), "ok");
}

const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// What one client of the kill test was told.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    /// The last counter it was answered.
    count: i64,
    /// Elements of its list it was answered.
    pushed: i64,
    /// The number its last transaction wrote to both keys.
    pair: i64,
    /// The number its last MSET wrote to both keys.
    set: i64,
}

/// Writes until the server dies: a counter, a list and a pair of keys in a transaction.
fn write_until_it_dies(mut c: Client, id: usize, mut told: Told, stop: &AtomicBool) -> Told {
    const WAIT: Duration = Duration::from_secs(10);
    let int = |received| match received {
        Received::Reply(reply) if reply.is_error("ERR The server is shutting down") => None,
        Received::Reply(reply) => Some(reply.int()),
        _ => None,
    };
    while !stop.load(Ordering::Relaxed) {
        if c.send(&["INCR", &format!("count:{id}")]).is_err() {
            break;
        }
        let Some(count) = int(c.receive(WAIT)) else { break };
        told.count = count;
        if c.send(&[
            "EVAL",
            "return redis.call('rpush', KEYS[1], ARGV[1])",
            "1",
            &format!("list:{id}"),
            "x",
        ])
        .is_err()
        {
            break;
        }
        let Some(pushed) = int(c.receive(WAIT)) else { break };
        told.pushed = pushed;
        let next = (told.pair + 1).to_string();
        let (one, other) = (format!("one:{id}"), format!("other:{id}"));
        let mut sent = true;
        for args in [&["MULTI"][..], &["SET", &one, &next], &["SET", &other, &next], &["EXEC"]] {
            sent &= c.send(args).is_ok();
        }
        let mut done = sent;
        for _ in 0..4 {
            done = done && matches!(c.receive(WAIT), Received::Reply(_));
        }
        if !done {
            break;
        }
        told.pair += 1;
        let next = (told.set + 1).to_string();
        let (left, right) = (format!("left:{id}"), format!("right:{id}"));
        if c.send(&["MSET", &left, &next, &right, &next]).is_err()
            || !matches!(c.receive(WAIT), Received::Reply(_))
        {
            break;
        }
        told.set += 1;
    }
    told
}

/// With `always` nothing that was answered is missing, and nothing is half there, however often
/// and whenever the process is killed.
#[test]
fn a_hundred_kills_lose_nothing_acknowledged() {
    const KILLS: usize = 100;
    const CLIENTS: usize = 4;
    if !is_available(Kind::Ours) {
        return;
    }
    let mut args = ALWAYS.to_vec();
    args.extend(["--auto-aof-rewrite-min-size", "1mb", "--auto-aof-rewrite-percentage", "20"]);
    let mut server = Server::start(Kind::Ours, &args);
    let mut told = [Told::default(); CLIENTS];
    let mut random = u64::from(std::process::id()) | 1;
    for kill in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let (c, stop, told) = (server.client(), Arc::clone(&stop), told[id]);
                std::thread::spawn(move || write_until_it_dies(c, id, told, &stop))
            })
            .collect();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if kill % 10 == 5 {
            server.client().line("BGREWRITEAOF");
        }
        std::thread::sleep(Duration::from_millis(10 + random % 150));
        server.crash();
        stop.store(true, Ordering::Relaxed);
        for (id, writer) in writers.into_iter().enumerate() {
            told[id] = writer.join().unwrap();
        }
        if let Err(log) = server.start_again(&args) {
            panic!("after kill {kill} (seed {}):\n{log}", std::process::id());
        }
        let mut c = server.client();
        for (id, told) in told.iter_mut().enumerate() {
            let number = |reply: Reply| match reply {
                Reply::Bulk(text) => String::from_utf8(text).unwrap().parse::<i64>().unwrap(),
                _ => 0,
            };
            let count = number(c.line(&format!("GET count:{id}")));
            let pushed = c.line(&format!("LLEN list:{id}")).int();
            let one = number(c.line(&format!("GET one:{id}")));
            let other = number(c.line(&format!("GET other:{id}")));
            let left = number(c.line(&format!("GET left:{id}")));
            let right = number(c.line(&format!("GET right:{id}")));
            assert!((told.count..=told.count + 1).contains(&count), "{told:?}: {count}");
            assert!((told.pushed..=told.pushed + 1).contains(&pushed), "{told:?}: {pushed}");
            assert!((told.pair..=told.pair + 1).contains(&one), "{told:?}: {one}");
            assert_eq!(one, other, "a transaction is half there after kill {kill}");
            assert!((told.set..=told.set + 1).contains(&left), "{told:?}: {left}");
            assert_eq!(left, right, "an MSET is half there after kill {kill}");
            *told = Told { count, pushed, pair: one, set: left };
        }
    }
    let counts: i64 = told.iter().map(|told| told.count).sum();
    assert!(counts > 500, "the clients hardly wrote: {counts}");
}

#[test]
fn the_journal_replays_every_kind_of_change() {
    if !is_available(Kind::Ours) {
        return;
    }
    let args = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let mut server = Server::start(Kind::Ours, &args);
    let mut c = server.client();
    fill(&mut c);
    for line in [
        "SPOP bigset 100",
        "SPOP strings",
        "LPOP list",
        "EXPIRE text 5000",
        "PERSIST ttl",
        "RENAME int renamed",
        "COPY zset copied DB 9",
        "MOVE negative 9",
        "GETDEL raw",
        "ZPOPMIN bigzset 10",
        "HPEXPIRE bighash 5000000 FIELDS 2 f1 f2",
        "SET gone x PX 1",
        "SDIFFSTORE diff bigset strings",
        "LMOVE biglist list LEFT RIGHT",
        "XADD stream * f v",
        "XADD stream MAXLEN ~ 1000 * f w",
        "XREADGROUP GROUP all one COUNT 1 STREAMS stream >",
        "XREADGROUP GROUP all new NOACK STREAMS stream >",
        "XCLAIM stream all two 0 1-1",
        "XAUTOCLAIM stream all one 0 0 COUNT 1 JUSTID",
        "XTRIM bigstream MAXLEN ~ 250",
        "XDEL bigstream 990-10",
        "XGROUP DESTROY stream none",
        "SWAPDB 9 3",
    ] {
        assert!(!c.line(line).is_any_error(), "{line}");
    }
    // Scripts are recorded by what they did, whatever they drew.
    let script = "math.randomseed(tonumber(redis.call('time')[2])) \
                  redis.call('set', KEYS[1], math.random(1000000)) \
                  for _, k in ipairs(redis.call('keys', 'big*')) do redis.call('rpush', KEYS[2], k) end \
                  redis.call('select', 3) redis.call('spop', 'nosuch') redis.call('set', 'in3', 'x') \
                  return redis.call('get', KEYS[1])";
    assert!(!c.cmd(&["EVAL", script, "2", "drawn", "keys"]).is_any_error());
    // Libraries are changes, too.
    assert_eq!(c.cmd(&["FUNCTION", "LOAD", LIBRARY]).text(), "stored");
    assert!(c.cmd(&["FUNCTION", "LOAD", "#!lua name=none\nreturn 1"]).is_any_error());
    assert!(c.line("FCALL remember 1 text changed").is_ok());
    // A client that was waiting is served by another's change.
    let mut waiting = server.client();
    waiting.send(&["BLPOP", "queue", "0"]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    c.line("RPUSH queue first second");
    waiting.read();
    c.line("XGROUP CREATE blocked g $ MKSTREAM");
    waiting
        .send(&["XREADGROUP", "GROUP", "g", "late", "BLOCK", "0", "STREAMS", "blocked", ">"])
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    c.line("XADD blocked * f v");
    waiting.read();
    for line in ["MULTI", "INCR counter", "SELECT 3", "INCR counter", "EXEC"] {
        c.line(line);
    }
    c.line("SELECT 0");
    std::thread::sleep(Duration::from_millis(20));
    let (digest, before) = (c.line("DEBUG DIGEST").text(), content(&mut c));
    server.start_again(&args).unwrap();
    let mut c = server.client();
    assert_eq!(content(&mut c), before);
    assert_eq!(c.line("DEBUG DIGEST").text(), digest);
    assert_eq!(c.line("FCALL recall 1 text").text(), "changed");
    // Rewritten while it is written to, it still replays.
    assert!(!c.line("BGREWRITEAOF").is_any_error());
    for n in 0..2000 {
        c.line(&format!("SET during:{} {n}", n % 300));
    }
    wait_for_job(&mut c);
    c.line("WAITAOF 1 0 5000");
    let digest = c.line("DEBUG DIGEST").text();
    assert!(c.line("DEBUG LOADAOF").is_ok());
    assert_eq!(c.line("DEBUG DIGEST").text(), digest);
    server.start_again(&args).unwrap();
    assert_eq!(server.client().line("DEBUG DIGEST").text(), digest);
    // Turned off and on again it begins with what is there.
    let mut c = server.client();
    assert!(c.line("CONFIG SET appendonly no").is_ok());
    c.line("SET unrecorded x");
    assert!(c.line("CONFIG SET appendonly yes").is_ok());
    c.line("SET recorded x");
    c.line("WAITAOF 1 0 5000");
    server.start_again(&args).unwrap();
    let mut c = server.client();
    assert_eq!(c.line("EXISTS unrecorded recorded").int(), 2);
    assert_eq!(c.line("FCALL recall 1 text").text(), "changed");
    assert!(c.line("FUNCTION DELETE stored").is_ok());
    c.line("WAITAOF 1 0 5000");
    server.start_again(&args).unwrap();
    assert!(server.client().line("FCALL recall 1 text").is_any_error());
}

/// Ends that save: nothing acknowledged before them is missing, and one that cannot save is not
/// followed.
#[test]
fn the_end_of_the_process_saves_all_or_is_refused() {
    if !is_available(Kind::Ours) {
        return;
    }
    let args = ["--save", "3600 100000", "--rdbcompression", "no"];
    let mut server = Server::start(Kind::Ours, &args);
    for end in ["SIGTERM", "SHUTDOWN"] {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|id| {
                let (c, stop) = (server.client(), Arc::clone(&stop));
                std::thread::spawn(move || write_until_it_dies(c, id, Told::default(), &stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        // A snapshot that is being written is given up.
        let mut c = server.client();
        assert!(!c.line("BGSAVE").is_any_error());
        if end == "SIGTERM" {
            signal(&server, "TERM");
        } else {
            c.send(&["SHUTDOWN"]).unwrap();
        }
        assert_eq!(server.wait_exit(Duration::from_secs(20)), Some(0), "{}", server.log());
        let told: Vec<Told> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        server.start_again(&args).unwrap();
        let mut c = server.client();
        for (id, told) in told.iter().enumerate() {
            assert!(told.count > 0);
            assert_eq!(c.line(&format!("GET count:{id}")).text(), told.count.to_string(), "{end}");
            assert_eq!(c.line(&format!("LLEN list:{id}")).int(), told.pushed, "{end}");
        }
        c.line("FLUSHALL");
        let left = fs::read_dir(server.dir()).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(left.into_iter().all(|name| !name.starts_with("temp-")));
    }
    let mut c = server.client();
    assert!(c.line(&format!("SET long {}", "x".repeat(20_000))).is_ok());
    if !server.limit_files("5000") {
        return;
    }
    assert!(c.line("SHUTDOWN").is_error("ERR Errors trying to SHUTDOWN"));
    assert!(c.line("SET still here").is_ok());
    signal(&server, "TERM");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.log().contains("the signal is not followed") {
        assert!(Instant::now() < deadline, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(c.line("GET still").text(), "here");
    c.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    assert_eq!(server.wait_exit(Duration::from_secs(10)), Some(0));
}

fn signal(server: &Server, name: &str) {
    let done = std::process::Command::new("kill")
        .args([format!("-{name}"), server.pid().to_string()])
        .status();
    assert!(done.unwrap().success());
}
