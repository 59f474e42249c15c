//! A Raft cluster of real processes, to be killed, stopped and started again.
//!
//! Each node has two ports and a directory of its own, kept over restarts and gone after the
//! drop. Nodes talk over loopback and know one secret.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Received};
use crate::preload::Environment;
use crate::server::{Kind, free_port};
use crate::wire::Reply;
use crate::{power, slow_disk};

/// What is waited for, an election or a start, takes far less.
const PATIENCE: Duration = Duration::from_secs(30);
/// The secret of clusters made here.
pub const SECRET: &str = "the secret of the tests";

/// Where and how a node runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address.
    pub host: Ipv4Addr,
    /// What its command line begins with.
    pub prefix: Vec<String>,
    /// Whether its disk can be told to dawdle, see [`crate::slow_disk`].
    pub dawdles: bool,
    /// Whether its power can fail, see [`crate::power`].
    pub loses: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST, prefix: Vec::new(), dawdles: false, loses: false }
    }
}

/// One node of a cluster; its process may or may not run.
pub struct Node {
    /// Where clients connect.
    pub port: u16,
    /// Where members connect.
    pub raft_port: u16,
    place: Place,
    dir: PathBuf,
    args: Vec<String>,
    environment: Environment,
    child: Option<Child>,
}

impl Node {
    /// Starts a node that belongs to no cluster yet.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn new(args: &[&str]) -> Self {
        Self::at(&Place::default(), args)
    }

    /// As [`Node::new`], elsewhere.
    ///
    /// # Panics
    /// As [`Node::new`].
    #[must_use]
    pub fn at(place: &Place, args: &[&str]) -> Self {
        Self::begin(place, args, &Vec::new())
    }

    /// As [`Node::new`], with more in its environment.
    ///
    /// # Panics
    /// As [`Node::new`].
    #[must_use]
    pub fn within(environment: &Environment, args: &[&str]) -> Self {
        Self::begin(&Place::default(), args, environment)
    }

    fn begin(place: &Place, args: &[&str], environment: &Environment) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("holdfast-cluster-{}-{serial}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a directory for the node");
        let environment = if place.loses {
            power::environment(&dir).expect("power that can fail")
        } else if place.dawdles {
            slow_disk::environment(&dir).expect("a disk that can dawdle")
        } else {
            environment.clone()
        };
        let mut node = Self {
            port: free_port(),
            raft_port: free_port(),
            place: place.clone(),
            dir,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            environment,
            child: None,
        };
        node.start();
        node
    }

    /// Starts the process again, with the arguments it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(&mut self) {
        self.spawn();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !self.is_alive() {
                break;
            }
            if let Ok(mut client) = Client::connect(self.addr())
                && client.send(&["PING"]).is_ok()
                && let Received::Reply(reply) = client.receive(Duration::from_secs(2))
                && !reply.is_error("LOADING")
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node did not come up; its log:\n{}", self.log());
    }

    /// Starts the process and waits for nothing.
    ///
    /// # Panics
    /// When there is no program to start.
    pub fn spawn(&mut self) {
        let binary = Kind::Ours.binary().expect("the server's binary");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"));
        let log = log.expect("a log file");
        let mut words = self.place.prefix.iter().map(OsString::from).collect::<Vec<_>>();
        words.push(binary.into());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["--port", &self.port.to_string(), "--raft-port", &self.raft_port.to_string()])
            .args(["--bind", &self.place.host.to_string(), "--protected-mode", "no"])
            .args(["--save", "", "--raft", "yes", "--raft-secret", SECRET])
            .args(["--enable-debug-command", "yes"])
            .arg("--dir")
            .arg(&self.dir)
            .args(&self.args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second log handle"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("starting the node"));
    }

    /// Changes the arguments of the next start.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((self.place.host, self.port))
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new connection.
    ///
    /// # Panics
    /// When the node does not accept.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.addr()).expect("connecting to the node")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Whether its process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends the process, and takes back what it has not synced; how many writes that were.
    ///
    /// # Panics
    /// Unless its place says that it can lose.
    pub fn fail_power(&mut self) -> usize {
        assert!(self.place.loses, "a node whose writes are noted");
        self.kill();
        power::fail(&self.dir)
    }

    /// Ends the process with SIGTERM; its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_exit()
    }

    /// Waits until the process has ended by itself; its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self.is_alive() {
            assert!(Instant::now() < deadline, "the node does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.take().and_then(|mut child| child.wait().ok()).and_then(|status| status.code())
    }

    /// Sends a signal (`STOP`, `CONT`, `TERM`).
    ///
    /// # Panics
    /// When there is no process.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a process").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {name} to {pid}");
    }

    /// A field of INFO raft; `None` when the node does not answer.
    #[must_use]
    pub fn info(&self, field: &str) -> Option<String> {
        let mut client = Client::connect(self.addr()).ok()?;
        client.send(&["INFO", "raft"]).ok()?;
        let Received::Reply(reply) = client.receive(Duration::from_secs(1)) else { return None };
        let text = reply.text();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.to_owned())
    }

    /// A number of INFO raft; 0 when the node does not answer.
    #[must_use]
    pub fn number(&self, field: &str) -> u64 {
        self.info(field).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(15).collect();
            for line in tail.iter().rev() {
                eprintln!("[{}] {line}", self.port);
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
        power::clean(&self.dir);
    }
}

