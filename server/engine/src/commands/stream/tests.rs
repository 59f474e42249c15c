use proptest::prelude::*;

use crate::command::KeysError;
use crate::effects::Wait;
use crate::engine::table;
use crate::host::Host;
use crate::reply::Reply;
use crate::testing::Bench;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn ids_come_from_the_proposal() {
    let mut bench = Bench::new();
    bench.check(&[
        ("xadd s * a 1", "\"1700000000000-0\""),
        ("xadd s * a 2", "\"1700000000000-1\""),
        ("xadd s 1700000000000-* a 3", "\"1700000000000-2\""),
        ("xadd s 1700000000001-* a 4", "\"1700000000001-0\""),
        // The time has not come yet; ids go on after the last.
        ("xadd s * a 5", "\"1700000000001-1\""),
        (
            "xadd s 5-* a 6",
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ),
        ("xlen s", "5"),
        ("xadd t 0-* a 1", "\"0-1\""),
        ("xadd t 0-0 a 1", "-ERR The ID specified in XADD must be greater than 0-0"),
        (
            "xadd t 18446744073709551615-18446744073709551615 a 1",
            "\"18446744073709551615-18446744073709551615\"",
        ),
        (
            "xadd t * a 1",
            "-ERR The stream has exhausted the last possible ID, unable to add more items",
        ),
        ("xadd none nomkstream * a 1", "nil"),
        ("exists none", "0"),
        ("set text x", "OK"),
        ("xadd text * a 1", WRONG_TYPE),
        ("type s", "stream"),
        ("object encoding s", "\"stream\""),
    ]);
}

#[test]
fn events_and_changes_are_told() {
    let mut bench = Bench::new();
    bench.check_events(&[
        ("xadd s 1-1 a 1", "0:new s, 0:xadd s", 1),
        ("xadd s 2-1 a 1", "0:xadd s", 1),
        ("xadd s maxlen 2 3-1 a 1", "0:xadd s, 0:xtrim s", 1),
        ("xtrim s maxlen 5", "", 0),
        ("xtrim s maxlen 1", "0:xtrim s", 1),
        ("xdel s 9-9", "", 0),
        ("xdel s 3-1", "0:xdel s", 1),
        ("xsetid s 9-9", "0:xsetid s", 1),
        ("xgroup create s g 0", "0:xgroup-create s", 1),
        ("xgroup create s g 0", "", 0),
        ("xgroup create n g $ mkstream", "0:new n, 0:xgroup-create n", 1),
        ("xgroup setid s g 0", "0:xgroup-setid s", 1),
        ("xgroup createconsumer s g c", "0:xgroup-createconsumer s", 1),
        ("xgroup createconsumer s g c", "", 0),
        ("xreadgroup group g c streams s >", "", 0),
        ("xreadgroup group g d streams s >", "0:xgroup-createconsumer s", 1),
        ("xadd s 10-1 a 1", "0:xadd s", 1),
        ("xreadgroup group g c streams s >", "", 1),
        ("xreadgroup group g c streams s 0", "", 1),
        ("xclaim s g e 0 10-1", "0:xgroup-createconsumer s", 2),
        ("xautoclaim s g c 0 0", "", 1),
        ("xack s g 10-1", "", 1),
        ("xack s g 10-1", "", 0),
        ("xgroup delconsumer s g c", "0:xgroup-delconsumer s", 1),
        ("xgroup delconsumer s g c", "", 0),
        ("xgroup destroy s g", "0:xgroup-destroy s", 1),
        ("xgroup destroy s g", "", 0),
    ]);
}

