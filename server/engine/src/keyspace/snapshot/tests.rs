use std::io::Read;

use super::*;
use crate::dump::record::{AUX_KEYS, Beside, complete, opcode};
use crate::dump::{Fit, Source, decode};
use crate::engine::Engine;
use crate::testing::Bench;
use crate::time::UnixMillis;

/// Loads what a snapshot's chunks were written as, each behind its database.
fn load(engine: &Engine, now: UnixMillis, chunks: &[(DbIndex, Vec<u8>)]) -> usize {
    let mut keys = 0;
    for (db, bytes) in chunks {
        let mut source = Source::new(&bytes[..]);
        let (mut beside, mut aside, mut expiry) = (Beside::default(), None, None);
        while !source.inner().is_empty() {
            match source.byte().unwrap() {
                opcode::AUX => {
                    let (name, value) = (source.string().unwrap(), source.string().unwrap());
                    match &name[..] {
                        AUX_KEYS => beside = Beside::read(&value).unwrap(),
                        _ => aside = Some((name, value)),
                    }
                }
                opcode::EXPIRE_MS => {
                    expiry = Some(UnixMillis(i64::from_le_bytes(array(&mut source))))
                }
                kind => {
                    let key = source.string().unwrap();
                    let form = beside.next_form().unwrap();
                    let version = beside.next_version().unwrap_or(0);
                    let mut value = decode(kind, &mut source, Fit::As(form)).unwrap();
                    if let Some((name, told)) = aside.take() {
                        complete(&mut value, (&name, &told)).unwrap();
                    }
                    let record = value.into_record(&key, expiry.take());
                    assert!(engine.keyspace().load(*db, record, version, now), "twice: {key:?}");
                    keys += 1;
                }
            }
        }
        assert!(beside.is_done());
    }
    keys
}

fn array<R: Read>(source: &mut Source<R>) -> [u8; 8] {
    source.array().unwrap()
}

fn chunk(snapshot: &mut Snapshot<'_>) -> Option<(DbIndex, Vec<u8>)> {
    snapshot.next_chunk().map(|chunk| {
        let mut out = Sink::plain();
        chunk.write(&mut out);
        (chunk.db, out.bytes)
    })
}

fn fill(bench: &mut Bench, keys: usize) {
    for n in 0..keys {
        match n % 7 {
            0 => bench.line(&format!("SET key:{n} {n}")),
            1 => bench.line(&format!("SET key:{n} value-{n} PX 50000")),
            2 => bench.line(&format!("RPUSH key:{n} a {n} b")),
            3 => bench.line(&format!("SADD key:{n} b 3 a {n}")),
            4 => bench.line(&format!("ZADD key:{n} 1.5 a {n} b")),
            5 => bench.line(&format!("HSET key:{n} f {n} g v")),
            _ => bench.line(&format!("SADD key:{n} 5 {n}")),
        };
        if n % 35 == 5 {
            bench.line(&format!("HPEXPIRE key:{n} 70000 FIELDS 1 f"));
            bench.line(&format!("HPEXPIRE key:{n} 80000 FIELDS 1 g"));
        }
    }
    let many: Vec<String> = (0..2000).map(|n| format!("m{n}")).collect();
    for key in ["bigset", "biglist", "bighash", "bigzset"] {
        let mut args = vec![
            match key {
                "bigset" => "SADD",
                "biglist" => "RPUSH",
                "bighash" => "HSET",
                _ => "ZADD",
            }
            .to_owned(),
        ];
        args.push(key.to_owned());
        for (nth, member) in many.iter().enumerate() {
            if key == "bigzset" {
                args.push(nth.to_string());
            }
            args.push(member.clone());
            if key == "bighash" {
                args.push(nth.to_string());
            }
        }
        bench.run(&args);
    }
    bench.db = DbIndex(3);
    bench.line("SET other database");
    bench.db = DbIndex(0);
}

/// Takes a snapshot while `meddle` runs between its chunks, and compares what it holds with the
/// digest at its cut.
fn consistent(detail: Detail, mut meddle: impl FnMut(&mut Bench, usize)) {
    let mut bench = Bench::new();
    fill(&mut bench, 3000);
    let digest = bench.engine.keyspace().digest(bench.now);
    let now = bench.now;
    let engine = std::sync::Arc::clone(&bench.engine);
    let mut cut = false;
    let mut snapshot = engine
        .keyspace()
        .begin_snapshot(detail, Sink::compressing(), &Alone, || cut = true)
        .expect("no other runs");
    assert!(cut);
    let again = engine.keyspace().begin_snapshot(detail, Sink::plain(), &Alone, || {});
    assert_eq!(again.err(), Some(SnapshotError::InProgress));
    let total: usize = snapshot.sizes().iter().map(|size| size.keys).sum();
    let mut chunks = Vec::new();
    let mut step = 0;
    while let Some(next) = chunk(&mut snapshot) {
        chunks.push(next);
        meddle(&mut bench, step);
        step += 1;
    }
    let marks = snapshot.marks().to_vec();
    drop(snapshot);
    let other = Engine::new(16, 7);
    assert_eq!(load(&other, now, &chunks), total);
    for marks in &marks {
        other.keyspace().set_marks(marks);
    }
    assert_eq!(other.keyspace().placement(), engine.keyspace().placement());
    if detail == Detail::Replica {
        assert_eq!(other.keyspace().digest(now), digest, "the snapshot is the state at the cut");
    }
    let next = engine.keyspace().begin_snapshot(detail, Sink::plain(), &Alone, || {});
    assert!(next.is_ok(), "the last one has ended");
}

#[test]
fn nothing_changes_under_a_quiet_snapshot() {
    consistent(Detail::Replica, |_, _| {});
    consistent(Detail::Plain, |_, _| {});
}

#[test]
fn changes_during_a_snapshot_do_not_show() {
    consistent(Detail::Replica, |bench, step| {
        for n in (step * 37)..(step * 37 + 60) {
            let n = n % 3500;
            match n % 5 {
                0 => bench.line(&format!("DEL key:{n}")),
                1 => bench.line(&format!("SET key:{n} changed")),
                2 => bench.line(&format!("RENAME key:{n} renamed:{n}")),
                3 => bench.line(&format!("SET new:{n} key")),
                _ => bench.line(&format!("EXPIRE key:{n} 100")),
            };
        }
        bench.line("SADD bigset another");
        bench.line("LPOP biglist");
        bench.line("HSET bighash another field");
        bench.line("ZREM bigzset m5");
    });
}

#[test]
fn flushed_and_swapped_databases_are_still_in_the_snapshot() {
    for at in [0, 1, 20, 400] {
        consistent(Detail::Replica, |bench, step| {
            if step == at {
                bench.line("SWAPDB 0 3");
            }
            if step == at + 5 {
                bench.line("SET after swap");
                bench.line("FLUSHDB");
            }
            if step == at + 9 {
                bench.line("FLUSHALL");
                bench.line("SET after flush");
            }
        });
    }
}

#[test]
fn expiry_waits_for_the_snapshot() {
    consistent(Detail::Replica, |bench, step| {
        if step == 3 {
            bench.pass_ms(60_000);
        }
        let mut effects = crate::effects::Effects::new(crate::effects::EventClass::NONE);
        bench.engine.keyspace().expire_due(bench.now, 1000, &mut effects);
        bench.line("GET key:1");
        bench.line("SET key:8 new");
    });
}
