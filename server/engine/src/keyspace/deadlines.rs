//! Whether anything counts time: what a clock must not jump over.

use std::sync::atomic::Ordering::Relaxed;

use super::lock::Held;
use super::{Keyspace, LockMode, Plan};
use crate::context::Context;
use crate::error::CommandError;
use crate::host::Host;
use crate::raw::{Record, Value, iterate};
use crate::time::UnixMillis;
use crate::value::Object;

impl Keyspace {
    /// Has `step` set the clock by which commands run, if nothing here counts time by it: no key,
    /// field, lock or lease that expires, and no entry of a stream that is pending, whose idle time
    /// decides who may claim it. Whether it was set.
    ///
    /// A command that has read the clock before, and locks its shards afterwards, runs at the new
    /// time if that is later: it must not set an expiry that has come by then.
    ///
    /// # Errors
    /// `BUSY …` when a script holds shards for too long.
    pub fn step_time(
        &self,
        host: &dyn Host,
        step: impl FnOnce() -> UnixMillis,
    ) -> Result<bool, CommandError> {
        let held = self.lock(&Plan::All, LockMode::Read, host)?;
        if self.counts_time(&held) {
            return Ok(false);
        }
        self.not_before_ms.store(step().0, Relaxed);
        Ok(true)
    }

    fn counts_time(&self, held: &Held<'_>) -> bool {
        let expires = |shard: &super::lock::HeldShard<'_>| {
            shard.db.sides[usize::from(shard.place.shard)].expiry_totals().0 > 0
        };
        let is_pending = |record: &Record| match record.value() {
            Value::Object(Object::Stream(stream)) => {
                stream.groups.values().any(|group| !group.pending().is_empty())
            }
            _ => false,
        };
        self.locks.lease_count() > 0
            || held.shards.iter().any(expires)
            || held.shards.iter().any(|shard| iterate(shard.guard.table()).any(is_pending))
    }

    /// The context of a command that has just locked its shards.
    #[inline]
    pub(super) fn in_time(&self, context: Context) -> Context {
        // Set while every shard is held, so whoever has locked one since sees it.
        let not_before = UnixMillis(self.not_before_ms.load(Relaxed));
        Context { now: context.now.max(not_before), ..context }
    }
}

#[cfg(test)]
mod tests {
    use crate::context::Context;
    use crate::effects::{Effects, EventClass};
    use crate::engine::{Engine, table};
    use crate::host::Alone;
    use crate::time::UnixMillis;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
    const LATER: UnixMillis = UnixMillis(NOW.0 + 3_600_000);

    fn run(engine: &Engine, at: UnixMillis, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut row = table().find(args[0]).unwrap();
        if !row.subcommands.is_empty() {
            row = table().find_sub(row, args[1]).unwrap();
        }
        let mut effects = Effects::new(EventClass::NONE);
        let outcome = engine.run(row, &args, Context::at(at, 7), &Alone, &mut effects);
        assert!(!outcome.reply.is_error(), "{line}: {:?}", outcome.reply);
        format!("{:?}", outcome.reply)
    }

    #[test]
    fn the_clock_jumps_over_nothing_that_counts_time() {
        for (set, unset) in [
            ("SET k v PX 1000", "PERSIST k"),
            ("LOCK.ACQUIRE k owner 1000", "DEL k"),
            ("LEASE.GRANT 1000", ""),
            ("HPEXPIRE h 1000 FIELDS 1 f", "HPERSIST h FIELDS 1 f"),
            ("XREADGROUP GROUP g c STREAMS s >", "XACK s g 1-1"),
        ] {
            let engine = Engine::new(16, 7);
            run(&engine, NOW, "SET plain v");
            run(&engine, NOW, "HSET h f v");
            run(&engine, NOW, "XADD s 1-1 f v");
            run(&engine, NOW, "XGROUP CREATE s g 0");
            let step = || engine.keyspace().step_time(&Alone, || LATER).unwrap();
            run(&engine, NOW, set);
            assert!(!step(), "{set}");
            if !unset.is_empty() {
                run(&engine, NOW, unset);
                assert!(step(), "{unset}");
            }
        }
    }

    #[test]
    fn a_command_that_read_the_clock_before_it_jumped_sets_no_shorter_expiry() {
        let engine = Engine::new(16, 7);
        assert!(engine.keyspace().step_time(&Alone, || LATER).unwrap());
        run(&engine, NOW, "SET k v PX 1000");
        assert_eq!(run(&engine, LATER, "PTTL k"), "Integer(1000)");
        // Backward, such a command sets a longer one; the next ones run at the new time.
        let engine = Engine::new(16, 7);
        assert!(engine.keyspace().step_time(&Alone, || NOW).unwrap());
        run(&engine, NOW, "SET k v PX 1000");
        assert_eq!(run(&engine, NOW, "PTTL k"), "Integer(1000)");
    }
}
