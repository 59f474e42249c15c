//! Random hash and list commands here and on a real Redis: replies, keyspace events, changes
//! and encodings must agree. Run by hand, with a `redis-server` of 7.0 on the path:
//!
//! `HOLDFAST_ORACLE_ROUNDS=100000 cargo test -p holdfast-engine --release oracle -- --ignored`

// It talks to a server, which the engine itself never does.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::engine::table;
use crate::reply::Reply;
use crate::testing::{Bench, show};

/// A Redis of our own, ended with the test.
struct Oracle {
    server: Child,
    client: BufReader<TcpStream>,
    subscriber: BufReader<TcpStream>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn send(stream: &mut BufReader<TcpStream>, args: &[Vec<u8>]) {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        request.extend_from_slice(arg);
        request.extend_from_slice(b"\r\n");
    }
    stream.get_mut().write_all(&request).unwrap();
}

fn receive(stream: &mut BufReader<TcpStream>) -> Reply {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).unwrap();
    let text = String::from_utf8_lossy(&line[1..line.len() - 2]).into_owned();
    match line[0] {
        b'$' if text == "-1" => Reply::Nil,
        b'*' if text == "-1" => Reply::NilArray,
        b'+' if text == "OK" => Reply::Ok,
        b'+' => Reply::Simple(text.into()),
        b'-' => Reply::error(crate::CommandError::new(text)),
        b':' => Reply::Integer(text.parse().unwrap()),
        b'$' => {
            let mut bytes = vec![0; text.parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut bytes).unwrap();
            Reply::bulk(&bytes[..bytes.len() - 2])
        }
        b'*' => Reply::Array((0..text.parse().unwrap()).map(|_| receive(stream)).collect()),
        other => panic!("a reply of type {other}"),
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

impl Oracle {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--notify-keyspace-events", "EA"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on the path");
        let connect = || loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break BufReader::new(stream),
                Err(_) => std::thread::sleep(Duration::from_millis(25)),
            }
        };
        let mut oracle = Self { server, client: connect(), subscriber: connect() };
        send(&mut oracle.subscriber, &words("PSUBSCRIBE __keyevent@0__:* sync"));
        receive(&mut oracle.subscriber);
        receive(&mut oracle.subscriber);
        oracle
    }

    fn run(&mut self, args: &[Vec<u8>]) -> Reply {
        send(&mut self.client, args);
        receive(&mut self.client)
    }

    /// The events since the last call, as `Bench::events` writes them.
    fn events(&mut self) -> Vec<String> {
        self.run(&words("PUBLISH sync now"));
        let mut events = Vec::new();
        loop {
            let Reply::Array(message) = receive(&mut self.subscriber) else { panic!() };
            let [_, _, Reply::Bulk(channel), Reply::Bulk(key)] = &message[..] else { panic!() };
            match channel.strip_prefix(b"__keyevent@0__:") {
                Some(name) => {
                    events.push(format!("0:{} {}", name.escape_ascii(), key.escape_ascii()));
                }
                None => return events,
            }
        }
    }

    fn changes(&mut self) -> u64 {
        let Reply::Bulk(info) = self.run(&words("INFO persistence")) else { panic!() };
        let info = String::from_utf8_lossy(&info).into_owned();
        let (_, rest) = info.split_once("rdb_changes_since_last_save:").unwrap();
        rest.lines().next().unwrap().parse().unwrap()
    }
}

/// Draws from a fixed sequence, so that a difference can be met again.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// One of the first `usual`, seldom one of the others.
    fn seldom_all<'a>(&mut self, of: &[&'a str], seldom: usize, usual: usize) -> &'a str {
        let len = if self.below(seldom) == 0 { of.len() } else { usual };
        self.one(&of[..len])
    }

    fn text(&mut self) -> String {
        match self.below(12) {
            0..4 => self.below(12).to_string(),
            4..6 => format!("v{}", self.below(30)),
            6 => (self.below(1 << 30) as i64 - (1 << 29)).to_string(),
            7 => "x".repeat(self.below(90)),
            8 => "y".repeat(self.below(3000)),
            9 => self
                .one(&["", "-0", "007", "1.5", "-9223372036854775808", "9223372036854775807"])
                .to_owned(),
            _ => "e".to_owned(),
        }
    }

    /// The arguments that a word of a template stands for.
    fn expand(&mut self, word: &str) -> Vec<String> {
        let repeat = |draw: &mut Self, word: &str, most: usize| {
            (0..=draw.below(most)).flat_map(|_| draw.expand(word)).collect()
        };
        match word {
            "<list>" => vec![self.seldom_all(&["l1", "l2", "l3", "s", "h1"], 9, 3).to_owned()],
            "<hash>" => vec![self.seldom_all(&["h1", "h2", "h3", "s", "l1"], 9, 3).to_owned()],
            "<text>" => vec![self.text()],
            "<texts>" if self.below(30) == 0 => repeat(self, "<text>", 300),
            "<texts>" => repeat(self, "<text>", 6),
            "<field>" if self.below(5) == 0 => vec![self.text()],
            "<field>" => vec![format!("f{}", self.below(60))],
            "<fields>" => repeat(self, "<field>", 5),
            "<pairs>" if self.below(30) == 0 => repeat(self, "<pair>", 150),
            "<pairs>" => repeat(self, "<pair>", 4),
            "<pair>" => [self.expand("<field>"), self.expand("<text>")].concat(),
            "<n>" if self.below(25) == 0 => vec![
                self.one(&["x", "", "9223372036854775807", "9223372036854775808", "1.0", "-"])
                    .to_owned(),
            ],
            "<n>" => vec![(self.below(24) as i64 - 8).to_string()],
            "<end>" => {
                vec![self.seldom_all(&["LEFT", "right", "RIGHT", "left", "up"], 20, 4).to_owned()]
            }
            "<side>" => vec![self.one(&["BEFORE", "after"]).to_owned()],
            "<float>" => {
                vec![self.one(&["1.5", "-0.1", "1e3", "0.1", "3", "inf", "x", "1e-5"]).to_owned()]
            }
            "<lists>" => {
                let lists: Vec<String> = repeat(self, "<list>", 3);
                [vec![lists.len().to_string()], lists].concat()
            }
            word => vec![word.to_owned()],
        }
    }
}

