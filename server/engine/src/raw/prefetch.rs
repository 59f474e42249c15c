//! Asking the processor for memory before it is needed.
#![allow(unsafe_code)]

use super::{Record, Table};

/// Starts loading the first two cache lines of `record`: its header, key and short value.
#[inline]
pub fn prefetch_record(record: &Record) {
    load(record.address());
    load(record.address().wrapping_add(64));
}

/// Starts loading the lines of `table` where the search for `hash` begins: its tags and, growing
/// down from the tags, its slots. Reads neither.
#[inline]
pub fn prefetch_slots(table: &Table, hash: u64) {
    /// Most keys stand within so many slots of where the search begins.
    const REACH: usize = 5;
    let tags = table.data_end().cast::<u8>().as_ptr().cast_const();
    let first = hash as usize & (table.buckets() - 1);
    let slot_len = size_of::<Record>();
    load(tags.wrapping_add(first));
    load(tags.wrapping_sub((first + 1) * slot_len));
    load(tags.wrapping_sub((first + REACH) * slot_len));
}

#[inline]
fn load(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults and changes no state, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
