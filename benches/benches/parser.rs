//! The request parser: nanoseconds per command over read buffers of several shapes, beside
//! `redis-protocol`'s decoder on the same bytes.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdfast::resp::{ArgRoom, Batch, Limits, RequestParser};

/// About what one read delivers.
const BUFFER_LEN: usize = 16 * 1024;

/// Fills a read buffer with copies of one command; returns it and how many there are.
fn pipeline(args: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut command = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        command.extend(format!("${}\r\n", arg.len()).into_bytes());
        command.extend_from_slice(arg);
        command.extend(b"\r\n");
    }
    repeated(&command)
}

fn repeated(command: &[u8]) -> (Vec<u8>, u64) {
    let count = (BUFFER_LEN / command.len()).max(1);
    (command.repeat(count), count as u64)
}

fn shapes() -> Vec<(&'static str, Vec<u8>, u64)> {
    let mset: Vec<&[u8]> =
        std::iter::once(&b"MSET"[..]).chain([&b"key:000000000001"[..]; 20]).collect();
    [
        ("ping", pipeline(&[b"PING"])),
        ("get", pipeline(&[b"GET", b"key:000000000001"])),
        ("set", pipeline(&[b"SET", b"key:000000000001", b"xxxxxxxxxxxxxxxx"])),
        ("mset_10", pipeline(&mset)),
        ("set_4k", pipeline(&[b"SET", b"key:000000000001", &[b'x'; 4096]])),
        ("inline_get", repeated(b"GET key:000000000001\r\n")),
    ]
    .map(|(name, (buf, count))| (name, buf, count))
    .into()
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, buf, count) in shapes() {
        group.throughput(Throughput::Elements(count));
        let mut parser = RequestParser::new(Limits::default());
        let mut batch = Batch::new();
        let _ = parser.parse(&buf, &mut batch);
        assert_eq!(batch.len() as u64, count);
        group.bench_function(name, |b| {
            b.iter(|| parser.parse(black_box(&buf), &mut batch).consumed);
        });
    }
    group.finish();

    let mut group = c.benchmark_group("parse_and_slices");
    for (name, buf, count) in shapes() {
        group.throughput(Throughput::Elements(count));
        let mut parser = RequestParser::new(Limits::default());
        let (mut batch, mut room) = (Batch::new(), ArgRoom::new());
        group.bench_function(name, |b| {
            b.iter(|| {
                let _ = black_box(parser.parse(black_box(&buf), &mut batch));
                let commands = batch.commands(&buf, &mut room);
                let args = commands.iter().map(|args| black_box(args).len()).sum::<usize>();
                room.take_back(commands);
                args
            });
        });
    }
    group.finish();
}

/// One command at a time, as a client without a pipeline sends them.
fn single(c: &mut Criterion) {
    let buf = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$16\r\nxxxxxxxxxxxxxxxx\r\n";
    let mut parser = RequestParser::new(Limits::default());
    let mut batch = Batch::new();
    c.bench_function("parse_single_set", |b| {
        b.iter(|| parser.parse(black_box(buf), &mut batch).consumed);
    });
}

/// A long value in read-sized pieces: the parser must not look at its bytes.
fn pieces(c: &mut Criterion) {
    let (buf, _) = pipeline(&[b"SET", b"k", &vec![b'x'; 8 << 20]]);
    let mut batch = Batch::new();
    c.bench_function("parse_8mb_in_16k_pieces", |b| {
        b.iter(|| {
            let mut parser = RequestParser::new(Limits::default());
            let mut consumed = 0;
            for end in (0..buf.len()).step_by(BUFFER_LEN).chain([buf.len()]) {
                consumed += parser.parse(black_box(&buf[..end]), &mut batch).consumed;
            }
            consumed
        });
    });
}

/// The same bytes through the decoder of a general client library, for comparison.
fn redis_protocol(c: &mut Criterion) {
    let mut group = c.benchmark_group("redis_protocol");
    for (name, buf, count) in shapes().into_iter().filter(|shape| shape.0 != "inline_get") {
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut rest = black_box(&buf[..]);
                let mut found = 0;
                while let Ok(Some((frame, len))) = redis_protocol::resp2::decode::decode_range(rest)
                {
                    black_box(&frame);
                    rest = &rest[len..];
                    found += 1;
                }
                assert_eq!(found, count);
            });
        });
        group.bench_function(format!("{name}_bytes"), |b| {
            b.iter_batched(
                || BytesMut::from(&buf[..]),
                |mut rest| {
                    while let Ok(Some((frame, _, _))) =
                        redis_protocol::resp2::decode::decode_bytes_mut(&mut rest)
                    {
                        black_box(&frame);
                    }
                    assert!(rest.is_empty());
                    rest
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, parse, single, pieces, redis_protocol);
criterion_main!(benches);
