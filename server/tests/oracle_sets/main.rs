//! Compares sets and sorted sets with a real Redis: replies, keyspace events, counts of changes.
//!
//! Ignored by default. `HOLDFAST_ORACLE=127.0.0.1:6379 cargo test -p holdfast --test
//! oracle_sets -- --ignored --nocapture` runs it; the server is flushed and reconfigured. Where
//! Redis defines no order, replies are compared as sets; where it draws at random, by what they
//! may contain. It was written against Redis 7.0.15, which prints more digits of a score than
//! 7.2 and has no listpacks for sets: both are allowed for.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test; helpers outside #[test] functions, too"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use holdfast::resp::{Protocol, encode_into};
use holdfast_engine::context::Context;
use holdfast_engine::effects::{Effects, EventClass, Notice};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Alone;
use holdfast_engine::time::UnixMillis;

mod dice;

use dice::Dice;

type Bytes = Vec<u8>;

/// One reply: a line with its type, a bulk, or a list with its type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Line(Bytes),
    Bulk(Bytes),
    List(u8, Vec<Answer>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{}", line.escape_ascii()),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::List(kind, items) => write!(f, "{}{items:?}", char::from(*kind)),
        }
    }
}

fn read_answer(from: &mut impl BufRead) -> Answer {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).unwrap();
    line.truncate(line.len().saturating_sub(2));
    let count = |line: &[u8]| -> i64 { std::str::from_utf8(&line[1..]).unwrap().parse().unwrap() };
    match line[0] {
        b'$' | b'=' if count(&line) >= 0 => {
            let mut bytes = vec![0; count(&line) as usize + 2];
            from.read_exact(&mut bytes).unwrap();
            bytes.truncate(bytes.len() - 2);
            Answer::Bulk(bytes)
        }
        kind @ (b'*' | b'~' | b'>') if count(&line) >= 0 => {
            Answer::List(kind, (0..count(&line)).map(|_| read_answer(from)).collect())
        }
        _ => Answer::Line(line),
    }
}

impl Answer {
    /// Sorted where the order means nothing.
    fn sorted(mut self) -> Self {
        if let Self::List(_, items) = &mut self {
            items.sort();
        }
        self
    }

    fn items(&self) -> Vec<Bytes> {
        match self {
            Self::List(_, items) => items.iter().flat_map(Self::items).collect(),
            Self::Bulk(bytes) => vec![bytes.clone()],
            Self::Line(_) => Vec::new(),
        }
    }

    /// Whether two replies say the same; the texts of scores may differ in digits.
    fn agrees(&self, other: &Self) -> bool {
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<f64>().ok();
        match (self, other) {
            (Self::List(kind, items), Self::List(other_kind, others)) => {
                kind == other_kind
                    && items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| item.agrees(other))
            }
            (Self::Bulk(a), Self::Bulk(b)) => {
                a == b
                    || [a, b].iter().any(|text| text.contains(&b'.') || text.contains(&b'e'))
                        && number(a).is_some()
                        && number(a) == number(b)
            }
            (Self::Line(a), Self::Line(b)) => {
                a == b || a[0] == b',' && b[0] == b',' && number(&a[1..]) == number(&b[1..])
            }
            _ => false,
        }
    }
}

struct Oracle {
    commands: BufReader<TcpStream>,
    events: BufReader<TcpStream>,
    changes: i64,
}

fn send(to: &mut BufReader<TcpStream>, args: &[Bytes]) {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend(b"\r\n");
    }
    to.get_mut().write_all(&bytes).unwrap();
}

fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

impl Oracle {
    fn connect() -> Self {
        let address = std::env::var("HOLDFAST_ORACLE").expect("HOLDFAST_ORACLE=host:port");
        let connect = || BufReader::new(TcpStream::connect(&address).unwrap());
        let mut oracle = Self { commands: connect(), events: connect(), changes: 0 };
        oracle.ask(&words("CONFIG SET notify-keyspace-events KEA save"));
        oracle.ask(&["CONFIG", "SET", "save", ""].map(|word| word.as_bytes().to_vec()));
        oracle.ask(&words("CONFIG SET notify-keyspace-events KEA"));
        send(&mut oracle.events, &words("PSUBSCRIBE __keyevent@0__:*"));
        read_answer(&mut oracle.events);
        oracle
    }

