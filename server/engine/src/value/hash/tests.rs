use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMITS: HashLimits = HashLimits { entries: 8, value_len: 12 };

fn contents(hash: &Hash, now: UnixMillis) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    hash.each(now, |field, value| {
        assert!(found.insert(field.to_vec(), value.to_vec()).is_none());
    });
    found
}

fn digest(hash: &Hash) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hash.digest(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Clone)]
enum Op {
    Set(u8, Vec<u8>, bool),
    Remove(u8),
    Expire(u8, Option<i64>),
    Tick(i64),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u8..24, vec(any::<u8>(), 0..14), any::<bool>()).prop_map(|(f, v, k)| Op::Set(f, v, k)),
        3 => (0u8..24).prop_map(Op::Remove),
        2 => (0u8..24, proptest::option::of(0i64..50)).prop_map(|(f, at)| Op::Expire(f, at)),
        1 => (0i64..10).prop_map(Op::Tick),
        1 => Just(Op::Sweep),
    ]
}

fn name(field: u8) -> Vec<u8> {
    match field % 3 {
        0 => field.to_string().into_bytes(),
        1 => format!("field:{field}").into_bytes(),
        _ => vec![field; usize::from(field)],
    }
}

proptest! {
    #[test]
    fn behaves_as_a_map_across_encodings(ops in vec(op(), 1..150)) {
        let (mut hash, mut model) = (Hash::default(), BTreeMap::new());
        let mut now = UnixMillis(0);
        for op in ops {
            match op {
                Op::Set(field, value, keep) => {
                    hash.remove_expired(now);
                    model.retain(|_, (_, at): &mut (Vec<u8>, Option<UnixMillis>)| at.is_none_or(|at| at > now));
                    let expiry = if keep { FieldExpiry::Kept } else { FieldExpiry::Dropped };
                    let set = hash.set(&name(field), &value, expiry, LIMITS);
                    let before = model.get(&name(field)).map(|(_, at)| *at);
                    prop_assert_eq!(set == FieldSet::Replaced, before.is_some());
                    let at = before.flatten().filter(|_| keep);
                    model.insert(name(field), (value, at));
                }
                Op::Remove(field) => {
                    hash.remove_expired(now);
                    model.retain(|_, (_, at)| at.is_none_or(|at| at > now));
                    prop_assert_eq!(hash.remove(&name(field)), model.remove(&name(field)).is_some());
                }
                Op::Expire(field, at) => if hash.get(&name(field), now).is_some() {
                    let at = at.map(|ms| UnixMillis(now.0 + ms));
                    hash.set_field_expiry(&name(field), at);
                    model.get_mut(&name(field)).unwrap().1 = at;
                },
                Op::Tick(ms) => now.0 += ms,
                Op::Sweep => { hash.remove_expired(now); }
            }
            let live: BTreeMap<_, _> = model
                .iter()
                .filter(|(_, (_, at))| at.is_none_or(|at| at > now))
                .map(|(field, (value, _))| (field.clone(), value.clone()))
                .collect();
            prop_assert_eq!(&contents(&hash, now), &live);
            prop_assert_eq!(hash.len(now), live.len());
            for field in 0..24 {
                let found = hash.get(&name(field), now).map(Entry::to_vec);
                prop_assert_eq!(found.as_ref(), live.get(&name(field)));
            }
        }
    }

    #[test]
    fn a_scan_meets_every_field_that_stays(
        removals in vec((0usize..400, any::<bool>()), 0..200),
        count in 1usize..40,
    ) {
        let mut hash = Hash::default();
        for field in 0..400 {
            hash.set(&field.to_string().into_bytes(), b"v", FieldExpiry::Dropped, LIMITS);
        }
        let (mut met, mut cursor, mut removals) = (Vec::new(), 0, removals.into_iter());
        let mut removed = Vec::new();
        loop {
            cursor = hash.scan(cursor, count, UnixMillis(0), |field, _| met.push(field.to_vec()));
            if cursor == 0 {
                break;
            }
            for (field, grow) in removals.by_ref().take(5) {
                hash.remove(&field.to_string().into_bytes());
                removed.push(field);
                if grow {
                    hash.set(format!("new:{field}").as_bytes(), b"v", FieldExpiry::Dropped, LIMITS);
                }
            }
        }
        for field in (0..400).filter(|field| !removed.contains(field)) {
            prop_assert!(met.contains(&field.to_string().into_bytes()), "{field}");
        }
    }
}

#[test]
fn conversions_happen_at_the_limits_and_never_back() {
    let mut hash = Hash::default();
    for field in 0..8 {
        hash.set(&[b'a' + field], b"v", FieldExpiry::Dropped, LIMITS);
    }
    assert_eq!(hash.encoding(), "listpack");
    let compact = hash.clone();
    hash.set(b"z", b"v", FieldExpiry::Dropped, LIMITS);
    assert_eq!(hash.encoding(), "hashtable");
    hash.remove(b"z");
    assert_eq!(hash.encoding(), "hashtable");
    assert_eq!(hash, compact);
    assert_eq!(digest(&hash), digest(&compact));

    let mut long = Hash::default();
    long.set(b"f", &[b'x'; 13], FieldExpiry::Dropped, LIMITS);
    assert_eq!(long.encoding(), "hashtable");
    let mut prepared = Hash::default();
    prepared.prepare(&[b"f", b"1234567890123"], LIMITS);
    assert_eq!(prepared.encoding(), "hashtable");
}

#[test]
fn a_hash_whose_fields_all_expire_gives_its_record_the_last_expiry() {
    let at = |ms| Some(UnixMillis(ms));
    let mut hash = Hash::default();
    hash.set(b"a", b"1", FieldExpiry::Dropped, LIMITS);
    hash.set(b"b", b"2", FieldExpiry::Dropped, LIMITS);
    hash.set_field_expiry(b"a", at(10));
    assert_eq!(hash.settle_expiry(at(500)), at(500));
    assert_eq!(hash.encoding(), "listpackex");
    hash.set_field_expiry(b"b", at(20));
    assert_eq!(hash.settle_expiry(at(500)), at(20));
    assert_eq!(hash.own_expiry(at(20)), at(500));
    assert_eq!(hash.settle_expiry(at(15)), at(15));
    hash.set_field_expiry(b"b", None);
    let own = hash.own_expiry(at(15));
    assert_eq!((own, hash.settle_expiry(own)), (at(15), at(15)));
}

#[test]
fn a_small_hash_takes_no_more_room_than_its_listpack() {
    assert!(size_of::<Hash>() <= 24, "{}", size_of::<Hash>());
}
