//! The transcript format: commands and the replies they must get.
//!
//! `tests/README.md` shows it by example. This module reads it into [`Step`]s;
//! [`run`] drives the steps against anything that is an [`run::Endpoint`], so
//! that one corpus serves a socket, a bare engine and a cluster.

pub mod notation;
pub mod quote;
pub mod run;

use notation::{Order, Pattern};
use quote::{split_args, unquote};

/// What a step does before it expects something.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `> GET k`: sends a command.
    Send(Vec<Vec<u8>>),
    /// `@raw "bytes"`: sends bytes as they are.
    Raw(Vec<u8>),
    /// `@read`: takes a reply or push that is still to come.
    Read,
    /// `@conn B`: goes on with another connection, opened on first use.
    Conn(String),
    /// `@resp2`, `@resp3`: HELLO with that version.
    Resp(u8),
    /// `@sleep 20`: lets so many milliseconds pass.
    SleepMs(u64),
    /// `@flush`: FLUSHALL.
    Flush,
}

/// What must come of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// Nothing is written: the reply is still to be filled in.
    Unfilled,
    /// The step has no reply (it is no command).
    NoReply,
    /// A reply that matches all of these.
    Reply(Vec<Pattern>),
    /// `@bytes "…"`: exactly these bytes.
    Bytes(Vec<u8>),
    /// `@any`: some reply.
    Any,
    /// `@blocked`: the server holds the client; the reply comes by `@read`.
    Blocked,
    /// `@silent`: no reply comes, though the client is not held.
    Silent,
    /// `@closed`: the server closes the connection.
    Closed,
}

/// Which servers a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Every server.
    All,
    /// Ours, because Redis 7.0 answers otherwise or not at all.
    Ours,
    /// Redis 7.0, because ours (as 7.2) answers otherwise.
    Oracle,
}

/// One command, or one directive, and what must come of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it stands, counted from 1.
    pub line: usize,
    /// The last line that belongs to it.
    pub line_last: usize,
    /// What to do.
    pub action: Action,
    /// What must come of it.
    pub expect: Expect,
    /// Whether the outermost elements may come in any order.
    pub order: Order,
    /// Who must behave so.
    pub only: Only,
    /// `@save name`: keeps the reply's text as `${name}`.
    pub save: Option<String>,
}

/// A file of the corpus.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// The file's name without its ending.
    pub name: String,
    /// `@server --directive value …`: directives the server is started with.
    pub server_args: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    /// Text that names the file and line that make no sense.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut transcript = Self { name: name.to_owned(), ..Self::default() };
        let lines: Vec<&str> = text.lines().collect();
        let mut only = Only::All;
        let mut at = 0;
        while at < lines.len() {
            let number = at + 1;
            let wrong = |e: String| format!("{name}.txt:{number}: {e}");
            let line = lines[at].trim_end();
            at += 1;
            if line.is_empty() {
                only = Only::All;
                continue;
            }
            if line.starts_with('#') && !matches!(line, "#t" | "#f") {
                continue;
            }
            if let Some(rest) = line.strip_prefix("@server ") {
                transcript.server_args = rest.split_whitespace().map(str::to_owned).collect();
                continue;
            }
            if let Some(rest) = line.strip_prefix("@only ") {
                only = parse_only(rest).map_err(wrong)?;
                continue;
            }
            let action = match line {
                // About the connection at hand, with nothing sent before.
                state if is_state(state) => {
                    at -= 1;
                    Action::Read
                }
                _ => parse_action(line).map_err(wrong)?,
            };
            let mut step = Step {
                line: number,
                line_last: number,
                expect: match action {
                    Action::Send(_) | Action::Raw(_) | Action::Read => Expect::Unfilled,
                    _ => Expect::NoReply,
                },
                action,
                order: Order::Written,
                only,
                save: None,
            };
            if step.expect == Expect::Unfilled {
                let mut end = at;
                while end < lines.len()
                    && is_expectation(lines[end])
                    // After a reply, `@closed` and its like speak of what follows it.
                    && (end == at || !is_state(lines[end]))
                {
                    end += 1;
                }
                expectation(&mut step, &lines[at..end]).map_err(wrong)?;
                step.line_last = end;
                at = end;
            }
            transcript.steps.push(step);
        }
        Ok(transcript)
    }
}

