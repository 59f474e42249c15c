//! Reading an RDB file into an engine, whoever wrote it.

use std::io::{self, Read};

use holdfast_engine::commands::functions::{Collision, add_library};
use holdfast_engine::dump::record::{
    AUX_ACTIVE_TIMES, AUX_FIELD_EXPIRIES, AUX_KEYS, AUX_LOCK, Beside, complete, opcode, read_lock,
    skip_module_data,
};
use holdfast_engine::dump::value::known;
use holdfast_engine::dump::{DumpError, Fit, Source, Writer, crc64, decode};
use holdfast_engine::host::Alone;
use holdfast_engine::keyspace::{Keyspace, Marks};
use holdfast_engine::raw::Record;
use holdfast_engine::time::{DbIndex, UnixMillis};

use super::{AUX_LOCKS, AUX_MARKS, AUX_PLACEMENT, MAGIC};

/// What becomes of keys whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// They are left out.
    Dropped,
    /// They are kept: a journal or a log that follows was written while they lived.
    Kept,
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// The time by which expiry is judged.
    pub now: UnixMillis,
    /// What becomes of keys whose time has come.
    pub expired: Expired,
    /// Whether a key may be there already; its value then gives way.
    pub merge: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Keys.
    pub keys: u64,
    /// Keys left out for their time had come.
    pub expired: u64,
    /// The file's own fields.
    pub aux: Vec<(Vec<u8>, Vec<u8>)>,
    /// What could not be taken over, in words.
    pub lost: Vec<String>,
    /// What values said wrongly of themselves, in words.
    pub corrected: Vec<String>,
    /// Whether it was written by a keyspace that places keys as this one does, marks included.
    pub placed_alike: bool,
}

/// Why a file could not be read.
#[derive(Debug)]
pub struct RdbError {
    /// How many bytes were read.
    pub offset: u64,
    /// The key at which it failed.
    pub key: Option<Vec<u8>>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for RdbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if let Some(key) = &self.key {
            write!(f, ", at key '{}'", key.escape_ascii())?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for RdbError {}

/// Buffers, counts and sums up what is read.
struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    /// Bytes before the buffer.
    before: u64,
    /// The checksum of everything before the buffer.
    crc: u64,
}

impl<R: Read> Input<R> {
    fn new(inner: R) -> Self {
        const LEN: usize = 256 * 1024;
        let buffer = vec![0; LEN].into_boxed_slice();
        Self { inner, buffer, from: 0, to: 0, before: 0, crc: 0 }
    }

    fn offset(&self) -> u64 {
        self.before + self.from as u64
    }

    /// The checksum of what was read so far.
    fn checksum(&self) -> u64 {
        crc64(self.crc, &self.buffer[..self.from])
    }
}

impl<R: Read> Read for Input<R> {
    #[inline]
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.from == self.to {
            self.crc = crc64(self.crc, &self.buffer[..self.to]);
            self.before += self.to as u64;
            (self.from, self.to) = (0, 0);
            self.to = self.inner.read(&mut self.buffer)?;
        }
        let len = out.len().min(self.to - self.from);
        out[..len].copy_from_slice(&self.buffer[self.from..self.from + len]);
        self.from += len;
        Ok(len)
    }
}

