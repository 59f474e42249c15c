//! Short runs of what `scripts/torture` does for long.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::torture::{Plan, run};

fn short_run(nodes: usize, seconds: u64, seed: u64) {
    if !is_available(Kind::Ours) {
        return;
    }
    let report = run(Plan { nodes, time: Duration::from_secs(seconds), seed, tell: false });
    println!("{report:?}");
    assert!(report.violations.is_empty(), "seed {seed}: no order explains {:?}", report.violations);
    assert_eq!(report.shared_locks, 0, "seed {seed}: a lock was held by two");
    assert_eq!(report.tokens_out_of_order, 0, "seed {seed}: tokens do not grow");
    assert!(report.tokens > 5, "seed {seed}: {report:?}");
    assert!(report.answered > 200, "seed {seed}: {report:?}");
}

#[test]
fn three_nodes_are_linearizable_under_faults() {
    short_run(3, 15, 1);
}

#[test]
fn five_nodes_are_linearizable_under_faults() {
    short_run(5, 12, 2);
}
