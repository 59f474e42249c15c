use holdfast_engine::command::Args;
use holdfast_engine::context::Context;
use holdfast_engine::dump::Sink;
use holdfast_engine::dump::record::Detail;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Alone;
use holdfast_engine::time::UnixMillis;

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn run(engine: &Engine, sequence: u64, args: Args<'_>) {
    let mut row = table().find(args[0]).expect("a known command");
    if !row.subcommands.is_empty() {
        row = table().find_sub(row, args[1]).expect("a known subcommand");
    }
    let mut effects = Effects::new(EventClass::NONE);
    let context = Context::at(NOW, sequence);
    let outcome = engine.run(row, args, context, &Alone, &mut effects);
    assert!(!outcome.reply.is_error(), "{args:?}");
}

fn filled() -> Engine {
    let engine = Engine::new(16, 7);
    for n in 0..2000u64 {
        let (key, text) = (format!("key:{n}"), format!("value {n} ").repeat(n as usize % 9));
        let (key, text) = (key.as_bytes(), text.as_bytes());
        let number = n.to_string();
        let number = number.as_bytes();
        match n % 8 {
            0 => run(&engine, n, &[b"SET", key, number]),
            1 => run(&engine, n, &[b"SET", key, text, b"PX", b"5000"]),
            2 => run(&engine, n, &[b"RPUSH", key, text, number, b"x"]),
            3 => run(&engine, n, &[b"SADD", key, b"b", number, b"a"]),
            4 => run(&engine, n, &[b"ZADD", key, number, text, b"0.1", b"m", b"-inf", b"n"]),
            5 => run(&engine, n, &[b"HSET", key, b"f", text, b"g", number]),
            6 => run(&engine, n, &[b"SADD", key, b"-7", number]),
            _ if n % 16 == 7 => run(&engine, n, &[b"XADD", key, b"*", b"f", text, b"n", number]),
            _ => run(&engine, n, &[b"APPEND", key, number]),
        }
    }
    engine
}

fn written(engine: &Engine, detail: Detail, checksum: bool) -> Vec<u8> {
    let mut snapshot = engine
        .keyspace()
        .begin_snapshot(detail, Sink::compressing(), &Alone, || {})
        .expect("no other runs");
    let mut bytes = Vec::new();
    let aux: [(&[u8], &[u8]); 1] = [(b"redis-ver", b"7.2.4")];
    let done = write(engine.keyspace(), &mut snapshot, &aux, checksum, &mut bytes, |_| Ok(()));
    let done = done.expect("memory takes it all");
    assert_eq!((done.len, done.keys), (bytes.len() as u64, 2000));
    bytes
}

fn options(expired: Expired) -> ReadOptions {
    ReadOptions { now: NOW, expired, merge: false }
}

#[test]
fn a_file_comes_back_as_it_was() {
    let engine = filled();
    for (detail, checksum) in [(Detail::Plain, false), (Detail::Replica, true)] {
        let bytes = written(&engine, detail, checksum);
        let other = Engine::new(16, 7);
        let loaded = read(other.keyspace(), &bytes[..], options(Expired::Kept), |_, _| {});
        let loaded = loaded.expect("it is good");
        assert_eq!((loaded.keys, loaded.expired), (2000, 0));
        assert_eq!(loaded.aux, [(b"redis-ver".to_vec(), b"7.2.4".to_vec())]);
        if detail == Detail::Replica {
            assert_eq!(other.keyspace().digest(NOW), engine.keyspace().digest(NOW));
        }
        let again = read(other.keyspace(), &bytes[..], options(Expired::Kept), |_, _| {});
        assert!(again.is_err_and(|error| error.to_string().contains("stands twice")));
    }
    let later =
        ReadOptions { now: UnixMillis(NOW.0 + 5000), expired: Expired::Dropped, merge: false };
    let bytes = written(&engine, Detail::Plain, true);
    let loaded = read(Engine::new(16, 7).keyspace(), &bytes[..], later, |_, _| {});
    assert_eq!(loaded.expect("it is good").expired, 250);
}

