//! Counters a program can export to its own metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of a client's counters since it was built.
///
/// Counts of different kinds are read one after the other, so they may differ by what happened in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Attempts made, retries included.
    pub attempts: u64,
    /// Locks acquired.
    pub acquired: u64,
    /// Attempts that found the resource held.
    pub contended: u64,
    /// Attempts that failed for want of nodes.
    pub unreachable: u64,
    /// Attempts whose quorum came after the validity had run out.
    pub too_slow: u64,
    /// Attempts refused by nodes in quarantine.
    pub quarantined: u64,
    /// Acquisitions that went on to wait in the nodes' queues.
    pub queued: u64,
    /// Waits in queues that were begun anew because several waiters had divided the nodes among them.
    pub split: u64,
    /// Acquisitions dropped by the caller before they were decided.
    pub cancelled: u64,
    /// Successful extensions, renewals of `run` included.
    pub extended: u64,
    /// Extensions that failed, whatever became of the lock.
    pub extend_failed: u64,
    /// Nodes that had forgotten a held lock and were given it again.
    pub topped_up: u64,
    /// Locks lost before they were released.
    pub lost: u64,
    /// Locks given up: by `release`, by drop, or at the end of `run`.
    pub released: u64,
    /// Connections opened to nodes.
    pub connected: u64,
    /// Attempts to connect that failed.
    pub connect_failed: u64,
    /// Connections that broke, or were dropped for staying silent.
    pub disconnected: u64,
}

macro_rules! counters {
    ($($name:ident),+ $(,)?) => {
        #[derive(Default)]
        pub(crate) struct Counters { $($name: AtomicU64),+ }

        /// Which counter to advance.
        #[derive(Clone, Copy)]
        #[allow(non_camel_case_types, reason = "one name for field, event and reading")]
        pub(crate) enum Event { $($name),+ }

        impl Counters {
            pub(crate) fn count(&self, event: Event) {
                let counter = match event { $(Event::$name => &self.$name),+ };
                // Relaxed: the counts order nothing else.
                counter.fetch_add(1, Ordering::Relaxed);
            }

            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

counters!(
    attempts,
    acquired,
    contended,
    unreachable,
    too_slow,
    quarantined,
    queued,
    split,
    cancelled,
    extended,
    extend_failed,
    topped_up,
    lost,
    released,
    connected,
    connect_failed,
    disconnected,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_advances_its_own_counter() {
        let counters = Counters::default();
        counters.count(Event::acquired);
        counters.count(Event::lost);
        counters.count(Event::lost);
        let stats = counters.read();
        assert_eq!((stats.acquired, stats.lost, stats.released), (1, 2, 0));
    }
}
