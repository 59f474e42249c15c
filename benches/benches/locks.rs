//! Locks on a bare engine: taking and giving back, renewing, and what a contended try costs.
//! `lock-handover` of the package holdfast-tests measures the whole server.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use holdfast_engine::command::Command;
use holdfast_engine::context::Context;
use holdfast_engine::effects::{Effects, EventClass};
use holdfast_engine::engine::{Engine, table};
use holdfast_engine::host::Alone;
use holdfast_engine::time::UnixMillis;

/// Locks that are held beside the one at work.
const HELD: usize = 10_000;

struct Bench {
    engine: Engine,
    effects: Effects,
    sequence: u64,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            engine: Engine::new(16, 7),
            effects: Effects::new(EventClass::NONE),
            sequence: 0,
        };
        let acquire = row("lock.acquire");
        for n in 0..HELD {
            let key = format!("held:{n}");
            bench.run(acquire, &[b"LOCK.ACQUIRE", key.as_bytes(), b"owner", b"600000"]);
        }
        bench
    }

    fn run(&mut self, row: &'static Command, args: &[&[u8]]) {
        self.sequence += 1;
        let context = Context::at(UnixMillis(1_700_000_000_000), self.sequence);
        black_box(self.engine.run(row, args, context, &Alone, &mut self.effects).reply);
        self.effects.wait = None;
    }
}

fn row(name: &str) -> &'static Command {
    table().find(name.as_bytes()).unwrap_or_else(|| panic!("no command {name}"))
}

fn locks(c: &mut Criterion) {
    let (acquire, release) = (row("lock.acquire"), row("lock.release"));
    let owner: &[u8] = b"0123456789abcdef0123";
    let mut group = c.benchmark_group("locks");
    let mut bench = Bench::new();
    group.bench_function("acquire and release", |b| {
        b.iter(|| {
            bench.run(acquire, &[b"LOCK.ACQUIRE", b"lock:00000000001", owner, b"30000"]);
            bench.run(release, &[b"LOCK.RELEASE", b"lock:00000000001", owner]);
        });
    });
    group.bench_function("acquire and release, shared by 16", |b| {
        for n in 0..16 {
            let other = format!("reader:{n}");
            let args: [&[u8]; 5] =
                [b"LOCK.ACQUIRE", b"lock:shared", other.as_bytes(), b"600000", b"SHARED"];
            bench.run(acquire, &args);
        }
        b.iter(|| {
            bench.run(acquire, &[b"LOCK.ACQUIRE", b"lock:shared", owner, b"30000", b"SHARED"]);
            bench.run(release, &[b"LOCK.RELEASE", b"lock:shared", owner]);
        });
    });
    bench.run(acquire, &[b"LOCK.ACQUIRE", b"lock:mine", owner, b"600000"]);
    group.bench_function("renew", |b| {
        let renew = row("lock.renew");
        b.iter(|| bench.run(renew, &[b"LOCK.RENEW", b"lock:mine", owner, b"600000"]));
    });
    group.bench_function("contended try", |b| {
        b.iter(|| bench.run(acquire, &[b"LOCK.ACQUIRE", b"lock:mine", b"another", b"30000"]));
    });
    group.finish();
}

criterion_group!(benches, locks);
criterion_main!(benches);