#[test]
fn libraries_come_back() {
    const CODE: &[u8] = b"#!lua name=lib\n\
        redis.register_function('f', function(keys) return redis.call('get', keys[1]) end)";
    let engine = filled();
    run(&engine, 9000, &[b"FUNCTION", b"LOAD", CODE]);
    let bytes = written(&engine, Detail::Plain, true);
    let other = Engine::new(16, 7);
    read(other.keyspace(), &bytes[..], options(Expired::Kept), |_, _| {}).expect("it is good");
    let libraries = other.keyspace().libraries();
    assert_eq!(libraries.get(b"lib").map(|library| &library.code[..]), Some(CODE));
    run(&other, 9001, &[b"FCALL", b"F", b"1", b"key:0"]);
    let merged = ReadOptions { merge: true, ..options(Expired::Kept) };
    read(other.keyspace(), &bytes[..], merged, |_, _| {}).expect("all give way");
    let again = read(other.keyspace(), &bytes[..], options(Expired::Kept), |_, _| {});
    let told = again.expect_err("it is there").to_string();
    assert!(told.contains("Library 'lib' already exists"), "{told}");
}

#[test]
fn damage_anywhere_is_seen_and_never_a_panic() {
    let engine = filled();
    let bytes = written(&engine, Detail::Replica, true);
    for cut in (0..bytes.len()).step_by(bytes.len() / 60) {
        let other = Engine::new(16, 7);
        let loaded = read(other.keyspace(), &bytes[..cut], options(Expired::Kept), |_, _| {});
        assert!(loaded.is_err(), "cut at {cut}");
    }
    for at in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x11;
        let other = Engine::new(16, 7);
        let loaded = read(other.keyspace(), &flipped[..], options(Expired::Kept), |_, _| {});
        assert!(loaded.is_err(), "flipped at {at}");
    }
}

#[test]
fn what_is_not_here_is_told() {
    let read = |bytes: &[u8]| {
        let engine = Engine::new(16, 7);
        super::read(engine.keyspace(), bytes, options(Expired::Kept), |_, _| {})
            .map_err(|error| error.to_string())
    };
    let file = |body: &[u8]| [b"REDIS0010", body, b"\xff\0\0\0\0\0\0\0\0"].concat();
    let library = read(&file(b"\xf5\x03lib")).expect_err("no library");
    assert!(library.contains("a library of functions: ERR Missing"), "{library}");
    let module = read(&file(b"\x07\x06module")).expect_err("a module");
    assert!(module.contains("at key 'module'") && module.contains("of a module"), "{module}");
    for (file, version) in [(b"REDIS0080\xff", "0080"), (b"VALKEY079\xff", "079")] {
        let told = read(file).expect_err("nobody wrote that");
        assert!(told.contains(&format!("version is {version}")), "{told}");
    }
    assert!(read(b"NOTREDIS!").expect_err("another file").contains("no RDB file"));
    // What is unknown is named by its number, wherever it stands, and is no early end.
    for (body, what) in [
        (&b"\x1b\x01k"[..], "a value of type 27, which is unknown here"),
        (b"\x1b", "a value of type 27"),
        (b"\x08", "a value of type 8"),
        (b"\xf2", "the mark 242, which is unknown here"),
    ] {
        let told = read(&file(body)).expect_err("unknown");
        assert!(told.contains(what), "{told}");
    }
    let databases = read(&file(b"\xfe\x20")).expect_err("too many");
    assert!(databases.contains("raise 'databases'"), "{databases}");
    let empty = read(&file(b"\x02\x01e\x00")).expect("an empty set is left out");
    assert!(empty.lost[0].contains("empty collection"), "{:?}", empty.lost);
}

fn answer(engine: &Engine, args: Args<'_>) -> String {
    let row = table().find(args[0]).expect("a known command");
    let mut effects = Effects::new(EventClass::NONE);
    let outcome = engine.run(row, args, Context::at(NOW, 1), &Alone, &mut effects);
    format!("{:?}", outcome.reply)
}

