//! A stream in RDB's encoding.
//!
//! Written is type 19, of Redis 7.0; read are those of Redis 5 (15) and 7.2 (21) as well. They
//! differ in what they tell besides the entries: 15 lacks the counts, and all but 21 lack when a
//! consumer was last given anything, for which a file of ours has a field beside the key.

use std::collections::BTreeMap;
use std::io::Read;

use super::compact;
use super::sink::Sink;
use super::source::{DumpError, Source};
use super::value::kind;
use crate::time::UnixMillis;
use crate::value::stream::block::Block;
use crate::value::stream::group::Group;
use crate::value::stream::{Entries, Stream, StreamId};

const BAD_BLOCK: DumpError = DumpError::Damaged("a block of a stream is not valid");
const BAD_GROUP: DumpError = DumpError::Damaged("a group of a stream is not valid");
/// The count of entries a group has read, where it is not known.
const UNKNOWN: u64 = u64::MAX;

fn push_id(id: StreamId, sink: &mut Sink) {
    sink.len(id.ms);
    sink.len(id.seq);
}

fn read_id<R: Read>(source: &mut Source<R>) -> Result<StreamId, DumpError> {
    Ok(StreamId::new(source.length()?, source.length()?))
}

fn read_time<R: Read>(source: &mut Source<R>) -> Result<UnixMillis, DumpError> {
    Ok(UnixMillis(i64::from_le_bytes(source.array()?)))
}

/// Writes a stream.
pub(super) fn encode(stream: &Stream, sink: &mut Sink) {
    let entries = &stream.entries;
    sink.len(entries.blocks().len() as u64);
    for (first, block) in entries.blocks() {
        sink.string(&first.to_bytes());
        sink.string(&block.to_listpack());
    }
    sink.len(entries.len());
    for id in [entries.last_id, entries.first_id(), entries.max_deleted_id] {
        push_id(id, sink);
    }
    sink.len(entries.added);
    sink.len(stream.groups.len() as u64);
    for (name, group) in &stream.groups {
        sink.string(name);
        push_id(group.last_id, sink);
        sink.len(group.entries_read.map_or(UNKNOWN, |count| count as u64));
        sink.len(group.pending().len() as u64);
        for (id, pending) in group.pending() {
            sink.raw(&id.to_bytes());
            sink.raw(&pending.delivered_at.0.to_le_bytes());
            sink.len(pending.deliveries);
        }
        sink.len(group.consumers().len() as u64);
        for (name, consumer) in group.consumers() {
            sink.string(name);
            sink.raw(&consumer.seen_at.0.to_le_bytes());
            sink.len(consumer.pending().len() as u64);
            consumer.pending().iter().for_each(|id| sink.raw(&id.to_bytes()));
        }
    }
}

/// Reads a stream of this type.
///
/// # Errors
/// When it is cut short or damaged.
pub(super) fn decode<R: Read>(kind: u8, source: &mut Source<R>) -> Result<Stream, DumpError> {
    let mut blocks = Vec::new();
    for _ in 0..source.length()? {
        let first: [u8; 16] = source.string()?.try_into().map_err(|_| BAD_BLOCK)?;
        let first = StreamId::from_bytes(first);
        let listpack = source.string()?;
        let elements = compact::listpack(&listpack)?;
        let block = Block::from_untrusted(first, &elements).ok_or(BAD_BLOCK)?;
        let told = elements.first().and_then(|told| told.integer());
        if told != i64::try_from(block.live()).ok() {
            source.correct(format!(
                "a block of a stream says that it has {} entries, and it has {}",
                told.unwrap_or(0),
                block.live()
            ));
        }
        blocks.push((first, block));
    }
    let len = source.length()?;
    let last_id = read_id(source)?;
    let counts = match kind {
        kind::STREAM => None,
        _ => Some((read_id(source)?, read_id(source)?, source.length()?)),
    };
    let (_, max_deleted_id, added) = counts.unwrap_or((StreamId::MIN, StreamId::MIN, 0));
    let entries = Entries::from_blocks(blocks, last_id, max_deleted_id, added).ok_or(BAD_BLOCK)?;
    // Redis before 7 could miscount, and takes what it reads for granted. What can be counted is.
    if entries.len() != len {
        source.correct(format!(
            "a stream says that it has {len} entries, and it has {}",
            entries.len()
        ));
    }
    if entries.last_id != last_id {
        source.correct(format!(
            "a stream says that its last id is {last_id}, and it has one of {}",
            entries.last_id
        ));
    }
    if counts.is_some() && entries.added != added {
        source.correct(format!(
            "a stream says that {added} entries were added, and it has {}",
            entries.len()
        ));
    }
    let mut stream = Stream { entries, ..Stream::default() };
    for _ in 0..source.length()? {
        let name = source.string()?;
        let last_id = read_id(source)?;
        let entries_read = match kind {
            kind::STREAM => stream.entries.added_up_to(last_id),
            _ => Some(source.length()?).filter(|count| *count != UNKNOWN).map(|count| count as i64),
        };
        let group = read_group(kind, source, Group::new(last_id, entries_read))?;
        if stream.groups.insert(name.into(), group).is_some() {
            return Err(BAD_GROUP);
        }
    }
    Ok(stream)
}

