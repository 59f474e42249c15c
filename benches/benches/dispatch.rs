//! A command's way through a node without sockets: single commands that were parsed already,
//! and whole batches of 64 as one read delivers them, parsed, prefetched, run and encoded.
//!
//! The batch figures are what a worker spends on a command besides the system calls.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast_benches::{Jumps, Local, VALUE, key, request};

/// The server's own allocator, for the figures to be its.
#[global_allocator]
static ALLOCATOR: holdfast::alloc::CountingAlloc = holdfast::alloc::CountingAlloc;

/// Commands of one batch.
const BATCH: u64 = 64;
/// Different batches, asked in turn, so that keys are not in the nearest cache.
const BATCHES: usize = 256;

fn single(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch");
    let mut local = Local::default();
    let keys: Vec<_> = (0..10).map(key).collect();
    let mut mset: Vec<&[u8]> = vec![b"MSET"];
    mset.extend(keys.iter().flat_map(|key| [key.as_slice(), VALUE]));
    let shapes: [(&str, &[&[u8]]); 6] = [
        ("ping", &[b"PING"]),
        ("set", &[b"SET", &keys[0], VALUE]),
        ("get", &[b"GET", &keys[0]]),
        ("incr", &[b"INCR", b"counter"]),
        ("mset_10", &mset),
        ("unknown", &[b"NOSUCH", b"x"]),
    ];
    for (name, args) in shapes {
        group.bench_function(name, |b| b.iter(|| local.dispatch(args)));
    }
    group.bench_function("multi_set_incr_exec", |b| {
        b.iter(|| {
            local.dispatch(&[b"MULTI"]);
            local.dispatch(&[b"SET", &keys[0], VALUE]);
            local.dispatch(&[b"INCR", b"counter"]);
            local.dispatch(&[b"EXEC"])
        });
    });
    group.finish();
}

/// Batches of one command, on keys that jump about among `count`.
fn batches(name: &[u8], value: Option<&[u8]>, count: u64) -> Vec<Vec<u8>> {
    let mut keys = Jumps::below(count).map(key);
    let mut batch = || {
        let commands = (0..BATCH).map(|_| {
            let key = keys.next().unwrap_or_default();
            let mut args = vec![name, &key];
            if name.eq_ignore_ascii_case(b"mset") {
                args.extend([VALUE]);
                args.extend([&b"key:000000000001"[..], VALUE].repeat(9));
            }
            args.extend(value);
            request(&args)
        });
        commands.collect::<Vec<_>>().concat()
    };
    (0..BATCHES).map(|_| batch()).collect()
}

fn batch(c: &mut Criterion) {
    for (size, count) in [("1k", 1_000), ("1M", 1_000_000)] {
        let mut group = c.benchmark_group(format!("batch_64/{size}"));
        group.throughput(Throughput::Elements(BATCH));
        let mut local = Local::default();
        for n in 0..count {
            local.dispatch(&[b"SET", &key(n), VALUE]);
        }
        for (name, value) in
            [("ping", None), ("get", None), ("set", Some(VALUE)), ("mset", None), ("del_set", None)]
        {
            let reads = match name {
                "ping" => vec![request(&[b"PING"]).repeat(BATCH as usize)],
                "del_set" => {
                    let mut reads = batches(b"DEL", None, count);
                    reads.extend(batches(b"SET", Some(VALUE), count));
                    reads
                }
                name => batches(name.as_bytes(), value, count),
            };
            let mut reads = reads.iter().cycle();
            group.bench_function(name, |b| {
                b.iter(|| local.read(reads.next().map_or(b"", Vec::as_slice)));
            });
        }
        let reads = batches(b"INCR", None, count.min(1_000));
        local.dispatch(&[b"FLUSHALL"]);
        let mut reads = reads.iter().cycle();
        group.bench_function("incr", |b| {
            b.iter(|| local.read(reads.next().map_or(b"", Vec::as_slice)));
        });
        group.finish();
    }
}

criterion_group!(benches, single, batch);
criterion_main!(benches);
