//! Listening and accepting: who may connect.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Stream;
use super::connection::Connection;
use crate::node::{Node, Shutdown};
use crate::observe::Counter;
use crate::session::Client;

/// What a remote client is told while there is no password and nobody has chosen to be open.
const PROTECTED: &[u8] = b"-DENIED Holdfast is running in protected mode because protected mode \
    is enabled and no password is set for the default user. In this mode connections are only \
    accepted from the loopback interface. If you want to connect from external computers to \
    Holdfast you may adopt one of the following solutions: 1) Just disable protected mode sending \
    the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to \
    Holdfast from the same host the server is running, however MAKE SURE Holdfast is not publicly \
    accessible from internet if you do so. 2) Alternatively you can just disable the protected \
    mode by editing the configuration file, and setting the protected mode option to 'no', and \
    then restarting the server. 3) If you started the server manually just for testing, restart \
    it with the '--protected-mode no' option. 4) Setup an authentication password for the default \
    user. NOTE: You only need to do one of the above things in order for the server to start \
    accepting connections from the outside.\r\n";

/// What a client is told that is one too many.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// The sockets a node listens on.
#[derive(Debug, Default)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
}

impl Listeners {
    /// Binds everything the settings name.
    ///
    /// # Errors
    /// With the address that could not be bound; an address that begins with `-` may fail as
    /// long as another does not.
    pub fn bind(node: &Node) -> io::Result<Self> {
        let settings = &node.settings;
        let mut listeners = Self::default();
        if settings.port() != 0 {
            for text in settings.bind().iter() {
                let (text, optional) = match text.strip_prefix('-') {
                    Some(text) => (text, true),
                    None => (text.as_str(), false),
                };
                match bind_tcp(text, settings.port(), settings.tcp_backlog()) {
                    Ok(listener) => listeners.tcp.push(listener),
                    Err(error) if optional => {
                        tracing::debug!("not listening on {text}: {error}");
                    }
                    Err(error) => {
                        return Err(io::Error::new(
                            error.kind(),
                            format!(
                                "could not listen on {text}:{}: {error}. Is another server running \
                                 there? Choose another port with --port",
                                settings.port()
                            ),
                        ));
                    }
                }
            }
            if listeners.tcp.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    "none of the addresses of 'bind' could be listened on",
                ));
            }
        }
        let path = settings.unixsocket();
        if !path.is_empty() {
            let path = crate::config::settings::path(&path);
            let listener = bind_unix(&path, settings.unixsocketperm()).map_err(|error| {
                io::Error::new(error.kind(), format!("unixsocket {}: {error}", path.display()))
            })?;
            listeners.unix = Some((listener, path));
        }
        Ok(listeners)
    }

    /// The addresses listened on.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tcp
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .map(|addr| addr.to_string())
            .collect();
        names.extend(self.unix.iter().map(|(_, path)| path.display().to_string()));
        names
    }

    /// Accepts clients until the node shuts down.
    pub fn accept(self, node: &Arc<Node>) {
        for listener in self.tcp {
            tokio::spawn(accept_tcp(Arc::clone(node), listener));
        }
        if let Some((listener, path)) = self.unix {
            tokio::spawn(accept_unix(Arc::clone(node), listener, path));
        }
    }
}

fn bind_tcp(text: &str, port: u16, backlog: u32) -> io::Result<TcpListener> {
    let host = match text {
        "*" => "0.0.0.0",
        "::*" => "::",
        other => other,
    };
    let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has its own socket.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &PathBuf, mode: u32) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    // A socket left behind by a process that died; one that answers belongs to another server.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

async fn accept_tcp(node: Arc<Node>, listener: TcpListener) {
    let mut shutdown = node.shutdown_signal();
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|state| *state != Shutdown::No) => return,
        };
        match accepted {
            Ok((stream, peer)) => admit_tcp(&node, stream, peer),
            Err(error) => {
                let refuse = async {
                    let (stream, _) = listener.accept().await?;
                    stream.into_std()?.write_all(TOO_MANY)
                };
                spare.accept_failed(&node, &error, refuse).await;
            }
        }
    }
}

