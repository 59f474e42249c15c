//! The glob matcher: no exponential time, and the verdicts of a slow, plain reading of the rules.

use holdfast_engine::value::glob::{Case, Glob, glob_matches};

/// Beyond this the reference, which is cubic here, is not asked.
const REFERENCE_LEN_MAX: usize = 64;

/// The first byte tells how long the pattern is; the rest is the text.
pub fn run(data: &[u8]) {
    let [len, data @ ..] = data else { return };
    let (pattern, text) = data.split_at(usize::from(*len).min(data.len()));
    let glob = Glob::new(pattern);
    let sensitive = glob_matches(pattern, text, Case::Sensitive);
    let insensitive = glob_matches(pattern, text, Case::Insensitive);
    assert_eq!(glob.matches(text), sensitive, "a ready-made pattern says the same");
    assert_eq!(glob.pattern(), pattern);
    if pattern.len() <= REFERENCE_LEN_MAX && text.len() <= REFERENCE_LEN_MAX {
        assert_eq!(sensitive, reference(pattern, text, Case::Sensitive));
        assert_eq!(insensitive, reference(pattern, text, Case::Insensitive));
    }
    // Star after star against a text that never ends the pattern: exponential matchers, and
    // only those, never come back.
    let hostile = pattern.repeat(8);
    let long = text.repeat(16);
    let _ = glob_matches(&hostile, &long, Case::Sensitive);
    let _ = glob_matches(
        &[b"*a".repeat(usize::from(*len)), b"b".to_vec()].concat(),
        &[b'a'; 512],
        Case::Sensitive,
    );
}

/// One element of a pattern.
enum Element {
    Star,
    Any,
    /// A literal byte; compared in the case asked for.
    Byte(u8),
    Class {
        negated: bool,
        members: Vec<Member>,
    },
}

enum Member {
    Escaped(u8),
    Byte(u8),
    Range(u8, u8),
}

/// Decides by a table of all prefixes: no backtracking to get wrong.
fn reference(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let elements = elements(pattern);
    // Redis ends at once on an empty text, before it looks at stars.
    if text.is_empty() {
        return elements.is_empty();
    }
    // `reached[t]`: the elements so far match the first `t` bytes.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for element in &elements {
        let mut next = vec![false; text.len() + 1];
        if matches!(element, Element::Star) {
            let mut any = false;
            for (t, next) in next.iter_mut().enumerate() {
                any |= reached[t];
                *next = any;
            }
        } else {
            for t in 0..text.len() {
                next[t + 1] = reached[t] && element.matches(text[t], case);
            }
        }
        reached = next;
    }
    reached[text.len()]
}

fn elements(mut pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    while let [first, rest @ ..] = pattern {
        pattern = rest;
        elements.push(match (first, rest) {
            (b'*', _) => Element::Star,
            (b'?', _) => Element::Any,
            (b'[', _) => {
                let negated = rest.first() == Some(&b'^');
                let (members, after) = members(&rest[usize::from(negated)..]);
                pattern = after;
                Element::Class { negated, members }
            }
            (b'\\', [escaped, after @ ..]) => {
                pattern = after;
                Element::Byte(*escaped)
            }
            (byte, _) => Element::Byte(*byte),
        });
    }
    elements
}

fn members(mut content: &[u8]) -> (Vec<Member>, &[u8]) {
    let mut members = Vec::new();
    loop {
        content = match content {
            [] => return (members, content),
            [b'\\', escaped, rest @ ..] => {
                members.push(Member::Escaped(*escaped));
                rest
            }
            [b']', rest @ ..] => return (members, rest),
            [from, b'-', to, rest @ ..] => {
                members.push(Member::Range(*from, *to));
                rest
            }
            [byte, rest @ ..] => {
                members.push(Member::Byte(*byte));
                rest
            }
        };
    }
}

impl Element {
    fn matches(&self, byte: u8, case: Case) -> bool {
        match self {
            Self::Star | Self::Any => true,
            Self::Byte(literal) => folded(*literal, case) == folded(byte, case),
            Self::Class { negated, members } => {
                members.iter().any(|member| member.matches(byte, case)) != *negated
            }
        }
    }
}

impl Member {
    fn matches(&self, byte: u8, case: Case) -> bool {
        match *self {
            Self::Escaped(literal) => literal == byte,
            Self::Byte(literal) => folded(literal, case) == folded(byte, case),
            Self::Range(from, to) => {
                let (low, high) = ((from as i8).min(to as i8), (from as i8).max(to as i8));
                let byte = folded(byte, case);
                folded(low as u8, case) <= byte && byte <= folded(high as u8, case)
            }
        }
    }
}

fn folded(byte: u8, case: Case) -> i8 {
    match case {
        Case::Sensitive => byte as i8,
        Case::Insensitive => byte.to_ascii_lowercase() as i8,
    }
}
