//! Redis's compact encodings, each a string of RDB: listpack, ziplist, zipmap, intset.
//!
//! Every reader checks all of it before anything is believed: lengths, counts, both directions.
//! Source: the layouts described in Redis's documentation of the RDB format.

use super::source::DumpError;
use crate::value::intset::IntSet;
use crate::value::listpack::Entry;
use crate::value::stream::element::{self, back_len, signed};

const LISTPACK_HEADER_LEN: usize = 6;
const ZIPLIST_HEADER_LEN: usize = 10;
const END: u8 = 0xff;
/// A count of this means "more than fits, walk".
const COUNT_UNKNOWN: u16 = u16::MAX;

const BAD_LISTPACK: DumpError = DumpError::Damaged("a listpack is not valid");
const BAD_ZIPLIST: DumpError = DumpError::Damaged("a ziplist is not valid");
const BAD_ZIPMAP: DumpError = DumpError::Damaged("a zipmap is not valid");
const BAD_INTSET: DumpError = DumpError::Damaged("an intset is not valid");

/// Writes a listpack entry by entry.
#[derive(Debug)]
pub struct ListpackWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl ListpackWriter {
    /// An empty listpack with room for `len` bytes.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        let mut bytes = Vec::with_capacity(LISTPACK_HEADER_LEN + len + 1);
        bytes.resize(LISTPACK_HEADER_LEN, 0);
        Self { bytes, count: 0 }
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: Entry<'_>) {
        element::push(&mut self.bytes, entry);
        self.count += 1;
    }

    /// Appends a string that is no canonical integer.
    pub fn push_bytes(&mut self, text: &[u8]) {
        self.push(Entry::Bytes(text));
    }

    /// The listpack.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let len = (self.bytes.len() as u32).to_le_bytes();
        self.bytes[..4].copy_from_slice(&len);
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..LISTPACK_HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

/// The entries of a listpack.
///
/// # Errors
/// When it is not valid.
pub fn listpack(bytes: &[u8]) -> Result<Vec<Entry<'_>>, DumpError> {
    let (header, rest) = bytes.split_at_checked(LISTPACK_HEADER_LEN).ok_or(BAD_LISTPACK)?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let count = u16::from_le_bytes([header[4], header[5]]);
    let (last, mut rest) = rest.split_last().ok_or(BAD_LISTPACK)?;
    if len as usize != bytes.len() || *last != END {
        return Err(BAD_LISTPACK);
    }
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, len) = element::decode(rest).ok_or(BAD_LISTPACK)?;
        let back = back_len(len);
        let behind = rest.get(len..len + back).ok_or(BAD_LISTPACK)?;
        let told = behind.iter().fold(0usize, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        if told != len {
            return Err(BAD_LISTPACK);
        }
        entries.push(entry);
        rest = &rest[len + back..];
    }
    if count != COUNT_UNKNOWN && usize::from(count) != entries.len() {
        return Err(BAD_LISTPACK);
    }
    Ok(entries)
}

/// The entries of a ziplist.
///
/// # Errors
/// When it is not valid.
pub fn ziplist(bytes: &[u8]) -> Result<Vec<Entry<'_>>, DumpError> {
    let (header, rest) = bytes.split_at_checked(ZIPLIST_HEADER_LEN).ok_or(BAD_ZIPLIST)?;
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
    };
    let count = u16::from_le_bytes([header[8], header[9]]);
    let (last, mut rest) = rest.split_last().ok_or(BAD_ZIPLIST)?;
    if word(0) != bytes.len() || *last != END {
        return Err(BAD_ZIPLIST);
    }
    let mut entries = Vec::new();
    let (mut before, mut tail) = (0, ZIPLIST_HEADER_LEN);
    while !rest.is_empty() {
        tail = bytes.len() - 1 - rest.len();
        let (told, head) = match *rest {
            [0xfe, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 5),
            [len @ ..0xfe, ..] => (usize::from(len), 1),
            _ => return Err(BAD_ZIPLIST),
        };
        let (entry, len) = ziplist_entry(&rest[head..]).ok_or(BAD_ZIPLIST)?;
        if told != before {
            return Err(BAD_ZIPLIST);
        }
        before = head + len;
        entries.push(entry);
        rest = &rest[before..];
    }
    let counted = count == COUNT_UNKNOWN || usize::from(count) == entries.len();
    if !counted || word(4) != tail {
        return Err(BAD_ZIPLIST);
    }
    Ok(entries)
}

/// The entry of a ziplist behind its back length, and how long it is.
fn ziplist_entry(rest: &[u8]) -> Option<(Entry<'_>, usize)> {
    let first = *rest.first()?;
    let text = |head: usize, len: usize| {
        let bytes = rest.get(head..head.checked_add(len)?)?;
        Some((Entry::Bytes(bytes), head + len))
    };
    let number = |len: usize| Some((Entry::Integer(signed(rest.get(1..=len)?)), 1 + len));
    match first {
        0x00..=0x3f => text(1, usize::from(first)),
        0x40..=0x7f => text(2, usize::from(first & 0x3f) << 8 | usize::from(*rest.get(1)?)),
        0x80 => text(5, u32::from_be_bytes(*rest.get(1..)?.first_chunk()?) as usize),
        0xc0 => number(2),
        0xd0 => number(4),
        0xe0 => number(8),
        0xf0 => number(3),
        0xfe => number(1),
        0xf1..=0xfd => Some((Entry::Integer(i64::from(first - 0xf1)), 1)),
        _ => None,
    }
}