#[test]
fn readers_say_when_they_would_wait() {
    let mut bench = Bench::new();
    bench.line("xgroup create s g $ mkstream");
    for (line, wait) in [
        ("xread streams s $", None),
        ("xread block 0 streams s $", Some(Wait::for_key(None))),
        ("xread block 20 streams s 0", Some(Wait::for_key(Some(20)))),
        ("xread block 20 streams nosuch 0", Some(Wait::for_key(Some(20)))),
        ("xreadgroup group g c block 7 streams s >", Some(Wait::for_key(Some(7)))),
    ] {
        assert_eq!(bench.show(line), "nil", "{line}");
        assert_eq!(bench.effects.wait, wait, "{line}");
    }
    // History is answered at once, even if there is none.
    assert_eq!(bench.show("xreadgroup group g c block 0 streams s 0"), "{\"s\": []}");
    assert_eq!(bench.effects.wait, None);
    bench.check(&[
        ("xread block -1 streams s $", "-ERR timeout is negative"),
        ("xread block x streams s $", "-ERR timeout is not an integer or out of range"),
        ("xread block 9223372036854775807 streams s $", "-ERR timeout is out of range"),
        (
            "xreadgroup group g c block 0 streams nosuch >",
            "-NOGROUP No such key 'nosuch' or consumer group 'g' in XREADGROUP with GROUP option",
        ),
    ]);
}

/// A host with clients that wait for something.
struct Waited;

impl Host for Waited {
    fn has_blocked_clients(&self) -> bool {
        true
    }
}

#[test]
fn who_waits_is_told_of_entries_and_of_losses() {
    for line in [
        "xadd s * a 1",
        "del s",
        "unlink s",
        "set s x",
        "rename s t",
        "xgroup destroy s g",
        "getdel s",
    ] {
        let mut bench = Bench::new();
        bench.line("xgroup create s g $ mkstream");
        bench.run_with(&Waited, &line.split(' ').collect::<Vec<_>>());
        let told = bench.effects.notices.iter().any(
            |notice| matches!(notice, crate::effects::Notice::Ready(_, key) if key[..] == *b"s"),
        );
        assert_eq!(told, line != "getdel s", "{line}");
    }
}

#[test]
fn keys_stand_behind_streams_wherever_it_is_a_word() {
    let keys = |line: &str| -> Result<Vec<String>, KeysError> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let row = table().find(args[0]).expect("a command");
        let found = row.find_keys(&args)?;
        Ok(found.iter().map(|(at, _)| String::from_utf8_lossy(args[*at]).into_owned()).collect())
    };
    for (line, expected) in [
        ("xread streams a 0", &["a"][..]),
        ("xread count 5 block 3 streams a b 0 0", &["a", "b"]),
        ("xread count streams streams a 0", &["a"]),
        ("xreadgroup group streams streams noack streams a >", &["a"]),
        ("xreadgroup block 1 group g streams streams a b > >", &["a", "b"]),
        ("xread streams a b 0", &[]),
        ("xread count 5", &[]),
        ("xread wrong streams a 0", &[]),
    ] {
        assert_eq!(keys(line).expect(line), expected, "{line}");
    }
}

#[test]
fn scripts_may_read_but_not_wait() {
    let mut bench = Bench::new();
    bench.line("xgroup create s g $ mkstream");
    bench.line("xadd s 1-1 f v");
    let eval = |bench: &mut Bench, script: &str| match bench.run(&["eval", script, "1", "s"]) {
        Reply::Error(error) => error.text().to_owned(),
        reply => crate::testing::show(&reply),
    };
    let read = eval(&mut bench, "return redis.call('xread', 'streams', KEYS[1], '0')");
    assert_eq!(read, "[[\"s\" [[\"1-1\" [\"f\" \"v\"]]]]]");
    let error = "xread command is not allowed with BLOCK option from scripts";
    let blocked = "return redis.call('xread', 'BLOCK', 0, 'STREAMS', KEYS[1], '$')";
    assert!(eval(&mut bench, blocked).contains(error));
}

#[test]
fn a_reader_that_is_given_nothing_fails_no_watch() {
    let mut bench = Bench::new();
    bench.check(&[("xgroup create s g $ mkstream", "OK"), ("xgroup createconsumer s g c", "1")]);
    let watch = bench.watch("s");
    bench.check(&[("xreadgroup group g c streams s >", "nil"), ("xack s g 1-1", "0")]);
    assert_eq!(bench.watch("s"), watch);
    bench.line("xadd s * a 1");
    assert_ne!(bench.watch("s"), watch);
}

