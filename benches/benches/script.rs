//! Script calls: the smallest one, and the compare-and-delete that releases a lock.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast_benches::{Bench, Local, VALUE, key, request};
use holdfast_engine::script::Sha;

const COMPARE_AND_DELETE: &[u8] = b"if redis.call('get', KEYS[1]) == ARGV[1] then \
    return redis.call('del', KEYS[1]) else return 0 end";

/// What a client sends beside each call.
const PIPELINE: u64 = 16;

fn sha(bench: &mut Bench, body: &[u8]) -> Vec<u8> {
    let sha = bench.engine.load_script(body);
    sha.map(|sha| sha.to_string().into_bytes()).unwrap_or_default()
}

fn calls(c: &mut Criterion) {
    let mut group = c.benchmark_group("evalsha");
    let mut bench = Bench::default();
    let one = sha(&mut bench, b"return 1");
    group.bench_function("return_1", |b| b.iter(|| bench.run(&[b"EVALSHA", &one, b"0"])));
    let delete = sha(&mut bench, COMPARE_AND_DELETE);
    group.bench_function("compare_and_delete/miss", |b| {
        b.iter(|| bench.run(&[b"EVALSHA", &delete, b"1", b"nosuch", VALUE]));
    });
    group.bench_function("compare_and_delete/hit", |b| {
        b.iter(|| {
            bench.run(&[b"SET", b"lock", VALUE]);
            bench.run(&[b"EVALSHA", &delete, b"1", b"lock", VALUE])
        });
    });
    let call = sha(&mut bench, b"for i = 1, 100 do redis.call('incr', KEYS[1]) end");
    group.bench_function("hundred_calls", |b| {
        b.iter(|| bench.run(&[b"EVALSHA", &call, b"1", b"counter"]));
    });
    let cjson = sha(&mut bench, b"return cjson.encode(cjson.decode(ARGV[1]))");
    let json = br#"{"id":123,"name":"a name","tags":["a","b","c"],"nested":{"x":1.5}}"#;
    group.bench_function("cjson_both_ways", |b| {
        b.iter(|| bench.run(&[b"EVALSHA", &cjson, b"0", json]));
    });
    group.finish();
}

fn pipelined(c: &mut Criterion) {
    let mut group = c.benchmark_group("evalsha_batch_16");
    group.throughput(Throughput::Elements(PIPELINE));
    let mut local = Local::default();
    let sha = Sha::of(COMPARE_AND_DELETE).to_string().into_bytes();
    local.dispatch(&[b"SCRIPT", b"LOAD", COMPARE_AND_DELETE]);
    let keys = (0..PIPELINE).map(key);
    let read = keys.flat_map(|key| request(&[b"EVALSHA", &sha, b"1", &key, VALUE]));
    let read: Vec<u8> = read.collect();
    group.bench_function("compare_and_delete", |b| b.iter(|| local.read(&read)));
    group.finish();
}

criterion_group!(benches, calls, pipelined);
criterion_main!(benches);
