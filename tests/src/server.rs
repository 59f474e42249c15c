//! Starts servers for tests, and ends them.
//!
//! Both servers take the same directives on the command line, which is itself
//! something the tests rely on. Each instance has its own port (23000–31999,
//! below the ephemeral range), directory and log; dropping it kills it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::preload::Environment;
use crate::skip_loudly;

const PORT_MIN: u32 = 23_000;
const PORT_COUNT: u32 = 9_000;
const START_DEADLINE: Duration = Duration::from_secs(20);
const START_ATTEMPTS: usize = 5;

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `holdfast-server`.
    Ours,
    /// Debian's `redis-server`, which says what is right.
    Oracle,
}

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
    kind: Kind,
    environment: Environment,
}

impl Kind {
    /// The program to start, or `None` when this machine has none.
    #[must_use]
    pub fn binary(self) -> Option<PathBuf> {
        match self {
            Self::Ours => ours(),
            Self::Oracle => oracle(),
        }
    }

    /// The name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "holdfast-server",
            Self::Oracle => "redis-server",
        }
    }
}

/// The kinds this machine has. A missing one is said loudly, and fails the
/// test when `HOLDFAST_REQUIRE` names it (`ours`, `oracle` or both).
///
/// # Panics
/// When a required server is missing.
#[must_use]
pub fn available() -> Vec<Kind> {
    [Kind::Ours, Kind::Oracle].into_iter().filter(|&kind| is_available(kind)).collect()
}

/// Whether `kind` can be started here; says so loudly when it cannot.
///
/// # Panics
/// When the server is required by `HOLDFAST_REQUIRE` and missing.
#[must_use]
pub fn is_available(kind: Kind) -> bool {
    if kind.binary().is_some() {
        return true;
    }
    let word = match kind {
        Kind::Ours => "ours",
        Kind::Oracle => "oracle",
    };
    let required = std::env::var("HOLDFAST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|r| r == word),
        "no {} to test, and HOLDFAST_REQUIRE={required}",
        kind.name()
    );
    skip_loudly(&format!("no {} on this machine", kind.name()));
    false
}

/// Runs a check on every kind of server this machine has, one after the other.
pub fn each(args: &[&str], mut check: impl FnMut(&mut Server)) {
    for kind in available() {
        check(&mut Server::start(kind, args));
    }
}

impl Server {
    /// Starts a server with `args` after the harness's own directives. A first
    /// argument without dashes is a configuration file.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    #[must_use]
    pub fn start(kind: Kind, args: &[&str]) -> Self {
        Self::start_with_files(kind, args, &[])
    }

