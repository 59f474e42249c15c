//! What frames hold: openraft's requests and answers as bytes.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::super::types::{Group, SnapshotMeta, Vote};
use super::super::wire::{self, Malformed, Reader};

/// Kinds of frames. Frozen within a version of the handshake.
pub const APPEND: u8 = 1;
/// Answers [`APPEND`].
pub const APPENDED: u8 = 2;
/// Asks for a vote.
pub const VOTE: u8 = 3;
/// Asks whether a vote would be given.
pub const PRE_VOTE: u8 = 4;
/// Answers both.
pub const VOTED: u8 = 5;
/// Hands leadership over.
pub const TRANSFER: u8 = 6;
/// Answers [`TRANSFER`].
pub const TRANSFERRED: u8 = 7;
/// Begins a snapshot.
pub const SNAPSHOT: u8 = 8;
/// From where on the snapshot is wanted.
pub const SNAPSHOT_FROM: u8 = 9;
/// Some of the snapshot's bytes.
pub const SNAPSHOT_BYTES: u8 = 10;
/// Answers the last of them.
pub const INSTALLED: u8 = 11;
/// A node that wants to join says where it is.
pub const JOIN: u8 = 12;
/// What it is to call itself.
pub const WELCOME: u8 = 13;
/// It is ready for the log.
pub const READY: u8 = 14;
/// It is a voter.
pub const PROMOTED: u8 = 15;
/// The other end cannot do what was asked; a text follows.
pub const FAILED: u8 = 16;
/// The version in which requests on behalf of clients follow; the other end says its own.
pub const FORWARD: u8 = 18;
/// A request on behalf of clients.
pub const REQUEST: u8 = 19;
/// Answers [`REQUEST`].
pub const ANSWER: u8 = 20;

pub(crate) fn put_append(out: &mut Vec<u8>, request: &AppendEntriesRequest<Group>) {
    wire::put_vote(out, request.vote);
    wire::put_option(out, request.prev_log_id, wire::put_log_id);
    wire::put_option(out, request.leader_commit, wire::put_log_id);
    wire::put_u32(out, request.entries.len() as u32);
    for entry in &request.entries {
        wire::put_entry(out, entry);
    }
}