/// A file with a body and no checksum, read into an engine.
fn of_others(magic: &[u8], body: &[u8]) -> Result<(Engine, Loaded), String> {
    let engine = Engine::new(16, 7);
    let file = [magic, body, b"\xff\0\0\0\0\0\0\0\0"].concat();
    let loaded = read(engine.keyspace(), &file[..], options(Expired::Kept), |_, _| {});
    loaded.map(|loaded| (engine, loaded)).map_err(|error| error.to_string())
}

#[test]
fn files_of_newer_servers_load() {
    const AT: i64 = NOW.0 + 60_000;
    let at = AT.to_le_bytes();
    // A length of 64 bits.
    let length = |n: i64| [&[0x81][..], &n.to_be_bytes()].concat();
    let pack = |elements: &[&[u8]]| {
        let body = elements.concat();
        let len = (6 + body.len() + 1) as u32;
        let count = elements.len() as u16;
        let pack = [&len.to_le_bytes()[..], &count.to_le_bytes(), &body, &[0xff]].concat();
        [&[pack.len() as u8][..], &pack].concat()
    };
    let number = [&[0xf4][..], &at, &[9]].concat();
    let small = pack(&[b"\x81f\x02", b"\x81v\x02", &number, b"\x81g\x02", b"\x81w\x02", b"\0\x01"]);
    // Slots of cluster mode: ids and sizes, and what modules keep beside a key.
    let slots = b"\xfe\0\xfb\x01\0\xf4\x41\x02\x01\0";
    let meta = b"\xf3\x01abcd\x02\x05\0";
    let import = b"\xf3\x04name\x01\x05\x09";
    let valkey = b"\xfa\x0avalkey-ver\x059.0.0";
    for (magic, before, kind, value) in [
        // Each field: its expiry's distance from the least one, plus one; 0 for none.
        (b"REDIS0012", &b""[..], 24, [&at[..], b"\x02\x01\x01f\x01v\0\x01g\x01w"].concat()),
        (b"REDIS0012", slots, 25, [&at[..], &small].concat()),
        (b"REDIS0013", meta, 25, [&at[..], &small].concat()),
        // Previews: the expiry itself.
        (b"REDIS0012", b"", 22, [b"\x02", &length(AT)[..], b"\x01f\x01v\0\x01g\x01w"].concat()),
        (b"REDIS0012", b"", 23, small.clone()),
        // Valkey: the expiry behind the value, in eight bytes.
        (
            b"VALKEY080",
            import,
            22,
            [b"\x02\x01f\x01v", &at[..], b"\x01g\x01w", &(-1i64).to_le_bytes()].concat(),
        ),
        (
            b"REDIS0011",
            valkey,
            22,
            [b"\x02\x01f\x01v", &at[..], b"\x01g\x01w", &(-1i64).to_le_bytes()].concat(),
        ),
    ] {
        let body = [before, &[kind], b"\x01h", &value].concat();
        let (engine, loaded) = of_others(magic, &body).unwrap_or_else(|error| {
            panic!("{} type {kind}: {error}", magic.escape_ascii());
        });
        assert_eq!(loaded.keys, 1, "{} type {kind}", magic.escape_ascii());
        assert_eq!(loaded.lost.len(), usize::from(before == meta || before == import));
        let values = answer(&engine, &[b"HMGET", b"h", b"f", b"g"]);
        assert!(values.contains("118") && values.contains("119"), "{values}");
        let times = answer(&engine, &[b"HPEXPIRETIME", b"h", b"FIELDS", b"2", b"f", b"g"]);
        assert!(times.contains(&AT.to_string()) && times.contains("-1"), "type {kind}: {times}");
    }
}

