//! The command table's vocabulary: what one row says of its command.
//!
//! A row stands beside its handler, in the family's file. COMMAND, ACL categories, key
//! extraction, shard locking, routing and COMPATIBILITY.md all derive from the rows; nothing
//! else in the project lists commands. The handler's *type* is the command's class: a
//! [`Handler::Read`] cannot write because its view is shared.

mod acl;
mod flags;
mod keys;
pub mod options;
mod script_flags;
mod syntax;
mod table;

pub use acl::{CATEGORIES, categories};
pub use flags::Flags;
pub use keys::{Access, Begin, Find, KeySpec, KeysError, Scope};
pub use script_flags::{Reach, ScriptFlags};
pub use syntax::{Argument, ArgumentKind, parse_syntax};
pub use table::{CommandTable, NAME_LEN_MAX, Renamed, visible_name};

use crate::effects::Effects;
use crate::engine::{Engine, ScriptError};
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

/// A command's arguments, its own name first.
pub type Args<'a> = &'a [&'a [u8]];

/// A handler that may only look.
pub type ReadHandler = fn(&View<'_>, Args<'_>) -> CommandResult;
/// A handler that may change keys; everything it did that others must hear of is in the effects.
pub type WriteHandler = fn(&mut View<'_>, Args<'_>, &mut Effects) -> CommandResult;

/// A handler that may only look, and says in the effects when it would wait for something.
pub type WaitHandler = fn(&View<'_>, Args<'_>, &mut Effects) -> CommandResult;

/// A handler that needs the engine itself, to run other commands.
pub type ScriptHandler =
    fn(&Engine, &mut View<'_>, Args<'_>, &mut Effects) -> Result<Reply, ScriptError>;

/// What runs a command; its type is the command's class.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// Reads keys.
    Read(ReadHandler),
    /// Reads keys, and may wait for them.
    Wait(WaitHandler),
    /// Reads and changes keys; in a cluster, a log entry.
    Write(WriteHandler),
    /// Runs a script, which reads and changes keys by calling other commands.
    Script(ScriptHandler),
    /// Runs in the server (sessions, administration); the server's own table holds the function.
    Server,
    /// A container: only its subcommands run.
    Container,
}

/// COMMAND DOCS' `group`, in Redis's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `string`
    String,
    /// `bitmap`: strings as arrays of bits.
    Bitmap,
    /// `generic`: any key.
    Generic,
    /// `hash`
    Hash,
    /// `list`
    List,
    /// `set`
    Set,
    /// `sorted-set`
    SortedSet,
    /// `stream`
    Stream,
    /// `geo`: sorted sets of places.
    Geo,
    /// `hyperloglog`: strings that estimate how many elements they have seen.
    HyperLogLog,
    /// `pubsub`
    PubSub,
    /// `transactions`
    Transactions,
    /// `scripting`
    Scripting,
    /// `connection`
    Connection,
    /// `server`
    Server,
    /// `cluster`
    Cluster,
    /// `lock`: Holdfast's own family.
    Lock,
}

impl Group {
    /// The name as COMMAND DOCS spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Bitmap => "bitmap",
            Self::Generic => "generic",
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Stream => "stream",
            Self::Geo => "geo",
            Self::HyperLogLog => "hyperloglog",
            Self::PubSub => "pubsub",
            Self::Transactions => "transactions",
            Self::Scripting => "scripting",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Cluster => "cluster",
            Self::Lock => "lock",
        }
    }
}

/// One row of the command table.
#[derive(Debug)]
pub struct Command {
    /// Lower-case name; of a subcommand, the subcommand's alone.
    pub name: &'static str,
    /// The name of the container, for a subcommand.
    pub parent: Option<&'static str>,
    /// Number of arguments with the name; negative means "at least".
    pub arity: i32,
    /// What runs it.
    pub handler: Handler,
    /// Its group.
    pub group: Group,
    /// COMMAND INFO's flags.
    pub flags: Flags,
    /// Where its keys stand.
    pub keys: &'static [KeySpec],
    /// Which shards it needs.
    pub scope: Scope,
    /// The version of Redis (or `holdfast 0.1`) that introduced it.
    pub since: &'static str,
    /// Its complexity, as the documentation puts it.
    pub complexity: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Its arguments in the notation of Redis's documentation, without the name.
    pub syntax: &'static str,
    /// What COMPATIBILITY.md says of a difference from Redis; empty if there is none.
    pub difference: &'static str,
    /// The rows of a container.
    pub subcommands: &'static [Command],
}

