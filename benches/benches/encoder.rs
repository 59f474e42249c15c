//! The reply encoder: nanoseconds per reply, appended to a connection's output as a batch of
//! 64 is, then taken away.

use std::hint::black_box;

use bytes::{Buf, Bytes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast::resp::{DoubleText, Output, Protocol, encode};
use holdfast_engine::{Blob, BulkList, Reply};

/// Replies per write.
const BATCH: u64 = 64;

fn replies() -> Vec<(&'static str, Reply)> {
    let member = |i: u32| format!("member:{i:04}").into_bytes();
    let members: Vec<_> = (0..10).map(member).collect();
    let bulks: BulkList = members.iter().map(Vec::as_slice).collect();
    vec![
        ("ok", Reply::Ok),
        ("nil", Reply::Nil),
        ("integer_1", Reply::Integer(1)),
        ("integer_large", Reply::Integer(1_234_567_890)),
        ("bulk_16", Reply::bulk(b"xxxxxxxxxxxxxxxx")),
        ("bulk_100", Reply::bulk(&[b'x'; 100])),
        ("bulk_4k", Reply::bulk(&[b'x'; 4096])),
        ("bulk_64k_shared", Reply::Bulk(Blob::Heap(Bytes::from(vec![b'x'; 65_536])))),
        ("double", Reply::Double(3.1)),
        ("array_of_10", Reply::Array(members.iter().map(|m| Reply::bulk(m)).collect())),
        ("bulks_of_10", Reply::Bulks(bulks)),
    ]
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH));
    for (name, reply) in replies() {
        let mut output = Output::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..BATCH {
                    encode(black_box(&reply), Protocol::Resp2, &mut output);
                }
                let len = output.len();
                output.advance(black_box(len));
            });
        });
    }
    group.finish();
}

fn doubles(c: &mut Criterion) {
    let mut group = c.benchmark_group("double_text");
    for value in [3.0, 3.1, 0.1 + 0.2, 1e300] {
        group.bench_function(format!("{value:e}"), |b| {
            b.iter(|| DoubleText::new(black_box(value)));
        });
    }
    group.finish();
}

criterion_group!(benches, encoding, doubles);
criterion_main!(benches);
