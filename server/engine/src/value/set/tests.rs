use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn set_of(members: &[&[u8]]) -> Set {
    let limits = Limits::default();
    let mut set = Set::default();
    for member in members {
        set.insert(member, &limits);
    }
    set
}

#[test]
fn encodings_change_at_the_limits() {
    let limits = Limits::default();
    let mut ints = Set::default();
    for n in 0..512 {
        ints.insert(n.to_string().as_bytes(), &limits);
    }
    assert_eq!(ints.encoding(), "intset");
    ints.insert(b"512", &limits);
    assert_eq!(ints.encoding(), "hashtable");

    let mut pack = set_of(&[b"1", b"2"]);
    pack.insert(b"x", &limits);
    assert_eq!(pack.encoding(), "listpack");
    for n in 0..125 {
        pack.insert(format!("m{n}").as_bytes(), &limits);
    }
    assert_eq!((pack.len(), pack.encoding()), (128, "listpack"));
    pack.insert(b"one more", &limits);
    assert_eq!(pack.encoding(), "hashtable");

    assert_eq!(set_of(&[&[b'x'; 64]]).encoding(), "listpack");
    assert_eq!(set_of(&[&[b'x'; 65]]).encoding(), "hashtable");
    assert_eq!(Set::for_members(b"1", 513, &limits).encoding(), "hashtable");
    assert_eq!(Set::for_members(b"x", 128, &limits).encoding(), "listpack");
}

#[test]
fn a_value_stays_small() {
    // It stands in `Object`, of which every small collection has one.
    assert!(size_of::<Set>() <= 40, "{}", size_of::<Set>());
}

#[test]
fn equal_content_has_one_digest() {
    use std::hash::{BuildHasher, Hasher};
    let digest = |set: &Set| {
        let mut hasher = foldhash::fast::FixedState::with_seed(1).build_hasher();
        set.digest(&mut hasher);
        hasher.finish()
    };
    let ints = set_of(&[b"3", b"1", b"2"]);
    let mut table = ints.clone();
    table.become_table(3);
    let pack = Set::Pack([&b"2"[..], b"3", b"1"].into_iter().collect());
    assert_eq!(digest(&ints), digest(&table));
    assert_eq!(digest(&ints), digest(&pack));
    assert_eq!(ints, table);
    assert_ne!(digest(&ints), digest(&set_of(&[b"3", b"1", b"4"])));
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..700i64).prop_map(|n| n.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        2 => "[a-c]{0,4}".prop_map(String::into_bytes),
        1 => (0..80usize).prop_map(|len| vec![b'y'; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_as_a_set(
        ints_max in prop_oneof![Just(4i64), Just(512)],
        steps in prop::collection::vec((0u8..5, member()), 0..900),
    ) {
        let limits = Limits::default();
        limits.set("set-max-intset-entries", ints_max);
        let mut model = BTreeSet::new();
        let mut set = Set::default();
        for (step, member) in steps {
            match step {
                0 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                1 if !set.is_empty() => {
                    let index = member.len() % set.len();
                    let gone = set.get(index).unwrap().to_vec();
                    set.remove_at(index);
                    prop_assert!(model.remove(&gone));
                }
                _ => prop_assert_eq!(set.insert(&member, &limits), model.insert(member.clone())),
            }
            prop_assert_eq!(set.contains(&member), model.contains(&member));
            prop_assert_eq!(set.len(), model.len());
        }
        let found: BTreeSet<Vec<u8>> = set.iter().map(Entry::to_vec).collect();
        prop_assert_eq!(&found, &model);
        let mut scanned = BTreeSet::new();
        let mut cursor = 0;
        loop {
            cursor = set.scan(cursor, 7, |member| { scanned.insert(member.to_vec()); });
            if cursor == 0 { break; }
        }
        prop_assert_eq!(&scanned, &model);
    }
}
