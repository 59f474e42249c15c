//! A client of a Redis-protocol server.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Client, Failure, Op, VALUE_LEN};

/// One connection; it reads exactly one reply for each command.
pub(crate) struct Resp {
    stream: TcpStream,
    number: usize,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// Connections to the leader among `addrs`.
pub(crate) async fn connect(addrs: &[String], clients: usize) -> Result<Vec<Resp>, Failure> {
    let mut leader = None;
    for addr in addrs {
        let mut asked = Resp::open(addr, 0).await?;
        let info = asked.ask(&[b"INFO", b"raft"]).await?;
        if String::from_utf8_lossy(&info).contains("raft_role:leader") {
            leader = Some(addr);
        }
    }
    let leader = leader.or(addrs.first()).ok_or("no address")?;
    let mut all = Vec::with_capacity(clients);
    for number in 0..clients {
        all.push(Resp::open(leader, number).await?);
    }
    Ok(all)
}

impl Resp {
    async fn open(addr: &str, number: usize) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, number, request: Vec::new(), buffer: Vec::new() })
    }

    /// Sends a command and returns its reply as it came.
    async fn ask(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        self.request.clear();
        self.request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.request.extend_from_slice(word);
            self.request.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            if let Some(len) = reply_len(&self.buffer) {
                let reply = self.buffer[..len].to_vec();
                return match reply.first() {
                    Some(b'-') => Err(String::from_utf8_lossy(&reply).trim().to_owned().into()),
                    _ => Ok(reply),
                };
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}

/// Length of the reply that `bytes` begins with, once it is there whole.
fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    match bytes[0] {
        b'$' => {
            let end = line + usize::try_from(number()?).map_or(0, |len| len + 2);
            (bytes.len() >= end).then_some(end)
        }
        b'*' => {
            let mut at = line;
            for _ in 0..number()?.max(0) {
                at += reply_len(bytes.get(at..)?)?;
            }
            Some(at)
        }
        _ => Some(line),
    }
}

impl Client for Resp {
    async fn act(&mut self, op: Op, key: u64) -> Result<(), Failure> {
        let name = format!("key:{key}");
        match op {
            Op::Put => self.ask(&[b"SET", name.as_bytes(), &[b'x'; VALUE_LEN]]).await.map(drop),
            Op::Get => self.ask(&[b"GET", name.as_bytes()]).await.map(drop),
            Op::Lock => {
                let lock = format!("lock:{}", self.number);
                self.ask(&[b"LOCK.ACQUIRE", lock.as_bytes(), b"me", b"10000"]).await?;
                self.ask(&[b"LOCK.RELEASE", lock.as_bytes(), b"me"]).await.map(drop)
            }
        }
    }
}