    /// As [`Server::start`], with files in its directory before it starts.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with_files(kind: Kind, args: &[&str], files: &[(&str, &[u8])]) -> Self {
        Self::start_somehow(kind, args, files, &Vec::new())
    }

    /// As [`Server::start`], with more in its environment, now and when it is started again.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_in(kind: Kind, args: &[&str], environment: &Environment) -> Self {
        Self::start_somehow(kind, args, &[], environment)
    }

    fn start_somehow(
        kind: Kind,
        args: &[&str],
        files: &[(&str, &[u8])],
        environment: &Environment,
    ) -> Self {
        let mut last_log = String::new();
        for _ in 0..START_ATTEMPTS {
            let mut server = Self::spawn(kind, args, files, environment);
            match server.wait_ready() {
                Ok(()) => return server,
                Err(log) => last_log = log,
            }
            // Another process may have taken the port between our look and
            // the server's bind; anything else will not heal by itself.
            if !last_log.to_lowercase().contains("in use") {
                break;
            }
        }
        panic!("{} did not start with {args:?}; its log:\n{last_log}", kind.name());
    }

    fn spawn(
        kind: Kind,
        args: &[&str],
        files: &[(&str, &[u8])],
        environment: &Environment,
    ) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let port = free_port();
        let dir = std::env::temp_dir().join(format!(
            "holdfast-tests-{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&dir).expect("a directory for the server");
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).expect("writing a file for the server");
        }
        let child = Self::process(kind, port, &dir, args, environment);
        Self { child, port, dir, kind, environment: environment.clone() }
    }

    fn process(
        kind: Kind,
        port: u16,
        dir: &Path,
        args: &[&str],
        environment: &Environment,
    ) -> Child {
        let binary = kind.binary().expect("the server's binary");
        let log = fs::File::create(dir.join("log")).expect("a log file");
        let port_text = port.to_string();
        let dir_text = dir.to_str().expect("a UTF-8 temporary directory");
        // A configuration file, when there is one, comes before all directives.
        let conf_count = usize::from(args.first().is_some_and(|a| !a.starts_with("--")));
        let (conf, args) = args.split_at(conf_count);
        Command::new(binary)
            .args(conf)
            .args(["--port", &port_text, "--bind", "127.0.0.1"])
            .args(["--dir", dir_text, "--save", ""])
            .args(["--enable-debug-command", "yes"])
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second log handle"))
            .stderr(log)
            .spawn()
            .expect("starting the server")
    }

    /// Ends the process as a crash would, if it still runs.
    pub fn crash(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again in its directory, with a new log.
    ///
    /// # Errors
    /// Its log, when it does not come up.
    pub fn start_again(&mut self, args: &[&str]) -> Result<(), String> {
        self.crash();
        self.child = Self::process(self.kind, self.port, &self.dir, args, &self.environment);
        self.wait_ready()
    }

    /// Limits the size of the files it may write (`unlimited` lifts it): beyond, writing fails
    /// as on a full disk. `false`, said aloud, where there is no `prlimit`.
    #[must_use]
    pub fn limit_files(&self, bytes: &str) -> bool {
        let limited = Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string(), &format!("--fsize={bytes}:unlimited")])
            .status();
        let done = limited.is_ok_and(|status| status.success());
        if !done {
            eprintln!("SKIPPED: prlimit cannot limit the size of files here");
        }
        done
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(self.log());
            }
            if let Ok(mut client) = Client::connect(self.addr()) {
                // A password makes the answer an error; it is an answer.
                if client.send(&["PING"]).is_ok() {
                    use crate::client::Received;
                    match client.receive(Duration::from_secs(5)) {
                        Received::Reply(reply) if !reply.is_error("LOADING") => return Ok(()),
                        _ => {}
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("not ready in {START_DEADLINE:?}\n{}", self.log()))
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Whose server it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its working directory, gone after the drop.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new connection.
    ///
    /// # Panics
    /// When the server does not accept.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.addr()).expect("connecting to the server")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Resident memory in bytes, from the operating system.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the server's status");
        status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .expect("VmRSS")
            * 1024
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process id, to signal it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the process to end by itself; its exit code, or `None` when
    /// it still runs or was ended by a signal.
    pub fn wait_exit(&mut self, wait: Duration) -> Option<i32> {
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            for line in tail.iter().rev() {
                eprintln!("[{}] {line}", self.kind.name());
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test binaries may run at once; each starts its search elsewhere.
    let base = std::process::id().wrapping_mul(131);
    for _ in 0..PORT_COUNT {
        let n = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORT_COUNT;
        let port = u16::try_from(PORT_MIN + n).expect("ports fit");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {PORT_MIN} on");
}

fn ours() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("HOLDFAST_SERVER_BIN") {
        let path = PathBuf::from(path);
        return path.is_file().then_some(path);
    }
    // target/<profile>/deps/<this test> → target/<profile>/holdfast-server
    let exe = std::env::current_exe().ok()?;
    exe.ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join("holdfast-server"))
        .find(|path| path.is_file())
}

fn oracle() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("HOLDFAST_ORACLE_BIN") {
        return Some(PathBuf::from(path)).filter(|p| p.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("redis-server"))
        .find(|path| path.is_file())
}
