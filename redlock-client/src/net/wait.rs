//! Waiting in one server's queue, over a connection of its own.
//!
//! LOCK.ACQUIRE … BLOCK holds up whatever is behind it on its connection, and the server takes a waiter
//! out of the queue when its connection goes; so each wait has one. It is asked for in slices, so that
//! a connection that died unnoticed costs no more than one of them; AGE keeps the place in the queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::NodeCause;
use crate::lease::Ttl;
use crate::net::claim::Claim;
use crate::net::codec::{Reply, decode};
use crate::net::command::{Answer, Dialect, Outcome, Outcomes, granted, quarantine, write_acquire};
use crate::net::handshake::{self, Link};
use crate::net::node::NodeConfig;
use crate::net::script::Form;
use crate::stats::Event;

/// Longest time for which one request waits.
const SLICE: Duration = Duration::from_secs(5);

/// What is waited for, and how.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) ttl: Ttl,
    /// When the caller began to wait; earlier waits in other queues count.
    pub(crate) since: Instant,
    /// Added to the age so that two that came at the same time stand in the same order everywhere.
    pub(crate) bonus: Duration,
    pub(crate) until: Option<Instant>,
}

/// Waits until the node grants the claim, refuses, or is lost; reports that.
///
/// # Cancel safety
/// Dropping the future closes the connection, and so leaves the queue. The claim's mark tells its release
/// that a grant may be under way.
pub(crate) async fn wait(
    config: Arc<NodeConfig>,
    claim: Arc<Claim>,
    node: usize,
    patience: Patience,
    outcomes: Outcomes,
) {
    let outcome = wait_for_grant(&config, &claim, node, patience).await;
    // Whoever asked may have its majority by now; the grant is the claim's all the same.
    let _ = outcomes.send((node, outcome));
}

async fn wait_for_grant(
    config: &NodeConfig,
    claim: &Claim,
    node: usize,
    patience: Patience,
) -> Outcome {
    let connected = timeout(config.connect_timeout, handshake::connect(config)).await;
    let Link { mut stream, protocol, dialect } = connected
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
        .map_err(NodeCause::Connect)?;
    config.counters.count(Event::connected);
    if dialect == Dialect::Plain {
        return Err(NodeCause::Unsupported("has no queue to wait in".to_owned()));
    }
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    loop {
        let now = Instant::now();
        let left = patience.until.map_or(SLICE, |until| until.saturating_duration_since(now));
        if left.is_zero() {
            return Ok(Answer::Foreign);
        }
        // BLOCK 0 would be for ever.
        let block_ms = left.min(SLICE).as_millis().max(1);
        let age_ms = (now.saturating_duration_since(patience.since) + patience.bonus).as_millis();
        let (block, age) = (block_ms.to_string(), age_ms.to_string());
        let options: [&[u8]; 4] = [b"BLOCK", block.as_bytes(), b"AGE", age.as_bytes()];
        write_acquire(&mut output, Form::Digest, claim, patience.ttl, &options);
        claim.mark_asked(node);
        let answered_by = now + left.min(SLICE) + config.silence_timeout;
        let exchange = async {
            stream.write_all_buf(&mut output).await.map_err(|e| e.to_string())?;
            stream.flush().await.map_err(|e| e.to_string())?;
            loop {
                match decode(&mut input, protocol)? {
                    Some(Reply::Push) => {}
                    Some(reply) => return Ok(reply),
                    None => {
                        if stream.read_buf(&mut input).await.map_err(|e| e.to_string())? == 0 {
                            return Err("closed by the server".to_owned());
                        }
                    }
                }
            }
        };
        let reply = timeout_at(answered_by, exchange)
            .await
            .map_err(|_| NodeCause::Timeout)?
            .map_err(NodeCause::Disconnected)?;
        if matches!(&reply, Reply::Error(text) if text.starts_with("UNKNOWN")) {
            // A leader that went may have logged the grant: the mark stays.
            return Err(NodeCause::Disconnected("the leader went".to_owned()));
        }
        claim.mark_answered(node);
        match reply {
            Reply::Nil => {}
            Reply::Error(text) => {
                return quarantine(&text)
                    .map_or(Err(NodeCause::Refused(text)), |left| Ok(Answer::Quarantined(left)));
            }
            reply => {
                return granted(&reply)
                    .map(Answer::Granted)
                    .ok_or_else(|| NodeCause::Protocol(format!("{reply:?}")));
            }
        }
    }
}
