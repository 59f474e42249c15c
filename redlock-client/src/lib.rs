//! Locks over N independent Redis-protocol servers, by the RedLock algorithm.
//!
//! ```no_run
//! # async fn example() -> Result<(), redlock_client::Error> {
//! use redlock_client::RedLock;
//! use std::time::Duration;
//!
//! let redlock = RedLock::builder().nodes(["redis://a", "redis://b", "redis://c"]).build()?;
//! let guard = redlock.lock("orders:42", Duration::from_secs(10)).acquire().await?;
//! guard.release().await
//! # }
//! ```
//!
//! **What a lock is worth.** A lease gives mutual exclusion only while timing is bounded; see
//! [`Guarantee`]. Start reading at [`RedLock`], then [`Lock`] and [`Guard`].

mod acquire;
mod ballot;
mod claim;
mod client;
mod clock;
mod election;
mod error;
mod guard;
mod lease;
mod lock;
mod net;
mod owner;
mod reentrant;
mod retry;
mod round;
mod run;
mod stats;

pub use client::{Builder, RedLock};
pub use election::{Election, Leader, Leadership, Observer};
pub use error::{Error, NodeCause, NodeFailure};
pub use guard::{Guarantee, Guard, Lease};
pub use lock::Lock;
pub use net::tls::Tls;
pub use owner::Owner;
pub use reentrant::{Entered, Reentrant};
pub use retry::Retry;
pub use run::Kept;
pub use stats::Stats;
