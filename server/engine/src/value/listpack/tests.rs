use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn texts(pack: &Listpack) -> Vec<Vec<u8>> {
    pack.iter().map(Entry::to_vec).collect()
}

fn check(pack: &Listpack, model: &[Vec<u8>]) {
    assert_eq!(texts(pack), model);
    let mut backward: Vec<_> = pack.iter().rev().map(Entry::to_vec).collect();
    backward.reverse();
    assert_eq!(backward, model);
    assert_eq!(pack.len(), model.len());
    for (index, text) in model.iter().enumerate() {
        assert_eq!(pack.get(index).map(Entry::to_vec).as_ref(), Some(text));
        let found = model.iter().position(|other| other == text);
        assert_eq!(pack.find(&Packed::new(text), 0, 1), found);
    }
    assert_eq!(pack.get(model.len()), None);
    let (heads, bodies) = pack.as_parts();
    assert_eq!(Listpack::from_untrusted(heads, bodies).as_ref(), Some(pack));
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        1 => vec(any::<u8>(), 180..400),
        1 => vec(Just(b'z'), 20_000..90_000),
        2 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        2 => (any::<i64>(), 0u32..64).prop_map(|(n, s)| (n >> s).to_string().into_bytes()),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    Insert(usize, Vec<u8>),
    Replace(usize, Vec<u8>),
    Remove(usize, usize),
    DropFront,
    DropBack,
    Split(usize),
    Shrink,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => text().prop_map(Op::PushBack),
        3 => text().prop_map(Op::PushFront),
        3 => (any::<usize>(), text()).prop_map(|(i, t)| Op::Insert(i, t)),
        2 => (any::<usize>(), text()).prop_map(|(i, t)| Op::Replace(i, t)),
        2 => (any::<usize>(), 0usize..5).prop_map(|(i, n)| Op::Remove(i, n)),
        1 => Just(Op::DropFront),
        1 => Just(Op::DropBack),
        1 => any::<usize>().prop_map(Op::Split),
        1 => Just(Op::Shrink),
    ]
}

fn apply(op: Op, pack: &mut Listpack, model: &mut Vec<Vec<u8>>) {
    let len = model.len();
    match op {
        Op::PushBack(text) => {
            pack.push_back(&text);
            model.push(text);
        }
        Op::PushFront(text) => {
            pack.push_front(&text);
            model.insert(0, text);
        }
        Op::Insert(index, text) => {
            let index = index % (len + 1);
            pack.insert(index, &text);
            model.insert(index, text);
        }
        Op::Replace(index, text) if len > 0 => {
            pack.replace(index % len, &text);
            model[index % len] = text;
        }
        Op::Remove(index, count) if len > 0 => {
            let index = index % len;
            let count = count.min(len - index);
            pack.remove_range(index, count);
            model.drain(index..index + count);
        }
        Op::DropFront => {
            pack.drop_front();
            if len > 0 {
                model.remove(0);
            }
        }
        Op::DropBack => {
            pack.drop_back();
            model.pop();
        }
        Op::Split(index) => {
            let index = index % (len + 1);
            let behind = pack.split_off(index);
            assert_eq!(texts(&behind), model.split_off(index));
        }
        Op::Shrink => pack.shrink_to_fit(),
        Op::Replace(..) | Op::Remove(..) => {}
    }
}

proptest! {
    #[test]
    fn behaves_as_a_vector(ops in vec(op(), 1..120)) {
        let (mut pack, mut model) = (Listpack::new(), Vec::new());
        for op in ops {
            apply(op, &mut pack, &mut model);
            check(&pack, &model);
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_whole(heads in vec(any::<u8>(), 0..20), bodies in vec(any::<u8>(), 0..80)) {
        if let Some(pack) = Listpack::from_untrusted(&heads, &bodies) {
            let again: Listpack = texts(&pack).iter().map(Vec::as_slice).collect();
            prop_assert_eq!(&again, &pack);
            prop_assert_eq!(pack.iter().rev().count(), pack.len());
        }
    }
}

#[test]
fn integers_of_every_width_keep_their_text() {
    for shift in 0..63 {
        for delta in [-1, 0, 1] {
            for number in [(1i64 << shift) + delta, -(1i64 << shift) + delta] {
                let pack: Listpack = [number.to_string().as_bytes()].into_iter().collect();
                assert_eq!(pack.first(), Some(Entry::Integer(number)));
                assert!(pack.packed_len() <= 9);
            }
        }
    }
    for number in [i64::MIN, i64::MAX] {
        let pack: Listpack = [number.to_string().as_bytes()].into_iter().collect();
        assert_eq!(pack.last(), Some(Entry::Integer(number)));
    }
}

#[test]
fn redis_sizes_are_those_of_its_listpack() {
    for (entry, len) in [
        (Entry::Integer(127), 2),
        (Entry::Integer(-1), 3),
        (Entry::Integer(4096), 4),
        (Entry::Integer(1 << 40), 10),
        (Entry::Bytes(b"abc"), 5),
        (Entry::Bytes(&[0; 63]), 65),
        (Entry::Bytes(&[0; 64]), 67),
        (Entry::Bytes(&[0; 126]), 130),
        (Entry::Bytes(&[0; 5000]), 5007),
    ] {
        assert_eq!(entry.redis_len(), len, "{entry:?}");
    }
}

#[test]
fn a_step_skips_values() {
    let pack: Listpack = [&b"a"[..], b"b", b"b", b"a"].into_iter().collect();
    assert_eq!(pack.find(&Packed::new(b"b"), 0, 2), Some(2));
    assert_eq!(pack.find(&Packed::new(b"a"), 1, 2), Some(3));
}

#[test]
fn gaps_stay_small_whatever_is_removed() {
    let long = vec![b'x'; 70_000];
    let mut pack: Listpack = [&long[..], b"a", &long, b"b"].into_iter().collect();
    pack.replace(0, b"short");
    pack.drop_back();
    pack.drop_back();
    assert_eq!(texts(&pack), [b"short".to_vec(), b"a".to_vec()]);
    pack.push_front(&long);
    pack.drop_front();
    assert_eq!(pack.memory_len() / 100, 0, "{}", pack.memory_len());
    assert_eq!(size_of::<Listpack>(), 24);
}
