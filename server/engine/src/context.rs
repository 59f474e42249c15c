//! What a proposal carries besides its commands.

use crate::time::{DbIndex, UnixMillis};

/// The bits of a record's note of its last use: seconds, as in Redis.
pub(crate) const ACCESS_CLOCK_MASK: u32 = 0x00ff_ffff;

/// The facts about the world that a command may depend on, fixed when it was proposed.
///
/// Two engines in the same state that run the same commands under the same contexts end in
/// the same state and give the same replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The selected database.
    pub db: DbIndex,
    /// The time by which expiry is judged and TTLs are counted.
    pub now: UnixMillis,
    /// What SPOP, RANDOMKEY and `math.random` draw from.
    pub seed: u64,
    /// Greater with every proposal that may touch the same keys; becomes the version of what it
    /// changes. Only the lower 47 bits count.
    pub sequence: u64,
    /// Whether this use of keys counts as one (CLIENT NO-TOUCH).
    pub touch: Touch,
}

/// Whether a look at a key resets its idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Touch {
    /// It does.
    #[default]
    Counts,
    /// It does not.
    Leaves,
}

impl Context {
    /// A context at `now` in database 0, for tests and replay.
    #[must_use]
    pub fn at(now: UnixMillis, sequence: u64) -> Self {
        Self { db: DbIndex(0), now, seed: sequence, sequence, touch: Touch::Counts }
    }

    /// A context that only looks at `db` at `now`.
    #[must_use]
    pub fn in_db(db: DbIndex, now: UnixMillis) -> Self {
        Self { db, ..Self::at(now, 0) }
    }

    /// The unit in which records note their last use: seconds, 24 bits.
    #[inline]
    #[must_use]
    pub fn access_clock(&self) -> u32 {
        (self.now.0 / 1000) as u32 & ACCESS_CLOCK_MASK
    }
}
