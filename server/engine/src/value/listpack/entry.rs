//! One entry of a listpack: its head, its body and the integers and strings they stand for.

use crate::reply::{BulkList, Reply};
use crate::value::integer_text;

/// Heads up to this are strings of that many bytes.
const SHORT_MAX: u8 = 191;
/// Heads from here to [`SMALL_LAST`] are the integers 0 to 55, without a body.
const SMALL_FIRST: u8 = SHORT_MAX + 1;
const SMALL_LAST: u8 = 247;
/// Integers of 1, 2, 3, 4, 6 and 8 bytes, little-endian.
const INT_FIRST: u8 = 248;
const INT_LENS: [u8; 6] = [1, 2, 3, 4, 6, 8];
/// A string with its length as `u32 LE` on both sides.
pub(super) const LONG: u8 = 254;
const LONG_FRAME: usize = 8;

/// Body length by head; of [`LONG`] only the frame.
pub(super) const BODY_LEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut head = 0;
    while head <= SHORT_MAX as usize {
        table[head] = head as u8;
        head += 1;
    }
    let mut width = 0;
    while width < INT_LENS.len() {
        table[INT_FIRST as usize + width] = INT_LENS[width];
        width += 1;
    }
    table[LONG as usize] = LONG_FRAME as u8;
    table
};

/// One entry, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Bytes that are no canonical integer.
    Bytes(&'a [u8]),
    /// The decimal text of this number.
    Integer(i64),
}

impl<'a> Entry<'a> {
    /// The entry's bytes; `room` is where the text of an integer is written.
    #[inline]
    pub fn text<'b>(self, room: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Integer(number) => room.format(number).as_bytes(),
        }
    }

    /// A copy of the entry's bytes.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }

    /// Length of the entry's bytes.
    #[must_use]
    pub fn text_len(self) -> usize {
        self.text(&mut itoa::Buffer::new()).len()
    }

    /// The bulk reply of this entry.
    #[inline]
    #[must_use]
    pub fn reply(self) -> Reply {
        Reply::bulk(self.text(&mut itoa::Buffer::new()))
    }

    /// Appends the entry to a long reply.
    #[inline]
    pub fn push_to(self, list: &mut BulkList) {
        match self {
            Self::Bytes(bytes) => list.push(bytes),
            Self::Integer(number) => list.push_integer(number),
        }
    }

    /// The number, if the entry is one in canonical decimal.
    #[must_use]
    pub fn integer(self) -> Option<i64> {
        match self {
            Self::Bytes(_) => None,
            Self::Integer(number) => Some(number),
        }
    }

    /// Bytes this entry takes in Redis's listpack, by which Redis chooses encodings.
    #[must_use]
    pub fn redis_len(self) -> usize {
        match self {
            Self::Bytes(bytes) => redis_len_of_bytes(bytes.len()),
            Self::Integer(number) => match number {
                0..=127 => 2,
                -4096..=4095 => 3,
                -32_768..=32_767 => 4,
                -8_388_608..=8_388_607 => 5,
                -2_147_483_648..=2_147_483_647 => 6,
                _ => 10,
            },
        }
    }
}

/// Bytes a string of `len` bytes takes in Redis's listpack: head, content, back length.
fn redis_len_of_bytes(len: usize) -> usize {
    let headed = len
        + match len {
            0..=63 => 1,
            64..=4095 => 2,
            _ => 5,
        };
    headed
        + match headed {
            0..=127 => 1,
            128..=16_383 => 2,
            16_384..=2_097_151 => 3,
            2_097_152..=268_435_455 => 4,
            _ => 5,
        }
}

/// A byte string in the form it is stored, made once for a search or an insertion.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    pub(super) head: u8,
    number: [u8; 8],
    text: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Encodes `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        match integer_text(bytes) {
            Some(number) => Self::integer(number),
            None => Self {
                head: if bytes.len() <= usize::from(SHORT_MAX) { bytes.len() as u8 } else { LONG },
                number: [0; 8],
                text: bytes,
            },
        }
    }

    /// Encodes the decimal text of `number`.
    #[inline]
    #[must_use]
    pub fn integer(number: i64) -> Self {
        /// How many integers need no body.
        const SMALL_COUNT: i64 = (SMALL_LAST - SMALL_FIRST) as i64 + 1;
        let head = if (0..SMALL_COUNT).contains(&number) {
            SMALL_FIRST + number as u8
        } else {
            // Bits that the two's complement needs, its sign included.
            let bits = 65 - (if number < 0 { !number } else { number }).leading_zeros();
            INT_FIRST
                + match bits {
                    ..=8 => 0,
                    9..=16 => 1,
                    17..=24 => 2,
                    25..=32 => 3,
                    33..=48 => 4,
                    _ => 5,
                }
        };
        Self { head, number: number.to_le_bytes(), text: &[] }
    }

    /// The entry this becomes.
    #[must_use]
    pub fn entry(self) -> Entry<'a> {
        if self.head <= SHORT_MAX || self.head == LONG {
            Entry::Bytes(self.text)
        } else {
            Entry::Integer(i64::from_le_bytes(self.number))
        }
    }

    /// Bytes it takes in a listpack, its head included.
    #[inline]
    #[must_use]
    pub fn packed_len(&self) -> usize {
        1 + self.body_len()
    }

    #[inline]
    pub(super) fn body_len(&self) -> usize {
        let len = usize::from(BODY_LEN[usize::from(self.head)]);
        if self.head == LONG { len + self.text.len() } else { len }
    }

    #[inline]
    pub(super) fn write(&self, body: &mut [u8]) {
        if self.head <= SHORT_MAX {
            body.copy_from_slice(self.text);
        } else if self.head == LONG {
            let len = (self.text.len() as u32).to_le_bytes();
            let (text, behind) = body[4..].split_at_mut(self.text.len());
            text.copy_from_slice(self.text);
            behind.copy_from_slice(&len);
            body[..4].copy_from_slice(&len);
        } else {
            body.copy_from_slice(&self.number[..body.len()]);
        }
    }

    #[inline]
    pub(super) fn is_body(&self, body: &[u8]) -> bool {
        if self.head <= SHORT_MAX {
            body == self.text
        } else if self.head == LONG {
            &body[4..body.len() - 4] == self.text
        } else {
            body == &self.number[..body.len()]
        }
    }
}

#[inline]
pub(super) fn decode(head: u8, body: &[u8]) -> Entry<'_> {
    match head {
        ..=SHORT_MAX => Entry::Bytes(body),
        SMALL_FIRST..=SMALL_LAST => Entry::Integer(i64::from(head - SMALL_FIRST)),
        LONG => Entry::Bytes(&body[4..body.len() - 4]),
        _ => {
            let negative = body.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut number = [if negative { 0xff } else { 0 }; 8];
            number[..body.len()].copy_from_slice(body);
            Entry::Integer(i64::from_le_bytes(number))
        }
    }
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> usize {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word) as usize
}
