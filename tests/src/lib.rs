//! Black-box checks of a Redis-protocol server, over sockets.
//!
//! Three things live here, and every test binary under `tests/tests/` is made
//! of them: a [`server`] harness that starts `holdfast-server` or Debian's
//! `redis-server` (the oracle), a small blocking [`client`], and the
//! [`transcript`] format in which the corpus under `tests/transcripts/` is
//! written. Nothing here links the server: it is a process behind a port.
//!
//! Read next: `tests/README.md`.

pub mod client;
pub mod cluster;
pub mod history;
pub mod lossy_disk;
pub mod netns;
pub mod power;
pub mod preload;
pub mod server;
pub mod slow_disk;
pub mod torture;
pub mod transcript;
pub mod wall_clock;
pub mod wire;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

/// Tells the human that something was not checked, even when cargo captures
/// the output of tests.
pub fn skip_loudly(what: &str) {
    // Loud, but once in each test binary.
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if !SAID.lock().is_ok_and(|mut said| said.insert(what.to_owned())) {
        return;
    }
    // A direct handle is not captured by the test harness; `eprintln!` is.
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "\n!!! SKIPPED: {what}\n");
}
