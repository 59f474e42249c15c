//! Requests to one node, how they look on the wire, and what the replies mean.
//!
//! This is the dialect of plain Redis and Valkey: `SET NX PX` and three scripts. A node that speaks a
//! richer one would differ here and nowhere else.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::clock::BootInstant;
use crate::error::NodeCause;
use crate::lease::Ttl;
use crate::net::codec::{Reply, encode};
use crate::owner::Owner;

/// A script and the digest servers keep it by.
struct Script {
    source: &'static str,
    sha: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        let mut sha = String::new();
        for byte in Sha1::digest(source.as_bytes()) {
            // Writing to a String cannot fail.
            let _ = write!(sha, "{byte:02x}");
        }
        Self { source, sha }
    }
}

/// All keys or none; a key that is already ours is kept, so that a top-up may repeat itself.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:take
for i = 1, #KEYS do
  local v = redis.pcall('get', KEYS[i])
  if v and v ~= ARGV[1] then return 0 end
end
for i = 1, #KEYS do redis.call('set', KEYS[i], ARGV[1], 'PX', ARGV[2]) end
return 1",
    )
});

/// 1 extended, 0 forgotten here, -1 another owner's. Only ever lengthens: an extension that fails to
/// find a quorum must not have cut short the lease that still stands.
static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:extend
local missing = false
for i = 1, #KEYS do
  local v = redis.pcall('get', KEYS[i])
  if not v then missing = true elseif v ~= ARGV[1] then return -1 end
end
if missing then return 0 end
for i = 1, #KEYS do
  if redis.call('pttl', KEYS[i]) < tonumber(ARGV[2]) then redis.call('pexpire', KEYS[i], ARGV[2]) end
end
return 1",
    )
});

/// Deletes what is ours; 1 if that was every key.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "-- redlock:release
local n = 0
for i = 1, #KEYS do
  if redis.pcall('get', KEYS[i]) == ARGV[1] then n = n + redis.call('del', KEYS[i]) end
end
if n == #KEYS then return 1 end
return 0",
    )
});

/// What one acquisition has asked of the nodes, shared by everything that acts on it.
pub(crate) struct Claim {
    pub(crate) keys: Vec<Bytes>,
    pub(crate) owner: Owner,
    /// Once set, nothing but releases is written any more, even if it was queued before.
    abandoned: AtomicBool,
    /// Per node: [`SENT`] and [`SUSPECT`].
    marks: Box<[AtomicU8]>,
}

/// The node may hold the keys: a request that takes them was written.
const SENT: u8 = 1;
/// Such a request was written to a connection that then broke, so it may still take effect.
const SUSPECT: u8 = 2;

impl Claim {
    pub(crate) fn new(keys: Vec<Bytes>, owner: Owner, nodes: usize) -> Self {
        Self {
            keys,
            owner,
            abandoned: AtomicBool::new(false),
            marks: (0..nodes).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    pub(crate) fn mark_sent(&self, node: usize) {
        self.marks[node].fetch_or(SENT, Ordering::SeqCst);
    }

    pub(crate) fn is_sent(&self, node: usize) -> bool {
        self.marks[node].load(Ordering::SeqCst) & SENT != 0
    }

    pub(crate) fn mark_suspect(&self, node: usize) {
        self.marks[node].fetch_or(SUSPECT, Ordering::SeqCst);
    }

    /// Whether the node was suspect; it is not any more.
    pub(crate) fn take_suspect(&self, node: usize) -> bool {
        self.marks[node].fetch_and(!SUSPECT, Ordering::SeqCst) & SUSPECT != 0
    }
}

/// What is asked of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verb {
    /// Take the keys if free. Also gives them back to a node that has forgotten them.
    Acquire(Ttl),
    Extend(Ttl),
    /// Delete the keys if ours; worth trying until they must have expired by themselves.
    Release {
        not_after: BootInstant,
    },
}

/// A node's answer to a request it understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done,
    /// The keys are not there.
    Missing,
    /// Another owner has them.
    Foreign,
    Quarantined(Duration),
}

pub(crate) type Outcome = Result<Answer, NodeCause>;
/// Node number and outcome; whoever asked may have stopped listening.
pub(crate) type Outcomes = mpsc::UnboundedSender<(usize, Outcome)>;

