//! Takes fenced locks over real servers while they, the network and the clients themselves fail.
//!
//! `lock-torture --seconds 60 --seed 7` starts N servers, a proxy for each link, and clients as processes of
//! their own; a nemesis kills, stops, empties and cuts off; every client tells what it did, and
//! [`check`] judges it all. `--mutant` breaks something first, and then a violation must be found.
//!
//! What is checked: no two holders at once by their own deadlines; tokens unique and in the order of
//! acquisition; a register that checks tokens loses no acknowledged write; nothing outlives its TTL
//! once its owner is gone; locks can be had again soon after a fault is over; a repeated request has one effect.
#![allow(clippy::print_stdout)]

mod check;
mod clock;
mod history;
mod host;
mod nemesis;
mod proxy;
mod rig;
mod scenario;
mod store;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Takes fenced locks over real servers while they, the network and the clients fail.
#[derive(Parser, Debug)]
#[command(name = "lock-torture")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    plan: Plan,
}

/// What a run is made of.
#[derive(clap::Args, Debug, Clone)]
struct Plan {
    /// How long the faults go on
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// What the faults are drawn from; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// Independent servers
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How they keep their locks
    #[arg(long, value_enum, default_value = "mixed")]
    servers: host::Servers,
    /// Client processes
    #[arg(long, default_value_t = 5)]
    clients: usize,
    /// How long a lock lasts that nobody renews, ms
    #[arg(long, default_value_t = 1200)]
    ttl_ms: u64,
    /// Inflict those faults alone whose names hold this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Break this first: the run then succeeds if a violation is found
    #[arg(long, value_enum)]
    mutant: Option<Mutant>,
}

/// Something that makes locks unsound.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The register takes every write, whatever its token.
    NoFencing,
    /// Servers that have forgotten their locks grant at once.
    NoQuarantine,
    /// Servers that have lost their disks count tokens from the beginning.
    VolatileCounter,
}

#[derive(Subcommand, Debug)]
enum Role {
    /// One client, started by the rig
    #[command(hide = true)]
    Worker(worker::Orders),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("lock-torture: {error}");
            return ExitCode::FAILURE;
        }
    };
    match arguments.role {
        Some(Role::Worker(orders)) => {
            runtime.block_on(worker::run(orders));
            ExitCode::SUCCESS
        }
        None => run(&arguments.plan, &runtime),
    }
}

fn run(plan: &Plan, runtime: &tokio::runtime::Runtime) -> ExitCode {
    if plan.mutant.is_some() && plan.servers == host::Servers::Raft {
        eprintln!("lock-torture: the mutants are of independent servers");
        return ExitCode::FAILURE;
    }
    let seed = plan.seed.unwrap_or_else(|| clock::now_ns() % 1_000_000);
    println!(
        "lock-torture: {} servers, {} clients, {} s of faults, seed {seed}{}",
        plan.nodes,
        plan.clients,
        plan.seconds,
        plan.mutant.map_or_else(String::new, |mutant| format!(", mutant {mutant:?}"))
    );
    let mut rig = match rig::Rig::start(plan, seed, runtime) {
        Ok(rig) => rig,
        Err(error) => {
            eprintln!("lock-torture: the rig did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut violations = scenario::repeated_request(&mut rig);
    violations.extend(match plan.mutant {
        Some(Mutant::NoQuarantine) => scenario::forgetful_servers(&mut rig),
        Some(Mutant::VolatileCounter) => scenario::emptied_servers(&mut rig),
        Some(Mutant::NoFencing) | None => scenario::paused_client(&mut rig, plan.mutant),
    });
    if plan.mutant.is_none() {
        if plan.servers != host::Servers::Raft {
            violations.extend(scenario::emptied_servers(&mut rig));
        }
        if rig.can_disturb() {
            violations.extend(scenario::restarted_an_hour_ahead(&mut rig));
        }
        violations.extend(nemesis::run(&mut rig, Duration::from_secs(plan.seconds)));
    }
    violations.extend(rig.end());
    let report = check::judge(&rig.history(), &rig.registers(), plan.mutant);
    print!("{}", report.table(rig.faults()));
    violations.extend(report.violations);
    for violation in &violations {
        println!("VIOLATION: {violation}");
    }
    match (plan.mutant, violations.is_empty()) {
        (None, true) => {
            println!("verdict: sound (seed {seed})");
            ExitCode::SUCCESS
        }
        (None, false) => {
            println!("verdict: UNSOUND; to run it again: lock-torture --seed {seed}");
            ExitCode::FAILURE
        }
        (Some(mutant), false) => {
            println!("verdict: the mutant {mutant:?} was caught");
            ExitCode::SUCCESS
        }
        (Some(mutant), true) => {
            println!("verdict: the mutant {mutant:?} was NOT caught");
            ExitCode::FAILURE
        }
    }
}
