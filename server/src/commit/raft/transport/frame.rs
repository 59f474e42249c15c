//! Frames: `length u32 | kind u8 | body`, the length that of kind and body.
//!
//! Reading is cancel safe: what has arrived of a frame stays in the buffer.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::handshake::{self, Hello, Secret};

/// A frame is at most so long: the largest entry and what goes with it.
pub const FRAME_LEN_MAX: usize = super::super::ENTRY_LEN_MAX + (8 << 20);
/// Connecting takes at most so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The reading half.
#[derive(Debug)]
pub struct FrameReader {
    half: OwnedReadHalf,
    buffer: BytesMut,
}

/// The writing half.
#[derive(Debug)]
pub struct FrameWriter {
    half: OwnedWriteHalf,
    buffer: Vec<u8>,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    /// Reads.
    pub reader: FrameReader,
    /// Writes.
    pub writer: FrameWriter,
}

impl Connection {
    /// A connection over a stream whose handshake is done.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            reader: FrameReader { half: read, buffer: BytesMut::new() },
            writer: FrameWriter { half: write, buffer: Vec::new() },
        }
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// When either fails.
    pub async fn open(addr: &str, hello: &Hello, secret: &Secret) -> io::Result<Self> {
        Ok(Self::new(open_stream(addr, hello, secret).await?))
    }

    /// Sends a frame and waits for the next one.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn ask(
        &mut self,
        kind: u8,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<(u8, BytesMut)> {
        self.writer.send(kind, body).await?;
        self.reader.next().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Connects and shakes hands; the stream then belongs to the caller.
///
/// # Errors
/// When either fails.
pub async fn open_stream(addr: &str, hello: &Hello, secret: &Secret) -> io::Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr));
    let mut stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    handshake::connect(&mut stream, hello, secret).await?;
    Ok(stream)
}

impl FrameReader {
    /// The next frame's kind and body; `None` at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the connection fails, ends inside a frame, or a frame is too long.
    pub async fn next(&mut self) -> io::Result<Option<(u8, BytesMut)>> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                let len = u32::from_le_bytes(*head) as usize;
                if len == 0 || len > FRAME_LEN_MAX {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a frame of {len} bytes"),
                    ));
                }
                if self.buffer.len() >= 4 + len {
                    self.buffer.advance(4);
                    let mut body = self.buffer.split_to(len);
                    let kind = body.get_u8();
                    return Ok(Some((kind, body)));
                }
                // By steps: a length costs whoever claims it the bytes first.
                self.buffer.reserve((4 + len - self.buffer.len()).min(1 << 20));
            } else {
                self.buffer.reserve(16 << 10);
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

impl FrameWriter {
    /// Puts a frame behind those that [`FrameWriter::flush`] will send.
    ///
    /// # Errors
    /// When the body is too long; then nothing of it is sent.
    pub fn push(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0, 0, 0, 0, kind]);
        body(&mut self.buffer);
        let len = self.buffer.len() - start - 4;
        if len > FRAME_LEN_MAX {
            self.buffer.truncate(start);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame that is too long"));
        }
        self.buffer[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
        Ok(())
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn pushed_len(&self) -> usize {
        self.buffer.len()
    }

    /// Sends what was pushed.
    ///
    /// # Cancel safety
    /// None: a part may have been sent. Drop the connection then.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn flush(&mut self) -> io::Result<()> {
        let sent = self.half.write_all(&self.buffer).await;
        self.buffer.clear();
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        sent
    }

    /// Sends a frame.
    ///
    /// # Cancel safety
    /// None: a part may have been sent. Drop the connection then.
    ///
    /// # Errors
    /// When the connection fails or the body is too long.
    pub async fn send(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.buffer.clear();
        self.push(kind, body)?;
        self.flush().await
    }
}
