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
    assert!(read(b"REDIS0013\xff").expect_err("too new").contains("version is 0013"));
    assert!(read(b"NOTREDIS!").expect_err("another file").contains("no RDB file"));
    let databases = read(&file(b"\xfe\x20")).expect_err("too many");
    assert!(databases.contains("raise 'databases'"), "{databases}");
    let empty = read(&file(b"\x02\x01e\x00")).expect("an empty set is left out");
    assert!(empty.lost[0].contains("empty collection"), "{:?}", empty.lost);
}
