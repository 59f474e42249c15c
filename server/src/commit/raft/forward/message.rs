//! What one member asks of another on behalf of its clients, as bytes.
//!
//! A frame is `id u64 | kind u8 | body`: the answer to a request bears its id. Requests and answers
//! belong to a version that both ends name first (see [`VERSION`]); within a version numbers are
//! frozen.

use bytes::Bytes;
use holdfast_engine::Reply;
use holdfast_engine::effects::{Audience, Wait};
use holdfast_engine::time::{DbIndex, UnixMillis};

use super::super::once::{put_reply, reply};
use super::super::outcome::{Outcome, Refusal};
use super::super::wire::{self, Malformed, Reader};

/// The version of these messages. A peer of another version is refused by name, and its clients are
/// told that the cluster has no leader it could reach.
pub const VERSION: u8 = 1;

/// A command that waits for its keys at the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Park {
    /// The database it runs in.
    pub db: DbIndex,
    /// The address of its client.
    pub addr: String,
    /// The command.
    pub args: Vec<Vec<u8>>,
}

/// A message for subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Of channels or of shard channels.
    pub audience: Audience,
    /// The channel.
    pub channel: Bytes,
    /// The message.
    pub payload: Bytes,
}

/// What is asked about the subscriptions of a node's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listeners {
    /// The channels that match a pattern; all without one.
    Channels(Audience, Option<Bytes>),
    /// How many clients listen to each of these channels.
    Counts(Audience, Vec<Bytes>),
    /// The patterns.
    Patterns,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Propose these, see [`super::super::batch`]. Answered by [`Answer::Done`].
    Submit(Bytes),
    /// As `Submit`, for a parked command whose turn it is: it stands behind nobody.
    SubmitTurn(Bytes),
    /// From which index on, and at which time, a read of any member's state is linearizable.
    /// Answered by [`Answer::ReadAt`].
    ReadAt,
    /// Run these reads here, where they are linearizable. Answered by [`Answer::Done`].
    Read(Bytes),
    /// Let this command wait for its keys. Answered by [`Answer::Turn`] each time that its turn
    /// comes, and by a refusal when the node can no longer tell.
    Park(Park),
    /// What a parked command came to when its turn came: it waits on, or, if this is `None`, is
    /// over. Bears the id of the [`Request::Park`]; without a turn it ends the wait.
    Parked(Option<Wait>),
    /// How many followers have the log up to this index; 0 for what is applied now. Answered by
    /// [`Answer::Acked`].
    Acked(u64),
    /// For how long the leader has not heard of each member. Answered by [`Answer::Silences`].
    Silences,
    /// Run this command of the server. Answered by [`Answer::Reply`].
    Run(Vec<Vec<u8>>),
    /// Hand these to subscribers. Answered by [`Answer::Counts`].
    Publish(Vec<Publication>),
    /// Answered by [`Answer::Names`] or [`Answer::Counts`].
    Listeners(Listeners),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Why there is none.
    Refused(Refusal),
    /// What proposals or reads came to, and the index behind which it holds on any member.
    Done(u64, Vec<Outcome>),
    /// Read when everything below this index is applied, at this time.
    ReadAt(u64, UnixMillis),
    /// It is the parked command's turn.
    Turn,
    /// So many followers have this index.
    Acked(u64, u64),
    /// Members, and for how many ms each has been silent.
    Silences(Vec<(u64, u64)>),
    /// A reply.
    Reply(Reply),
    /// Numbers, in the order of what was asked.
    Counts(Vec<u64>),
    /// Names.
    Names(Vec<Bytes>),
}

const SUBMIT: u8 = 1;
const READ_AT: u8 = 2;
const READ: u8 = 3;
const PARK: u8 = 4;
const PARKED: u8 = 5;
const ACKED: u8 = 6;
const RUN: u8 = 7;
const PUBLISH: u8 = 8;
const CHANNELS: u8 = 9;
const COUNTS: u8 = 10;
const PATTERNS: u8 = 11;
const SUBMIT_TURN: u8 = 12;
const SILENCES: u8 = 13;

