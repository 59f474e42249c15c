//! Entries against the plainest model: a vector of all that stand.

use proptest::prelude::*;

use super::block::Block;
use super::*;
use crate::dump::compact;
use crate::limits::Limits;

type Fields = Vec<Vec<u8>>;

#[derive(Debug, Clone)]
enum Op {
    Add { ahead: u64, within: bool, fields: Fields },
    Delete(Vec<usize>),
    Keep { count: usize, whole_blocks: bool, limit: u64 },
    From { nth: usize, whole_blocks: bool },
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![b"f".to_vec(), b"name".to_vec(), b"12".to_vec()]),
        1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (4000usize..5000).prop_map(|len| vec![b'x'; len]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let fields = prop::collection::vec(text(), 1..4)
        .prop_flat_map(|names| {
            let values = prop::collection::vec(text(), names.len());
            (Just(names), values)
        })
        .prop_map(|(names, values)| {
            names.into_iter().zip(values).flat_map(|(n, v)| [n, v]).collect()
        });
    prop_oneof![
        8 => (0u64..3, any::<bool>(), fields)
            .prop_map(|(ahead, within, fields)| Op::Add { ahead, within, fields }),
        2 => prop::collection::vec(0usize..60, 1..4).prop_map(Op::Delete),
        1 => (0usize..40, any::<bool>(), 0u64..10)
            .prop_map(|(count, whole_blocks, limit)| Op::Keep { count, whole_blocks, limit }),
        1 => (0usize..60, any::<bool>())
            .prop_map(|(nth, whole_blocks)| Op::From { nth, whole_blocks }),
    ]
}

fn flat(item: block::Item<'_>) -> (StreamId, Fields) {
    let fields = item.fields.flat_map(|(field, value)| [field.to_vec(), value.to_vec()]);
    (item.id, fields.collect())
}

/// All that a model holds can be found, from both ends and one by one; files bring it back.
fn check(entries: &Entries, model: &[(StreamId, Fields)]) {
    let (least, greatest) = (StreamId::MIN, StreamId::MAX);
    let forth: Vec<_> = entries.range(least, greatest).map(flat).collect();
    assert_eq!(forth, model);
    let mut back: Vec<_> = entries.range_back(least, greatest).map(flat).collect();
    back.reverse();
    assert_eq!(back, model);
    assert_eq!(entries.len(), model.len() as u64);
    assert_eq!(entries.first_id(), model.first().map_or(least, |(id, _)| *id));
    assert_eq!(entries.last_standing(), model.last().map(|(id, _)| *id));
    if let [first, .., last] = model {
        let inner = entries.range(first.0.next().unwrap(), last.0.previous().unwrap());
        assert_eq!(inner.count(), model.len() - 2);
        assert_eq!(entries.get(last.0).map(|item| item.id), Some(last.0));
    }
    let blocks = entries.blocks().map(|(first, block)| {
        let bytes = block.to_listpack();
        assert_eq!(bytes.len(), block.redis_len());
        let read = Block::from_untrusted(first, &compact::listpack(&bytes).unwrap()).unwrap();
        assert_eq!(&read, block);
        (first, read)
    });
    let blocks: Vec<_> = blocks.collect();
    let again =
        Entries::from_blocks(blocks, entries.last_id, entries.max_deleted_id, entries.added);
    assert_eq!(again.as_ref(), Some(entries));
}

fn run(ops: Vec<Op>, limits: &Limits) {
    let mut entries = Entries::default();
    let mut model: Vec<(StreamId, Fields)> = Vec::new();
    let limits = BlockLimits::from(limits);
    for op in ops {
        match op {
            Op::Add { ahead, within, fields } => {
                let id = match within {
                    true => entries.next_id_within(entries.last_id.ms),
                    false => entries.next_id(entries.last_id.ms + ahead),
                };
                let id = id.unwrap();
                let texts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
                entries.add(id, &texts, limits);
                model.push((id, fields));
            }
            Op::Delete(nths) => {
                let ids: Vec<StreamId> =
                    nths.iter().filter_map(|nth| model.get(*nth)).map(|(id, _)| *id).collect();
                let before = model.len();
                model.retain(|(id, _)| !ids.contains(id));
                assert_eq!(entries.delete(&ids), (before - model.len()) as u64);
                assert_eq!(entries.delete(&ids), 0);
            }
            Op::Keep { count, whole_blocks, limit } => {
                let trim = Trim { keep: Keep::Newest(count as u64), whole_blocks, limit };
                let gone = entries.trim(trim) as usize;
                let surplus = model.len().saturating_sub(count);
                assert!(gone <= surplus);
                assert!(limit == 0 || gone as u64 <= limit);
                assert!(whole_blocks || limit > 0 || gone == surplus);
                model.drain(..gone);
            }
            Op::From { nth, whole_blocks } => {
                let id = model.get(nth).map_or(entries.last_id, |(id, _)| *id);
                let trim = Trim { keep: Keep::From(id), whole_blocks, limit: 0 };
                let gone = entries.trim(trim) as usize;
                let surplus = model.iter().filter(|(other, _)| *other < id).count();
                assert!(if whole_blocks { gone <= surplus } else { gone == surplus });
                model.drain(..gone);
            }
        }
        check(&entries, &model);
    }
}

