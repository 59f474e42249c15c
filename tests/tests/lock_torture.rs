//! A short run of `lock-torture`, and its mutants: what it is there to find it must find.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use holdfast_tests::server::{self, Kind};

/// Runs the rig; whether it ended well, and what it printed.
fn torture(args: &[&str]) -> Option<(bool, String)> {
    if !server::is_available(Kind::Ours) {
        return None;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_lock-torture")).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn locks_stay_sound_under_faults() {
    if let Some((sound, text)) = torture(&["--seconds", "25"]) {
        assert!(sound, "{text}");
        assert!(text.contains("verdict: sound"), "{text}");
    }
}

#[test]
fn locks_of_a_cluster_stay_sound_under_faults() {
    if let Some((sound, text)) = torture(&["--servers", "raft", "--seconds", "12"]) {
        assert!(sound, "{text}");
        assert!(text.contains("verdict: sound"), "{text}");
    }
}

#[test]
fn a_register_that_checks_no_token_is_found_to_lose_writes() {
    if let Some((caught, text)) = torture(&["--mutant", "no-fencing", "--seed", "1"]) {
        assert!(caught, "{text}");
        assert!(text.contains("VIOLATION: I3"), "{text}");
    }
}

#[test]
fn servers_that_forget_and_grant_at_once_are_found() {
    // A long TTL, so that the servers are up again well before the forgotten lock would have ended.
    let args = ["--mutant", "no-quarantine", "--seed", "1", "--ttl-ms", "8000"];
    if let Some((caught, text)) = torture(&args) {
        assert!(caught, "{text}");
        assert!(text.contains("VIOLATION: I1"), "{text}");
    }
}

#[test]
fn servers_that_lose_their_disks_and_count_anew_are_found() {
    if let Some((caught, text)) = torture(&["--mutant", "volatile-counter", "--seed", "1"]) {
        assert!(caught, "{text}");
        assert!(text.contains("VIOLATION: I2"), "{text}");
    }
}
