//! Tests of what survives a restart.

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("holdfast-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn grant(lifetime_ms: i64, token: u64) -> Grant {
    Grant { kind: GrantKind::Native, lifetime_ms, token }
}

fn open(dir: &Dir, policy: Policy, now_us: u64) -> (Quarantine, i64, u64) {
    let quarantine = Quarantine::default();
    let (left_ms, tokens) =
        quarantine.open(&dir.0, policy, Recovery::Incomplete, 0, now_us).unwrap();
    (quarantine, left_ms, tokens)
}

#[test]
fn a_crash_costs_the_longest_lock_and_no_token_twice() {
    let dir = Dir::new("crash");
    let (first, left_ms, tokens) = open(&dir, Policy::Auto, 0);
    assert_eq!((left_ms, tokens), (0, 0), "an empty directory is a new node");
    first.may_grant(grant(5_000, 1), || 0).unwrap();
    first.may_grant(grant(9_000, 2), || 0).unwrap();
    first.may_grant(grant(100, 3), || 0).unwrap();
    // Killed: nobody closes it.
    let (second, left_ms, tokens) = open(&dir, Policy::Auto, 7);
    assert!((9_000..10_125).contains(&left_ms), "{left_ms}");
    assert!(tokens >= 3);
    let refused = second.may_grant(grant(100, tokens + 1), || 7).unwrap_err();
    assert_eq!(refused.code(), "QUARANTINE");
    assert!(refused.text().starts_with(&format!("QUARANTINE {left_ms} ")), "{refused}");
    let over_us = 7 + left_ms as u64 * 1000;
    assert!(second.may_grant(grant(100, tokens + 1), || over_us - 1).is_err());
    second.may_grant(grant(100, tokens + 1), || over_us).unwrap();
    // What was promised before has been kept: the next crash costs what came after.
    let (_, left_ms, _) = open(&dir, Policy::Auto, 0);
    assert!((100..113).contains(&left_ms), "{left_ms}");
    assert_eq!(open(&dir, Policy::No, 0).1, 0);
    assert_eq!(open(&dir, Policy::Millis(77), 0).1, 77);
}

#[test]
fn a_crash_within_the_quarantine_changes_nothing() {
    let dir = Dir::new("again");
    open(&dir, Policy::Auto, 0).0.may_grant(grant(5_000, 1), || 0).unwrap();
    let before = open(&dir, Policy::Auto, 0).1;
    assert_eq!(open(&dir, Policy::Auto, 0).1, before);
}

#[test]
fn a_clean_stop_leaves_what_was_held() {
    let dir = Dir::new("clean");
    let (first, ..) = open(&dir, Policy::Auto, 0);
    first.close(0, 0, 0);
    assert!(!file::path(&dir.0).exists(), "a server without locks leaves no file");
    first.may_grant(grant(5_000, 1), || 0).unwrap();
    first.refuse();
    assert!(first.may_grant(grant(5_000, 2), || 1 << 50).is_err());
    first.close(1_200, 1, 0);
    let (second, left_ms, tokens) = open(&dir, Policy::Auto, 0);
    assert_eq!((left_ms, tokens), (1_200, 1));
    // Stopped again within the quarantine: what is left of it goes on.
    second.refuse();
    second.close(0, 1, 200_000);
    assert_eq!(open(&dir, Policy::Auto, 0).1, 1_000);
    second.close(0, 1, 1_200_000);
    assert_eq!(open(&dir, Policy::Auto, 0).1, 0);
}

#[test]
fn a_synced_journal_that_is_whole_costs_nothing() {
    let dir = Dir::new("journaled");
    let start = |recovery| {
        let quarantine = Quarantine::default();
        quarantine
            .open(&dir.0, Policy::Auto, recovery, 0, 0)
            .map(|(left_ms, _)| (quarantine, left_ms))
    };
    let (first, _) = start(Recovery::Incomplete).unwrap();
    first.set_journaled(true).unwrap();
    first.may_grant(grant(5_000, 1), || 0).unwrap();
    assert_eq!(start(Recovery::Complete).unwrap().1, 0);
    assert!(start(Recovery::Incomplete).unwrap().1 >= 5_000, "a tail was torn off");
    first.set_journaled(false).unwrap();
    assert!(start(Recovery::Complete).unwrap().1 >= 5_000, "it was no longer synced");
}

#[test]
fn the_mark_falls_when_long_locks_are_no_longer_taken() {
    let dir = Dir::new("lower");
    let (first, ..) = open(&dir, Policy::Auto, 0);
    first.may_grant(grant(1_000, 1), || 0).unwrap();
    let mark_us = first.lifetime_ms.load(Acquire) as u64 * 1000;
    first.lower(mark_us);
    assert!(open(&dir, Policy::Auto, 0).1 >= 1_000);
    // The window in which the long one was granted ends; one of its length must pass after it.
    first.lower(mark_us + 1);
    assert!(open(&dir, Policy::Auto, 0).1 >= 1_000);
    first.may_grant(grant(10, 2), || 0).unwrap();
    first.lower(2 * mark_us + 2);
    assert!((10..13).contains(&open(&dir, Policy::Auto, 0).1));
}

#[test]
fn tokens_are_reserved_in_blocks() {
    let dir = Dir::new("tokens");
    let (first, ..) = open(&dir, Policy::Auto, 0);
    first.may_grant(grant(10, 1), || 0).unwrap();
    let reserved = first.tokens.load(Acquire);
    first.may_grant(grant(10, reserved - RESERVED_MIN), || 0).unwrap();
    assert_eq!(first.tokens.load(Acquire), reserved);
    first.may_grant(grant(10, reserved + 5), || 0).unwrap();
    assert!(open(&dir, Policy::Auto, 0).2 >= reserved + 5);
}

#[test]
fn lengths_are_rounded_up_by_little() {
    for ms in (1..5_000).chain([30_000, 1 << 40, i64::MAX - 1]) {
        let rounded = roomy(ms);
        assert!(rounded >= ms && (rounded - ms) <= ms / 8, "{ms} {rounded}");
    }
    assert_eq!(roomy(roomy(30_001)), roomy(30_001));
}

#[test]
fn a_directory_that_cannot_be_written_grants_nothing() {
    let dir = Dir::new("gone");
    let (first, ..) = open(&dir, Policy::Auto, 0);
    std::fs::remove_dir_all(&dir.0).unwrap();
    assert_eq!(first.may_grant(grant(10, 1), || 0).unwrap_err().code(), "MISCONF");
}

#[test]
fn locks_that_were_loaded_count_as_granted() {
    let dir = Dir::new("loaded");
    let quarantine = Quarantine::default();
    quarantine.open(&dir.0, Policy::Auto, Recovery::Incomplete, 70_000, 0).unwrap();
    quarantine.lower(5);
    quarantine.may_grant(grant(5, 1), || 0).unwrap();
    assert!(open(&dir, Policy::Auto, 0).1 >= 70_000);
}
