//! One client, a process of its own, so that it can be stopped or killed at any instruction.
//!
//! It takes a lock, reads the register that the lock guards, thinks, writes one more, and gives the lock
//! up; and prints each step as it does it. It looks at no deadline before it writes: a client that has
//! been paused does not know that it has, and the register's check of the token must be enough.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use redlock_client::{Error, Guarantee, Guard, RedLock, Retry};

use crate::clock::{Draw, now_ns};
use crate::history::{Event, What};
use crate::store::Access;

/// What a client is to do.
#[derive(clap::Args, Debug)]
pub(crate) struct Orders {
    #[arg(long)]
    client: u64,
    /// Addresses of the nodes, with commas between
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<SocketAddr>,
    /// The nodes are members of one cluster
    #[arg(long)]
    cluster: bool,
    #[arg(long)]
    store: SocketAddr,
    #[arg(long, value_delimiter = ',')]
    resources: Vec<String>,
    #[arg(long)]
    ttl_ms: u64,
    /// How long it thinks between reading and writing, at most, ms
    #[arg(long)]
    think_ms: u64,
    /// Thinks for just so long, and takes the lock once
    #[arg(long)]
    once: bool,
    #[arg(long)]
    seed: u64,
}

struct Worker {
    orders: Orders,
    draw: Draw,
    attempt: u64,
}

/// Does what it is told until it is killed, or loses the rig.
pub(crate) async fn run(orders: Orders) {
    // An orphan must not go on: the rig holds the other end of our standard input.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let urls = orders.nodes.iter().map(|node| format!("redis://{node}"));
    let client =
        RedLock::builder().nodes(urls).retry(Retry::jittered(3, Duration::from_millis(60)));
    let client = match orders.cluster {
        true => client.cluster().node_timeout(Duration::from_secs(1)),
        false => client.node_timeout(Duration::from_millis(250)),
    };
    let client = client.build();
    let (client, store) = match (client, Access::connect(orders.store).await) {
        (Ok(client), Ok(store)) => (client, store),
        (client, store) => {
            eprintln!("worker: {:?} {:?}", client.err(), store.err());
            std::process::exit(1);
        }
    };
    let draw = Draw::new(orders.seed);
    let mut worker = Worker { orders, draw, attempt: 0 };
    let mut store = store;
    loop {
        let at = worker.draw.below(worker.orders.resources.len() as u64) as usize;
        let resource = worker.orders.resources[at].clone();
        let done = worker.work(&client, &mut store, &resource).await;
        if done && worker.orders.once {
            return;
        }
    }
}

impl Worker {
    fn tell(&self, resource: &str, at: u64, what: What) {
        let client = self.orders.client;
        let event =
            Event { client, attempt: self.attempt, resource: resource.to_owned(), at, what };
        // One write for the line: it is there whole or not at all.
        let line = format!("{event}\n");
        let mut out = std::io::stdout().lock();
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// One turn; whether it had the lock.
    async fn work(&mut self, client: &RedLock, store: &mut Access, resource: &str) -> bool {
        self.attempt += 1;
        let ttl = Duration::from_millis(self.orders.ttl_ms);
        let guarantee = match self.orders.cluster {
            true => Guarantee::Linearizable,
            false => Guarantee::FencedQuorum,
        };
        let lock = client.lock(resource, ttl).require(guarantee);
        self.tell(resource, now_ns(), What::Asks);
        let before = tokio::time::Instant::now() + Duration::from_secs(3);
        let mut guard = match lock.acquire_before(before).await {
            Ok(guard) => guard,
            Err(error) => {
                self.tell(resource, now_ns(), What::Fails { why: word(&error).to_owned() });
                return false;
            }
        };
        // The clock first: so the deadline comes out early rather than late.
        let at = now_ns();
        let deadline = at + guard.remaining().as_nanos() as u64;
        let token = guard.token().unwrap_or_default();
        self.tell(resource, at, What::Holds { token, deadline });
        self.use_it(&mut guard, store, resource, token, ttl).await;
        self.tell(resource, now_ns(), What::Releases);
        let _ = guard.release().await;
        true
    }

    async fn use_it(
        &mut self,
        guard: &mut Guard,
        store: &mut Access,
        resource: &str,
        token: u64,
        ttl: Duration,
    ) {
        let value = match store.read(resource, token).await {
            Ok(Some(value)) => value,
            Ok(None) => return self.tell(resource, now_ns(), What::Refused),
            Err(_) => std::process::exit(0),
        };
        let think_ms = match self.orders.once {
            true => self.orders.think_ms,
            // Some hold it for most of its time, so that much can happen to it meanwhile.
            false if self.draw.below(12) == 0 => self.orders.ttl_ms * 3 / 4,
            false => self.draw.between(0, self.orders.think_ms),
        };
        tokio::time::sleep(Duration::from_millis(think_ms)).await;
        if self.draw.below(4) == 0 && guard.extend(ttl).await.is_ok() {
            let at = now_ns();
            let deadline = at + guard.remaining().as_nanos() as u64;
            self.tell(resource, at, What::Extends { deadline });
            tokio::time::sleep(Duration::from_millis(self.draw.between(0, 20))).await;
        }
        match store.write(resource, token, value + 1).await {
            Ok(true) => self.tell(resource, now_ns(), What::Wrote),
            Ok(false) => self.tell(resource, now_ns(), What::Refused),
            Err(_) => std::process::exit(0),
        }
    }
}

/// A word for an error, for the table.
fn word(error: &Error) -> &'static str {
    match error {
        Error::Contended { .. } => "contended",
        Error::Unreachable { .. } => "unreachable",
        Error::TooSlow { .. } => "too-slow",
        Error::Quarantined { .. } => "quarantined",
        Error::Lost => "lost",
        _ => "other",
    }
}