const REFUSED: u8 = 1;
const DONE: u8 = 2;
const READ_FROM: u8 = 3;
const TURN: u8 = 4;
const ACKED_BY: u8 = 5;
const REPLY: u8 = 6;
const NUMBERS: u8 = 7;
const NAMES: u8 = 8;
const SILENT_FOR: u8 = 9;

fn put_bool(out: &mut Vec<u8>, yes: bool) {
    out.push(u8::from(yes));
}

fn bool(from: &mut Reader<'_>) -> Result<bool, Malformed> {
    match from.u8("yes or no")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("yes or no")),
    }
}

fn put_audience(out: &mut Vec<u8>, audience: Audience) {
    put_bool(out, audience == Audience::Shard);
}

fn audience(from: &mut Reader<'_>) -> Result<Audience, Malformed> {
    Ok(if bool(from)? { Audience::Shard } else { Audience::Channel })
}

fn put_all<T: AsRef<[u8]>>(out: &mut Vec<u8>, all: &[T]) {
    wire::put_u32(out, all.len() as u32);
    all.iter().for_each(|one| wire::put_bytes(out, one.as_ref()));
}

/// Byte strings, each of at least its length's four bytes.
fn all(from: &mut Reader<'_>) -> Result<Vec<Bytes>, Malformed> {
    (0..from.count(4, "list")?).map(|_| Ok(Bytes::copy_from_slice(from.bytes("item")?))).collect()
}

fn args(from: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    let count = from.count(4, "command")?;
    if count == 0 {
        return Err(Malformed("command"));
    }
    (0..count).map(|_| Ok(from.bytes("argument")?.to_vec())).collect()
}

fn put_wait(out: &mut Vec<u8>, wait: Wait) {
    put_bool(out, wait.timeout_ms.is_some());
    wire::put_u64(out, wait.timeout_ms.unwrap_or(0));
    put_bool(out, wait.retry_at.is_some());
    wire::put_u64(out, wait.retry_at.map_or(0, |at| at.0 as u64));
}

fn wait(from: &mut Reader<'_>) -> Result<Wait, Malformed> {
    let (ends, timeout_ms) = (bool(from)?, from.u64("timeout")?);
    let (again, retry_at) = (bool(from)?, from.u64("time")?);
    Ok(Wait {
        timeout_ms: ends.then_some(timeout_ms),
        retry_at: again.then_some(UnixMillis(retry_at as i64)),
    })
}

impl Request {
    /// Appends kind and body.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Submit(items) => {
                out.push(SUBMIT);
                out.extend_from_slice(items);
            }
            Self::SubmitTurn(items) => {
                out.push(SUBMIT_TURN);
                out.extend_from_slice(items);
            }
            Self::ReadAt => out.push(READ_AT),
            Self::Read(items) => {
                out.push(READ);
                out.extend_from_slice(items);
            }
            Self::Park(park) => {
                out.push(PARK);
                out.extend_from_slice(&park.db.0.to_le_bytes());
                wire::put_bytes(out, park.addr.as_bytes());
                put_all(out, &park.args);
            }
            Self::Parked(standing) => {
                out.push(PARKED);
                put_bool(out, standing.is_some());
                if let Some(wait) = standing {
                    put_wait(out, *wait);
                }
            }
            Self::Acked(index) => {
                out.push(ACKED);
                wire::put_u64(out, *index);
            }
            Self::Silences => out.push(SILENCES),
            Self::Run(args) => {
                out.push(RUN);
                put_all(out, args);
            }
            Self::Publish(messages) => {
                out.push(PUBLISH);
                wire::put_u32(out, messages.len() as u32);
                for message in messages {
                    put_audience(out, message.audience);
                    wire::put_bytes(out, &message.channel);
                    wire::put_bytes(out, &message.payload);
                }
            }
            Self::Listeners(Listeners::Channels(audience, pattern)) => {
                out.push(CHANNELS);
                put_audience(out, *audience);
                put_all(out, pattern.as_slice());
            }
            Self::Listeners(Listeners::Counts(audience, channels)) => {
                out.push(COUNTS);
                put_audience(out, *audience);
                put_all(out, channels);
            }
            Self::Listeners(Listeners::Patterns) => out.push(PATTERNS),
        }
    }

    /// Reads kind and body.
    ///
    /// # Errors
    /// When they are not what [`Request::put`] writes.
    pub fn read(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let kind = from.u8("request")?;
        let rest = || bytes.slice(1..);
        let request = match kind {
            SUBMIT => return Ok(Self::Submit(rest())),
            SUBMIT_TURN => return Ok(Self::SubmitTurn(rest())),
            READ => return Ok(Self::Read(rest())),
            READ_AT => Self::ReadAt,
            PARK => Self::Park(Park {
                db: DbIndex(from.u16("db")?),
                addr: from.text("address")?,
                args: args(&mut from)?,
            }),
            PARKED => Self::Parked(match bool(&mut from)? {
                true => Some(wait(&mut from)?),
                false => None,
            }),
            ACKED => Self::Acked(from.u64("index")?),
            SILENCES => Self::Silences,
            RUN => Self::Run(args(&mut from)?),
            PUBLISH => {
                let count = from.count(9, "messages")?;
                let message = |from: &mut Reader<'_>| {
                    Ok(Publication {
                        audience: audience(from)?,
                        channel: Bytes::copy_from_slice(from.bytes("channel")?),
                        payload: Bytes::copy_from_slice(from.bytes("message")?),
                    })
                };
                Self::Publish((0..count).map(|_| message(&mut from)).collect::<Result<_, _>>()?)
            }
            CHANNELS => {
                let audience = audience(&mut from)?;
                Self::Listeners(Listeners::Channels(audience, all(&mut from)?.pop()))
            }
            COUNTS => {
                let audience = audience(&mut from)?;
                Self::Listeners(Listeners::Counts(audience, all(&mut from)?))
            }
            PATTERNS => Self::Listeners(Listeners::Patterns),
            _ => return Err(Malformed("request")),
        };
        if from.is_empty() { Ok(request) } else { Err(Malformed("request")) }
    }
}

