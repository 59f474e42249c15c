//! The handle of one node: hands requests to the task that owns its connection.
//!
//! Sending never waits and never fails, so it can be done from `Drop`; what became of a request comes
//! back through its outcome channel.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::rustls::ClientConfig;

use crate::error::NodeCause;
use crate::net::actor::Actor;
use crate::net::address::Address;
use crate::net::command::{Dialect, Request};
use crate::net::rescue;
use crate::stats::Counters;

/// Requests that may be on their way to one node at a time, releases not counted: those are never
/// refused, and there is at most one for each request that was let in.
const REQUESTS_MAX: usize = 1024;

pub(crate) struct NodeConfig {
    /// One, or the members of a cluster that is one node to us.
    pub(crate) addresses: Vec<Address>,
    pub(crate) kind: NodeKind,
    /// The address as shown to people.
    pub(crate) label: String,
    pub(crate) dialect: LastDialect,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) connect_timeout: Duration,
    /// A connection on which answers are due and nothing arrives for this long is given up.
    pub(crate) silence_timeout: Duration,
    pub(crate) counters: Arc<Counters>,
}

/// What stands behind a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeKind {
    Server,
    /// A Raft cluster; connections look for its leader.
    Cluster,
}

/// The dialect of the node's latest connection, if it has had one: a guess about the next.
#[derive(Default)]
pub(crate) struct LastDialect(AtomicU8);

impl LastDialect {
    pub(crate) fn set(&self, dialect: Dialect) {
        let code = match dialect {
            Dialect::Plain => 1,
            Dialect::Native => 2,
        };
        self.0.store(code, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Dialect> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Dialect::Plain),
            2 => Some(Dialect::Native),
            _ => None,
        }
    }
}

pub(crate) struct Node {
    config: Arc<NodeConfig>,
    permits: Arc<Semaphore>,
    /// Way to the running task, if one was started; it ends with the runtime it runs on.
    task: Mutex<Option<mpsc::UnboundedSender<Request>>>,
}

impl Node {
    pub(crate) fn new(config: NodeConfig) -> Self {
        Self {
            config: Arc::new(config),
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            task: Mutex::new(None),
        }
    }

    pub(crate) fn label(&self) -> &str {
        &self.config.label
    }

    pub(crate) fn config(&self) -> &Arc<NodeConfig> {
        &self.config
    }

    /// Queues `request` behind all earlier ones. Never blocks.
    pub(crate) fn send(&self, mut request: Request) {
        if !request.is_release() {
            match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => request.permit = Some(permit),
                Err(_) => return request.report(Err(NodeCause::Overloaded)),
            }
        }
        let Err(mut request) = self.enqueue(request) else {
            return;
        };
        if request.is_release() {
            rescue::spawn(Arc::clone(&self.config), vec![request]);
        } else {
            request.report(Err(NodeCause::Connect("no tokio runtime is running here".to_owned())));
        }
    }

    /// Hands over to the task, starting one if there is none; gives the request back if there can be none.
    fn enqueue(&self, request: Request) -> Result<(), Request> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let request = match task.as_ref() {
            Some(queue) => match queue.send(request) {
                Ok(()) => return Ok(()),
                Err(refused) => refused.0,
            },
            None => request,
        };
        let Ok(runtime) = Handle::try_current() else {
            return Err(request);
        };
        let (queue, requests) = mpsc::unbounded_channel();
        runtime.spawn(Actor::new(Arc::clone(&self.config), requests).run());
        // A runtime that is shutting down drops the task at once, and the channel with it.
        queue.send(request).map_err(|refused| refused.0)?;
        *task = Some(queue);
        Ok(())
    }
}
