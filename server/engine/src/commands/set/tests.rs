use crate::reply::Reply;
use crate::testing::{Bench, show};

fn sorted(reply: &Reply) -> String {
    let text = show(reply);
    let mut items: Vec<&str> = text.trim_matches(['[', ']']).split(' ').collect();
    items.sort_unstable();
    items.join(" ")
}

#[test]
fn members_come_and_go_one_by_one() {
    let mut bench = Bench::new();
    bench.check(&[
        ("sadd s 3 1 2 3", "3"),
        ("sadd s 3", "0"),
        ("scard s", "3"),
        ("smembers s", "[\"1\" \"2\" \"3\"]"),
        ("sismember s 2", "1"),
        ("sismember s 02", "0"),
        ("smismember s 1 x 3", "[1 0 1]"),
        ("smismember none x", "[0]"),
        ("object encoding s", "\"intset\""),
        ("sadd s x", "1"),
        ("object encoding s", "\"listpack\""),
        ("srem s x 1 nothing", "2"),
        ("object encoding s", "\"listpack\""),
        ("srem s 2 3", "2"),
        ("exists s", "0"),
        ("smembers s", "[]"),
        ("srem s 2", "0"),
        ("set text x", "OK"),
        ("sadd text a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("srem text a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("sinter none text", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
}

#[test]
fn many_members_at_once_choose_the_encoding() {
    let mut bench = Bench::new();
    let add = |bench: &mut Bench, key: &str, count: usize, word: &str| {
        let mut args = vec!["sadd".to_owned(), key.to_owned()];
        args.extend((0..count).map(|n| format!("{word}{n}")));
        bench.run(&args);
        bench.show(&format!("object encoding {key}"))
    };
    assert_eq!(add(&mut bench, "a", 512, ""), "\"intset\"");
    assert_eq!(add(&mut bench, "b", 513, ""), "\"hashtable\"");
    assert_eq!(add(&mut bench, "c", 128, "m"), "\"listpack\"");
    assert_eq!(add(&mut bench, "d", 129, "m"), "\"hashtable\"");
    // Redis expects as many new members as there are arguments.
    assert_eq!(add(&mut bench, "c", 129, "m"), "\"hashtable\"");
    bench.check(&[
        ("sunionstore u a c", "641"),
        ("object encoding u", "\"hashtable\""),
        ("sinterstore i b b", "513"),
        ("object encoding i", "\"hashtable\""),
        ("srem b 512", "1"),
        ("sinterstore i b b", "512"),
        ("object encoding i", "\"intset\""),
        ("sdiffstore e d c", "0"),
    ]);
}

#[test]
fn smove_moves_within_the_rules() {
    let mut bench = Bench::new();
    bench.check(&[
        ("sadd a 1 2", "2"),
        ("smove none b 1", "0"),
        ("smove a b 9", "0"),
        ("smove a a 1", "1"),
        ("smove a a 9", "0"),
        ("set text x", "OK"),
        ("smove a text 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("smove none text 1", "0"),
        ("smembers a", "[\"1\" \"2\"]"),
    ]);
    bench.check_events(&[
        ("smove a b 1", "0:srem a, 0:new b, 0:sadd b", 2),
        ("smove a b 2", "0:srem a, 0:del a, 0:sadd b", 2),
    ]);
    bench.line("sadd a 1");
    bench.check_events(&[("smove a b 1", "0:srem a, 0:del a", 1)]);
}

#[test]
fn combinations_and_their_stores() {
    let mut bench = Bench::new();
    bench.check(&[("sadd a 1 2 3 x", "4"), ("sadd b 2 3 4", "3"), ("sadd c 3 x", "2")]);
    for (line, members) in [
        ("sinter a b", "\"2\" \"3\""),
        ("sinter a b c", "\"3\""),
        ("sinter a none", ""),
        ("sunion a b c none", "\"1\" \"2\" \"3\" \"4\" \"x\""),
        ("sdiff a b", "\"1\" \"x\""),
        ("sdiff a b c", "\"1\""),
        ("sdiff none a", ""),
        ("sdiff a a", ""),
    ] {
        assert_eq!(sorted(&bench.line(line)), members, "{line}");
    }
    bench.check(&[
        ("sintercard 2 a b", "2"),
        ("sintercard 2 a b limit 1", "1"),
        ("sintercard 2 a b limit 0", "2"),
        ("sintercard 0 a", "-ERR numkeys should be greater than 0"),
        ("sintercard x a", "-ERR numkeys should be greater than 0"),
        ("sintercard 2 a", "-ERR Number of keys can't be greater than number of args"),
        ("sintercard 1 a limit -1", "-ERR LIMIT can't be negative"),
        ("sintercard 1 a what 1", "-ERR syntax error"),
        ("sintercard 1 a limit", "-ERR syntax error"),
    ]);
    bench.check_events(&[
        ("sinterstore d a b", "0:new d, 0:sinterstore d", 1),
        ("sunionstore d a d", "0:sunionstore d", 1),
        ("sdiffstore d none", "0:del d", 1),
        ("sdiffstore d none", "", 0),
    ]);
    bench.check(&[
        ("set text x", "OK"),
        ("expire text 100", "1"),
        ("sunionstore text a", "4"),
        ("ttl text", "-1"),
    ]);
}

#[test]
fn spop_takes_what_it_answers() {
    let mut bench = Bench::new();
    for encoding in ["5", "m"] {
        let mut args = vec!["sadd".to_owned(), "s".to_owned()];
        args.extend((0..100).map(|n| format!("{encoding}{n}")));
        bench.run(&args);
        let (mut left, mut seen) = (100, std::collections::BTreeSet::new());
        for (line, count) in [("spop s", 1), ("spop s 4", 4), ("spop s 85", 85), ("spop s 3", 3)] {
            let reply = bench.line(line);
            seen.extend(sorted(&reply).split(' ').map(str::to_owned));
            left -= count;
            assert_eq!(
                (bench.effects.changes, bench.events().join("")),
                (count, "0:spop s".into())
            );
            assert_eq!(bench.show("scard s"), left.to_string());
        }
        bench.check_events(&[("spop s 99", "0:spop s, 0:del s", left)]);
        assert_eq!(seen.len(), 93);
    }
    bench.check(&[
        ("spop none", "nil"),
        ("spop none 3", "[]"),
        ("spop none -1", "-ERR value is out of range, must be positive"),
        ("spop none x", "-ERR value is out of range, must be positive"),
        ("spop none 1 2", "-ERR syntax error"),
        ("sadd s a", "1"),
        ("spop s 0", "[]"),
        ("spop s", "\"a\""),
        ("exists s", "0"),
    ]);
}

#[test]
fn srandmember_draws_evenly() {
    let mut bench = Bench::new();
    bench.line("sadd s a b c d e f g h");
    let mut drawn = std::collections::BTreeMap::<String, usize>::new();
    for line in ["srandmember s", "srandmember s 2", "srandmember s 5", "srandmember s -3"] {
        for _ in 0..800 {
            let text = sorted(&bench.line(line));
            let mut names: Vec<_> = text.split(' ').map(str::to_owned).collect();
            for name in &names {
                *drawn.entry(format!("{line} {name}")).or_default() += 1;
            }
            names.dedup();
            assert!(line.contains('-') || names.len() == text.split(' ').count());
        }
    }
    for (name, count) in drawn {
        let expected = match name.as_bytes()[name.find(' ').unwrap() + 3] {
            b'2' => 200,
            b'5' => 500,
            b'-' => 300,
            _ => 100,
        };
        assert!(count > expected * 6 / 10 && count < expected * 14 / 10, "{name}: {count}");
    }
    bench.check(&[
        ("srandmember s 0", "[]"),
        ("srandmember none", "nil"),
        ("srandmember none 5", "[]"),
        ("srandmember s x", "-ERR value is not an integer or out of range"),
        ("srandmember s -9223372036854775808", "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"),
    ]);
}

#[test]
fn sscan_tells_every_member() {
    let mut bench = Bench::new();
    let mut args = vec!["sadd".to_owned(), "s".to_owned()];
    args.extend((0..1000).map(|n| format!("m{n}")));
    bench.run(&args);
    let (mut cursor, mut seen, mut calls) = ("0".to_owned(), std::collections::BTreeSet::new(), 0);
    loop {
        let Reply::Array(parts) = bench.line(&format!("sscan s {cursor} count 50 match m*")) else {
            panic!()
        };
        cursor = show(&parts[0]).trim_matches('"').to_owned();
        seen.extend(sorted(&parts[1]).split(' ').map(str::to_owned));
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((seen.len(), calls), (1000, 20));
    bench.check(&[
        ("sscan s x", "-ERR invalid cursor"),
        ("sscan s 0 count 0", "-ERR syntax error"),
        ("sscan s 0 type set", "-ERR syntax error"),
        ("sscan none 0 nonsense", "[\"0\" []]"),
    ]);
}

#[test]
fn the_same_proposals_end_in_the_same_state() {
    let mut benches = [Bench::new(), Bench::new()];
    let mut state = 9u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % bound
    };
    for step in 0..4000 {
        let (key, other) = (next(4), next(4));
        let line = match next(8) {
            0 => format!("spop k{key}"),
            1 => format!("spop k{key} {}", next(40)),
            2 => format!("sunionstore k{key} k{key} k{other}"),
            3 if step % 20 == 0 => format!("sdiffstore k{key} k{other} k{key}"),
            4 => format!("smove k{key} k{other} {}", next(300)),
            5 => format!("sadd k{key} m{}", next(300)),
            _ => format!("sadd k{key} {} {} {}", next(300), next(300), next(300)),
        };
        let [one, two] = &mut benches;
        assert_eq!(one.line(&line), two.line(&line), "{line}");
    }
    let [one, two] = benches.map(|bench| bench.engine.keyspace().digest(bench.now));
    assert_eq!(one, two);
}

#[test]
fn repetitions_are_bounded() {
    let mut bench = Bench::new();
    bench.check(&[("SADD s a", "1"), ("ZADD z 1 a", "1"), ("HSET h a 1", "1")]);
    for (command, key) in [("SRANDMEMBER", "s"), ("ZRANDMEMBER", "z"), ("HRANDFIELD", "h")] {
        for count in ["-4194305", "-4611686018427387903", "-9223372036854775807"] {
            let reply = bench.show(&format!("{command} {key} {count}"));
            assert_eq!(reply, "-ERR value is out of range", "{command} {count}");
            assert_eq!(bench.show(&format!("{command} none {count}")), "[]");
        }
        assert_eq!(bench.show(&format!("{command} {key} -3")), "[\"a\" \"a\" \"a\"]");
    }
    // Few, but large.
    let large = "x".repeat(1 << 20);
    bench.run(&["SADD", "large", &large]);
    assert_eq!(bench.show("SRANDMEMBER large -600"), "-ERR value is out of range");
}