impl Command {
    const fn new(name: &'static str, arity: i32, group: Group, handler: Handler) -> Self {
        Self {
            name,
            parent: None,
            arity,
            handler,
            group,
            flags: Flags::NONE,
            keys: &[],
            scope: Scope::Keys,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "",
            syntax: "",
            difference: "",
            subcommands: &[],
        }
    }

    /// A row of the read class.
    #[must_use]
    pub const fn read(name: &'static str, arity: i32, group: Group, run: ReadHandler) -> Self {
        Self::new(name, arity, group, Handler::Read(run)).flags(Flags::READONLY)
    }

    /// A row of the class that reads and may wait.
    #[must_use]
    pub const fn wait(name: &'static str, arity: i32, group: Group, run: WaitHandler) -> Self {
        let flags = Flags::READONLY.with(Flags::BLOCKING);
        Self::new(name, arity, group, Handler::Wait(run)).flags(flags)
    }

    /// A row of the write class.
    #[must_use]
    pub const fn write(name: &'static str, arity: i32, group: Group, run: WriteHandler) -> Self {
        Self::new(name, arity, group, Handler::Write(run)).flags(Flags::WRITE)
    }

    /// A row of the script class.
    #[must_use]
    pub const fn script(name: &'static str, arity: i32, run: ScriptHandler) -> Self {
        Self::new(name, arity, Group::Scripting, Handler::Script(run))
    }

    /// A row whose function the server holds.
    #[must_use]
    pub const fn server(name: &'static str, arity: i32, group: Group) -> Self {
        Self::new(name, arity, group, Handler::Server)
    }

    /// A container; its arity is that of its shortest subcommand.
    #[must_use]
    pub const fn container(name: &'static str, group: Group, rows: &'static [Self]) -> Self {
        let mut row = Self::new(name, -2, group, Handler::Container);
        row.subcommands = rows;
        row
    }

    /// Sets the arity of a container that also runs by itself.
    #[must_use]
    pub const fn any_arity(mut self, arity: i32) -> Self {
        self.arity = arity;
        self
    }

    /// Names the container of a subcommand.
    #[must_use]
    pub const fn of(mut self, parent: &'static str) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Takes away the flag that the class gave: PING reads no key, PUBLISH writes none.
    #[must_use]
    pub const fn without_key_flags(mut self) -> Self {
        self.flags = Flags::NONE;
        self
    }

    /// Adds flags.
    #[must_use]
    pub const fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    /// Sets where the keys stand.
    #[must_use]
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }

    /// Sets the shards it needs, when they are not those of its keys.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the documentation: since, complexity, arguments and summary.
    #[must_use]
    pub const fn doc(
        mut self,
        since: &'static str,
        complexity: &'static str,
        syntax: &'static str,
        summary: &'static str,
    ) -> Self {
        self.since = since;
        self.complexity = complexity;
        self.syntax = syntax;
        self.summary = summary;
        self
    }

    /// Says how it differs from Redis.
    #[must_use]
    pub const fn differs(mut self, difference: &'static str) -> Self {
        self.difference = difference;
        self
    }

    /// Whether `count` arguments (the name included) satisfy the arity.
    #[inline]
    #[must_use]
    pub fn accepts(&self, count: usize) -> bool {
        if self.arity >= 0 {
            count == self.arity as usize
        } else {
            count >= self.arity.unsigned_abs() as usize
        }
    }

    /// `name`, or `container|name` for a subcommand, as COMMAND and errors spell it.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.parent {
            Some(parent) => format!("{parent}|{}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// Whether it may change keys.
    #[inline]
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self.handler {
            Handler::Write(_) => true,
            Handler::Script(_) => !self.flags.has(Flags::READONLY),
            Handler::Read(_) | Handler::Wait(_) | Handler::Server | Handler::Container => false,
        }
    }

    /// First key, last key and step, as the legacy triple of COMMAND INFO.
    #[must_use]
    pub fn legacy_keys(&self) -> (i64, i64, i64) {
        keys::legacy_triple(self.keys)
    }
}
