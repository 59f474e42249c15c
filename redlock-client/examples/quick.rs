//! Acquire, extend, release.
//!
//! `cargo run -p redlock-client --example quick -- redis://127.0.0.1:6379 …`, one URL per server.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::time::Duration;

use redlock_client::{Error, RedLock};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls.push("redis://127.0.0.1:6379".to_owned());
    }
    let redlock = RedLock::builder().nodes(urls).build()?;

    let mut guard = redlock.lock("orders:42", Duration::from_secs(5)).acquire().await?;
    println!("held for another {:?} by {}", guard.remaining(), guard.owner());

    guard.extend(Duration::from_secs(10)).await?;
    println!("extended: held for another {:?}", guard.remaining());

    guard.release().await?;
    println!("released: {:?}", redlock.stats());
    Ok(())
}