async fn accept_unix(node: Arc<Node>, listener: UnixListener, path: PathBuf) {
    let mut shutdown = node.shutdown_signal();
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|state| *state != Shutdown::No) => {
                let _ = std::fs::remove_file(&path);
                return;
            }
        };
        match accepted {
            Ok((stream, _)) => admit_unix(&node, stream, &path),
            Err(error) => {
                let refuse = async {
                    let (stream, _) = listener.accept().await?;
                    stream.into_std()?.write_all(TOO_MANY)
                };
                spare.accept_failed(&node, &error, refuse).await;
            }
        }
    }
}

/// A descriptor that is given up when there is no other, so that a client can be refused instead
/// of waiting in the kernel's queue without a word.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Refuses a client, if descriptors have run out; then waits until some may be free.
    async fn accept_failed(
        &mut self,
        node: &Node,
        error: &io::Error,
        refuse: impl Future<Output = io::Result<()>>,
    ) {
        /// The client is in the queue: it needs no waiting for.
        const PATIENCE: Duration = Duration::from_millis(10);
        let exhausted = [Errno::MFILE, Errno::NFILE]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if exhausted && self.0.take().is_some() {
            node.observe.stats.count(Counter::ConnectionsReceived);
            node.observe.stats.count(Counter::ConnectionsRejected);
            let refused = tokio::time::timeout(PATIENCE, refuse).await;
            self.0 = File::open("/dev/null").ok();
            if refused.is_ok_and(|refused| refused.is_ok()) {
                tracing::debug!("a client was refused: {error}");
                return;
            }
        }
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
        tracing::warn!("accepting a client failed: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn admit_tcp(node: &Arc<Node>, stream: TcpStream, peer: SocketAddr) {
    node.observe.stats.count(Counter::ConnectionsReceived);
    let refusal = refusal(node, Some(peer));
    let _ = stream.set_nodelay(true);
    let keepalive_s = node.settings.tcp_keepalive_s();
    if keepalive_s > 0 {
        let step = Duration::from_secs(u64::from(keepalive_s / 3).max(1));
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(u64::from(keepalive_s)))
            .with_interval(step)
            .with_retries(3);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    }
    let local = stream.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let fd = stream.as_raw_fd();
    begin(node, Stream::Tcp(stream), (peer.to_string(), local), fd, refusal);
}

fn admit_unix(node: &Arc<Node>, stream: UnixStream, path: &std::path::Path) {
    node.observe.stats.count(Counter::ConnectionsReceived);
    let name = format!("{}:0", path.display());
    let fd = stream.as_raw_fd();
    begin(node, Stream::Unix(stream), (name.clone(), name), fd, refusal(node, None));
}

/// Why a client may not connect, if it may not; otherwise it has taken a place.
fn refusal(node: &Node, peer: Option<SocketAddr>) -> Option<&'static [u8]> {
    let remote = peer.is_some_and(|peer| !peer.ip().to_canonical().is_loopback());
    if remote && node.settings.protected_mode() && node.acl.default_takes_any_password() {
        return Some(PROTECTED);
    }
    (!node.admit()).then_some(TOO_MANY)
}

fn begin(
    node: &Arc<Node>,
    stream: Stream,
    (addr, local): (String, String),
    fd: i32,
    refusal: Option<&'static [u8]>,
) {
    if let Some(text) = refusal {
        node.observe.stats.count(Counter::ConnectionsRejected);
        let mut stream = stream;
        tokio::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(text)).await;
        });
        return;
    }
    let is_unix = matches!(stream, Stream::Unix(_));
    let id = node.clients.next_id();
    let client = Arc::new(Client::new(id, (addr, local), fd, is_unix, node.clock.monotonic_us()));
    node.clients.add(Arc::clone(&client));
    let place = Place { node: Arc::clone(node), id };
    tokio::spawn(async move {
        let _place = place;
        Connection::new(Arc::clone(&_place.node), stream, client).run().await;
    });
}

/// A client's place; given back however its task ends.
struct Place {
    node: Arc<Node>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.node.clients.remove(self.id);
        self.node.dismiss();
    }
}
