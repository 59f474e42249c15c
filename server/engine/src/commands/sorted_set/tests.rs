use crate::effects::Wait;
use crate::reply::Reply;
use crate::testing::Bench;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn zadd_minds_its_options() {
    let mut bench = Bench::new();
    bench.check(&[
        ("zadd z 1 a 2 b", "2"),
        ("zadd z nx 9 a 3 c", "1"),
        ("zadd z xx 5 a 5 new", "0"),
        ("zadd z xx ch 6 a 5 new", "1"),
        ("zadd z gt ch 5 a 3 b", "1"),
        ("zadd z lt ch 7 a 1 b", "1"),
        ("zadd z ch gt 7 d", "1"),
        ("zadd z incr 1.5 a", "7.5"),
        ("zadd z nx incr 1 a", "nil"),
        ("zadd z xx incr 1 none", "nil"),
        ("zadd z gt incr -1 a", "nil"),
        ("zadd z lt incr 0 a", "nil"),
        ("zrange z 0 -1 withscores", "{\"b\": 1.0, \"c\": 3.0, \"d\": 7.0, \"a\": 7.5}"),
        ("zadd none xx 1 a", "0"),
        ("exists none", "0"),
        ("zadd z 1", "-ERR wrong number of arguments for 'zadd' command"),
        ("zadd z 1 a 2", "-ERR syntax error"),
        ("zadd z nx ch incr", "-ERR syntax error"),
        ("zadd z nx xx 1 a", "-ERR XX and NX options at the same time are not compatible"),
        ("zadd z gt lt 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("zadd z nx gt 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("zadd z incr 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
        ("zadd z 1 a x b", "-ERR value is not a valid float"),
        ("zadd z nan a", "-ERR value is not a valid float"),
        ("zincrby z 0.5 a", "8.0"),
        ("zincrby z x a", "-ERR value is not a valid float"),
        ("zadd z inf i", "1"),
        ("zincrby z -inf i", "-ERR resulting score is not a number (NaN)"),
        ("zscore z i", "inf"),
        ("set text x", "OK"),
        ("zadd text x a", "-ERR value is not a valid float"),
        ("zadd text 1 a", WRONG_TYPE),
    ]);
    bench.check_events(&[
        ("zadd y 1 a 2 b 3 c", "0:new y, 0:zadd y", 3),
        ("zadd y 1 a", "", 0),
        ("zadd y 1 a 5 b 6 d", "0:zadd y", 2),
        ("zincrby y 1 a", "0:zincr y", 1),
        ("zincrby y 0 a", "", 0),
        ("zrem y a b c d e", "0:zrem y, 0:del y", 4),
    ]);
}

#[test]
fn scores_ranks_and_counts() {
    let mut bench = Bench::new();
    bench.check(&[
        ("zadd z 1 a 2 b 2 c 3 d", "4"),
        ("zcard z", "4"),
        ("zmscore z a x d", "[1.0 nil 3.0]"),
        ("zmscore none a", "[nil]"),
        ("zrank z c", "2"),
        ("zrevrank z c", "1"),
        ("zrank z c withscore", "[2 2.0]"),
        ("zrevrank z a withscore", "[3 1.0]"),
        ("zrank z x", "nil"),
        ("zrank z a withscores", "-ERR syntax error"),
        ("zrank z a withscore x", "-ERR wrong number of arguments for 'zrank' command"),
        ("zcount z (1 2", "2"),
        ("zcount z -inf +inf", "4"),
        ("zcount z (2 (2", "0"),
        ("zcount z x 1", "-ERR min or max is not a float"),
        ("zlexcount z x +", "-ERR min or max not valid string range item"),
        ("zadd l 0 a 0 b 0 c 0 d", "4"),
        ("zlexcount l - +", "4"),
        ("zlexcount l [b (d", "2"),
        ("zlexcount l + -", "0"),
    ]);
    assert_eq!(bench.line("zrank z x"), Reply::Nil);
    assert_eq!(bench.line("zrank z x withscore"), Reply::NilArray);
    assert_eq!(bench.line("zrank none x withscore"), Reply::NilArray);
}

#[test]
fn zrange_has_many_forms() {
    let mut bench = Bench::new();
    bench.line("zadd z 1 a 2 b 3 c 4 d");
    bench.line("zadd l 0 a 0 b 0 c 0 d");
    bench.check(&[
        ("zrange z 1 2", "[\"b\" \"c\"]"),
        ("zrange z -2 -1 rev", "[\"b\" \"a\"]"),
        ("zrange z 5 9", "[]"),
        ("zrange z (1 3 byscore", "[\"b\" \"c\"]"),
        ("zrange z 3 (1 byscore rev limit 1 1", "[\"b\"]"),
        ("zrange z 1 9 byscore limit -1 5", "[]"),
        ("zrange z 1 9 byscore limit 1 -7 withscores", "{\"b\": 2.0, \"c\": 3.0, \"d\": 4.0}"),
        ("zrange l [b + bylex", "[\"b\" \"c\" \"d\"]"),
        ("zrange l + (b bylex rev limit 0 1", "[\"d\"]"),
        ("zrevrange z 0 1 withscores", "{\"d\": 4.0, \"c\": 3.0}"),
        ("zrangebyscore z -inf (3 withscores limit 1 5", "{\"b\": 2.0}"),
        ("zrevrangebyscore z (4 2", "[\"c\" \"b\"]"),
        ("zrangebylex l (a [c", "[\"b\" \"c\"]"),
        ("zrevrangebylex l [c -", "[\"c\" \"b\" \"a\"]"),
        ("zrange z x 1", "-ERR value is not an integer or out of range"),
        ("zrange z 0 1 byscore bylex", "-ERR syntax error"),
        ("zrange z 0 1 limit 0 1", "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"),
        ("zrangebylex l - + withscores", "-ERR syntax error, WITHSCORES not supported in combination with BYLEX"),
        ("zrevrange z 0 1 rev", "-ERR syntax error"),
        ("zrangestore d z 0 1 withscores", "-ERR syntax error"),
        ("zrangestore d z 2 9 byscore", "3"),
        ("zrange d 0 -1 withscores", "{\"b\": 2.0, \"c\": 3.0, \"d\": 4.0}"),
    ]);
    bench.check_events(&[
        ("zrangestore d z 0 0", "0:zrangestore d", 1),
        ("zrangestore d none 0 0", "0:del d", 1),
        ("zrangestore d none 0 0", "", 0),
    ]);
}

#[test]
fn ranges_are_removed() {
    let mut bench = Bench::new();
    bench.line("zadd z 1 a 2 b 3 c 4 d 5 e 6 f");
    bench.check_events(&[
        ("zremrangebyrank z 0 0", "0:zremrangebyrank z", 1),
        ("zremrangebyrank z 9 10", "", 0),
        ("zremrangebyscore z (2 3", "0:zremrangebyscore z", 1),
        ("zremrangebylex z [x [z", "", 0),
        ("zremrangebylex z - +", "0:zremrangebylex z, 0:del z", 4),
    ]);
    bench.check(&[
        ("zremrangebyrank z x 0", "-ERR value is not an integer or out of range"),
        ("zremrangebyscore z x 0", "-ERR min or max is not a float"),
        ("zremrangebylex z x [a", "-ERR min or max not valid string range item"),
    ]);
}

#[test]
fn pops_take_from_both_ends() {
    let mut bench = Bench::new();
    bench.line("zadd z 1 a 2 b 3 c 4 d 5 e 6 f");
    bench.check(&[
        ("zpopmin z", "[\"a\" 1.0]"),
        ("zpopmax z 2", "{\"f\": 6.0, \"e\": 5.0}"),
        ("zpopmin z 0", "[]"),
        ("zpopmin z -1", "-ERR value is out of range, must be positive"),
        ("zpopmin none", "[]"),
        ("zmpop 2 none z min", "[\"z\" [[\"b\" 2.0]]]"),
        ("zmpop 1 none min", "nil"),
        ("zmpop 0 z min", "-ERR numkeys should be greater than 0"),
        ("zmpop 1 z mid", "-ERR syntax error"),
        ("zmpop 2 z min", "-ERR syntax error"),
        ("zmpop 1 z min count 0", "-ERR count should be greater than 0"),
        ("zmpop 1 z min count 1 count 2", "-ERR syntax error"),
        ("bzpopmax none z 0", "[\"z\" \"d\" 4.0]"),
        ("bzmpop 0 1 z max count 5", "[\"z\" [[\"c\" 3.0]]]"),
        ("exists z", "0"),
    ]);
    bench.line("zadd z 1 a");
    bench.check_events(&[("zpopmin z 5", "0:zpopmin z, 0:del z", 1)]);
}

#[test]
fn blocking_pops_ask_to_wait() {
    let mut bench = Bench::new();
    for (line, timeout_ms) in [
        ("bzpopmin none 0", None),
        ("bzpopmax none other 0.0015", Some(2)),
        ("bzmpop 1.5 1 none min", Some(1500)),
    ] {
        assert_eq!(bench.line(line), Reply::NilArray, "{line}");
        assert_eq!(bench.effects.wait, Some(Wait::for_key(timeout_ms)), "{line}");
    }
    bench.check(&[
        ("bzpopmin none x", "-ERR timeout is not a float or out of range"),
        ("bzpopmin none -1", "-ERR timeout is negative"),
        ("bzmpop -1 1 none min", "-ERR timeout is negative"),
        ("bzpopmin none 1e300", "-ERR timeout is out of range"),
        ("bzpopmin none inf", "-ERR timeout is out of range"),
        ("set text x", "OK"),
        ("bzpopmin none text 0", WRONG_TYPE),
    ]);
    assert_eq!(bench.effects.wait, None);
    bench.line("zadd z 1 a");
    bench.line("bzpopmin z 0");
    assert_eq!(bench.effects.wait, None);
}

#[test]
fn combinations_weigh_and_aggregate() {
    let mut bench = Bench::new();
    bench.line("zadd a 1 x 2 y");
    bench.line("zadd b 10 y 20 z");
    bench.line("sadd s y z");
    bench.check(&[
        ("zunion 2 a b withscores", "{\"x\": 1.0, \"y\": 12.0, \"z\": 20.0}"),
        ("zunion 2 a s weights 2 3 withscores", "{\"x\": 2.0, \"z\": 3.0, \"y\": 7.0}"),
        ("zinter 2 a b aggregate max withscores", "{\"y\": 10.0}"),
        ("zinter 3 a b s", "[\"y\"]"),
        ("zinter 2 a none", "[]"),
        ("zdiff 2 a b withscores", "{\"x\": 1.0}"),
        ("zintercard 2 a b", "1"),
        ("zintercard 2 b s limit 1", "1"),
        ("zunionstore d 2 a b aggregate min", "3"),
        ("zrange d 0 -1 withscores", "{\"x\": 1.0, \"y\": 2.0, \"z\": 20.0}"),
        ("zinterstore d 2 d s", "2"),
        ("zdiffstore d 2 d d", "0"),
        ("exists d", "0"),
        ("zadd i inf x", "1"),
        ("zadd j -inf x", "1"),
        ("zunion 2 i j withscores", "{\"x\": 0.0}"),
        ("zinter 2 i j weights 0 0 withscores", "{\"x\": 0.0}"),
        ("zunion 0 a", "-ERR at least 1 input key is needed for 'zunion' command"),
        ("zunionstore d -1 a", "-ERR at least 1 input key is needed for 'zunionstore' command"),
        ("zunion x a", "-ERR value is not an integer or out of range"),
        ("zunion 3 a b", "-ERR syntax error"),
        ("zunion 2 a b weights 1", "-ERR syntax error"),
        ("zunion 2 a b weights 1 x", "-ERR weight value is not a float"),
        ("zunion 1 a aggregate avg", "-ERR syntax error"),
        ("zunionstore d 1 a withscores", "-ERR syntax error"),
        ("zdiff 1 a weights 1", "-ERR syntax error"),
        ("zintercard 1 a limit -1", "-ERR LIMIT can't be negative"),
        ("set text x", "OK"),
        ("zunion 2 a text nonsense", WRONG_TYPE),
    ]);
    bench.check_events(&[
        ("zunionstore d 1 s", "0:new d, 0:zunionstore d", 1),
        ("zinterstore d 2 d none", "0:del d", 1),
        ("zdiffstore d 1 none", "", 0),
    ]);
}

#[test]
fn random_members_and_scans() {
    let mut bench = Bench::new();
    bench.check(&[
        ("zrandmember none", "nil"),
        ("zrandmember none 3", "[]"),
        ("zadd z 1 a 2 b", "2"),
        ("zrandmember z 5", "[\"a\" \"b\"]"),
        ("zrandmember z 9 withscores", "{\"a\": 1.0, \"b\": 2.0}"),
        ("zrandmember z 0", "[]"),
        ("zrandmember z x", "-ERR value is not an integer or out of range"),
        ("zrandmember z 1 what", "-ERR syntax error"),
        ("zrandmember z 4611686018427387905 withscores", "-ERR value is out of range"),
        ("zscan z 0", "[\"0\" [\"a\" \"1\" \"b\" \"2\"]]"),
        ("zscan z 0 match b", "[\"0\" [\"b\" \"2\"]]"),
        ("zscan z x", "-ERR invalid cursor"),
        ("zscan none 0 nonsense", "[\"0\" []]"),
    ]);
    let Reply::Bulks(drawn) = bench.line("zrandmember z -7") else { panic!() };
    assert_eq!(drawn.len(), 7);
}

#[test]
fn encodings_change_at_the_limits() {
    let mut bench = Bench::new();
    let add = |bench: &mut Bench, key: &str, count: usize| {
        let mut args = vec!["zadd".to_owned(), key.to_owned()];
        args.extend((0..count).flat_map(|n| [n.to_string(), format!("m{n}")]));
        bench.run(&args);
        bench.show(&format!("object encoding {key}"))
    };
    assert_eq!(add(&mut bench, "a", 128), "\"listpack\"");
    assert_eq!(add(&mut bench, "b", 129), "\"skiplist\"");
    bench.check(&[
        ("zadd a 1 extra", "1"),
        ("object encoding a", "\"skiplist\""),
        ("zremrangebyrank a 1 -1", "128"),
        ("object encoding a", "\"skiplist\""),
        ("zunionstore c 1 a", "1"),
        ("object encoding c", "\"listpack\""),
    ]);
}

#[test]
fn the_same_proposals_end_in_the_same_state() {
    let mut benches = [Bench::new(), Bench::new()];
    let mut state = 5u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % bound
    };
    for _ in 0..4000 {
        let (key, other) = (next(4), next(4));
        let line = match next(9) {
            0 => format!("zpopmin k{key} {}", next(20)),
            1 => format!("zremrangebyrank k{key} {} {}", next(300), next(300)),
            2 => format!("zunionstore k{key} 2 k{key} k{other} weights 1 0.5"),
            3 => format!("zincrby k{key} {} m{}", next(7), next(300)),
            4 => format!("zrem k{key} m{} m{}", next(300), next(300)),
            5 => format!("zmpop 2 k{key} k{other} max"),
            _ => format!("zadd k{key} {} m{} {} m{}", next(50), next(300), next(50), next(300)),
        };
        let [one, two] = &mut benches;
        assert_eq!(one.line(&line), two.line(&line), "{line}");
    }
    let [one, two] = benches.map(|bench| bench.engine.keyspace().digest(bench.now));
    assert_eq!(one, two);
}
