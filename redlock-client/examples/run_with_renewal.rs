//! Work that takes longer than the TTL, under a lock that is renewed and cancels the work when lost.
//!
//! `cargo run -p redlock-client --example run_with_renewal -- redis://127.0.0.1:6379 …`
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::time::Duration;

use redlock_client::{Error, RedLock, Retry};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls.push("redis://127.0.0.1:6379".to_owned());
    }
    let redlock = RedLock::builder()
        .nodes(urls)
        .retry(Retry::jittered(10, Duration::from_millis(100)))
        .build()?;

    let steps = redlock
        .lock("report:nightly", Duration::from_secs(1))
        .run(async |lease| {
            for step in 1..=6 {
                // Stands for work; while it awaits, it can be cancelled.
                tokio::time::sleep(Duration::from_millis(500)).await;
                println!("step {step}: the lock holds for another {:?}", lease.remaining());
            }
            6
        })
        .await;
    match steps {
        Ok(steps) => println!("{steps} steps, renewed {} times", redlock.stats().extended),
        Err(Error::Lost) => println!("the lock was lost, and the work stopped where it was"),
        Err(error) => return Err(error),
    }
    Ok(())
}
