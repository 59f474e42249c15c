//! Requests to one node, how they look on the wire, and what the replies mean.
//!
//! There are two dialects: that of plain Redis and Valkey, `SET NX PX` and scripts, and Holdfast's own
//! lock commands. Which of them a node speaks is found out by each connection (`handshake`).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::clock::BootInstant;
use crate::error::NodeCause;
use crate::lease::Ttl;
use crate::net::claim::{Claim, Mode};
use crate::net::codec::{Reply, encode};
use crate::net::script::{self, Form};

/// The commands a node understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// Those of Redis.
    Plain,
    /// LOCK.ACQUIRE and its family too.
    Native,
}

/// What is asked of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    /// Take the keys if free. Also gives them back to a node that has forgotten them.
    Acquire(Ttl),
    /// Let every later grant have a greater token than this one: the second phase.
    Fence {
        ttl: Ttl,
        token: u64,
    },
    Extend(Ttl),
    /// Delete the keys if ours; worth trying until they must have expired by themselves.
    Release {
        not_after: BootInstant,
    },
    /// Tell who holds the first key.
    Look,
}

/// A node's answer to a request it understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done,
    /// Taken, under this token.
    Granted(u64),
    /// The keys are not there.
    Missing,
    /// Another owner has them.
    Foreign,
    Quarantined(Duration),
    /// Who holds the key, if anyone does.
    Seen(Option<Sighting>),
}

/// A holder as a node tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sighting {
    pub(crate) owner: Bytes,
    pub(crate) token: Option<u64>,
    pub(crate) data: Option<Bytes>,
}

pub(crate) type Outcome = Result<Answer, NodeCause>;
/// Node number and outcome; whoever asked may have stopped listening.
pub(crate) type Outcomes = mpsc::UnboundedSender<(usize, Outcome)>;

