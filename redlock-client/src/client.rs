//! The client: its nodes, its settings, and asking all nodes at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::Error;
use crate::lock::Lock;
use crate::net::address::{Address, Endpoint};
use crate::net::command::{Claim, Request, Verb};
use crate::net::node::{Node, NodeConfig};
use crate::net::tls::Tls;
use crate::retry::Retry;
use crate::round::{Round, Tally};
use crate::stats::{Counters, Stats};

const NODE_TIMEOUT_DEFAULT: Duration = Duration::from_millis(50);
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
        for (index, node) in self.nodes.iter().enumerate() {
            node.send(Request {
                verb,
                claim: Arc::clone(claim),
                node: index,
                deadline,
                outcomes: Some(outcomes.clone()),
                permit: None,
            });
        }
        Round { tally: Tally::new(self.nodes.len()), answers, deadline }
    }

    /// Sends one request to one node and does not listen for the outcome.
    pub(crate) fn tell(&self, node: usize, verb: Verb, claim: &Arc<Claim>, timeout: Duration) {
        self.nodes[node].send(Request {
            verb,
            claim: Arc::clone(claim),
            node,
            deadline: Instant::now() + timeout,
            outcomes: None,
            permit: None,
        });
    }
}

/// Describes a [`RedLock`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    node_timeout: Duration,
    connect_timeout: Duration,
    silence_timeout: Option<Duration>,
    retry: Retry,
    tls: Option<Tls>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            node_timeout: NODE_TIMEOUT_DEFAULT,
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

    /// How long to wait for any one node in one attempt; 50 ms by default. Keep it far below the TTL:
    /// never more than half the TTL is spent waiting, whatever is set here.
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
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
        for (name, timeout) in [
            ("node_timeout", Some(self.node_timeout)),
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
        let silence_timeout = self.silence_timeout.unwrap_or_else(|| {
            (self.node_timeout * SILENCE_PER_NODE_TIMEOUT).max(SILENCE_TIMEOUT_MIN)
        });
        let counters = Arc::new(Counters::default());
        let nodes = addresses
            .into_iter()
            .map(|address| {
                Node::new(NodeConfig {
                    label: address.to_string(),
                    address,
                    tls: tls.as_ref().map(Tls::config),
                    connect_timeout: self.connect_timeout,
                    silence_timeout,
                    counters: Arc::clone(&counters),
                })
            })
            .collect();
        Ok(RedLock {
            shared: Arc::new(Shared {
                nodes,
                node_timeout: self.node_timeout,
                retry: self.retry,
                counters,
            }),
        })
    }
}
