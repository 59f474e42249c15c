//! Releases whose runtime is gone.
//!
//! A guard may be dropped where no tokio runtime runs, or while one shuts down and takes the
//! connection tasks with it. The releases then get a thread with a runtime of its own, one try and a
//! time limit. If the process ends first, the keys expire by their TTL, as they would after a crash.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::NodeCause;
use crate::net::codec::{Reply, decode};
use crate::net::command::Request;
use crate::net::handshake::{self, Link};
use crate::net::node::NodeConfig;
use crate::net::script::Form;

/// On top of the connect timeout: time for the answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends the releases among `requests` from a thread of their own; returns at once.
pub(crate) fn spawn(config: Arc<NodeConfig>, mut requests: Vec<Request>) {
    requests.retain(|request| request.is_release() && request.is_live());
    if requests.is_empty() {
        return;
    }
    let work = move || {
        let timeout = config.connect_timeout + ANSWER_TIMEOUT;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime
                .block_on(async {
                    tokio::time::timeout(timeout, release(&config, &mut requests)).await
                })
                .unwrap_or_else(|_| Err("no answer in time".to_owned())),
            Err(e) => Err(e.to_string()),
        };
        if let Err(why) = result {
            tracing::warn!(node = %config.label, %why, "release failed; the lock expires by its TTL");
            for request in &mut requests {
                request.report(Err(NodeCause::Disconnected(why.clone())));
            }
        }
    };
    let spawned = std::thread::Builder::new().name("redlock-rescue".to_owned()).spawn(work);
    if let Err(e) = spawned {
        tracing::warn!(%e, "no thread for a release; the lock expires by its TTL");
    }
}

async fn release(config: &NodeConfig, requests: &mut [Request]) -> Result<(), String> {
    let Link { mut stream, protocol, dialect } = handshake::connect(config).await?;
    let mut out = BytesMut::new();
    for request in requests.iter() {
        // By source: whether the server knows the digest is not worth a round trip here.
        request.write(&mut out, Form::Source, dialect);
    }
    stream.write_all(&out).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    let mut input = BytesMut::new();
    let mut answered = 0;
    while answered < requests.len() {
        match decode(&mut input, protocol)? {
            Some(Reply::Push) => {}
            Some(reply) => {
                let outcome = requests[answered].read(&reply, dialect);
                requests[answered].report(outcome);
                answered += 1;
            }
            None => {
                if stream.read_buf(&mut input).await.map_err(|e| e.to_string())? == 0 {
                    return Err("closed by the server".to_owned());
                }
            }
        }
    }
    Ok(())
}
