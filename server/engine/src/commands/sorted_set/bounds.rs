//! The bounds of ranges by score and by member, as their arguments spell them.

use crate::error::CommandError;
use crate::value::number::parse_f64;
use crate::value::sorted_set::{Bound, SortedSet};

/// `min` and `max` of a range by score.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScoreRange {
    min: (f64, Edge),
    max: (f64, Edge),
}

/// Whether a bound itself is in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Included,
    Excluded,
}

/// One end of a range by member.
#[derive(Debug, Clone, Copy)]
enum LexEnd<'a> {
    /// `-`: before everything.
    Start,
    /// `+`: behind everything.
    End,
    At(&'a [u8], Edge),
}

/// `min` and `max` of a range by member.
#[derive(Debug, Clone, Copy)]
pub(super) struct LexRange<'a> {
    min: LexEnd<'a>,
    max: LexEnd<'a>,
}

/// A score as C's `strtod` reads a whole argument: white space before it is passed over, too
/// large is infinite, and nothing at all is 0. That is what Redis takes here, and only here.
fn lenient_f64(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !space(byte))?;
    let text = &text[start..];
    parse_f64(text).or_else(|| {
        let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (!value.is_nan()).then_some(value)
    })
}

fn score_end(text: &[u8]) -> Option<(f64, Edge)> {
    match text {
        [b'(', score @ ..] => Some((lenient_f64(score)?, Edge::Excluded)),
        score => Some((lenient_f64(score)?, Edge::Included)),
    }
}

impl ScoreRange {
    /// Reads `min` and `max`.
    ///
    /// # Errors
    /// `ERR min or max is not a float`
    pub(super) fn parse(min: &[u8], max: &[u8]) -> Result<Self, CommandError> {
        match (score_end(min), score_end(max)) {
            (Some(min), Some(max)) => Ok(Self { min, max }),
            _ => Err(CommandError::MIN_MAX_NOT_A_FLOAT),
        }
    }

    /// The first rank in the range, and the first behind it.
    pub(super) fn ranks(&self, set: &SortedSet) -> (usize, usize) {
        let start = match self.min {
            (score, Edge::Included) => Bound::Below(score),
            (score, Edge::Excluded) => Bound::UpTo(score),
        };
        let end = match self.max {
            (score, Edge::Included) => Bound::UpTo(score),
            (score, Edge::Excluded) => Bound::Below(score),
        };
        let start = set.rank(start);
        (start, set.rank(end).max(start))
    }
}

fn lex_end(text: &[u8]) -> Option<LexEnd<'_>> {
    match text {
        b"-" => Some(LexEnd::Start),
        b"+" => Some(LexEnd::End),
        [b'[', member @ ..] => Some(LexEnd::At(member, Edge::Included)),
        [b'(', member @ ..] => Some(LexEnd::At(member, Edge::Excluded)),
        _ => None,
    }
}

impl<'a> LexRange<'a> {
    /// Reads `min` and `max`.
    ///
    /// # Errors
    /// `ERR min or max not valid string range item`
    pub(super) fn parse(min: &'a [u8], max: &'a [u8]) -> Result<Self, CommandError> {
        match (lex_end(min), lex_end(max)) {
            (Some(min), Some(max)) => Ok(Self { min, max }),
            _ => Err(CommandError::known(
                "ERR min or max not valid string range item",
            )),
        }
    }

    /// The first rank in the range, and the first behind it. Where scores differ, which ranks
    /// these are is not specified, as in Redis.
    pub(super) fn ranks(&self, set: &SortedSet) -> (usize, usize) {
        let start = match self.min {
            LexEnd::Start => 0,
            LexEnd::End => set.len(),
            LexEnd::At(member, Edge::Included) => set.rank(Bound::LexBelow(member)),
            LexEnd::At(member, Edge::Excluded) => set.rank(Bound::LexUpTo(member)),
        };
        let end = match self.max {
            LexEnd::Start => 0,
            LexEnd::End => set.len(),
            LexEnd::At(member, Edge::Included) => set.rank(Bound::LexUpTo(member)),
            LexEnd::At(member, Edge::Excluded) => set.rank(Bound::LexBelow(member)),
        };
        (start, end.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_scores_are_read_leniently() {
        for (text, value) in [
            ("", Some(0.0)),
            (" 1.5", Some(1.5)),
            ("1e400", Some(f64::INFINITY)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("+Infinity", Some(f64::INFINITY)),
            ("1e-400", Some(0.0)),
            ("0x10", Some(16.0)),
            ("1 ", None),
            (" ", None),
            ("nan", None),
            ("-NaN", None),
            ("foo", None),
            ("1.2.3", None),
        ] {
            assert_eq!(lenient_f64(text.as_bytes()), value, "{text:?}");
        }
    }
}
