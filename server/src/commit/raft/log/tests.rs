//! The log under openraft's own suite, under damage, and across restarts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use super::super::types::{Batch, Entry, Group, Leader, LogId, Vote};
use super::{LogError, LogStore};

/// A directory of its own, removed when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "holdfast-log-{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: Leader { term, node_id: 1 }, index }
}

fn entry(index: u64, len: usize) -> Entry {
    let batch = Batch(Bytes::from(vec![index as u8; len]));
    Entry { log_id: id(1, index), payload: EntryPayload::Normal(batch) }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    RaftLogStorageExt::<Group>::blocking_append(log, entries).await.expect("appended");
}

async fn indexes(log: &mut LogStore) -> Vec<u64> {
    let entries = RaftLogReader::<Group>::try_get_log_entries(log, ..).await.expect("entries");
    entries.iter().map(|entry| entry.log_id.index).collect()
}

/// Waits until the writer of a dropped log has ended: its file is then as it will stay.
fn settle(log: LogStore) {
    drop(log);
    std::thread::sleep(std::time::Duration::from_millis(20));
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = TempDir::new();
    let mut log = LogStore::open(dir.path()).expect("opens");
    let vote = Vote { leader_id: Leader { term: 5, node_id: 3 }, committed: true };
    RaftLogStorage::<Group>::save_vote(&mut log, &vote).await.expect("saved");
    append(&mut log, (0..10).map(|at| entry(at, 10)).collect()).await;
    RaftLogStorage::<Group>::truncate_after(&mut log, Some(id(1, 7))).await.expect("truncated");
    append(&mut log, vec![entry(8, 5)]).await;
    RaftLogStorage::<Group>::purge(&mut log, id(1, 2)).await.expect("purged");
    RaftLogStorage::<Group>::save_committed(&mut log, Some(id(1, 6))).await.expect("saved");
    settle(log);

    let mut log = LogStore::open(dir.path()).expect("opens again");
    assert_eq!(indexes(&mut log).await, [3, 4, 5, 6, 7, 8]);
    assert_eq!(RaftLogReader::<Group>::read_vote(&mut log).await.expect("vote"), Some(vote));
    let state = RaftLogStorage::<Group>::get_log_state(&mut log).await.expect("state");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 2)), Some(id(1, 8))));
    let committed = RaftLogStorage::<Group>::read_committed(&mut log).await.expect("committed");
    assert_eq!(committed, Some(id(1, 6)));
    let back = RaftLogReader::<Group>::try_get_log_entries(&mut log, 8..9).await.expect("entry");
    assert_eq!(format!("{:?}", back[0]), format!("{:?}", entry(8, 5)), "the one of length 5");
}

#[tokio::test]
async fn segments_rotate_and_are_deleted_once_purged() {
    let dir = TempDir::new();
    let mut log = LogStore::open(dir.path()).expect("opens");
    let len = 9 << 20;
    for at in 0..20 {
        append(&mut log, vec![entry(at, len)]).await;
    }
    let segments = |dir: &TempDir| super::segment::list(dir.path()).expect("list").len();
    assert!(segments(&dir) >= 3, "{} segments", segments(&dir));
    let (_, cached) = log.sizes();
    assert!(cached <= super::CACHE_LEN_MAX + 2 * len, "{cached} bytes in memory");
    // The oldest come from the disk.
    let first = RaftLogReader::<Group>::try_get_log_entries(&mut log, 0..1).await.expect("entry");
    assert_eq!(format!("{:?}", first[0].payload), format!("{:?}", entry(0, len).payload));
    let some =
        RaftLogReader::<Group>::limited_get_log_entries(&mut log, 0, 20).await.expect("some");
    assert_eq!(some.len(), 1, "an append is bounded");

    RaftLogStorage::<Group>::purge(&mut log, id(1, 17)).await.expect("purged");
    append(&mut log, vec![entry(20, 1)]).await;
    assert!(segments(&dir) <= 2, "{} segments", segments(&dir));
    settle(log);
    let mut log = LogStore::open(dir.path()).expect("opens again");
    assert_eq!(indexes(&mut log).await, [18, 19, 20]);
}

