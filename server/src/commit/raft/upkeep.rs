//! Periodic work of a member: time that has come for a key, and a log that has grown long.

use std::sync::Arc;
use std::time::Duration;

use super::node::RaftNode;

/// How often the leader looks whether a key expires.
const TICK_EVERY: Duration = Duration::from_millis(50);
/// A snapshot is made when so many bytes came into the log since the last one, or …
const LOG_LEN_MIN: u64 = 64 << 20;
/// … so many times the last one's length, if that is more: a small change of large data should not
/// write all of it again.
const SNAPSHOTS_PER_LEN: u64 = 2;

/// Runs until the process ends.
pub(super) async fn run(node: Arc<RaftNode>) {
    let Some(running) = node.running() else { return };
    let mut ticks = tokio::time::interval(TICK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut written_at_snapshot = 0;
    loop {
        ticks.tick().await;
        node.look_for_quorum();
        node.tick().await;
        let written = running.log.written_len();
        let last_len = running.snapshots.current_len();
        let due = LOG_LEN_MIN.max(last_len * SNAPSHOTS_PER_LEN);
        if written.saturating_sub(written_at_snapshot) > due {
            written_at_snapshot = written;
            if running.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}
