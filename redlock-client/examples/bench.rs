//! How many locks a second, and how long one takes: `bench SECONDS TASKS URL…`.
//!
//! Each task acquires and releases a lock of its own, over and over. Prints locks per second, and p50 and
//! p99 of an acquisition in microseconds. All on one thread if THREADS=1 is set. `scripts/bench-locks`
//! sets it side by side with others.
#![allow(clippy::print_stdout, reason = "what it is for")]

use std::time::{Duration, Instant};

use redlock_client::{Error, RedLock};
use tokio::task::JoinSet;

fn main() -> Result<(), Error> {
    let mut runtime = match std::env::var("THREADS").as_deref() {
        Ok("1") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build();
    runtime.map_err(|e| Error::Config(format!("no runtime: {e}")))?.block_on(bench())
}

async fn bench() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, tasks, urls @ ..] = args.as_slice() else {
        println!("usage: bench SECONDS TASKS URL…");
        return Ok(());
    };
    let number =
        |text: &str| text.parse::<u64>().map_err(|e| Error::Config(format!("{text:?}: {e}")));
    let (seconds, tasks) = (number(seconds)?.max(1), number(tasks)?.max(1));
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
        times.extend(result.expect("a task does not panic")?);
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_micros);
    println!("{} {} {}", times.len() as u64 / seconds, at(50), at(99));
    Ok(())
}
