use proptest::prelude::*;

use crate::testing::Bench;

#[test]
fn fields_are_set_read_and_removed() {
    Bench::new().check(&[
        ("HSET h a 1 b 2", "2"),
        ("HSET h a 3 c 4", "1"),
        ("HGET h a", "\"3\""),
        ("HGET h z", "nil"),
        ("HGET nosuch z", "nil"),
        ("HMGET h c z a", "[\"4\" nil \"3\"]"),
        ("HMGET nosuch a b", "[nil nil]"),
        ("HSETNX h a 9", "0"),
        ("HSETNX h d 9", "1"),
        ("HLEN h", "4"),
        ("HGETALL h", "[\"a\" \"3\" \"b\" \"2\" \"c\" \"4\" \"d\" \"9\"]"),
        ("HKEYS h", "[\"a\" \"b\" \"c\" \"d\"]"),
        ("HVALS h", "[\"3\" \"2\" \"4\" \"9\"]"),
        ("HSTRLEN h a", "1"),
        ("HEXISTS h z", "0"),
        ("HDEL h a z b c", "3"),
        ("HDEL h d", "1"),
        ("EXISTS h", "0"),
        ("HGETALL h", "[]"),
        ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
        ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
        ("HMSET h a 1 b", "-ERR wrong number of arguments for 'hmset' command"),
        ("EXISTS h", "0"),
        ("SET s x", "OK"),
        ("HGET s a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("HSET s a 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
}

#[test]
fn counters_refuse_what_is_no_number() {
    Bench::new().check(&[
        ("HINCRBY h n 5", "5"),
        ("HINCRBY h n -7", "-2"),
        ("HINCRBY h n x", "-ERR value is not an integer or out of range"),
        ("HSET h t abc m 9223372036854775807", "2"),
        ("HINCRBY h t 1", "-ERR hash value is not an integer"),
        ("HINCRBY h m 1", "-ERR increment or decrement would overflow"),
        ("HINCRBYFLOAT h n 0.1", "\"-1.9\""),
        ("HINCRBYFLOAT h f 10.5", "\"10.5\""),
        ("HINCRBYFLOAT h f 0.1", "\"10.6\""),
        ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
        ("HINCRBYFLOAT h f x", "-ERR value is not a valid float"),
        ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float"),
    ]);
}

#[test]
fn random_fields_are_drawn_as_asked() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HRANDFIELD nosuch", "nil"),
        ("HRANDFIELD nosuch 3", "[]"),
        ("HSET h a 1 b 2 c 3", "3"),
        ("HRANDFIELD h 0", "[]"),
        ("HRANDFIELD h 5", "[\"a\" \"b\" \"c\"]"),
        ("HRANDFIELD h 5 WITHVALUES", "{\"a\": \"1\", \"b\": \"2\", \"c\": \"3\"}"),
        ("HRANDFIELD h 1 x", "-ERR syntax error"),
        ("HRANDFIELD h -9223372036854775807 WITHVALUES", "-ERR value is out of range"),
    ]);
    for line in ["HRANDFIELD h -40", "HRANDFIELD h 2"] {
        let shown = bench.show(line);
        let count = if line.ends_with("40") { 40 } else { 2 };
        assert_eq!(shown.split(' ').count(), count, "{shown}");
    }
    let big: Vec<String> = (0..500).map(|n| format!("f{n} v{n}")).collect();
    bench.line(&format!("HSET big {}", big.join(" ")));
    for count in [3, 100, 400] {
        let shown = bench.show(&format!("HRANDFIELD big {count}"));
        let mut drawn: Vec<&str> = shown.trim_matches(['[', ']']).split(' ').collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), count);
    }
    assert_ne!(bench.show("HRANDFIELD big 100"), bench.show("HRANDFIELD big 100"));
}

