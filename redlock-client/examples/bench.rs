//! How many locks a second, and how long one takes: `bench SECONDS TASKS URL…`.
//!
//! Each task acquires and releases a lock of its own, over and over. Prints locks per second, and p50 and
//! p99 of an acquisition in microseconds. `scripts/bench-locks` sets it side by side with others.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool, not a part of the crate")]

use std::time::{Duration, Instant};

use redlock_client::{Error, RedLock};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, tasks, urls @ ..] = args.as_slice() else {
        println!("usage: bench SECONDS TASKS URL…");
        return Ok(());
    };
    let (seconds, tasks): (u64, usize) = (seconds.parse().unwrap(), tasks.parse().unwrap());
    // A machine that is busy with a bench is no sign of a node that is down.
    let redlock = RedLock::builder().nodes(urls).node_timeout(Duration::from_secs(2)).build()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let lock = redlock.lock(format!("bench:{task}"), Duration::from_secs(10));
        running.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let start = Instant::now();
                let guard = lock.acquire().await?;
                times.push(start.elapsed());
                guard.release().await?;
            }
            Ok::<_, Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(result) = running.join_next().await {
        times.extend(result.unwrap()?);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    println!("{} {} {}", times.len() as u64 / seconds, at(50), at(99));
    Ok(())
}
