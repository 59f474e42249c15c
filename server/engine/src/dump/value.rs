//! A value in RDB's encodings.
//!
//! Written are only types that redis-server 7.0 knows. A small set of strings, for which it has
//! none, goes as a plain set; its [`Form`] says what it was.

use std::io::Read;

use super::compact::{self, ListpackWriter};
use super::sink::Sink;
use super::source::{DumpError, Source, Writer, score_of_text};
use crate::limits::Limits;
use crate::raw::{Record, StringValue, Value};
use crate::time::UnixMillis;
use crate::value::Object;
use crate::value::hash::{FieldExpiry, Hash, HashLimits, Table as HashTable};
use crate::value::list::{End, List, ListForm, NodeLimit};
use crate::value::listpack::{Entry, Listpack};
use crate::value::set::Set;
use crate::value::sorted_set::{Accumulator, SortedSet};

/// RDB's types of values. Persisted: never to be renumbered.
pub mod kind {
    /// A string.
    pub const STRING: u8 = 0;
    /// Elements one by one.
    pub const LIST: u8 = 1;
    /// Members one by one.
    pub const SET: u8 = 2;
    /// Members and scores, those as text.
    pub const ZSET: u8 = 3;
    /// Fields and values one by one.
    pub const HASH: u8 = 4;
    /// Members and scores, those in binary.
    pub const ZSET_2: u8 = 5;
    /// A hash of Redis 2.4.
    pub const HASH_ZIPMAP: u8 = 9;
    /// A small list of Redis 3.0 and older.
    pub const LIST_ZIPLIST: u8 = 10;
    /// A set of integers.
    pub const SET_INTSET: u8 = 11;
    /// A small sorted set of Redis 6.2 and older.
    pub const ZSET_ZIPLIST: u8 = 12;
    /// A small hash of Redis 6.2 and older.
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list of Redis 6.2 and older: ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    /// A stream of Redis 5 and 6.
    pub const STREAM: u8 = 15;
    /// A small hash.
    pub const HASH_LISTPACK: u8 = 16;
    /// A small sorted set.
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list: listpacks and single long elements.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// A stream of Redis 7.0.
    pub const STREAM_2: u8 = 19;
    /// A small set of Redis 7.2.
    pub const SET_LISTPACK: u8 = 20;
    /// A stream of Redis 7.2.
    pub const STREAM_3: u8 = 21;
    /// A hash with expiring fields, of previews of Redis 7.4; and of Valkey 9, in another form.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    /// A small hash with expiring fields, of previews of Redis 7.4.
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    /// A hash with expiring fields, of Redis 7.4.
    pub const HASH_METADATA: u8 = 24;
    /// A small hash with expiring fields, of Redis 7.4.
    pub const HASH_LISTPACK_EX: u8 = 25;
}

/// A node of a list: one long element as it is.
const NODE_PLAIN: u64 = 1;
/// A node of a list: a listpack.
const NODE_PACKED: u64 = 2;
/// A lone element of so many bytes is written as it is, not in a listpack.
const PLAIN_FROM: usize = 8192;
/// Room is made for so many elements before they are seen.
const CAPACITY_MAX: usize = 1 << 16;

/// What RDB does not tell of a value. Persisted: never to be renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Form {
    /// Nothing: the type says it.
    #[default]
    Natural = 0,
    /// A string that OBJECT ENCODING calls `raw`.
    RawString = 1,
    /// A string that stays text though it reads as a number.
    Text = 2,
    /// A set of strings in the small encoding.
    SmallSet = 3,
    /// A set in the large encoding.
    LargeSet = 4,
    /// See [`ListForm`].
    SmallList = 5,
    /// See [`ListForm`].
    ListpackList = 6,
    /// See [`ListForm`].
    Quicklist = 7,
}