/// Several nodes that form a cluster.
pub struct Cluster {
    /// The nodes, in the order in which they came.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts and forms a cluster.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn new(count: usize, args: &[&str]) -> Self {
        Self::at(&vec![Place::default(); count], args)
    }

    /// As [`Cluster::new`], with a node at each place.
    ///
    /// # Panics
    /// As [`Cluster::new`], and without a place.
    #[must_use]
    pub fn at(places: &[Place], args: &[&str]) -> Self {
        Self::form(places.iter().map(|place| Node::at(place, args)))
    }

    /// Forms a cluster of new nodes, each of which joins before the next one is made.
    ///
    /// # Panics
    /// When that fails, and without a node.
    #[must_use]
    pub fn form(mut nodes: impl Iterator<Item = Node>) -> Self {
        let mut cluster = Self { nodes: vec![nodes.next().expect("a node")] };
        let reply = cluster.nodes[0].client().line("RAFT.CLUSTER INIT");
        assert!(reply.text().starts_with("OK"), "INIT: {reply:?}");
        for node in nodes {
            cluster.join_new(node);
        }
        cluster
    }

    /// Starts another node and lets it join; its place.
    ///
    /// # Panics
    /// When that fails.
    pub fn add(&mut self, args: &[&str]) -> usize {
        self.join_new(Node::new(args))
    }

    fn join_new(&mut self, node: Node) -> usize {
        let reply = self.join(&node);
        assert!(reply.text().starts_with("OK"), "JOIN: {reply:?}");
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// What RAFT.CLUSTER JOIN answers on `node`.
    ///
    /// # Panics
    /// When there is no leader.
    #[must_use]
    pub fn join(&mut self, node: &Node) -> Reply {
        let leader = self.leader();
        let target = self.nodes[leader].addr().to_string();
        node.client().cmd(&["RAFT.CLUSTER", "JOIN", &target])
    }

    /// The place of the node that leads in the latest term and hears a majority.
    ///
    /// # Panics
    /// When there is none for long.
    #[must_use]
    pub fn leader(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut best = None;
            for place in 0..self.nodes.len() {
                let node = &mut self.nodes[place];
                if node.is_alive()
                    && node.info("raft_role").as_deref() == Some("leader")
                    && node.info("raft_quorum").as_deref() == Some("yes")
                {
                    best = best.max(Some((node.number("raft_term"), place)));
                }
            }
            if let Some((_, place)) = best {
                return place;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no node leads");
    }

    /// A connection to the leader.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn client(&mut self) -> Client {
        let leader = self.leader();
        self.nodes[leader].client()
    }

    /// Waits until all nodes that run have applied what the leader has.
    ///
    /// # Panics
    /// When they do not.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader();
            let index = self.nodes[leader].number("raft_last_index");
            let even = self.nodes.iter_mut().filter_map(|node| node.is_alive().then_some(&*node));
            let applied: Vec<u64> = even.map(|node| node.number("raft_applied_index")).collect();
            if applied.iter().all(|applied| *applied == index) {
                return;
            }
            assert!(Instant::now() < deadline, "applied {applied:?} of {index}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// That all nodes that run hold the same data.
    ///
    /// # Panics
    /// When they do not.
    pub fn assert_alike(&mut self) {
        self.settle();
        let running = self.nodes.iter_mut().filter_map(|node| node.is_alive().then_some(&*node));
        let digests: Vec<String> =
            running.map(|node| node.client().line("DEBUG DIGEST").text()).collect();
        let all_alike = digests.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(all_alike, "replicas differ: {digests:?}");
    }
}
