//! From nothing to a connection that is known to answer.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::address::{Address, Protocol};
use crate::net::codec::{Reply, decode, encode};
use crate::net::node::NodeConfig;
use crate::net::stream::{self, Stream};

/// Connects, logs in, selects the database and waits for the answer to a PING.
///
/// Waiting matters: a server that accepts connections but is silent is found out here, before any
/// request that could take effect later has been written to it.
///
/// # Errors
/// What went wrong, for people. Never a password.
///
/// # Cancel safety
/// Dropping the future closes the connection; no state is kept.
pub(crate) async fn connect(config: &NodeConfig) -> Result<Stream, String> {
    let mut stream = stream::open(&config.address.endpoint, config.tls.clone()).await?;
    let mut out = BytesMut::new();
    let names = greeting(&config.address, &mut out);
    stream.write_all(&out).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut input = BytesMut::new();
    for name in names {
        let reply = loop {
            match decode(&mut input, config.address.protocol)? {
                Some(Reply::Push) => {}
                Some(reply) => break reply,
                None => {
                    if stream.read_buf(&mut input).await.map_err(|e| e.to_string())? == 0 {
                        return Err(format!("closed by the server at {name}"));
                    }
                }
            }
        };
        if let Reply::Error(text) = reply {
            // Not being allowed to PING still is an answer.
            if name == "PING" && text.starts_with("NOPERM") {
                continue;
            }
            return Err(format!("{name} refused: {text}"));
        }
    }
    Ok(stream)
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
    names.push("PING");
    encode(out, &[b"PING"]);
    names
}