#[test]
fn a_scan_tells_fields_and_perhaps_values() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HSCAN nosuch 0 COUNT x", "[\"0\" []]"),
        ("HSCAN nosuch x", "-ERR invalid cursor"),
        ("HSET h a 1 b 2 ab 3", "3"),
        ("HSCAN h 0", "[\"0\" [\"a\" \"1\" \"b\" \"2\" \"ab\" \"3\"]]"),
        ("HSCAN h 0 MATCH a* COUNT 1", "[\"0\" [\"a\" \"1\" \"ab\" \"3\"]]"),
        ("HSCAN h 0 NOVALUES", "[\"0\" [\"a\" \"b\" \"ab\"]]"),
        ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
        ("HSCAN h 0 foo", "-ERR syntax error"),
    ]);
    let big: Vec<String> = (0..500).map(|n| format!("f{n} v{n}")).collect();
    bench.line(&format!("HSET big {}", big.join(" ")));
    let (mut cursor, mut found, mut calls) = ("0".to_owned(), 0, 0);
    loop {
        let shown = bench.show(&format!("HSCAN big {cursor} COUNT 50 NOVALUES"));
        let (next, fields) = shown[2..].split_once('"').unwrap();
        found += fields.matches('f').count();
        cursor = next.to_owned();
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((found, calls), (500, 10));
}

#[test]
fn encodings_follow_the_limits() {
    let mut bench = Bench::new();
    bench.line(&format!("HSET h f {}", "x".repeat(64)));
    assert_eq!(bench.show("OBJECT ENCODING h"), "\"listpack\"");
    bench.line(&format!("HSET h f {}", "x".repeat(65)));
    assert_eq!(bench.show("OBJECT ENCODING h"), "\"hashtable\"");
    for n in 0..128 {
        bench.line(&format!("HSET many f{n} {n}"));
    }
    assert_eq!(bench.show("OBJECT ENCODING many"), "\"listpack\"");
    bench.line("HINCRBY many f128 1");
    assert_eq!(bench.show("OBJECT ENCODING many"), "\"hashtable\"");
}

#[test]
fn a_field_is_absent_from_the_millisecond_it_expires() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HSET h a 1 b 2 c 3", "3"),
        ("HPEXPIRE h 100 FIELDS 2 a z", "[1 -2]"),
        ("HPTTL h FIELDS 3 a b z", "[100 -1 -2]"),
        ("HTTL h FIELDS 1 a", "[1]"),
        ("OBJECT ENCODING h", "\"listpackex\""),
    ]);
    bench.pass_ms(99);
    assert_eq!(bench.show("HGET h a"), "\"1\"");
    bench.pass_ms(1);
    bench.check(&[
        ("HGET h a", "nil"),
        ("HLEN h", "2"),
        ("HEXISTS h a", "0"),
        ("HGETALL h", "[\"b\" \"2\" \"c\" \"3\"]"),
        ("HRANDFIELD h 5", "[\"b\" \"c\"]"),
        ("HSCAN h 0", "[\"0\" [\"b\" \"2\" \"c\" \"3\"]]"),
        ("HPTTL h FIELDS 1 a", "[-2]"),
        ("HDEL h a", "0"),
        ("HSETNX h a 5", "1"),
        ("HPTTL h FIELDS 1 a", "[-1]"),
    ]);
}