const NOT_LEADER: u8 = 1;
const NO_QUORUM: u8 = 2;
const UNKNOWN: u8 = 3;
const TOO_LARGE: u8 = 4;
const FAILED: u8 = 5;
const PAUSED: u8 = 6;

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.push(match refusal {
        Refusal::NotLeader => NOT_LEADER,
        Refusal::NoQuorum => NO_QUORUM,
        Refusal::Unknown => UNKNOWN,
        Refusal::TooLarge => TOO_LARGE,
        Refusal::Failed(_) => FAILED,
        Refusal::Paused => PAUSED,
    });
    if let Refusal::Failed(text) = refusal {
        wire::put_bytes(out, text.as_bytes());
    }
}

fn refusal(from: &mut Reader<'_>) -> Result<Refusal, Malformed> {
    Ok(match from.u8("refusal")? {
        NOT_LEADER => Refusal::NotLeader,
        NO_QUORUM => Refusal::NoQuorum,
        UNKNOWN => Refusal::Unknown,
        TOO_LARGE => Refusal::TooLarge,
        FAILED => Refusal::Failed(from.text("text")?),
        PAUSED => Refusal::Paused,
        _ => return Err(Malformed("refusal")),
    })
}

const OUTCOME_REPLY: u8 = 1;
const OUTCOME_WAIT: u8 = 2;
const OUTCOME_TRANSACTION: u8 = 3;
const OUTCOME_CHANGED: u8 = 4;

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Reply { reply, hits, misses, took_us } => {
            out.push(OUTCOME_REPLY);
            wire::put_u32(out, *hits);
            wire::put_u32(out, *misses);
            wire::put_u64(out, *took_us);
            put_reply(out, reply);
        }
        Outcome::Wait(wait) => {
            out.push(OUTCOME_WAIT);
            put_wait(out, *wait);
        }
        Outcome::Transaction(Some((replies, took_us))) => {
            out.push(OUTCOME_TRANSACTION);
            wire::put_u64(out, *took_us);
            wire::put_u32(out, replies.len() as u32);
            replies.iter().for_each(|reply| put_reply(out, reply));
        }
        Outcome::Transaction(None) => out.push(OUTCOME_CHANGED),
    }
}

