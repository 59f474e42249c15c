//! `holdfast-lock`: runs a command under a lock, as `flock` does on one machine.
//!
//! Start here; `options` is the command line, `child` the command that runs.

mod child;
mod options;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use redlock_client::{Error, Guarantee, Kept, RedLock, Retry};
use tokio::signal::unix::{Signal, SignalKind, signal};

use child::{Child, Ended};
use options::Options;

/// The lock is held by somebody else: EX_TEMPFAIL.
const CONTENDED: u8 = 75;
/// Too few servers can be reached, or they are in quarantine: EX_UNAVAILABLE.
const UNREACHABLE: u8 = 69;
/// The lock was lost while the command ran, which was stopped: EX_IOERR.
const LOST: u8 = 74;
/// The nodes or the TTL make no sense: EX_USAGE.
const USAGE: u8 = 64;
/// The command cannot be started, as shells tell it.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command or this program.
const SIGNALLED: u8 = 128;

/// How long to wait between two attempts where no server has a queue.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long to wait for servers that do not answer.
const REACH_PATIENCE: Duration = Duration::from_secs(5);
const NODES_VARIABLE: &str = "HOLDFAST_NODES";

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version come this way too; they are no errors.
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(complain(&error.to_string(), UNREACHABLE)),
    };
    let code = runtime.block_on(run(&options));
    ExitCode::from(code.unwrap_or_else(|(text, code)| complain(&text, code)))
}

/// A message, and the code to end with.
type Failure = (String, u8);

fn complain(text: &str, code: u8) -> u8 {
    eprintln!("holdfast-lock: {text}");
    code
}

fn failed(name: &str, error: &Error) -> Failure {
    let code = match error {
        Error::Contended { .. } => CONTENDED,
        Error::Lost => LOST,
        Error::InvalidTtl { .. } | Error::Config(_) => USAGE,
        _ => UNREACHABLE,
    };
    let text = match error {
        Error::Contended { .. } => format!("{name:?} is held by somebody else ({error})"),
        _ => format!("{name:?}: {error}"),
    };
    (text, code)
}

async fn run(options: &Options) -> Result<u8, Failure> {
    let name = &options.name;
    let mut builder =
        RedLock::builder().nodes(options.node_urls()).retry(Retry::forever(RETRY_DELAY));
    if options.cluster {
        builder = builder.cluster();
    }
    if let Some(timeout) = options.node_timeout {
        builder = builder.node_timeout(timeout);
    }
    let redlock = builder.build().map_err(|error| failed(name, &error))?;
    let mut lock = redlock.lock(name.as_str(), options.ttl).describe(options.description());
    if options.shared {
        lock = lock.shared();
    }
    if let Some(limit) = options.permits {
        lock = lock.permits(1, limit);
    }
    if options.require_token {
        lock = lock.require(Guarantee::FencedQuorum);
    }
    // From before the lock is there, so that none is missed and no lock left behind.
    let mut signals = Signals::new().map_err(|error| (error.to_string(), UNREACHABLE))?;
    let acquiring = async {
        reach(&redlock, options).await?;
        match options.wait {
            Some(wait) if wait.is_zero() => lock.clone().retry(Retry::none()).hold().await,
            Some(wait) => lock.hold_before(tokio::time::Instant::now() + wait).await,
            None => lock.hold().await,
        }
    };
    let kept = tokio::select! {
        kept = acquiring => kept.map_err(|error| failed(name, &error))?,
        number = signals.next() => {
            // The attempt that was dropped is released by tasks of this runtime.
            tokio::time::sleep(RETRY_DELAY).await;
            return Err((format!("stopped while waiting for {name:?}"), SIGNALLED + number));
        }
    };
    if options.verbose {
        let token = kept.token().map_or("none".to_owned(), |token| token.to_string());
        eprintln!("holdfast-lock: {name:?} held, token {token}, {:?}", kept.guarantee());
    }
    under_lock(options, kept, signals).await
}

/// Waits until so many servers answer that the lock can be had, but not for long: whoever waits for ever
/// waits for the lock, not for servers that are misspelt.
async fn reach(redlock: &RedLock, options: &Options) -> Result<(), Error> {
    let patience = options.wait.map_or(REACH_PATIENCE, |wait| wait.min(REACH_PATIENCE));
    let until = tokio::time::Instant::now() + patience;
    let election = redlock.election(options.name.as_str(), options.ttl);
    loop {
        match election.leader().await {
            Err(_) if tokio::time::Instant::now() + RETRY_DELAY < until => {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            Err(error) if options.wait.is_none() => return Err(error),
            // The attempt will tell, and better.
            _ => return Ok(()),
        }
    }
}

/// Runs the command for as long as the lock is held.
async fn under_lock(options: &Options, kept: Kept, mut signals: Signals) -> Result<u8, Failure> {
    let mut child = match Child::start(options, &kept) {
        Ok(child) => child,
        Err(error) => {
            // Whatever becomes of the release, the failure to start is what to tell.
            let _ = kept.release().await;
            let not_found = error.kind() == std::io::ErrorKind::NotFound;
            let text = format!("cannot run {:?}: {error}", options.command[0]);
            return Err((text, if not_found { NOT_FOUND } else { NOT_EXECUTABLE }));
        }
    };
    let ended = loop {
        tokio::select! {
            biased;
            () = kept.lost() => {
                let text = format!("{:?} was lost; stopping the command", options.name);
                complain(&text, LOST);
                child.stop(options.grace).await;
                return Ok(LOST);
            }
            number = signals.next() => child.signal(number),
            ended = child.ended() => break ended,
        }
    };
    let ended = ended.map_err(|error| (format!("lost sight of the command: {error}"), LOST))?;
    let in_time = kept.is_held();
    let released = kept.release().await;
    if !in_time || matches!(released, Err(Error::Lost)) {
        let text = format!("the command ended, but {:?} had been lost by then", options.name);
        return Err((text, LOST));
    }
    if let Err(error) = released {
        // The work is done; others wait until the time to live is over.
        complain(&format!("{:?} was not released everywhere: {error}", options.name), 0);
    }
    Ok(match ended {
        Ended::Exited(code) => code,
        Ended::Signalled(number) => SIGNALLED.saturating_add(number),
    })
}

/// The signals that are passed on to the command.
struct Signals([(u8, Signal); 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let of = |kind: SignalKind| {
            // In range: they are 1, 2 and 15.
            signal(kind).map(|stream| (kind.as_raw_value() as u8, stream))
        };
        Ok(Self([
            of(SignalKind::hangup())?,
            of(SignalKind::interrupt())?,
            of(SignalKind::terminate())?,
        ]))
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        let [(hangup, first), (interrupt, second), (terminate, third)] = &mut self.0;
        tokio::select! {
            _ = first.recv() => *hangup,
            _ = second.recv() => *interrupt,
            _ = third.recv() => *terminate,
        }
    }
}
