//! Reading RDB's primitives. Nothing is believed: a length takes memory only as bytes arrive.

use std::io::Read;

use super::lzf;

/// Why RDB could not be read.
#[derive(Debug)]
pub enum DumpError {
    /// It ends too early.
    Truncated,
    /// The bytes could not be had.
    Io(std::io::Error),
    /// It is a collection without elements, which no key can hold.
    Empty,
    /// It is not what it says it is.
    Damaged(&'static str),
    /// It holds what this server does not have.
    Unsupported(&'static str),
    /// It holds a value of a type that is not known here.
    UnknownType(u8),
    /// It holds a mark between values that is not known here.
    UnknownMark(u8),
}

impl std::fmt::Display for DumpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => f.write_str("it ends too early"),
            Self::Empty => f.write_str("it holds an empty collection"),
            Self::Io(error) => write!(f, "it could not be read: {error}"),
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::UnknownType(number) => write!(
                f,
                "it holds a value of type {number}, which is unknown here: a newer server wrote it, or \
                 it is damaged"
            ),
            Self::UnknownMark(number) => write!(
                f,
                "it holds the mark {number}, which is unknown here: a newer server wrote it, or it is \
                 damaged"
            ),
            Self::Unsupported(what) => write!(f, "it holds {what}, which this server has not"),
        }
    }
}

impl std::error::Error for DumpError {}

impl From<std::io::Error> for DumpError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(error)
        }
    }
}

/// A length as RDB writes it, or how an encoded string follows.
enum Length {
    Of(u64),
    Encoded(u8),
}

const ENCODED_INT8: u8 = 0;
const ENCODED_INT16: u8 = 1;
const ENCODED_INT32: u8 = 2;
const ENCODED_LZF: u8 = 3;

/// What RDB is read from.
#[derive(Debug)]
pub struct Source<R> {
    inner: R,
    writer: Writer,
    corrected: Vec<String>,
}

/// Whose numbers of types and marks are read: Redis and Valkey gave the same ones to different
/// things after Redis 7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writer {
    /// Redis, and Holdfast, which writes no types that are in dispute.
    #[default]
    Redis,
    /// Valkey.
    Valkey,
}

impl<R: Read> Source<R> {
    /// A source of what `inner` gives; it should be buffered.
    pub fn new(inner: R) -> Self {
        Self { inner, writer: Writer::default(), corrected: Vec::new() }
    }

    /// Who wrote what is read; Redis until something else is said.
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// Says who wrote what is read.
    pub fn set_writer(&mut self, writer: Writer) {
        self.writer = writer;
    }

    /// Notes that the value that is read said something of itself that was put right.
    pub(super) fn correct(&mut self, what: String) {
        self.corrected.push(what);
    }

    /// What was put right since the last call.
    pub fn take_corrected(&mut self) -> Vec<String> {
        std::mem::take(&mut self.corrected)
    }

    /// What it reads from.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// As [`Source::inner`], to be changed.
    pub fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// `N` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A byte.
    ///
    /// # Errors
    /// When there is none.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, DumpError> {
        Ok(self.array::<1>()?[0])
    }

    /// `len` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn bytes(&mut self, len: u64) -> Result<Vec<u8>, DumpError> {
        /// Memory is taken in steps, so that a false length costs no more than what is there.
        const STEP: usize = 1 << 20;
        let len = usize::try_from(len).map_err(|_| DumpError::Truncated)?;
        let mut bytes = vec![0; len.min(STEP)];
        self.inner.read_exact(&mut bytes)?;
        while bytes.len() < len {
            let have = bytes.len();
            let more = have.max(STEP).min(len - have);
            bytes.resize(have + more, 0);
            self.inner.read_exact(&mut bytes[have..])?;
        }
        Ok(bytes)
    }

    fn length_or_encoding(&mut self) -> Result<Length, DumpError> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Of(u64::from(first)),
            1 => Length::Of(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Length::Of(u64::from(u32::from_be_bytes(self.array()?))),
            2 if first == 0x81 => Length::Of(u64::from_be_bytes(self.array()?)),
            2 => return Err(DumpError::Damaged("an unknown form of length")),
            _ => Length::Encoded(first & 0x3f),
        })
    }

    /// A length.
    ///
    /// # Errors
    /// When there is none.
    pub fn length(&mut self) -> Result<u64, DumpError> {
        match self.length_or_encoding()? {
            Length::Of(len) => Ok(len),
            Length::Encoded(_) => Err(DumpError::Damaged("a string where a length should be")),
        }
    }

    /// A string, whatever its encoding.
    ///
    /// # Errors
    /// When it is cut short or damaged.
    pub fn string(&mut self) -> Result<Vec<u8>, DumpError> {
        let text = |number: i64| itoa::Buffer::new().format(number).as_bytes().to_vec();
        match self.length_or_encoding()? {
            Length::Of(len) => self.bytes(len),
            Length::Encoded(ENCODED_INT8) => Ok(text(i8::from_le_bytes(self.array()?).into())),
            Length::Encoded(ENCODED_INT16) => Ok(text(i16::from_le_bytes(self.array()?).into())),
            Length::Encoded(ENCODED_INT32) => Ok(text(i32::from_le_bytes(self.array()?).into())),
            Length::Encoded(ENCODED_LZF) => {
                let (packed, len) = (self.length()?, self.length()?);
                let packed = self.bytes(packed)?;
                usize::try_from(len)
                    .ok()
                    .and_then(|len| lzf::decompress(&packed, len))
                    .ok_or(DumpError::Damaged("a compressed string does not unpack"))
            }
            Length::Encoded(_) => Err(DumpError::Damaged("an unknown encoding of a string")),
        }
    }

    /// A score as its eight bytes.
    ///
    /// # Errors
    /// When it is no number.
    pub fn score(&mut self) -> Result<f64, DumpError> {
        number(f64::from_le_bytes(self.array()?))
    }

    /// A score as old files have it: text behind its length.
    ///
    /// # Errors
    /// When it is no number.
    pub fn old_score(&mut self) -> Result<f64, DumpError> {
        match self.byte()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => number(f64::NAN),
            len => score_of_text(&self.bytes(len.into())?),
        }
    }
}

fn number(score: f64) -> Result<f64, DumpError> {
    if score.is_nan() { Err(DumpError::Damaged("a score is not a number")) } else { Ok(score) }
}

/// The score that a text tells.
pub(super) fn score_of_text(text: &[u8]) -> Result<f64, DumpError> {
    let score = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    number(score.unwrap_or(f64::NAN))
}