impl Form {
    /// The form of this number; of one from a newer version the natural one.
    #[must_use]
    pub fn of(number: u8) -> Self {
        const ALL: [Form; 8] = [
            Form::Natural,
            Form::RawString,
            Form::Text,
            Form::SmallSet,
            Form::LargeSet,
            Form::SmallList,
            Form::ListpackList,
            Form::Quicklist,
        ];
        ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// The form of a record's value.
    #[must_use]
    pub fn of_record(record: &Record) -> Self {
        match record.value() {
            Value::Integer(_) => Self::Natural,
            Value::String(_) if record.is_raw() => Self::RawString,
            Value::String(text) if crate::value::integer_text(text).is_some() => Self::Text,
            Value::String(_) => Self::Natural,
            Value::Object(object) => Self::of_object(object),
        }
    }

    fn of_object(object: &Object) -> Self {
        match object {
            Object::Set(Set::Pack(_)) => Self::SmallSet,
            Object::Set(Set::Table(_)) => Self::LargeSet,
            Object::List(list) => match list.form() {
                ListForm::Small => Self::SmallList,
                ListForm::Listpack => Self::ListpackList,
                ListForm::Quicklist => Self::Quicklist,
            },
            _ => Self::Natural,
        }
    }
}

/// Which encoding a value that is read gets.
#[derive(Debug, Clone, Copy)]
pub enum Fit<'a> {
    /// The one it had, as the type and the form say.
    As(Form),
    /// The one that the thresholds ask for, as Redis does with files of others.
    By(&'a Limits),
}

/// A value that was read.
#[derive(Debug)]
pub enum Decoded {
    /// A string.
    String(Vec<u8>),
    /// A string that stays text.
    Text(Vec<u8>),
    /// A string that is `raw`.
    Raw(Vec<u8>),
    /// Anything else.
    Object(Object),
}

impl Decoded {
    /// The record of this value under a key, with the key's own expiry.
    #[must_use]
    pub fn into_record(self, key: &[u8], own_expiry: Option<UnixMillis>) -> Record {
        let text = match &self {
            Self::String(text) => StringValue::Bytes(text),
            Self::Text(text) => StringValue::Text(text),
            Self::Raw(text) => StringValue::Raw(text),
            Self::Object(_) => StringValue::Integer(0),
        };
        match self {
            Self::Object(Object::Hash(mut hash)) => {
                let expires_at = hash.settle_expiry(own_expiry);
                Record::object(key, Object::Hash(hash), expires_at)
            }
            Self::Object(object) => Record::object(key, object, own_expiry),
            _ => Record::string(key, text, own_expiry),
        }
    }
}

/// The RDB type of a record's value.
#[must_use]
pub fn kind_of(record: &Record) -> u8 {
    match record.value() {
        Value::Integer(_) | Value::String(_) => kind::STRING,
        Value::Object(object) => kind_of_object(object),
    }
}

fn kind_of_object(object: &Object) -> u8 {
    match object {
        Object::String(_) => kind::STRING,
        Object::Hash(hash) if hash.is_compact() => kind::HASH_LISTPACK,
        Object::Hash(_) => kind::HASH,
        Object::List(_) => kind::LIST_QUICKLIST_2,
        Object::Set(Set::Ints(_)) => kind::SET_INTSET,
        Object::Set(_) => kind::SET,
        Object::SortedSet(SortedSet::Pack(_)) => kind::ZSET_LISTPACK,
        Object::SortedSet(_) => kind::ZSET_2,
        Object::Stream(_) => kind::STREAM_2,
        Object::ShortLock(_) | Object::Lock(_) => not_a_value(),
    }
}

/// RDB has no type for locks.
fn not_a_value() -> ! {
    unreachable!("Invariant: a lock travels beside the values, see `record`")
}

/// Writes a record's value, without its type.
pub fn encode(record: &Record, sink: &mut Sink) {
    match record.value() {
        Value::Integer(number) => sink.integer(number),
        Value::String(text) => sink.string(text),
        Value::Object(object) => encode_object(object, sink),
    }
}

fn push_entry(entry: Entry<'_>, sink: &mut Sink) {
    match entry {
        Entry::Bytes(text) => sink.string(text),
        Entry::Integer(number) => sink.integer(number),
    }
}

fn encode_object(object: &Object, sink: &mut Sink) {
    match object {
        Object::String(text) => sink.string(text),
        Object::Hash(hash) if hash.is_compact() => {
            let mut pack = ListpackWriter::with_capacity(hash.memory_len());
            hash.each_stored(|field, value| {
                pack.push(field);
                pack.push(value);
            });
            sink.string(&pack.finish());
        }
        Object::Hash(hash) => {
            sink.len(hash.stored_len() as u64);
            hash.each_stored(|field, value| {
                push_entry(field, sink);
                push_entry(value, sink);
            });
        }
        Object::List(list) => encode_list(list, sink),
        Object::Set(Set::Ints(ints)) => sink.string(&compact::write_intset(ints)),
        Object::Set(set) => {
            sink.len(set.len() as u64);
            set.iter().for_each(|member| push_entry(member, sink));
        }
        Object::SortedSet(set @ SortedSet::Pack(pack)) => {
            let mut writer = ListpackWriter::with_capacity(pack.packed_len() * 2);
            set.for_each(|member, score| {
                writer.push(member);
                push_score(score, &mut writer);
            });
            sink.string(&writer.finish());
        }
        Object::SortedSet(set) => {
            sink.len(set.len() as u64);
            set.for_each(|member, score| {
                push_entry(member, sink);
                sink.raw(&score.to_le_bytes());
            });
        }
        Object::Stream(stream) => super::stream::encode(stream, sink),
        Object::ShortLock(_) | Object::Lock(_) => not_a_value(),
    }
}

fn push_score(score: f64, writer: &mut ListpackWriter) {
    /// Whole numbers up to here are written as integers, as Redis does.
    const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
    if score.trunc() == score && score.abs() <= WHOLE_MAX {
        writer.push(Entry::Integer(score as i64));
    } else {
        writer.push_bytes(crate::value::number::format_g17(score).as_bytes());
    }
}

fn encode_list(list: &List, sink: &mut Sink) {
    sink.len(list.nodes().count() as u64);
    for node in list.nodes() {
        match (node.len(), node.first()) {
            (1, Some(Entry::Bytes(text))) if text.len() >= PLAIN_FROM => {
                sink.len(NODE_PLAIN);
                sink.string(text);
            }
            _ => {
                let mut writer = ListpackWriter::with_capacity(node.packed_len() * 2);
                node.iter().for_each(|entry| writer.push(entry));
                sink.len(NODE_PACKED);
                sink.string(&writer.finish());
            }
        }
    }
}

/// Whether [`decode`] knows a type, if only by name. What follows one that it does not know cannot
/// be told from damage.
///
/// # Errors
/// When it does not.
pub fn known(kind: u8, writer: Writer) -> Result<(), DumpError> {
    /// Marks are numbered from the end; types have not come near them.
    const MARKS_FROM: u8 = 224;
    let newest = match writer {
        Writer::Redis => kind::HASH_LISTPACK_EX,
        Writer::Valkey => kind::HASH_METADATA_PRE_GA,
    };
    match kind {
        8 => Err(DumpError::UnknownType(kind)),
        _ if kind <= newest => Ok(()),
        MARKS_FROM.. => Err(DumpError::UnknownMark(kind)),
        _ => Err(DumpError::UnknownType(kind)),
    }
}

/// Reads a value of an RDB type.
///
/// # Errors
/// When it is cut short, damaged, empty where nothing may be, or of a type that is not here.
pub fn decode<R: Read>(
    kind: u8,
    source: &mut Source<R>,
    fit: Fit<'_>,
) -> Result<Decoded, DumpError> {
    let object = match kind {
        kind::STRING => {
            let text = source.string()?;
            return Ok(match fit {
                Fit::As(Form::RawString) => Decoded::Raw(text),
                Fit::As(Form::Text) => Decoded::Text(text),
                _ => Decoded::String(text),
            });
        }
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
            Object::List(list(kind, source, fit)?)
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => Object::Set(set(kind, source, fit)?),
        kind::ZSET | kind::ZSET_2 | kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            Object::SortedSet(sorted_set(kind, source, fit)?)
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            Object::Hash(hash(kind, source, fit)?)
        }
        kind::HASH_METADATA_PRE_GA if source.writer() == Writer::Valkey => {
            Object::Hash(valkey_hash(source, fit)?)
        }
        kind::HASH_METADATA_PRE_GA..=kind::HASH_LISTPACK_EX => {
            Object::Hash(hash_with_expiries(kind, source, fit)?)
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => {
            Object::Stream(Box::new(super::stream::decode(kind, source)?))
        }
        6 | 7 => return Err(DumpError::Unsupported("a value of a module")),
        _ => return Err(DumpError::UnknownType(kind)),
    };
    Ok(Decoded::Object(object))
}

fn list<R: Read>(kind: u8, source: &mut Source<R>, fit: Fit<'_>) -> Result<List, DumpError> {
    let form = match fit {
        Fit::As(Form::SmallList) => Some(ListForm::Small),
        Fit::As(Form::ListpackList) => Some(ListForm::Listpack),
        Fit::As(_) => Some(ListForm::Quicklist),
        Fit::By(_) => None,
    };
    let limit = match fit {
        Fit::By(limits) => NodeLimit::from(limits),
        Fit::As(_) => NodeLimit::of(-2),
    };
    let mut made = List::default();
    let mut nodes = Vec::new();
    let mut add = |elements: &[Entry<'_>]| -> Result<(), DumpError> {
        if form.is_some() {
            let mut node = Listpack::new();
            for element in elements {
                let text = element.to_vec();
                if !node.has_room_for(text.len() + 16) {
                    return Err(DumpError::Damaged("a node of a list is too large"));
                }
                node.push_back(&text);
            }
            nodes.push(node);
            return Ok(());
        }
        let room = &mut itoa::Buffer::new();
        for element in elements {
            let text = element.text(room);
            made.prepare(&[text], limit);
            made.push(End::Right, text, limit);
        }
        Ok(())
    };
    match kind {
        kind::LIST => {
            for _ in 0..source.length()? {
                add(&[Entry::Bytes(&source.string()?)])?;
            }
        }
        kind::LIST_ZIPLIST => add(&compact::ziplist(&source.string()?)?)?,
        kind::LIST_QUICKLIST => {
            for _ in 0..source.length()? {
                add(&compact::ziplist(&source.string()?)?)?;
            }
        }
        _ => {
            for _ in 0..source.length()? {
                match source.length()? {
                    NODE_PLAIN => add(&[Entry::Bytes(&source.string()?)])?,
                    NODE_PACKED => add(&compact::listpack(&source.string()?)?)?,
                    _ => return Err(DumpError::Damaged("an unknown kind of list node")),
                }
            }
        }
    }
    if let Some(form) = form {
        made = List::from_nodes(form, nodes);
    }
    if made.is_empty() { Err(DumpError::Empty) } else { Ok(made) }
}

const TWICE: DumpError = DumpError::Damaged("a member stands twice");

fn set<R: Read>(kind: u8, source: &mut Source<R>, fit: Fit<'_>) -> Result<Set, DumpError> {
    let room = &mut itoa::Buffer::new();
    if kind == kind::SET_INTSET {
        let numbers = compact::intset(&source.string()?)?;
        let Some(first) = numbers.first() else { return Err(DumpError::Empty) };
        if let Fit::By(limits) = fit {
            let mut made = Set::for_members(room.format(*first).as_bytes(), numbers.len(), limits);
            for number in &numbers {
                made.insert(room.format(*number).as_bytes(), limits);
            }
            return Ok(made);
        }
        return Ok(Set::Ints(numbers.into_iter().collect()));
    }
    if kind == kind::SET_LISTPACK {
        let packed = source.string()?;
        let entries = compact::listpack(&packed)?;
        let mut made = set_for(entries.len() as u64, entries.first().copied(), fit)?;
        for entry in entries {
            add_member(&mut made, entry.text(room), fit)?;
        }
        return Ok(made);
    }
    let count = source.length()?;
    let first = if count > 0 { source.string()? } else { return Err(DumpError::Empty) };
    let mut made = set_for(count, Some(Entry::Bytes(&first)), fit)?;
    add_member(&mut made, &first, fit)?;
    for _ in 1..count {
        add_member(&mut made, &source.string()?, fit)?;
    }
    Ok(made)
}

fn capacity(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(CAPACITY_MAX)
}

fn set_for(count: u64, first: Option<Entry<'_>>, fit: Fit<'_>) -> Result<Set, DumpError> {
    let Some(first) = first else { return Err(DumpError::Empty) };
    Ok(match fit {
        Fit::As(Form::SmallSet) => Set::Pack(Listpack::new()),
        Fit::As(_) => Set::hashed(capacity(count)),
        Fit::By(limits) => {
            Set::for_members(first.text(&mut itoa::Buffer::new()), capacity(count), limits)
        }
    })
}

fn add_member(set: &mut Set, member: &[u8], fit: Fit<'_>) -> Result<(), DumpError> {
    let new = match (&mut *set, fit) {
        (Set::Pack(pack), Fit::As(_)) => {
            if !pack.has_room_for(member.len() + 16) {
                return Err(DumpError::Damaged("a small set is too large"));
            }
            let new = pack.find(&crate::value::listpack::Packed::new(member), 0, 1).is_none();
            pack.push_back(member);
            new
        }
        (set, Fit::By(limits)) => set.insert(member, limits),
        (set, Fit::As(_)) => set.insert(member, &Limits::default()),
    };
    if new { Ok(()) } else { Err(TWICE) }
}

fn sorted_set<R: Read>(
    kind: u8,
    source: &mut Source<R>,
    fit: Fit<'_>,
) -> Result<SortedSet, DumpError> {
    let mut made = Accumulator::default();
    let mut add = |member: Entry<'_>, score: f64| {
        let before = made.len();
        made.merge(member, score, |kept| kept);
        if made.len() == before { Err(TWICE) } else { Ok(()) }
    };
    match kind {
        kind::ZSET | kind::ZSET_2 => {
            for _ in 0..source.length()? {
                let member = source.string()?;
                let score =
                    if kind == kind::ZSET { source.old_score()? } else { source.score()? };
                add(Entry::Bytes(&member), score)?;
            }
        }
        _ => {
            let packed = source.string()?;
            let entries = if kind == kind::ZSET_ZIPLIST {
                compact::ziplist(&packed)?
            } else {
                compact::listpack(&packed)?
            };
            let (pairs, []) = entries.as_chunks::<2>() else {
                return Err(DumpError::Damaged("a member without a score"));
            };
            for [member, score] in pairs {
                let score = match score {
                    Entry::Integer(number) => *number as f64,
                    Entry::Bytes(text) => score_of_text(text)?,
                };
                add(*member, score)?;
            }
        }
    }
    if made.is_empty() {
        return Err(DumpError::Empty);
    }
    Ok(match fit {
        Fit::By(limits) => made.finish(limits),
        Fit::As(_) if matches!(kind, kind::ZSET_LISTPACK | kind::ZSET_ZIPLIST) => {
            made.finish_compact()
        }
        Fit::As(_) => made.finish_large(),
    })
}

