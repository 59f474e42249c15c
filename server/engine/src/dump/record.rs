//! A key with its value and expiry as RDB has them, and what travels beside them.
//!
//! `[EXPIRETIME_MS, i64 LE]? [type] [key] [value]`. What RDB lacks goes into AUX fields, which
//! Redis reads over: before a run of keys one with their forms and, on request, their versions;
//! before a hash with expiring fields one with those.

use std::io::Read;

use super::sink::Sink;
use super::source::{DumpError, Source};
use super::stream;
use super::value::{Decoded, Form, encode, kind_of};
use crate::raw::{Record, Value};
use crate::time::{DbIndex, UnixMillis};
use crate::value::Object;
use crate::value::lock::{Lock, codec};

/// RDB's marks before something other than a value. Persisted: never to be renumbered.
pub mod opcode {
    /// Redis 8.4: metadata that modules keep beside the next key. Valkey 9: a slot that is moving in.
    pub const KEY_META_OR_SLOT_IMPORT: u8 = 243;
    /// In cluster mode, of Redis 7.4: a slot, how many keys it has and how many of them expire.
    pub const SLOT_INFO: u8 = 244;
    /// Functions of Redis 7.
    pub const FUNCTION2: u8 = 245;
    /// Functions of a preview of Redis 7.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// What a module keeps beside keys.
    pub const MODULE_AUX: u8 = 247;
    /// The next key's idle time.
    pub const IDLE: u8 = 248;
    /// The next key's frequency of use.
    pub const FREQ: u8 = 249;
    /// A named field about the file.
    pub const AUX: u8 = 250;
    /// How many keys the database has.
    pub const RESIZE_DB: u8 = 251;
    /// The next key's expiry in milliseconds.
    pub const EXPIRE_MS: u8 = 252;
    /// The next key's expiry in seconds.
    pub const EXPIRE_S: u8 = 253;
    /// The keys that follow belong to another database.
    pub const SELECT_DB: u8 = 254;
    /// The end.
    pub const END: u8 = 255;
}

/// The AUX field before a run of keys: see [`Chunk::write`].
pub const AUX_KEYS: &[u8] = b"holdfast-keys";
/// The AUX field before a hash: how many fields expire, then each with its expiry as i64 LE.
pub const AUX_FIELD_EXPIRIES: &[u8] = b"holdfast-field-expiries";

/// The AUX field before a stream: when each consumer was last given anything, as i64 LE.
pub const AUX_ACTIVE_TIMES: &[u8] = b"holdfast-active-times";

/// The AUX field of a lock: its version u64, the length of its key u32, the key, and the lock as
/// `value::lock::codec` writes it. Redis has no such values, and reads it over.
pub const AUX_LOCK: &[u8] = b"holdfast-lock";

/// Whether the versions that WATCH compares travel with the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// They do not: nobody watches when the snapshot is loaded.
    Plain,
    /// They do: a replica must judge every later transaction as its origin does.
    Replica,
}

/// A run of keys of one database, ready to be written.
#[derive(Debug)]
pub struct Chunk {
    /// Their database.
    pub db: DbIndex,
    detail: Detail,
    forms: Vec<u8>,
    versions: Vec<u8>,
    /// How many of the keys are locks, of which neither form nor version stands beside.
    locks: usize,
    keys: Sink,
}

/// Bytes of a version.
const VERSION_LEN: usize = 6;

impl Chunk {
    /// No keys yet, to be written to `sink`.
    #[must_use]
    pub fn new(db: DbIndex, detail: Detail, sink: Sink) -> Self {
        Self { db, detail, forms: Vec::new(), versions: Vec::new(), locks: 0, keys: sink }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.forms.len() + self.locks
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the keys.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.keys.bytes.len()
    }

    /// Adds a key.
    pub fn push(&mut self, record: &Record) {
        if let Value::Object(object) = record.value()
            && let Some(lock) = Lock::of(object)
        {
            self.push_lock(record, lock);
            return;
        }
        self.forms.push(Form::of_record(record) as u8);
        if self.detail == Detail::Replica {
            self.versions.extend_from_slice(&record.version().to_le_bytes()[..VERSION_LEN]);
        }
        if let Value::Object(Object::Hash(hash)) = record.value()
            && let Some(expiries) = hash.expiries()
        {
            let mut told = Sink::plain();
            told.len(expiries.len() as u64);
            for (field, at) in expiries.iter() {
                told.len(field.len() as u64);
                told.raw(field);
                told.raw(&at.0.to_le_bytes());
            }
            self.keys.byte(opcode::AUX);
            self.keys.string(AUX_FIELD_EXPIRIES);
            self.keys.string(&told.bytes);
        }
        if let Value::Object(Object::Stream(stream)) = record.value()
            && let Some(told) = stream::active_times(stream)
        {
            self.keys.byte(opcode::AUX);
            self.keys.string(AUX_ACTIVE_TIMES);
            self.keys.string(&told);
        }
        if let Some(UnixMillis(ms)) = record.own_expiry() {
            self.keys.byte(opcode::EXPIRE_MS);
            self.keys.raw(&ms.to_le_bytes());
        }
        self.keys.byte(kind_of(record));
        self.keys.string(record.key());
        encode(record, &mut self.keys);
    }

    fn push_lock(&mut self, record: &Record, lock: Lock<'_>) {
        let mut told = record.version().to_le_bytes().to_vec();
        told.extend_from_slice(&(record.key().len() as u32).to_le_bytes());
        told.extend_from_slice(record.key());
        codec::encode(lock, record.expires_at().unwrap_or(UnixMillis(i64::MAX)), &mut told);
        self.locks += 1;
        self.keys.byte(opcode::AUX);
        self.keys.string(AUX_LOCK);
        self.keys.string(&told);
    }

