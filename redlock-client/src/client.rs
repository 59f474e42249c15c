//! The client: its nodes, its settings, and asking all nodes at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::election::Election;
use crate::error::Error;
use crate::lock::Lock;
use crate::net::address::{Address, Endpoint};
use crate::net::claim::Claim;
use crate::net::command::{Dialect, Outcomes, Request, Verb};
use crate::net::node::{LastDialect, Node, NodeConfig, NodeKind};
use crate::net::tls::Tls;
use crate::retry::Retry;
use crate::round::{Round, Tally};
use crate::stats::{Counters, Stats};

const NODE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(50);
/// A cluster has to sync what it answers, and to elect a leader now and then.
const CLUSTER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// Connecting takes several round trips, and may have to resolve a name.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// A node that takes longer to answer is not one to take locks on.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Shortest default silence after which a connection is given up.
const SILENCE_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// A node that is only slow now and then should keep its connection.
const SILENCE_PER_NODE_TIMEOUT: u32 = 10;

/// A client of N independent servers that takes locks on a majority of them.
///
/// Cheap to clone; clones share connections and counters. Connections are made when first needed, by
/// tasks on the tokio runtime (with I/O and time enabled) on which that happens, so use one client per
/// runtime. Keep the set of nodes the same in every client: two clients with different sets may both
/// find a majority.
#[derive(Clone)]
pub struct RedLock {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    nodes: Vec<Node>,
    pub(crate) node_timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) counters: Arc<Counters>,
}

impl RedLock {
    /// Starts to describe a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Names a resource to lock for `ttl` at a time. Nothing is sent before it is acquired.
    pub fn lock(&self, key: impl Into<Vec<u8>>, ttl: Duration) -> Lock {
        self.lock_many([key], ttl)
    }

    /// Names several resources to lock together, all or none.
    ///
    /// Each node takes all of them in one step or none of them, so two callers naming the same
    /// resources in different order cannot block one another. A resource named twice counts once.
    pub fn lock_many<K: Into<Vec<u8>>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        ttl: Duration,
    ) -> Lock {
        let mut keys: Vec<Bytes> = keys.into_iter().map(|key| Bytes::from(key.into())).collect();
        keys.sort_unstable();
        keys.dedup();
        Lock::new(self.clone(), keys, ttl)
    }

    /// Names an election for an office that is held for `ttl` at a time. Nothing is sent yet.
    pub fn election(&self, name: impl Into<Vec<u8>>, ttl: Duration) -> Election {
        Election::new(self.clone(), name.into(), ttl)
    }

    /// Reads the counters.
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.shared.nodes.len()
    }
}

impl fmt::Debug for RedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedLock")
            .field("nodes", &self.shared.labels())
            .field("node_timeout", &self.shared.node_timeout)
            .field("retry", &self.shared.retry)
            .finish()
    }
}

impl Shared {
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn labels(&self) -> Vec<&str> {
        self.nodes.iter().map(Node::label).collect()
    }

    /// Sends one request to every node. All are queued when this returns.
    pub(crate) fn ask(&self, verb: Verb, claim: &Arc<Claim>, timeout: Duration) -> Round {
        let (outcomes, answers) = mpsc::unbounded_channel();
        let deadline = Instant::now() + timeout;
        for node in 0..self.nodes.len() {
            self.tell(node, verb, claim, deadline, Some(outcomes.clone()));
        }
        Round { tally: Tally::new(self.nodes.len(), claim.quorum()), answers, deadline }
    }

    /// Sends one request to one node; the outcome goes to `outcomes`, if anywhere.
    pub(crate) fn tell(
        &self,
        node: usize,
        verb: Verb,
        claim: &Arc<Claim>,
        deadline: Instant,
        outcomes: Option<Outcomes>,
    ) {
        self.nodes[node].send(Request {
            verb,
            claim: Arc::clone(claim),
            node,
            deadline,
            outcomes,
            permit: None,
        });
    }

    /// Whether the one node is a Raft cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.nodes[0].config().kind == NodeKind::Cluster
    }

    /// What each node spoke last.
    pub(crate) fn dialects(&self) -> Vec<Option<Dialect>> {
        self.nodes.iter().map(|node| node.config().dialect.get()).collect()
    }

    pub(crate) fn node_config(&self, node: usize) -> &Arc<NodeConfig> {
        self.nodes[node].config()
    }
}