/// Collects fields and values into a hash.
struct HashMaker {
    made: Made,
}

enum Made {
    /// Exactly the small encoding.
    Compact(Listpack),
    /// Exactly the large encoding.
    Large(HashTable),
    /// As the thresholds say.
    By(Hash, HashLimits),
}

impl HashMaker {
    fn new(small: bool, count: u64, fit: Fit<'_>) -> Self {
        let made = match fit {
            Fit::As(_) if small => Made::Compact(Listpack::new()),
            Fit::As(_) => Made::Large(HashTable::with_capacity(capacity(count))),
            Fit::By(limits) => {
                let limits = HashLimits::from(limits);
                if count > limits.entries as u64 {
                    Made::By(Hash::large(HashTable::with_capacity(capacity(count))), limits)
                } else {
                    Made::By(Hash::default(), limits)
                }
            }
        };
        Self { made }
    }

    fn add(&mut self, field: &[u8], value: &[u8]) -> Result<(), DumpError> {
        use crate::value::hash::FieldSet;
        use crate::value::listpack::Packed;
        let new = match &mut self.made {
            Made::Compact(pack) => {
                if !pack.has_room_for(field.len() + value.len() + 32) {
                    return Err(DumpError::Damaged("a small hash is too large"));
                }
                let new = pack.find(&Packed::new(field), 0, 2).is_none();
                pack.push_back(field);
                pack.push_back(value);
                new
            }
            Made::Large(table) => table.insert(field, value) == FieldSet::Created,
            Made::By(hash, limits) => {
                hash.set(field, value, FieldExpiry::Kept, *limits) == FieldSet::Created
            }
        };
        if new { Ok(()) } else { Err(DumpError::Damaged("a field stands twice")) }
    }

