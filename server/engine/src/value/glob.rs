//! Glob patterns as Redis matches them: `*`, `?`, `[a-z]`, `[^a]`, `\`; over any bytes.
//!
//! Used by KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET, ACL. The matcher goes back to the last
//! star only, so a hostile pattern costs at most pattern times text, never exponential time,
//! and no stack. Its verdicts, odd ones included, are those of Redis; the tests hold it to
//! them. Must never allocate while matching.

use std::ops::ControlFlow;

/// Whether letters must match in case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `a` is not `A`: keys and channels.
    Sensitive,
    /// `a` is `A`: names of commands and directives. ASCII only.
    Insensitive,
}

/// A pattern made ready: the usual shapes are compared without walking the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: Box<[u8]>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `*`
    Any,
    /// No metacharacter at all.
    Exact,
    /// Ordinary bytes, then one star.
    Prefix,
    /// Anything else.
    General,
}

impl Glob {
    /// Makes `pattern` ready; every sequence of bytes is a pattern.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let shape = match pattern.iter().position(special) {
            None => Shape::Exact,
            Some(0) if pattern == b"*" => Shape::Any,
            Some(at) if pattern[at] == b'*' && at + 1 == pattern.len() => Shape::Prefix,
            Some(_) => Shape::General,
        };
        Self { pattern: pattern.into(), shape }
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// Whether this is `*`. KEYS and SCAN then match nothing at all and so deliver the empty
    /// key, which [`Glob::matches`], as Redis's matcher, would hold back.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.shape == Shape::Any
    }

    /// The text every match is equal to, if there is only one.
    #[must_use]
    pub fn exact(&self) -> Option<&[u8]> {
        (self.shape == Shape::Exact).then_some(&self.pattern)
    }

    /// Whether `text` matches, letters in case.
    #[inline]
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self.shape {
            Shape::Any => !text.is_empty(),
            Shape::Exact => *text == *self.pattern,
            Shape::Prefix => text.starts_with(&self.pattern[..self.pattern.len() - 1]),
            Shape::General => glob_matches(&self.pattern, text, Case::Sensitive),
        }
    }
}

/// Whether `text` matches `pattern`.
///
/// Odd but as in Redis: an empty text matches the empty pattern only, not even `*`; a class
/// that is not closed ends with the pattern; `[^]` matches any byte and `[]` none; a range may
/// be given backwards and compares *signed* bytes; an escaped byte in a class keeps its case.
/// Unlike Redis, a pattern may hold more than 1,000 stars.
///
/// Complexity: O(pattern × text) at worst, O(pattern + text) with at most one star.
#[must_use]
pub fn glob_matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to go on if the rest fails: after the last star, with one more byte given to it.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            retry = Some((p, t));
            continue;
        }
        match one(pattern, p, text[t], case) {
            ControlFlow::Continue(next) => {
                p = next;
                t += 1;
            }
            ControlFlow::Break(()) => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                // An earlier star need not be tried: it could only leave less for this one.
                let Some(from) = next_start(pattern, after_star, text, from + 1, case) else {
                    return false;
                };
                retry = Some((after_star, from));
                (p, t) = (after_star, from);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The next position from which the pattern after a star can match: where its first byte
/// stands, if that is an ordinary one.
fn next_start(
    pattern: &[u8],
    after_star: usize,
    text: &[u8],
    from: usize,
    case: Case,
) -> Option<usize> {
    let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
    let first = pattern[after_star];
    if case == Case::Insensitive || matches!(first, b'?' | b'[' | b'\\') {
        return Some(from);
    }
    rest.iter().position(|byte| *byte == first).map(|skipped| from + skipped)
}

/// Matches one byte against the pattern's element at `p`, which is no star; continues with
/// where the next element begins.
#[inline]
fn one(pattern: &[u8], p: usize, byte: u8, case: Case) -> ControlFlow<(), usize> {
    let verdict = |matched: bool, next| {
        if matched { ControlFlow::Continue(next) } else { ControlFlow::Break(()) }
    };
    match pattern[p..] {
        [b'?', ..] => ControlFlow::Continue(p + 1),
        [b'[', ..] => {
            let (matched, next) = class(pattern, p + 1, byte, case);
            verdict(matched, next)
        }
        [b'\\', escaped, ..] => verdict(same(escaped, byte, case), p + 2),
        [literal, ..] => verdict(same(literal, byte, case), p + 1),
        // More text than pattern.
        [] => ControlFlow::Break(()),
    }
}

fn same(a: u8, b: u8, case: Case) -> bool {
    a == b || case == Case::Insensitive && a.eq_ignore_ascii_case(&b)
}

/// Matches `byte` against the class whose content begins at `p`; also tells where it ends.
fn class(pattern: &[u8], mut p: usize, byte: u8, case: Case) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match pattern[p..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [from, b'-', to, ..] => {
                found |= in_range(from, to, byte, case);
                p += 3;
            }
            [literal, ..] => {
                found |= same(literal, byte, case);
                p += 1;
            }
        }
    }
    (found != negated, p)
}

/// Redis compares `char`s, which are signed where it is commonly run.
fn in_range(from: u8, to: u8, byte: u8, case: Case) -> bool {
    // The ends change places before they change case: `[Z-a]` ignoring case holds nothing.
    let (low, high) = if (from as i8) > (to as i8) { (to, from) } else { (from, to) };
    let fold = |byte: u8| match case {
        Case::Sensitive => byte as i8,
        Case::Insensitive => byte.to_ascii_lowercase() as i8,
    };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[cfg(test)]
mod tests;