/// A stream with all that a payload can hold, and the payload.
fn dumped(bench: &mut Bench) -> Vec<u8> {
    for line in [
        "xadd s 1-1 f v g 12",
        "xadd s 2-1 f v g -70000",
        "xadd s 3-1 other long",
        "xdel s 2-1",
        "xgroup create s g 0",
        "xgroup create s empty $",
        "xreadgroup group g c count 1 streams s >",
        "xreadgroup group g d streams s >",
    ] {
        bench.line(line);
    }
    match bench.line("dump s") {
        Reply::Bulk(payload) => payload.to_vec(),
        other => panic!("DUMP answers a string, not {other:?}"),
    }
}

#[test]
fn dumps_come_back_and_damage_is_refused() {
    let mut bench = Bench::new();
    let payload = dumped(&mut bench);
    let told = bench.show("xinfo stream s full");
    let restored = bench.run(&[&b"restore"[..], b"t", b"0", &payload]);
    assert_eq!(restored, Reply::Ok);
    assert_eq!(bench.show("xinfo stream t full"), told);
    let body = &payload[..payload.len() - 10];
    for at in 1..body.len() {
        let cut = framed(body[..at].to_vec());
        let reply = bench.run(&[&b"restore"[..], b"d", b"0", &cut, b"replace"]);
        assert_eq!(crate::testing::show(&reply), "-ERR Bad data format", "cut at {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn no_payload_makes_a_command_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4))
    {
        let mut bench = Bench::new();
        let payload = dumped(&mut bench);
        let mut body = payload[..payload.len() - 10].to_vec();
        for (at, byte) in damage {
            let len = body.len();
            body[at.index(len)] = byte;
        }
        // The frame is right, what it holds may not be.
        bench.run(&[&b"restore"[..], b"d", b"0", &framed(body)]);
        for line in [
            "xinfo stream d full count 0",
            "xrange d - +",
            "xrevrange d + - count 2",
            "xpending d g - + 10",
            "xadd d * f v",
            "xadd d maxlen 2 * f v",
            "xreadgroup group g e count 2 streams d >",
            "xreadgroup group g c streams d 0",
            "xautoclaim d g e 0 0",
            "xinfo groups d",
            "xdel d 1-1 3-1",
            "copy d copied",
            "dump copied",
            "xtrim d minid ~ 5",
            "xgroup delconsumer d g c",
            "xtrim d maxlen 0",
            "del d",
        ] {
            bench.line(line);
        }
    }
}

fn framed(mut body: Vec<u8>) -> Vec<u8> {
    body.extend(10u16.to_le_bytes());
    let crc = crate::dump::crc64(0, &body);
    body.extend(crc.to_le_bytes());
    body
}

#[test]
fn streams_of_redis_5_get_their_counts() {
    let mut bench = Bench::new();
    // One block of 1-0 {data a}, last id 1-0, a group that has read it.
    let mut body = b"\x0f\x01\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
    let mut entries = crate::value::stream::Entries::default();
    let id = crate::value::stream::StreamId::new(1, 0);
    let limits = crate::limits::Limits::default();
    entries.add(id, &[b"data", b"a"], (&limits).into());
    let listpack = entries.blocks().next().expect("one block").1.to_listpack();
    body.push(listpack.len() as u8);
    body.extend(listpack);
    body.extend(b"\x01\x01\x00\x01\x01g\x01\x00\x00\x01\x01c");
    body.extend([0; 9]);
    let reply = bench.run(&[&b"restore"[..], b"s", b"0", &framed(body)]);
    assert_eq!(reply, Reply::Ok);
    bench.check(&[(
        "xinfo groups s",
        "[{\"name\": \"g\", \"consumers\": 1, \"pending\": 0, \"last-delivered-id\": \"1-0\", \"entries-read\": 1, \"lag\": 0}]",
    )]);
}
