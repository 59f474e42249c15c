//! Periodic work of a member: time that has come for a key, and a log that has grown long.

use std::sync::Arc;
use std::time::Duration;

use super::node::RaftNode;

/// How often the leader looks whether a key expires.
const TICK_EVERY: Duration = Duration::from_millis(50);
/// A snapshot waits until the log is so many times as long as the last one, if that is more than
/// its setting says: a small change of large data should not write all of it again.
const SNAPSHOTS_PER_LEN: u64 = 2;
/// Segments kept beyond what is due, for members that lag a little. Large entries fill more.
const SPARE_SEGMENTS: u64 = 4;

/// Runs until the process ends.
pub(super) async fn run(node: Arc<RaftNode>) {
    let Some(running) = node.running() else { return };
    let mut ticks = tokio::time::interval(TICK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut written_at_snapshot = 0;
    let mut purged_to = 0;
    loop {
        ticks.tick().await;
        node.look_for_quorum();
        node.tick().await;
        let written = running.log.written_len();
        let last_len = running.snapshots.current_len();
        let due = node.options().snapshot_log_len.max(last_len * SNAPSHOTS_PER_LEN);
        if written.saturating_sub(written_at_snapshot) > due {
            written_at_snapshot = written;
            if running.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let (segments, segment_len) = running.log.segments();
        let snapshot = running.snapshot_index();
        if segments > due / segment_len + SPARE_SEGMENTS
            && snapshot > purged_to
            && running.raft.trigger().purge_log(snapshot).await.is_ok()
        {
            purged_to = snapshot;
        }
    }
}
