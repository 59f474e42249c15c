//! One contender, in a process of its own.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use redlock_client::{Error, RedLock, Retry};
use tokio::io::AsyncReadExt;

use crate::Failure;

/// Mean delay between attempts: a few times what the work under the lock takes.
const RETRY_DELAY: Duration = Duration::from_millis(8);
/// Longest wait for the lock before looking whether to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between reading the counter and writing it back: what an unlocked worker gets wrong.
const THINKING: Duration = Duration::from_millis(1);

/// Arguments: with-lock or without-lock, counter file, log file, TTL in ms, node URLs. Runs until
/// standard input ends.
pub(crate) async fn main(args: &[String]) -> Result<(), Failure> {
    let [mode, counter, log, ttl_ms, urls @ ..] = args else {
        return Err("worker: mode counter log ttl-ms url…".into());
    };
    let counter = Path::new(counter);
    let ttl = Duration::from_millis(ttl_ms.parse()?);
    let redlock = RedLock::builder()
        .nodes(urls)
        .node_timeout(ttl / 10)
        .retry(Retry::forever(RETRY_DELAY))
        .build()?;
    let lock = redlock.lock("demo:counter", ttl);
    let mut log = OpenOptions::new().create(true).append(true).open(log)?;
    let stopped = tokio::spawn(async { tokio::io::stdin().read_to_end(&mut Vec::new()).await });

    while !stopped.is_finished() {
        let start = Instant::now();
        if mode == "without-lock" {
            increment(counter, &mut log, Duration::ZERO, || true).await?;
            continue;
        }
        let guard = match lock.acquire_before(start + PATIENCE).await {
            Ok(guard) => guard,
            Err(error) if error.is_transient() => continue,
            Err(error) => return Err(error.into()),
        };
        let waited = start.elapsed();
        // What a lease cannot know is a pause between this look and the write; a store that checked
        // a token could.
        increment(counter, &mut log, waited, || guard.remaining() > ttl / 4).await?;
        match guard.release().await {
            Ok(()) | Err(Error::Unreachable { .. }) => {}
            Err(error) => return Err(format!("after an increment: {error}").into()),
        }
    }
    Ok(())
}

/// Reads the counter, thinks, and if it `may` still, writes it back increased and logs that.
async fn increment(
    counter: &Path,
    log: &mut File,
    waited: Duration,
    may: impl Fn() -> bool,
) -> Result<(), Failure> {
    let value = read(counter)? + 1;
    tokio::time::sleep(THINKING).await;
    if may() {
        write(counter, value)?;
        // One write call per line, so that whoever counts lines never sees half of one.
        log.write_all(format!("{value} {}\n", waited.as_micros()).as_bytes())?;
    }
    Ok(())
}

fn read(counter: &Path) -> Result<u64, Failure> {
    Ok(fs::read_to_string(counter)?.trim().parse()?)
}

/// Of a fixed width and in place, so that even workers that do not lock never read half a number:
/// all that can go wrong is what the lock is for.
pub(crate) fn write(counter: &Path, value: u64) -> Result<(), Failure> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(counter)?;
    Ok(file.write_all(format!("{value:20}").as_bytes())?)
}
