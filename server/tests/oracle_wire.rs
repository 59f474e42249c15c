//! Compares the wire room's rules with a real Redis: numbers, globs, inline requests.
//!
//! Ignored by default. `HOLDFAST_ORACLE=127.0.0.1:6379 cargo test -p holdfast --test
//! oracle_wire -- --ignored` runs it; the server's database is flushed. It was written against
//! Redis 7.0.15 on x86-64.

#![allow(clippy::unwrap_used, reason = "a test; helpers outside #[test] functions, too")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use holdfast::resp::{Batch, Limits, RequestParser, Status};
use holdfast_engine::value::glob::Glob;
use holdfast_engine::value::long_double::LongDouble;
use holdfast_engine::value::number::{format_g17, parse_f64, parse_i64};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// One answer: an error or status line, a bulk (`None` for nil), or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Line(Vec<u8>),
    Bulk(Option<Vec<u8>>),
    List(Vec<Answer>),
}

struct Oracle(BufReader<TcpStream>);

impl Oracle {
    fn connect() -> Self {
        let address = std::env::var("HOLDFAST_ORACLE").expect("HOLDFAST_ORACLE=host:port");
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    fn send(&mut self, commands: &[Vec<&[u8]>]) {
        let mut bytes = Vec::new();
        for args in commands {
            bytes.extend(format!("*{}\r\n", args.len()).into_bytes());
            for arg in args {
                bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
                bytes.extend_from_slice(arg);
                bytes.extend(b"\r\n");
            }
        }
        self.0.get_mut().write_all(&bytes).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        line.truncate(line.len().saturating_sub(2));
        let count = || std::str::from_utf8(&line[1..]).unwrap().parse::<i64>().unwrap();
        match line.first() {
            Some(b'$') if count() < 0 => Answer::Bulk(None),
            Some(b'$') => {
                let mut bytes = vec![0; count() as usize + 2];
                self.0.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Answer::Bulk(Some(bytes))
            }
            Some(b'*') => Answer::List((0..count()).map(|_| self.answer()).collect()),
            _ => Answer::Line(line),
        }
    }

    fn ask(&mut self, args: &[&[u8]]) -> Answer {
        self.send(&[args.to_vec()]);
        self.answer()
    }
}

/// The same inputs in every run.
fn samples<T: std::fmt::Debug>(count: usize, strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "-?[0-9]{1,9}(\\.[0-9]{1,9})?",
        2 => "[+-]?[0-9]{0,21}\\.?[0-9]{0,21}([eE][+-]?[0-9]{1,2})?",
        1 => "-?[0-9]{1,25}(\\.[0-9]{1,30})?e-?[0-9]{1,4}",
        1 => "-?0[xX][0-9a-fA-F]{0,20}(\\.[0-9a-f]{0,4})?(p-?[0-9]{1,3})?",
        1 => prop::sample::select(vec!["inf", "-inf", "Infinity", "nan", "0", "-0", "", " 1", "1 ", "1e", "0x", ".", "1e5000", "1e4932", "1e-4950", "1e-4966", "0e9999"]).prop_map(str::to_owned),
    ]
}

#[test]
#[ignore = "needs a Redis"]
fn sums_are_those_of_incrbyfloat() {
    let mut oracle = Oracle::connect();
    let mut sums = 0;
    for (a, b) in samples(20_000, (number_text(), number_text())) {
        oracle.send(&[
            vec![b"SET", b"oracle:sum", a.as_bytes()],
            vec![b"INCRBYFLOAT", b"oracle:sum", b.as_bytes()],
        ]);
        oracle.answer();
        let expected = oracle.answer();
        let terms = LongDouble::parse(a.as_bytes()).zip(LongDouble::parse(b.as_bytes()));
        let got = match terms {
            None => Answer::Line(b"-ERR value is not a valid float".to_vec()),
            Some((a, b)) => match a.checked_add(b) {
                None => Answer::Line(b"-ERR increment would produce NaN or Infinity".to_vec()),
                Some(sum) => {
                    sums += 1;
                    Answer::Bulk(Some(sum.to_text().into_bytes()))
                }
            },
        };
        assert_eq!(got, expected, "{a:?} + {b:?}");
    }
    println!("{sums} sums compared");
}

