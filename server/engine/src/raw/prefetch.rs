//! Asking the processor for a record before it is needed.
#![allow(unsafe_code)]

use super::Record;

/// Starts loading the first two cache lines of `record`: its header, key and short value.
#[inline]
pub fn prefetch_record(record: &Record) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = record.address().cast::<i8>();
        // SAFETY: a prefetch never faults and changes no state, whatever the address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address);
            _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = record;
}
