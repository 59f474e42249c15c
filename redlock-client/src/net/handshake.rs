//! From nothing to a connection that is known to answer, and known for what it speaks.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::ClientConfig;

use crate::net::address::{Address, Endpoint, Protocol};
use crate::net::codec::{Reply, decode, encode};
use crate::net::command::Dialect;
use crate::net::node::{NodeConfig, NodeKind};
use crate::net::stream::{self, Stream};
use crate::owner::random_fraction;

/// A connection, and how to talk over it.
pub(crate) struct Link {
    pub(crate) stream: Stream,
    pub(crate) protocol: Protocol,
    pub(crate) dialect: Dialect,
}

/// Connects to the node, or to the member of a cluster that leads it.
///
/// # Errors
/// What went wrong, for people. Never a password.
///
/// # Cancel safety
/// Dropping the future closes the connection; no state is kept.
pub(crate) async fn connect(config: &NodeConfig) -> Result<Link, String> {
    let link = match config.kind {
        NodeKind::Server => greet(&config.addresses[0], config.tls.clone(), None).await?,
        NodeKind::Cluster => find_leader(config).await?,
    };
    config.dialect.set(link.dialect);
    Ok(link)
}

/// Asks the members, from a random one on, until one answers; goes where it says the leader is.
///
/// A member that does not lead passes on what it is asked, so one that knows of no better place, or of
/// one that cannot be reached from here, will do.
async fn find_leader(config: &NodeConfig) -> Result<Link, String> {
    let members = &config.addresses;
    // In range: the fraction is below 1.
    let first = (random_fraction() * members.len() as f64) as usize;
    let mut causes = Vec::new();
    for member in members.iter().cycle().skip(first).take(members.len()) {
        let mut leader = None;
        // So that one member that is silent leaves time for the others.
        let patience =
            config.connect_timeout / u32::try_from(members.len() + 1).unwrap_or(u32::MAX);
        let greeted =
            tokio::time::timeout(patience, greet(member, config.tls.clone(), Some(&mut leader)));
        let link = match greeted.await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(link) => link,
            Err(why) => {
                causes.push(format!("{member}: {why}"));
                continue;
            }
        };
        if let Some(leader) = leader.and_then(|place| member.at(&place))
            && leader.endpoint != member.endpoint
        {
            let there = greet(&leader, config.tls.clone(), None);
            if let Ok(Ok(there)) = tokio::time::timeout(patience, there).await {
                return Ok(there);
            }
        }
        return Ok(link);
    }
    Err(causes.join(", "))
}

/// Connects, logs in, selects the database, asks for the lock commands, and waits for the answer to a
/// PING.
///
/// Waiting matters: a server that accepts connections but is silent is found out here, before any
/// request that could take effect later has been written to it.
///
/// With `leader`, also asks where the leader of the cluster is.
async fn greet(
    address: &Address,
    tls: Option<Arc<ClientConfig>>,
    mut leader: Option<&mut Option<String>>,
) -> Result<Link, String> {
    let mut stream = stream::open(&address.endpoint, tls).await?;
    let mut out = BytesMut::new();
    let mut names = greeting(address, &mut out);
    if leader.is_some() {
        names.push("RAFT.STATUS");
        encode(&mut out, &[b"RAFT.STATUS"]);
    }
    stream.write_all(&out).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut input = BytesMut::new();
    // Until a server denies it: the first such command that it does not know tells.
    let mut dialect = Dialect::Native;
    for name in names {
        let reply = loop {
            match decode(&mut input, address.protocol)? {
                Some(Reply::Push) => {}
                Some(reply) => break reply,
                None => {
                    if stream.read_buf(&mut input).await.map_err(|e| e.to_string())? == 0 {
                        return Err(format!("closed by the server at {name}"));
                    }
                }
            }
        };
        match (name, reply) {
            // Not being allowed to ask leaves trying.
            ("COMMAND", Reply::Error(_)) => {}
            ("RAFT.STATUS", Reply::Error(text)) => {
                return Err(format!(
                    "not a member of a Raft cluster, or it may not be asked: {text}"
                ));
            }
            // Not being allowed to PING still is an answer.
            ("PING", Reply::Error(text)) if text.starts_with("NOPERM") => {}
            (_, Reply::Error(text)) => return Err(format!("{name} refused: {text}")),
            ("COMMAND", Reply::List(rows)) if !matches!(rows.first(), Some(Reply::List(_))) => {
                dialect = Dialect::Plain;
            }
            ("RAFT.STATUS", Reply::List(fields)) => {
                if let Some(leader) = leader.as_deref_mut() {
                    *leader = leader_in(&fields);
                }
            }
            _ => {}
        }
    }
    Ok(Link { stream, protocol: address.protocol, dialect })
}

/// The field `leader` of RAFT.STATUS: `host:port`, empty when there is none.
fn leader_in(fields: &[Reply]) -> Option<String> {
    fields.chunks_exact(2).find_map(|pair| match (&pair[0], &pair[1]) {
        (Reply::Text(name), Reply::Text(place))
            if name.as_ref() == b"leader" && !place.is_empty() =>
        {
            String::from_utf8(place.to_vec()).ok()
        }
        _ => None,
    })
}

/// Writes the set-up commands; returns their names in order of the replies.
fn greeting(address: &Address, out: &mut BytesMut) -> Vec<&'static str> {
    let mut names = Vec::new();
    let user = address.user.as_deref().map(str::as_bytes);
    let password = address.password.as_deref().map(str::as_bytes);
    if address.protocol == Protocol::Resp3 {
        names.push("HELLO");
        match password {
            Some(password) => {
                encode(out, &[b"HELLO", b"3", b"AUTH", user.unwrap_or(b"default"), password])
            }
            None => encode(out, &[b"HELLO", b"3"]),
        }
    } else if let Some(password) = password {
        names.push("AUTH");
        match user {
            Some(user) => encode(out, &[b"AUTH", user, password]),
            // The form servers older than ACLs know.
            None => encode(out, &[b"AUTH", password]),
        }
    }
    if address.database != 0 {
        names.push("SELECT");
        encode(out, &[b"SELECT", address.database.to_string().as_bytes()]);
    }
    names.extend(["COMMAND", "PING"]);
    encode(out, &[b"COMMAND", b"INFO", b"LOCK.ACQUIRE"]);
    encode(out, &[b"PING"]);
    names
}

impl Address {
    /// The same log-in at another place, `host:port`; none if this is no network address.
    fn at(&self, place: &str) -> Option<Self> {
        let (host, port) = place.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().ok()?;
        let endpoint = match &self.endpoint {
            Endpoint::Tcp { .. } => Endpoint::Tcp { host, port },
            Endpoint::Tls { .. } => Endpoint::Tls { host, port },
            Endpoint::Unix { .. } => return None,
        };
        Some(Self { endpoint, ..self.clone() })
    }
}