/// Reads a file into `keyspace`. `progress` is told the bytes and keys so far.
///
/// # Errors
/// When it is no RDB file, cut short, damaged, or holds what is not here; the keys before that
/// are in the keyspace.
pub fn read<R: Read>(
    keyspace: &Keyspace,
    input: R,
    options: ReadOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<Loaded, RdbError> {
    let mut reader = Reader {
        keyspace,
        options,
        source: Source::new(Input::new(input)),
        loaded: Loaded::default(),
        beside: Beside::default(),
        db: DbIndex(0),
        key: None,
        marks: Vec::new(),
    };
    match reader.run(&mut progress) {
        Ok(()) => {
            if reader.loaded.placed_alike {
                reader.marks.iter().for_each(|marks| keyspace.set_marks(marks));
            }
            Ok(reader.loaded)
        }
        Err(error) => Err(RdbError {
            offset: reader.source.inner().offset(),
            key: reader.key,
            reason: match error {
                Failure::Dump(error) => error.to_string(),
                Failure::Told(reason) => reason,
            },
        }),
    }
}

enum Failure {
    Dump(DumpError),
    Told(String),
}

impl From<DumpError> for Failure {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

struct Reader<'a, R> {
    keyspace: &'a Keyspace,
    options: ReadOptions,
    source: Source<Input<R>>,
    loaded: Loaded,
    beside: Beside,
    db: DbIndex,
    /// The key being read.
    key: Option<Vec<u8>>,
    marks: Vec<Marks>,
}

impl<R: Read> Reader<'_, R> {
    fn run(&mut self, progress: &mut impl FnMut(u64, u64)) -> Result<(), Failure> {
        /// Progress is told once in so many keys.
        const KEYS_PER_TELL: u64 = 1024;
        let version = self.header()?;
        let mut expires_at = None;
        let mut aside = None;
        loop {
            match self.source.byte()? {
                opcode::END => break,
                opcode::SELECT_DB => self.select()?,
                opcode::RESIZE_DB => {
                    self.source.length()?;
                    self.source.length()?;
                }
                opcode::EXPIRE_MS => {
                    expires_at = Some(UnixMillis(i64::from_le_bytes(self.source.array()?)));
                }
                opcode::EXPIRE_S => {
                    let seconds = i32::from_le_bytes(self.source.array()?);
                    expires_at = Some(UnixMillis(i64::from(seconds) * 1000));
                }
                opcode::IDLE => drop(self.source.length()?),
                opcode::FREQ => drop(self.source.byte()?),
                opcode::AUX => {
                    let (name, value) = (self.source.string()?, self.source.string()?);
                    match &name[..] {
                        AUX_KEYS => self.beside = Beside::read(&value)?,
                        AUX_FIELD_EXPIRIES | AUX_ACTIVE_TIMES => aside = Some((name, value)),
                        AUX_LOCK => self.read_lock(&value)?,
                        _ => self.aux(name, value)?,
                    }
                }
                opcode::FUNCTION2 => {
                    let code = self.source.string()?;
                    self.read_library(&code)?;
                }
                opcode::FUNCTION_PRE_GA => {
                    return Err(Failure::Told(
                        "it holds functions in the form of a preview of Redis 7".to_owned(),
                    ));
                }
                opcode::MODULE_AUX => {
                    let module = self.source.length()?;
                    self.source.length()?;
                    self.source.length()?;
                    skip_module_data(&mut self.source)?;
                    let name = module_name(module);
                    self.lose(&format!("data of the module '{name}', which is not here"));
                }
                opcode::SLOT_INFO => {
                    // How many keys a slot has: room to make, in Redis.
                    for _ in 0..3 {
                        self.source.length()?;
                    }
                }
                opcode::KEY_META_OR_SLOT_IMPORT => self.skip_mark_243()?,
                kind => {
                    self.read_key(kind, expires_at.take(), aside.take())?;
                    if self.loaded.keys.is_multiple_of(KEYS_PER_TELL) {
                        progress(self.source.inner().offset(), self.loaded.keys);
                    }
                }
            }
        }
        if version >= 5 {
            let counted = self.source.inner().checksum();
            let told = u64::from_le_bytes(self.source.array()?);
            // 0 says that whoever wrote the file did not count.
            if told != 0 && told != counted {
                return Err(Failure::Told(format!(
                    "the checksum is {counted:016x} where the file says {told:016x}: it was \
                     damaged after it was written"
                )));
            }
        }
        progress(self.source.inner().offset(), self.loaded.keys);
        Ok(())
    }

    /// Reads over what two servers mean by the same mark.
    fn skip_mark_243(&mut self) -> Result<(), Failure> {
        let count = match self.source.writer() {
            Writer::Redis => {
                let count = self.source.length()?;
                for _ in 0..count {
                    self.source.array::<4>()?;
                    skip_module_data(&mut self.source)?;
                }
                self.lose("metadata that a module, which is not here, kept beside a key");
                return Ok(());
            }
            Writer::Valkey => {
                self.source.string()?;
                self.source.length()?
            }
        };
        for _ in 0..count {
            self.source.length()?;
            self.source.length()?;
        }
        self.lose("the state of slots that were being moved to the node that wrote it");
        Ok(())
    }

    /// Takes over a library; its code runs, so that it tells which functions it has.
    fn read_library(&mut self, code: &[u8]) -> Result<(), Failure> {
        let collision = if self.options.merge { Collision::Replaces } else { Collision::Refused };
        let mut libraries = (*self.keyspace.libraries()).clone();
        let limits = self.keyspace.limits();
        match add_library(limits, &mut libraries, code, collision, &Alone) {
            Ok(_) => {
                self.keyspace.set_libraries(libraries);
                Ok(())
            }
            Err(error) => Err(Failure::Told(format!("a library of functions: {error}"))),
        }
    }

    fn header(&mut self) -> Result<u16, Failure> {
        /// Valkey left the versions below to Redis.
        const VALKEY_FROM: u16 = 80;
        let header: [u8; 9] = self.source.array()?;
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u16>().ok();
        let (digits, versions, writer) = match (header.strip_prefix(MAGIC), &header) {
            (Some(digits), _) => (digits, 1..=VALKEY_FROM - 1, Writer::Redis),
            (None, [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..]) => {
                (&digits[..], VALKEY_FROM..=999, Writer::Valkey)
            }
            _ => {
                return Err(Failure::Told(
                    "it begins with neither REDIS nor VALKEY: no RDB file".to_owned(),
                ));
            }
        };
        self.source.set_writer(writer);
        // What a later version added is told by the numbers of its types and marks.
        match number(digits).filter(|version| versions.contains(version)) {
            Some(version) => Ok(version),
            None => Err(Failure::Told(format!(
                "its version is {}, which is unknown here",
                digits.escape_ascii()
            ))),
        }
    }

    fn select(&mut self) -> Result<(), Failure> {
        let index = self.source.length()?;
        let databases = self.keyspace.databases();
        self.db = match u16::try_from(index) {
            Ok(index) if index < databases => DbIndex(index),
            _ => {
                return Err(Failure::Told(format!(
                    "it holds database {index} and there are {databases}: raise 'databases'"
                )));
            }
        };
        Ok(())
    }

    fn aux(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), Failure> {
        match &name[..] {
            AUX_PLACEMENT => {
                self.loaded.placed_alike = value == self.keyspace.placement().to_le_bytes();
            }
            AUX_MARKS => {
                let (head, marks) = value
                    .split_first_chunk::<4>()
                    .ok_or(DumpError::Damaged("the field holdfast-marks is not valid"))?;
                let (marks, _) = marks.as_chunks::<8>();
                self.marks.push(Marks {
                    db: DbIndex(u16::from_le_bytes([head[0], head[1]])),
                    shard: u16::from_le_bytes([head[2], head[3]]),
                    marks: marks.iter().map(|mark| u64::from_le_bytes(*mark)).collect(),
                });
            }
            AUX_LOCKS => {
                self.keyspace
                    .locks()
                    .restore(&value)
                    .ok_or(DumpError::Damaged("the field holdfast-locks is not valid"))?;
            }
            _ => {
                if name == b"valkey-ver" {
                    self.source.set_writer(Writer::Valkey);
                }
                self.loaded.aux.push((name, value));
            }
        }
        Ok(())
    }

    fn read_key(
        &mut self,
        kind: u8,
        expires_at: Option<UnixMillis>,
        aside: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), Failure> {
        /// What is told of one file is limited; a file may hold any number of it.
        const LISTED_MAX: usize = 1000;
        known(kind, self.source.writer())?;
        let key = self.key.insert(self.source.string()?);
        let fit = match self.beside.next_form() {
            Some(form) => Fit::As(form),
            None => Fit::By(self.keyspace.limits()),
        };
        let version = self.beside.next_version().unwrap_or(0);
        let mut value = match decode(kind, &mut self.source, fit) {
            Ok(value) => value,
            Err(DumpError::Empty) => {
                let what = format!("the key '{}', an empty collection", key.escape_ascii());
                self.lose(&what);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for what in self.source.take_corrected() {
            if self.loaded.corrected.len() < LISTED_MAX {
                self.loaded.corrected.push(format!("the key '{}': {what}", key.escape_ascii()));
            }
        }
        if let Some((name, told)) = aside {
            complete(&mut value, (&name, &told))?;
        }
        let record = value.into_record(key, expires_at);
        self.take(record, version)
    }

    fn read_lock(&mut self, told: &[u8]) -> Result<(), Failure> {
        let (record, version) = read_lock(told)?;
        self.key = Some(record.key().to_vec());
        self.take(record, version)
    }

    fn take(&mut self, record: Record, version: u64) -> Result<(), Failure> {
        if self.options.expired == Expired::Dropped && record.is_expired(self.options.now) {
            self.loaded.expired += 1;
            return Ok(());
        }
        let new = self.keyspace.load(self.db, record, version, self.options.now);
        if !new && !self.options.merge {
            return Err(Failure::Told("the key stands twice".to_owned()));
        }
        self.loaded.keys += 1;
        Ok(())
    }

    fn lose(&mut self, what: &str) {
        /// What is lost is listed so far; a file may hold any number of it.
        const LISTED_MAX: usize = 1000;
        if self.loaded.lost.len() < LISTED_MAX {
            self.loaded.lost.push(what.to_owned());
        }
    }
}

/// A module's name, nine letters of six bits each before ten bits of version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|nth| char::from(LETTERS[(id >> (10 + 6 * (8 - nth)) & 63) as usize])).collect()
}
