//! Who is on the other end: a challenge in both directions under a shared secret.
//!
//! `client → hello`, `server → refusal or nonce and proof`, `client → proof`, `server → refusal or
//! yes`. A proof is HMAC-SHA256 over everything that was said, so it is of no use in another
//! conversation. The server answers a wrong proof only by closing. What follows is not encrypted:
//! the ports belong on a network of one's own.

use std::io;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::types::NodeId;
use super::super::wire::{Malformed, Reader};

/// A handshake that takes longer is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

const MAGIC: &[u8; 4] = b"HFR\x01";
const HELLO_LEN: usize = 4 + 1 + 8 + 4 + 8 + 8 + NONCE_LEN;
const NONCE_LEN: usize = 32;
const PROOF_LEN: usize = 32;
const REFUSAL_LEN_MAX: usize = 512;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Votes and what else is asked and answered.
    Control,
    /// A stream of appends, heartbeats among them.
    Append,
    /// A snapshot.
    Snapshot,
    /// A client's connection, which earlier versions handed over whole. Refused.
    Client,
    /// A node that wants to become a member.
    Join,
    /// Requests on behalf of the other member's clients.
    Forward,
}

impl Purpose {
    const ALL: [Self; 6] =
        [Self::Control, Self::Append, Self::Snapshot, Self::Client, Self::Join, Self::Forward];

    fn number(self) -> u8 {
        self as u8
    }
}

/// Who speaks, to whom, and what about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What for.
    pub purpose: Purpose,
    /// The cluster; 0 of a node that has none yet.
    pub cluster: u64,
    /// The Raft group; there is one yet.
    pub group: u32,
    /// The speaker; 0 of a node that has no number yet.
    pub from: NodeId,
    /// Who it wants to speak to; 0 for whoever leads.
    pub to: NodeId,
}

/// The cluster's secret.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A secret; an empty one proves nothing, see [`Secret::is_empty`].
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        Self(text.to_vec())
    }

    /// Whether there is none: then only this machine's own nodes may connect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        // Infallible: HMAC takes keys of any length.
        let mut mac = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(error) => unreachable!("Invariant: HMAC takes any key: {error}"),
        };
        for part in parts {
            mac.update(part);
        }
        mac
    }

    fn prove(&self, parts: &[&[u8]]) -> [u8; PROOF_LEN] {
        self.mac(parts).finalize().into_bytes().into()
    }

    fn holds(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        // Compares in constant time.
        self.mac(parts).verify_slice(proof).is_ok()
    }

    /// A number that all who know the secret derive alike, and nobody else.
    #[must_use]
    pub fn derive(&self, label: &[u8]) -> u64 {
        let proof = self.prove(&[label]);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&proof[..8]);
        u64::from_le_bytes(bytes)
    }
}

fn nonce() -> io::Result<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(nonce)
}

fn encode(hello: &Hello, nonce: &[u8; NONCE_LEN]) -> [u8; HELLO_LEN] {
    let mut bytes = Vec::with_capacity(HELLO_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.push(hello.purpose.number());
    bytes.extend_from_slice(&hello.cluster.to_le_bytes());
    bytes.extend_from_slice(&hello.group.to_le_bytes());
    bytes.extend_from_slice(&hello.from.to_le_bytes());
    bytes.extend_from_slice(&hello.to.to_le_bytes());
    bytes.extend_from_slice(nonce);
    let mut hello = [0; HELLO_LEN];
    hello.copy_from_slice(&bytes);
    hello
}

fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Hello, Malformed> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err(Malformed("hello")) };
    let mut from = Reader::new(rest);
    let purpose = from.u8("purpose")?;
    Ok(Hello {
        purpose: *Purpose::ALL.get(usize::from(purpose)).ok_or(Malformed("purpose"))?,
        cluster: from.u64("cluster")?,
        group: from.u32("group")?,
        from: from.u64("from")?,
        to: from.u64("to")?,
    })
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Reads a yes, or the text of a refusal.
async fn read_verdict(stream: &mut TcpStream) -> io::Result<()> {
    let len = usize::from(stream.read_u16_le().await?);
    if len == 0 {
        return Ok(());
    }
    if len > REFUSAL_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a refusal that is too long"));
    }
    let mut text = vec![0; len];
    stream.read_exact(&mut text).await?;
    Err(refused(String::from_utf8_lossy(&text).into_owned()))
}

async fn refuse(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    let text = &text.as_bytes()[..text.len().min(REFUSAL_LEN_MAX)];
    stream.write_u16_le(text.len() as u16).await?;
    stream.write_all(text).await?;
    stream.flush().await
}

/// The connecting end.
///
/// # Errors
/// When the other end refuses (with its words), does not know the secret, or goes.
pub async fn connect(stream: &mut TcpStream, hello: &Hello, secret: &Secret) -> io::Result<()> {
    let talk = async {
        let hello = encode(hello, &nonce()?);
        stream.write_all(&hello).await?;
        let mut theirs = [0; NONCE_LEN + PROOF_LEN];
        stream.read_exact(&mut theirs).await?;
        let (nonce, proof) = theirs.split_at(NONCE_LEN);
        if !secret.holds(&[b"server", &hello, nonce], proof) {
            return Err(refused(
                "the node at the other end does not know this node's raft-secret".to_owned(),
            ));
        }
        stream.write_all(&secret.prove(&[b"client", &hello, nonce])).await?;
        read_verdict(stream).await
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, talk)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The accepting end; `judge` says why a peer that knows the secret is refused all the same.
///
/// # Errors
/// When the peer does not know the secret, was refused, or goes.
pub async fn accept(
    stream: &mut TcpStream,
    secret: &Secret,
    judge: impl FnOnce(&Hello) -> Result<(), String>,
) -> io::Result<Hello> {
    let talk = async {
        let mut bytes = [0; HELLO_LEN];
        stream.read_exact(&mut bytes).await?;
        let hello = decode(&bytes)?;
        let nonce = nonce()?;
        stream.write_all(&nonce).await?;
        stream.write_all(&secret.prove(&[b"server", &bytes, &nonce])).await?;
        let mut proof = [0; PROOF_LEN];
        stream.read_exact(&mut proof).await?;
        if !secret.holds(&[b"client", &bytes, &nonce], &proof) {
            return Err(refused("it does not know this node's raft-secret".to_owned()));
        }
        if let Err(text) = judge(&hello) {
            refuse(stream, &text).await?;
            return Err(refused(text));
        }
        stream.write_u16_le(0).await?;
        Ok(hello)
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, talk)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
