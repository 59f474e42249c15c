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
    /// What RESP2 spells otherwise: an invalidation is a message of a channel there.
    reply_resp2: Option<Reply>,
    resp2: OnceLock<Bytes>,
    resp3: OnceLock<Bytes>,
}

impl PushMessage {
    /// A push of any kind. `items` are those of [`Reply::Push`].
    #[must_use]
    pub fn new(items: Vec<Reply>) -> Self {
        let (resp2, resp3) = (OnceLock::new(), OnceLock::new());
        Self { reply: Reply::Push(items), reply_resp2: None, resp2, resp3 }
    }

    /// `invalidate keys`: these keys have changed.
    #[must_use]
    pub fn invalidation<'a>(keys: impl IntoIterator<Item = &'a Bytes>) -> Self {
        Self::invalidate(Reply::Array(keys.into_iter().map(|key| Reply::bulk(key)).collect()))
    }

    /// `invalidate nil`: every key may have changed.
    #[must_use]
    pub fn invalidation_of_all() -> Self {
        Self::invalidate(Reply::Nil)
    }

    fn invalidate(keys: Reply) -> Self {
        let channel = Reply::bulk(b"__redis__:invalidate");
        let message = Reply::Push(vec![Reply::bulk(b"message"), channel, keys.clone()]);
        let push = Self::new(vec![Reply::bulk(b"invalidate"), keys]);
        Self { reply_resp2: Some(message), ..push }
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
        let (cell, reply) = match protocol {
            Protocol::Resp2 => (&self.resp2, self.reply_resp2.as_ref().unwrap_or(&self.reply)),
            Protocol::Resp3 => (&self.resp3, &self.reply),
        };
        cell.get_or_init(|| {
            let mut bytes = Vec::new();
            encode_into(reply, protocol, &mut bytes);
            bytes.into()
        })
    }
}
