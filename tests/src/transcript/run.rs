//! Drives a transcript against a server, or anything that can stand for one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::notation::{Pattern, render};
use super::quote::{Saved, expand, expand_args};
use super::{Action, Expect, Only, Step, Transcript};
use crate::client::{Client, REPLY_DEADLINE, Received};
use crate::server::{Kind, Server};
use crate::wire::Reply;

/// How long `@silent` listens. It can only miss a fault, never invent one.
const SILENCE: Duration = Duration::from_millis(60);

/// What a transcript is played to: connections by name, and time.
pub trait Endpoint {
    /// Sends a command on a connection, opened on first use.
    fn send(&mut self, conn: &str, args: &[Vec<u8>]);
    /// Sends bytes as they are.
    fn send_raw(&mut self, conn: &str, bytes: &[u8]);
    /// The next reply or push, if it comes in time.
    fn receive(&mut self, conn: &str, wait: Duration) -> Received;
    /// The next `count` bytes of the reply stream, fewer when they do not come.
    fn receive_raw(&mut self, conn: &str, count: usize, wait: Duration) -> Vec<u8>;
    /// Waits until the server holds this client in a blocking command; whether
    /// it came to that.
    fn wait_blocked(&mut self, conn: &str) -> bool;
    /// Lets time pass.
    fn sleep(&mut self, time: Duration);
}

/// A step that did not go as written.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `file.txt:line`
    pub place: String,
    /// What was sent.
    pub sent: String,
    /// What was to come.
    pub want: String,
    /// What came.
    pub got: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place, sent, want, got } = self;
        writeln!(f, "{place}: {sent}\n  expected: {want}\n  got:      {got}")
    }
}

/// The outcome of one transcript.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Commands and reads whose result was checked.
    pub checked: usize,
    /// Those that went wrong.
    pub failures: Vec<Failure>,
    /// Replies to steps that had none written, by the line they go after.
    pub filled: BTreeMap<usize, String>,
}

/// Plays `transcript` to `endpoint`, as the server `kind`. A wrong reply is
/// noted and the play goes on; after a lost connection it stops.
///
/// The keyspace must be empty when it starts.
pub fn play(transcript: &Transcript, kind: Kind, endpoint: &mut dyn Endpoint) -> Outcome {
    let mut player = Player {
        endpoint,
        conn: "main".to_owned(),
        saved: Saved::new(),
        outcome: Outcome::default(),
    };
    for step in &transcript.steps {
        let skip = match step.only {
            Only::All => false,
            Only::Ours => kind != Kind::Ours,
            Only::Oracle => kind != Kind::Oracle,
        };
        if skip {
            continue;
        }
        if let Err((want, got)) = player.step(step) {
            let fatal = got == CLOSED || got == NOTHING;
            player.outcome.failures.push(Failure {
                place: format!("{}.txt:{}", transcript.name, step.line),
                sent: describe(&step.action),
                want,
                got,
            });
            if fatal {
                break;
            }
        }
    }
    player.outcome
}

const CLOSED: &str = "the connection was closed";
const NOTHING: &str = "no reply came";