fn outcome(from: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    Ok(match from.u8("outcome")? {
        OUTCOME_REPLY => {
            let (hits, misses) = (from.u32("hits")?, from.u32("misses")?);
            let took_us = from.u64("time")?;
            Outcome::Reply { reply: reply(from, 0)?, hits, misses, took_us }
        }
        OUTCOME_WAIT => Outcome::Wait(wait(from)?),
        OUTCOME_TRANSACTION => {
            let took_us = from.u64("time")?;
            let count = from.count(1, "replies")?;
            let replies = (0..count).map(|_| reply(from, 0)).collect::<Result<_, _>>()?;
            Outcome::Transaction(Some((replies, took_us)))
        }
        OUTCOME_CHANGED => Outcome::Transaction(None),
        _ => return Err(Malformed("outcome")),
    })
}

impl Answer {
    /// Appends kind and body.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Refused(refusal) => {
                out.push(REFUSED);
                put_refusal(out, refusal);
            }
            Self::Done(next, outcomes) => {
                out.push(DONE);
                wire::put_u64(out, *next);
                wire::put_u32(out, outcomes.len() as u32);
                outcomes.iter().for_each(|outcome| put_outcome(out, outcome));
            }
            Self::ReadAt(next, now) => {
                out.push(READ_FROM);
                wire::put_u64(out, *next);
                wire::put_u64(out, now.0 as u64);
            }
            Self::Turn => out.push(TURN),
            Self::Acked(index, count) => {
                out.push(ACKED_BY);
                wire::put_u64(out, *index);
                wire::put_u64(out, *count);
            }
            Self::Silences(silences) => {
                out.push(SILENT_FOR);
                wire::put_u32(out, silences.len() as u32);
                for (id, ms) in silences {
                    wire::put_u64(out, *id);
                    wire::put_u64(out, *ms);
                }
            }
            Self::Reply(reply) => {
                out.push(REPLY);
                put_reply(out, reply);
            }
            Self::Counts(counts) => {
                out.push(NUMBERS);
                wire::put_u32(out, counts.len() as u32);
                counts.iter().for_each(|count| wire::put_u64(out, *count));
            }
            Self::Names(names) => {
                out.push(NAMES);
                put_all(out, names);
            }
        }
    }

    /// Reads kind and body.
    ///
    /// # Errors
    /// When they are not what [`Answer::put`] writes.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let answer = match from.u8("answer")? {
            REFUSED => Self::Refused(refusal(&mut from)?),
            DONE => {
                let next = from.u64("index")?;
                let count = from.count(1, "outcomes")?;
                let outcomes = (0..count).map(|_| outcome(&mut from));
                Self::Done(next, outcomes.collect::<Result<_, _>>()?)
            }
            READ_FROM => Self::ReadAt(from.u64("index")?, UnixMillis(from.u64("time")? as i64)),
            TURN => Self::Turn,
            ACKED_BY => Self::Acked(from.u64("index")?, from.u64("count")?),
            SILENT_FOR => {
                let count = from.count(16, "silences")?;
                let silences = (0..count).map(|_| Ok((from.u64("member")?, from.u64("silence")?)));
                Self::Silences(silences.collect::<Result<_, _>>()?)
            }
            REPLY => Self::Reply(reply(&mut from, 0)?),
            NUMBERS => {
                let count = from.count(8, "numbers")?;
                Self::Counts((0..count).map(|_| from.u64("number")).collect::<Result<_, _>>()?)
            }
            NAMES => Self::Names(all(&mut from)?),
            _ => return Err(Malformed("answer")),
        };
        if from.is_empty() { Ok(answer) } else { Err(Malformed("answer")) }
    }
}

/// Puts a message with the id that it bears.
pub fn put_with_id(out: &mut Vec<u8>, id: u64, put: impl FnOnce(&mut Vec<u8>)) {
    wire::put_u64(out, id);
    put(out);
}

