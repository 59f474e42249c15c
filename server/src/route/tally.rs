//! What one connection counts while it runs a batch, added to the node's counters at its end.

use holdfast_engine::command::{Args, Command, Flags};
use holdfast_engine::effects::Effects;
use holdfast_engine::time::UnixMillis;

use crate::node::Node;
use crate::observe::command_stats::Tracking;
use crate::observe::slowlog::{self, Sender};
use crate::observe::{CommandId, Counter, Outcome};
use crate::session::Client;

/// The time is read again after so long a batch, so that TTLs count from when a command runs.
const REFRESH_NS: u64 = 500_000;

/// Counters of a batch, and the time it runs at.
#[derive(Debug, Default)]
pub struct Tally {
    now: UnixMillis,
    now_read_ns: u64,
    /// When the last command ended: the next one begins then.
    last_ns: u64,
    commands: u64,
    hits: u64,
    misses: u64,
    changes: u64,
    expired: u64,
    received: u64,
    sent: u64,
    reads: u64,
    writes: u64,
}

impl Tally {
    /// Begins a batch.
    #[inline]
    pub fn start(&mut self, node: &Node) {
        self.last_ns = node.clock.monotonic_ns();
        self.now = node.now();
        self.now_read_ns = self.last_ns;
    }

    /// Has the next command run at this time.
    pub fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
    }

    /// When the batch began, or shortly before now if it takes long.
    #[inline]
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// The beginning of a command: the end of the one before.
    #[inline]
    pub fn begin(&mut self, node: &Node) -> u64 {
        if self.last_ns == 0 {
            self.start(node);
        } else if self.last_ns.wrapping_sub(self.now_read_ns) > REFRESH_NS {
            self.now = node.now();
            self.now_read_ns = self.last_ns;
        }
        self.last_ns
    }

    /// The end of a command; returns how long it took, in µs.
    #[inline]
    pub fn end(&mut self, node: &Node, id: u16, began_ns: u64, failed: bool) -> u64 {
        let now_ns = node.clock.monotonic_ns();
        self.last_ns = now_ns;
        let elapsed_ns = now_ns.saturating_sub(began_ns);
        self.record(node, id, elapsed_ns, failed);
        elapsed_ns / 1000
    }

    /// Counts a command.
    #[inline]
    pub fn record(&mut self, node: &Node, id: u16, elapsed_ns: u64, failed: bool) {
        self.commands += 1;
        let outcome = if failed { Outcome::Failed } else { Outcome::Done };
        let tracking = if node.settings.latency_tracking() { Tracking::On } else { Tracking::Off };
        node.observe.commands.record(CommandId(id), elapsed_ns, outcome, tracking);
    }

    /// The clock now, for [`Self::elapsed_ns`].
    #[must_use]
    pub fn now_ns(&self, node: &Node) -> u64 {
        node.clock.monotonic_ns()
    }

    /// Nanoseconds since a command began.
    #[must_use]
    pub fn elapsed_ns(&self, node: &Node, began_ns: u64) -> u64 {
        node.clock.monotonic_ns().saturating_sub(began_ns)
    }

    /// Counts what looks at keys found.
    #[inline]
    pub fn lookups(&mut self, hits: u32, misses: u32) {
        self.hits += u64::from(hits);
        self.misses += u64::from(misses);
    }

    /// Takes over what a command changed.
    #[inline]
    pub fn changes(&mut self, effects: &mut Effects) {
        self.changes += std::mem::take(&mut effects.changes);
        self.expired += std::mem::take(&mut effects.expired_keys);
    }

    /// Counts a read from the socket.
    #[inline]
    pub fn received(&mut self, len: usize) {
        self.reads += 1;
        self.received += len as u64;
    }

    /// Counts a write to the socket.
    #[inline]
    pub fn sent(&mut self, len: usize) {
        self.writes += 1;
        self.sent += len as u64;
    }

    /// Adds everything to the node's counters.
    pub fn flush(&mut self, node: &Node) {
        let stats = &node.observe.stats;
        let add = |counter, n: &mut u64| {
            if *n > 0 {
                stats.add(counter, std::mem::take(n));
            }
        };
        add(Counter::CommandsProcessed, &mut self.commands);
        add(Counter::KeyspaceHits, &mut self.hits);
        add(Counter::KeyspaceMisses, &mut self.misses);
        add(Counter::ExpiredKeys, &mut self.expired);
        add(Counter::NetInputBytes, &mut self.received);
        add(Counter::NetOutputBytes, &mut self.sent);
        add(Counter::ReadsProcessed, &mut self.reads);
        add(Counter::WritesProcessed, &mut self.writes);
        if self.changes > 0 {
            node.changes
                .fetch_add(std::mem::take(&mut self.changes), std::sync::atomic::Ordering::Relaxed);
        }
        self.last_ns = 0;
    }
}

/// Enters a slow command in SLOWLOG and LATENCY.
#[inline]
pub fn note_duration(node: &Node, client: &Client, row: &Command, args: Args<'_>, elapsed_us: u64) {
    let slow = slowlog::is_slow(node.settings.slowlog_log_slower_than_us(), elapsed_us);
    let threshold_ms = node.settings.latency_monitor_threshold_ms();
    if slow || (threshold_ms > 0 && elapsed_us >= threshold_ms * 1000) {
        note_slow(node, client, row, args, elapsed_us);
    }
}

#[cold]
fn note_slow(node: &Node, client: &Client, row: &Command, args: Args<'_>, elapsed_us: u64) {
    if !row.flags.has(Flags::SKIP_SLOWLOG)
        && slowlog::is_slow(node.settings.slowlog_log_slower_than_us(), elapsed_us)
    {
        let name = client.names().name;
        let sender = Sender { address: &client.addr, name: &String::from_utf8_lossy(&name) };
        let len_max = node.settings.slowlog_max_len();
        let unix_s = node.clock.now_ms() / 1000;
        let shown = crate::admin::without_secrets(args);
        node.observe.slowlog.record(len_max, unix_s, elapsed_us, &shown, sender);
    }
    let threshold_ms = node.settings.latency_monitor_threshold_ms();
    let event = if row.flags.has(Flags::FAST) { "fast-command" } else { "command" };
    let unix_s = node.clock.now_ms() / 1000;
    node.observe.latency.record(threshold_ms, event, unix_s, elapsed_us / 1000);
}
