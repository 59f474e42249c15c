//! The core of each data structure, in its compact and its large encoding.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use holdfast_benches::{Jumps, NOW};
use holdfast_engine::limits::Limits;
use holdfast_engine::value::hash::{FieldExpiry, Hash, HashLimits};
use holdfast_engine::value::list::{End, List, NodeLimit};
use holdfast_engine::value::listpack::{Listpack, Packed};
use holdfast_engine::value::set::Set;
use holdfast_engine::value::sorted_set::{Bound, Direction, SortedSet};

/// Elements of a compact collection and of a large one.
const SIZES: [u64; 2] = [64, 100_000];

fn member(n: u64) -> Vec<u8> {
    format!("member:{n:09}").into_bytes()
}

/// Members in the order they are asked for.
fn asked(count: u64) -> impl Iterator<Item = Vec<u8>> {
    let members: Vec<_> = Jumps::below(count).take(4096).map(member).collect();
    members.into_iter().cycle()
}

fn listpack(c: &mut Criterion) {
    let mut group = c.benchmark_group("listpack");
    let mut pack = Listpack::new();
    for n in 0..128 {
        pack.push_back(&member(n));
    }
    group.bench_function("get_middle_of_128", |b| b.iter(|| pack.get(black_box(64)).is_some()));
    let last = member(127);
    group.bench_function("find_last_of_128", |b| {
        b.iter(|| pack.find(&Packed::new(black_box(&last)), 0, 1));
    });
    group.bench_function("iterate_128", |b| b.iter(|| pack.iter().count()));
    group.bench_function("push_back_and_drop", |b| {
        b.iter(|| {
            pack.push_back(black_box(b"member"));
            pack.drop_back();
        });
    });
    group.bench_function("replace_middle", |b| b.iter(|| pack.replace(64, black_box(b"12345"))));
    group.finish();
}

fn list(c: &mut Criterion) {
    let limit = NodeLimit::of(-2);
    for size in SIZES {
        let mut list = List::default();
        for n in 0..size {
            list.push(End::Right, &member(n), limit);
        }
        let mut group = c.benchmark_group(format!("list/{size}"));
        group.bench_function("push_and_pop", |b| {
            b.iter(|| {
                list.push(End::Left, black_box(b"element"), limit);
                list.pop(End::Left, |_| ())
            });
        });
        group.bench_function("rotate", |b| {
            b.iter(|| {
                let taken =
                    list.pop(End::Right, |entry| entry.text(&mut itoa::Buffer::new()).len());
                list.push(End::Left, black_box(b"member:000000001"), limit);
                taken
            });
        });
        group.bench_function("get_middle", |b| {
            b.iter(|| list.get(black_box(size as usize / 2)).is_some());
        });
        group.bench_function("range_of_50", |b| {
            b.iter(|| list.iter_from(black_box(size as usize / 2 - 25)).take(50).count());
        });
        group.finish();
    }
}

fn hash(c: &mut Criterion) {
    let limits = HashLimits::from(&Limits::default());
    for size in SIZES {
        let mut hash = Hash::default();
        for n in 0..size {
            hash.set(&member(n), b"value", FieldExpiry::Dropped, limits);
        }
        let mut group = c.benchmark_group(format!("hash/{size}"));
        let mut fields = asked(size);
        group.bench_function("get", |b| {
            b.iter(|| hash.get(&fields.next().unwrap_or_default(), NOW).is_some());
        });
        group.bench_function("replace", |b| {
            b.iter(|| {
                let field = fields.next().unwrap_or_default();
                hash.set(&field, b"other", FieldExpiry::Dropped, limits)
            });
        });
        group.bench_function("set_new_and_remove", |b| {
            b.iter(|| {
                hash.set(b"one more", b"value", FieldExpiry::Dropped, limits);
                hash.remove(black_box(b"one more"))
            });
        });
        group.finish();
    }
}

fn set(c: &mut Criterion) {
    let limits = Limits::default();
    for size in SIZES {
        let mut set = Set::for_members(&member(0), 1, &limits);
        let mut numbers = Set::for_members(b"0", 1, &limits);
        for n in 0..size {
            set.insert(&member(n), &limits);
            numbers.insert(n.to_string().as_bytes(), &limits);
        }
        let mut group = c.benchmark_group(format!("set/{size}"));
        let mut members = asked(size);
        group.bench_function("contains", |b| {
            b.iter(|| set.contains(&members.next().unwrap_or_default()));
        });
        group.bench_function("insert_and_remove", |b| {
            b.iter(|| {
                set.insert(black_box(b"one more"), &limits);
                set.remove(black_box(b"one more"))
            });
        });
        group.bench_function(format!("{}_contains", numbers.encoding()), |b| {
            b.iter(|| numbers.contains(black_box(b"33")));
        });
        group.finish();
    }
}

fn sorted_set(c: &mut Criterion) {
    let limits = Limits::default();
    for size in SIZES {
        let mut set = SortedSet::default();
        for (n, score) in (0..size).zip(Jumps::below(1_000_000)) {
            set.upsert(&member(n), score as f64, &limits, Some);
        }
        let mut group = c.benchmark_group(format!("sorted_set/{size}"));
        let mut members = asked(size);
        group.bench_function("score", |b| {
            b.iter(|| set.score(&members.next().unwrap_or_default()));
        });
        let mut scores = Jumps::below(1_000_000);
        group.bench_function("change_score", |b| {
            b.iter(|| {
                let score = scores.next().unwrap_or_default() as f64;
                set.upsert(&members.next().unwrap_or_default(), score, &limits, |_| Some(score))
            });
        });
        group.bench_function("insert_and_remove", |b| {
            b.iter(|| {
                set.upsert(b"one more", 500_000.0, &limits, Some);
                set.remove(black_box(b"one more"))
            });
        });
        group.bench_function("rank_of_score", |b| {
            b.iter(|| set.rank(black_box(Bound::Below(500_000.0))));
        });
        group.bench_function("range_of_50", |b| {
            b.iter(|| {
                let mut len = 0;
                let start = black_box(size as usize / 4);
                let count = 50.min(size as usize - start);
                set.visit(start, count, Direction::Ascending, |_, _| len += 1);
                len
            });
        });
        group.finish();
    }
}

criterion_group!(benches, listpack, list, hash, set, sorted_set);
criterion_main!(benches);