/// The fields and values of a zipmap, in turn.
///
/// # Errors
/// When it is not valid.
pub fn zipmap(bytes: &[u8]) -> Result<Vec<Entry<'_>>, DumpError> {
    let mut rest = bytes.get(1..).ok_or(BAD_ZIPMAP)?;
    let mut entries = Vec::new();
    fn len_of(rest: &[u8]) -> Option<(usize, &[u8])> {
        match rest {
            [254, a, b, c, d, rest @ ..] => {
                Some((u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest))
            }
            [len @ ..254, rest @ ..] => Some((usize::from(*len), rest)),
            _ => None,
        }
    }
    loop {
        match rest {
            [END] => return Ok(entries),
            [] => return Err(BAD_ZIPMAP),
            _ => {}
        }
        let (len, after) = len_of(rest).ok_or(BAD_ZIPMAP)?;
        let (field, after) = after.split_at_checked(len).ok_or(BAD_ZIPMAP)?;
        let (len, after) = len_of(after).ok_or(BAD_ZIPMAP)?;
        let (free, after) = after.split_first().ok_or(BAD_ZIPMAP)?;
        let (value, after) = after.split_at_checked(len).ok_or(BAD_ZIPMAP)?;
        rest = after.get(usize::from(*free)..).ok_or(BAD_ZIPMAP)?;
        entries.extend([Entry::Bytes(field), Entry::Bytes(value)]);
    }
}

/// The bytes of an intset.
#[must_use]
pub fn write_intset(set: &IntSet) -> Vec<u8> {
    let widest = [set.get(0), set.iter().next_back()].into_iter().flatten();
    let width = widest.map(width_of).max().unwrap_or(2);
    let mut bytes = Vec::with_capacity(8 + width * set.len());
    bytes.extend((width as u32).to_le_bytes());
    bytes.extend((set.len() as u32).to_le_bytes());
    for number in set.iter() {
        bytes.extend_from_slice(&number.to_le_bytes()[..width]);
    }
    bytes
}

fn width_of(number: i64) -> usize {
    if i16::try_from(number).is_ok() {
        2
    } else if i32::try_from(number).is_ok() {
        4
    } else {
        8
    }
}

/// The integers of an intset, ascending.
///
/// # Errors
/// When it is not valid.
pub fn intset(bytes: &[u8]) -> Result<Vec<i64>, DumpError> {
    let (header, rest) = bytes.split_at_checked(8).ok_or(BAD_INTSET)?;
    let width = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if ![2, 4, 8].contains(&width) || rest.len() != count.saturating_mul(width) {
        return Err(BAD_INTSET);
    }
    let numbers: Vec<i64> = rest.chunks_exact(width).map(signed).collect();
    if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(BAD_INTSET);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_listpack_is_laid_out_as_redis_has_it() {
        let mut writer = ListpackWriter::with_capacity(0);
        writer.push(Entry::Integer(1));
        writer.push(Entry::Bytes(b"ab"));
        writer.push(Entry::Integer(-1));
        let bytes = writer.finish();
        let expected = b"\x10\0\0\0\x03\0\x01\x01\x82ab\x03\xdf\xff\x02\xff";
        assert_eq!(bytes, expected[..bytes.len()]);
        assert_eq!(bytes.len(), expected.len());
    }

    #[test]
    fn old_encodings_are_read() {
        // Two entries: "a" and 5.
        let list = b"\x0f\0\0\0\x0d\0\0\0\x02\0\0\x01a\x03\xf6\xff";
        let len = list.len() as u8;
        let mut bytes = list.to_vec();
        bytes[0] = len;
        assert_eq!(ziplist(&bytes).ok(), Some(vec![Entry::Bytes(b"a"), Entry::Integer(5)]));
        let map = b"\x01\x01f\x02\x01vv!\xff";
        assert_eq!(zipmap(map).ok(), Some(vec![Entry::Bytes(b"f"), Entry::Bytes(b"vv")]));
        assert!(intset(b"\x02\0\0\0\x02\0\0\0\x01\0\x02\0").is_ok());
        assert!(intset(b"\x02\0\0\0\x02\0\0\0\x02\0\x01\0").is_err());
    }

    proptest! {
            #[test]
            fn listpacks_come_back(
                numbers in prop::collection::vec((0u32..64)
    .prop_map(|shift| i64::MIN >> shift), 0..20),
                texts in prop::collection::vec(prop::collection::vec(1u8..5, 1..200), 0..20),
                long in 0usize..40_000)
            {
                let long = vec![7u8; long + 1];
                let mut writer = ListpackWriter::with_capacity(0);
                let mut entries: Vec<Entry<'_>> = Vec::new();
                for number in &numbers {
                    entries.extend([*number, !*number].map(Entry::Integer));
                }
                entries.extend(texts.iter().map(|text| Entry::Bytes(text)));
                entries.push(Entry::Bytes(&long));
                entries.iter().for_each(|entry| writer.push(*entry));
                let bytes = writer.finish();
                prop_assert_eq!(listpack(&bytes).ok(), Some(entries));
            }

            #[test]
            fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), flip in 0usize..100) {
                let _ = (listpack(&bytes), ziplist(&bytes), zipmap(&bytes), intset(&bytes));
                let mut framed = bytes.clone();
                framed.push(END);
                let len = framed.len() + LISTPACK_HEADER_LEN;
                let mut listed = (len as u32).to_le_bytes().to_vec();
                listed.extend([0xff, 0xff]);
                listed.extend(&framed);
                let at = flip % listed.len();
                let _ = listpack(&listed);
                listed[at] ^= 1;
                let _ = listpack(&listed);
            }
        }
}
