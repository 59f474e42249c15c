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
