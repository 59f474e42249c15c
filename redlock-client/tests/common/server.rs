//! Real servers: Debian's redis-server, and ours when `HOLDFAST_SERVER_BIN` names it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to start looking for free ports; each test process starts at a place of its own.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

pub struct Server {
    pub port: u16,
    binary: PathBuf,
    dir: PathBuf,
    extra: Vec<String>,
    child: Option<Child>,
}

/// Says that something is not tested, past the test harness, which would keep it to itself.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The servers to test against: (name, binary). Says loudly what is missing.
pub fn binaries() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    match find("redis-server") {
        Some(path) => found.push(("redis-server", path)),
        None => skipped("no redis-server in PATH; nothing was tested against it"),
    }
    match std::env::var_os("HOLDFAST_SERVER_BIN") {
        Some(path) => found.push(("holdfast-server", PathBuf::from(path))),
        None => {
            skipped("HOLDFAST_SERVER_BIN is not set; nothing was tested against holdfast-server")
        }
    }
    found
}

/// Holdfast's program, if there is one to test.
pub fn our_binary() -> Option<PathBuf> {
    let ours = binaries().into_iter().find(|(name, _)| *name == "holdfast-server");
    ours.map(|(_, binary)| binary)
}

/// So many Holdfast servers, if there are any to test.
pub async fn ours(count: usize) -> Option<Vec<Server>> {
    Some(Server::many(&our_binary()?, count).await)
}

/// Waits until no server has the key.
pub async fn nowhere(servers: &[Server], key: &str) {
    eventually_held(servers, key, false).await;
}

/// Waits until every server has the key.
pub async fn everywhere(servers: &[Server], key: &str) {
    eventually_held(servers, key, true).await;
}

async fn eventually_held(servers: &[Server], key: &str, wanted: bool) {
    let what = format!("{key} is {}", if wanted { "on every server" } else { "on no server" });
    super::eventually_async(&what, async || {
        for server in servers {
            if server.holds(key).await != wanted {
                return false;
            }
        }
        true
    })
    .await;
}

pub fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// A port that is free, as is the one 10,000 above it, which a node of a cluster takes for Raft.
/// Both stay below the ports that systems give to outgoing connections.
fn free_port() -> u16 {
    let _ = NEXT_PORT.compare_exchange(
        0,
        12_000 + u16::try_from(std::process::id() % 400).unwrap() * 20,
        Ordering::SeqCst,
        Ordering::SeqCst,
    );
    loop {
        let port = NEXT_PORT.fetch_add(1, Ordering::SeqCst);
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

impl Server {
    pub async fn start(binary: &Path, extra: &[&str]) -> Self {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("redlock-test-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Self {
            port,
            binary: binary.to_owned(),
            dir,
            extra: extra.iter().map(|arg| (*arg).to_owned()).collect(),
            child: None,
        };
        server.start_again().await;
        server
    }

    pub async fn many(binary: &Path, count: usize) -> Vec<Self> {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Self::start(binary, &[]).await);
        }
        servers
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the process and waits until it accepts connections.
    pub async fn start_again(&mut self) {
        let child = Command::new(&self.binary)
            .args(["--port", &self.port.to_string(), "--save", ""])
            .args(&self.extra)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.binary.display()));
        self.child = Some(child);
        let port = self.port;
        super::eventually_async("the server accepts connections", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends a signal to this server and no other process.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command of plain words over a connection of its own; the raw reply.
    pub async fn call(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let mut reply = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut reply)).await;
        reply.truncate(read.expect("a reply").unwrap());
        String::from_utf8_lossy(&reply).into_owned()
    }

    pub async fn holds(&self, key: &str) -> bool {
        self.call(&format!("EXISTS {key}")).await.starts_with(":1")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
