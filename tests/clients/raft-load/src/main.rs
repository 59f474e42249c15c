//! Load for scripts/bench-raft: the same loop over RESP to our server and over gRPC to etcd.
//!
//! `raft-load resp|etcd ADDRESS put|get CLIENTS SECONDS KEYS VALUE-LENGTH`. Each client has a
//! connection of its own and one request under way. What warms up is not counted. Prints
//! operations, seconds, and percentiles in microseconds, as `name value` lines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Share of the time that warms up.
const WARM_UP: f64 = 0.15;

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Put,
    Get,
}

enum Link {
    Resp { stream: TcpStream, input: BytesMut },
    Etcd { requests: SendRequest<Bytes>, authority: String },
}

impl Link {
    async fn open(kind: &str, addr: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        if kind == "resp" {
            return Ok(Self::Resp { stream, input: BytesMut::new() });
        }
        let (requests, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self::Etcd { requests: requests.ready().await?, authority: addr.to_string() })
    }

    async fn run(&mut self, operation: Operation, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match self {
            Self::Resp { stream, input } => resp(stream, input, operation, key, value).await,
            Self::Etcd { requests, authority } => {
                let ready = requests.clone().ready().await?;
                etcd(ready, authority, operation, key, value).await
            }
        }
    }
}

async fn resp(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    operation: Operation,
    key: &[u8],
    value: &[u8],
) -> Result<(), Error> {
    let words: &[&[u8]] = match operation {
        Operation::Put => &[b"SET", key, value],
        Operation::Get => &[b"GET", key],
    };
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    stream.write_all(&out).await?;
    input.clear();
    loop {
        if stream.read_buf(input).await? == 0 {
            return Err("closed".into());
        }
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { continue };
        let whole = match input[0] {
            b'$' => {
                let len: i64 = std::str::from_utf8(&input[1..end - 1])?.parse()?;
                end + 1 + usize::try_from(len).map_or(0, |len| len + 2)
            }
            b'-' => return Err(String::from_utf8_lossy(input).into_owned().into()),
            _ => end + 1,
        };
        if input.len() >= whole {
            return Ok(());
        }
    }
}

/// A field of bytes in a message of protocol buffers.
fn put_field(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    out.put_u8(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.put_u8(len as u8 | 0x80);
        len >>= 7;
    }
    out.put_u8(len as u8);
    out.put_slice(bytes);
}

async fn etcd(
    mut requests: SendRequest<Bytes>,
    authority: &str,
    operation: Operation,
    key: &[u8],
    value: &[u8],
) -> Result<(), Error> {
    let mut message = BytesMut::new();
    put_field(&mut message, 1, key);
    let method = match operation {
        Operation::Put => {
            put_field(&mut message, 2, value);
            "Put"
        }
        // Linearizable unless it asks to be serializable.
        Operation::Get => "Range",
    };
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    let request = http::Request::post(format!("http://{authority}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = requests.send_request(request, false)?;
    body.send_data(frame.freeze(), true)?;
    let mut answer = response.await?.into_body();
    while let Some(data) = answer.data().await {
        let len = data?.len();
        answer.flow_control().release_capacity(len)?;
    }
    let trailers = answer.trailers().await?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    match status.map(|status| status.as_bytes()) {
        Some(b"0") => Ok(()),
        other => Err(format!("grpc-status {other:?}: {trailers:?}").into()),
    }
}

struct Work {
    kind: String,
    addr: SocketAddr,
    operation: Operation,
    keys: u64,
    value: Vec<u8>,
}

/// One client: how long each of its counted operations took, in microseconds.
async fn client(work: Arc<Work>, number: u64, phase: Arc<AtomicU8>) -> Result<Vec<u32>, Error> {
    let mut link = Link::open(&work.kind, work.addr).await?;
    let mut took_us = Vec::new();
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = format!("key:{:010}", random % work.keys);
        let began = Instant::now();
        link.run(work.operation, key.as_bytes(), &work.value).await?;
        match phase.load(Relaxed) {
            WARMING => {}
            COUNTING => took_us.push(began.elapsed().as_micros() as u32),
            _ => return Ok(took_us),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, addr, operation, clients, seconds, keys, len] = &args[..] else {
        return Err("raft-load resp|etcd ADDRESS put|get CLIENTS SECONDS KEYS LENGTH".into());
    };
    let work = Arc::new(Work {
        kind: kind.clone(),
        addr: addr.parse()?,
        operation: if operation == "put" { Operation::Put } else { Operation::Get },
        keys: keys.parse()?,
        value: vec![b'x'; len.parse()?],
    });
    let (clients, seconds): (u64, f64) = (clients.parse()?, seconds.parse()?);
    let phase = Arc::new(AtomicU8::new(WARMING));
    let tasks: Vec<_> = (0..clients)
        .map(|number| tokio::spawn(client(Arc::clone(&work), number, Arc::clone(&phase))))
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds * WARM_UP)).await;
    phase.store(COUNTING, Relaxed);
    println!("began");
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let elapsed = began.elapsed();
    phase.store(OVER, Relaxed);
    println!("ended");
    let mut took_us = Vec::new();
    for task in tasks {
        took_us.extend(task.await??);
    }
    took_us.sort_unstable();
    let percentile = |of: usize| took_us.get(took_us.len() * of / 100).copied().unwrap_or(0);
    println!("operations {}", took_us.len());
    println!("seconds {}", elapsed.as_secs_f64());
    println!("p50 {}\np99 {}", percentile(50), percentile(99));
    Ok(())
}