#[test]
fn conditions_and_times_of_expiries() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HSET h a 1 b 2", "2"),
        ("HEXPIRE h 100 XX FIELDS 1 a", "[0]"),
        ("HEXPIRE h 100 GT FIELDS 1 a", "[0]"),
        ("HEXPIRE h 100 LT FIELDS 1 a", "[1]"),
        ("HEXPIRE h 100 NX FIELDS 2 a b", "[0 1]"),
        ("HEXPIRE h 50 GT FIELDS 1 a", "[0]"),
        ("HEXPIRE h 200 gt FIELDS 1 a", "[1]"),
        ("HTTL h FIELDS 2 a b", "[200 100]"),
        ("HEXPIREAT h 1700000300 FIELDS 1 a", "[1]"),
        ("HEXPIRETIME h FIELDS 1 a", "[1700000300]"),
        ("HPEXPIREAT h 1700000300001 FIELDS 1 a", "[1]"),
        ("HPEXPIRETIME h FIELDS 1 a", "[1700000300001]"),
        ("HEXPIRETIME h FIELDS 1 a", "[1700000301]"),
        ("HPERSIST h FIELDS 2 a z", "[1 -2]"),
        ("HPERSIST h FIELDS 1 a", "[-1]"),
        (
            "HEXPIRE h 10 FIELDS 2 a",
            "-ERR The `numfields` parameter must match the number of arguments",
        ),
        ("HEXPIRE h 10 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0"),
        (
            "HEXPIRE h 10 FIELD 1 a",
            "-ERR Mandatory argument FIELDS is missing or not at the right position",
        ),
        ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0"),
        ("HEXPIRE h 9999999999999 FIELDS 1 a", "-ERR invalid expire time in 'hexpire' command"),
        ("HEXPIRE nosuch 10 FIELDS 2 a b", "[-2 -2]"),
        ("HTTL nosuch FIELDS 1 a", "[-2]"),
        ("HEXPIRE h 0 FIELDS 1 a", "[2]"),
        ("HEXPIREAT h 1 FIELDS 2 a b", "[-2 2]"),
        ("EXISTS h", "0"),
    ]);
}

#[test]
fn a_hash_is_gone_when_its_last_field_expires() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HSET h a 1 b 2", "2"),
        ("HPEXPIRE h 100 FIELDS 1 a", "[1]"),
        ("HPEXPIRE h 200 FIELDS 1 b", "[1]"),
        ("TTL h", "-1"),
        ("PERSIST h", "0"),
        ("EXPIRE h 1000", "1"),
        ("TTL h", "1000"),
        ("COPY h copied", "1"),
        ("RENAME h g", "OK"),
        ("TTL g", "1000"),
        ("HPTTL g FIELDS 2 a b", "[100 200]"),
        ("PERSIST g", "1"),
        ("TTL g", "-1"),
    ]);
    bench.pass_ms(200);
    bench.check(&[
        ("EXISTS g copied", "0"),
        ("TYPE g", "none"),
        ("HLEN g", "0"),
        ("HSET g x 1", "1"),
        ("TTL g", "-1"),
        ("HGETALL g", "[\"x\" \"1\"]"),
    ]);
}

#[test]
fn a_key_keeps_its_own_expiry_while_its_fields_come_and_go() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HSET h a 1", "1"),
        ("PEXPIRE h 5000", "1"),
        ("HPEXPIRE h 100 FIELDS 1 a", "[1]"),
        ("PTTL h", "5000"),
        ("HSET h b 2", "1"),
        ("PTTL h", "5000"),
        ("HPEXPIRE h 9000 FIELDS 1 b", "[1]"),
        ("PTTL h", "5000"),
    ]);
    bench.pass_ms(150);
    bench.check(&[
        ("HGETALL h", "[\"b\" \"2\"]"),
        ("HPERSIST h FIELDS 1 b", "[1]"),
        ("PTTL h", "4850"),
    ]);
    bench.pass_ms(4850);
    assert_eq!(bench.show("EXISTS h"), "0");
}

#[test]
fn setting_a_value_drops_the_expiry_and_counting_keeps_it() {
    Bench::new().check(&[
        ("HSET h a 1 b 1", "2"),
        ("HEXPIRE h 100 FIELDS 2 a b", "[1 1]"),
        ("HSET h a 2", "0"),
        ("HINCRBY h b 1", "2"),
        ("HTTL h FIELDS 2 a b", "[-1 100]"),
    ]);
}