fn parse_only(rest: &str) -> Result<Only, String> {
    match rest.split_once(' ') {
        Some(("ours", reason)) if !reason.trim().is_empty() => Ok(Only::Ours),
        Some(("oracle", reason)) if !reason.trim().is_empty() => Ok(Only::Oracle),
        _ => Err("@only wants `ours` or `oracle`, and a reason".into()),
    }
}

fn parse_action(line: &str) -> Result<Action, String> {
    if let Some(command) = line.strip_prefix("> ") {
        let args = split_args(command)?;
        return match args.is_empty() {
            true => Err("an empty command".into()),
            false => Ok(Action::Send(args)),
        };
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (word, rest.trim()) {
        ("@raw", bytes) => Ok(Action::Raw(unquote(bytes)?)),
        ("@read", "") => Ok(Action::Read),
        ("@conn", name) if !name.is_empty() => Ok(Action::Conn(name.to_owned())),
        ("@resp2", "") => Ok(Action::Resp(2)),
        ("@resp3", "") => Ok(Action::Resp(3)),
        ("@sleep", ms) => Ok(Action::SleepMs(ms.parse().map_err(|_| "@sleep wants milliseconds")?)),
        ("@flush", "") => Ok(Action::Flush),
        _ => Err(format!("neither a command nor a directive: {line}")),
    }
}

/// Whether a line tells how the connection is, rather than what it answers.
fn is_state(line: &str) -> bool {
    matches!(line.trim_end(), "@closed" | "@silent" | "@blocked")
}

/// Whether a line continues the step above it.
fn is_expectation(line: &str) -> bool {
    let first = line.trim_end();
    let directive = first.split(' ').next().unwrap_or_default();
    match directive {
        "@match" | "@unordered" | "@save" | "@any" | "@blocked" | "@silent" | "@closed"
        | "@bytes" | "#t" | "#f" | "_" => return true,
        _ => {}
    }
    // `> x` is the next command, `>3` a push.
    let push = first.starts_with('>') && !first.starts_with("> ");
    push || first.starts_with(' ')
        || first.starts_with(['+', '-', ':', '$', '*', '%', '~', ',', '(', '='])
}

fn expectation(step: &mut Step, lines: &[&str]) -> Result<(), String> {
    let mut body: Vec<&str> = Vec::new();
    let mut patterns = Vec::new();
    for line in lines.iter().map(|l| l.trim_end()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let special = match word {
            "@unordered" => {
                step.order = Order::Any;
                continue;
            }
            "@save" => {
                step.save = Some(rest.to_owned());
                continue;
            }
            "@match" => {
                patterns.push(Pattern::Glob(rest.to_owned()));
                continue;
            }
            "@any" => Expect::Any,
            "@blocked" => Expect::Blocked,
            "@silent" => Expect::Silent,
            "@closed" => Expect::Closed,
            "@bytes" => Expect::Bytes(unquote(rest)?),
            _ => {
                body.push(line);
                continue;
            }
        };
        step.expect = special;
    }
    if !body.is_empty() {
        patterns.push(notation::parse(&body)?);
    }
    if !patterns.is_empty() {
        if step.expect != Expect::Unfilled {
            return Err("a reply and a directive that excludes one".into());
        }
        step.expect = Expect::Reply(patterns);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_parted_into_steps() {
        let text = "# note\n@server --maxclients 9\n> SET k v\n+OK\n> KEYS *\n@unordered\n*1\n  $\"k\"\n\n\
                    @only ours because\n> GET k\n@save v\n\n@conn B\n@read\n>1\n  $\"x\"\n";
        let t = Transcript::parse("x", text).unwrap();
        assert_eq!(t.server_args, ["--maxclients", "9"]);
        assert_eq!(t.steps.len(), 5);
        assert_eq!(t.steps[1].order, Order::Any);
        assert_eq!(t.steps[1].line_last, 8);
        assert_eq!(t.steps[2].only, Only::Ours);
        assert_eq!(t.steps[2].expect, Expect::Unfilled);
        assert_eq!(t.steps[3].only, Only::All);
        assert!(matches!(t.steps[4].expect, Expect::Reply(_)));
        assert!(Transcript::parse("x", "GET k").is_err());
        assert!(Transcript::parse("x", "@only ours\n").is_err());
    }
}
