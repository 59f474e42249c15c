//! The proposals of one log entry, as bytes.
//!
//! `version u8 | stamp ms i64 | seed u64 | instruction limit u64 | item*`, and an item is
//! `kind u8 | db u16 | manner u8 | …`; lengths inside items are LEB128. Connections encode their
//! items themselves, so that the proposer only strings them together. Logs and snapshots on disk
//! hold these bytes: numbers here are frozen, and a new shape gets a new version.

use bytes::Bytes;
use holdfast_engine::CommandError;
use holdfast_engine::command::Args;
use holdfast_engine::context::Touch;
use holdfast_engine::engine::Watch;
use holdfast_engine::time::{DbIndex, UnixMillis};

use super::wire::Malformed;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + 8 + 8 + 8;

const COMMAND: u8 = 0;
const TRANSACTION: u8 = 1;
const SCRIPT_LOAD: u8 = 2;
const SCRIPT_FLUSH: u8 = 3;
const NEW_MEMBER: u8 = 4;
const ONCE: u8 = 5;
const SETTINGS: u8 = 6;
const USER: u8 = 7;

/// What holds for all proposals of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The leader's time when it proposed.
    pub stamp: UnixMillis,
    /// What randomness is drawn from.
    pub seed: u64,
    /// A script may execute so many instructions, 0 for any number: every replica must stop it
    /// at the same one.
    pub instruction_limit: u64,
}

/// Where an item's manner is: behind its kind and database.
const MANNER_OFFSET: usize = 1 + 2;
/// Bits of an item's manner.
const LEAVES: u8 = 1;
const STANDS_BEHIND: u8 = 2;
const IS_FULL: u8 = 4;
/// The rules of the user whose scripts these are follow.
const BOUND: u8 = 8;
const MANNERS: u8 = LEAVES | STANDS_BEHIND | IS_FULL | BOUND;

/// What the leader saw when it proposed, and every member goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Clients wait for the lock: whoever comes now stands behind them.
    pub stands_behind: bool,
    /// More memory is in use than `maxmemory` allows.
    pub is_full: bool,
}

/// Proposals on their way to the log, in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Items {
    bytes: Vec<u8>,
    count: usize,
    /// Where the manner of the last one is.
    manner_at: usize,
    /// The rules that bound the next one.
    rules: Option<Vec<u8>>,
}

/// One command of a transaction, with the database selected when its turn comes.
pub type StepArgs<'a> = (DbIndex, &'a [&'a [u8]]);

/// A client's name for itself, and the number it gave a command.
pub type Tag<'a> = (&'a [u8], u64);

