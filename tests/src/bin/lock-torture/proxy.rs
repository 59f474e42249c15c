//! A link from a group of clients to a server, which can be held up, delayed or cut.
//!
//! Bytes that are held up are delivered late, as a network does that loses packets for a while; or
//! their connection is gone by then, which the nemesis decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is wrong with a link.
#[derive(Debug)]
pub(crate) struct Link {
    /// Requests do not arrive.
    pub(crate) hold_requests: AtomicBool,
    /// Replies do not arrive.
    pub(crate) hold_replies: AtomicBool,
    /// Everything takes so long, ms.
    pub(crate) delay_ms: AtomicU64,
    /// Counts the times that all connections were cut.
    cuts: watch::Sender<u64>,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Replies,
}

impl Link {
    /// A link to `server`, on a port of its own.
    pub(crate) async fn open(server: SocketAddr) -> std::io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let link = Arc::new(Self {
            hold_requests: AtomicBool::new(false),
            hold_replies: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            cuts: watch::channel(0).0,
            addr: listener.local_addr()?,
        });
        let accepting = Arc::clone(&link);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&accepting).carry(client, server));
            }
        });
        Ok(link)
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Holds everything up, both ways.
    pub(crate) fn hold(&self) {
        self.hold_requests.store(true, SeqCst);
        self.hold_replies.store(true, SeqCst);
    }

    /// Puts it right; what was held up arrives now.
    pub(crate) fn heal(&self) {
        self.hold_requests.store(false, SeqCst);
        self.hold_replies.store(false, SeqCst);
        self.delay_ms.store(0, SeqCst);
    }

    async fn carry(self: Arc<Self>, client: TcpStream, server: SocketAddr) {
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        let both = async {
            self.admit(Way::Requests).await;
            let Ok(server) = TcpStream::connect(server).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::join!(
                self.copy(client_read, server_write, Way::Requests),
                self.copy(server_read, client_write, Way::Replies),
            );
        };
        tokio::select! {
            () = both => {}
            _ = cuts.changed() => {}
        }
    }

    async fn copy(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            self.admit(way).await;
            if to.write_all(&buffer[..len]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }

    /// Waits until bytes may go this way.
    async fn admit(&self, way: Way) {
        const LOOK: Duration = Duration::from_millis(2);
        let delay_ms = self.delay_ms.load(SeqCst);
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        let held = match way {
            Way::Requests => &self.hold_requests,
            Way::Replies => &self.hold_replies,
        };
        while held.load(SeqCst) {
            tokio::time::sleep(LOOK).await;
        }
    }
}
