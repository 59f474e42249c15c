//! A message for many clients, encoded once per protocol when the first of them needs it.

use std::sync::OnceLock;

use bytes::Bytes;
use holdfast_engine::Reply;

use crate::resp::{Protocol, encode_into};

/// A push: what a client receives without having asked.
///
/// RESP2 and RESP3 spell most of them alike but for the first byte, yet each needs its bytes in
/// one piece; so both are made at most once, and shared by all receivers.
#[derive(Debug)]
pub struct PushMessage {
    reply: Reply,
    resp2: OnceLock<Bytes>,
    resp3: OnceLock<Bytes>,
}

impl PushMessage {
    /// A push of any kind: invalidations, confirmations. `items` are those of [`Reply::Push`].
    #[must_use]
    pub fn new(items: Vec<Reply>) -> Self {
        Self { reply: Reply::Push(items), resp2: OnceLock::new(), resp3: OnceLock::new() }
    }

    /// `message channel payload`
    #[must_use]
    pub fn message(channel: &[u8], payload: &[u8]) -> Self {
        Self::new(vec![Reply::bulk(b"message"), Reply::bulk(channel), Reply::bulk(payload)])
    }

    /// `smessage channel payload`
    #[must_use]
    pub fn shard_message(channel: &[u8], payload: &[u8]) -> Self {
        Self::new(vec![Reply::bulk(b"smessage"), Reply::bulk(channel), Reply::bulk(payload)])
    }

    /// `pmessage pattern channel payload`
    #[must_use]
    pub fn pattern_message(pattern: &[u8], channel: &[u8], payload: &[u8]) -> Self {
        Self::new(vec![
            Reply::bulk(b"pmessage"),
            Reply::bulk(pattern),
            Reply::bulk(channel),
            Reply::bulk(payload),
        ])
    }

    /// The encoded message; cheap to clone, and long ones to share
    /// ([`Output::push`](crate::resp::Output::push)).
    #[must_use]
    pub fn encoded(&self, protocol: Protocol) -> &Bytes {
        let cell = match protocol {
            Protocol::Resp2 => &self.resp2,
            Protocol::Resp3 => &self.resp3,
        };
        cell.get_or_init(|| {
            let mut bytes = Vec::new();
            encode_into(&self.reply, protocol, &mut bytes);
            bytes.into()
        })
    }
}
