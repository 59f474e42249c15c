//! Two accounts locked together, by tasks that name them in opposite order.
//!
//! `cargo run -p redlock-client --example several_resources -- redis://127.0.0.1:6379 …`
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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
        .retry(Retry::jittered(200, Duration::from_millis(10)))
        .build()?;
    let accounts = Arc::new([AtomicI64::new(100), AtomicI64::new(100)]);

    let mut transfers = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (from, to) = if n % 2 == 0 { (0, 1) } else { (1, 0) };
        let lock = redlock.lock_many(
            [format!("account:{from}"), format!("account:{to}")],
            Duration::from_secs(5),
        );
        let accounts = Arc::clone(&accounts);
        transfers.spawn(async move {
            let guard = lock.acquire().await?;
            // Read, think, write: wrong without the lock.
            let balances = [0, 1].map(|i: usize| accounts[i].load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(2)).await;
            accounts[from].store(balances[from] - 5, Ordering::SeqCst);
            accounts[to].store(balances[to] + 5, Ordering::SeqCst);
            guard.release().await
        });
    }
    let results = transfers.join_all().await;
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        println!("a transfer failed: {error}");
    }
    println!("balances after {} transfers: {accounts:?}", results.len());
    Ok(())
}