pub(crate) fn append(bytes: &[u8]) -> Result<AppendEntriesRequest<Group>, Malformed> {
    let mut from = Reader::new(bytes);
    let vote = wire::vote(&mut from)?;
    let prev_log_id = wire::option(&mut from, wire::log_id)?;
    let leader_commit = wire::option(&mut from, wire::log_id)?;
    // An entry is at least a log id and a kind.
    let count = from.count(25, "entries")?;
    let entries = (0..count).map(|_| wire::entry(&mut from)).collect::<Result<Vec<_>, _>>()?;
    if !from.is_empty() {
        return Err(Malformed("append"));
    }
    // openraft takes it for granted that a leader's entries have no gaps.
    let mut next = prev_log_id.map(|id| id.index + 1);
    for entry in &entries {
        if next.is_some_and(|next| next != entry.log_id.index) {
            return Err(Malformed("append: entries with a gap"));
        }
        next = Some(entry.log_id.index + 1);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn put_appended(out: &mut Vec<u8>, result: &StreamAppendResult<Group>) {
    match result {
        Ok(id) => {
            out.push(0);
            wire::put_option(out, *id, wire::put_log_id);
        }
        Err(StreamAppendError::Conflict(id)) => {
            out.push(1);
            wire::put_log_id(out, *id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.push(2);
            wire::put_vote(out, *vote);
        }
    }
}

pub(crate) fn appended(bytes: &[u8]) -> Result<StreamAppendResult<Group>, Malformed> {
    let mut from = Reader::new(bytes);
    Ok(match from.u8("appended")? {
        0 => Ok(wire::option(&mut from, wire::log_id)?),
        1 => Err(StreamAppendError::Conflict(wire::log_id(&mut from)?)),
        2 => Err(StreamAppendError::HigherVote(wire::vote(&mut from)?)),
        _ => return Err(Malformed("appended")),
    })
}

pub(crate) fn put_vote_request(out: &mut Vec<u8>, request: &VoteRequest<Group>) {
    wire::put_vote(out, request.vote);
    wire::put_option(out, request.last_log_id, wire::put_log_id);
    out.push(u8::from(request.leadership_transfer));
}

pub(crate) fn vote_request(bytes: &[u8]) -> Result<VoteRequest<Group>, Malformed> {
    let mut from = Reader::new(bytes);
    let vote = wire::vote(&mut from)?;
    let mut request = VoteRequest::new(vote, wire::option(&mut from, wire::log_id)?);
    request.leadership_transfer = from.u8("vote")? == 1;
    Ok(request)
}

pub(crate) fn put_voted(out: &mut Vec<u8>, response: &VoteResponse<Group>) {
    wire::put_vote(out, response.vote);
    out.push(u8::from(response.vote_granted));
    wire::put_option(out, response.last_log_id, wire::put_log_id);
}

pub(crate) fn voted(bytes: &[u8]) -> Result<VoteResponse<Group>, Malformed> {
    let mut from = Reader::new(bytes);
    let vote = wire::vote(&mut from)?;
    let granted = from.u8("voted")? == 1;
    Ok(VoteResponse::new(vote, wire::option(&mut from, wire::log_id)?, granted))
}

pub(crate) fn put_transfer(out: &mut Vec<u8>, request: &TransferLeaderRequest<Group>) {
    wire::put_vote(out, *request.from_leader());
    wire::put_u64(out, *request.to_node_id());
    wire::put_option(out, request.last_log_id().copied(), wire::put_log_id);
}

pub(crate) fn transfer(bytes: &[u8]) -> Result<TransferLeaderRequest<Group>, Malformed> {
    let mut from = Reader::new(bytes);
    let vote = wire::vote(&mut from)?;
    let to = from.u64("target")?;
    Ok(TransferLeaderRequest::new(vote, to, wire::option(&mut from, wire::log_id)?))
}

pub(crate) fn put_transferred(out: &mut Vec<u8>, response: &TransferLeaderResponse<Group>) {
    match response {
        Ok(()) => out.push(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.push(1);
            wire::put_vote(out, *expected);
            wire::put_vote(out, *actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.push(2);
            wire::put_option(out, *expected, wire::put_log_id);
            wire::put_option(out, *actual, wire::put_log_id);
        }
    }
}

pub(crate) fn transferred(bytes: &[u8]) -> Result<TransferLeaderResponse<Group>, Malformed> {
    let mut from = Reader::new(bytes);
    Ok(match from.u8("transferred")? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged {
            expected: wire::vote(&mut from)?,
            actual: wire::vote(&mut from)?,
        }),
        2 => Err(TransferLeaderError::LogNotFlushed {
            expected: wire::option(&mut from, wire::log_id)?,
            actual: wire::option(&mut from, wire::log_id)?,
        }),
        _ => return Err(Malformed("transferred")),
    })
}

/// What announces a snapshot.
pub(crate) struct Announcement {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) len: u64,
    /// The last bytes of the file, a checksum: two of one length and position may still differ.
    pub(crate) sum: u32,
}

pub(crate) fn put_announcement(out: &mut Vec<u8>, snapshot: &Announcement) {
    wire::put_vote(out, snapshot.vote);
    wire::put_option(out, snapshot.meta.last_log_id, wire::put_log_id);
    wire::put_stored_membership(out, &snapshot.meta.last_membership);
    wire::put_u64(out, snapshot.len);
    wire::put_u32(out, snapshot.sum);
}

pub(crate) fn announcement(bytes: &[u8]) -> Result<Announcement, Malformed> {
    let mut from = Reader::new(bytes);
    Ok(Announcement {
        vote: wire::vote(&mut from)?,
        meta: SnapshotMeta {
            last_log_id: wire::option(&mut from, wire::log_id)?,
            last_membership: wire::stored_membership(&mut from)?,
        },
        len: from.u64("length")?,
        sum: from.u32("sum")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::raft::types::{Entry, Leader, LogId};
    use openraft::EntryPayload;

    fn id(index: u64) -> LogId {
        LogId { leader_id: Leader { term: 4, node_id: 1 }, index }
    }

    #[test]
    fn messages_are_read_as_written_and_bad_ones_refused() {
        let vote = Vote { leader_id: Leader { term: 4, node_id: 1 }, committed: true };
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        let request = AppendEntriesRequest {
            vote,
            prev_log_id: Some(id(3)),
            entries: vec![entry(4), entry(5)],
            leader_commit: Some(id(2)),
        };
        let mut bytes = Vec::new();
        put_append(&mut bytes, &request);
        let read = append(&bytes).expect("what was written");
        assert_eq!(format!("{read:?}"), format!("{request:?}"));
        for len in 0..bytes.len() {
            assert!(append(&bytes[..len]).is_err(), "cut at {len}");
        }
        let gap = AppendEntriesRequest { entries: vec![entry(4), entry(6)], ..request };
        let mut bytes = Vec::new();
        put_append(&mut bytes, &gap);
        assert!(append(&bytes).is_err(), "entries with a gap");

        for result in [
            Ok(None),
            Ok(Some(id(9))),
            Err(StreamAppendError::Conflict(id(1))),
            Err(StreamAppendError::HigherVote(vote)),
        ] {
            let mut bytes = Vec::new();
            put_appended(&mut bytes, &result);
            assert_eq!(appended(&bytes), Ok(result));
        }
        let mut request = VoteRequest::new(vote, Some(id(7)));
        request.leadership_transfer = true;
        let mut bytes = Vec::new();
        put_vote_request(&mut bytes, &request);
        assert_eq!(vote_request(&bytes), Ok(request));
        let response = VoteResponse::new(vote, None, true);
        let mut bytes = Vec::new();
        put_voted(&mut bytes, &response);
        assert_eq!(voted(&bytes), Ok(response));
    }
}
