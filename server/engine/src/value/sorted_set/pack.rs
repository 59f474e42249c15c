//! The small encoding: member, score, member, score … in order, in one listpack.
//!
//! A score that is a whole number stands as an integer, hence -0 becomes 0 here, as in Redis;
//! any other as its bits behind a letter that tells their number.

use super::super::listpack::{Entry, Listpack, Packed};
use super::Bound;

/// Whole numbers up to here stand as integers; the bound is Redis's.
const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
/// Before the four bytes of a score that a single-precision number holds.
const SINGLE: u8 = b's';
/// Before the eight bytes of any other.
const DOUBLE: u8 = b'd';

/// A score as an entry.
pub(super) struct PackedScore {
    bytes: [u8; 9],
    len: usize,
    whole: Option<i64>,
}

impl PackedScore {
    pub(super) fn new(score: f64) -> Self {
        let (mut bytes, mut len, mut whole) = ([DOUBLE; 9], 9, None);
        if score.abs() <= WHOLE_MAX && score.trunc() == score {
            whole = Some(score as i64);
        } else if f64::from(score as f32) == score {
            bytes[0] = SINGLE;
            bytes[1..5].copy_from_slice(&(score as f32).to_le_bytes());
            len = 5;
        } else {
            bytes[1..].copy_from_slice(&score.to_le_bytes());
        }
        Self { bytes, len, whole }
    }

    pub(super) fn packed(&self) -> Packed<'_> {
        match self.whole {
            Some(number) => Packed::integer(number),
            None => Packed::new(&self.bytes[..self.len]),
        }
    }
}

#[inline]
pub(super) fn score_of(entry: Entry<'_>) -> f64 {
    match entry {
        Entry::Integer(number) => number as f64,
        Entry::Bytes(&[SINGLE, a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        Entry::Bytes(&[DOUBLE, a, b, c, d, e, f, g, h]) => {
            f64::from_le_bytes([a, b, c, d, e, f, g, h])
        }
        Entry::Bytes(_) => unreachable!("Invariant: every second entry of a sorted set is a score"),
    }
}

/// The index of the member's entry, and its score.
pub(super) fn find(pack: &Listpack, member: &[u8]) -> Option<(usize, f64)> {
    let index = pack.find(&Packed::new(member), 0, 2)?;
    let score = pack.get(index + 1).map(score_of)?;
    Some((index, score))
}

/// The elements in order.
pub(super) fn elements(pack: &Listpack) -> impl Iterator<Item = (Entry<'_>, f64)> {
    let mut entries = pack.iter();
    std::iter::from_fn(move || Some((entries.next()?, score_of(entries.next()?))))
}

/// How many elements stand before `bound`.
pub(super) fn rank(pack: &Listpack, bound: Bound<'_>) -> usize {
    elements(pack)
        .take_while(|(member, score)| {
            let text = &mut itoa::Buffer::new();
            match bound {
                Bound::Below(limit) => *score < limit,
                Bound::UpTo(limit) => *score <= limit,
                Bound::LexBelow(limit) => member.text(text) < limit,
                Bound::LexUpTo(limit) => member.text(text) <= limit,
                Bound::Element(at, name) => *score < at || *score == at && member.text(text) < name,
            }
        })
        .count()
}

/// Adds an element that is not there.
pub(super) fn insert(pack: &mut Listpack, member: &[u8], score: f64) {
    let index = 2 * rank(pack, Bound::Element(score, member));
    let score = PackedScore::new(score);
    pack.insert(index, member);
    pack.insert_packed(index + 1, &score.packed());
}