/// One request on its way to one node.
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) claim: Arc<Claim>,
    pub(crate) node: usize,
    /// Not written after this. Releases ignore it: theirs is in the verb.
    pub(crate) deadline: Instant,
    pub(crate) outcomes: Option<Outcomes>,
    /// A place in the node's bounded queue, held until the reply is in or the connection gone.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Request {
    pub(crate) fn is_release(&self) -> bool {
        matches!(self.verb, Verb::Release { .. })
    }

    /// Whether writing the request now could still do any good.
    pub(crate) fn is_live(&self) -> bool {
        match self.verb {
            Verb::Release { not_after } => {
                self.claim.is_sent(self.node) && BootInstant::now() < not_after
            }
            Verb::Acquire(_) | Verb::Fence { .. } | Verb::Extend(_) | Verb::Look => {
                !self.claim.is_abandoned() && Instant::now() < self.deadline
            }
        }
    }

    /// Reports the outcome to whoever still listens.
    pub(crate) fn report(&mut self, outcome: Outcome) {
        if let Some(outcomes) = self.outcomes.take() {
            // A receiver that is gone was decided, or cancelled; its release is on its way.
            let _ = outcomes.send((self.node, outcome));
        }
        self.permit = None;
    }

    /// Why the node cannot be asked this at all.
    pub(crate) fn unsupported(&self, dialect: Dialect) -> Option<NodeCause> {
        let taking = matches!(self.verb, Verb::Acquire(_));
        if taking && dialect == Dialect::Plain && self.claim.mode != Mode::Exclusive {
            return Some(NodeCause::Unsupported(
                "shared locks and semaphores need a Holdfast server".to_owned(),
            ));
        }
        None
    }

    pub(crate) fn write(&self, out: &mut BytesMut, form: Form, dialect: Dialect) {
        match dialect {
            Dialect::Plain => self.write_plain(out, form),
            Dialect::Native => self.write_native(out, form),
        }
    }

    fn write_plain(&self, out: &mut BytesMut, form: Form) {
        let claim = &self.claim;
        let owner = claim.owner.as_str().as_bytes();
        match self.verb {
            Verb::Acquire(ttl) => {
                let ttl = ttl.as_millis().to_string();
                if let [key] = claim.keys.as_slice() {
                    encode(out, &[b"SET", key, owner, b"NX", b"PX", ttl.as_bytes()]);
                } else {
                    script::TAKE.write(out, form, &claim.keys, &[owner, ttl.as_bytes()]);
                }
            }
            // A node that cannot fence can still say whether the lock is there.
            Verb::Extend(ttl) | Verb::Fence { ttl, .. } => {
                let ttl = ttl.as_millis().to_string();
                script::EXTEND.write(out, form, &claim.keys, &[owner, ttl.as_bytes()]);
            }
            Verb::Release { .. } => script::RELEASE.write(out, form, &claim.keys, &[owner]),
            Verb::Look => encode(out, &[b"GET", &claim.keys[0]]),
        }
    }

    fn write_native(&self, out: &mut BytesMut, form: Form) {
        let claim = &self.claim;
        let owner = claim.owner.as_str().as_bytes();
        let single = claim.keys.len() == 1;
        let key: &[u8] = &claim.keys[0];
        match self.verb {
            Verb::Acquire(ttl) => write_acquire(out, form, claim, ttl, &[]),
            Verb::Fence { ttl, token } => {
                let (ttl, token) = (ttl.as_millis().to_string(), token.to_string());
                let tail: [&[u8]; 4] = [owner, ttl.as_bytes(), b"FENCE", token.as_bytes()];
                if single {
                    encode(out, &[b"LOCK.RENEW", key, tail[0], tail[1], tail[2], tail[3]]);
                } else {
                    script::LOCK_RENEW.write(out, form, &claim.keys, &tail);
                }
            }
            Verb::Extend(ttl) => {
                let ttl = ttl.as_millis().to_string();
                if single {
                    encode(out, &[b"LOCK.RENEW", key, owner, ttl.as_bytes()]);
                } else {
                    script::LOCK_RENEW.write(out, form, &claim.keys, &[owner, ttl.as_bytes()]);
                }
            }
            Verb::Release { .. } if single => encode(out, &[b"LOCK.RELEASE", key, owner]),
            Verb::Release { .. } => script::LOCK_RELEASE.write(out, form, &claim.keys, &[owner]),
            Verb::Look => encode(out, &[b"LOCK.INFO", key]),
        }
    }

    /// What `reply` says about this request, written in `dialect`.
    pub(crate) fn read(&self, reply: &Reply, dialect: Dialect) -> Outcome {
        if let Reply::Error(text) = reply {
            if let Some(left) = quarantine(text) {
                return Ok(Answer::Quarantined(left));
            }
            // Something of another kind stands where the lock would be.
            return match self.verb {
                Verb::Extend(_) | Verb::Fence { .. } if text.starts_with("WRONGTYPE") => {
                    Ok(Answer::Foreign)
                }
                Verb::Release { .. } if text.starts_with("WRONGTYPE") => Ok(Answer::Missing),
                Verb::Look if text.starts_with("WRONGTYPE") => Ok(Answer::Seen(None)),
                _ => Err(NodeCause::Refused(text.clone())),
            };
        }
        match (self.verb, reply) {
            (Verb::Acquire(_), Reply::Text(ok)) if ok.as_ref() == b"OK" => Ok(Answer::Done),
            (Verb::Acquire(_), reply) if granted(reply).is_some() => {
                Ok(Answer::Granted(granted(reply).unwrap_or_default()))
            }
            (Verb::Acquire(_) | Verb::Release { .. }, Reply::Int(1)) => Ok(Answer::Done),
            (Verb::Acquire(_), Reply::Nil | Reply::Int(0)) => Ok(Answer::Foreign),
            (Verb::Extend(ttl) | Verb::Fence { ttl, .. }, Reply::Int(1..)) => {
                if dialect == Dialect::Native && self.claim.may_be_cut_short(self.node, ttl) {
                    return Err(NodeCause::Disconnected(
                        "an earlier and shorter extension may still arrive there".to_owned(),
                    ));
                }
                Ok(Answer::Done)
            }
            (Verb::Extend(_) | Verb::Fence { .. }, Reply::Int(-1)) => Ok(Answer::Foreign),
            (Verb::Extend(_) | Verb::Fence { .. }, Reply::Int(0) | Reply::Nil)
            | (Verb::Release { .. }, Reply::Int(0)) => Ok(Answer::Missing),
            (Verb::Look, Reply::Nil) => Ok(Answer::Seen(None)),
            (Verb::Look, Reply::Text(owner)) => {
                Ok(Answer::Seen(Some(Sighting { owner: owner.clone(), token: None, data: None })))
            }
            (Verb::Look, Reply::List(fields)) => Ok(Answer::Seen(sighting(fields))),
            (_, other) => Err(NodeCause::Protocol(format!("{other:?}"))),
        }
    }
}

