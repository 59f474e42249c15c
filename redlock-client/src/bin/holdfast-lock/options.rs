//! The command line of `holdfast-lock`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;

use crate::NODES_VARIABLE;

const AFTER_HELP: &str = "\
The command finds in its environment HOLDFAST_LOCK, the name, and HOLDFAST_TOKEN, the fencing
token, which is not set if the servers give none (Redis, Valkey). A lock is a lease: a machine that
sleeps may wake up when somebody else holds it. Where that would do harm, write the token along
and let the resource refuse one that is smaller than the greatest it has seen.

The lock is renewed while the command runs. If it is lost, the command gets SIGTERM, and SIGKILL
after the grace. The command has a process group of its own unless standard input is a terminal,
so that its children are stopped too; in a terminal only the command itself is.

Exit status: that of the command, 128 + n if signal n ended it, or
   64  the command line makes no sense
   69  too few servers could be reached, or they are in quarantine after a restart
   74  the lock was lost while the command ran
   75  somebody else holds the lock, and the time to wait is over
  126  the command cannot be run
  127  the command was not found

Examples:
  holdfast-lock --nodes redis://a,redis://b,redis://c nightly -- ./backup.sh
  holdfast-lock --nodes redis://a --wait 0 cron-report -- sh -c 'report --token $HOLDFAST_TOKEN'
  holdfast-lock --nodes redis://a --permits 4 builds -- make";

/// Runs a command while holding a lock on Holdfast, Redis or Valkey servers.
#[derive(Parser, Debug)]
#[command(name = "holdfast-lock", version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// The servers, redis://[[user]:password@]host[:port][/db], rediss://… or unix:///path; a comma
    /// between them. All who use the lock must name the same ones. Also from HOLDFAST_NODES
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    nodes: Vec<String>,

    /// The servers are members of one Raft cluster, not independent ones
    #[arg(long)]
    pub(crate) cluster: bool,

    /// How long the lock outlives this program if it dies: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// How long to wait for the lock; 0 tries once. For ever by default
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// How long the command has from SIGTERM to SIGKILL when the lock is lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) grace: Duration,

    /// How long to wait for any one server [default: 50ms, 2s for a cluster]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) node_timeout: Option<Duration>,

    /// Hold the lock together with other readers. Holdfast servers only
    #[arg(long, conflicts_with = "permits")]
    pub(crate) shared: bool,

    /// Up to so many may hold the lock at a time. Holdfast servers only
    #[arg(long, value_name = "LIMIT")]
    pub(crate) permits: Option<u32>,

    /// Fail rather than hold the lock without a fencing token
    #[arg(long)]
    pub(crate) require_token: bool,

    /// Say when the lock is held, and under which token
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// What to lock
    pub(crate) name: String,

    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

impl Options {
    /// The nodes as given, or as the environment has them.
    pub(crate) fn node_urls(&self) -> Vec<String> {
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        let given = std::env::var(NODES_VARIABLE).unwrap_or_default();
        given.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }

    /// What operators see beside the lock.
    pub(crate) fn description(&self) -> String {
        let host = rustix::system::uname();
        let command = self.command[0].to_string_lossy();
        let text =
            format!("{}:{} {command}", host.nodename().to_string_lossy(), std::process::id());
        text.chars().take(DESCRIPTION_CHARS_MAX).collect()
    }
}

/// Far below the servers' limit, for a path may be long.
const DESCRIPTION_CHARS_MAX: usize = 256;

/// A number with a unit: ms, s, m or h. 0 needs none.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: 500ms, 10s, 2m or 1h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 0,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "s", "-1s", "1.5s", "1d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
        let options = Options::try_parse_from(
            "holdfast-lock --nodes redis://a,redis://b name -- sh -c true".split(' '),
        )
        .unwrap();
        assert_eq!(options.node_urls().len(), 2);
        assert_eq!(options.command.len(), 3);
    }
}
