//! Thresholds that CONFIG SET may change while commands run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $default:literal;)*) => {
        /// Thresholds of encodings and sizes; each bears its directive's name, with underscores.
        #[derive(Debug)]
        pub struct Limits {
            $($name: AtomicI64,)*
            /// Counts the changes, so that a cached copy can tell it is stale.
            generation: AtomicU64,
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: AtomicI64::new($default),)* generation: AtomicU64::new(0) }
            }
        }

        impl Limits {
            $($(#[$doc])*
            #[inline]
            #[must_use]
            pub fn $name(&self) -> i64 {
                self.$name.load(Ordering::Relaxed)
            }
            )*

            /// Calls `found` with every limit and its value.
            pub fn each(&self, mut found: impl FnMut(&'static str, i64)) {
                $(found(stringify!($name), self.$name());)*
            }

            /// Sets the limit of a directive's name (with hyphens); whether there is one.
            pub fn set(&self, directive: &str, value: i64) -> bool {
                match directive.replace('-', "_").as_str() {
                    $(stringify!($name) => self.$name.store(value, Ordering::Relaxed),)*
                    _ => return false,
                }
                self.generation.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    };
}

limits! {
    /// Longest string, bytes.
    proto_max_bulk_len: 536_870_912;
    /// Most fields of a hash in a listpack.
    hash_max_listpack_entries: 128;
    /// Longest field or value of a hash in a listpack, bytes.
    hash_max_listpack_value: 64;
    /// Size of a list's nodes: entries if positive, else -1 to -5 for 4 to 64 KiB.
    list_max_listpack_size: -2;
    /// Nodes at each end of a list that are not compressed.
    list_compress_depth: 0;
    /// Most members of a set of integers in an intset.
    set_max_intset_entries: 512;
    /// Most members of a set in a listpack.
    set_max_listpack_entries: 128;
    /// Longest member of a set in a listpack, bytes.
    set_max_listpack_value: 64;
    /// Most members of a sorted set in a listpack.
    zset_max_listpack_entries: 128;
    /// Longest member of a sorted set in a listpack, bytes.
    zset_max_listpack_value: 64;
    /// Most bytes of a block of a stream; 0 for no limit.
    stream_node_max_bytes: 4096;
    /// Most entries of a block of a stream; 0 for no limit.
    stream_node_max_entries: 100;
    /// Longest sparse HyperLogLog, bytes.
    hll_sparse_max_bytes: 3000;
    /// Bytes that all values of a script may take; 0 for no limit.
    lua_memory_limit: 268_435_456;
    /// Whether keys' idle times (0) or their frequencies (1) are kept.
    lfu_policy: 0;
}
