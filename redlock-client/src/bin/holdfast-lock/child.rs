//! The command that runs under the lock: starting it, signalling it, stopping it.

use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use redlock_client::Kept;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use crate::options::Options;

pub(crate) struct Child {
    process: tokio::process::Child,
    pid: Option<Pid>,
    /// Whether it leads a process group of its own, which then gets the signals.
    has_group: bool,
}

/// How the command ended.
pub(crate) enum Ended {
    Exited(u8),
    Signalled(u8),
}

impl Child {
    pub(crate) fn start(options: &Options, kept: &Kept) -> io::Result<Self> {
        let mut command = Command::new(&options.command[0]);
        command.args(&options.command[1..]).env("HOLDFAST_LOCK", &options.name);
        match kept.token() {
            Some(token) => command.env("HOLDFAST_TOKEN", token.to_string()),
            // One that was inherited would be another lock's.
            None => command.env_remove("HOLDFAST_TOKEN"),
        };
        // In a group of its own it could not read from the terminal.
        let has_group = !io::stdin().is_terminal();
        if has_group {
            command.process_group(0);
        }
        command.kill_on_drop(true);
        let process = command.spawn()?;
        let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { process, pid, has_group })
    }

    /// Waits for the command to end.
    ///
    /// # Cancel safety
    /// Safe to drop and to ask for again.
    pub(crate) async fn ended(&mut self) -> io::Result<Ended> {
        let status = self.process.wait().await?;
        // In range: exit codes and signal numbers are bytes.
        Ok(match status.signal() {
            Some(number) => Ended::Signalled(number as u8),
            None => Ended::Exited(status.code().unwrap_or(0) as u8),
        })
    }

    /// Passes a signal on, unless it came from a terminal that sent it to the command too.
    pub(crate) fn signal(&self, number: u8) {
        let from_terminal = !self.has_group && i32::from(number) != Signal::TERM.as_raw();
        if let Some(signal) = Signal::from_named_raw(i32::from(number)).filter(|_| !from_terminal) {
            self.send(signal);
        }
    }

    fn send(&self, signal: Signal) {
        let Some(pid) = self.pid else { return };
        // One that has just ended needs no signal.
        let _ = match self.has_group {
            true => kill_process_group(pid, signal),
            false => kill_process(pid, signal),
        };
    }

    /// Ends the command: asks it to, and kills it if it has not ended in time.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        let in_time = timeout(grace, self.process.wait()).await.is_ok();
        if !in_time || self.has_group {
            // What is left of its group, too.
            self.send(Signal::KILL);
        }
        // It is dead or about to be; there is nothing more to do about it.
        let _ = self.process.wait().await;
    }
}
