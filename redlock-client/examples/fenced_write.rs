//! A write that a late holder cannot spoil: the fencing token travels to the resource.
//!
//! `cargo run --example fenced_write -- redis://127.0.0.1:6379` (any number of Holdfast nodes). The resource is a
//! value in this process, which takes a write only under a token no smaller than the last; a
//! database would do the same with a column and a WHERE clause.
#![allow(clippy::print_stdout, reason = "it is there to be looked at")]

use std::time::Duration;

use redlock_client::{Error, Guarantee, RedLock};

/// A resource that checks tokens.
#[derive(Default)]
struct Account {
    newest_token: u64,
    balance: i64,
}

impl Account {
    fn set_balance(&mut self, token: u64, balance: i64) -> Result<(), String> {
        if token < self.newest_token {
            return Err(format!("token {token} is older than {}", self.newest_token));
        }
        (self.newest_token, self.balance) = (token, balance);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let redlock = RedLock::builder().nodes(std::env::args().skip(1)).build()?;
    let lock =
        redlock.lock("account:1", Duration::from_millis(300)).require(Guarantee::FencedQuorum);
    let mut account = Account::default();

    let slow = lock.acquire().await?;
    let slow_token = slow.token().unwrap_or_default();
    println!("the first holder has token {slow_token}, and sleeps past its lease");
    slow.lost().await;

    // As after a pause of the whole process: the lease is over and somebody else has the lock.
    let quick = lock.acquire_before(std::time::Instant::now() + Duration::from_secs(5)).await?;
    let quick_token = quick.token().unwrap_or_default();
    println!("the second has token {quick_token}: {:?}", account.set_balance(quick_token, 100));
    println!("the first wakes up and writes: {:?}", account.set_balance(slow_token, 0));
    println!("balance: {}", account.balance);
    Ok(())
}
