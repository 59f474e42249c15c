use proptest::prelude::*;

use super::*;

/// The model: elements in a sorted vector.
#[derive(Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn score(&self, member: &[u8]) -> Option<f64> {
        self.0
            .iter()
            .find(|(_, name)| name == member)
            .map(|(score, _)| *score)
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let len = self.0.len();
        self.0.retain(|(_, name)| name != member);
        self.0.len() < len
    }

    fn put(&mut self, member: &[u8], score: f64) {
        self.remove(member);
        let at = self
            .0
            .partition_point(|(other, name)| (*other, name.as_slice()) < (score, member));
        self.0.insert(at, (score, member.to_vec()));
    }
}

fn elements(
    set: &SortedSet,
    start: usize,
    count: usize,
    direction: Direction,
) -> Vec<(f64, Vec<u8>)> {
    let mut found = Vec::new();
    set.visit(start, count, direction, |member, score| {
        found.push((score, member.to_vec()))
    });
    found
}

fn compare(set: &SortedSet, model: &Model) {
    let len = model.0.len();
    assert_eq!(set.len(), len);
    assert_eq!(elements(set, 0, len, Direction::Ascending), model.0);
    let mut down = elements(set, len.saturating_sub(1), len, Direction::Descending);
    down.reverse();
    assert_eq!(down, model.0);
    for (rank, (score, member)) in model.0.iter().enumerate() {
        assert_eq!(set.rank(Bound::Element(*score, member)), rank);
        assert_eq!(set.score(member), Some(*score));
    }
    if let SortedSet::Table(table) = set {
        table.check();
    }
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-20i32..20).prop_map(f64::from),
        2 => any::<i32>().prop_map(|n| f64::from(n) / 8.0),
        1 => any::<f64>().prop_filter("a number", |score| !score.is_nan()),
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e300)],
    ]
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => (0..2000u32).prop_map(|n| n.to_string().into_bytes()),
        3 => "[a-d]{0,5}".prop_map(String::into_bytes),
        1 => (0..300usize).prop_map(|len| vec![b'z'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn behaves_as_a_sorted_vector(
        entries_max in prop_oneof![Just(0i64), Just(20), Just(128)],
        growth in 3u8..9,
        steps in prop::collection::vec((0u8..10, member(), score()), 0..1500),
    ) {
        let limits = Limits::default();
        limits.set("zset-max-listpack-entries", entries_max);
        let mut model = Model::default();
        let mut set = SortedSet::default();
        for (step, (kind, member, score)) in steps.into_iter().enumerate() {
            if kind < growth {
                let before = model.score(&member);
                let done = set.upsert(&member, score, &limits, |_| Some(score));
                prop_assert_eq!(done, if before.is_some() { Upsert::Changed } else { Upsert::Added });
                model.put(&member, score);
            } else if kind < 9 {
                prop_assert_eq!(set.remove(&member), model.remove(&member));
            } else if !model.0.is_empty() {
                let start = member.len() % model.0.len();
                let count = (model.0.len() - start).min(30);
                set.remove_range(start, count);
                model.0.drain(start..start + count);
            }
            prop_assert_eq!(set.score(&member), model.score(&member));
            let below = model.0.partition_point(|(other, _)| *other < score);
            let up_to = model.0.partition_point(|(other, _)| *other <= score);
            prop_assert_eq!(set.rank(Bound::Below(score)), below);
            prop_assert_eq!(set.rank(Bound::UpTo(score)), up_to);
            if step % 200 == 0 {
                compare(&set, &model);
            }
        }
        compare(&set, &model);
    }
}

#[test]
fn deep_trees_keep_their_order() {
    let limits = Limits::default();
    let mut set = SortedSet::for_members(1000, 1, &limits);
    let name = |n: u64| format!("{n:06}").into_bytes();
    let mut state = 1u64;
    let mut model = std::collections::BTreeSet::new();
    for _ in 0..60_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (n, grow) = ((state >> 33) % 30_000, (state >> 20) % 5 < 3);
        if grow {
            set.upsert(&name(n), (n / 10) as f64, &limits, |_| None);
            model.insert(n);
        } else {
            assert_eq!(set.remove(&name(n)), model.remove(&n));
        }
    }
    let SortedSet::Table(table) = &set else {
        panic!()
    };
    table.check();
    assert_eq!(set.len(), model.len());
    for (rank, n) in model.iter().enumerate().step_by(97) {
        assert_eq!(set.rank(Bound::Element((n / 10) as f64, &name(*n))), rank);
        assert_eq!(
            set.get(rank).map(|(member, _)| member.to_vec()),
            Some(name(*n))
        );
    }
    let all = set.len();
    set.remove_range(0, all);
    assert!(set.is_empty());
    set.upsert(b"x", 1.0, &limits, |_| None);
    assert_eq!(
        elements(&set, 0, 1, Direction::Descending),
        [(1.0, b"x".to_vec())]
    );
}

#[test]
fn members_in_order_fill_their_leaves() {
    let limits = Limits::default();
    let mut set = SortedSet::for_members(129, 1, &limits);
    for n in 0..100_000u32 {
        set.upsert(&n.to_be_bytes(), f64::from(n), &limits, |_| None);
    }
    let SortedSet::Table(table) = &set else {
        panic!()
    };
    table.check();
    // 16 bytes of cell, 10 to 15 of table, 12 of leaf, little above.
    assert!(set.memory_len() < 100_000 * 52, "{}", set.memory_len());
}

#[test]
fn encodings_change_at_the_limits() {
    let limits = Limits::default();
    let mut set = SortedSet::default();
    for n in 0..128 {
        set.upsert(format!("{n}").as_bytes(), 0.0, &limits, |_| None);
    }
    assert_eq!(set.encoding(), "listpack");
    set.upsert(b"one more", 0.0, &limits, |_| None);
    assert_eq!(set.encoding(), "skiplist");
    for (len, encoding) in [(64, "listpack"), (65, "skiplist")] {
        let mut set = SortedSet::default();
        set.upsert(&vec![b'x'; len], 0.0, &limits, |_| None);
        assert_eq!(set.encoding(), encoding);
    }
}

#[test]
fn scores_survive_the_listpack() {
    let limits = Limits::default();
    for score in [
        0.1,
        0.5,
        -2.25,
        1e300,
        4e18,
        5e18,
        f64::INFINITY,
        f64::MIN_POSITIVE,
        f64::from_bits(0x3030_3030_3030_3030),
    ] {
        let mut set = SortedSet::default();
        set.upsert(b"m", score, &limits, |_| None);
        assert_eq!(set.score(b"m"), Some(score));
    }
    let mut set = SortedSet::default();
    set.upsert(b"m", -0.0, &limits, |_| None);
    assert!(set.score(b"m").is_some_and(f64::is_sign_positive));
}

#[test]
fn equal_content_has_one_digest() {
    use std::hash::{BuildHasher, Hasher};
    let digest = |set: &SortedSet| {
        let mut hasher = foldhash::fast::FixedState::with_seed(1).build_hasher();
        set.digest(&mut hasher);
        hasher.finish()
    };
    let limits = Limits::default();
    let mut small = SortedSet::default();
    for (member, score) in [(&b"a"[..], 1.5), (b"7", -0.0), (b"b", f64::INFINITY)] {
        small.upsert(member, score, &limits, |_| None);
    }
    let mut large = small.clone();
    large.become_table(3);
    assert_eq!((digest(&small), &small), (digest(&large), &large));
    large.upsert(b"7", -0.0, &limits, |_| Some(-0.0));
    assert_eq!(digest(&small), digest(&large));
}