/// One request on its way to one node.
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) claim: std::sync::Arc<Claim>,
    pub(crate) node: usize,
    /// Not written after this. Releases ignore it: theirs is in the verb.
    pub(crate) deadline: Instant,
    pub(crate) outcomes: Option<Outcomes>,
    /// A place in the node's bounded queue, held until the reply is in or the connection gone.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// How a script is named on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Digest,
    Source,
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
            Verb::Acquire(_) | Verb::Extend(_) => {
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

    pub(crate) fn write(&self, out: &mut BytesMut, form: Form) {
        let claim = &self.claim;
        let owner = claim.owner.as_str().as_bytes();
        match self.verb {
            Verb::Acquire(ttl) => {
                let ttl = ttl.as_millis().to_string();
                if let [key] = claim.keys.as_slice() {
                    encode(out, &[b"SET", key, owner, b"NX", b"PX", ttl.as_bytes()]);
                } else {
                    write_script(out, &TAKE, form, &claim.keys, &[owner, ttl.as_bytes()]);
                }
            }
            Verb::Extend(ttl) => {
                let ttl = ttl.as_millis().to_string();
                write_script(out, &EXTEND, form, &claim.keys, &[owner, ttl.as_bytes()]);
            }
            Verb::Release { .. } => write_script(out, &RELEASE, form, &claim.keys, &[owner]),
        }
    }

    /// What `reply` says about this request.
    pub(crate) fn read(&self, reply: &Reply) -> Outcome {
        match (self.verb, reply) {
            (_, Reply::Error(text)) => quarantine(text).map_or_else(
                || Err(NodeCause::Refused(text.clone())),
                |left| Ok(Answer::Quarantined(left)),
            ),
            (Verb::Acquire(_), Reply::Text(ok)) if ok.as_ref() == b"OK" => Ok(Answer::Done),
            (Verb::Acquire(_), Reply::Nil | Reply::Int(0)) => Ok(Answer::Foreign),
            (_, Reply::Int(1)) => Ok(Answer::Done),
            (Verb::Extend(_), Reply::Int(-1)) => Ok(Answer::Foreign),
            (Verb::Extend(_) | Verb::Release { .. }, Reply::Int(0)) => Ok(Answer::Missing),
            (_, other) => Err(NodeCause::Protocol(format!("{other:?}"))),
        }
    }
}

fn write_script(out: &mut BytesMut, script: &Script, form: Form, keys: &[Bytes], values: &[&[u8]]) {
    let count = keys.len().to_string();
    let mut args: Vec<&[u8]> = match form {
        Form::Digest => vec![b"EVALSHA", script.sha.as_bytes()],
        Form::Source => vec![b"EVAL", script.source.as_bytes()],
    };
    args.push(count.as_bytes());
    args.extend(keys.iter().map(AsRef::<[u8]>::as_ref));
    args.extend_from_slice(values);
    encode(out, &args);
}

/// Time left, from `QUARANTINE <ms> ...`.
fn quarantine(text: &str) -> Option<Duration> {
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

    fn request(verb: Verb, keys: &[&'static str]) -> Request {
        let keys = keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
        Request {
            verb,
            claim: std::sync::Arc::new(Claim::new(keys, Owner::random().unwrap(), 1)),
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
        one.write(&mut out, Form::Digest);
        let owner = one.claim.owner.as_str();
        let expected = format!(
            "*6\r\n$3\r\nSET\r\n$1\r\nk\r\n$40\r\n{owner}\r\n$2\r\nNX\r\n$2\r\nPX\r\n$4\r\n5000\r\n"
        );
        assert_eq!(out, expected);

        out.clear();
        request(Verb::Acquire(ttl()), &["a", "b"]).write(&mut out, Form::Digest);
        assert!(out.starts_with(b"*7\r\n$7\r\nEVALSHA\r\n$40\r\n"));
    }

    #[test]
    fn replies_are_read_by_what_was_asked() {
        let acquire = request(Verb::Acquire(ttl()), &["k"]);
        assert_eq!(acquire.read(&Reply::Text("OK".into())), Ok(Answer::Done));
        assert_eq!(acquire.read(&Reply::Nil), Ok(Answer::Foreign));
        assert_eq!(
            acquire.read(&Reply::Error("QUARANTINE 1500 restarted".into())),
            Ok(Answer::Quarantined(Duration::from_millis(1500)))
        );
        assert_eq!(
            acquire.read(&Reply::Error("READONLY You can't write".into())),
            Err(NodeCause::Refused("READONLY You can't write".into()))
        );
        assert!(matches!(acquire.read(&Reply::List(vec![])), Err(NodeCause::Protocol(_))));

        let extend = request(Verb::Extend(ttl()), &["k"]);
        assert_eq!(extend.read(&Reply::Int(-1)), Ok(Answer::Foreign));
        assert_eq!(extend.read(&Reply::Int(0)), Ok(Answer::Missing));
        assert_eq!(extend.read(&Reply::Int(1)), Ok(Answer::Done));
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
