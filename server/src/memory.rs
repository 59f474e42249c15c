//! The bound on memory: `maxmemory` and what is done above it.

use crate::alloc;
use crate::node::Node;

/// Whether commands that may grow memory are refused now.
#[inline]
#[must_use]
pub fn is_full(node: &Node) -> bool {
    let max = node.settings.maxmemory();
    max != 0 && alloc::used_memory() > max
}