/// A stream as files have it, with two entries, `1-0` and `1-1`, and what it says of itself.
fn stream(kind: u8, len: u8, last: [u8; 2], rest: &[u8], groups: &[u8]) -> Vec<u8> {
    let header: &[u8] = &[2, 1, 0, 1, 1, 1, 0x81, b'f', 2, 0, 1];
    let first: &[u8] = &[2, 1, 0, 1, 0, 1, 0x81, b'v', 2, 4, 1];
    let second: &[u8] = &[2, 1, 0, 1, 1, 1, 0x81, b'w', 2, 4, 1];
    let body = [header, first, second].concat();
    let pack_len = 6 + body.len() + 1;
    let mut bytes = vec![kind, 1, b's', 1, 16];
    bytes.extend(1u64.to_be_bytes());
    bytes.extend(0u64.to_be_bytes());
    bytes.push(pack_len as u8);
    bytes.extend((pack_len as u32).to_le_bytes());
    bytes.extend(15u16.to_le_bytes());
    bytes.extend(&body);
    bytes.push(0xff);
    bytes.extend([0x40, len, last[0], last[1]]);
    bytes.extend(rest);
    bytes.extend(groups);
    bytes
}

fn id(seq: u64) -> Vec<u8> {
    [1u64.to_be_bytes(), seq.to_be_bytes()].concat()
}

#[test]
fn a_stream_that_miscounts_is_loaded_and_corrected() {
    let time = NOW.0.to_le_bytes();
    let nack = |seq| [&id(seq)[..], &time, &[1]].concat();
    // Two entries pending, of which the one consumer has the first.
    let unowned =
        [&b"\x01\x01g\x01\x01\x02"[..], &nack(0), &nack(1), b"\x01\x01c", &time, b"\x01", &id(0)]
            .concat();
    // One that both consumers have.
    let twice = [
        &b"\x01\x01g\x01\x01\x01"[..],
        &nack(0),
        b"\x02\x01c",
        &time,
        b"\x01",
        &id(0),
        b"\x01d",
        &time,
        b"\x01",
        &id(0),
    ]
    .concat();
    for (bytes, corrections, says) in [
        (stream(15, 2, [1, 1], b"", b"\0"), 0, ""),
        // As files of Redis 5 have it: more entries are told than there are.
        (stream(15, 120, [1, 1], b"", b"\0"), 1, "says that it has 120 entries, and it has 2"),
        (stream(15, 2, [1, 0], b"", b"\0"), 1, "its last id is 1-0, and it has one of 1-1"),
        (stream(19, 2, [1, 1], b"\x01\0\0\0\x01", b"\0"), 1, "1 entries were added"),
        (stream(15, 2, [1, 1], b"", &unowned), 1, "1 pending entries of no consumer"),
        (stream(15, 2, [1, 1], b"", &twice), 1, "two consumers have 1-0 pending"),
    ] {
        let (engine, loaded) = of_others(b"REDIS0009", &bytes).expect("Redis loads it");
        assert_eq!(loaded.corrected.len(), corrections, "{:?}", loaded.corrected);
        assert!(loaded.corrected.iter().all(|told| told.contains(says)), "{:?}", loaded.corrected);
        assert_eq!(answer(&engine, &[b"XLEN", b"s"]), "Integer(2)");
        // New entries come behind those that are there.
        let refused = answer(&engine, &[b"XADD", b"s", b"1-1", b"f", b"x"]);
        assert!(refused.contains("equal or smaller"), "{refused}");
        // A payload of RESTORE is read by the same rules.
        let body = [&bytes[..1], &bytes[3..]].concat();
        let limits = engine.keyspace().limits();
        assert!(holdfast_engine::dump::payload::restore(&body, limits).is_ok());
        // What was corrected is written as it is.
        run(&engine, 5, &[b"XADD", b"s", b"1-2", b"f", b"x"]);
        let mut snapshot =
            engine.keyspace().begin_snapshot(Detail::Plain, Sink::plain(), &Alone, || {}).unwrap();
        let mut again = Vec::new();
        write(engine.keyspace(), &mut snapshot, &[], true, &mut again, |_| Ok(())).unwrap();
        let other = Engine::new(16, 7);
        let loaded = read(other.keyspace(), &again[..], options(Expired::Kept), |_, _| {}).unwrap();
        assert!(loaded.corrected.is_empty(), "{:?}", loaded.corrected);
        assert_eq!(answer(&other, &[b"XLEN", b"s"]), "Integer(3)");
    }
}