/// Describes a [`RedLock`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    kind: NodeKind,
    node_timeout: Option<Duration>,
    connect_timeout: Duration,
    silence_timeout: Option<Duration>,
    retry: Retry,
    tls: Option<Tls>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            kind: NodeKind::Server,
            node_timeout: None,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            silence_timeout: None,
            retry: Retry::default(),
            tls: None,
        }
    }
}

impl Builder {
    /// Adds one node.
    ///
    /// `redis://[[user]:password@]host[:port][/database]`, `rediss://…` for TLS, or
    /// `unix:///path[?db=n&user=u&pass=p]`; IPv6 addresses in brackets; special characters in
    /// credentials percent-encoded. `?protocol=resp3` says HELLO 3 at the start.
    pub fn node(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Adds several nodes; see [`node`](Self::node).
    pub fn nodes<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.urls.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Takes all that was named as the members of one Raft cluster of Holdfast servers, not as independent
    /// servers: its locks are [`Guarantee::Linearizable`](crate::Guarantee::Linearizable).
    ///
    /// The client talks to the member that leads, and looks for the new leader when that one goes.
    /// It is enough to name some of the members.
    pub fn cluster(mut self) -> Self {
        self.kind = NodeKind::Cluster;
        self
    }

    /// How long to wait for any one node in one attempt; 50 ms by default, 2 s for a cluster. Keep it far
    /// below the TTL: never more than half the TTL is spent waiting, whatever is set here.
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = Some(timeout);
        self
    }

    /// How long making a connection may take, in the background; 1 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// After how long a connection that owes answers and sends nothing is given up and made anew; ten
    /// times the node timeout by default, and at least 500 ms.
    pub fn silence_timeout(mut self, timeout: Duration) -> Self {
        self.silence_timeout = Some(timeout);
        self
    }

    /// When to try again; three times, about 200 ms apart, by default.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What `rediss://` nodes must prove; the system's certificate authorities by default.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Checks the settings. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] that says which setting is wrong.
    pub fn build(self) -> Result<RedLock, Error> {
        if self.urls.is_empty() {
            return Err(Error::Config(
                "no nodes: name at least one, and three or five for a lock that survives failures"
                    .to_owned(),
            ));
        }
        let node_timeout = self.node_timeout.unwrap_or(match self.kind {
            NodeKind::Server => NODE_TIMEOUT_DEFAULT,
            NodeKind::Cluster => CLUSTER_TIMEOUT_DEFAULT,
        });
        for (name, timeout) in [
            ("node_timeout", Some(node_timeout)),
            ("connect_timeout", Some(self.connect_timeout)),
            ("silence_timeout", self.silence_timeout),
        ] {
            if timeout.is_some_and(|timeout| timeout.is_zero() || timeout > TIMEOUT_MAX) {
                return Err(Error::Config(format!(
                    "{name} is {timeout:?}: use more than zero, and at most {TIMEOUT_MAX:?}"
                )));
            }
        }
        let mut addresses: Vec<Address> = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            let address = Address::parse(url)?;
            if addresses.iter().any(|known| known.endpoint == address.endpoint) {
                return Err(Error::Config(format!(
                    "node {address} is named twice: a server counted twice is no majority"
                )));
            }
            addresses.push(address);
        }
        let wants_tls = addresses.iter().any(|a| matches!(a.endpoint, Endpoint::Tls { .. }));
        let tls = match self.tls {
            Some(tls) => Some(tls),
            None if wants_tls => Some(Tls::system()?),
            None => None,
        };
        let silence_default = match self.kind {
            NodeKind::Server => node_timeout * SILENCE_PER_NODE_TIMEOUT,
            // The sooner given up, the sooner the new leader is looked for.
            NodeKind::Cluster => node_timeout,
        };
        let silence_timeout =
            self.silence_timeout.unwrap_or(silence_default.max(SILENCE_TIMEOUT_MIN));
        let counters = Arc::new(Counters::default());
        let node = |addresses: Vec<Address>| {
            let labels: Vec<String> = addresses.iter().map(Address::to_string).collect();
            Node::new(NodeConfig {
                label: labels.join(","),
                addresses,
                kind: self.kind,
                dialect: LastDialect::default(),
                tls: tls.as_ref().map(Tls::config),
                connect_timeout: self.connect_timeout,
                silence_timeout,
                counters: Arc::clone(&counters),
            })
        };
        let nodes = match self.kind {
            NodeKind::Cluster => vec![node(addresses)],
            NodeKind::Server => addresses.into_iter().map(|address| node(vec![address])).collect(),
        };
        Ok(RedLock {
            shared: Arc::new(Shared { nodes, node_timeout, retry: self.retry, counters }),
        })
    }
}