    fn ask(&mut self, args: &[Bytes]) -> Answer {
        send(&mut self.commands, args);
        read_answer(&mut self.commands)
    }

    /// Asks within MULTI, where nothing blocks.
    fn ask_without_waiting(&mut self, args: &[Bytes]) -> Answer {
        self.ask(&words("MULTI"));
        let queued = self.ask(args);
        let done = self.ask(&words("EXEC"));
        match done {
            Answer::List(_, mut items) if items.len() == 1 => items.remove(0),
            _ => queued,
        }
    }

    /// The events since the last call.
    fn events(&mut self) -> Vec<String> {
        send(&mut self.events, &words("PING"));
        let mut events = Vec::new();
        loop {
            let items = read_answer(&mut self.events).items();
            if items[0] == b"pong" {
                return events;
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let channel = text(&items[2]);
            let name = channel.trim_start_matches("__keyevent@0__:");
            events.push(format!("{name} {}", text(&items[3])));
        }
    }

    /// How many changes were counted since the last call.
    fn changes(&mut self) -> i64 {
        let Answer::Bulk(info) = self.ask(&words("INFO persistence")) else {
            panic!("INFO answers with a bulk")
        };
        let info = String::from_utf8(info).unwrap();
        let now: i64 = info
            .lines()
            .find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"))
            .unwrap()
            .parse()
            .unwrap();
        let before = std::mem::replace(&mut self.changes, now);
        now - before
    }
}

struct Ours {
    engine: Engine,
    sequence: u64,
    protocol: Protocol,
}

struct Done {
    answer: Answer,
    events: Vec<String>,
    changes: i64,
}

impl Ours {
    fn run(&mut self, args: &[Bytes]) -> Done {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut row = table().find(args[0]).unwrap();
        if !row.subcommands.is_empty() {
            row = table().find_sub(row, args[1]).unwrap();
        }
        assert!(row.accepts(args.len()), "the generator minds arities");
        self.sequence += 1;
        let context = Context::at(UnixMillis(1_700_000_000_000), self.sequence);
        let mut effects = Effects::new(EventClass(u32::MAX));
        let outcome = self.engine.run(row, &args, context, &Alone, &mut effects);
        let mut bytes = Vec::new();
        encode_into(&outcome.reply, self.protocol, &mut bytes);
        let events = effects.notices.iter().filter_map(|notice| match notice {
            Notice::Event(event) if event.class != EventClass::NEW => {
                Some(format!("{} {}", event.name, String::from_utf8_lossy(&event.key)))
            }
            _ => None,
        });
        Done {
            answer: read_answer(&mut bytes.as_slice()),
            events: events.collect(),
            changes: effects.changes as i64,
        }
    }
}

/// What may differ from one server to another in the reply to `name`.
fn is_unordered(name: &[u8]) -> bool {
    matches!(name, b"SMEMBERS" | b"SINTER" | b"SUNION" | b"SDIFF" | b"SPOP")
}

fn flatten_scan(answer: Answer, pairs: bool) -> Answer {
    let items = answer.items();
    if items.is_empty() {
        return answer;
    }
    let step = if pairs { 2 } else { 1 };
    let chunks = items[1..].chunks(step);
    let parts =
        chunks.map(|chunk| Answer::List(b'*', chunk.iter().cloned().map(Answer::Bulk).collect()));
    Answer::List(b'*', parts.collect()).sorted()
}

/// Runs a command on both; whether they agree.
fn compare(ours: &mut Ours, oracle: &mut Oracle, args: &[Bytes]) -> bool {
    let name = args[0].as_slice();
    let shown = || {
        let words = args.iter().map(|arg| arg.escape_ascii().to_string());
        words.collect::<Vec<_>>().join(" ")
    };
    let done = ours.run(args);
    let mut got = done.answer;
    let mut expected = match name {
        b"BZPOPMIN" | b"BZPOPMAX" | b"BZMPOP" => oracle.ask_without_waiting(args),
        b"SPOP" if !got.items().is_empty() => {
            // Redis draws others: it is told to remove the same.
            let size = got.items().len();
            let removal = [vec![b"SREM".to_vec(), args[1].clone()], got.items()].concat();
            let removed = oracle.ask(&removal);
            assert_eq!(removed, Answer::Line(format!(":{size}").into_bytes()), "{}", shown());
            got.clone()
        }
        _ => oracle.ask(args),
    };
    match name {
        b"SRANDMEMBER" | b"ZRANDMEMBER" => {
            let shape = |answer: &Answer| match answer {
                Answer::List(kind, items) => format!("{kind} {}", items.len()),
                Answer::Bulk(_) => "bulk".to_owned(),
                line => format!("{line:?}"),
            };
            assert_eq!(shape(&got), shape(&expected), "{}", shown());
            (got, expected) = (Answer::Line(b"+".to_vec()), Answer::Line(b"+".to_vec()));
        }
        b"SSCAN" | b"ZSCAN" => {
            got = flatten_scan(got, name == b"ZSCAN");
            expected = flatten_scan(expected, name == b"ZSCAN");
        }
        // Redis 7.0 has no listpacks for sets.
        b"OBJECT" if expected == Answer::Bulk(b"hashtable".to_vec()) => expected = got.clone(),
        name if is_unordered(name) => (got, expected) = (got.sorted(), expected.sorted()),
        _ => {}
    }
    let (events, changes) = (oracle.events(), oracle.changes());
    let mut own_events = done.events;
    if name == b"SPOP" {
        let as_removal = |event: &mut String| *event = event.replace("spop", "srem");
        own_events.iter_mut().for_each(as_removal);
    }
    let same = got.agrees(&expected) && own_events == events && done.changes == changes;
    if !same {
        println!(
            "{}\n  ours {got:?} {own_events:?} {}\n redis {expected:?} {events:?} {changes}",
            shown(),
            done.changes
        );
    }
    same
}

fn random_commands(protocol: Protocol, seed: u64, small: bool, count: usize) {
    let mut oracle = Oracle::connect();
    let mut ours = Ours { engine: Engine::new(16, seed), sequence: 0, protocol };
    let limits = ours.engine.keyspace().limits();
    for (name, normal, reduced) in [
        ("set-max-intset-entries", 512, 8),
        ("zset-max-listpack-entries", 128, 12),
        ("zset-max-listpack-value", 64, 20),
    ] {
        let value = if small { reduced } else { normal };
        limits.set(name, value);
        oracle.ask(&words(&format!("CONFIG SET {name} {value}")));
    }
    oracle.ask(&words("FLUSHALL"));
    if protocol == Protocol::Resp3 {
        send(&mut oracle.commands, &words("HELLO 3"));
        let mut line = String::new();
        oracle.commands.read_line(&mut line).unwrap();
        let fields: usize = line[1..].trim().parse().unwrap();
        (0..2 * fields).for_each(|_| drop(read_answer(&mut oracle.commands)));
    }
    oracle.ask(&words("SET text hello"));
    ours.run(&words("SET text hello"));
    oracle.events();
    oracle.changes();
    let mut dice = Dice(seed * 2 + 1);
    let mut differences = 0;
    for done in 0..count {
        let args = dice.command();
        if args.iter().any(|arg| arg == b"9223372036854775807") && args[0].ends_with(b"RANDMEMBER")
        {
            continue;
        }
        let row = table().find(&args[0]).unwrap();
        if !row.accepts(args.len()) {
            continue;
        }
        // Keys of fixed type stay so that most commands find what they want.
        let stores_text = args[0].ends_with(b"STORE") && args[1] == b"text";
        if stores_text {
            continue;
        }
        let mut agree = compare(&mut ours, &mut oracle, &args);
        if done % 500 == 0 {
            for key in ["s1", "s2", "s3", "s4"] {
                agree &= compare(&mut ours, &mut oracle, &words(&format!("SMEMBERS {key}")));
            }
            for key in ["z1", "z2", "z3", "z4", "lex"] {
                let line = format!("ZRANGE {key} 0 -1 WITHSCORES");
                agree &= compare(&mut ours, &mut oracle, &words(&line));
            }
        }
        // A few differences tell more than the first.
        differences += usize::from(!agree);
        assert!(differences < 12, "too many differences");
    }
    assert_eq!(differences, 0);
    println!("{count} commands agree: {protocol:?}, seed {seed}, small limits: {small}");
}

#[test]
#[ignore = "needs a Redis"]
fn random_commands_agree() {
    let rounds: u64 = std::env::var("HOLDFAST_ROUNDS").map_or(4, |text| text.parse().unwrap());
    for seed in 1..=rounds {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            for small in [true, false] {
                random_commands(protocol, seed, small, 10_000);
            }
        }
    }
}
