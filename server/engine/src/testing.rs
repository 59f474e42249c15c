//! An engine at a clock one can set, for the tests of the families.

use crate::command::Command;
use crate::context::Context;
use crate::effects::{Effects, EventClass, Notice};
use crate::engine::{Engine, Step, Watch, table};
use crate::error::CommandError;
use crate::host::{Alone, Host};
use crate::keyspace::{LockMode, Plan, View};
use crate::reply::Reply;
use crate::time::{DbIndex, UnixMillis};
use crate::value::Object;

/// The time a bench starts at, ms.
pub(crate) const START: i64 = 1_700_000_000_000;

/// Every class of keyspace events.
const EVERYTHING: EventClass = EventClass(u32::MAX);

/// An engine with the context of its next proposal, and what the last one did.
pub(crate) struct Bench {
    pub(crate) engine: std::sync::Arc<Engine>,
    pub(crate) now: UnixMillis,
    pub(crate) db: DbIndex,
    pub(crate) effects: Effects,
    sequence: u64,
}

impl Bench {
    /// An empty engine of 16 databases.
    pub(crate) fn new() -> Self {
        Self {
            engine: std::sync::Arc::new(Engine::new(16, 7)),
            now: UnixMillis(START),
            db: DbIndex(0),
            effects: Effects::new(EVERYTHING),
            sequence: 0,
        }
    }

    /// Lets time pass.
    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.now = UnixMillis(self.now.0 + ms);
    }

    /// Goes on with another number of the sequence, as a proposal of another thread would.
    pub(crate) fn go_on_at(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// The context of the next proposal.
    pub(crate) fn next_context(&mut self) -> Context {
        self.sequence += 1;
        Context { db: self.db, ..Context::at(self.now, self.sequence) }
    }

    /// Runs a command as the server would, its arguments bytes or text; the effects are those
    /// of this command alone.
    pub(crate) fn run<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.run_with(&Alone, args)
    }

    /// As [`Bench::run`], with a host of one's own.
    pub(crate) fn run_with<A: AsRef<[u8]>>(&mut self, host: &dyn Host, args: &[A]) -> Reply {
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        self.effects = Effects::new(EVERYTHING);
        let row = match find(&args) {
            Ok(row) => row,
            Err(error) => return Reply::error(error),
        };
        let context = self.next_context();
        self.engine.run(row, &args, context, host, &mut self.effects).reply
    }

    /// Runs a line of arguments without spaces in them.
    pub(crate) fn line(&mut self, line: &str) -> Reply {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }

    /// The reply of a line, in one line of text.
    pub(crate) fn show(&mut self, line: &str) -> String {
        show(&self.line(line))
    }

    /// Runs lines as one transaction; `None` if a watched key changed.
    pub(crate) fn transaction(&mut self, lines: &[&str], watches: &[Watch]) -> Option<Vec<Reply>> {
        let split: Vec<Vec<&[u8]>> =
            lines.iter().map(|line| line.split(' ').map(str::as_bytes).collect()).collect();
        let steps: Vec<Step<'_>> = split
            .iter()
            .map(|args| Step { row: find(args).expect("a known command"), args, db: self.db })
            .collect();
        let context = self.next_context();
        let outcomes = self
            .engine
            .transaction(&steps, watches, context, &Alone, &mut self.effects)
            .expect("nobody else locks");
        outcomes.map(|all| all.into_iter().map(|outcome| outcome.reply).collect())
    }

    /// Puts something at `key` that is no string.
    pub(crate) fn put_a_set(&mut self, key: &str) {
        let context = self.next_context();
        let engine = &self.engine;
        let mut view =
            View::lock(engine.keyspace(), &Plan::Db(context.db), LockMode::Write, context, &Alone)
                .expect("nobody else locks");
        let object = Object::Set(Default::default());
        view.set_object(key.as_bytes(), object, None, &mut self.effects);
    }

    /// What WATCH would note of a key.
    pub(crate) fn watch(&mut self, key: &str) -> Watch {
        let context = self.next_context();
        self.engine.watch(&[key.as_bytes()], context, &Alone).expect("nobody else locks").remove(0)
    }

    /// The keyspace events of the last command as `db:name key`, in order.
    pub(crate) fn events(&self) -> Vec<String> {
        self.effects
            .notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Event(event) => {
                    Some(format!("{}:{} {}", event.db.0, event.name, event.key.escape_ascii()))
                }
                _ => None,
            })
            .collect()
    }

    /// Checks the replies of lines, each after the one before.
    #[track_caller]
    pub(crate) fn check(&mut self, lines: &[(&str, &str)]) {
        for (line, reply) in lines {
            assert_eq!(self.show(line), *reply, "{line}");
        }
    }

    /// Checks the events and the count of changes of lines.
    #[track_caller]
    pub(crate) fn check_events(&mut self, lines: &[(&str, &str, u64)]) {
        for (line, events, changes) in lines {
            self.line(line);
            assert_eq!(self.events().join(", "), *events, "{line}");
            assert_eq!(self.effects.changes, *changes, "{line}");
        }
    }
}

/// The row of a command, its arity checked.
fn find(args: &[&[u8]]) -> Result<&'static Command, CommandError> {
    let name = String::from_utf8_lossy(args[0]);
    let mut row = table()
        .find(args[0])
        .ok_or_else(|| CommandError::new(format!("ERR unknown command '{name}'")))?;
    if let (false, Some(sub)) = (row.subcommands.is_empty(), args.get(1)) {
        row = table()
            .find_sub(row, sub)
            .ok_or_else(|| CommandError::unknown_subcommand(row.name, sub))?;
    }
    if row.accepts(args.len()) { Ok(row) } else { Err(CommandError::wrong_arity(&row.full_name())) }
}

/// A reply as text: `OK`, `nil`, `1`, `"bulk"`, `[a b]`, `{k: v}`, `-ERR …`.
pub(crate) fn show(reply: &Reply) -> String {
    let list = |items: &[Reply]| items.iter().map(show).collect::<Vec<_>>().join(" ");
    let bulks = |items: &crate::BulkList| {
        let items = items.iter().map(|item| match item {
            Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
            None => "nil".to_owned(),
        });
        items.collect::<Vec<_>>().join(" ")
    };
    match reply {
        Reply::Ok => "OK".to_owned(),
        Reply::Simple(text) => text.to_string(),
        Reply::Nil | Reply::NilArray => "nil".to_owned(),
        Reply::Integer(number) => number.to_string(),
        Reply::Double(number) => format!("{number:?}"),
        Reply::Bool(yes) => yes.to_string(),
        Reply::Bulk(bytes) | Reply::Verbatim(bytes) | Reply::BigNumber(bytes) => {
            format!("\"{}\"", bytes.escape_ascii())
        }
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            format!("[{}]", list(items))
        }
        Reply::Bulks(items) | Reply::BulkMap(items) | Reply::BulkSet(items) => {
            format!("[{}]", bulks(items))
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", show(key), show(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Reply::Record(fields) => {
            let values = fields.iter().map(|(_, value)| show(value)).collect::<Vec<_>>();
            format!("[{}]", values.join(" "))
        }
        Reply::Error(error) => format!("-{error}"),
    }
}