proptest! {
    #[test]
    fn entries_are_as_the_model_says(ops in prop::collection::vec(op(), 1..60)) {
        run(ops, &Limits::default());
    }

    #[test]
    fn so_they_are_in_small_blocks(ops in prop::collection::vec(op(), 1..60), most in 1i64..5) {
        let limits = Limits::default();
        limits.set("stream-node-max-entries", most);
        run(ops, &limits);
    }

    #[test]
    fn no_bytes_make_a_block_that_panics(
        numbers in prop::collection::vec(
            prop_oneof![0i64..6, any::<i64>()].prop_map(crate::value::listpack::Entry::Integer),
            0..30),
        ms in any::<u64>())
    {
        let first = StreamId::new(ms, 0);
        if let Some(block) = Block::from_untrusted(first, &numbers) {
            let ids: Vec<StreamId> = block.items(first).map(|item| item.id).collect();
            let back: Vec<StreamId> = block.items(first).rev().map(|item| item.id).collect();
            prop_assert_eq!(ids.len(), back.len());
            prop_assert!(ids.is_sorted());
        }
    }

    #[test]
    fn ids_are_read_as_they_are_written(ms in any::<u64>(), seq in any::<u64>()) {
        let id = StreamId::new(ms, seq);
        prop_assert_eq!(StreamId::parse(id.to_string().as_bytes(), 7), Some(id));
        prop_assert_eq!(id.text().to_vec(), id.to_string().into_bytes());
        prop_assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
        prop_assert_eq!(id.next().and_then(StreamId::previous).unwrap_or(id), id);
    }
}

#[test]
fn ids_are_read_as_c_does() {
    for (text, id) in [
        (&b"5"[..], Some((5, 9))),
        (b"05-1", Some((5, 1))),
        (b" +5-007", Some((5, 7))),
        (b"18446744073709551615-0", Some((u64::MAX, 0))),
        (b"18446744073709551616-0", None),
        (b"", None),
        (b"-", None),
        (b"5-", None),
        (b"-5", None),
        (b"5-1-2", None),
        (b"5-*", None),
        (b"x", None),
    ] {
        let id = id.map(|(ms, seq)| StreamId::new(ms, seq));
        assert_eq!(StreamId::parse(text, 9), id, "{}", text.escape_ascii());
    }
    assert_eq!(StreamId::parse_open(b"5-*"), Some(5));
    assert_eq!(StreamId::parse_open(b"5-1"), None);
}

#[test]
fn a_group_keeps_both_sides_of_what_waits() {
    let now = crate::time::UnixMillis(1);
    let mut group = Group::new(StreamId::MIN, None);
    assert!(group.create_consumer(b"a", now) && group.create_consumer(b"b", now));
    assert!(!group.create_consumer(b"a", now));
    let id = |seq| StreamId::new(1, seq);
    for seq in 0..4 {
        group.assign(id(seq), b"a", now, 1);
    }
    group.assign(id(1), b"b", now, 2);
    group.assign(id(1), b"b", now, 3);
    let count = |group: &Group, name: &[u8]| group.consumers()[name].pending().len();
    assert_eq!((count(&group, b"a"), count(&group, b"b"), group.pending().len()), (3, 1, 4));
    assert!(group.acknowledge(id(1)) && !group.acknowledge(id(1)));
    assert_eq!(group.delete_consumer(b"a"), Some(3));
    assert_eq!((count(&group, b"b"), group.pending().len()), (0, 0));
}
