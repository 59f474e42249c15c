//! The server's whole command table: the engine's rows and the server's own.

use std::collections::HashMap;
use std::sync::OnceLock;

use foldhash::fast::FixedState;
use holdfast_engine::command::{Args, Command, Handler, NAME_LEN_MAX, visible_name};
use holdfast_engine::{CommandError, CommandResult, Reply};

use super::waiting::Waiting;
use crate::node::Node;
use crate::session::Session;

/// What a server command works on.
#[derive(Debug)]
pub struct Call<'a> {
    /// The node.
    pub node: &'a std::sync::Arc<Node>,
    /// The session it came by.
    pub session: &'a mut Session,
    /// Its arguments, the name first.
    pub args: Args<'a>,
    /// Whether it runs inside EXEC: then it must not wait.
    pub in_transaction: bool,
}

/// What a server command answers.
#[derive(Debug)]
pub enum Answer {
    /// One reply.
    Reply(Reply),
    /// One, with attributes before it for a client of RESP3.
    Attributed(Vec<(Reply, Reply)>, Reply),
    /// Several, in order (SUBSCRIBE with several channels).
    Many(Vec<Reply>),
    /// A reply that comes later.
    Wait(Waiting),
}

impl From<CommandResult> for Answer {
    fn from(result: CommandResult) -> Self {
        Self::Reply(result.into())
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<CommandError> for Answer {
    fn from(error: CommandError) -> Self {
        Self::Reply(Reply::error(error))
    }
}

/// The function of a server command.
pub type ServerHandler = fn(&mut Call<'_>) -> Answer;

/// A row of the server with its function.
#[derive(Debug)]
pub struct ServerCommand {
    /// The row.
    pub row: Command,
    /// What runs it.
    pub run: ServerRun,
}

/// What runs a server command.
#[derive(Debug)]
pub enum ServerRun {
    /// A function.
    Handler(ServerHandler),
    /// Subcommands.
    Container(&'static [ServerCommand]),
    /// Subcommands, and a function for when none is named.
    ContainerWith(&'static [ServerCommand], ServerHandler),
}

impl ServerCommand {
    /// A command with its function.
    #[must_use]
    pub const fn new(row: Command, run: ServerHandler) -> Self {
        Self { row, run: ServerRun::Handler(run) }
    }

    /// A container of subcommands.
    #[must_use]
    pub const fn container(row: Command, subcommands: &'static [Self]) -> Self {
        Self { row, run: ServerRun::Container(subcommands) }
    }

    /// A container that also runs by itself (COMMAND).
    #[must_use]
    pub const fn container_with(
        row: Command,
        subcommands: &'static [Self],
        alone: ServerHandler,
    ) -> Self {
        Self { row, run: ServerRun::ContainerWith(subcommands, alone) }
    }
}

/// What runs an entry.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// The engine.
    Engine,
    /// The engine, and it calls other commands.
    Script,
    /// A function of the server.
    Server(ServerHandler),
    /// Nothing: it has subcommands.
    Container,
}

/// A command as routing sees it.
#[derive(Debug)]
pub struct Entry {
    /// Its row.
    pub row: &'static Command,
    /// The name it goes by, in lower case: the row's own, unless `rename-command` says otherwise.
    name: &'static str,
    /// `name` or `container|name`.
    pub full_name: String,
    /// Its place in the statistics.
    pub id: u16,
    /// What runs it.
    pub run: Run,
    /// The entries of a container.
    pub children: Vec<Entry>,
    /// What runs a container when no subcommand is named.
    alone: Option<&'static Entry>,
}

impl Entry {
    /// Whether the engine runs it, in whatever way.
    #[must_use]
    pub const fn is_of_engine(&self) -> bool {
        matches!(self.run, Run::Engine | Run::Script)
    }

    /// The entry of a subcommand, by name in any case.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<&Self> {
        self.children.iter().find(|child| child.row.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// All commands.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    by_name: HashMap<&'static [u8], usize, FixedState>,
    /// Names of up to eight bytes, nearly all that are hot: by the name as one word, the place of
    /// the entry plus one; 0 is free. Open addressing, far from full.
    short: Box<[u16; SHORT_SLOTS]>,
    names: Vec<String>,
    rows: Vec<&'static Command>,
}

/// Places for short names; a few hundred are taken.
const SHORT_SLOTS: usize = 2048;

/// A name of up to eight bytes as one word, the same in any case of its letters.
#[inline]
fn fold(name: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..name.len())?.copy_from_slice(name);
    // Folds more than letters; the comparison of the whole name tells those apart.
    Some(u64::from_le_bytes(bytes) | 0x2020_2020_2020_2020)
}

#[inline]
fn slot(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SHORT_SLOTS.trailing_zeros())) as usize
}

/// The table; built at the first call.
#[must_use]
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(super::rows::FAMILIES))
}

