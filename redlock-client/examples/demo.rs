//! The engine of `scripts/demo`: does the lock keep a counter right while servers die?
//!
//! Starts N servers and M worker processes. The workers increment a counter in a file by reading it and
//! writing it back, which loses increments unless a lock keeps them apart. Two servers are killed as
//! they work, and restarted empty once the longest TTL has passed: a server that came back sooner
//! would have forgotten locks that are still held. In the end every increment a worker logged must be
//! in the counter. Exit status 0 if so.
#![allow(clippy::print_stdout, reason = "a demonstration talks to people")]

#[path = "demo/options.rs"]
mod options;
#[path = "demo/proof.rs"]
mod proof;
#[path = "demo/servers.rs"]
mod servers;
#[path = "demo/worker.rs"]
mod worker;

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use options::Options;
use servers::Servers;

type Failure = Box<dyn std::error::Error>;

/// Past the TTL: what the servers' clocks may be off by, and what was still on its way.
const RESTART_MARGIN: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = if args.first().is_some_and(|arg| arg == "worker") {
        worker::main(&args[1..]).await
    } else {
        demo(&args).await
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Whatever ends this, dropping the servers and workers ends their processes.
    tokio::select! {
        result = contend(&options) => result,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn contend(options: &Options) -> Result<(), Failure> {
    let mut servers = Servers::start(options).await?;
    println!(
        "{} servers ({}) on ports {} to {}, {} workers, TTL {:?}, {:?}",
        options.nodes,
        options.server_bin.display(),
        options.port_base,
        servers.last_port(),
        options.workers,
        options.ttl,
        options.duration,
    );
    worker::write(&options.counter(), 0)?;
    let mut workers = Vec::new();
    for id in 0..options.workers {
        workers.push(start_worker(options, &servers, id)?);
    }

    let start = Instant::now();
    let down_for = options.ttl + RESTART_MARGIN;
    let mut plan = Plan::new(options, down_for);
    let mut outage = Outage::default();
    let mut shown = 0;
    let mut second = 0;
    while start.elapsed() < options.duration {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let elapsed = start.elapsed();
        for step in plan.due(elapsed) {
            match step {
                Step::Kill(node) => {
                    servers.kill(node).await?;
                    println!("{:6.1}s  killed server {}", elapsed.as_secs_f64(), node + 1);
                }
                Step::Restart(node) => {
                    servers.restart(node).await?;
                    println!(
                        "{:6.1}s  restarted server {}, empty: {down_for:?} have passed, longer than any TTL",
                        elapsed.as_secs_f64(),
                        node + 1
                    );
                }
            }
            let done = proof::count_increments(options)?;
            outage.note(servers.down(), done);
        }
        if elapsed.as_secs() > second {
            second = elapsed.as_secs();
            let done = proof::count_increments(options)?;
            println!(
                "{second:5}.0s  {done:7} increments, {:5} in the last second   servers {}",
                done - shown,
                servers.picture()
            );
            shown = done;
        }
        for worker in &mut workers {
            if let Some(status) = worker.try_wait()? {
                return Err(format!("a worker ended early: {status}").into());
            }
        }
    }

    // Workers stop when their standard input ends, after the increment they are at.
    for worker in &mut workers {
        drop(worker.stdin.take());
    }
    for mut worker in workers {
        let status = tokio::time::timeout(options.ttl * 2 + Duration::from_secs(20), worker.wait())
            .await
            .map_err(|_| "a worker does not stop")??;
        if !status.success() {
            return Err(format!("a worker failed: {status}").into());
        }
    }
    let elapsed = start.elapsed();
    if plan.steps.is_empty() && options.nodes >= servers::NODES_FOR_OUTAGE {
        println!("{} increments were made while two servers were down", outage.increments);
        if outage.increments == 0 {
            return Err("no work was done while two servers were down".into());
        }
    }
    proof::check(options, elapsed)
}

fn start_worker(options: &Options, servers: &Servers, id: usize) -> Result<Child, Failure> {
    let child = Command::new(std::env::current_exe()?)
        .arg("worker")
        .arg(if options.without_lock { "without-lock" } else { "with-lock" })
        .arg(options.counter())
        .arg(options.log(id))
        .arg(options.ttl.as_millis().to_string())
        .args(servers.urls())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

#[derive(Clone, Copy)]
enum Step {
    Kill(usize),
    Restart(usize),
}

/// When to kill and restart what. Earliest first.
struct Plan {
    steps: Vec<(Duration, Step)>,
}

impl Plan {
    /// Two servers of five may be away at once; of three, only one after the other.
    fn new(options: &Options, down_for: Duration) -> Self {
        let first = options.duration / 5;
        let second = if options.nodes >= servers::NODES_FOR_OUTAGE {
            first + down_for / 4
        } else {
            first + down_for + Duration::from_secs(1)
        };
        let mut steps = vec![
            (first, Step::Kill(0)),
            (second, Step::Kill(1)),
            (first + down_for, Step::Restart(0)),
            (second + down_for, Step::Restart(1)),
        ];
        steps.sort_by_key(|(at, _)| *at);
        Self { steps }
    }

    fn due(&mut self, elapsed: Duration) -> Vec<Step> {
        let count = self.steps.iter().take_while(|(at, _)| *at <= elapsed).count();
        self.steps.drain(..count).map(|(_, step)| step).collect()
    }
}

/// What was done while two servers were down.
#[derive(Default)]
struct Outage {
    since: Option<usize>,
    increments: usize,
}

impl Outage {
    fn note(&mut self, down: usize, done: usize) {
        match (down >= 2, self.since) {
            (true, None) => self.since = Some(done),
            (false, Some(since)) => {
                self.increments += done - since;
                self.since = None;
            }
            _ => {}
        }
    }
}
