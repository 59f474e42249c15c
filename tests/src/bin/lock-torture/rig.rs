//! Servers, links, clients and what they said.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_tests::preload::Environment;
use holdfast_tests::server::Kind;
use holdfast_tests::wire::Reply;
use holdfast_tests::{skip_loudly, wall_clock};
use tokio::runtime::Runtime;

use crate::clock::Draw;
use crate::history::{Event, What};
use crate::host::{Host, Keeping, Servers, disturbed};
use crate::proxy::Link;
use crate::store::{Register, Store, UNFENCED};
use crate::{Mutant, Plan};

/// How many groups of clients have links of their own: what one is cut off from the other may reach.
pub(crate) const GROUPS: usize = 2;

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
    hosts: Vec<Host>,
    controls: Controls,
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
        // What is forgotten and must be missed was nowhere but in memory.
        let servers = match plan.mutant {
            Some(Mutant::NoQuarantine | Mutant::VolatileCounter) => Servers::Memory,
            _ => plan.servers,
        };
        let keeping: Vec<_> = (0..plan.nodes).map(|_| Keeping::of(servers, &mut draw)).collect();
        println!("servers keep their locks: {keeping:?}");
        let controls = Controls::new(plan.nodes);
        let hosts = match servers {
            Servers::Raft => Host::members((0..plan.nodes).map(|n| controls.server(n)).collect()),
            _ => {
                let no_quarantine = plan.mutant == Some(Mutant::NoQuarantine);
                let hosts = keeping.into_iter().enumerate();
                hosts.map(|(n, way)| Host::alone(way, controls.server(n), no_quarantine)).collect()
            }
        };
        let text = |error: std::io::Error| error.to_string();
        let store = Arc::new(Store::new(plan.mutant != Some(Mutant::NoFencing)));
        let store_addr = runtime.block_on(Arc::clone(&store).serve()).map_err(text)?;
        let mut links = Vec::new();
        for _ in 0..GROUPS {
            let mut row = Vec::new();
            for host in &hosts {
                row.push(runtime.block_on(Link::open(host.addr())).map_err(text)?);
            }
            links.push(row);
        }
        Ok(Self {
            draw,
            plan: Plan { servers, ..plan.clone() },
            hosts,
            controls,
            links,
            store,
            store_addr,
            workers: BTreeMap::new(),
            next_worker: 1,
            events: Arc::default(),
            faults: BTreeMap::new(),
        })
    }

    /// The locks in play, the one without a check last.
    pub(crate) fn resources() -> Vec<String> {
        vec!["fenced:0".to_owned(), "fenced:1".to_owned(), UNFENCED.to_owned()]
    }

    pub(crate) fn node_count(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn host(&mut self, index: usize) -> &mut Host {
        &mut self.hosts[index]
    }

    /// A server and what numbers are drawn from.
    pub(crate) fn host_and_draw(&mut self, index: usize) -> (&mut Host, &mut Draw) {
        (&mut self.hosts[index], &mut self.draw)
    }

    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Whether disks and clocks can be disturbed.
    pub(crate) const fn can_disturb(&self) -> bool {
        self.controls.work
    }

    /// Sets the wall clock of a group's clients so many seconds ahead of the machine's.
    pub(crate) fn set_wall_clock_of_clients(&self, group: usize, seconds: i64) {
        if let Some((dir, _)) = self.controls.group(group) {
            wall_clock::set(&dir, seconds);
        }
    }

    pub(crate) fn link(&self, group: usize, server: usize) -> &Arc<Link> {
        &self.links[group][server]
    }

    /// All links of one server.
    pub(crate) fn links_of(&self, server: usize) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter().map(move |row| &row[server])
    }

    /// Puts links right.
    pub(crate) fn heal(&self) {
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
        command.args((self.plan.servers == Servers::Raft).then_some("--cluster"));
        if let Some((_, environment)) = self.controls.group(group) {
            command.envs(environment);
        }
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

    /// Crashes a server and takes all its files. Its operator lets it wait for as long as a lock may
    /// last, and its tokens begin above all that anybody has.
    pub(crate) fn lose_disk(&mut self, index: usize) {
        /// Servers reserve a million tokens at each start, of which nobody may have heard.
        const UNHEARD_OF: u64 = 1 << 23;
        let quarantine = Duration::from_millis(self.plan.ttl_ms + self.plan.ttl_ms / 10);
        let tokens = self.events().iter().filter_map(Event::token).max();
        let above = tokens.unwrap_or_default() + UNHEARD_OF;
        let floor = (self.plan.mutant != Some(Mutant::VolatileCounter)).then_some(above);
        self.hosts[index].crash();
        self.hosts[index].lose_disk(quarantine, floor);
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
        self.heal();
        // What was held up arrives while its senders still are there.
        std::thread::sleep(Duration::from_millis(500));
        let clients: Vec<u64> = self.workers.keys().copied().collect();
        for client in &clients {
            self.signal_worker(*client, "CONT");
            self.kill_worker(*client);
        }
        std::thread::sleep(Duration::from_millis(self.plan.ttl_ms + self.plan.ttl_ms / 20 + 1000));
        let mut violations = Vec::new();
        for host in &self.hosts {
            let mut client = match host.client() {
                Ok(client) => client,
                Err(error) => {
                    violations.push(format!("a server is gone: {error}"));
                    continue;
                }
            };
            let left = client.line("LOCK.LIST 0 COUNT 1000");
            let keys = client.line("DBSIZE");
            if keys != Reply::Int(0) {
                violations.push(format!(
                    "I6: a second after every TTL {} still holds {keys:?} key(s): {left:?}",
                    host.addr()
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

/// Where servers and groups of clients are told what their disks and clocks do; gone after the drop.
struct Controls {
    root: PathBuf,
    work: bool,
    servers: Vec<Environment>,
    groups: Vec<Environment>,
}

impl Controls {
    fn new(servers: usize) -> Self {
        let name = format!("holdfast-lock-torture-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let made = |what: &'static str, count: usize| {
            (0..count).map(|n| disturbed(&root.join(format!("{what}-{n}")))).collect()
        };
        let (servers, groups): (Result<Vec<_>, _>, Result<Vec<_>, _>) =
            (made("server", servers), made("clients", GROUPS));
        match (servers, groups) {
            (Ok(servers), Ok(groups)) => Self { root, work: true, servers, groups },
            (Err(why), _) | (_, Err(why)) => {
                skip_loudly(&format!("clocks that are set, disks that dawdle or lose: {why}"));
                Self { root, work: false, servers: Vec::new(), groups: Vec::new() }
            }
        }
    }

    fn server(&self, index: usize) -> Option<(PathBuf, Environment)> {
        let environment = self.servers.get(index)?.clone();
        Some((self.root.join(format!("server-{index}")), environment))
    }

    fn group(&self, index: usize) -> Option<(PathBuf, Environment)> {
        let environment = self.groups.get(index)?.clone();
        Some((self.root.join(format!("clients-{index}")), environment))
    }
}

impl Drop for Controls {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