#[test]
#[ignore = "needs a Redis"]
fn doubles_are_read_and_printed_as_scores() {
    let mut oracle = Oracle::connect();
    let mut scores = 0;
    for text in samples(20_000, number_text()) {
        // A new key each time: an equal score, which 0 and -0 are, would not be replaced.
        oracle.send(&[
            vec![b"DEL", b"oracle:scores"],
            vec![b"ZADD", b"oracle:scores", text.as_bytes(), b"m"],
            vec![b"ZSCORE", b"oracle:scores", b"m"],
        ]);
        oracle.answer();
        let added = oracle.answer();
        let score = oracle.answer();
        match parse_f64(text.as_bytes()) {
            None => {
                let error = Answer::Line(b"-ERR value is not a valid float".to_vec());
                assert_eq!(added, error, "{text:?}");
            }
            Some(value) => {
                scores += 1;
                // What 7.0 prints; 7.2's shortest form is held to the same value by unit tests.
                // (A small sorted set keeps whole scores as integers, hence no -0.)
                let printed = format_g17(value + 0.0);
                assert_eq!(score, Answer::Bulk(Some(printed.into_bytes())), "{text:?}");
            }
        }
    }
    println!("{scores} scores compared");
}

#[test]
#[ignore = "needs a Redis"]
fn integers_are_read_as_by_incrby() {
    let mut oracle = Oracle::connect();
    let texts = prop_oneof![
        "[+-]?[0-9]{0,20}",
        "-?(9223372036854775[0-9]{3}|0[0-9]?)",
        " ?[0-9]{1,3}[ .\u{0}]?",
    ];
    for text in samples(5000, texts) {
        oracle.send(&[
            vec![b"SET", b"oracle:int", b"0"],
            vec![b"INCRBY", b"oracle:int", text.as_bytes()],
        ]);
        oracle.answer();
        let expected = oracle.answer();
        let got = match parse_i64(text.as_bytes()) {
            Some(value) => Answer::Line(format!(":{value}").into_bytes()),
            None => Answer::Line(b"-ERR value is not an integer or out of range".to_vec()),
        };
        assert_eq!(got, expected, "{text:?}");
    }
}

#[test]
#[ignore = "needs a Redis"]
fn patterns_match_the_keys_that_redis_matches() {
    let mut oracle = Oracle::connect();
    oracle.ask(&[b"FLUSHALL"]);
    let byte = || {
        prop_oneof![
            12 => prop::sample::select(&b"abcAB*?[]^-\\"[..]),
            1 => any::<u8>(),
        ]
    };
    let keys: BTreeSet<Vec<u8>> =
        samples(3000, prop::collection::vec(byte(), 0..6)).into_iter().collect();
    for key in &keys {
        oracle.send(&[vec![b"SET", key, b""]]);
    }
    for _ in &keys {
        oracle.answer();
    }
    let element = prop_oneof![
        4 => byte().prop_map(|byte| vec![byte]),
        2 => Just(b"*".to_vec()),
        1 => Just(b"[".to_vec()),
        1 => "\\[\\^?[abc\\\\-]{0,4}\\]".prop_map(String::into_bytes),
    ];
    let patterns = prop::collection::vec(element, 0..7).prop_map(|parts| parts.concat());
    let mut matches = 0;
    for pattern in samples(6000, patterns) {
        let glob = Glob::new(&pattern);
        let Answer::List(items) = oracle.ask(&[b"KEYS", &pattern]) else { panic!("no list") };
        let expected: BTreeSet<Vec<u8>> = items
            .into_iter()
            .filter_map(|item| if let Answer::Bulk(Some(key)) = item { Some(key) } else { None })
            .collect();
        let got: BTreeSet<Vec<u8>> =
            keys.iter().filter(|key| glob.is_any() || glob.matches(key)).cloned().collect();
        matches += got.len();
        let show = |keys: BTreeSet<Vec<u8>>| -> Vec<String> {
            keys.into_iter().map(|key| key.escape_ascii().to_string()).collect()
        };
        assert_eq!(show(got), show(expected), "{}", pattern.escape_ascii());
    }
    println!("{} keys, {matches} matches compared", keys.len());
}

