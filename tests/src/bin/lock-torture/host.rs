//! A server of the rig: alone or a member of a cluster, how it keeps its locks, and what its
//! operator tells it when it starts again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use holdfast_tests::client::Client;
use holdfast_tests::cluster::{Cluster, Node};
use holdfast_tests::preload::{Environment, together};
use holdfast_tests::server::{Kind, Server};
use holdfast_tests::{lossy_disk, slow_disk, wall_clock};

use crate::clock::Draw;
use crate::rig::signal;

/// What the servers of a run are.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    /// Each one in a way that is drawn: in memory, with a journal synced every second, or always.
    Mixed,
    /// All in memory.
    Memory,
    /// All with journals that are synced every second.
    Everysec,
    /// All with journals that are synced before each reply.
    Always,
    /// The members of one Raft cluster.
    Raft,
}

/// How a server keeps what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// In memory: a crash loses all locks, and the next start begins with a quarantine.
    Memory,
    /// In a journal that is synced every second.
    EverySecond,
    /// In a journal that is synced before each reply.
    Always,
    /// In the log of a cluster.
    Raft,
}

impl Keeping {
    /// How one of these servers keeps its locks.
    pub(crate) fn of(servers: Servers, draw: &mut Draw) -> Self {
        const WAYS: [Keeping; 3] = [Keeping::Memory, Keeping::EverySecond, Keeping::Always];
        match servers {
            Servers::Mixed => WAYS[draw.below(WAYS.len() as u64) as usize],
            Servers::Memory => Self::Memory,
            Servers::Everysec => Self::EverySecond,
            Servers::Always => Self::Always,
            Servers::Raft => Self::Raft,
        }
    }

    const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Memory | Self::Raft => &[],
            Self::EverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::Always => &["--appendonly", "yes", "--appendfsync", "always"],
        }
    }

    /// Whether its files are a journal, of which a power cut may take what was not synced.
    pub(crate) const fn is_journal(self) -> bool {
        matches!(self, Self::EverySecond | Self::Always)
    }
}

enum Process {
    Alone(Server),
    Member(Node),
}

/// A server and its operator.
pub(crate) struct Host {
    process: Process,
    pub(crate) keeping: Keeping,
    /// Where the libraries preloaded into it look for what they are to do; `None` without them.
    control: Option<PathBuf>,
    /// Whether quarantines are left out, for the mutant without.
    no_quarantine: bool,
    /// Until when its operator lets each start begin with a quarantine.
    quarantine_until: Option<Instant>,
    /// What its operator has told its tokens to begin above.
    token_floor: Option<u64>,
}

/// The environment by which a server's disk and clock can be disturbed through files in `dir`.
pub(crate) fn disturbed(dir: &Path) -> Result<Environment, String> {
    fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    Ok(together([
        slow_disk::environment(dir)?,
        lossy_disk::environment(dir)?,
        wall_clock::environment(dir)?,
    ]))
}

impl Host {
    /// An independent server.
    pub(crate) fn alone(
        keeping: Keeping,
        control: Option<(PathBuf, Environment)>,
        no_quarantine: bool,
    ) -> Self {
        let (control, environment) = control.unzip();
        let mut args = keeping.args().to_vec();
        args.extend(no_quarantine.then_some(["--lock-quarantine", "no"]).iter().flatten());
        let server = Server::start_in(Kind::Ours, &args, &environment.unwrap_or_default());
        Self::new(Process::Alone(server), keeping, control, no_quarantine)
    }

    /// The members of a new cluster.
    pub(crate) fn members(controls: Vec<Option<(PathBuf, Environment)>>) -> Vec<Self> {
        let (controls, environments): (Vec<_>, Vec<_>) =
            controls.into_iter().map(Option::unzip).unzip();
        let nodes = environments
            .into_iter()
            .map(|environment| Node::within(&environment.unwrap_or_default(), &[]));
        let nodes = Cluster::form(nodes).nodes.into_iter().zip(controls);
        nodes
            .map(|(node, control)| Self::new(Process::Member(node), Keeping::Raft, control, false))
            .collect()
    }

