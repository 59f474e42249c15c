//! Walking the table inside a shard.
#![allow(unsafe_code)]

use dashmap::SharedValue;

use super::Record;

/// What a shard's lock guards: records in an open-addressing table.
pub type Table = hashbrown::raw::RawTable<(Record, SharedValue<()>)>;

/// The records of `table`, in no order that may show.
pub fn iterate(table: &Table) -> impl Iterator<Item = &Record> {
    // SAFETY: `RawTable::iter` asks that the table outlives the iterator and does not change
    // meanwhile; the shared borrow of `table`, carried by the returned items' lifetime, sees to
    // both. Every bucket it yields is full, so `as_ref` is valid for that lifetime.
    unsafe { table.iter().map(|bucket| &bucket.as_ref().0) }
}

/// The records of `table` from a place on that `start` decides, all round. What it yields first
/// is as good as drawn at random: places are hashes.
pub fn iterate_from(table: &Table, start: usize) -> impl Iterator<Item = &Record> {
    let buckets = table.buckets();
    // Their number is a power of two.
    (0..buckets).map(move |step| start.wrapping_add(step) & (buckets - 1)).filter_map(|index| {
        // SAFETY: both ask that `index` is below `buckets()`, which the mask sees to, and that
        // the table is neither changed nor dropped meanwhile, which the shared borrow carried by
        // the items' lifetime sees to. `bucket` asks for an allocated table: one without an
        // allocation has no full bucket. A full bucket holds a record, so `as_ref` is valid.
        unsafe { table.is_bucket_full(index).then(|| &table.bucket(index).as_ref().0) }
    })
}