/// Reads what waits in a group, and its consumers, to each of whom some of it belongs.
fn read_group<R: Read>(
    kind: u8,
    source: &mut Source<R>,
    mut group: Group,
) -> Result<Group, DumpError> {
    let mut pending = BTreeMap::new();
    for _ in 0..source.length()? {
        let id = StreamId::from_bytes(source.array()?);
        let delivered = (read_time(source)?, source.length()?);
        if pending.insert(id, delivered).is_some() {
            return Err(BAD_GROUP);
        }
    }
    for _ in 0..source.length()? {
        let name = source.string()?;
        let seen_at = read_time(source)?;
        if !group.create_consumer(&name, seen_at) {
            return Err(BAD_GROUP);
        }
        let active_at = match kind {
            kind::STREAM_3 => Some(read_time(source)?).filter(|at| at.0 != -1),
            // The best guess there is.
            _ => Some(seen_at),
        };
        if let Some(consumer) = group.consumer_mut(&name) {
            consumer.active_at = active_at;
        }
        for _ in 0..source.length()? {
            let id = StreamId::from_bytes(source.array()?);
            let (delivered_at, deliveries) = match pending.remove(&id) {
                Some(delivered) => delivered,
                // As in Redis, the consumer that comes last has it.
                None => match group.pending().get(&id) {
                    Some(told) => {
                        let delivered = (told.delivered_at, told.deliveries);
                        source.correct(format!(
                            "a group of a stream says that two consumers have {id} pending"
                        ));
                        delivered
                    }
                    None => return Err(BAD_GROUP),
                },
            };
            group.assign(id, &name, delivered_at, deliveries);
        }
    }
    if !pending.is_empty() {
        source.correct(format!(
            "a group of a stream has {} pending entries of no consumer, which are left out",
            pending.len()
        ));
    }
    Ok(group)
}

/// When each consumer was last given anything, in order: ms, -1 for never; `None` if a file tells
/// that anyway.
pub(super) fn active_times(stream: &Stream) -> Option<Vec<u8>> {
    let consumers = || stream.groups.values().flat_map(|group| group.consumers().values());
    if consumers().all(|consumer| consumer.active_at == Some(consumer.seen_at)) {
        return None;
    }
    let times = consumers().map(|consumer| consumer.active_at.map_or(-1, |at| at.0));
    Some(times.flat_map(i64::to_le_bytes).collect())
}

/// Puts in what [`active_times`] gave; whether it belongs to this stream.
pub(super) fn set_active_times(stream: &mut Stream, told: &[u8]) -> bool {
    let (times, []) = told.as_chunks::<8>() else { return false };
    let count: usize = stream.groups.values().map(|group| group.consumers().len()).sum();
    if times.len() != count {
        return false;
    }
    let mut times = times.iter().map(|time| i64::from_le_bytes(*time));
    for group in stream.groups.values_mut() {
        for (consumer, time) in group.consumers_mut().zip(&mut times) {
            consumer.active_at = Some(UnixMillis(time)).filter(|at| at.0 != -1);
        }
    }
    true
}
