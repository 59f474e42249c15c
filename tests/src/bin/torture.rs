//! `scripts/torture`: a cluster under faults for as long as one likes, judged in the end.

use std::process::ExitCode;
use std::time::Duration;

use holdfast_tests::torture::{Plan, run};

const USAGE: &str = "scripts/torture [--minutes M] [--seed S] [--nodes N]";

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let (mut minutes, mut seed, mut nodes) = (1.0, 1, 3);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_default();
        let fits = match name.as_str() {
            "--minutes" => value.parse().map(|value| minutes = value).is_ok(),
            "--seed" => value.parse().map(|value| seed = value).is_ok(),
            "--nodes" => value.parse().map(|value| nodes = value).is_ok(),
            _ => false,
        };
        if !fits {
            println!("{USAGE}");
            return ExitCode::FAILURE;
        }
    }
    let time = Duration::from_secs_f64(minutes * 60.0);
    let report = run(Plan { nodes, time, seed, tell: true });
    println!("\nseed {seed}, {nodes} nodes, {minutes} minutes\n");
    for (fault, count) in &report.faults {
        println!("{fault:<28}{count:>8}");
    }
    for (what, count) in [
        ("operations answered", report.answered),
        ("refused, nothing done", report.refused),
        ("unknown", report.unknown),
        ("locks given", report.locks),
        ("keys judged", report.keys),
        ("keys no order explains", report.violations.len()),
        ("locks held by two", report.shared_locks),
        ("tokens given out", report.tokens),
        ("tokens that did not grow", report.tokens_out_of_order),
    ] {
        println!("{what:<28}{count:>8}");
    }
    println!("{:<28}{:>8} ms", "longest silence", report.longest_silence.as_millis());
    let wrong = report.violations.len() + report.shared_locks + report.tokens_out_of_order;
    let is_fine = wrong == 0;
    println!("\n{}", if is_fine { "linearizable" } else { "NOT LINEARIZABLE" });
    for key in &report.violations {
        println!("  {key}");
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
