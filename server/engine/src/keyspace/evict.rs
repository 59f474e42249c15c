//! Choosing keys to evict when memory is full, approximately as Redis does: a few are drawn at
//! random, and the best of all that were drawn lately goes first.
//!
//! Choosing changes nothing. What is chosen goes by [`crate::engine::Engine::evict`], a proposal
//! like any other.
//! Source: <https://redis.io/docs/latest/develop/reference/eviction/>

use super::{Keyspace, SHARDS, Side};
use crate::access;
use crate::context::ACCESS_CLOCK_MASK;
use crate::random::next;
use crate::raw::{Record, Table, iterate_from};
use crate::time::{DbIndex, UnixMillis};

/// Shards that may be empty before a draw looks into all of them.
const SHARDS_TRIED: usize = 16;
/// Candidates kept from one draw to the next, as in Redis.
const KEPT_MAX: usize = 16;
/// Records looked at for one with an expiry, before the expiries themselves are.
const LOOKED_AT_MAX: usize = 64;

/// Which keys may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Every key.
    All,
    /// Those with an expiry.
    Volatile,
}

/// Which of them go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The least recently used.
    LeastRecent,
    /// The least frequently used.
    LeastFrequent,
    /// Any.
    Any,
    /// Those that expire first.
    Soonest,
}

/// A key that may be evicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its database.
    pub db: DbIndex,
    /// The key.
    pub key: Vec<u8>,
    /// What its record noted of its uses: another note means that it was used since.
    pub access: u32,
    /// The higher, the sooner it goes.
    merit: i64,
}

/// Candidates drawn and not yet evicted, the best last.
#[derive(Debug, Default)]
pub struct Pool(Vec<Candidate>);

impl Pool {
    /// The best candidate.
    pub fn pop(&mut self) -> Option<Candidate> {
        self.0.pop()
    }

    /// Forgets all: they were drawn under another policy.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn offer(&mut self, candidate: Candidate) {
        if self.0.iter().any(|kept| kept.db == candidate.db && kept.key == candidate.key) {
            return;
        }
        let at = self.0.partition_point(|kept| kept.merit <= candidate.merit);
        self.0.insert(at, candidate);
    }

    fn trim(&mut self) {
        let surplus = self.0.len().saturating_sub(KEPT_MAX);
        self.0.drain(..surplus);
    }
}

impl Keyspace {
    /// Draws up to `samples` keys of each database and adds them to `pool`; whether there were
    /// any. `random` decides which.
    pub fn draw_candidates(
        &self,
        (among, first): (Among, First),
        samples: usize,
        now: UnixMillis,
        mut random: u64,
        pool: &mut Pool,
    ) -> bool {
        let mut drawn = 0;
        for (index, db) in self.dbs.iter().enumerate() {
            let Some(db) = db.get() else { continue };
            let mut left = samples;
            let mut tried = 0;
            while left > 0 && tried < SHARDS_TRIED + SHARDS {
                // At first shards drawn at random, then, where keys are few, one after the other.
                let shard = match tried {
                    0..SHARDS_TRIED => next(&mut random) as usize,
                    _ => tried,
                } % SHARDS;
                tried += 1;
                let side = &db.sides[shard];
                let Some(table) = db.map.shards()[shard].try_read() else { continue };
                if table.is_empty() {
                    continue;
                }
                let start = next(&mut random);
                // A quarter of what is asked for from one place: neighbours may be alike.
                let share = samples.div_ceil(4).min(left);
                let mut offer = |record: &Record| {
                    left -= 1;
                    drawn += 1;
                    pool.offer(candidate(DbIndex(index as u16), record, first, now, start));
                };
                match among {
                    Among::All => {
                        iterate_from(&table, start as usize).take(share).for_each(&mut offer);
                    }
                    Among::Volatile => {
                        if let Some(record) = self.draw_volatile(&table, side, first, start) {
                            offer(record);
                        }
                    }
                }
            }
        }
        pool.trim();
        drawn > 0
    }

    /// A key with an expiry: the first to expire, or any.
    fn draw_volatile<'t>(
        &self,
        table: &'t Table,
        side: &Side,
        first: First,
        random: u64,
    ) -> Option<&'t Record> {
        let (at, hash) = match first {
            First::Soonest => side.inner().first_expiry()?,
            _ => {
                let mut near = iterate_from(table, random as usize).take(LOOKED_AT_MAX);
                match near.find(|record| record.expires_at().is_some()) {
                    Some(record) => return Some(record),
                    None => side.inner().expiry_near(random)?,
                }
            }
        };
        let found = table.get(hash, |(record, _)| {
            record.expires_at() == Some(at) && self.hash(record.key()) == hash
        });
        found.map(|(record, _)| record)
    }
}

fn candidate(
    db: DbIndex,
    record: &Record,
    first: First,
    now: UnixMillis,
    random: u64,
) -> Candidate {
    let access = record.access();
    let merit = match first {
        First::LeastRecent => {
            let clock = (now.0 / 1000) as u32;
            i64::from(clock.wrapping_sub(access) & ACCESS_CLOCK_MASK)
        }
        First::LeastFrequent => 255 - i64::from(access::counter(access, now)),
        First::Any => (random >> 1) as i64,
        First::Soonest => i64::MAX - record.expires_at().map_or(i64::MAX, |at| at.0.max(0)),
    };
    Candidate { db, key: record.key().to_vec(), access, merit }
}
