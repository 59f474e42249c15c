//! Bytes of the things that are stored and sent: log ids, votes, members, entries.
//!
//! Integers are little-endian; lengths are 32 bits. A reader never trusts a length: what does
//! not fit into the bytes that are there is an error, and nothing is allocated beforehand.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;

use super::types::{
    Batch, Entry, Leader, LogId, Member, Membership, NodeId, StoredMembership, Vote,
};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for std::io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// What a payload is, in a stored entry. Frozen: logs on disk hold these.
const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Reads values off the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// When there is none; so all of these.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.take::<1>(what)?[0])
    }

    /// Two bytes.
    ///
    /// # Errors
    /// As [`Reader::u8`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.take(what).map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// As [`Reader::u8`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.take(what).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// As [`Reader::u8`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.take(what).map(u64::from_le_bytes)
    }

    /// A length and so many bytes.
    ///
    /// # Errors
    /// As [`Reader::u8`].
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.u32(what)? as usize;
        if len > self.rest.len() {
            return Err(Malformed(what));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    /// A length and so many bytes of UTF-8.
    ///
    /// # Errors
    /// As [`Reader::u8`].
    pub fn text(&mut self, what: &'static str) -> Result<String, Malformed> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed(what))
    }

    /// How many elements follow, each of at least `len_min` bytes.
    ///
    /// # Errors
    /// When so many cannot follow.
    pub fn count(&mut self, len_min: usize, what: &'static str) -> Result<usize, Malformed> {
        let count = self.u32(what)? as usize;
        if count.checked_mul(len_min).is_none_or(|len| len > self.rest.len()) {
            return Err(Malformed(what));
        }
        Ok(count)
    }
}

/// Appends a length and bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Invariant: nothing of 4 GiB is proposed; records are bounded far below.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_leader(out: &mut Vec<u8>, leader: Leader) {
    put_u64(out, leader.term);
    put_u64(out, leader.node_id);
}

fn leader(from: &mut Reader<'_>) -> Result<Leader, Malformed> {
    Ok(Leader { term: from.u64("term")?, node_id: from.u64("leader")? })
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_leader(out, id.leader_id);
    put_u64(out, id.index);
}

pub(crate) fn log_id(from: &mut Reader<'_>) -> Result<LogId, Malformed> {
    Ok(LogId { leader_id: leader(from)?, index: from.u64("log index")? })
}

/// Writes `None` as a 0 and anything else behind a 1.
pub(crate) fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl Fn(&mut Vec<u8>, T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

pub(crate) fn option<T>(
    from: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match from.u8("option")? {
        0 => Ok(None),
        1 => read(from).map(Some),
        _ => Err(Malformed("option")),
    }
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    put_leader(out, vote.leader_id);
    out.push(u8::from(vote.committed));
}

pub(crate) fn vote(from: &mut Reader<'_>) -> Result<Vote, Malformed> {
    let leader_id = leader(from)?;
    match from.u8("vote")? {
        committed @ 0..=1 => Ok(Vote { leader_id, committed: committed == 1 }),
        _ => Err(Malformed("vote")),
    }
}

pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    put_u32(out, configs.len() as u32);
    for config in configs {
        put_u32(out, config.len() as u32);
        for id in config {
            put_u64(out, *id);
        }
    }
    let nodes: Vec<_> = membership.nodes().collect();
    put_u32(out, nodes.len() as u32);
    for (id, member) in nodes {
        put_u64(out, *id);
        put_bytes(out, member.raft_addr.as_bytes());
        put_bytes(out, member.client_addr.as_bytes());
    }
}

pub(crate) fn membership(from: &mut Reader<'_>) -> Result<Membership, Malformed> {
    let mut configs = Vec::new();
    for _ in 0..from.count(4, "membership")? {
        let count = from.count(8, "voters")?;
        let config: Result<BTreeSet<NodeId>, _> = (0..count).map(|_| from.u64("voter")).collect();
        configs.push(config?);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..from.count(16, "members")? {
        let id = from.u64("member")?;
        let raft_addr = from.text("address")?;
        let client_addr = from.text("address")?;
        nodes.insert(id, Member { raft_addr, client_addr });
    }
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| Malformed("membership"))
}

pub(crate) fn put_stored_membership(out: &mut Vec<u8>, stored: &StoredMembership) {
    put_option(out, *stored.log_id(), put_log_id);
    put_membership(out, stored.membership());
}

pub(crate) fn stored_membership(from: &mut Reader<'_>) -> Result<StoredMembership, Malformed> {
    let id = option(from, log_id)?;
    Ok(StoredMembership::new(id, membership(from)?))
}

/// Appends an entry.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_log_id(out, entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(batch) => {
            out.push(NORMAL);
            put_bytes(out, &batch.0);
        }
        EntryPayload::Membership(membership) => {
            out.push(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

/// Reads an entry; a batch is copied, so that it does not keep the whole buffer.
pub(crate) fn entry(from: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let log_id = log_id(from)?;
    let payload = match from.u8("entry")? {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Batch(Bytes::copy_from_slice(from.bytes("batch")?))),
        MEMBERSHIP => EntryPayload::Membership(membership(from)?),
        _ => return Err(Malformed("entry")),
    };
    Ok(Entry { log_id, payload })
}

/// Bytes an entry takes when stored, about.
pub(crate) fn entry_len(entry: &Entry) -> usize {
    const HEADER_LEN: usize = 29;
    match &entry.payload {
        EntryPayload::Blank => HEADER_LEN,
        EntryPayload::Normal(batch) => HEADER_LEN + batch.0.len(),
        EntryPayload::Membership(membership) => HEADER_LEN + 64 * membership.nodes().count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId { leader_id: Leader { term: 3, node_id: 2 }, index }
    }

    fn round_trip(entry: &Entry) {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, entry);
        let mut reader = Reader::new(&bytes);
        let read = super::entry(&mut reader).expect("what was written");
        assert!(reader.is_empty());
        assert_eq!(format!("{read:?}"), format!("{entry:?}"));
        for len in 0..bytes.len() {
            assert!(super::entry(&mut Reader::new(&bytes[..len])).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn entries_are_read_as_written_and_not_when_cut() {
        round_trip(&Entry { log_id: id(7), payload: EntryPayload::Blank });
        let batch = Batch(Bytes::from_static(b"some proposals"));
        round_trip(&Entry { log_id: id(8), payload: EntryPayload::Normal(batch) });
        let member = Member { raft_addr: "a:1".into(), client_addr: "b:2".into() };
        let nodes: BTreeMap<_, _> = [(1, member.clone()), (9, member)].into();
        let membership = Membership::new(vec![[1].into(), [1, 9].into()], nodes).expect("valid");
        round_trip(&Entry { log_id: id(9), payload: EntryPayload::Membership(membership) });
    }

    #[test]
    fn lengths_that_lie_are_refused_without_an_allocation() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"short");
        assert!(Reader::new(&bytes).bytes("bytes").is_err());
        assert!(Reader::new(&bytes).count(8, "count").is_err());
        assert!(membership(&mut Reader::new(&bytes)).is_err());
    }
}
