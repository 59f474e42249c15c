//! Locks: who holds a key, in which mode, until when, and with which fencing token.
//!
//! One exclusive hold with a short owner, by far the commonest, stands inside the object as a
//! [`Short`]; its expiry is the record's own. Everything else (several holders, leases, data,
//! lock-delay) stands in a [`Full`]. Nothing here knows of clocks, queues or keys:
//! `commands::lock` does. Start at [`Lock`]; [`codec`] writes one as bytes.

pub mod codec;
pub mod full;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

pub use full::{Full, Hold};

use super::Object;
use crate::time::UnixMillis;

/// An owner of more bytes needs an allocation of its own.
pub const OWNER_INLINE_MAX: usize = 22;

/// Locks that exist in this process, snapshots' copies included: what INFO counts, and what
/// lets a process without locks pass over all that concerns them.
static COUNT: AtomicI64 = AtomicI64::new(0);

/// How many locks there are, about.
#[must_use]
pub fn count() -> i64 {
    COUNT.load(Relaxed).max(0)
}

/// How the holders of a lock share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One holder.
    Exclusive,
    /// Any number of readers.
    Shared,
    /// So many permits, each holder with some of them.
    Permits(u32),
}

impl Mode {
    /// The name LOCK.INFO gives.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
            Self::Permits(_) => "permits",
        }
    }
}

/// One holder, as told to whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The unique bytes of its acquisition.
    pub owner: &'a [u8],
    /// Its fencing token.
    pub token: u64,
    /// When it loses the lock unless it renews.
    pub expires_at: UnixMillis,
    /// How many permits it has; 1 for the other modes.
    pub permits: u32,
    /// The lease it depends on.
    pub lease: Option<u64>,
    /// How long the lock stays closed should it expire, ms.
    pub delay_ms: i64,
    /// What it left for others to read.
    pub data: Option<&'a [u8]>,
}

/// An exclusive hold without anything more; the record's expiry is its own.
///
/// No field is wider than a byte, so that the object that holds it is 32 bytes with its tag.
#[derive(PartialEq, Eq)]
pub struct Short {
    len: u8,
    token: [u8; 8],
    owner: [u8; OWNER_INLINE_MAX],
}

impl Short {
    fn new(owner: &[u8], token: u64) -> Self {
        let mut room = [0; OWNER_INLINE_MAX];
        room[..owner.len()].copy_from_slice(owner);
        COUNT.fetch_add(1, Relaxed);
        Self { len: owner.len() as u8, token: token.to_le_bytes(), owner: room }
    }

    fn owner(&self) -> &[u8] {
        &self.owner[..usize::from(self.len)]
    }

    fn token(&self) -> u64 {
        u64::from_le_bytes(self.token)
    }
}

impl Clone for Short {
    fn clone(&self) -> Self {
        Self::new(self.owner(), self.token())
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Relaxed);
    }
}

impl std::fmt::Debug for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"={}", self.owner().escape_ascii(), self.token())
    }
}

/// A lock, whichever its shape. Invariant: it has a holder, or its lock-delay is not over; an
/// empty one is removed.
#[derive(Debug, Clone, Copy)]
pub enum Lock<'a> {
    /// One exclusive holder whose expiry is the record's.
    Short(&'a Short),
    /// Anything.
    Full(&'a Full),
}

/// A lock of one holder.
#[must_use]
pub fn with_hold(mode: Mode, hold: Hold) -> Object {
    if mode == Mode::Exclusive && hold.is_plain() && hold.owner.len() <= OWNER_INLINE_MAX {
        return Object::ShortLock(Short::new(&hold.owner, hold.token));
    }
    Object::Lock(Box::new(Full::new(mode, hold)))
}

/// An exclusive lock with nothing more, from borrowed bytes.
#[must_use]
pub fn exclusive(owner: &[u8], token: u64, expires_at: UnixMillis) -> Object {
    if owner.len() <= OWNER_INLINE_MAX {
        return Object::ShortLock(Short::new(owner, token));
    }
    with_hold(Mode::Exclusive, Hold::plain(owner, token, expires_at))
}

/// The form of a lock in which anything can be changed; what was short stays full from then on.
/// `None` if the object is no lock.
pub fn full_mut(object: &mut Object, expires_at: UnixMillis) -> Option<&mut Full> {
    if let Object::ShortLock(short) = object {
        let hold = Hold::plain(short.owner(), short.token(), expires_at);
        *object = Object::Lock(Box::new(Full::new(Mode::Exclusive, hold)));
    }
    match object {
        Object::Lock(full) => Some(full),
        _ => None,
    }
}

impl<'a> Lock<'a> {
    /// The lock that an object is, if it is one.
    #[must_use]
    pub fn of(object: &'a Object) -> Option<Self> {
        match object {
            Object::ShortLock(short) => Some(Self::Short(short)),
            Object::Lock(full) => Some(Self::Full(full)),
            _ => None,
        }
    }

    /// How it is held.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Self::Short(_) => Mode::Exclusive,
            Self::Full(full) => full.mode(),
        }
    }

    /// The holders at `now`; `expires_at` is the record's expiry.
    pub fn holders(
        self,
        expires_at: UnixMillis,
        now: UnixMillis,
    ) -> impl Iterator<Item = Holder<'a>> {
        let (short, full) = match self {
            Self::Short(short) => (Some(short), None),
            Self::Full(full) => (None, Some(full)),
        };
        let short = short.map(move |short| Holder {
            owner: short.owner(),
            token: short.token(),
            expires_at,
            permits: 1,
            lease: None,
            delay_ms: 0,
            data: None,
        });
        let full = full.into_iter().flat_map(|full| full.holds()).map(Hold::holder);
        short.into_iter().chain(full).filter(move |holder| holder.expires_at > now)
    }

    /// The hold of `owner` at `now`; `expires_at` is the record's expiry.
    #[must_use]
    pub fn find(self, owner: &[u8], expires_at: UnixMillis, now: UnixMillis) -> Option<Holder<'a>> {
        match self {
            Self::Short(short) if short.owner() == owner => self.holders(expires_at, now).next(),
            Self::Short(_) => None,
            Self::Full(full) => {
                full.find(owner).map(Hold::holder).filter(|holder| holder.expires_at > now)
            }
        }
    }

    /// The name OBJECT ENCODING gives.
    #[must_use]
    pub const fn encoding(self) -> &'static str {
        match self {
            Self::Short(_) => "holder",
            Self::Full(_) => "holders",
        }
    }

    /// Feeds the content to `hasher`.
    pub fn digest(self, hasher: &mut impl std::hash::Hasher) {
        match self {
            // What the full form of the same hold feeds; its expiry is the record's.
            Self::Short(short) => full::digest_holder(short.owner(), short.token(), hasher),
            Self::Full(full) => full.digest(hasher),
        }
    }
}