#[test]
fn values_and_lifetimes_together() {
    let mut bench = Bench::new();
    bench.check(&[
        ("HSETEX h EX 100 FIELDS 2 a 1 b 2", "1"),
        ("HTTL h FIELDS 2 a b", "[100 100]"),
        ("HSETEX h FNX FIELDS 1 a 9", "0"),
        ("HSETEX h FXX KEEPTTL FIELDS 1 a 9", "1"),
        ("HSETEX h FXX FIELDS 1 z 9", "0"),
        ("HTTL h FIELDS 1 a", "[100]"),
        ("HGETEX h PX 5000 FIELDS 2 a z", "[\"9\" nil]"),
        ("HPTTL h FIELDS 1 a", "[5000]"),
        ("HGETEX h PERSIST FIELDS 1 a", "[\"9\"]"),
        ("HGETEX h FIELDS 1 a", "[\"9\"]"),
        ("HTTL h FIELDS 1 a", "[-1]"),
        ("HGETDEL h FIELDS 2 a z", "[\"9\" nil]"),
        ("HGETDEL h FIELDS 1 b", "[\"2\"]"),
        ("EXISTS h", "0"),
        ("HGETDEL h FIELDS 1 b", "[nil]"),
        ("HSETEX h EX 100 FIELDS 2 a 1", "-ERR wrong number of arguments for 'hsetex' command"),
        ("HSETEX h FXX FIELDS 1 a 1", "0"),
        ("EXISTS h", "0"),
        ("HSETEX h PXAT 1 FIELDS 1 a 1", "1"),
        ("EXISTS h", "0"),
    ]);
}

#[test]
fn events_and_changes() {
    let mut bench = Bench::new();
    bench.check_events(&[
        ("HSET h a 1 b 2", "0:new h, 0:hset h", 2),
        ("HSETNX h a 1", "", 0),
        ("HINCRBY h n 1", "0:hincrby h", 1),
        ("HINCRBYFLOAT h n 1", "0:hincrbyfloat h", 1),
        ("HPEXPIRE h 10 FIELDS 2 a z", "0:hexpire h", 1),
        ("HPERSIST h FIELDS 1 a", "0:hpersist h", 1),
        ("HPEXPIRE h 10 FIELDS 1 a", "0:hexpire h", 1),
        ("HDEL h z", "", 0),
    ]);
    bench.pass_ms(10);
    bench.check_events(&[
        ("HDEL h a", "", 0),
        ("HDEL h b", "0:hexpired h, 0:hdel h", 1),
        ("HDEL h n", "0:hdel h, 0:del h", 1),
    ]);
}

fn line() -> impl Strategy<Value = String> {
    let key = prop_oneof![Just("h"), Just("g")];
    let field = (0u8..30).prop_map(|n| format!("f{n}"));
    (0usize..14, key, field, 0u32..40).prop_map(|(command, key, field, n)| match command {
        0..4 => format!("HSET {key} {field} {n} g{n} v"),
        4 => format!("HDEL {key} {field}"),
        5 => format!("HINCRBY {key} {field} {n}"),
        6 | 7 => format!("HPEXPIRE {key} {n} FIELDS 1 {field}"),
        8 => format!("HPERSIST {key} FIELDS 1 {field}"),
        9 => format!("PEXPIRE {key} {}", n * 20),
        10 => format!("HSETEX {key} PX {} FIELDS 1 {field} {n}", n + 1),
        11 => format!("HGETDEL {key} FIELDS 1 {field}"),
        12 => format!("PERSIST {key}"),
        _ => format!("HSETNX {key} {field} {}", "x".repeat(n as usize * 3)),
    })
}

proptest! {
    /// One engine gives back expired memory early, the other never by itself.
    #[test]
    fn two_engines_fed_the_same_end_the_same(lines in prop::collection::vec((line(), 0i64..6), 1..150)) {
        let (mut one, mut other) = (Bench::new(), Bench::new());
        for (line, ms) in lines {
            prop_assert_eq!(one.show(&line), other.show(&line), "{}", line);
            one.pass_ms(ms);
            other.pass_ms(ms);
            one.engine.keyspace().expire_due(one.now, 100, &mut one.effects);
            for look in ["HGETALL h", "HGETALL g", "HSCAN h 0 COUNT 100", "PTTL g"] {
                prop_assert_eq!(one.show(look), other.show(look), "{}", look);
            }
            prop_assert_eq!(
                one.engine.keyspace().digest(one.now),
                other.engine.keyspace().digest(other.now)
            );
        }
    }
}
