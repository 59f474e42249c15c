//! The same scripts here and on a real Redis: replies must agree to the byte.
//!
//! Scripts stand one per line in `oracle_scripts.txt`, each with the answer Redis 7.0.15 gave
//! (SHA for the script's name); what 7.2 or we do differently is in `tests.rs` and not there.
//! One test compares with the recorded answers, one with a live `redis-server`, and that one
//! says loudly when there is none.
#![allow(clippy::disallowed_methods, reason = "starts a server and talks to it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tests::{Fake, vm};
use super::{Sha, number};
use crate::Reply;

const SCRIPTS: &str = include_str!("oracle_scripts.txt");

/// A Redis of our own, ended with the test.
struct Oracle {
    server: Child,
    stream: BufReader<TcpStream>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Oracle {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                return Some(Self { server, stream: BufReader::new(stream) });
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let _ = server.kill();
        let _ = server.wait();
        panic!("redis-server started but does not answer on port {port}");
    }

    fn eval(&mut self, body: &str) -> String {
        let mut request = Vec::new();
        let args = ["EVAL", body, "1", "key", "value", "2"];
        write!(request, "*{}\r\n", args.len()).unwrap();
        for arg in args {
            write!(request, "${}\r\n{arg}\r\n", arg.len()).unwrap();
        }
        self.stream.get_mut().write_all(&request).unwrap();
        self.reply()
    }

    /// One RESP2 reply in one line.
    fn reply(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap()).into_owned();
        let rest = &line[1..];
        match line.as_bytes()[0] {
            b'$' if rest == "-1" => "nil".to_owned(),
            b'*' if rest == "-1" => "nil".to_owned(),
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                format!("\"{}\"", bytes[..bytes.len() - 2].escape_ascii())
            }
            b'*' => {
                let items: Vec<_> = (0..rest.parse().unwrap()).map(|_| self.reply()).collect();
                format!("[{}]", items.join(" "))
            }
            _ => line,
        }
    }
}

/// A reply as RESP2 spells it, in the form of [`Oracle::reply`].
fn resp2(reply: &Reply) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(" "));
    match reply {
        Reply::Ok => "+OK".to_owned(),
        Reply::Simple(text) => format!("+{text}"),
        Reply::Nil | Reply::NilArray => "nil".to_owned(),
        Reply::Integer(n) => format!(":{n}"),
        Reply::Bool(yes) => format!(":{}", u8::from(*yes)),
        Reply::Double(n) => format!("\"{}\"", number::Text::new(*n).as_bytes().escape_ascii()),
        Reply::Bulk(text) | Reply::Verbatim(text) | Reply::BigNumber(text) => {
            format!("\"{}\"", text.escape_ascii())
        }
        Reply::Array(items) | Reply::Set(items) => list(items.iter().map(resp2).collect()),
        Reply::Map(pairs) => {
            list(pairs.iter().flat_map(|(key, value)| [resp2(key), resp2(value)]).collect())
        }
        Reply::Error(error) => format!("-{error}"),
        other => panic!("a script cannot return {other:?}"),
    }
}

/// The scripts with their recorded answers.
fn scripts() -> Vec<(&'static str, &'static str)> {
    let mut lines = SCRIPTS.lines().filter(|line| !line.is_empty() && !line.starts_with("-- "));
    let mut scripts = Vec::new();
    while let Some(body) = lines.next() {
        let answer = lines.next().and_then(|line| line.strip_prefix("=> "));
        scripts.push((body, answer.expect("an answer follows each script")));
    }
    assert!(scripts.len() >= 150, "only {} scripts", scripts.len());
    scripts
}

/// Runs every script here, in order, and demands the answer `expected` gives.
fn compare(mut expected: impl FnMut(&'static str, &'static str) -> String) {
    let vm = vm();
    let mut caller = Fake::default();
    let mut differing = Vec::new();
    for (body, recorded) in scripts() {
        let sha = Sha::of(body.as_bytes());
        let answer = vm.run(&sha, body.as_bytes(), &[b"key"], &[b"value", b"2"], &mut caller);
        let ours = answer.map_or_else(|error| format!("-{error}"), |reply| resp2(&reply));
        let ours = ours.replace(sha.as_str(), "SHA");
        let theirs = expected(body, recorded).replace(sha.as_str(), "SHA");
        if ours != theirs {
            differing.push(format!("{body}\n  redis:    {theirs}\n  holdfast: {ours}"));
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn scripts_answer_as_recorded_from_redis() {
    compare(|_, recorded| recorded.to_owned());
}

#[test]
fn scripts_answer_as_on_redis() {
    match Oracle::start() {
        Some(mut oracle) => compare(|body, _| oracle.eval(body)),
        None => eprintln!("SKIPPED: redis-server is not installed, nothing was compared"),
    }
}