/// Templates of commands; those that stand twice are drawn twice as often.
const TEMPLATES: &[&str] = &[
    "LPUSH <list> <texts>",
    "RPUSH <list> <texts>",
    "LPUSH <list> <texts>",
    "RPUSH <list> <texts>",
    "LPUSHX <list> <texts>",
    "RPUSHX <list> <texts>",
    "LPOP <list>",
    "RPOP <list>",
    "LPOP <list> <n>",
    "RPOP <list> <n>",
    "LPOP <list> <n> x",
    "LLEN <list>",
    "LRANGE <list> <n> <n>",
    "LRANGE <list> 0 -1",
    "LINDEX <list> <n>",
    "LSET <list> <n> <text>",
    "LINSERT <list> <side> <text> <text>",
    "LINSERT <list> x <text> <text>",
    "LREM <list> <n> <text>",
    "LTRIM <list> <n> <n>",
    "LTRIM <list> 0 200",
    "LPOS <list> <text>",
    "LPOS <list> <text> RANK <n>",
    "LPOS <list> <text> RANK <n> COUNT <n> MAXLEN <n>",
    "LPOS <list> <text> COUNT <n>",
    "LPOS <list> <text> COUNT",
    "LMOVE <list> <list> <end> <end>",
    "RPOPLPUSH <list> <list>",
    "LMPOP <lists> <end>",
    "LMPOP <lists> <end> COUNT <n>",
    "LMPOP <n> <list> <end>",
    "LMPOP <lists> <end> COUNT 1 COUNT 1",
    "BLPOP <list> s 0.001",
    "BLPOP <list> x",
    "BRPOP <list> -1",
    "BRPOP <list> <list> 0.001",
    "BLMOVE <list> <list> <end> <end> 0.001",
    "BRPOPLPUSH <list> <list> 0.001",
    "BLMPOP 0.001 <lists> <end> COUNT 2",
    "DEL <list>",
    "HSET <hash> <pairs>",
    "HSET <hash> <pairs>",
    "HSET <hash> <pairs>",
    "HSET <hash> <pairs> x",
    "HMSET <hash> <pairs>",
    "HMSET <hash> <pairs> x",
    "HSETNX <hash> <pair>",
    "HGET <hash> <field>",
    "HMGET <hash> <fields>",
    "HDEL <hash> <fields>",
    "HDEL <hash> <fields>",
    "HEXISTS <hash> <field>",
    "HLEN <hash>",
    "HSTRLEN <hash> <field>",
    "HINCRBY <hash> <field> <n>",
    "HINCRBYFLOAT <hash> <field> <float>",
    "HGETALL <hash>",
    "HKEYS <hash>",
    "HVALS <hash>",
    "HSCAN <hash> 0 COUNT 100000",
    "HSCAN <hash> 0 COUNT 100000 MATCH *1*",
    "HSCAN <hash> <n> COUNT <n> x",
    "HSCAN <hash> x",
    "HRANDFIELD <hash> 100000",
    "HRANDFIELD <hash> 100000 WITHVALUES",
    "HRANDFIELD <hash> 0",
    "HRANDFIELD <hash> <n> x",
    "HRANDFIELD nosuch",
    "HRANDFIELD nosuch 3",
    "OBJECT ENCODING <hash>",
    "DEL <hash>",
    "TYPE <list>",
    "SET s x",
];

/// Flat and, where Redis's order means nothing, sorted.
fn comparable(name: &str, reply: &Reply) -> String {
    let text = show(&flat(reply));
    let pair = name.ends_with("ALL") || name == "HSCAN" || name == "HRANDFIELD";
    if !pair && !matches!(name, "HKEYS" | "HVALS") {
        return text;
    }
    let Reply::Array(items) = flat(reply) else { return text };
    let of = |item: &Reply| match item {
        Reply::Array(items) => items.iter().map(show).collect(),
        item => vec![show(item)],
    };
    let mut items: Vec<String> = items.iter().flat_map(of).collect();
    items.sort_unstable();
    items.join(" ")
}

