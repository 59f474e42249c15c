//! The servers: started, killed, and started again with nothing.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Failure;
use crate::options::Options;

/// From this many on, a majority is left when two are away at once.
pub(crate) const NODES_FOR_OUTAGE: u16 = 5;
const START_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) struct Servers<'a> {
    options: &'a Options,
    children: Vec<Option<Child>>,
}

impl<'a> Servers<'a> {
    pub(crate) async fn start(options: &'a Options) -> Result<Self, Failure> {
        let mut servers = Self { options, children: Vec::new() };
        for node in 0..usize::from(options.nodes) {
            servers.children.push(None);
            servers.restart(node).await?;
        }
        Ok(servers)
    }

    fn port(&self, node: usize) -> u16 {
        // There are no more nodes than fit into the type their number came in.
        self.options.port_base + u16::try_from(node).unwrap_or(u16::MAX)
    }

    pub(crate) fn last_port(&self) -> u16 {
        self.port(self.children.len() - 1)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        (0..self.children.len())
            .map(|node| format!("redis://127.0.0.1:{}", self.port(node)))
            .collect()
    }

    /// Ends the process at once, as a crash would.
    pub(crate) async fn kill(&mut self, node: usize) -> Result<(), Failure> {
        if let Some(mut child) = self.children[node].take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts the server in an empty directory and waits until it answers.
    pub(crate) async fn restart(&mut self, node: usize) -> Result<(), Failure> {
        let port = self.port(node);
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Err(format!(
                "something already listens on port {port}: choose another --port-base"
            )
            .into());
        }
        let dir = self.options.dir.join(format!("server-{}", node + 1));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let log = File::create(dir.join("log"))?;
        let mut child = Command::new(&self.options.server_bin)
            .args(["--port", &port.to_string(), "--save", ""])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", self.options.server_bin.display()))?;
        if let Some(id) = child.id() {
            let mut pids =
                OpenOptions::new().create(true).append(true).open(self.options.pids())?;
            writeln!(pids, "{id}")?;
        }
        let start = Instant::now();
        while !answers(port).await {
            if let Some(status) = child.try_wait()? {
                return Err(format!(
                    "server {} ended at once: {status}; see {}",
                    node + 1,
                    dir.display()
                )
                .into());
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(
                    format!("server {} does not answer; see {}", node + 1, dir.display()).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.children[node] = Some(child);
        Ok(())
    }

    /// How many are down.
    pub(crate) fn down(&self) -> usize {
        self.children.iter().filter(|child| child.is_none()).count()
    }

    /// Which are up, for the progress line.
    pub(crate) fn picture(&self) -> String {
        self.children
            .iter()
            .enumerate()
            .map(|(node, child)| match child {
                Some(_) => format!("{} ", node + 1),
                None => "- ".to_owned(),
            })
            .collect()
    }
}

async fn answers(port: u16) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).await.ok()?;
        Some(&reply == b"+PONG\r\n")
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), exchange).await;
    matches!(answer, Ok(Some(true)))
}
