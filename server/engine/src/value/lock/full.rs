//! A lock of any mode with any number of holders.

use std::hash::Hasher;
use std::sync::atomic::Ordering::Relaxed;

use super::{COUNT, Holder, Mode};
use crate::time::UnixMillis;

/// One holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The unique bytes of its acquisition.
    pub owner: Box<[u8]>,
    /// Its fencing token.
    pub token: u64,
    /// When it loses the lock unless it renews.
    pub expires_at: UnixMillis,
    /// How many permits it has; 1 for the other modes.
    pub permits: u32,
    /// The lease it depends on; 0 for none.
    pub lease: u64,
    /// How long the lock stays closed should it expire, ms.
    pub delay_ms: i64,
    /// What it left for others to read.
    pub data: Option<Box<[u8]>>,
}

impl Hold {
    /// A hold without anything more.
    #[must_use]
    pub fn plain(owner: &[u8], token: u64, expires_at: UnixMillis) -> Self {
        Self {
            owner: owner.into(),
            token,
            expires_at,
            permits: 1,
            lease: 0,
            delay_ms: 0,
            data: None,
        }
    }

    /// Whether owner, token and expiry say everything.
    pub(super) fn is_plain(&self) -> bool {
        self.permits == 1 && self.lease == 0 && self.delay_ms == 0 && self.data.is_none()
    }

    pub(super) fn holder(&self) -> Holder<'_> {
        Holder {
            owner: &self.owner,
            token: self.token,
            expires_at: self.expires_at,
            permits: self.permits,
            lease: Some(self.lease).filter(|lease| *lease != 0),
            delay_ms: self.delay_ms,
            data: self.data.as_deref(),
        }
    }

    /// Until when it keeps the lock from others: its lock-delay included.
    fn closes_until(&self) -> UnixMillis {
        UnixMillis(self.expires_at.0.saturating_add(self.delay_ms))
    }
}

/// A lock of any mode with any number of holders.
#[derive(Debug, PartialEq)]
pub struct Full {
    mode: Mode,
    /// By owner, so that one among thousands is found by halving.
    holds: Vec<Hold>,
    /// The end of the lock-delay that expired holders left behind; 0 for none.
    delay_until: UnixMillis,
}

impl Full {
    /// A lock of one holder.
    #[must_use]
    pub fn new(mode: Mode, hold: Hold) -> Self {
        Self::from_parts(mode, vec![hold], UnixMillis(0))
    }

    /// A lock of these holders, which are ordered by owner.
    pub(super) fn from_parts(mode: Mode, holds: Vec<Hold>, delay_until: UnixMillis) -> Self {
        COUNT.fetch_add(1, Relaxed);
        Self { mode, holds, delay_until }
    }

    /// How it is held.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The holders by owner, those that have expired but were not removed included.
    #[must_use]
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// How many holders there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holds.len()
    }

    /// Whether nobody holds it and no lock-delay goes on at `now`.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.holds.is_empty() && self.delay_until <= now
    }

    /// Whether there is no holder.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// The end of the lock-delay that goes on at `now`.
    #[must_use]
    pub fn delayed_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        Some(self.delay_until).filter(|until| *until > now)
    }

    pub(super) fn delay_end(&self) -> UnixMillis {
        self.delay_until
    }

    fn place(&self, owner: &[u8]) -> Result<usize, usize> {
        self.holds.binary_search_by(|hold| (*hold.owner).cmp(owner))
    }

    /// The hold of `owner`, expired or not.
    #[must_use]
    pub fn find(&self, owner: &[u8]) -> Option<&Hold> {
        self.place(owner).ok().map(|at| &self.holds[at])
    }

    /// As [`Full::find`], to change it; the owner stays.
    pub fn find_mut(&mut self, owner: &[u8]) -> Option<&mut Hold> {
        self.place(owner).ok().map(|at| &mut self.holds[at])
    }

    /// Adds a holder whose owner is none yet. With the first, the mode may become another.
    pub fn add(&mut self, mode: Mode, hold: Hold) {
        debug_assert!(self.holds.is_empty() || self.mode == mode);
        self.mode = mode;
        if let Err(at) = self.place(&hold.owner) {
            self.holds.insert(at, hold);
        }
    }

    /// Removes the hold of `owner`.
    pub fn remove(&mut self, owner: &[u8]) -> Option<Hold> {
        self.place(owner).ok().map(|at| self.holds.remove(at))
    }

    /// Lets the holders that depend on a lease live until then.
    pub fn prolong(&mut self, lease: u64, expires_at: UnixMillis) {
        for hold in self.holds.iter_mut().filter(|hold| hold.lease == lease) {
            hold.expires_at = expires_at;
        }
    }

    /// Removes the holders that depend on a lease.
    pub fn revoke(&mut self, lease: u64) {
        self.holds.retain(|hold| hold.lease != lease);
    }

    /// Removes holders that have expired at `now`, whose lock-delays begin, and returns how many.
    pub fn purge(&mut self, now: UnixMillis) -> usize {
        let before = self.holds.len();
        let mut until = self.delay_until;
        self.holds.retain(|hold| {
            let live = hold.expires_at > now;
            if !live && hold.delay_ms > 0 {
                until = until.max(hold.closes_until());
            }
            live
        });
        self.delay_until = until;
        before - self.holds.len()
    }

    /// How many permits its holders have together.
    #[must_use]
    pub fn permits_held(&self) -> u64 {
        self.holds.iter().map(|hold| u64::from(hold.permits)).sum()
    }

    /// When the first of its holders, or its lock-delay, ends.
    #[must_use]
    pub fn next_change(&self, now: UnixMillis) -> Option<UnixMillis> {
        let first = self.holds.iter().map(|hold| hold.expires_at).min();
        first.into_iter().chain(self.delayed_until(now)).min()
    }

    /// When it is over unless somebody renews: the expiry of its record.
    #[must_use]
    pub fn ends_at(&self) -> UnixMillis {
        let last = self.holds.iter().map(Hold::closes_until).max();
        last.unwrap_or_default().max(self.delay_until)
    }

    pub(super) fn digest(&self, hasher: &mut impl Hasher) {
        for hold in &self.holds {
            digest_holder(&hold.owner, hold.token, hasher);
            if self.mode == Mode::Exclusive && hold.is_plain() {
                continue;
            }
            hasher.write_i64(hold.expires_at.0);
            hasher.write_u32(hold.permits);
            hasher.write_u64(hold.lease);
            hasher.write_i64(hold.delay_ms);
            hasher.write(hold.data.as_deref().unwrap_or_default());
        }
        match self.mode {
            Mode::Exclusive => {}
            Mode::Shared => hasher.write_u32(0),
            Mode::Permits(limit) => hasher.write_u32(limit),
        }
        if self.delay_until.0 != 0 {
            hasher.write_i64(self.delay_until.0);
        }
    }

    pub(crate) fn memory_len(&self) -> usize {
        let behind =
            |hold: &Hold| hold.owner.len() + hold.data.as_ref().map_or(0, |data| data.len());
        size_of::<Self>()
            + self.holds.capacity() * size_of::<Hold>()
            + self.holds.iter().map(behind).sum::<usize>()
    }
}

/// What an owner with its token feeds a digest.
pub(super) fn digest_holder(owner: &[u8], token: u64, hasher: &mut impl Hasher) {
    hasher.write_usize(owner.len());
    hasher.write(owner);
    hasher.write_u64(token);
}

impl Clone for Full {
    fn clone(&self) -> Self {
        Self::from_parts(self.mode, self.holds.clone(), self.delay_until)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Relaxed);
    }
}
