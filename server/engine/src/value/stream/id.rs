//! The id of an entry: a time and a number within it.

use smallvec::SmallVec;

/// Longest text of an id that is looked at, as in Redis.
const TEXT_LEN_MAX: usize = 127;

/// The id of an entry of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the epoch, if the server made it.
    pub ms: u64,
    /// Tells apart those of one millisecond.
    pub seq: u64,
}

impl StreamId {
    /// The least one; no entry has it.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The greatest one.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The id `ms-seq`.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// The one after this; none after the greatest.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => Some(Self { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The one before this; none before the least.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => Some(Self { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// Reads `ms-seq`, or `ms` alone with `missing_seq` for the rest.
    #[must_use]
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        let (ms, seq) = halves(text)?;
        Some(Self { ms: number(ms)?, seq: seq.map_or(Some(missing_seq), number)? })
    }

    /// Reads the time of `ms-*`; `None` if it is of another form.
    #[must_use]
    pub fn parse_open(text: &[u8]) -> Option<u64> {
        match halves(text)? {
            (ms, Some(b"*")) => number(ms),
            _ => None,
        }
    }

    /// As text; cheaper than by [`std::fmt::Display`], for every entry of a reply has one.
    #[must_use]
    pub fn text(self) -> SmallVec<[u8; 48]> {
        let room = &mut itoa::Buffer::new();
        let mut text = SmallVec::from_slice(room.format(self.ms).as_bytes());
        text.push(b'-');
        text.extend_from_slice(room.format(self.seq).as_bytes());
        text
    }

    /// As sixteen bytes that sort as the ids do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// What [`Self::to_bytes`] gave.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self { ms: (both >> 64) as u64, seq: both as u64 }
    }

    /// How far this id is from `first`, half by half, as blocks store it.
    pub(super) fn distance_from(self, first: Self) -> (i64, i64) {
        (self.ms.wrapping_sub(first.ms) as i64, self.seq.wrapping_sub(first.seq) as i64)
    }

    /// The id at this distance from `first`.
    pub(super) fn at_distance(first: Self, (ms, seq): (i64, i64)) -> Self {
        Self { ms: first.ms.wrapping_add(ms as u64), seq: first.seq.wrapping_add(seq as u64) }
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

fn halves(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if text.len() > TEXT_LEN_MAX {
        return None;
    }
    Some(match text.iter().position(|byte| *byte == b'-') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    })
}

/// An unsigned number as C's `strtoull` reads it: blanks, a plus and zeros may stand in front.
fn number(text: &[u8]) -> Option<u64> {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | 9..=13)).count();
    let text = &text[blanks..];
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