    fn new(
        process: Process,
        keeping: Keeping,
        control: Option<PathBuf>,
        no_quarantine: bool,
    ) -> Self {
        let (quarantine_until, token_floor) = (None, None);
        Self { process, keeping, control, no_quarantine, quarantine_until, token_floor }
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.process {
            Process::Alone(server) => server.addr(),
            Process::Member(node) => node.addr(),
        }
    }

    /// A connection that no link disturbs.
    pub(crate) fn client(&self) -> Result<Client, String> {
        Client::connect(self.addr()).map_err(|error| format!("{}: {error}", self.addr()))
    }

    /// A field of INFO.
    pub(crate) fn info(&self, section: &str, field: &str) -> Result<i64, String> {
        let text = self.client()?.cmd(&["INFO", section]).text();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse().ok())
            .ok_or_else(|| format!("no {field}: {text}"))
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, name: &str) {
        match &self.process {
            Process::Alone(server) => signal(server.pid(), name),
            Process::Member(node) => node.signal(name),
        }
    }

    /// Ends its process as a crash does.
    pub(crate) fn crash(&mut self) {
        match &mut self.process {
            Process::Alone(server) => server.crash(),
            Process::Member(node) => node.kill(),
        }
    }

    /// Kills it and takes from its files some of what was not synced, as a power cut does; starts it
    /// again and sees whether it waits as it must. How many bytes were lost.
    pub(crate) fn cut_power(&mut self, draw: &mut Draw) -> Result<u64, String> {
        let held = self.info("locks", "locks_held")?;
        self.crash();
        let lost = match (&self.process, &self.control) {
            (Process::Alone(server), Some(control)) => {
                let mut up_to = |most: u64| draw.between(0, most);
                lossy_disk::lose_unsynced(control, server.dir(), &mut up_to)
                    .map_err(|error| error.to_string())?
            }
            _ => 0,
        };
        self.start_again()?;
        let left_ms = self.info("locks", "locks_quarantine_left_ms")?;
        let told = self.quarantine_until.is_some_and(|until| Instant::now() < until);
        match self.keeping {
            Keeping::EverySecond if held > 0 && left_ms == 0 => Err(format!(
                "{held} lock(s) were held, the journal lost its end ({lost} bytes), no quarantine"
            )),
            Keeping::Always if lost == 0 && !told && left_ms > 0 => {
                Err(format!("a quarantine of {left_ms} ms, though all was synced"))
            }
            _ => Ok(lost),
        }
    }

    /// Takes all its files, as the loss of its disk does, once it has crashed. Its operator knows: the
    /// next starts begin with a quarantine, and with tokens above `token_floor`.
    pub(crate) fn lose_disk(&mut self, quarantine: Duration, token_floor: Option<u64>) {
        let Process::Alone(server) = &self.process else { return };
        for entry in fs::read_dir(server.dir()).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
        }
        self.quarantine_until = Some(Instant::now() + quarantine);
        self.token_floor = token_floor.or(self.token_floor);
    }

    /// Starts it again after a crash, as its operator would.
    pub(crate) fn start_again(&mut self) -> Result<(), String> {
        let server = match &mut self.process {
            Process::Alone(server) => server,
            Process::Member(node) => {
                node.start();
                return Ok(());
            }
        };
        let left =
            self.quarantine_until.map(|until| until.saturating_duration_since(Instant::now()));
        let quarantine = match (self.no_quarantine, left) {
            (true, _) => Some("no".to_owned()),
            // A little more for a clock that runs a little fast.
            (false, Some(left)) if !left.is_zero() => Some((left.as_millis() + 1).to_string()),
            _ => None,
        };
        let floor = self.token_floor.map(|floor| floor.to_string());
        let mut args = self.keeping.args().to_vec();
        if let Some(quarantine) = &quarantine {
            args.extend(["--lock-quarantine", quarantine]);
        }
        if let Some(floor) = &floor {
            args.extend(["--lock-token-floor", floor]);
        }
        server.start_again(&args)
    }

    /// Sets its wall clock so many seconds ahead of the machine's.
    pub(crate) fn set_wall_clock(&self, seconds: i64) {
        if let Some(control) = &self.control {
            wall_clock::set(control, seconds);
        }
    }

    /// Lets each of its syncs take so many milliseconds longer.
    pub(crate) fn dawdle(&self, ms: u64) {
        if let Some(control) = &self.control {
            slow_disk::dawdle(control, ms);
        }
    }
}
