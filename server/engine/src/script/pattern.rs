//! Whether a pattern search of Lua's string library ends in reasonable time.
//!
//! Lua's matcher backtracks, with time that can grow like the subject's length to the power of
//! the number of repetitions, and nothing can interrupt it. So a search that could take long is
//! first rehearsed here, by the same algorithm with its steps counted, and refused beyond a
//! budget. The answer depends on the arguments only, hence is the same on every node.
//! Source: <https://www.lua.org/manual/5.1/manual.html#5.4.1>

/// The steps any search may take: about a tenth of a second.
const STEPS_MAX: u64 = 10_000_000;

/// And so many more for each byte of the subject, for long subjects are searched in good faith.
const STEPS_PER_BYTE: u64 = 64;

/// The work below which no rehearsal is made.
const HARMLESS: f64 = 200_000.0;

/// Comparisons a plain search may take: about a second of `memcmp`.
const PLAIN_MAX: u128 = 10_000_000_000;

/// The longest pattern that is not plain: both matchers recurse once per item.
const PATTERN_LEN_MAX: usize = 2_048;

/// Lua's own bound.
const CAPTURES_MAX: usize = 32;

/// How much of the subject a function of the library searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// Up to the first match: find, match.
    First,
    /// All matches: gmatch, gsub.
    All,
}

/// Whether searching `subject` for `pattern` stays within the budget. A malformed pattern is
/// affordable: the real search finds the fault and words it.
pub(crate) fn is_affordable(subject: &[u8], pattern: &[u8], extent: Extent) -> bool {
    if !pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte)) {
        return is_affordable_plain(subject, pattern);
    }
    if pattern.len() > PATTERN_LEN_MAX {
        return false;
    }
    let repetitions = pattern.iter().filter(|byte| b"*+-?".contains(byte)).count();
    // `%b` and back references scan the subject, too.
    let scans = pattern.windows(2).filter(|pair| pair[0] == b'%').count();
    if repetitions + scans == 0 {
        return true;
    }
    let power = i32::try_from(repetitions + scans + 1).unwrap_or(i32::MAX);
    if (subject.len() as f64 + 1.0).powi(power) <= HARMLESS {
        return true;
    }
    let (anchored, pattern) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let budget = STEPS_MAX + STEPS_PER_BYTE * subject.len() as u64;
    let mut matcher = Matcher { subject, pattern, budget, captures: Vec::new() };
    let mut start = 0;
    while start <= subject.len() {
        matcher.captures.clear();
        let next = match matcher.run(start, 0) {
            Ok(Some(_)) if extent == Extent::First => return true,
            Ok(Some(end)) if end > start => end,
            Ok(_) => start + 1,
            Err(Stop::Malformed) => return true,
            Err(Stop::Budget) => return false,
        };
        if anchored {
            return true;
        }
        start = next;
    }
    true
}

/// Whether a search for `needle` as it stands is affordable; Lua tries every place.
pub(crate) fn is_affordable_plain(subject: &[u8], needle: &[u8]) -> bool {
    let places = subject.len().saturating_sub(needle.len()) as u128;
    places * needle.len() as u128 <= PLAIN_MAX
}

enum Stop {
    Budget,
    Malformed,
}

type Match = Result<Option<usize>, Stop>;

/// A capture: where it begins, and its length once closed.
#[derive(Clone, Copy)]
struct Capture {
    start: usize,
    len: Option<usize>,
}

struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    /// Steps left.
    budget: u64,
    captures: Vec<Capture>,
}