    fn finish(self) -> Result<Hash, DumpError> {
        let made = match self.made {
            Made::Compact(mut pack) => {
                pack.shrink_to_fit();
                Hash::compact(pack)
            }
            Made::Large(table) => Hash::large(table),
            Made::By(hash, _) => hash,
        };
        if made.stored_len() == 0 { Err(DumpError::Empty) } else { Ok(made) }
    }
}

fn hash<R: Read>(kind: u8, source: &mut Source<R>, fit: Fit<'_>) -> Result<Hash, DumpError> {
    if kind == kind::HASH {
        let count = source.length()?;
        let mut maker = HashMaker::new(false, count, fit);
        for _ in 0..count {
            let (field, value) = (source.string()?, source.string()?);
            maker.add(&field, &value)?;
        }
        return maker.finish();
    }
    let packed = source.string()?;
    let entries = match kind {
        kind::HASH_ZIPMAP => compact::zipmap(&packed)?,
        kind::HASH_ZIPLIST => compact::ziplist(&packed)?,
        _ => compact::listpack(&packed)?,
    };
    let (pairs, []) = entries.as_chunks::<2>() else {
        return Err(DumpError::Damaged("a field without a value"));
    };
    let mut maker = HashMaker::new(true, pairs.len() as u64, fit);
    let (room, value_room) = (&mut itoa::Buffer::new(), &mut itoa::Buffer::new());
    for [field, value] in pairs {
        maker.add(field.text(room), value.text(value_room))?;
    }
    maker.finish()
}

