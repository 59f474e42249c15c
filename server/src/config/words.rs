//! Lines of a configuration file as words, and back: Redis's quoting rules.

/// Splits a line at white space. `"…"` takes the escapes `\n \r \t \b \a \xHH \" \\`, `'…'` only
/// `\'`. `None` if quotes do not balance, or a closing one is not followed by white space.
#[must_use]
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (word, after) = next_word(rest)?;
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn next_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b if b.is_ascii_whitespace() || *b == 0 => break,
            b'"' => return double_quoted(word, rest),
            b'\'' => return single_quoted(word, rest),
            b => word.push(*b),
        }
    }
    Some((word, rest))
}

fn double_quoted(mut word: Vec<u8>, mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    loop {
        match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [b'"', after @ ..] => return ends_word(word, after),
            [other, after @ ..] => {
                word.push(*other);
                rest = after;
            }
            [] => return None,
        }
    }
}

fn single_quoted(mut word: Vec<u8>, mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    loop {
        match rest {
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [b'\'', after @ ..] => return ends_word(word, after),
            [other, after @ ..] => {
                word.push(*other);
                rest = after;
            }
            [] => return None,
        }
    }
}

fn ends_word(word: Vec<u8>, after: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match after.first() {
        Some(b) if !b.is_ascii_whitespace() => None,
        _ => Some((word, after)),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// `bytes` in double quotes, such that [`split`] gives them back.
#[must_use]
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &b in bytes {
        match b {
            b'"' | b'\\' => text.extend([b'\\', b]),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            b'\t' => text.extend(b"\\t"),
            b' '..=b'~' => text.push(b),
            _ => text.extend(format!("\\x{b:02x}").bytes()),
        }
    }
    text.push(b'"');
    text
}

/// Whether `text` matches the glob `pattern` (`*`, `?`, `[a-c]`, `[^x]`, `\` to escape), byte
/// by byte, in time of the product of their lengths at most.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to resume after the last star: one more byte of text is given to it each time.
    // Earlier stars need no second try, for a later star matches whatever they would leave.
    let mut resume: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            resume = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(&pattern[p..], text[t]) {
            Some(used) => {
                p += used;
                t += 1;
            }
            None => match resume {
                Some((star, at)) => {
                    (p, t) = (star, at + 1);
                    resume = Some((star, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// How many bytes of `pattern` match `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => class(pattern, byte),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [first, ..] => (*first == byte).then_some(1),
    }
}

fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let mut at = 1;
    let inverted = pattern.get(at) == Some(&b'^');
    at += usize::from(inverted);
    let mut found = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            // An unclosed class ends with the pattern.
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [only, ..] => {
                found |= *only == byte;
                at += 1;
            }
        }
    }
    (found != inverted).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes())?;
        Some(words.into_iter().map(|w| String::from_utf8_lossy(&w).into_owned()).collect())
    }

    #[test]
    fn lines_split_as_redis_splits_them() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("port 6379", Some(&["port", "6379"])),
            ("  save   900\t1 ", Some(&["save", "900", "1"])),
            (r#"requirepass "a b\x41\n""#, Some(&["requirepass", "a bA\n"])),
            (r"requirepass 'it\'s'", Some(&["requirepass", "it's"])),
            (r#"save """#, Some(&["save", ""])),
            (r#"a "b"c"#, None),
            (r#"a "b"#, None),
            ("a 'b", None),
            ("", Some(&[])),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|w| w.iter().map(|s| (*s).to_owned()).collect());
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn globs_match_as_redis_matches_them() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("m*y", "maxmemory", true),
            ("m*ry", "maxmemory-policy", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            ("", "a", false),
            ("a[", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn hostile_globs_take_no_exponential_time() {
        let pattern = b"*a".repeat(2_000);
        assert!(!matches(&pattern, &b"a".repeat(1_999)));
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_splitting(bytes: Vec<u8>) {
            prop_assert_eq!(split(&quoted(&bytes)), Some(vec![bytes]));
        }

        #[test]
        fn splitting_never_panics(bytes: Vec<u8>) {
            let _ = split(&bytes);
        }

        #[test]
        fn matching_never_panics(pattern: Vec<u8>, text: Vec<u8>) {
            let _ = matches(&pattern, &text);
        }
    }
}