impl Matcher<'_> {
    fn step(&mut self, count: u64) -> Result<(), Stop> {
        self.budget = self.budget.checked_sub(count).ok_or(Stop::Budget)?;
        Ok(())
    }

    /// Matches the pattern from `p` on at subject offset `s`; answers where the match ends.
    fn run(&mut self, mut s: usize, mut p: usize) -> Match {
        loop {
            self.step(1)?;
            match self.pattern.get(p..).unwrap_or_default() {
                [] => return Ok(Some(s)),
                [b'$'] => return Ok((s == self.subject.len()).then_some(s)),
                [b'(', b')', ..] => return self.open(s, p + 2, Some(0)),
                [b'(', ..] => return self.open(s, p + 1, None),
                [b')', ..] => return self.close(s, p + 1),
                [b'%', b'b', open, close, ..] => match self.balanced(s, *open, *close)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                [b'%', b'f', b'[', ..] => {
                    let end = self.item_end(p + 2)?;
                    let before = if s == 0 { 0 } else { self.subject[s - 1] };
                    let after = self.subject.get(s).copied().unwrap_or(0);
                    if self.in_set(before, p + 2, end) || !self.in_set(after, p + 2, end) {
                        return Ok(None);
                    }
                    p = end;
                }
                [b'%', digit @ b'0'..=b'9', ..] => match self.back_reference(s, *digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.item_end(p)?;
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if self.single(s, p, end)
                                && let Some(found) = self.run(s + 1, end + 1)?
                            {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.longest(s, s, p, end),
                        Some(b'+') if self.single(s, p, end) => {
                            return self.longest(s, s + 1, p, end);
                        }
                        Some(b'+') => return Ok(None),
                        Some(b'-') => return self.shortest(s, p, end),
                        _ if self.single(s, p, end) => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn open(&mut self, s: usize, p: usize, len: Option<usize>) -> Match {
        if self.captures.len() >= CAPTURES_MAX {
            return Err(Stop::Malformed);
        }
        let level = self.captures.len();
        self.captures.push(Capture { start: s, len });
        let found = self.run(s, p)?;
        if found.is_none() {
            self.captures.truncate(level);
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Match {
        let Some(level) = self.captures.iter().rposition(|capture| capture.len.is_none()) else {
            return Err(Stop::Malformed);
        };
        self.captures[level].len = Some(s - self.captures[level].start);
        let found = self.run(s, p)?;
        if found.is_none()
            && let Some(capture) = self.captures.get_mut(level)
        {
            capture.len = None;
        }
        Ok(found)
    }

    /// As many of the item as there are, then fewer; `from` is where fewer ends.
    fn longest(&mut self, from: usize, s: usize, p: usize, end: usize) -> Match {
        let least = from.max(s);
        let mut at = least;
        while self.single(at, p, end) {
            at += 1;
        }
        self.step((at - least) as u64)?;
        loop {
            if let Some(found) = self.run(at, end + 1)? {
                return Ok(Some(found));
            }
            if at == least {
                return Ok(None);
            }
            at -= 1;
        }
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Match {
        loop {
            if let Some(found) = self.run(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.single(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn balanced(&mut self, s: usize, open: u8, close: u8) -> Match {
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1_u64;
        for (i, &byte) in self.subject.iter().enumerate().skip(s + 1) {
            self.step(1)?;
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(i + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    fn back_reference(&mut self, s: usize, digit: u8) -> Match {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let Some(Capture { start, len: Some(len) }) = self.captures.get(index).copied() else {
            return Err(Stop::Malformed);
        };
        self.step(len as u64)?;
        let text = self.subject.get(start..start + len);
        Ok((text.is_some() && self.subject.get(s..s + len) == text).then_some(s + len))
    }

    /// Where the single-character item at `p` ends.
    fn item_end(&self, p: usize) -> Result<usize, Stop> {
        let at = |i: usize| self.pattern.get(i).copied().ok_or(Stop::Malformed);
        match at(p)? {
            b'%' => at(p + 1).map(|_| p + 2),
            b'[' => {
                let mut i = p + 1;
                if at(i)? == b'^' {
                    i += 1;
                }
                // The first byte of a set is never its end.
                loop {
                    i += if at(i)? == b'%' { at(i + 1).map(|_| 2)? } else { 1 };
                    if at(i)? == b']' {
                        return Ok(i + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the item `p..end` matches the byte at `s`.
    fn single(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.subject.get(s) else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, end),
            literal => literal == byte,
        }
    }

    fn in_set(&self, byte: u8, p: usize, end: usize) -> bool {
        let mut set = &self.pattern[p + 1..end - 1];
        let mut wanted = true;
        if let [b'^', rest @ ..] = set {
            (set, wanted) = (rest, false);
        }
        while let Some((&first, rest)) = set.split_first() {
            match (first, rest) {
                (b'%', [class, rest @ ..]) => {
                    if in_class(byte, *class) {
                        return wanted;
                    }
                    set = rest;
                }
                (low, [b'-', high, rest @ ..]) => {
                    if (low..=*high).contains(&byte) {
                        return wanted;
                    }
                    set = rest;
                }
                (literal, rest) => {
                    if literal == byte {
                        return wanted;
                    }
                    set = rest;
                }
            }
        }
        !wanted
    }
}

fn in_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of_match(subject: &str, pattern: &str) -> Option<usize> {
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let mut matcher = Matcher { subject, pattern, budget: STEPS_MAX, captures: Vec::new() };
        matcher.run(0, 0).unwrap_or(None)
    }

    #[test]
    fn the_rehearsal_matches_as_lua_does() {
        for (subject, pattern, end) in [
            ("hello", "l*h?e", Some(2)),
            ("hello", "%a+", Some(5)),
            ("hello", ".-o$", Some(5)),
            ("aab", "a*ab", Some(3)),
            ("key=value", "(%w+)=(%w+)", Some(9)),
            ("xyxy", "(..)%1", Some(4)),
            ("(a(b)c)d", "%b()", Some(7)),
            ("THE", "%f[%a]%a+%f[%A]", Some(3)),
            ("a]b", "[]a]+", Some(2)),
            ("a-b", "[a%-]+", Some(2)),
            ("abc", "[^b]", Some(1)),
            ("abc", "()b", None),
            ("f", "[a-f]", Some(1)),
        ] {
            assert_eq!(end_of_match(subject, pattern), end, "{subject} {pattern}");
        }
    }

    #[test]
    fn only_searches_without_end_are_refused() {
        let long = "a".repeat(100_000);
        let affordable =
            |pattern: &str| is_affordable(long.as_bytes(), pattern.as_bytes(), Extent::All);
        assert!(affordable("a+"));
        assert!(affordable("^(a-)(a*)$"));
        assert!(affordable("[")); // Malformed: the search itself says so.
        assert!(!affordable("a*a*a*b"));
        assert!(!affordable(&format!("{}b", "a-".repeat(20))));
        assert!(!affordable("a-b"));
    }

    proptest::proptest! {
        #[test]
        fn the_rehearsal_ends_where_lua_ends(subject in "[ab()]{0,12}", pattern in "[ab.%()*+?\\[\\]^$-]{0,8}") {
            use crate::script::tests::{Fake, show, vm};
            // The leading `^` keeps Lua at the first byte, where the rehearsal is asked, too.
            let body = b"local _, e = string.find(ARGV[1], '^' .. ARGV[2]) return e";
            let argv = [subject.as_bytes(), pattern.as_bytes()];
            let sha = crate::script::Sha::of(body);
            if let Ok(reply) = vm().run(&sha, body, &[], &argv, &mut Fake::default()) {
                let ours = end_of_match(&subject, &pattern);
                let ours = ours.map_or("nil".to_owned(), |end| format!(":{end}"));
                proptest::prop_assert_eq!(show(&reply), ours);
            }
        }
    }
}