/// Appends LOCK.ACQUIRE, or its script for several keys, with more options at its end.
pub(crate) fn write_acquire(
    out: &mut BytesMut,
    form: Form,
    claim: &Claim,
    ttl: Ttl,
    more: &[&[u8]],
) {
    let ttl = ttl.as_millis().to_string();
    let (count, limit);
    let mut args: Vec<&[u8]> = vec![claim.owner.as_str().as_bytes(), ttl.as_bytes()];
    match claim.mode {
        Mode::Exclusive => {}
        Mode::Shared => args.push(b"SHARED"),
        Mode::Permits { count: permits, limit: most } => {
            (count, limit) = (permits.to_string(), most.to_string());
            args.extend([&b"PERMITS"[..], count.as_bytes(), b"LIMIT", limit.as_bytes()]);
        }
    }
    if let Some(data) = &claim.data {
        args.extend([&b"DATA"[..], data]);
    }
    args.extend_from_slice(more);
    if let [key] = claim.keys.as_slice() {
        args.splice(0..0, [&b"LOCK.ACQUIRE"[..], key]);
        encode(out, &args);
    } else {
        script::LOCK_TAKE.write(out, form, &claim.keys, &args);
    }
}

/// The token in LOCK.ACQUIRE's reply: `[token, pttl]`, or in RESP3 a map of them.
pub(crate) fn granted(reply: &Reply) -> Option<u64> {
    let Reply::List(items) = reply else { return None };
    let token = match items.as_slice() {
        [token, _] => token,
        fields => field(fields, "token")?,
    };
    match token {
        Reply::Int(token) => u64::try_from(*token).ok(),
        _ => None,
    }
}

/// The value of a field in a map, which is a flat list here.
fn field<'a>(fields: &'a [Reply], name: &str) -> Option<&'a Reply> {
    let is_it = |key: &Reply| matches!(key, Reply::Text(text) if text.as_ref() == name.as_bytes());
    fields.chunks_exact(2).find(|pair| is_it(&pair[0])).map(|pair| &pair[1])
}

