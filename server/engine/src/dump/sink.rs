//! Writing RDB's primitives: lengths, strings, fixed-width numbers.

use super::lzf::Compressor;

/// Strings longer than this are worth an attempt to compress them.
const COMPRESS_FROM: usize = 21;
/// Longest text of an integer that RDB stores in binary: `-2147483648`.
const INTEGER_TEXT_MAX: usize = 11;

/// What RDB is written to: memory, which the caller hands on.
#[derive(Debug, Default)]
pub struct Sink {
    /// What was written.
    pub bytes: Vec<u8>,
    lzf: Option<Compressor>,
}

impl Sink {
    /// A sink that leaves strings as they are.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// A sink that compresses long strings where that pays.
    #[must_use]
    pub fn compressing() -> Self {
        Self { bytes: Vec::new(), lzf: Some(Compressor::default()) }
    }

    /// Writes a byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes a length.
    #[inline]
    pub fn len(&mut self, len: u64) {
        match len {
            0..=63 => self.byte(len as u8),
            64..=16_383 => self.raw(&(0x4000 | len as u16).to_be_bytes()),
            _ => match u32::try_from(len) {
                Ok(len) => {
                    self.byte(0x80);
                    self.raw(&len.to_be_bytes());
                }
                Err(_) => {
                    self.byte(0x81);
                    self.raw(&len.to_be_bytes());
                }
            },
        }
    }

    /// Writes a string: as an integer, compressed, or as it is.
    pub fn string(&mut self, text: &[u8]) {
        if text.len() <= INTEGER_TEXT_MAX
            && let Some(number) = crate::value::integer_text(text)
            && self.small_integer(number)
        {
            return;
        }
        if text.len() >= COMPRESS_FROM && self.compressed(text) {
            return;
        }
        self.len(text.len() as u64);
        self.raw(text);
    }

    /// Writes the decimal text of a number.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        if !self.small_integer(number) {
            let mut room = itoa::Buffer::new();
            let text = room.format(number).as_bytes();
            self.len(text.len() as u64);
            self.raw(text);
        }
    }

    /// Writes an integer of at most 32 bits in binary; false if it is a wider one.
    #[inline]
    fn small_integer(&mut self, number: i64) -> bool {
        if let Ok(number) = i8::try_from(number) {
            self.byte(0xc0);
            self.raw(&number.to_le_bytes());
        } else if let Ok(number) = i16::try_from(number) {
            self.byte(0xc1);
            self.raw(&number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.byte(0xc2);
            self.raw(&number.to_le_bytes());
        } else {
            return false;
        }
        true
    }

    fn compressed(&mut self, text: &[u8]) -> bool {
        /// Room for the mark and two lengths of at most nine bytes.
        const FRAME: usize = 19;
        let Some(mut lzf) = self.lzf.take() else { return false };
        let begin = self.bytes.len();
        // The lengths stand before what they measure: it is written behind a gap and moved.
        self.bytes.resize(begin + FRAME, 0);
        let done = lzf.compress(text, &mut self.bytes);
        self.lzf = Some(lzf);
        let body = self.bytes.len() - begin - FRAME;
        if !done {
            self.bytes.truncate(begin);
            return false;
        }
        let mut frame = Self::plain();
        frame.byte(0xc3);
        frame.len(body as u64);
        frame.len(text.len() as u64);
        let len = frame.bytes.len();
        self.bytes[begin..begin + len].copy_from_slice(&frame.bytes);
        self.bytes.copy_within(begin + FRAME.., begin + len);
        self.bytes.truncate(begin + len + body);
        true
    }
}
