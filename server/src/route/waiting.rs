//! What a command may wait for when it cannot answer at once.

use std::pin::Pin;
use std::time::Duration;

use holdfast_engine::Reply;

/// Work that ends with a reply.
pub struct Later(pub Pin<Box<dyn Future<Output = Reply> + Send>>);

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}

/// A reply that comes later; the connection waits without holding a thread.
#[derive(Debug)]
pub enum Waiting {
    /// After this long (DEBUG SLEEP).
    Sleep(Duration, Reply),
    /// When so many replicas have what this client wrote, or after the timeout.
    Replicas {
        /// So many; `None` if followers cannot have it (WAITAOF asks for their journals).
        wanted: Option<u64>,
        /// `None` is without end.
        timeout: Option<Duration>,
        /// What one server without followers answers then.
        reply: Reply,
    },
    /// When the journal has what this client wrote on disk, or after the timeout (WAITAOF);
    /// `replicas` are asked for besides, of which there are none.
    Journal {
        /// The position that must be durable.
        target: crate::persist::journal::Target,
        /// `None` is without end.
        timeout: Option<Duration>,
        /// Whether replicas are asked for.
        replicas: bool,
    },
    /// When one of the command's keys can serve it; the reply is for when the time is up.
    Keys {
        /// `None` is without end.
        timeout: Option<Duration>,
        /// What a client gets that has waited in vain.
        reply: Reply,
    },
    /// When this is done; the reply is what it comes to.
    Later(Later),
    /// When CLIENT PAUSE has ended: then the command runs.
    Pause,
}
