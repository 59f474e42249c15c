//! Runs the bodies of the fuzz targets on a few thousand seeded inputs, so that every test run
//! has them. `cargo fuzz` explores further; a finding of its becomes a row here.

#[allow(unreachable_pub, reason = "the fuzz package exports it")]
#[path = "../../fuzz/src/compact.rs"]
mod compact;
#[allow(unreachable_pub, reason = "the fuzz package exports it")]
#[path = "../../fuzz/src/execute/mod.rs"]
mod execute;
#[allow(unreachable_pub, reason = "the fuzz package exports it")]
#[path = "../../fuzz/src/glob.rs"]
mod glob;
#[allow(unreachable_pub, reason = "the fuzz package exports it")]
#[path = "../../fuzz/src/lua.rs"]
mod lua;
#[allow(unreachable_pub, reason = "the fuzz package exports it")]
#[path = "../../fuzz/src/parser.rs"]
mod parser;
#[allow(unreachable_pub, reason = "the fuzz package exports it")]
#[path = "../../fuzz/src/restore.rs"]
mod restore;

use holdfast_engine::command::Group;
use proptest::prelude::*;

/// Text from which parsers and matchers find it easy to go on.
fn tokens(words: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

const WIRE: &[&[u8]] = &[
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$1\r\na\r\n$2\r\nbc\r\n",
    b"*3\r\n",
    b"*21\r\n",
    b"*11\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"$3\r\nabc\r\n",
    b"$12\r\n123456789012\r\n",
    b"$1001\r\n",
    b"$0\r\n\r\n",
    b"$",
    b"*",
    b"\r",
    b"\n",
    b"\r\n",
    b"1",
    b"9",
    b"get k\r\n",
    b" \"a\\x41 b\" ",
    b"'",
    b"\"",
];

const GLOB: &[&[u8]] =
    &[b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"A", b"Z", b"[^]", b"[a-c]", b"\xff"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn parser_body(head in any::<[u8; 8]>(), input in tokens(WIRE)) {
        parser::run(&[&head[..], &input].concat());
    }

    #[test]
    fn parser_body_on_noise(input in prop::collection::vec(any::<u8>(), 0..200)) {
        parser::run(&input);
    }

    #[test]
    fn compact_body(kind in 0..6_u8, input in prop::collection::vec(any::<u8>(), 0..600)) {
        compact::run(&[&[kind][..], &input].concat());
    }

    #[test]
    fn glob_body(pattern in tokens(GLOB), text in tokens(GLOB)) {
        let pattern = &pattern[..pattern.len().min(12)];
        glob::run(&[&[pattern.len() as u8], pattern, &text].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn execute_body(input in prop::collection::vec(any::<u8>(), 0..600)) {
        execute::run(&input);
    }

    #[test]
    fn execute_streams(input in prop::collection::vec(any::<u8>(), 0..600)) {
        execute::run_group(&input, Group::Stream);
    }

    #[test]
    fn restore_body(value in 0..15_u8, edits in prop::collection::vec(any::<u8>(), 0..24)) {
        restore::run(&[&[value][..], &edits].concat());
    }

    #[test]
    fn lua_body(input in prop::collection::vec(any::<u8>(), 0..40)) {
        lua::run(&input);
    }
}

#[test]
fn lines_at_the_limit() {
    for len in [65_535, 65_536, 65_537, 65_538] {
        for head in [&b""[..], b"*", b"*1\r\n$", b"*1\r\nx"] {
            for end in [&b""[..], b"\r\n", b"\n"] {
                let input = [&[0, 255, 255, 255, 255, 255, 255, 0], head, &vec![b'1'; len], end];
                parser::run(&input.concat());
            }
        }
    }
}