/// The id of a frame, and what follows it.
///
/// # Errors
/// When there is none.
pub fn split_id(bytes: Bytes) -> Result<(u64, Bytes), Malformed> {
    let id = Reader::new(&bytes).u64("id")?;
    Ok((id, bytes.slice(8..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_engine::CommandError;

    fn requests() -> Vec<Request> {
        let text = |text: &'static [u8]| Bytes::from_static(text);
        vec![
            Request::Submit(text(b"items")),
            Request::SubmitTurn(text(b"")),
            Request::ReadAt,
            Request::Read(text(b"items")),
            Request::Park(Park {
                db: DbIndex(3),
                addr: "127.0.0.1:5".to_owned(),
                args: vec![b"blpop".to_vec(), Vec::new(), b"0".to_vec()],
            }),
            Request::Parked(None),
            Request::Parked(Some(Wait { timeout_ms: None, retry_at: Some(UnixMillis(-5)) })),
            Request::Acked(77),
            Request::Silences,
            Request::Run(vec![b"raft.node".to_vec(), b"remove".to_vec()]),
            Request::Publish(vec![Publication {
                audience: Audience::Shard,
                channel: text(b"c"),
                payload: text(b""),
            }]),
            Request::Listeners(Listeners::Channels(Audience::Channel, None)),
            Request::Listeners(Listeners::Channels(Audience::Shard, Some(text(b"a*")))),
            Request::Listeners(Listeners::Counts(Audience::Channel, vec![text(b"a"), text(b"b")])),
            Request::Listeners(Listeners::Patterns),
        ]
    }

    fn answers() -> Vec<Answer> {
        let refusals = [
            Refusal::NotLeader,
            Refusal::NoQuorum,
            Refusal::Unknown,
            Refusal::TooLarge,
            Refusal::Failed("disk".to_owned()),
            Refusal::Paused,
        ];
        let mut answers: Vec<Answer> = refusals.into_iter().map(Answer::Refused).collect();
        let error = Reply::error(CommandError::new("ERR no".to_owned()));
        answers.extend([
            Answer::Done(
                9,
                vec![
                    Outcome::Reply { reply: Reply::Ok, hits: 1, misses: 2, took_us: 3 },
                    Outcome::Wait(Wait::for_key(Some(5))),
                    Outcome::Transaction(None),
                    Outcome::Transaction(Some((vec![Reply::Nil, error], 4))),
                ],
            ),
            Answer::ReadAt(4, UnixMillis(1_700_000_000_000)),
            Answer::Turn,
            Answer::Acked(8, 2),
            Answer::Silences(vec![(1, 0), (2, 1500)]),
            Answer::Reply(Reply::bulk(b"x")),
            Answer::Counts(vec![1, u64::MAX]),
            Answer::Names(vec![Bytes::from_static(b"a"), Bytes::new()]),
        ]);
        answers
    }

    #[test]
    fn messages_are_read_as_written() {
        for request in requests() {
            let mut bytes = Vec::new();
            request.put(&mut bytes);
            assert_eq!(Request::read(&bytes.into()), Ok(request));
        }
        for answer in answers() {
            let mut bytes = Vec::new();
            answer.put(&mut bytes);
            assert_eq!(Answer::read(&bytes), Ok(answer));
        }
    }

    #[test]
    fn a_cut_or_longer_message_is_an_error_and_no_panic() {
        for request in requests() {
            let mut bytes = Vec::new();
            request.put(&mut bytes);
            let takes_all =
                matches!(request, Request::Submit(_) | Request::SubmitTurn(_) | Request::Read(_));
            for len in 0..bytes.len() {
                let cut = Request::read(&Bytes::copy_from_slice(&bytes[..len]));
                assert!(cut.is_err() || takes_all && len > 0, "{request:?} cut at {len}");
            }
            bytes.push(0);
            assert!(Request::read(&bytes.into()).is_err() || takes_all, "{request:?}");
        }
        for answer in answers() {
            let mut bytes = Vec::new();
            answer.put(&mut bytes);
            for len in 0..bytes.len() {
                assert!(Answer::read(&bytes[..len]).is_err(), "{answer:?} cut at {len}");
            }
            bytes.push(0);
            assert!(Answer::read(&bytes).is_err(), "{answer:?}");
        }
    }

    /// The bytes that members of one version send each other.
    #[test]
    fn the_format_of_this_version_is_frozen() {
        let mut bytes = Vec::new();
        for request in requests() {
            request.put(&mut bytes);
        }
        for answer in answers() {
            answer.put(&mut bytes);
        }
        assert_eq!((VERSION, crc(&bytes)), (1, 1_343_654_638));
    }

    fn crc(bytes: &[u8]) -> u32 {
        crc32fast::hash(bytes)
    }
}
