//! An element of a listpack in Redis's layout: `[head, content] [length of that, readable from
//! behind]`. Streams keep their entries so, and RDB has small collections so.

use crate::value::integer_text;
use crate::value::listpack::Entry;

/// Bytes of the length behind `len` bytes. The bounds are Redis's, off by one and all.
#[must_use]
pub fn back_len(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Appends an element.
pub fn push(out: &mut Vec<u8>, entry: Entry<'_>) {
    let begin = out.len();
    match entry {
        Entry::Integer(number) => write_integer(out, number),
        Entry::Bytes(bytes) => write_bytes(out, bytes),
    }
    let len = out.len() - begin;
    let groups = back_len(len);
    for group in (0..groups).rev() {
        let bits = (len >> (7 * group)) as u8 & 0x7f;
        out.push(if group + 1 == groups { bits } else { bits | 0x80 });
    }
}

/// Appends a text, as an integer if it is the canonical text of one.
pub fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push(out, integer_text(text).map_or(Entry::Bytes(text), Entry::Integer));
}

fn write_integer(out: &mut Vec<u8>, number: i64) {
    match number {
        0..=127 => out.push(number as u8),
        -4096..=4095 => {
            let bits = (number & 0x1fff) as u16;
            out.extend((0xc000 | bits).to_be_bytes());
        }
        _ => {
            let (mark, len) = match number {
                -32_768..=32_767 => (0xf1, 2),
                -8_388_608..=8_388_607 => (0xf2, 3),
                -2_147_483_648..=2_147_483_647 => (0xf3, 4),
                _ => (0xf4, 8),
            };
            out.push(mark);
            out.extend_from_slice(&number.to_le_bytes()[..len]);
        }
    }
}

fn write_bytes(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..=63 => out.push(0x80 | len as u8),
        len @ 64..=4095 => out.extend((0xe000 | len as u16).to_be_bytes()),
        len => {
            out.push(0xf0);
            out.extend((len as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// The element at the beginning of `rest`, and its length without the one behind it.
#[must_use]
pub fn decode(rest: &[u8]) -> Option<(Entry<'_>, usize)> {
    let first = *rest.first()?;
    let text = |head: usize, len: usize| {
        let bytes = rest.get(head..head.checked_add(len)?)?;
        Some((Entry::Bytes(bytes), head + len))
    };
    let number = |len: usize| Some((Entry::Integer(signed(rest.get(1..=len)?)), 1 + len));
    match first {
        0x00..=0x7f => Some((Entry::Integer(first.into()), 1)),
        0x80..=0xbf => text(1, usize::from(first & 0x3f)),
        0xc0..=0xdf => {
            let bits = i64::from(first & 0x1f) << 8 | i64::from(*rest.get(1)?);
            Some((Entry::Integer(if bits >= 4096 { bits - 8192 } else { bits }), 2))
        }
        0xe0..=0xef => text(2, usize::from(first & 0x0f) << 8 | usize::from(*rest.get(1)?)),
        0xf0 => text(5, u32::from_le_bytes(*rest.get(1..)?.first_chunk()?) as usize),
        0xf1 => number(2),
        0xf2 => number(3),
        0xf3 => number(4),
        0xf4 => number(8),
        _ => None,
    }
}

/// The number that bytes are in two's complement, the lowest first.
#[must_use]
pub fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut number = [if negative { 0xff } else { 0 }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(number)
}

/// Takes the first element off `rest`, which must be whole elements.
#[inline]
#[must_use]
pub fn take<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (entry, len) = decode(rest)?;
    *rest = rest.get(len + back_len(len)..)?;
    Some(entry)
}

/// How long the last element of `bytes` is, with the length behind it.
#[must_use]
pub fn last_len(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (group, byte) in bytes.iter().rev().take(5).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some(len + group + 1).filter(|whole| *whole <= bytes.len());
        }
    }
    None
}
