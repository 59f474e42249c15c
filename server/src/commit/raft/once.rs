//! Exactly once on request: the first reply to each client's latest tagged command.
//!
//! A client tags a command with its own name and a number that grows. Whether the command ran is
//! then part of the replicated state: when it comes again, after an outcome that was unknown, it
//! gets the first reply and runs no more. The table goes with snapshots. It is bounded; whoever
//! has not been heard of for longest is forgotten first.

use std::collections::BTreeMap;

use holdfast_engine::reply::BulkList;
use holdfast_engine::{CommandError, Reply};

use super::wire::{self, Malformed, Reader};

/// Clients that are remembered.
const CLIENTS_MAX: usize = 10_000;
/// A reply is remembered up to this length.
const REPLY_LEN_MAX: usize = 64 << 10;
/// All of them together take no more.
const LEN_MAX: usize = 16 << 20;
/// Replies are nested no deeper.
const DEPTH_MAX: u32 = 128;

#[derive(Debug, Clone)]
struct Answered {
    number: u64,
    reply: Vec<u8>,
    /// The proposal that used it last.
    used: u64,
}

/// What has been answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Once {
    by_client: BTreeMap<Vec<u8>, Answered>,
    by_use: BTreeMap<u64, Vec<u8>>,
    len: usize,
}

/// What a tagged command gets.
pub(crate) enum Seen {
    /// It is new: it is to run.
    New,
    /// It ran before; this was the reply.
    Before(Reply),
}

impl Once {
    /// Whether a client's command ran before; `used` is the number of the proposal that asks.
    pub(crate) fn look(&mut self, client: &[u8], number: u64, used: u64) -> Seen {
        let Some(found) = self.by_client.get_mut(client) else { return Seen::New };
        if number > found.number {
            return Seen::New;
        }
        if number < found.number {
            return Seen::Before(Reply::error(CommandError::new(format!(
                "ERR this client has sent number {} since: the reply to {number} is forgotten",
                found.number
            ))));
        }
        self.by_use.remove(&found.used);
        found.used = used;
        self.by_use.insert(used, client.to_vec());
        let reply = reply(&mut Reader::new(&found.reply), 0);
        Seen::Before(reply.unwrap_or_else(|_| too_large()))
    }

