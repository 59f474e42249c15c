use proptest::prelude::*;

use super::*;

/// The slow and plain reading of Redis's rules: recursive, element by element.
fn reference(pattern: &[u8], text: &[u8], case: Case) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], [_, ..]) => {
            rest.iter().all(|byte| *byte == b'*')
                || (0..text.len()).any(|skip| reference(rest, &text[skip..], case))
        }
        ([_, ..], []) | ([], _) => false,
        ([b'?', rest @ ..], [_, tail @ ..]) => next(rest, tail, case),
        ([b'[', content @ ..], [byte, tail @ ..]) => {
            let (negated, mut content) = match content {
                [b'^', rest @ ..] => (true, rest),
                _ => (false, content),
            };
            let mut found = false;
            let rest = loop {
                match content {
                    [] => break content,
                    [b'\\', escaped, rest @ ..] => {
                        found |= escaped == byte;
                        content = rest;
                    }
                    [b']', rest @ ..] => break rest,
                    [from, b'-', to, rest @ ..] => {
                        let (from, to) = (*from as i8 as i32, *to as i8 as i32);
                        let mut ends = [from.min(to), from.max(to)];
                        let mut here = *byte as i8 as i32;
                        if case == Case::Insensitive {
                            let lower = |n: i32| {
                                if (65..=90).contains(&n) { n + 32 } else { n }
                            };
                            ends = ends.map(lower);
                            here = lower(here);
                        }
                        found |= ends[0] <= here && here <= ends[1];
                        content = rest;
                    }
                    [literal, rest @ ..] => {
                        found |= same(*literal, *byte, case);
                        content = rest;
                    }
                }
            };
            found != negated && next(rest, tail, case)
        }
        ([b'\\', literal, rest @ ..] | [literal, rest @ ..], [byte, tail @ ..]) => {
            same(*literal, *byte, case) && next(rest, tail, case)
        }
    }
}

/// What follows a matched byte: at the text's end only stars may be left.
fn next(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        pattern.iter().all(|byte| *byte == b'*')
    } else {
        reference(pattern, text, case)
    }
}

#[test]
fn known_verdicts() {
    let rows: &[(&str, &str, bool)] = &[
        ("", "", true),
        ("", "a", false),
        ("*", "", false),
        ("**", "", false),
        ("*", "a", true),
        ("a*", "a", true),
        ("a**", "a", true),
        ("*a*", "ba", true),
        ("h?llo", "hello", true),
        ("h?llo", "hllo", false),
        ("h[ae]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-c]llo", "hbllo", true),
        ("h[c-a]llo", "hbllo", true),
        ("[a-", "a", true),
        ("[a-", "-", true),
        ("[", "[", false),
        ("[^", "x", true),
        ("[]", "]", false),
        ("[]", "a", false),
        ("[^]", "a", true),
        ("[^]b", "ab", true),
        ("[abc", "b", true),
        ("[\\]]", "]", true),
        ("[\\", "\\", true),
        ("a\\", "a\\", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("*[", "[", false),
        ("a*b*c", "aXbXbXc", true),
        ("a*b*c", "aXbXbX", false),
        ("*ab", "aab", true),
    ];
    for (pattern, text, expected) in rows {
        let got = glob_matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive);
        assert_eq!(got, *expected, "{pattern:?} on {text:?}");
        assert_eq!(Glob::new(pattern.as_bytes()).matches(text.as_bytes()), *expected);
    }
    assert!(glob_matches(b"HEL[L-N]*", b"hello", Case::Insensitive));
    assert!(!glob_matches(b"[\\A]", b"a", Case::Insensitive), "an escape keeps its case");
}

#[test]
fn shapes_are_recognised() {
    assert!(Glob::new(b"*").is_any());
    assert_eq!(Glob::new(b"news.art").exact(), Some(&b"news.art"[..]));
    assert_eq!(Glob::new(b"news.*").shape, Shape::Prefix);
    assert_eq!(Glob::new(b"a\\*").shape, Shape::General);
    assert_eq!(Glob::new(b"").exact(), Some(&b""[..]));
}

#[test]
fn hostile_patterns_take_no_exponential_time() {
    let pattern = b"a*".repeat(5000);
    let text = [b'a'; 4000];
    assert!(!glob_matches(&pattern, &text, Case::Sensitive));
    let pattern = [b"*a".repeat(30), b"*b".to_vec()].concat();
    let text = [b'a'; 100_000];
    assert!(!glob_matches(&pattern, &text, Case::Sensitive));
    assert!(!glob_matches(&pattern, &text, Case::Insensitive));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn verdicts_are_those_of_the_reference(
        pattern in "[abAB*?^\\[\\]\\\\-]{0,10}",
        text in "[abAB*?^\\[\\]\\\\-]{0,8}",
    ) {
        for case in [Case::Sensitive, Case::Insensitive] {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob_matches(pattern, text, case), reference(pattern, text, case));
        }
        prop_assert_eq!(
            Glob::new(pattern.as_bytes()).matches(text.as_bytes()),
            reference(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
        );
    }

    #[test]
    fn any_bytes_are_a_pattern(
        pattern in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'*'), Just(b'['), Just(b'-')], 0..12),
        text in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        for case in [Case::Sensitive, Case::Insensitive] {
            prop_assert_eq!(glob_matches(&pattern, &text, case), reference(&pattern, &text, case));
        }
    }
}