    /// Takes over the keys of another chunk of this database.
    pub fn append(&mut self, other: &Self) {
        debug_assert_eq!(self.db, other.db);
        self.locks += other.locks;
        self.forms.extend_from_slice(&other.forms);
        self.versions.extend_from_slice(&other.versions);
        self.keys.raw(&other.keys.bytes);
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.keys.bytes.capacity() + self.forms.capacity() + self.versions.capacity()
    }

    /// Writes the run to `out`: the AUX field (number of keys, a form each, then a version of six
    /// bytes each or none), then the keys.
    pub fn write(&self, out: &mut Sink) {
        let mut told = Sink::plain();
        told.len(self.forms.len() as u64);
        told.raw(&self.forms);
        told.raw(&self.versions);
        out.byte(opcode::AUX);
        out.string(AUX_KEYS);
        out.string(&told.bytes);
        out.raw(&self.keys.bytes);
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self, db: DbIndex) {
        self.db = db;
        self.forms.clear();
        self.versions.clear();
        self.locks = 0;
        self.keys.bytes.clear();
    }
}

/// What stands beside the keys that follow in a file of ours.
#[derive(Debug, Default)]
pub struct Beside {
    forms: std::vec::IntoIter<u8>,
    versions: Option<std::vec::IntoIter<u8>>,
}

impl Beside {
    /// Reads the value of an [`AUX_KEYS`] field.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn read(told: &[u8]) -> Result<Self, DumpError> {
        const BAD: DumpError = DumpError::Damaged("the field holdfast-keys is not valid");
        let mut source = Source::new(told);
        let count = source.length()?;
        let rest = *source.inner();
        let count = usize::try_from(count).ok().filter(|count| *count <= rest.len()).ok_or(BAD)?;
        let (forms, versions) = rest.split_at(count);
        let versions = match versions.len() {
            0 => None,
            len if len == count * VERSION_LEN => Some(Vec::from(versions).into_iter()),
            _ => return Err(BAD),
        };
        Ok(Self { forms: Vec::from(forms).into_iter(), versions })
    }

    /// The form of the next key, if one is told.
    pub fn next_form(&mut self) -> Option<Form> {
        self.forms.next().map(Form::of)
    }

    /// The version of the next key, if one is told.
    pub fn next_version(&mut self) -> Option<u64> {
        let bytes = self.versions.as_mut()?.by_ref().take(VERSION_LEN);
        let mut version = [0; 8];
        let mut len = 0;
        for (place, byte) in version.iter_mut().zip(bytes) {
            *place = byte;
            len += 1;
        }
        (len == VERSION_LEN).then(|| u64::from_le_bytes(version))
    }

    /// Whether every key that was told of has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.forms.len() == 0
    }
}

/// Completes a value with what a field before it tells: [`AUX_FIELD_EXPIRIES`] or
/// [`AUX_ACTIVE_TIMES`].
///
/// # Errors
/// When the field is damaged or does not belong to this value.
pub fn complete(value: &mut Decoded, (name, told): (&[u8], &[u8])) -> Result<(), DumpError> {
    if name == AUX_FIELD_EXPIRIES {
        return set_field_expiries(value, told);
    }
    let belongs = match value {
        Decoded::Object(Object::Stream(stream)) => stream::set_active_times(stream, told),
        _ => false,
    };
    let damaged = DumpError::Damaged("the field holdfast-active-times is not valid");
    if belongs { Ok(()) } else { Err(damaged) }
}

/// Gives a hash the expiries of its fields that an [`AUX_FIELD_EXPIRIES`] field tells.
///
/// # Errors
/// When the field is damaged or does not belong to this value.
fn set_field_expiries(value: &mut Decoded, told: &[u8]) -> Result<(), DumpError> {
    const BAD: DumpError = DumpError::Damaged("the field holdfast-field-expiries is not valid");
    let Decoded::Object(Object::Hash(hash)) = value else { return Err(BAD) };
    let mut source = Source::new(told);
    for _ in 0..source.length()? {
        let len = source.length()?;
        let field = source.bytes(len)?;
        let at = i64::from_le_bytes(source.array()?);
        if hash.get(&field, UnixMillis(i64::MIN)).is_none() {
            return Err(BAD);
        }
        hash.set_field_expiry(&field, Some(UnixMillis(at)));
    }
    if source.inner().is_empty() { Ok(()) } else { Err(BAD) }
}

/// The lock that an [`AUX_LOCK`] field tells, and its version.
///
/// # Errors
/// When the field is damaged.
pub fn read_lock(told: &[u8]) -> Result<(Record, u64), DumpError> {
    const BAD: DumpError = DumpError::Damaged("the field holdfast-lock is not valid");
    let (version, rest) = told.split_first_chunk::<8>().ok_or(BAD)?;
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(BAD)?;
    let (key, lock) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(BAD)?;
    let (object, ends_at) = codec::decode(lock).ok_or(BAD)?;
    Ok((Record::object(key, object, Some(ends_at)), u64::from_le_bytes(*version)))
}

/// Reads over a module's data, which tells its own structure.
///
/// # Errors
/// When it is cut short or damaged.
pub fn skip_module_data<R: Read>(source: &mut Source<R>) -> Result<(), DumpError> {
    loop {
        match source.length()? {
            0 => return Ok(()),
            1 | 2 => drop(source.length()?),
            3 => drop(source.array::<4>()?),
            4 => drop(source.array::<8>()?),
            5 => drop(source.string()?),
            _ => return Err(DumpError::Damaged("an unknown part of a module's data")),
        }
    }
}
