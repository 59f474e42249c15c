//! Servers, links, clients and what they said.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_tests::server::{Kind, Server};
use tokio::runtime::Runtime;

use crate::clock::Draw;
use crate::history::{Event, What};
use crate::proxy::Link;
use crate::store::{Register, Store, UNFENCED};
use crate::{Mutant, Plan};

/// How many groups of clients have links of their own: what one is cut off from the other may reach.
pub(crate) const GROUPS: usize = 2;

/// How a server keeps what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// In memory: a crash loses all locks, and the next start begins with a quarantine.
    Memory,
    /// In a journal that is synced every second.
    EverySecond,
    /// In a journal that is synced before each reply.
    Always,
}

impl Keeping {
    const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &[],
            Self::EverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::Always => &["--appendonly", "yes", "--appendfsync", "always"],
        }
    }
}

/// A client's process.
#[derive(Debug)]
struct Worker {
    child: Child,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// Everything that runs.
pub(crate) struct Rig {
    pub(crate) draw: Draw,
    pub(crate) plan: Plan,
    servers: Vec<Server>,
    keeping: Vec<Keeping>,
    /// By group, then by server.
    links: Vec<Vec<Arc<Link>>>,
    store: Arc<Store>,
    store_addr: SocketAddr,
    workers: BTreeMap<u64, Worker>,
    next_worker: u64,
    events: Arc<Mutex<Vec<Event>>>,
    faults: BTreeMap<&'static str, u64>,
}

impl Rig {
    pub(crate) fn start(plan: &Plan, seed: u64, runtime: &Runtime) -> Result<Self, String> {
        if Kind::Ours.binary().is_none() {
            return Err("no holdfast-server: build it, or name it in HOLDFAST_SERVER_BIN".into());
        }
        let mut draw = Draw::new(seed);
        let ways = [Keeping::Memory, Keeping::EverySecond, Keeping::Always];
        let mut keeping: Vec<_> =
            (0..plan.nodes).map(|_| ways[draw.below(ways.len() as u64) as usize]).collect();
        if plan.mutant == Some(Mutant::NoQuarantine) {
            keeping.fill(Keeping::Memory);
        }
        let text = |error: std::io::Error| error.to_string();
        let servers: Vec<_> = keeping
            .iter()
            .map(|keeping| Server::start(Kind::Ours, &Self::args(*keeping, plan, &[])))
            .collect();
        let store = Arc::new(Store::new(plan.mutant != Some(Mutant::NoFencing)));
        let store_addr = runtime.block_on(Arc::clone(&store).serve()).map_err(text)?;
        let mut links = Vec::new();
        for _ in 0..GROUPS {
            let mut row = Vec::new();
            for server in &servers {
                row.push(runtime.block_on(Link::open(server.addr())).map_err(text)?);
            }
            links.push(row);
        }
        println!("servers keep their locks: {keeping:?}");
        Ok(Self {
            draw,
            plan: plan.clone(),
            servers,
            keeping,
            links,
            store,
            store_addr,
            workers: BTreeMap::new(),
            next_worker: 1,
            events: Arc::default(),
            faults: BTreeMap::new(),
        })
    }

    fn args<'a>(keeping: Keeping, plan: &Plan, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = keeping.args().to_vec();
        if plan.mutant == Some(Mutant::NoQuarantine) {
            args.extend(["--lock-quarantine", "no"]);
        }
        args.extend(more);
        args
    }

    /// The locks in play, the one without a check last.
    pub(crate) fn resources() -> Vec<String> {
        vec!["fenced:0".to_owned(), "fenced:1".to_owned(), UNFENCED.to_owned()]
    }