const BAD_EXPIRY: DumpError = DumpError::Damaged("an expiry of a field is out of range");

/// A hash of Redis 7.4: the earliest expiry, then fields with their distance from it plus one.
fn hash_with_expiries<R: Read>(
    kind: u8,
    source: &mut Source<R>,
    fit: Fit<'_>,
) -> Result<Hash, DumpError> {
    let pre_ga = matches!(kind, kind::HASH_METADATA_PRE_GA | kind::HASH_LISTPACK_EX_PRE_GA);
    // A preview told the fields' times themselves: their distance from 0, without the one more.
    let earliest = if pre_ga { 1 } else { i64::from_le_bytes(source.array()?) };
    let mut expiries: Vec<(Vec<u8>, UnixMillis)> = Vec::new();
    let mut made;
    if matches!(kind, kind::HASH_METADATA | kind::HASH_METADATA_PRE_GA) {
        let count = source.length()?;
        made = HashMaker::new(false, count, fit);
        for _ in 0..count {
            let distance = source.length()?;
            let (field, value) = (source.string()?, source.string()?);
            made.add(&field, &value)?;
            if distance > 0 {
                let at = i64::try_from(distance - 1).ok().and_then(|ms| earliest.checked_add(ms));
                expiries.push((field, UnixMillis(at.ok_or(BAD_EXPIRY)?)));
            }
        }
    } else {
        let packed = source.string()?;
        let entries = compact::listpack(&packed)?;
        let (triplets, []) = entries.as_chunks::<3>() else {
            return Err(DumpError::Damaged("a field without a value or an expiry"));
        };
        made = HashMaker::new(true, triplets.len() as u64, fit);
        for [field, value, at] in triplets {
            made.add(&field.to_vec(), &value.to_vec())?;
            match at.integer().ok_or(BAD_EXPIRY)? {
                0 => {}
                at => expiries.push((field.to_vec(), UnixMillis(at))),
            }
        }
    }
    let mut hash = made.finish()?;
    for (field, at) in expiries {
        if at.0 < 0 {
            return Err(BAD_EXPIRY);
        }
        hash.set_field_expiry(&field, Some(at));
    }
    Ok(hash)
}