struct Player<'a> {
    endpoint: &'a mut dyn Endpoint,
    conn: String,
    saved: Saved,
    outcome: Outcome,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Result<(), (String, String)> {
        let unknown = |e: String| ("a saved value".to_owned(), e);
        match &step.action {
            Action::Conn(name) => {
                self.conn.clone_from(name);
            }
            Action::SleepMs(ms) => self.endpoint.sleep(Duration::from_millis(*ms)),
            Action::Flush => {
                self.endpoint.send(&self.conn, &[b"FLUSHALL".to_vec()]);
                self.reply()?;
            }
            Action::Resp(version) => {
                let hello = [b"HELLO".to_vec(), version.to_string().into_bytes()];
                self.endpoint.send(&self.conn, &hello);
                self.reply()?;
            }
            Action::Send(args) => {
                let args = expand_args(args, &self.saved).map_err(unknown)?;
                self.endpoint.send(&self.conn, &args);
            }
            Action::Raw(bytes) => {
                let bytes = expand(bytes, &self.saved).map_err(unknown)?;
                self.endpoint.send_raw(&self.conn, &bytes);
            }
            Action::Read => {}
        }
        if step.expect != Expect::NoReply {
            self.outcome.checked += 1;
            self.expect(step)?;
        }
        Ok(())
    }

    fn expect(&mut self, step: &Step) -> Result<(), (String, String)> {
        let reply = match &step.expect {
            Expect::NoReply => return Ok(()),
            Expect::Closed => {
                return match self.endpoint.receive(&self.conn, REPLY_DEADLINE) {
                    Received::Closed => Ok(()),
                    Received::Reply(reply) => Err((CLOSED.into(), render(&reply))),
                    Received::Nothing => Err((CLOSED.into(), "it stays open".into())),
                };
            }
            Expect::Blocked => {
                return match self.endpoint.wait_blocked(&self.conn) {
                    true => Ok(()),
                    false => Err(("a held client".into(), "it is not held".into())),
                };
            }
            Expect::Silent => {
                return match self.endpoint.receive(&self.conn, SILENCE) {
                    Received::Nothing => Ok(()),
                    Received::Reply(reply) => Err(("no reply".into(), render(&reply))),
                    Received::Closed => Err(("no reply".into(), CLOSED.into())),
                };
            }
            Expect::Bytes(want) => {
                let got = self.endpoint.receive_raw(&self.conn, want.len(), REPLY_DEADLINE);
                return match got == *want {
                    true => Ok(()),
                    false => Err((super::quote::quote(want), super::quote::quote(&got))),
                };
            }
            Expect::Unfilled | Expect::Any | Expect::Reply(_) => self.reply()?,
        };
        if let Some(name) = &step.save {
            let text = match &reply {
                // SCAN's cursor is what one saves of an array.
                Reply::Array(items) => items.first().map(Reply::text).unwrap_or_default(),
                other => other.text(),
            };
            self.saved.insert(name.clone(), text.into_bytes());
        }
        match &step.expect {
            Expect::Unfilled => {
                self.outcome.filled.insert(step.line_last, render(&reply));
                Err(("(nothing is written; run transcript-fill)".into(), render(&reply)))
            }
            Expect::Reply(patterns) => {
                for pattern in patterns {
                    let matches = pattern
                        .matches(&reply, &self.saved, step.order)
                        .map_err(|e| ("a saved value".to_owned(), e))?;
                    if !matches {
                        return Err((show(pattern), render(&reply)));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn reply(&mut self) -> Result<Reply, (String, String)> {
        match self.endpoint.receive(&self.conn, REPLY_DEADLINE) {
            Received::Reply(reply) => Ok(reply),
            Received::Nothing => Err(("a reply".into(), NOTHING.into())),
            Received::Closed => Err(("a reply".into(), CLOSED.into())),
        }
    }
}

fn show(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Scalar(reply) => render(reply),
        Pattern::Glob(glob) => format!("@match {glob}"),
        Pattern::Rest => "...".into(),
        Pattern::Aggregate(kind, items) => {
            let kind = char::from(*kind);
            let inner: Vec<_> = items.iter().map(show).collect();
            format!("{kind}[{}]", inner.join(" "))
        }
    }
}

fn describe(action: &Action) -> String {
    match action {
        Action::Send(args) => {
            let words: Vec<_> = args
                .iter()
                .map(|a| String::from_utf8_lossy(&a[..a.len().min(80)]).into_owned())
                .collect();
            format!("> {}", words.join(" "))
        }
        Action::Raw(bytes) => {
            format!("@raw {}", super::quote::quote(&bytes[..bytes.len().min(80)]))
        }
        other => format!("{other:?}"),
    }
}

/// A server behind a socket.
pub struct Socket<'a> {
    server: &'a Server,
    conns: BTreeMap<String, Client>,
}

impl<'a> Socket<'a> {
    /// No connections yet; each opens when the transcript first names it.
    #[must_use]
    pub fn new(server: &'a Server) -> Self {
        Self { server, conns: BTreeMap::new() }
    }

    fn conn(&mut self, name: &str) -> &mut Client {
        self.conns.entry(name.to_owned()).or_insert_with(|| self.server.client())
    }
}

impl Endpoint for Socket<'_> {
    fn send(&mut self, conn: &str, args: &[Vec<u8>]) {
        // A closed connection shows when the reply is read.
        let _ = self.conn(conn).send(args);
    }

    fn send_raw(&mut self, conn: &str, bytes: &[u8]) {
        let _ = self.conn(conn).send_raw(bytes);
    }

    fn receive(&mut self, conn: &str, wait: Duration) -> Received {
        self.conn(conn).receive(wait)
    }

    fn receive_raw(&mut self, conn: &str, count: usize, wait: Duration) -> Vec<u8> {
        self.conn(conn).receive_raw(count, wait)
    }

    /// Asks CLIENT LIST for the flag `b`. A server that holds every client
    /// (CLIENT PAUSE) does not answer that either, which is answer enough.
    fn wait_blocked(&mut self, conn: &str) -> bool {
        let Some(addr) = self.conn(conn).local_addr() else {
            return false;
        };
        let needle = format!(" addr={addr} ");
        for _ in 0..300 {
            let mut control = self.server.client();
            let _ = control.send(&["CLIENT", "LIST"]);
            match control.receive(Duration::from_millis(500)) {
                Received::Reply(reply) => {
                    let list = reply.text();
                    let held = list.lines().filter(|l| l.contains(&needle)).any(|l| {
                        l.split(' ')
                            .find_map(|field| field.strip_prefix("flags="))
                            .is_some_and(|flags| flags.contains('b'))
                    });
                    if held {
                        return true;
                    }
                }
                _ => return true,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