    pub(crate) fn node_count(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn server(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    pub(crate) fn link(&self, group: usize, server: usize) -> &Arc<Link> {
        &self.links[group][server]
    }

    /// All links of one server.
    pub(crate) fn links_of(&self, server: usize) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter().map(move |row| &row[server])
    }

    pub(crate) fn heal_links(&self) {
        for link in self.links.iter().flatten() {
            link.heal();
        }
    }

    /// Starts a client; its number. `resource` has it take that lock once, thinking for `think_ms`.
    pub(crate) fn start_worker(&mut self, resource: Option<(&str, u64)>) -> Result<u64, String> {
        let client = self.next_worker;
        self.next_worker += 1;
        let group = client as usize % GROUPS;
        let nodes: Vec<String> =
            self.links[group].iter().map(|link| link.addr.to_string()).collect();
        let exe = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(exe);
        command.args(["worker", "--client", &client.to_string()]);
        command.args(["--nodes", &nodes.join(","), "--store", &self.store_addr.to_string()]);
        command.args(["--ttl-ms", &self.plan.ttl_ms.to_string()]);
        command.args(["--seed", &self.draw.next().to_string()]);
        match resource {
            Some((resource, think_ms)) => command
                .args(["--resources", resource, "--think-ms", &think_ms.to_string()])
                .arg("--once"),
            None => command.args(["--resources", &Self::resources().join(","), "--think-ms", "60"]),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("starting a client: {error}"))?;
        let reader = child.stdout.take().map(|out| {
            let events = Arc::clone(&self.events);
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    // A killed client may leave half a line; it is no event.
                    if let Ok(event) = line.parse() {
                        events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                    }
                }
            })
        });
        self.workers.insert(client, Worker { child, reader });
        Ok(client)
    }

    /// One of the clients, drawn.
    pub(crate) fn any_worker(&mut self) -> Option<u64> {
        let nth = self.draw.below((self.workers.len() as u64).max(1)) as usize;
        self.workers.keys().nth(nth).copied()
    }

    pub(crate) fn signal_worker(&self, client: u64, name: &str) {
        if let Some(worker) = self.workers.get(&client) {
            signal(worker.child.id(), name);
        }
    }

    pub(crate) fn kill_worker(&mut self, client: u64) {
        if let Some(mut worker) = self.workers.remove(&client) {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
            if let Some(reader) = worker.reader.take() {
                let _ = reader.join();
            }
        }
    }

    /// Crashes a server.
    pub(crate) fn crash(&mut self, index: usize) {
        self.servers[index].crash();
    }

    /// Starts a server again with what it had, or with nothing, as after the loss of its disk; then
    /// its operator makes it wait for as long as a lock may last.
    pub(crate) fn start_again(&mut self, index: usize, empty: bool) -> Result<(), String> {
        let quarantine_ms = (self.plan.ttl_ms + self.plan.ttl_ms / 10).to_string();
        let mut more = Vec::new();
        let server = &mut self.servers[index];
        if empty {
            server.crash();
            for entry in std::fs::read_dir(server.dir()).into_iter().flatten().flatten() {
                let path = entry.path();
                let _ = match path.is_dir() {
                    true => std::fs::remove_dir_all(&path),
                    false => std::fs::remove_file(&path),
                };
            }
            if self.plan.mutant != Some(Mutant::NoQuarantine) {
                more = vec!["--lock-quarantine", &quarantine_ms];
            }
        }
        let args = Self::args(self.keeping[index], &self.plan, &more);
        self.servers[index].start_again(&args)
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all clients have said.
    pub(crate) fn history(&self) -> Vec<Event> {
        self.events().clone()
    }

    pub(crate) fn registers(&self) -> BTreeMap<String, Register> {
        self.store.registers()
    }

    /// Counts a fault for the table.
    pub(crate) fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) const fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    /// Waits until `wanted` is in the history; whether it came in time.
    pub(crate) fn wait_for(&self, wait: Duration, wanted: impl Fn(&Event) -> bool) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.events().iter().any(&wanted) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until each lock has been taken by somebody after `since`; the names of those that were not.
    pub(crate) fn wait_all_taken(&self, since: u64, wait: Duration) -> Vec<String> {
        let mut left = Self::resources();
        left.retain(|resource| {
            !self.wait_for(wait, |event| {
                event.at > since
                    && event.resource == *resource
                    && matches!(event.what, What::Holds { .. })
            })
        });
        left
    }

    /// Ends all clients without a warning; then nothing may be left of them after the TTL and a second.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.heal_links();
        // What was held up arrives while its senders still are there.
        std::thread::sleep(Duration::from_millis(500));
        let clients: Vec<u64> = self.workers.keys().copied().collect();
        for client in &clients {
            self.signal_worker(*client, "CONT");
            self.kill_worker(*client);
        }
        std::thread::sleep(Duration::from_millis(self.plan.ttl_ms + self.plan.ttl_ms / 20 + 1000));
        let mut violations = Vec::new();
        for server in &self.servers {
            let mut client = server.client();
            let left = client.line("LOCK.LIST 0 COUNT 1000");
            let keys = client.line("DBSIZE");
            if keys.int() != 0 {
                violations.push(format!(
                    "I6: a second after every TTL {} still holds {} key(s): {left:?}",
                    server.addr(),
                    keys.int()
                ));
            }
        }
        violations
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    if !sent.is_ok_and(|status| status.success()) {
        eprintln!("lock-torture: could not send SIG{name} to {pid}");
    }
}
