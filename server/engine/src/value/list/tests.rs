use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Push(End, Vec<Vec<u8>>),
    Pop(End, usize),
    Set(usize, Vec<u8>),
    Insert(Beside, Vec<u8>, Vec<u8>),
    Remove(End, Vec<u8>, usize),
    RemoveRange(usize, usize),
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0u8..6).prop_map(|n| n.to_string().into_bytes()),
        3 => vec(any::<u8>(), 0..20),
        2 => vec(Just(b'x'), 100..300),
        1 => vec(Just(b'y'), 4000..5000),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Left), Just(End::Right)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (end(), vec(element(), 1..20)).prop_map(|(e, v)| Op::Push(e, v)),
        3 => (end(), 1usize..15).prop_map(|(e, n)| Op::Pop(e, n)),
        2 => (any::<usize>(), element()).prop_map(|(i, v)| Op::Set(i, v)),
        3 => (any::<bool>(), element(), element()).prop_map(|(before, p, v)| {
            Op::Insert(if before { Beside::Before } else { Beside::After }, p, v)
        }),
        2 => (end(), element(), 1usize..5).prop_map(|(e, v, n)| Op::Remove(e, v, n)),
        1 => (any::<usize>(), 0usize..60).prop_map(|(i, n)| Op::RemoveRange(i, n)),
    ]
}

fn apply(op: Op, list: &mut List, model: &mut VecDeque<Vec<u8>>, limit: NodeLimit) {
    let len = model.len();
    match op {
        Op::Push(end, elements) => {
            let borrowed: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
            list.prepare(&borrowed, limit);
            for element in elements {
                list.push(end, &element, limit);
                match end {
                    End::Left => model.push_front(element),
                    End::Right => model.push_back(element),
                }
            }
        }
        Op::Pop(end, count) => {
            for _ in 0..count {
                let expected = match end {
                    End::Left => model.pop_front(),
                    End::Right => model.pop_back(),
                };
                assert_eq!(list.pop(end, |entry| entry.to_vec()), expected);
            }
            list.settle(limit);
        }
        Op::Set(index, element) if len > 0 => {
            list.prepare(&[&element], limit);
            assert!(list.set(index % len, &element, limit));
            list.settle(limit);
            model[index % len] = element;
        }
        Op::Set(..) => assert!(!list.set(0, b"", limit)),
        Op::Insert(side, pivot, element) => {
            list.prepare(&[&element], limit);
            let at = model.iter().position(|other| *other == pivot);
            assert_eq!(list.insert_beside(side, &pivot, &element, limit), at.is_some());
            if let Some(at) = at {
                model.insert(at + usize::from(side == Beside::After), element);
            }
        }
        Op::Remove(end, element, count) => {
            let mut at: Vec<usize> = (0..len).filter(|index| model[*index] == element).collect();
            if end == End::Left {
                at.truncate(count);
                at.reverse();
            } else {
                at.reverse();
                at.truncate(count);
            }
            assert_eq!(list.remove(end, &element, count), at.len());
            at.into_iter().for_each(|index| drop(model.remove(index)));
            list.settle(limit);
        }
        Op::RemoveRange(index, count) => {
            let index = index % (len + 1);
            let count = count.min(len - index);
            list.remove_range(index, count);
            model.drain(index..index + count);
            list.settle(limit);
        }
    }
}

fn check(list: &List, model: &VecDeque<Vec<u8>>) {
    assert_eq!(list.len(), model.len());
    assert!(list.iter().map(Entry::to_vec).eq(model.iter().cloned()));
    assert!(list.iter().rev().map(Entry::to_vec).eq(model.iter().rev().cloned()));
    for index in [0, model.len() / 3, model.len() / 2, model.len().saturating_sub(1), model.len()] {
        assert_eq!(list.get(index).map(Entry::to_vec).as_ref(), model.get(index));
        let from: Vec<_> = list.iter_from(index).map(Entry::to_vec).collect();
        assert!(from.iter().eq(model.iter().skip(index)));
    }
    if let Form::Large(quick) = &list.0 {
        quick.check();
    }
}

proptest! {
    #[test]
    fn behaves_as_a_deque_across_encodings(
        ops in vec(op(), 1..80),
        directive in prop_oneof![Just(-2i64), Just(-1), Just(3), Just(16)],
    ) {
        let limit = NodeLimit::of(directive);
        let (mut list, mut model) = (List::default(), VecDeque::new());
        for op in ops {
            apply(op, &mut list, &mut model, limit);
            check(&list, &model);
        }
    }
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let limit = NodeLimit::of(-2);
    let mut list = List::default();
    let push = |list: &mut List, element: &[u8]| {
        list.prepare(&[element], limit);
        list.push(End::Right, element, limit);
    };
    // 100 bytes take 103 in Redis's listpack; with the frame, 79 of them take 8144.
    for _ in 0..79 {
        push(&mut list, &[b'x'; 100]);
    }
    assert_eq!(list.encoding(), "listpack");
    push(&mut list, &[b'x'; 48]);
    assert_eq!(list.encoding(), "listpack", "8144 and 48 are 8192");
    push(&mut list, b"");
    assert_eq!(list.encoding(), "quicklist");
    list.remove_range(0, 41);
    list.settle(limit);
    assert_eq!((list.len(), list.encoding()), (40, "quicklist"), "two nodes");
    list.pop(End::Right, |_| ());
    list.settle(limit);
    assert_eq!((list.len(), list.encoding()), (39, "listpack"));

    let mut one = List::default();
    push(&mut one, &[b'x'; 9000]);
    assert_eq!(one.encoding(), "quicklist");

    let four = NodeLimit::of(4);
    let mut few = List::default();
    let five: [&[u8]; 5] = [b"1", b"2", b"3", b"4", b"5"];
    few.prepare(&five, four);
    five.iter().for_each(|element| few.push(End::Left, element, four));
    assert_eq!(few.encoding(), "quicklist");
    few.pop(End::Right, |_| ());
    few.pop(End::Right, |_| ());
    few.settle(four);
    assert_eq!(few.encoding(), "quicklist");
    few.pop(End::Left, |_| ());
    few.settle(four);
    assert_eq!(few.encoding(), "listpack");
}

#[test]
fn the_directive_means_bytes_below_zero_and_entries_above() {
    assert_eq!(NodeLimit::of(-1).len, 4096);
    assert_eq!(NodeLimit::of(-5).len, 65_536);
    assert_eq!(NodeLimit::of(-99).len, 65_536);
    assert_eq!(NodeLimit::of(0), NodeLimit { len: 8192, entries: 1 });
    assert_eq!(NodeLimit::of(128).entries, 128);
}

#[test]
fn a_small_list_takes_no_more_room_than_its_listpack() {
    assert!(size_of::<List>() <= 24, "{}", size_of::<List>());
}
