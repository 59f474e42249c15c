//! The keyspace: get, set, overwrite and delete through `Engine::run` and on a view alone, with
//! few keys (all in the cache) and a million (none); a step of SCAN; expiry.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdfast_benches::{Bench, Jumps, NOW, VALUE, key};
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::host::Alone;
use holdfast_engine::keyspace::{LockMode, Plan, View};
use holdfast_engine::raw::StringValue;
use holdfast_engine::time::UnixMillis;

const SIZES: [(&str, u64); 2] = [("1k", 1_000), ("1M", 1_000_000)];

/// Keys in the order they are asked for: far enough apart that a million miss the cache.
fn asked(from: u64, count: u64) -> Vec<Vec<u8>> {
    Jumps::below(count).take(65_536).map(|n| key(from + n)).collect()
}

fn through_run(c: &mut Criterion) {
    for (size, count) in SIZES {
        let mut bench = Bench::with_keys(count);
        let mut group = c.benchmark_group(format!("run/{size}"));
        let (hits, misses) = (asked(0, count), asked(count, count));
        for (name, keys) in [("get_hit", &hits), ("get_miss", &misses)] {
            let mut keys = keys.iter().cycle();
            group.bench_function(name, |b| {
                b.iter(|| bench.run(&[b"GET", keys.next().map_or(b"", Vec::as_slice)]));
            });
        }
        let mut keys = hits.iter().cycle();
        group.bench_function("overwrite", |b| {
            b.iter(|| bench.run(&[b"SET", keys.next().map_or(b"", Vec::as_slice), VALUE]));
        });
        let mut keys = misses.iter().cycle();
        group.bench_function("set_new_and_del", |b| {
            b.iter(|| {
                let key = keys.next().map_or(&b""[..], Vec::as_slice);
                bench.run(&[b"SET", key, VALUE]);
                bench.run(&[b"DEL", key])
            });
        });
        group.bench_function("scan_step_of_10", |b| {
            b.iter(|| bench.run(&[b"SCAN", black_box(b"1234567890123456")]));
        });
        group.finish();
    }
}

fn on_a_view(c: &mut Criterion) {
    for (size, count) in SIZES {
        let mut bench = Bench::with_keys(count);
        let context = bench.next_context();
        let mut effects = Effects::new(EventClass::NONE);
        let keyspace = bench.engine.keyspace();
        let Ok(mut view) = View::lock(keyspace, &Plan::All, LockMode::Write, context, &Alone)
        else {
            unreachable!("nobody else locks")
        };
        let keys = asked(0, count);
        let mut group = c.benchmark_group(format!("view/{size}"));
        let mut hits = keys.iter().cycle();
        group.bench_function("get", |b| {
            b.iter(|| view.get(hits.next().map_or(b"", Vec::as_slice)).is_some());
        });
        let mut hits = keys.iter().cycle();
        group.bench_function("set", |b| {
            b.iter(|| {
                let key = hits.next().map_or(&b""[..], Vec::as_slice);
                view.set_string(key, StringValue::Bytes(VALUE), None, &mut effects);
            });
        });
        let mut misses = (count..).map(key);
        group.bench_function("set_and_remove", |b| {
            b.iter(|| {
                let key = misses.next().unwrap_or_default();
                view.set_string(&key, StringValue::Bytes(VALUE), None, &mut effects);
                view.remove(&key, &mut effects)
            });
        });
        group.finish();
    }
}

fn expiry(c: &mut Criterion) {
    /// Keys that are due at once.
    const DUE: u64 = 10_000;
    let mut group = c.benchmark_group("expiry");
    group.throughput(Throughput::Elements(DUE));
    group.bench_function("due_at_once", |b| {
        let due = || {
            let mut bench = Bench::default();
            for n in 0..DUE {
                bench.run(&[b"SET", &key(n), VALUE, b"PX", b"1"]);
            }
            bench
        };
        let later = UnixMillis(NOW.0 + 10);
        b.iter_batched_ref(
            due,
            |bench| {
                while bench.engine.keyspace().expire_due(later, 1000, &mut bench.effects) {}
                assert_eq!(bench.effects.expired_keys, DUE);
            },
            BatchSize::LargeInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::with_keys(1000);
    let mut keys = asked(0, 1000).into_iter().cycle();
    group.bench_function("pexpire", |b| {
        b.iter(|| bench.run(&[b"PEXPIRE", &keys.next().unwrap_or_default(), b"100000"]));
    });
    group.finish();
}

criterion_group!(benches, through_run, on_a_view, expiry);
criterion_main!(benches);