impl Table {
    fn new(families: &[&'static [ServerCommand]]) -> Self {
        let mut table = Self {
            entries: Vec::new(),
            by_name: HashMap::default(),
            names: Vec::new(),
            rows: Vec::new(),
            short: Box::new([0; SHORT_SLOTS]),
        };
        for row in holdfast_engine::engine::table().rows() {
            let entry = table.engine_entry(row);
            table.add(entry);
        }
        for command in families.iter().copied().flatten() {
            let entry = table.server_entry(command);
            table.add(entry);
        }
        table
    }

    fn number(&mut self, row: &'static Command) -> (String, u16) {
        let name = row.full_name();
        self.names.push(name.clone());
        self.rows.push(row);
        (name, (self.names.len() - 1) as u16)
    }

    fn engine_entry(&mut self, row: &'static Command) -> Entry {
        let (full_name, id) = self.number(row);
        let run = match row.handler {
            Handler::Container => Run::Container,
            Handler::Script(_) => Run::Script,
            _ => Run::Engine,
        };
        let children = row.subcommands.iter().map(|row| self.engine_entry(row)).collect();
        Entry { row, name: row.name, full_name, id, run, children, alone: None }
    }

    fn server_entry(&mut self, command: &'static ServerCommand) -> Entry {
        let (full_name, id) = self.number(&command.row);
        let mut alone = None;
        let (run, children) = match command.run {
            ServerRun::Handler(run) => (Run::Server(run), Vec::new()),
            ServerRun::ContainerWith(rows, run) => {
                // Lives as long as the table, which is never dropped.
                alone = Some(&*Box::leak(Box::new(Entry {
                    row: &command.row,
                    name: command.row.name,
                    full_name: full_name.clone(),
                    id,
                    run: Run::Server(run),
                    children: Vec::new(),
                    alone: None,
                })));
                (Run::Container, rows.iter().map(|row| self.server_entry(row)).collect())
            }
            ServerRun::Container(rows) => {
                (Run::Container, rows.iter().map(|row| self.server_entry(row)).collect())
            }
        };
        let row = &command.row;
        Entry { row, name: row.name, full_name, id, run, children, alone }
    }

    fn add(&mut self, mut entry: Entry) {
        let Some(name) = visible_name(entry.row.name, holdfast_engine::engine::renamed()) else {
            return;
        };
        entry.name = name;
        let before = self.by_name.insert(name.as_bytes(), self.entries.len());
        assert!(before.is_none(), "Invariant: one row per command, not so {name}");
        if let Some(word) = fold(name.as_bytes()) {
            let mut at = slot(word);
            while self.short[at] != 0 {
                at = (at + 1) % SHORT_SLOTS;
            }
            self.short[at] = self.entries.len() as u16 + 1;
        }
        self.entries.push(entry);
    }

    /// All entries but those that were removed, subcommands inside their containers.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The full names by number, for the statistics.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All rows by number, those too that `rename-command` removed.
    #[must_use]
    pub fn rows(&self) -> &[&'static Command] {
        &self.rows
    }

    /// The entry of a name in any case.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Entry> {
        let Some(word) = fold(name) else { return self.find_long(name) };
        let mut at = slot(word);
        loop {
            let index = usize::from(self.short[at].checked_sub(1)?);
            let entry = &self.entries[index];
            if entry.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(entry);
            }
            at = (at + 1) % SHORT_SLOTS;
        }
    }

    #[cold]
    fn find_long(&self, name: &[u8]) -> Option<&Entry> {
        let mut lower = [0; NAME_LEN_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower).map(|index| &self.entries[*index])
    }

    /// The entry that runs these arguments: of a container, its subcommand's. Arity is checked.
    ///
    /// # Errors
    /// Unknown command or subcommand, or a wrong number of arguments, in Redis's words.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> Result<&Entry, CommandError> {
        let Some(mut entry) = self.find(args[0]) else {
            return Err(unknown_command(args));
        };
        if matches!(entry.run, Run::Container) {
            let Some(name) = args.get(1) else {
                if let Some(alone) = entry.alone {
                    return Ok(alone);
                }
                return Err(CommandError::wrong_arity(&entry.full_name));
            };
            entry = entry
                .child(name)
                .ok_or_else(|| CommandError::unknown_subcommand(entry.row.name, name))?;
        }
        if !entry.row.accepts(args.len()) {
            return Err(CommandError::wrong_arity(&entry.full_name));
        }
        Ok(entry)
    }
}

/// `ERR unknown command 'x', with args beginning with: 'a' 'b' `
fn unknown_command(args: Args<'_>) -> CommandError {
    /// So much of the name and of the arguments is repeated to the client.
    const SHOWN_LEN_MAX: usize = 128;
    let shown = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_LEN_MAX)]).into_owned()
    };
    let mut beginning = String::new();
    for arg in &args[1..] {
        if beginning.len() >= SHOWN_LEN_MAX {
            break;
        }
        let room = SHOWN_LEN_MAX - beginning.len();
        let arg = String::from_utf8_lossy(&arg[..arg.len().min(room)]);
        beginning.push_str(&format!("'{arg}' "));
    }
    CommandError::new(format!(
        "ERR unknown command '{}', with args beginning with: {beginning}",
        shown(args[0])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_no_other() {
        for entry in table().entries() {
            let name = entry.row.name;
            for name in [name.to_owned(), name.to_uppercase()] {
                let found = table().find(name.as_bytes());
                assert_eq!(found.map(|found| found.row.name), Some(entry.row.name));
            }
        }
        for name in
            ["", "ge", "gett", "g\x65\x00", "nosuch", "a name that is longer than any of ours"]
        {
            assert!(table().find(name.as_bytes()).is_none(), "{name:?}");
        }
        // Differs from `get` by the bit that case folding sets.
        assert!(table().find(b"ge\x54").is_some() && table().find(b"\x07et").is_none());
    }
}