    /// Remembers the reply to a client's command.
    pub(crate) fn note(&mut self, client: &[u8], number: u64, told: &Reply, used: u64) {
        let mut bytes = Vec::new();
        put_reply(&mut bytes, told);
        if bytes.len() > REPLY_LEN_MAX {
            bytes.clear();
            put_reply(&mut bytes, &too_large());
        }
        self.forget(client);
        self.len += client.len() + bytes.len();
        self.by_use.insert(used, client.to_vec());
        self.by_client.insert(client.to_vec(), Answered { number, reply: bytes, used });
        while self.by_client.len() > CLIENTS_MAX || self.len > LEN_MAX {
            let Some((_, oldest)) = self.by_use.first_key_value() else { return };
            let oldest = oldest.clone();
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, client: &[u8]) {
        if let Some(gone) = self.by_client.remove(client) {
            self.len -= client.len() + gone.reply.len();
            self.by_use.remove(&gone.used);
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        wire::put_u32(out, self.by_client.len() as u32);
        for (client, answered) in &self.by_client {
            wire::put_bytes(out, client);
            wire::put_u64(out, answered.number);
            wire::put_u64(out, answered.used);
            wire::put_bytes(out, &answered.reply);
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut once = Self::default();
        for _ in 0..from.u32("clients")? {
            let client = from.bytes("client")?.to_vec();
            let (number, used) = (from.u64("number")?, from.u64("use")?);
            let reply = from.bytes("reply")?.to_vec();
            once.len += client.len() + reply.len();
            once.by_use.insert(used, client.clone());
            once.by_client.insert(client, Answered { number, reply, used });
        }
        Ok(once)
    }
}

fn too_large() -> Reply {
    Reply::error(CommandError::known(
        "ERR the command was done; its reply was too large to be remembered",
    ))
}

// Persisted numbers: append only.
const OK: u8 = 0;
const SIMPLE: u8 = 1;
const NIL: u8 = 2;
const NIL_ARRAY: u8 = 3;
const INTEGER: u8 = 4;
const DOUBLE: u8 = 5;
const BOOL: u8 = 6;
const BULK: u8 = 7;
const VERBATIM: u8 = 8;
const BIG_NUMBER: u8 = 9;
const ARRAY: u8 = 10;
const BULKS: u8 = 11;
const MAP: u8 = 12;
const BULK_MAP: u8 = 13;
const SET: u8 = 14;
const BULK_SET: u8 = 15;
const PAIRS: u8 = 16;
const PUSH: u8 = 17;
const ERROR: u8 = 18;
const RECORD: u8 = 19;
const DECIMAL: u8 = 20;
const PAIR_MAP: u8 = 21;

/// The fields that records have.
const FIELDS: &[&str] = &["token", "pttl"];

fn put_text(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    wire::put_bytes(out, bytes);
}

fn put_all(out: &mut Vec<u8>, tag: u8, items: &[Reply]) {
    out.push(tag);
    wire::put_u32(out, items.len() as u32);
    items.iter().for_each(|item| put_reply(out, item));
}

fn put_pairs(out: &mut Vec<u8>, tag: u8, pairs: &[(Reply, Reply)]) {
    out.push(tag);
    wire::put_u32(out, pairs.len() as u32);
    for (first, second) in pairs {
        put_reply(out, first);
        put_reply(out, second);
    }
}

fn put_bulks(out: &mut Vec<u8>, tag: u8, items: &BulkList) {
    out.push(tag);
    wire::put_u32(out, items.len() as u32);
    for item in items.iter() {
        match item {
            Some(bytes) => put_text(out, BULK, bytes),
            None => out.push(NIL),
        }
    }
}

pub(super) fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Ok => out.push(OK),
        Reply::Simple(text) => put_text(out, SIMPLE, text.as_bytes()),
        Reply::Nil => out.push(NIL),
        Reply::NilArray => out.push(NIL_ARRAY),
        Reply::Integer(number) => {
            out.push(INTEGER);
            wire::put_u64(out, *number as u64);
        }
        Reply::Double(number) => {
            out.push(DOUBLE);
            wire::put_u64(out, number.to_bits());
        }
        Reply::Bool(yes) => out.extend([BOOL, u8::from(*yes)]),
        Reply::Bulk(bytes) => put_text(out, BULK, bytes),
        Reply::Verbatim(bytes) => put_text(out, VERBATIM, bytes),
        Reply::BigNumber(bytes) => put_text(out, BIG_NUMBER, bytes),
        Reply::Decimal(bytes) => put_text(out, DECIMAL, bytes),
        Reply::Array(items) => put_all(out, ARRAY, items),
        Reply::Bulks(items) => put_bulks(out, BULKS, items),
        Reply::Map(pairs) => put_pairs(out, MAP, pairs),
        Reply::BulkMap(items) => put_bulks(out, BULK_MAP, items),
        Reply::Set(items) => put_all(out, SET, items),
        Reply::BulkSet(items) => put_bulks(out, BULK_SET, items),
        Reply::Pairs(pairs) => put_pairs(out, PAIRS, pairs),
        Reply::PairMap(pairs) => put_pairs(out, PAIR_MAP, pairs),
        Reply::Push(items) => put_all(out, PUSH, items),
        Reply::Record(fields) => {
            out.push(RECORD);
            wire::put_u32(out, fields.len() as u32);
            for (name, value) in fields {
                wire::put_bytes(out, name.as_bytes());
                put_reply(out, value);
            }
        }
        Reply::Error(error) => put_text(out, ERROR, error.text().as_bytes()),
    }
}

fn all(from: &mut Reader<'_>, depth: u32) -> Result<Vec<Reply>, Malformed> {
    (0..from.u32("count")?).map(|_| reply(from, depth)).collect()
}

fn pairs(from: &mut Reader<'_>, depth: u32) -> Result<Vec<(Reply, Reply)>, Malformed> {
    (0..from.u32("count")?).map(|_| Ok((reply(from, depth)?, reply(from, depth)?))).collect()
}

fn field(from: &mut Reader<'_>, depth: u32) -> Result<(&'static str, Reply), Malformed> {
    let name = from.bytes("field")?;
    let known = FIELDS.iter().copied().find(|known| known.as_bytes() == name);
    Ok((known.ok_or(Malformed("field"))?, reply(from, depth)?))
}

fn bulks(from: &mut Reader<'_>) -> Result<BulkList, Malformed> {
    let mut list = BulkList::with_capacity(0, 0);
    for _ in 0..from.u32("count")? {
        match from.u8("bulk")? {
            BULK => list.push(from.bytes("bulk")?),
            _ => list.push_nil(),
        }
    }
    Ok(list)
}

pub(super) fn reply(from: &mut Reader<'_>, depth: u32) -> Result<Reply, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("reply"));
    }
    let depth = depth + 1;
    let text = |from: &mut Reader<'_>| from.text("text");
    Ok(match from.u8("reply")? {
        OK => Reply::Ok,
        SIMPLE => Reply::Simple(text(from)?.into()),
        NIL => Reply::Nil,
        NIL_ARRAY => Reply::NilArray,
        INTEGER => Reply::Integer(from.u64("integer")? as i64),
        DOUBLE => Reply::Double(f64::from_bits(from.u64("double")?)),
        BOOL => Reply::Bool(from.u8("bool")? == 1),
        BULK => Reply::bulk(from.bytes("bulk")?),
        VERBATIM => Reply::Verbatim(from.bytes("text")?.into()),
        BIG_NUMBER => Reply::BigNumber(from.bytes("number")?.into()),
        DECIMAL => Reply::Decimal(from.bytes("number")?.into()),
        ARRAY => Reply::Array(all(from, depth)?),
        BULKS => Reply::Bulks(bulks(from)?),
        MAP => Reply::Map(pairs(from, depth)?),
        BULK_MAP => Reply::BulkMap(bulks(from)?),
        SET => Reply::Set(all(from, depth)?),
        BULK_SET => Reply::BulkSet(bulks(from)?),
        PAIRS => Reply::Pairs(pairs(from, depth)?),
        PAIR_MAP => Reply::PairMap(pairs(from, depth)?),
        PUSH => Reply::Push(all(from, depth)?),
        ERROR => Reply::error(CommandError::new(text(from)?)),
        RECORD => {
            let fields = (0..from.u32("count")?).map(|_| field(from, depth));
            Reply::Record(fields.collect::<Result<_, _>>()?)
        }
        _ => return Err(Malformed("reply")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_remembered_as_they_were() {
        let mut list = BulkList::with_capacity(0, 0);
        list.push(b"a");
        list.push_nil();
        let first = Reply::Array(vec![
            Reply::Ok,
            Reply::Integer(-7),
            Reply::bulk(b"\xff\x00"),
            Reply::Bulks(list),
            Reply::Double(1.5),
            Reply::Map(vec![(Reply::Nil, Reply::Bool(true))]),
            Reply::Decimal("1.50".to_owned().into()),
            Reply::PairMap(vec![(Reply::bulk(b"s"), Reply::Array(Vec::new()))]),
            Reply::Record(vec![("token", Reply::Integer(7)), ("pttl", Reply::Integer(9))]),
            Reply::error(CommandError::new("ERR no".to_owned())),
        ]);
        let mut once = Once::default();
        assert!(matches!(once.look(b"c", 1, 10), Seen::New));
        once.note(b"c", 1, &first, 10);
        let mut bytes = Vec::new();
        once.put(&mut bytes);
        let mut again = Once::read(&mut Reader::new(&bytes)).expect("what was written");
        let Seen::Before(reply) = again.look(b"c", 1, 11) else { panic!("it is remembered") };
        assert_eq!(reply, first);
        assert!(matches!(again.look(b"c", 2, 12), Seen::New));
        assert!(matches!(again.look(b"c", 0, 13), Seen::Before(Reply::Error(_))));
        assert!(matches!(again.look(b"d", 1, 14), Seen::New));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut once = Once::default();
        for number in 0..CLIENTS_MAX as u64 + 5 {
            once.note(format!("c{number}").as_bytes(), 1, &Reply::Ok, number);
        }
        assert_eq!(once.by_client.len(), CLIENTS_MAX);
        assert!(matches!(once.look(b"c4", 1, 1 << 40), Seen::New));
        assert!(matches!(once.look(b"c5", 1, (1 << 40) + 1), Seen::Before(_)));
    }
}