#[test]
#[ignore = "needs a Redis"]
fn inline_requests_split_as_in_redis() {
    let mut oracle = Oracle::connect();
    let line = "[ab\"'\\\\ \tx4\u{b}\r]{0,14}";
    for line in samples(5000, line) {
        // EVAL answers its arguments as they came; an odd quote must not swallow the prefix.
        let request = format!("EVAL 'return ARGV' 0 {line}\r\n").into_bytes();
        let (mut parser, mut batch) = (RequestParser::new(Limits::default()), Batch::new());
        let parsed = parser.parse(&request, &mut batch);
        oracle.0.get_mut().write_all(&request).unwrap();
        match parsed.status {
            Status::Ready => {
                let args = batch.command(0, &request).skip(3);
                let got = args.map(|arg| Answer::Bulk(Some(arg.to_vec()))).collect();
                assert_eq!(Answer::List(got), oracle.answer(), "{line:?}");
            }
            Status::Failed(error) => {
                let expected = [b"-ERR ", &error.text()[..]].concat();
                assert_eq!(oracle.answer(), Answer::Line(expected), "{line:?}");
                oracle = Oracle::connect();
            }
            Status::Partial { .. } => panic!("{line:?} is a whole line"),
        }
    }
}

#[test]
#[ignore = "needs a Redis"]
fn protocol_errors_are_those_of_redis() {
    let requests = prop_oneof![
        "\\*[0-9+a-]{0,3}\r\n",
        "\\*1\r\n[$:*a\r\n '\"][0-9+a-]{0,3}\r\n",
        "\\*1\r[\nx]\\$4\r[\nx]PING[\r\nx]{2}",
        "\\*-?[0-9]{1,12}\r\n",
        "\\*1\r\n\\$-?[0-9]{8,20}\r\n",
    ];
    let ping = b"*1\r\n$4\r\nPING\r\n";
    for request in samples(600, requests) {
        let request = request.as_bytes();
        // 7.0 counts arguments up to 2^31 - 1, the protocol's documentation up to 2^20.
        let limits = Limits::default().args_max(i32::MAX as usize);
        let (mut parser, mut batch) = (RequestParser::new(limits), Batch::new());
        let parsed = parser.parse(request, &mut batch);
        let mut oracle = Oracle::connect();
        oracle.0.get_mut().write_all(request).unwrap();
        match parsed.status {
            Status::Failed(error) => {
                let expected = [b"-ERR ", &error.text()[..]].concat();
                assert_eq!(oracle.answer(), Answer::Line(expected), "{}", request.escape_ascii());
            }
            // Both are between commands: both answer one more, after the first if there was one.
            Status::Ready => {
                oracle.0.get_mut().write_all(ping).unwrap();
                for _ in 0..=batch.len() {
                    let answer = oracle.answer();
                    let pong = Answer::Line(b"+PONG".to_vec());
                    assert_eq!(answer, pong, "{}", request.escape_ascii());
                }
            }
            // Both wait; that Redis does, too, shows by its silence.
            Status::Partial { .. } => {
                let wait = std::time::Duration::from_millis(2);
                oracle.0.get_ref().set_read_timeout(Some(wait)).unwrap();
                let silent = oracle.0.get_mut().read(&mut [0]).is_err();
                assert!(silent, "{}", request.escape_ascii());
            }
        }
    }
}
