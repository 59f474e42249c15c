//! A lock as bytes, for snapshots.
//!
//! `version u8 | mode u8 | limit u32 | delay_until i64 | count u32 | hold*`, a hold
//! `token u64 | expires_at i64 | permits u32 | lease u64 | delay_ms i64 | owner | data`, the last
//! two behind their length as u32, one more for data so that 0 is none. All numbers are
//! little-endian. Persisted: a new shape gets a new version.

use super::{Full, Hold, Holder, Lock, Mode, with_hold};
use crate::time::UnixMillis;
use crate::value::Object;

const VERSION: u8 = 1;
const EXCLUSIVE: u8 = 0;
const SHARED: u8 = 1;
const PERMITS: u8 = 2;

/// Appends a lock whose record expires at `expires_at`.
pub fn encode(lock: Lock<'_>, expires_at: UnixMillis, out: &mut Vec<u8>) {
    let (mode, limit) = match lock.mode() {
        Mode::Exclusive => (EXCLUSIVE, 0),
        Mode::Shared => (SHARED, 0),
        Mode::Permits(limit) => (PERMITS, limit),
    };
    let delay_until = match lock {
        Lock::Short(_) => UnixMillis(0),
        Lock::Full(full) => full.delay_end(),
    };
    out.extend_from_slice(&[VERSION, mode]);
    out.extend_from_slice(&limit.to_le_bytes());
    out.extend_from_slice(&delay_until.0.to_le_bytes());
    // Those that have expired go along: their lock-delays are still to begin.
    let holders: Vec<Holder<'_>> = lock.holders(expires_at, UnixMillis(i64::MIN)).collect();
    out.extend_from_slice(&(holders.len() as u32).to_le_bytes());
    for holder in holders {
        out.extend_from_slice(&holder.token.to_le_bytes());
        out.extend_from_slice(&holder.expires_at.0.to_le_bytes());
        out.extend_from_slice(&holder.permits.to_le_bytes());
        out.extend_from_slice(&holder.lease.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&holder.delay_ms.to_le_bytes());
        out.extend_from_slice(&(holder.owner.len() as u32).to_le_bytes());
        out.extend_from_slice(holder.owner);
        let data_len = holder.data.map_or(0, |data| data.len() + 1);
        out.extend_from_slice(&(data_len as u32).to_le_bytes());
        out.extend_from_slice(holder.data.unwrap_or_default());
    }
}

/// Reads a lock, and the expiry its record must have; `None` if the bytes are not one.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Object, UnixMillis)> {
    let mut rest = bytes;
    if byte(&mut rest)? != VERSION {
        return None;
    }
    let mode = byte(&mut rest)?;
    let limit = u32::from_le_bytes(take(&mut rest)?);
    let mode = match mode {
        EXCLUSIVE => Mode::Exclusive,
        SHARED => Mode::Shared,
        PERMITS => Mode::Permits(limit),
        _ => return None,
    };
    let delay_until = UnixMillis(i64::from_le_bytes(take(&mut rest)?));
    let count = u32::from_le_bytes(take(&mut rest)?);
    let mut holds = Vec::new();
    for _ in 0..count {
        holds.push(hold(&mut rest)?);
    }
    let ordered = holds.is_sorted_by(|a: &Hold, b| a.owner < b.owner);
    let possible = count == 1 || mode != Mode::Exclusive || count == 0 && delay_until.0 > 0;
    if !rest.is_empty() || !ordered || !possible {
        return None;
    }
    let full = Full::from_parts(mode, holds, delay_until);
    let ends_at = full.ends_at();
    let lock = match full.holds() {
        [only] if delay_until.0 == 0 => with_hold(mode, only.clone()),
        _ => Object::Lock(Box::new(full)),
    };
    Some((lock, ends_at))
}

fn hold(rest: &mut &[u8]) -> Option<Hold> {
    Some(Hold {
        token: u64::from_le_bytes(take(rest)?),
        expires_at: UnixMillis(i64::from_le_bytes(take(rest)?)),
        permits: u32::from_le_bytes(take(rest)?),
        lease: u64::from_le_bytes(take(rest)?),
        delay_ms: i64::from_le_bytes(take(rest)?),
        owner: {
            let len = u32::from_le_bytes(take(rest)?) as usize;
            bytes(rest, len)?.into()
        },
        data: match u32::from_le_bytes(take(rest)?) as usize {
            0 => None,
            len => Some(bytes(rest, len - 1)?.into()),
        },
    })
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take::<1>(rest).map(|[byte]| byte)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn bytes<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}