/// A hash of Valkey 9: fields, values, and when each expires, -1 for never.
fn valkey_hash<R: Read>(source: &mut Source<R>, fit: Fit<'_>) -> Result<Hash, DumpError> {
    let count = source.length()?;
    let mut made = HashMaker::new(false, count, fit);
    let mut expiries = Vec::new();
    for _ in 0..count {
        let (field, value) = (source.string()?, source.string()?);
        made.add(&field, &value)?;
        match i64::from_le_bytes(source.array()?) {
            -1 => {}
            at if at < 0 => return Err(BAD_EXPIRY),
            at => expiries.push((field, UnixMillis(at))),
        }
    }
    let mut hash = made.finish()?;
    for (field, at) in expiries {
        hash.set_field_expiry(&field, Some(at));
    }
    Ok(hash)
}

/// Writes a hash with the expiries of its fields, as Redis 7.4 does.
pub(super) fn encode_hash_with_expiries(hash: &Hash, earliest: UnixMillis, sink: &mut Sink) {
    sink.raw(&earliest.0.to_le_bytes());
    sink.len(hash.stored_len() as u64);
    hash.each_stored(|field, value| {
        let at = hash.field_expiry(field.text(&mut itoa::Buffer::new()));
        sink.len(at.map_or(0, |at| at.0.abs_diff(earliest.0) + 1));
        push_entry(field, sink);
        push_entry(value, sink);
    });
}
