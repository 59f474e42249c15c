//! A blocking connection that says exactly what is on the wire.
//!
//! It never reconnects, retries or hides a push: a test must see all of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::wire::{self, Protocol, Reply};

/// How long a test waits for a reply before it calls the server stuck. Far
/// above what any answer takes, because CI machines stall.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// Above this size a reply is not measured a second time (it would double the
/// cost of reading 100 MB).
const SECOND_OPINION_BYTES_MAX: usize = 1 << 20;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What came within the time allowed.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// A reply or push.
    Reply(Reply),
    /// Nothing, or not all of a reply.
    Nothing,
    /// The server closed the connection.
    Closed,
}

/// One connection to a server.
pub struct Client {
    stream: Stream,
    buf: Vec<u8>,
    start: usize,
}

impl Client {
    /// Connects over TCP.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Stream::Tcp(stream)))
    }

    /// Connects over a unix socket.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::over(Stream::Unix(UnixStream::connect(path)?)))
    }

    fn over(stream: Stream) -> Self {
        Self { stream, buf: Vec::new(), start: 0 }
    }

    /// The address of our end, as CLIENT LIST shows it; `None` over a unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(s) => s.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Sends one command and reads one reply.
    ///
    /// # Panics
    /// When the connection fails or no reply comes within [`REPLY_DEADLINE`].
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.send(args).expect("sending a command");
        self.read()
    }

    /// A field of a section of INFO, empty if it is not there.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn info(&mut self, section: &str, field: &str) -> String {
        let text = self.cmd(&["INFO", section]).text();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    /// Like [`Client::cmd`], with the arguments parted at spaces.
    ///
    /// # Panics
    /// As [`Client::cmd`].
    pub fn line(&mut self, line: &str) -> Reply {
        self.cmd(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Switches the protocol with HELLO.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn hello(&mut self, protocol: Protocol) -> Reply {
        let version = match protocol {
            Protocol::Resp2 => "2",
            Protocol::Resp3 => "3",
        };
        self.send(&["HELLO", version]).expect("sending HELLO");
        let reply = self.read();
        assert!(matches!(reply, Reply::Map(_) | Reply::Array(_)), "HELLO {version}: {reply:?}");
        reply
    }

    /// Sends one command without waiting.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        self.send_raw(&encode(args))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(s) => s.write_all(bytes),
            Stream::Unix(s) => s.write_all(bytes),
        }
    }

    /// Reads one reply.
    ///
    /// # Panics
    /// When the connection ends or nothing comes within [`REPLY_DEADLINE`].
    pub fn read(&mut self) -> Reply {
        match self.receive(REPLY_DEADLINE) {
            Received::Reply(reply) => reply,
            Received::Nothing => panic!("no reply within {REPLY_DEADLINE:?}"),
            Received::Closed => panic!("the server closed the connection"),
        }
    }

    /// Reads one reply or push if it comes within `wait`.
    ///
    /// # Panics
    /// When the bytes are not a reply.
    pub fn receive(&mut self, wait: Duration) -> Received {
        let deadline = Instant::now() + wait;
        loop {
            let pending = &self.buf[self.start..];
            if let Some((reply, len)) = wire::decode(pending).unwrap_or_else(|e| {
                panic!(
                    "the server broke the protocol: {e}; bytes {:?}",
                    String::from_utf8_lossy(&pending[..pending.len().min(200)])
                )
            }) {
                if len <= SECOND_OPINION_BYTES_MAX {
                    let second = wire::second_opinion(&pending[..len]);
                    assert!(
                        second.is_none_or(|n| n == len),
                        "two readers differ on {:?}: {len} bytes against {second:?}",
                        String::from_utf8_lossy(&pending[..len.min(200)])
                    );
                }
                self.start += len;
                return Received::Reply(reply);
            }
            match self.fill(deadline) {
                Ok(0) => return Received::Closed,
                Ok(_) => {}
                Err(e) if is_timeout(&e) => return Received::Nothing,
                Err(_) => return Received::Closed,
            }
        }
    }

    /// Reads raw bytes until `count` are there, the time is up or the server
    /// closes; returns what there is.
    pub fn receive_raw(&mut self, count: usize, wait: Duration) -> Vec<u8> {
        let deadline = Instant::now() + wait;
        while self.buf.len() - self.start < count {
            if !matches!(self.fill(deadline), Ok(n) if n > 0) {
                break;
            }
        }
        let end = self.buf.len().min(self.start + count);
        let bytes = self.buf[self.start..end].to_vec();
        self.start = end;
        bytes
    }

    /// Reads and forgets until the server closes; whether it did in time.
    pub fn closed_within(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            self.buf.clear();
            self.start = 0;
            match self.fill(deadline) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return !is_timeout(&e),
            }
        }
    }

    /// Tells the server that no more will be sent; replies still arrive.
    pub fn finish_sending(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(s) => s.shutdown(Shutdown::Write),
            Stream::Unix(s) => s.shutdown(Shutdown::Write),
        };
    }

    /// Bounds how long a write may wait for a server that does not read.
    pub fn set_write_timeout(&mut self, wait: Duration) {
        let _ = match &self.stream {
            Stream::Tcp(s) => s.set_write_timeout(Some(wait)),
            Stream::Unix(s) => s.set_write_timeout(Some(wait)),
        };
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        if self.start == self.buf.len() {
            self.buf.clear();
            self.start = 0;
        }
        // A zero timeout means "for ever" to the operating system.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut chunk = [0u8; 64 * 1024];
        let n = match &mut self.stream {
            Stream::Tcp(s) => {
                s.set_read_timeout(Some(left))?;
                s.read(&mut chunk)?
            }
            Stream::Unix(s) => {
                s.set_read_timeout(Some(left))?;
                s.read(&mut chunk)?
            }
        };
        self.buf.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}

/// A command as the multibulk request that clients send.
#[must_use]
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
