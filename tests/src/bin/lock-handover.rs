//! How long it takes from a release to the next waiter's grant.
//!
//! `lock-handover [--waiters 64] [--rounds 10000] [--addr HOST:PORT]` has that many clients take
//! one lock in turn, each waiting in the server's queue, and tells the time from sending the release
//! to reading the grant. Without `--addr` it starts our server.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use holdfast_tests::client::Client;
use holdfast_tests::server::{Kind, Server};
use holdfast_tests::wire::Reply;

fn argument(name: &str) -> Option<String> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.next();
    args.next()
}

fn number(name: &str, default: usize) -> usize {
    argument(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Takes the lock in turn until all rounds are over; the times of its own grants, in ns.
fn take_turns(
    addr: SocketAddr,
    client: usize,
    rounds: usize,
    (began, released_ns, done): (Instant, &AtomicU64, &AtomicUsize),
) -> std::io::Result<Vec<u64>> {
    let mut connection = Client::connect(addr)?;
    let mut times = Vec::new();
    let owner = format!("client:{client}");
    while done.load(SeqCst) < rounds {
        let args = ["LOCK.ACQUIRE", "handover", &owner, "60000", "BLOCK", "60000"];
        let reply = connection.cmd(&args);
        let granted_ns = began.elapsed().as_nanos() as u64;
        assert!(matches!(reply, Reply::Array(_)), "{reply:?}");
        let released = released_ns.swap(0, SeqCst);
        // The first grant follows no release.
        if released > 0 {
            times.push(granted_ns - released);
        }
        done.fetch_add(1, SeqCst);
        released_ns.store(began.elapsed().as_nanos() as u64, SeqCst);
        connection.cmd(&["LOCK.RELEASE", "handover", &owner]);
    }
    Ok(times)
}

fn main() -> ExitCode {
    let (waiters, rounds) = (number("--waiters", 64), number("--rounds", 10_000));
    let mut started = None;
    let addr = match argument("--addr").map(|text| text.parse::<SocketAddr>()) {
        Some(Ok(addr)) => addr,
        Some(Err(error)) => {
            println!("--addr: {error}");
            return ExitCode::FAILURE;
        }
        None => started.insert(Server::start(Kind::Ours, &[])).addr(),
    };
    let (released_ns, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    let (began, all) = (Instant::now(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for client in 0..=waiters {
            let (all, shared) = (&all, (began, &released_ns, &done));
            scope.spawn(move || match take_turns(addr, client, rounds, shared) {
                Ok(times) => {
                    if let Ok(mut all) = all.lock() {
                        all.extend(times);
                    }
                }
                Err(error) => println!("client {client}: {error}"),
            });
        }
    });
    let mut times = all.into_inner().unwrap_or_default();
    times.sort_unstable();
    if times.is_empty() {
        return ExitCode::FAILURE;
    }
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!(
        "{} hand-overs with {waiters} waiters: p50 {:.0} us, p99 {:.0} us, max {:.0} us, {:.0}/s",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        times.len() as f64 / began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