/// The holder in LOCK.INFO's reply with the greatest token.
fn sighting(fields: &[Reply]) -> Option<Sighting> {
    let Reply::List(holders) = field(fields, "holders")? else { return None };
    // In the order in which they came.
    let Reply::List(holder) = holders.last()? else { return None };
    let text = |name| match field(holder, name) {
        Some(Reply::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let token = match field(holder, "token") {
        Some(Reply::Int(token)) => u64::try_from(*token).ok(),
        _ => None,
    };
    Some(Sighting { owner: text("owner")?, token, data: text("data") })
}

/// Time left, from `QUARANTINE <ms> ...`.
pub(crate) fn quarantine(text: &str) -> Option<Duration> {
    let mut words = text.split_ascii_whitespace();
    if words.next()? != "QUARANTINE" {
        return None;
    }
    // A quarantine of unreadable length is still one.
    let left_ms = words.next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
    Some(Duration::from_millis(left_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::Owner;

    fn request(verb: Verb, keys: &[&'static str]) -> Request {
        let keys = keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
        Request {
            verb,
            claim: Arc::new(Claim::new(keys, Owner::random().unwrap(), 1)),
            node: 0,
            deadline: Instant::now() + Duration::from_secs(60),
            outcomes: None,
            permit: None,
        }
    }

    fn ttl() -> Ttl {
        Ttl::new(Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn one_key_is_taken_by_set_and_several_by_script() {
        let mut out = BytesMut::new();
        let one = request(Verb::Acquire(ttl()), &["k"]);
        one.write(&mut out, Form::Digest, Dialect::Plain);
        let owner = one.claim.owner.as_str();
        let expected = format!(
            "*6\r\n$3\r\nSET\r\n$1\r\nk\r\n$40\r\n{owner}\r\n$2\r\nNX\r\n$2\r\nPX\r\n$4\r\n5000\r\n"
        );
        assert_eq!(out, expected);

        out.clear();
        request(Verb::Acquire(ttl()), &["a", "b"]).write(&mut out, Form::Digest, Dialect::Plain);
        assert!(out.starts_with(b"*7\r\n$7\r\nEVALSHA\r\n$40\r\n"));
    }

    fn read(request: &Request, reply: &Reply) -> Outcome {
        request.read(reply, Dialect::Plain)
    }

    #[test]
    fn holdfast_is_asked_in_its_own_words() {
        let mut out = BytesMut::new();
        let mut one = request(Verb::Acquire(ttl()), &["k"]);
        Arc::get_mut(&mut one.claim).unwrap().mode = Mode::Permits { count: 2, limit: 5 };
        one.write(&mut out, Form::Digest, Dialect::Native);
        let text = String::from_utf8_lossy(&out).replace("\r\n", " ");
        assert!(text.starts_with("*8 $12 LOCK.ACQUIRE $1 k $40 "), "{text}");
        assert!(text.ends_with(" $4 5000 $7 PERMITS $1 2 $5 LIMIT $1 5 "), "{text}");
        assert!(one.unsupported(Dialect::Native).is_none());
        assert!(one.unsupported(Dialect::Plain).is_some());

        out.clear();
        let fence = request(Verb::Fence { ttl: ttl(), token: 7 }, &["k"]);
        fence.write(&mut out, Form::Digest, Dialect::Native);
        assert!(
            out.starts_with(b"*6\r\n$10\r\nLOCK.RENEW\r\n")
                && out.ends_with(b"FENCE\r\n$1\r\n7\r\n")
        );
    }

    #[test]
    fn holdfasts_replies_are_read() {
        let native = |request: &Request, reply: &Reply| request.read(reply, Dialect::Native);
        let acquire = request(Verb::Acquire(ttl()), &["k"]);
        let list = Reply::List(vec![Reply::Int(7), Reply::Int(5000)]);
        let map = Reply::List(vec![
            Reply::Text("token".into()),
            Reply::Int(7),
            Reply::Text("pttl".into()),
            Reply::Int(5000),
        ]);
        assert_eq!(native(&acquire, &list), Ok(Answer::Granted(7)));
        assert_eq!(native(&acquire, &map), Ok(Answer::Granted(7)));
        assert_eq!(native(&acquire, &Reply::Nil), Ok(Answer::Foreign));

        let extend = request(Verb::Extend(ttl()), &["k"]);
        assert_eq!(native(&extend, &Reply::Int(7)), Ok(Answer::Done));
        assert_eq!(native(&extend, &Reply::Nil), Ok(Answer::Missing));
        let wrong_type = Reply::Error("WRONGTYPE Operation against a key".into());
        assert_eq!(native(&extend, &wrong_type), Ok(Answer::Foreign));
        extend.claim.mark_stray_extend(0, Ttl::new(Duration::from_secs(1)).unwrap());
        assert!(native(&extend, &Reply::Int(7)).is_err(), "the stray one would cut it short");
    }

    #[test]
    fn replies_are_read_by_what_was_asked() {
        let acquire = request(Verb::Acquire(ttl()), &["k"]);
        assert_eq!(read(&acquire, &Reply::Text("OK".into())), Ok(Answer::Done));
        assert_eq!(read(&acquire, &Reply::Nil), Ok(Answer::Foreign));
        assert_eq!(
            read(&acquire, &Reply::Error("QUARANTINE 1500 restarted".into())),
            Ok(Answer::Quarantined(Duration::from_millis(1500)))
        );
        assert_eq!(
            read(&acquire, &Reply::Error("READONLY You can't write".into())),
            Err(NodeCause::Refused("READONLY You can't write".into()))
        );
        assert!(matches!(read(&acquire, &Reply::List(vec![])), Err(NodeCause::Protocol(_))));

        let extend = request(Verb::Extend(ttl()), &["k"]);
        assert_eq!(read(&extend, &Reply::Int(-1)), Ok(Answer::Foreign));
        assert_eq!(read(&extend, &Reply::Int(0)), Ok(Answer::Missing));
        assert_eq!(read(&extend, &Reply::Int(1)), Ok(Answer::Done));
    }

    #[test]
    fn an_abandoned_claim_is_only_ever_released() {
        let acquire = request(Verb::Acquire(ttl()), &["k"]);
        assert!(acquire.is_live());
        acquire.claim.abandon();
        assert!(!acquire.is_live());

        let not_after = BootInstant::now().after(Duration::from_secs(60));
        let release =
            Request { claim: acquire.claim, ..request(Verb::Release { not_after }, &["k"]) };
        assert!(!release.is_live(), "nothing was ever sent, so nothing is to be released");
        release.claim.mark_sent(0);
        assert!(release.is_live());
    }
}
