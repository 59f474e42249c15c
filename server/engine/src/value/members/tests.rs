use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Members of all lengths around the classes' bounds.
fn member() -> impl Strategy<Value = Vec<u8>> {
    (0u16..300, prop_oneof![0usize..20, 230usize..260]).prop_map(|(number, len)| {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(len.max(2), b'x');
        bytes
    })
}

proptest! {
    #[test]
    fn is_a_map(steps in prop::collection::vec((0u8..3, member()), 0..600)) {
        let mut model: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        let mut members = Members::<4>::default();
        for (n, (step, member)) in steps.into_iter().enumerate() {
            let n = n as u32;
            match step {
                0 => {
                    if let Some(handle) = members.find(&member) {
                        members.remove(handle);
                        prop_assert!(model.remove(&member).is_some());
                    } else {
                        prop_assert!(!model.contains_key(&member));
                    }
                }
                _ => {
                    let (handle, new) = members.insert(&member, n.to_le_bytes());
                    prop_assert_eq!(new, !model.contains_key(&member));
                    members.set_owned(handle, n.to_le_bytes());
                    model.insert(member, n);
                }
            }
            prop_assert_eq!(members.len(), model.len());
        }
        let mut seen = BTreeMap::new();
        let end = members.scan(0, usize::MAX, |handle| {
            let owned = u32::from_le_bytes(members.owned(handle));
            seen.insert(members.member(handle).to_vec(), owned);
        });
        prop_assert_eq!((end, seen), (0, model));
    }
}

#[test]
fn a_scan_sees_what_stays_while_the_table_grows_and_shrinks() {
    let name = |n: u32| format!("member:{n}").into_bytes();
    let mut members = Members::<4>::default();
    for n in 0..1000 {
        members.insert(&name(n), [0; 4]);
    }
    let mut seen = BTreeSet::new();
    let (mut cursor, mut calls) = (0, 0u32);
    loop {
        cursor = members.scan(cursor, 10, |handle| {
            seen.insert(members.member(handle).to_vec());
        });
        calls += 1;
        // Grows to several times its size, then shrinks below the beginning.
        for n in 0..200 {
            members.insert(&name(calls * 1000 + n), [0; 4]);
        }
        if calls.is_multiple_of(20) {
            for n in 500..calls * 1000 + 200 {
                if let Some(handle) = members.find(&name(n)) {
                    members.remove(handle);
                }
            }
        }
        if cursor == 0 {
            break;
        }
    }
    assert!((0..500).all(|n| seen.contains(&name(n))));
    assert!(calls > 50);
}

#[test]
fn freed_cells_are_used_again_and_empty_pages_go() {
    let name = |n: u32| format!("{n:012}").into_bytes();
    let mut members = Members::<8>::default();
    let fill = |members: &mut Members<8>| {
        for n in 0..10_000 {
            members.insert(&name(n), [0; 8]);
        }
    };
    fill(&mut members);
    let full = members.memory_len();
    for _ in 0..3 {
        for n in (0..10_000).step_by(2) {
            let handle = members.find(&name(n)).unwrap();
            members.remove(handle);
        }
        fill(&mut members);
        assert!(members.memory_len() <= full + full / 8);
    }
    for n in 0..10_000 {
        let handle = members.find(&name(n)).unwrap();
        members.remove(handle);
    }
    assert!(
        members.memory_len() < full / 100,
        "{}",
        members.memory_len()
    );
}
