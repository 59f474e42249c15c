//! The shapes values take; pure data, no keys and no expiry.

pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod list;
pub mod listpack;
pub mod lock;
pub mod long_double;
pub(crate) mod members;
pub mod number;
pub mod offered;
pub mod set;
pub mod sorted_set;
pub mod stream;

use std::sync::Arc;

use crate::command::Group;
use hash::Hash;
use list::List;
use lock::{Full, Lock, Short};
pub use members::seed_members;
use set::Set;
use sorted_set::SortedSet;
use stream::Stream;

/// A value too large or too structured to stand in its record.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A long string. Shared, so that a reply can hold it while it is replaced; changed in place
    /// when no reply does.
    String(Arc<Vec<u8>>),
    /// Fields with values.
    Hash(Hash),
    /// A sequence.
    List(List),
    /// Distinct members.
    Set(Set),
    /// Members ordered by score.
    SortedSet(SortedSet),
    /// Entries by id, and who reads them.
    Stream(Box<Stream>),
    /// A lock of one plain exclusive holder, whose expiry is the record's.
    ShortLock(Short),
    /// Any other lock; the record's expiry is the end of all that it has.
    Lock(Box<Full>),
}

impl Object {
    /// The name TYPE gives.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::SortedSet(_) => "zset",
            Self::Stream(_) => "stream",
            Self::ShortLock(_) | Self::Lock(_) => "lock",
        }
    }

    /// The group of commands that work on it.
    #[must_use]
    pub const fn group(&self) -> Group {
        match self {
            Self::String(_) => Group::String,
            Self::Hash(_) => Group::Hash,
            Self::List(_) => Group::List,
            Self::Set(_) => Group::Set,
            Self::SortedSet(_) => Group::SortedSet,
            Self::Stream(_) => Group::Stream,
            Self::ShortLock(_) | Self::Lock(_) => Group::Lock,
        }
    }

    /// The name OBJECT ENCODING gives.
    #[must_use]
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::String(_) => "raw",
            Self::Hash(hash) => hash.encoding(),
            Self::List(list) => list.encoding(),
            Self::Set(set) => set.encoding(),
            Self::SortedSet(set) => set.encoding(),
            Self::Stream(_) => "stream",
            Self::ShortLock(lock) => Lock::Short(lock).encoding(),
            Self::Lock(lock) => Lock::Full(lock).encoding(),
        }
    }

    /// Feeds the content to `hasher`; equal values feed the same bytes whatever their encoding.
    pub fn digest(&self, hasher: &mut impl std::hash::Hasher) {
        match self {
            Self::String(bytes) => hasher.write(bytes),
            Self::Hash(hash) => hash.digest(hasher),
            Self::List(list) => list.digest(hasher),
            Self::Set(set) => set.digest(hasher),
            Self::SortedSet(set) => set.digest(hasher),
            Self::Stream(stream) => stream.digest(hasher),
            Self::ShortLock(lock) => Lock::Short(lock).digest(hasher),
            Self::Lock(lock) => Lock::Full(lock).digest(hasher),
        }
    }

    /// About how many steps freeing it takes: large ones are freed off the hot path.
    #[must_use]
    pub fn free_effort(&self) -> usize {
        match self {
            Self::String(bytes) => bytes.len() >> 16,
            Self::Hash(hash) => hash.free_effort(),
            Self::List(list) => list.free_effort(),
            Self::Set(set) => set.free_effort(),
            Self::SortedSet(set) => set.free_effort(),
            Self::Stream(stream) => stream.free_effort(),
            Self::ShortLock(_) => 0,
            Self::Lock(lock) => lock.len(),
        }
    }

    /// Bytes on the heap behind the record, about; the object itself stands in the record.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        match self {
            Self::String(bytes) => bytes.capacity() + 40,
            Self::Hash(hash) => hash.memory_len(),
            Self::List(list) => list.memory_len(),
            Self::Set(set) => set.memory_len(),
            Self::SortedSet(set) => set.memory_len(),
            Self::Stream(stream) => stream.memory_len(),
            Self::ShortLock(_) => 0,
            Self::Lock(lock) => lock.memory_len(),
        }
    }
}

/// The number whose decimal text `bytes` is to the letter: no sign but `-`, no leading zero, no
/// space, in the range of an `i64`.
#[inline]
#[must_use]
pub fn integer_text(bytes: &[u8]) -> Option<i64> {
    /// Length of `-9223372036854775808`.
    const LEN_MAX: usize = 20;
    let first = *bytes.first()?;
    if bytes.len() > LEN_MAX || !(first.is_ascii_digit() || first == b'-') {
        return None;
    }
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] | [b'0', _, ..] => return None,
        [b'0'] => return (!negative).then_some(0),
        _ => {}
    }
    let mut magnitude: u64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_stays_small() {
        // Every key that is no string pays for it.
        assert!(size_of::<Object>() <= 32, "{}", size_of::<Object>());
    }

    #[test]
    fn only_canonical_integers_are_integers() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
        ] {
            assert_eq!(integer_text(text.as_bytes()), number, "{text:?}");
        }
    }
}
