//! One contender, in a process of its own.

use std::fs::{self, OpenOptions};
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

/// Arguments: counter file, log file, TTL in ms, node URLs. Runs until standard input ends.
pub(crate) async fn main(args: &[String]) -> Result<(), Failure> {
    let [counter, log, ttl_ms, urls @ ..] = args else {
        return Err("worker: counter log ttl-ms url…".into());
    };
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
        let guard = match lock.acquire_before(start + PATIENCE).await {
            Ok(guard) => guard,
            Err(error) if error.is_transient() => continue,
            Err(error) => return Err(error.into()),
        };
        let waited = start.elapsed();
        let value = read(Path::new(counter))?;
        // What a lease cannot know is a pause right here; a counter that checked a token could.
        if guard.remaining() < ttl / 4 {
            continue;
        }
        fs::write(counter, (value + 1).to_string())?;
        // One write call per line, so that whoever counts lines never sees half of one.
        log.write_all(format!("{} {}\n", value + 1, waited.as_micros()).as_bytes())?;
        match guard.release().await {
            Ok(()) | Err(Error::Unreachable { .. }) => {}
            Err(error) => {
                return Err(format!("after the increment to {}: {error}", value + 1).into());
            }
        }
    }
    Ok(())
}

/// A file seen half-written means that two workers were inside.
fn read(counter: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(counter)?;
    Ok(text.parse().map_err(|e| {
        format!("the counter reads {text:?} ({e}): someone is writing it without the lock")
    })?)
}
