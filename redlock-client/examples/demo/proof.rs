//! Whether every increment that a worker logged is in the counter, and how long they took.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use crate::Failure;
use crate::options::Options;

pub(crate) fn count_increments(options: &Options) -> Result<usize, Failure> {
    let mut count = 0;
    for worker in 0..options.workers {
        // A worker that has only just been started has no log yet.
        let log = fs::read(options.log(worker)).unwrap_or_default();
        count += log.iter().filter(|byte| **byte == b'\n').count();
    }
    Ok(count)
}

pub(crate) fn check(options: &Options, elapsed: Duration) -> Result<(), Failure> {
    let mut values = HashSet::new();
    let mut waits_us: Vec<u64> = Vec::new();
    let mut twice = 0;
    for worker in 0..options.workers {
        let mut own = 0;
        for line in fs::read_to_string(options.log(worker))?.lines() {
            let (value, wait_us) = line.split_once(' ').ok_or("a log line is broken")?;
            if !values.insert(value.parse::<u64>()?) {
                twice += 1;
            }
            waits_us.push(wait_us.parse()?);
            own += 1;
        }
        println!("worker {:2}: {own:6} increments", worker + 1);
    }
    let done = waits_us.len();
    let counter: usize = fs::read_to_string(options.counter())?.trim().parse()?;
    waits_us.sort_unstable();
    let rank = |percent: usize| waits_us.get((done * percent / 100).min(done.saturating_sub(1)));
    let millis = |percent| rank(percent).map_or(0.0, |us| *us as f64 / 1000.0);
    println!(
        "{done} acquisitions in {:.1} s: {:.0} per second; waited p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        elapsed.as_secs_f64(),
        done as f64 / elapsed.as_secs_f64(),
        millis(50),
        millis(99),
        millis(100),
    );
    println!(
        "increments logged by the workers: {done}; the counter: {counter}; values written twice: {twice}"
    );
    if done == 0 {
        return Err("no work was done at all".into());
    }
    if counter != done || twice != 0 {
        return Err("increments were lost".into());
    }
    println!("OK: no increment was lost");
    Ok(())
}