/// A log of some frames; the bytes of its only segment and where its frames begin.
async fn sample(dir: &Path) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let mut log = LogStore::open(dir).expect("opens");
    for at in 0..4 {
        append(&mut log, vec![entry(at, 20)]).await;
    }
    settle(log);
    let path = super::segment::path(dir, 1);
    let bytes = std::fs::read(&path).expect("the segment");
    let magic = 0x484f_4c44u32.to_le_bytes();
    let frames: Vec<usize> = memchr::memmem::find_iter(&bytes, &magic).collect();
    assert_eq!(frames.len(), 4);
    let end = frames[3] + (frames[3] - frames[2]);
    (path, bytes[..end].to_vec(), frames)
}

fn reopen(dir: &Path) -> Result<LogStore, LogError> {
    LogStore::open(dir)
}

#[tokio::test]
async fn every_cut_zero_and_flip_of_the_last_frames_is_noticed_or_harmless() {
    let dir = TempDir::new();
    let (path, bytes, frames) = sample(dir.path()).await;
    let tail = dir.path().join("tail");
    let tail_bytes = std::fs::read(&tail).expect("the tail");
    for at in frames[2]..bytes.len() {
        let mut cut = bytes[..at].to_vec();
        let mut zeroed = bytes.clone();
        zeroed[at] = 0;
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        cut.resize(bytes.len(), 0);
        for (how, damaged) in [("cut", cut), ("zeroed", zeroed), ("flipped", flipped)] {
            let same = damaged == bytes;
            // The tail says that the frame was synced: it must not be missing.
            std::fs::write(&path, &damaged).expect("written");
            std::fs::write(&tail, &tail_bytes).expect("written");
            let opened = reopen(dir.path());
            assert_eq!(opened.is_ok(), same, "{how} at {at}: acknowledged, and gone in silence");
            drop(opened);
            // Without it, as after a crash of the machine amid the last write.
            std::fs::write(&path, &damaged).expect("written");
            let _ = std::fs::remove_file(&tail);
            let opened = reopen(dir.path());
            if at >= frames[3] || how == "cut" {
                let mut log = opened.expect("a torn end is dropped");
                let whole = frames.iter().filter(|from| at >= *from + 20).count();
                let kept = indexes(&mut log).await.len();
                assert!(kept >= 2 && kept <= whole.max(3) + usize::from(same), "{how} at {at}");
                drop(log);
            } else if !same {
                assert!(
                    matches!(opened, Err(LogError::Corrupt { .. })),
                    "{how} at {at}: damage before a sound frame"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_missing_segment_and_a_lost_commit_are_refused() {
    let dir = TempDir::new();
    let mut log = LogStore::open(dir.path()).expect("opens");
    for at in 0..18 {
        append(&mut log, vec![entry(at, 9 << 20)]).await;
    }
    settle(log);
    let segments = super::segment::list(dir.path()).expect("list");
    std::fs::remove_file(super::segment::path(dir.path(), segments[1])).expect("removed");
    let Err(LogError::Corrupt { what, .. }) = LogStore::open(dir.path()) else { panic!() };
    assert!(what.contains("is a file gone"), "{what}");
}

#[tokio::test]
async fn writing_goes_on_behind_a_torn_end() {
    let dir = TempDir::new();
    let (path, bytes, frames) = sample(dir.path()).await;
    std::fs::write(&path, &bytes[..frames[3] + 9]).expect("written");
    let _ = std::fs::remove_file(dir.path().join("tail"));
    let mut log = LogStore::open(dir.path()).expect("opens");
    assert_eq!(indexes(&mut log).await, [0, 1, 2]);
    append(&mut log, vec![entry(3, 1), entry(4, 1)]).await;
    settle(log);
    let mut log = LogStore::open(dir.path()).expect("opens again");
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4]);
}