fn put_len(out: &mut Vec<u8>, len: usize) {
    let mut left = len as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn put_args(out: &mut Vec<u8>, args: Args<'_>) {
    put_len(out, args.len());
    for arg in args {
        put_len(out, arg.len());
        out.extend_from_slice(arg);
    }
}

impl Items {
    /// How many proposals there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes they take.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn begin(&mut self, kind: u8, db: DbIndex, touch: Touch) {
        self.count += 1;
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&db.0.to_le_bytes());
        self.manner_at = self.bytes.len();
        self.bytes.push(if touch == Touch::Leaves { LEAVES } else { 0 });
        if let Some(rules) = self.rules.take() {
            self.bytes[self.manner_at] |= BOUND;
            put_len(&mut self.bytes, rules.len());
            self.bytes.extend_from_slice(&rules);
        }
    }

    /// Bounds what the scripts of the next proposal may call, by the rules of a user.
    pub fn bind(&mut self, rules: Option<Vec<u8>>) {
        self.rules = rules;
    }

    /// Says of the last proposal what the leader saw.
    pub fn note(&mut self, seen: Seen) {
        let Some(manner) = self.bytes.get_mut(self.manner_at) else { return };
        *manner |= if seen.stands_behind { STANDS_BEHIND } else { 0 };
        *manner |= if seen.is_full { IS_FULL } else { 0 };
    }

    /// Appends a command.
    pub fn command(&mut self, db: DbIndex, touch: Touch, args: Args<'_>) {
        self.begin(COMMAND, db, touch);
        put_args(&mut self.bytes, args);
    }

    /// Appends a command that `client` gave this number: it runs at most once.
    pub fn once(&mut self, db: DbIndex, touch: Touch, (client, number): Tag<'_>, args: Args<'_>) {
        self.begin(ONCE, db, touch);
        put_len(&mut self.bytes, client.len());
        self.bytes.extend_from_slice(client);
        self.bytes.extend_from_slice(&number.to_le_bytes());
        put_args(&mut self.bytes, args);
    }

    /// Appends a transaction with what WATCH saw.
    pub fn transaction(
        &mut self,
        db: DbIndex,
        touch: Touch,
        steps: &[StepArgs<'_>],
        watches: &[Watch],
    ) {
        self.begin(TRANSACTION, db, touch);
        put_len(&mut self.bytes, watches.len());
        for watch in watches {
            self.bytes.extend_from_slice(&watch.db.0.to_le_bytes());
            self.bytes.extend_from_slice(&watch.version.to_le_bytes());
            put_len(&mut self.bytes, watch.key.len());
            self.bytes.extend_from_slice(&watch.key);
        }
        put_len(&mut self.bytes, steps.len());
        for (db, args) in steps {
            self.bytes.extend_from_slice(&db.0.to_le_bytes());
            put_args(&mut self.bytes, args);
        }
    }

    /// Appends a SCRIPT LOAD.
    pub fn script_load(&mut self, body: &[u8]) {
        self.begin(SCRIPT_LOAD, DbIndex(0), Touch::Leaves);
        put_len(&mut self.bytes, body.len());
        self.bytes.extend_from_slice(body);
    }

    /// Appends a SCRIPT FLUSH.
    pub fn script_flush(&mut self) {
        self.begin(SCRIPT_FLUSH, DbIndex(0), Touch::Leaves);
    }

    /// Appends a change of what all members share: names and values in turn.
    pub fn settings(&mut self, pairs: Args<'_>) {
        self.begin(SETTINGS, DbIndex(0), Touch::Leaves);
        put_args(&mut self.bytes, pairs);
    }

    /// Appends a user's name and what it is from now on, in the rules of ACL SETUSER; without any
    /// it is removed.
    pub fn user(&mut self, name_and_rules: Args<'_>) {
        self.begin(USER, DbIndex(0), Touch::Leaves);
        put_args(&mut self.bytes, name_and_rules);
    }

    /// Appends the request for a member's number.
    pub fn new_member(&mut self) {
        self.begin(NEW_MEMBER, DbIndex(0), Touch::Leaves);
    }

    /// `count` proposals that were encoded before.
    #[must_use]
    pub fn from_parts(bytes: Vec<u8>, count: usize) -> Self {
        Self { bytes, count, ..Self::default() }
    }

    /// The bytes, as they go to another member.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Proposals that another member has encoded. What that member saw does not count: `judge` says
    /// for each what this node sees, or why it refuses it. A refused proposal is left out, and its
    /// place in the returned list says why.
    ///
    /// # Errors
    /// When the bytes are not proposals, or a proposal is one that members do not pass on.
    pub fn from_member(
        bytes: &[u8],
        mut judge: impl FnMut(&Item<'_>, &Decoder<'_>) -> Result<Seen, CommandError>,
    ) -> Result<(Self, Vec<Option<CommandError>>), Malformed> {
        let mut items = Self { bytes: Vec::with_capacity(bytes.len()), ..Self::default() };
        let mut refused = Vec::new();
        let mut decoder = Decoder::over(bytes);
        loop {
            let start = bytes.len() - decoder.rest.len();
            let Some(item) = decoder.next()? else { break };
            if item == Item::NewMember {
                return Err(Malformed("proposal: members do not pass this on"));
            }
            match judge(&item, &decoder) {
                Ok(seen) => {
                    let end = bytes.len() - decoder.rest.len();
                    items.manner_at = items.bytes.len() + MANNER_OFFSET;
                    items.bytes.extend_from_slice(&bytes[start..end]);
                    items.bytes[items.manner_at] &= !(STANDS_BEHIND | IS_FULL);
                    items.count += 1;
                    items.note(seen);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        Ok((items, refused))
    }
}

/// The bytes of an entry that holds `items`; none is a tick, which only moves time on.
#[must_use]
pub fn encode<'a>(header: Header, items: impl Iterator<Item = &'a Items> + Clone) -> Bytes {
    let len: usize = items.clone().map(Items::len_bytes).sum();
    let mut out = Vec::with_capacity(HEADER_LEN + len);
    out.push(VERSION);
    out.extend_from_slice(&header.stamp.0.to_le_bytes());
    out.extend_from_slice(&header.seed.to_le_bytes());
    out.extend_from_slice(&header.instruction_limit.to_le_bytes());
    for items in items {
        out.extend_from_slice(&items.bytes);
    }
    out.into()
}

/// One proposal, read from an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A command; its arguments are in the decoder's buffer.
    Command,
    /// A command that runs at most once.
    Once(Tag<'a>),
    /// A transaction.
    Transaction {
        /// Its commands.
        steps: Vec<(DbIndex, Vec<&'a [u8]>)>,
        /// What WATCH saw.
        watches: Vec<Watch>,
    },
    /// SCRIPT LOAD of this body.
    ScriptLoad(&'a [u8]),
    /// SCRIPT FLUSH.
    ScriptFlush,
    /// The request for a member's number.
    NewMember,
    /// A change of settings; names and values are in the decoder's buffer.
    Settings,
    /// A change of a user; its name and rules are in the decoder's buffer.
    User,
}

/// Reads the proposals of an entry, in order.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// The arguments of the last command read.
    pub args: Vec<&'a [u8]>,
    /// The database the last proposal runs in.
    pub db: DbIndex,
    /// Whether the looks of the last proposal count as uses.
    pub touch: Touch,
    /// What the leader saw when it proposed it.
    pub seen: Seen,
    /// The rules that bound what its scripts may call.
    pub rules: Option<&'a [u8]>,
}

impl<'a> Decoder<'a> {
    /// Begins to read an entry.
    ///
    /// # Errors
    /// When it is not one this version knows.
    pub fn new(bytes: &'a [u8]) -> Result<(Header, Self), Malformed> {
        let (head, rest) =
            bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed("batch header"))?;
        if head[0] != VERSION {
            return Err(Malformed("batch version"));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let header = Header {
            stamp: UnixMillis(word(1) as i64),
            seed: word(9),
            instruction_limit: word(17),
        };
        Ok((header, Self::over(rest)))
    }

    /// Begins to read proposals that have no header.
    fn over(rest: &'a [u8]) -> Self {
        let (db, touch, seen) = (DbIndex(0), Touch::Counts, Seen::default());
        Self { rest, args: Vec::new(), db, touch, seen, rules: None }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed("batch"))?;
        self.rest = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn db(&mut self) -> Result<DbIndex, Malformed> {
        let bytes = self.take(2)?;
        Ok(DbIndex(u16::from_le_bytes([bytes[0], bytes[1]])))
    }

    fn len(&mut self) -> Result<usize, Malformed> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| Malformed("length"));
            }
        }
        Err(Malformed("length"))
    }

    /// A count of things of at least one byte each.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.len()?;
        if count > self.rest.len() { Err(Malformed("count")) } else { Ok(count) }
    }

    fn read_args(&mut self, args: &mut Vec<&'a [u8]>) -> Result<(), Malformed> {
        let count = self.count()?;
        if count == 0 {
            return Err(Malformed("command"));
        }
        for _ in 0..count {
            let len = self.len()?;
            args.push(self.take(len)?);
        }
        Ok(())
    }

    /// The next proposal; `None` after the last.
    ///
    /// # Errors
    /// When the bytes are no proposal.
    #[expect(clippy::should_implement_trait, reason = "it lends out its buffer of arguments")]
    pub fn next(&mut self) -> Result<Option<Item<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let kind = self.u8()?;
        self.db = self.db()?;
        let manner = self.u8()?;
        if manner & !MANNERS != 0 {
            return Err(Malformed("manner"));
        }
        self.touch = if manner & LEAVES == 0 { Touch::Counts } else { Touch::Leaves };
        self.seen =
            Seen { stands_behind: manner & STANDS_BEHIND != 0, is_full: manner & IS_FULL != 0 };
        self.rules = match manner & BOUND {
            0 => None,
            _ => {
                let len = self.len()?;
                Some(self.take(len)?)
            }
        };
        let item = match kind {
            COMMAND => {
                self.command()?;
                Item::Command
            }
            ONCE => {
                let len = self.len()?;
                let client = self.take(len)?;
                let mut number = [0; 8];
                number.copy_from_slice(self.take(8)?);
                self.command()?;
                Item::Once((client, u64::from_le_bytes(number)))
            }
            TRANSACTION => self.transaction()?,
            SCRIPT_LOAD => {
                let len = self.len()?;
                Item::ScriptLoad(self.take(len)?)
            }
            SCRIPT_FLUSH => Item::ScriptFlush,
            NEW_MEMBER => Item::NewMember,
            SETTINGS => {
                self.command()?;
                Item::Settings
            }
            USER => {
                self.command()?;
                Item::User
            }
            _ => return Err(Malformed("proposal")),
        };
        Ok(Some(item))
    }

    fn command(&mut self) -> Result<(), Malformed> {
        let mut args = std::mem::take(&mut self.args);
        args.clear();
        let read = self.read_args(&mut args);
        self.args = args;
        read
    }

    fn transaction(&mut self) -> Result<Item<'a>, Malformed> {
        let mut watches = Vec::new();
        for _ in 0..self.count()? {
            let db = self.db()?;
            let mut version = [0; 8];
            version.copy_from_slice(self.take(8)?);
            let len = self.len()?;
            let key = self.take(len)?.to_vec();
            watches.push(Watch { db, key, version: u64::from_le_bytes(version) });
        }
        let mut steps = Vec::new();
        for _ in 0..self.count()? {
            let db = self.db()?;
            let mut args = Vec::new();
            self.read_args(&mut args)?;
            steps.push((db, args));
        }
        Ok(Item::Transaction { steps, watches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header =
        Header { stamp: UnixMillis(1_234), seed: 99, instruction_limit: 1_000_000 };

    fn sample() -> Bytes {
        let mut items = Items::default();
        let long = vec![b'x'; 300];
        items.command(DbIndex(3), Touch::Leaves, &[b"set", b"k", &long]);
        let watch = Watch { db: DbIndex(1), key: b"w".to_vec(), version: 77 };
        let steps: &[StepArgs<'_>] =
            &[(DbIndex(0), &[b"incr", b"a"]), (DbIndex(2), &[b"del", b"b"])];
        items.transaction(DbIndex(0), Touch::Counts, steps, &[watch]);
        items.script_load(b"return 1");
        items.script_flush();
        items.new_member();
        items.bind(Some(b"alice ~a:* +get".to_vec()));
        items.once(DbIndex(0), Touch::Counts, (b"me", 9), &[b"incr", b"n"]);
        items.note(Seen { stands_behind: true, is_full: true });
        items.settings(&[b"hll-sparse-max-bytes", b"9"]);
        items.user(&[b"alice"]);
        encode(HEADER, [&items].into_iter())
    }

    #[test]
    fn proposals_are_read_as_written() {
        let bytes = sample();
        let (header, mut decoder) = Decoder::new(&bytes).expect("a header");
        assert_eq!(header, HEADER);
        assert_eq!(decoder.next(), Ok(Some(Item::Command)));
        assert_eq!((decoder.db, decoder.touch), (DbIndex(3), Touch::Leaves));
        assert_eq!(decoder.args[..2], [&b"set"[..], b"k"]);
        assert_eq!(decoder.args[2].len(), 300);
        let Ok(Some(Item::Transaction { steps, watches })) = decoder.next() else { panic!() };
        assert_eq!(steps[1], (DbIndex(2), vec![&b"del"[..], b"b"]));
        assert_eq!(watches[0].version, 77);
        assert_eq!(decoder.next(), Ok(Some(Item::ScriptLoad(b"return 1"))));
        assert_eq!(decoder.next(), Ok(Some(Item::ScriptFlush)));
        assert_eq!(decoder.next(), Ok(Some(Item::NewMember)));
        assert_eq!((decoder.seen, decoder.rules), (Seen::default(), None));
        assert_eq!(decoder.next(), Ok(Some(Item::Once((b"me", 9)))));
        assert_eq!(decoder.rules, Some(&b"alice ~a:* +get"[..]));
        assert_eq!(decoder.seen, Seen { stands_behind: true, is_full: true });
        assert_eq!(decoder.touch, Touch::Counts);
        assert_eq!(decoder.args, [&b"incr"[..], b"n"]);
        assert_eq!(decoder.next(), Ok(Some(Item::Settings)));
        assert_eq!(decoder.args, [&b"hll-sparse-max-bytes"[..], b"9"]);
        assert_eq!(decoder.next(), Ok(Some(Item::User)));
        assert_eq!(decoder.args, [&b"alice"[..]]);
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_cut_batch_never_panics_and_never_yields_more() {
        let bytes = sample();
        for len in 0..bytes.len() {
            let Ok((_, mut decoder)) = Decoder::new(&bytes[..len]) else { continue };
            let mut items = 0;
            while let Ok(Some(_)) = decoder.next() {
                items += 1;
            }
            assert!(items < 8, "cut at {len}");
        }
    }

    #[test]
    fn what_another_member_saw_does_not_count() {
        let mut sent = Items::default();
        sent.command(DbIndex(2), Touch::Counts, &[b"set", b"a", b"1"]);
        sent.note(Seen { stands_behind: true, is_full: true });
        sent.command(DbIndex(0), Touch::Leaves, &[b"set", b"b", b"2"]);
        sent.script_load(b"return 1");
        let mut asked = 0;
        let (items, refused) = Items::from_member(&sent.into_bytes(), |_, decoder| {
            asked += 1;
            match decoder.args.get(1) {
                Some(&b"b") if asked == 2 => Err(CommandError::OUT_OF_MEMORY),
                _ => Ok(Seen { stands_behind: false, is_full: asked == 1 }),
            }
        })
        .expect("proposals");
        assert_eq!(refused, [None, Some(CommandError::OUT_OF_MEMORY), None]);
        assert_eq!(items.count(), 2);
        let bytes = encode(HEADER, [&items].into_iter());
        let (_, mut decoder) = Decoder::new(&bytes).expect("a header");
        assert_eq!(decoder.next(), Ok(Some(Item::Command)));
        assert_eq!((decoder.db, decoder.args[1]), (DbIndex(2), &b"a"[..]));
        assert_eq!(decoder.seen, Seen { stands_behind: false, is_full: true });
        assert_eq!(decoder.next(), Ok(Some(Item::ScriptLoad(b"return 1"))));
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_member_cannot_draw_numbers_by_passing_them_on() {
        let mut sent = Items::default();
        sent.new_member();
        let judged = Items::from_member(&sent.into_bytes(), |_, _| Ok(Seen::default()));
        assert!(judged.is_err());
        assert!(Items::from_member(&[0, 0, 0, 0, 9], |_, _| Ok(Seen::default())).is_err());
    }

    /// The bytes that logs on disk hold.
    #[test]
    fn the_format_is_frozen() {
        let mut items = Items::default();
        items.command(DbIndex(1), Touch::Counts, &[b"del", b"k"]);
        let bytes = encode(HEADER, [&items].into_iter());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "01d204000000000000630000000000000040420f0000000000000100000203\
             64656c016b"
        );
    }
}