fn flat(reply: &Reply) -> Reply {
    let all = |items: Vec<&Reply>| {
        Reply::Array(
            items
                .into_iter()
                .flat_map(|item| match flat(item) {
                    Reply::Array(items) if matches!(reply, Reply::Pairs(_)) => items,
                    item => vec![item],
                })
                .collect(),
        )
    };
    match reply {
        Reply::Array(items) => all(items.iter().collect()),
        Reply::Pairs(pairs) => all(pairs.iter().flat_map(|(a, b)| [a, b]).collect()),
        Reply::Bulks(items) | Reply::BulkMap(items) => {
            Reply::Array(items.iter().map(Reply::bulk_or_nil).collect())
        }
        other => other.clone(),
    }
}

/// What Redis 7.2 or we answer differently from 7.0, on purpose.
fn is_known(line: &str, theirs: &str) -> bool {
    line.starts_with("OBJECT ENCODING") && theirs.contains("quicklist")
}

#[test]
#[ignore = "wants a redis-server 7.0 on the path; run by hand"]
fn random_commands_answer_as_redis() {
    let rounds =
        std::env::var("HOLDFAST_ORACLE_ROUNDS").map_or(20_000, |text| text.parse().unwrap());
    let seed = std::env::var("HOLDFAST_ORACLE_SEED").map_or(1, |text| text.parse().unwrap());
    let (mut oracle, mut bench, mut draw) = (Oracle::start(), Bench::new(), Draw(seed));
    let (mut changes, mut errors, mut differing) = (0, 0, Vec::new());
    for round in 0..rounds {
        let template = TEMPLATES[draw.below(TEMPLATES.len())];
        let args: Vec<Vec<u8>> = template
            .split(' ')
            .flat_map(|word| draw.expand(word))
            .map(String::into_bytes)
            .collect();
        let name = String::from_utf8(args[0].clone()).unwrap();
        let theirs = comparable(&name, &oracle.run(&args));
        let ours = comparable(&name, &bench.run(&args));
        errors += usize::from(theirs.starts_with('-'));
        changes += bench.effects.changes;
        let mut events = bench.events();
        events.retain(|event| !event.starts_with("0:new "));
        let line: Vec<String> = args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
        let line = line.join(" ");
        if ours != theirs && !is_known(&line, &theirs) {
            differing
                .push(format!("{line:.300}\n  redis:    {theirs:.300}\n  holdfast: {ours:.300}"));
        }
        let expected = oracle.events();
        if events != expected {
            differing
                .push(format!("{line:.300}\n  redis:    {expected:?}\n  holdfast: {events:?}"));
        }
        if round % 50 == 0 {
            let expected = oracle.changes();
            if changes != expected {
                differing.push(format!("{line:.300}: {expected} changes, not {changes}"));
                changes = expected;
            }
        }
        assert!(differing.len() < 20, "{} differ:\n{}", differing.len(), differing.join("\n"));
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    println!("{rounds} commands alike, {errors} of them errors");
}

#[test]
#[ignore = "wants a redis-server 7.0 on the path; run by hand"]
fn rows_are_those_of_redis() {
    let mut oracle = Oracle::start();
    let mut differing = Vec::new();
    for row in table().rows() {
        let ours = matches!(row.group, crate::command::Group::Hash | crate::command::Group::List);
        if !ours {
            continue;
        }
        let Reply::Array(mut info) = oracle.run(&words(&format!("COMMAND INFO {}", row.name)))
        else {
            panic!()
        };
        let Reply::Array(info) = info.remove(0) else {
            continue; // Newer than 7.0.
        };
        let (first, last, step) = row.legacy_keys();
        // 7.2 took NOSCRIPT from the blocking commands.
        let flags = format!("[{}]", row.flags.names().join(" "));
        let theirs = show(&info[2]).replace(" noscript", "");
        let legacy = format!("{} {} {}", show(&info[3]), show(&info[4]), show(&info[5]));
        let Reply::Array(specs) = &info[8] else { panic!() };
        let spec_flags: Vec<String> = specs
            .iter()
            .map(|spec| match spec {
                Reply::Array(parts) => show(&parts[1]),
                _ => panic!(),
            })
            .collect();
        let our_specs: Vec<String> =
            row.keys.iter().map(|spec| format!("[{}]", spec.access.names().join(" "))).collect();
        let mut categories = show(&info[6])
            .trim_matches(['[', ']'])
            .split(' ')
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let mut our_categories = crate::command::categories(row);
        categories.sort_unstable();
        our_categories.sort_unstable();
        for (ours, theirs) in [
            (row.arity.to_string(), show(&info[1])),
            (flags, theirs),
            (format!("{first} {last} {step}"), legacy),
            (our_specs.join(" "), spec_flags.join(" ")),
            (our_categories.join(" "), categories.join(" ")),
        ] {
            if ours != theirs {
                differing.push(format!("{}: {ours}, in Redis {theirs}", row.name));
            }
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
