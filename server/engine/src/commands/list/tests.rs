use proptest::prelude::*;

use crate::effects::Wait;
use crate::testing::Bench;

#[test]
fn elements_go_in_and_out_at_both_ends() {
    Bench::new().check(&[
        ("RPUSH l a b", "2"),
        ("LPUSH l c d", "4"),
        ("LRANGE l 0 -1", "[\"d\" \"c\" \"a\" \"b\"]"),
        ("LPUSHX nosuch a", "0"),
        ("RPUSHX l e", "5"),
        ("LLEN l", "5"),
        ("LLEN nosuch", "0"),
        ("LPOP l", "\"d\""),
        ("RPOP l 2", "[\"e\" \"b\"]"),
        ("LPOP l 0", "[]"),
        ("LPOP l -1", "-ERR value is out of range, must be positive"),
        ("LPOP l x", "-ERR value is out of range, must be positive"),
        ("LPOP l 1 2", "-ERR wrong number of arguments for 'lpop' command"),
        ("LPOP l 9", "[\"c\" \"a\"]"),
        ("EXISTS l", "0"),
        ("LPOP l", "nil"),
        ("LPOP l 2", "nil"),
        ("SET s x", "OK"),
        ("LPUSH s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("LPUSHX s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
}

#[test]
fn looks_by_index_and_by_element() {
    Bench::new().check(&[
        ("RPUSH l a b c a b a", "6"),
        ("LINDEX l 0", "\"a\""),
        ("LINDEX l -1", "\"a\""),
        ("LINDEX l 6", "nil"),
        ("LINDEX l -9223372036854775808", "nil"),
        ("LINDEX nosuch x", "nil"),
        ("LINDEX l x", "-ERR value is not an integer or out of range"),
        ("LRANGE l 1 2", "[\"b\" \"c\"]"),
        ("LRANGE l -2 100", "[\"b\" \"a\"]"),
        ("LRANGE l 4 2", "[]"),
        ("LRANGE nosuch 0 -1", "[]"),
        ("LPOS l a", "0"),
        ("LPOS l a RANK 2", "3"),
        ("LPOS l a RANK -1", "5"),
        ("LPOS l a COUNT 0", "[0 3 5]"),
        ("LPOS l a RANK -2 COUNT 5", "[3 0]"),
        ("LPOS l a COUNT 0 MAXLEN 4", "[0 3]"),
        ("LPOS l z", "nil"),
        ("LPOS l z COUNT 1", "[]"),
        ("LPOS nosuch z COUNT 1", "[]"),
        ("LPOS l a COUNT", "-ERR syntax error"),
        ("LPOS l a COUNT -1", "-ERR COUNT can't be negative"),
        ("LPOS l a MAXLEN -1", "-ERR MAXLEN can't be negative"),
    ]);
}

#[test]
fn changes_inside() {
    Bench::new().check(&[
        ("RPUSH l a b c a b a", "6"),
        ("LSET l 1 B", "OK"),
        ("LSET l -1 A", "OK"),
        ("LSET l 9 x", "-ERR index out of range"),
        ("LSET nosuch x x", "-ERR no such key"),
        ("LINSERT l BEFORE c x", "7"),
        ("LINSERT l after A y", "8"),
        ("LINSERT l after zz y", "-1"),
        ("LINSERT nosuch after zz y", "0"),
        ("LINSERT l near zz y", "-ERR syntax error"),
        ("LRANGE l 0 -1", "[\"a\" \"B\" \"x\" \"c\" \"a\" \"b\" \"A\" \"y\"]"),
        ("LREM l -1 a", "1"),
        ("LRANGE l 0 4", "[\"a\" \"B\" \"x\" \"c\" \"b\"]"),
        ("LREM l 0 zz", "0"),
        ("LTRIM l 1 -2", "OK"),
        ("LRANGE l 0 -1", "[\"B\" \"x\" \"c\" \"b\" \"A\"]"),
        ("LTRIM l 9 10", "OK"),
        ("EXISTS l", "0"),
        ("RPUSH l a a", "2"),
        ("LREM l 0 a", "2"),
        ("EXISTS l", "0"),
    ]);
}

#[test]
fn moves_between_lists_and_within_one() {
    Bench::new().check(&[
        ("RPUSH l a b c", "3"),
        ("LMOVE l m LEFT RIGHT", "\"a\""),
        ("RPOPLPUSH l m", "\"c\""),
        ("LRANGE m 0 -1", "[\"c\" \"a\"]"),
        ("RPOPLPUSH l l", "\"b\""),
        ("LMOVE m m LEFT RIGHT", "\"c\""),
        ("LRANGE m 0 -1", "[\"a\" \"c\"]"),
        ("LMOVE l m LEFT LEFT", "\"b\""),
        ("EXISTS l", "0"),
        ("LMOVE l m LEFT LEFT", "nil"),
        ("LMOVE l m UP LEFT", "-ERR syntax error"),
        ("SET s x", "OK"),
        ("RPOPLPUSH l s", "nil"),
        ("RPOPLPUSH m s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("LLEN m", "3"),
        ("LMPOP 2 l m RIGHT COUNT 2", "[\"m\" [\"c\" \"a\"]]"),
        ("LMPOP 1 m LEFT", "[\"m\" [\"b\"]]"),
        ("LMPOP 1 m LEFT", "nil"),
        ("LMPOP 0 m LEFT", "-ERR numkeys should be greater than 0"),
        ("LMPOP 2 m LEFT", "-ERR syntax error"),
        ("LMPOP 1 m LEFT COUNT 0", "-ERR count should be greater than 0"),
    ]);
}

#[test]
fn who_finds_nothing_asks_to_wait() {
    let mut bench = Bench::new();
    for (line, timeout_ms) in [
        ("BLPOP a b 0", None),
        ("BRPOP a 0.0001", Some(1)),
        ("BLMOVE a b LEFT LEFT 1.5", Some(1500)),
        ("BRPOPLPUSH a b 2", Some(2000)),
        ("BLMPOP 0.25 2 a b LEFT COUNT 3", Some(250)),
    ] {
        assert_eq!(bench.show(line), "nil", "{line}");
        assert_eq!(bench.effects.wait, Some(Wait::for_key(timeout_ms)), "{line}");
    }
    bench.check(&[
        ("BLPOP a x", "-ERR timeout is not a float or out of range"),
        ("BLPOP a -1", "-ERR timeout is negative"),
        ("BLPOP a 1e300", "-ERR timeout is out of range"),
        ("BLMPOP 0 1 a UP", "-ERR syntax error"),
        ("RPUSH b 1 2 3 4", "4"),
        ("BLPOP a b 0", "[\"b\" \"1\"]"),
        ("BRPOP a b 0", "[\"b\" \"4\"]"),
        ("BLMOVE b c LEFT RIGHT 0", "\"2\""),
        ("BRPOPLPUSH b c 0", "\"3\""),
        ("BLMPOP 0 2 b c RIGHT COUNT 9", "[\"c\" [\"2\" \"3\"]]"),
        ("SET s x", "OK"),
        ("BLPOP s b 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
    assert_eq!(bench.effects.wait, None);
}

#[test]
fn encodings_follow_the_directive() {
    let mut bench = Bench::new();
    let many = vec!["element"; 2000].join(" ");
    bench.line("RPUSH l a");
    assert_eq!(bench.show("OBJECT ENCODING l"), "\"listpack\"");
    bench.line(&format!("RPUSH l {many}"));
    assert_eq!(bench.show("OBJECT ENCODING l"), "\"quicklist\"");
    bench.line("LTRIM l 0 10");
    assert_eq!(bench.show("OBJECT ENCODING l"), "\"listpack\"");
    bench.engine.keyspace().limits().set("list-max-listpack-size", 3);
    bench.check(&[
        ("RPUSH few 1 2 3", "3"),
        ("OBJECT ENCODING few", "\"listpack\""),
        ("LINSERT few BEFORE nosuch x", "-1"),
        ("OBJECT ENCODING few", "\"quicklist\""),
    ]);
}

#[test]
fn events_and_changes() {
    Bench::new().check_events(&[
        ("RPUSH l a b c", "0:new l, 0:rpush l", 3),
        ("LPUSH l x", "0:lpush l", 1),
        ("LPOP l 0", "", 0),
        ("LPOP l", "0:lpop l", 1),
        ("LSET l 0 z", "0:lset l", 1),
        ("LINSERT l BEFORE b y", "0:linsert l", 1),
        ("LINSERT l BEFORE nosuch y", "", 0),
        ("LREM l 0 y", "0:lrem l", 1),
        ("LTRIM l 0 -1", "0:ltrim l", 0),
        ("LMOVE l m LEFT RIGHT", "0:new m, 0:rpush m, 0:lpop l", 1),
        ("RPOPLPUSH m m", "0:lpush m, 0:rpop m", 1),
        ("RPOPLPUSH m l", "0:lpush l, 0:rpop m, 0:del m", 1),
        ("LMPOP 2 m l LEFT COUNT 9", "0:lpop l, 0:del l", 3),
    ]);
}

#[test]
fn a_list_ends_with_its_expiry() {
    let mut bench = Bench::new();
    bench.check(&[
        ("RPUSH l a b", "2"),
        ("PEXPIRE l 10", "1"),
        ("LPOP l", "\"a\""),
        ("PTTL l", "10"),
    ]);
    bench.pass_ms(10);
    bench.check(&[("LLEN l", "0"), ("RPUSH l z", "1"), ("PTTL l", "-1")]);
}

fn line() -> impl Strategy<Value = String> {
    let key = || prop_oneof![Just("l"), Just("m")];
    let text = prop_oneof![
        3 => (0u8..9).prop_map(|n| n.to_string()),
        1 => (1usize..3000).prop_map(|n| "x".repeat(n)),
    ];
    (0usize..12, key(), key(), text, -9i64..30).prop_map(|(command, key, other, text, n)| {
        match command {
            0..3 => format!("RPUSH {key} {text} a {n}"),
            3..5 => format!("LPUSH {key} {text} b {n}"),
            5 => format!("LPOP {key} {}", n.max(0)),
            6 => format!("LSET {key} {n} {text}"),
            7 => format!("LINSERT {key} BEFORE a {text}"),
            8 => format!("LREM {key} {n} a"),
            9 => format!("LTRIM {key} {n} -2"),
            10 => format!("LMOVE {key} {other} LEFT RIGHT"),
            _ => format!("RPOPLPUSH {key} {other}"),
        }
    })
}

proptest! {
    #[test]
    fn two_engines_fed_the_same_end_the_same(lines in prop::collection::vec(line(), 1..150)) {
        let (mut one, mut other) = (Bench::new(), Bench::new());
        for line in &lines {
            prop_assert_eq!(one.show(line), other.show(line));
        }
        for look in ["LRANGE l 0 -1", "LRANGE m 0 -1", "OBJECT ENCODING l"] {
            prop_assert_eq!(one.show(look), other.show(look));
        }
        prop_assert_eq!(
            one.engine.keyspace().digest(one.now),
            other.engine.keyspace().digest(other.now)
        );
    }
}
