//! Random commands over random times, against a lock as one would describe it.
//!
//! The model knows nothing of records, shapes or expiry cycles: a list of holders and the end of a
//! lock-delay. It holds invariants of its own: no two exclusive holders at one time (I1), tokens
//! unique and growing with every grant of a key (I2), and a command sent twice has one effect (I8).

use std::collections::BTreeMap;

use crate::Reply;
use crate::testing::{Bench, show};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Exclusive,
    Shared,
    Permits(u64),
}

#[derive(Debug, Clone)]
struct Hold {
    owner: String,
    token: i64,
    ends_at: i64,
    permits: u64,
    delay_ms: i64,
}

#[derive(Debug, Default)]
struct Lock {
    mode: Option<Mode>,
    holds: Vec<Hold>,
    closed_until: i64,
}

#[derive(Debug, Default)]
struct Model {
    locks: BTreeMap<String, Lock>,
    token: i64,
    /// The greatest token each key was granted under.
    last: BTreeMap<String, i64>,
}

impl Model {
    /// The lock as it is at `now`: whoever's time is over is gone.
    fn lock(&mut self, key: &str, now: i64) -> &mut Lock {
        let lock = self.locks.entry(key.to_owned()).or_default();
        let over: Vec<Hold> = lock.holds.iter().filter(|one| one.ends_at <= now).cloned().collect();
        lock.holds.retain(|one| one.ends_at > now);
        for one in over.iter().filter(|one| one.delay_ms > 0) {
            lock.closed_until = lock.closed_until.max(one.ends_at + one.delay_ms);
        }
        lock
    }

    fn acquire(
        &mut self,
        (key, owner): (&str, &str),
        (mode, permits): (Mode, u64),
        (ttl_ms, delay_ms): (i64, Option<i64>),
        now: i64,
    ) -> String {
        let next = self.token + 1;
        let lock = self.lock(key, now);
        let held: u64 = lock.holds.iter().map(|one| one.permits).sum();
        let current = lock.mode;
        if let Some(hold) = lock.holds.iter_mut().find(|one| one.owner == owner) {
            if current != Some(mode) || hold.permits != permits {
                return "-ERR this owner holds the lock in another mode".to_owned();
            }
            hold.ends_at = now + ttl_ms;
            hold.delay_ms = delay_ms.unwrap_or(hold.delay_ms);
            return format!("[{} {ttl_ms}]", hold.token);
        }
        if lock.closed_until > now {
            return "nil".to_owned();
        }
        if !lock.holds.is_empty() {
            let fits = match (current, mode) {
                (Some(Mode::Shared), Mode::Shared) => true,
                (Some(Mode::Permits(has)), Mode::Permits(limit)) if has != limit => {
                    return format!("-ERR the semaphore has LIMIT {has}");
                }
                (Some(Mode::Permits(limit)), Mode::Permits(_)) => held + permits <= limit,
                _ => false,
            };
            if !fits {
                return "nil".to_owned();
            }
        }
        lock.mode = Some(mode);
        let ends_at = now + ttl_ms;
        let delay_ms = delay_ms.unwrap_or(0);
        lock.holds.push(Hold { owner: owner.to_owned(), token: next, ends_at, permits, delay_ms });
        if mode == Mode::Exclusive {
            assert_eq!(lock.holds.len(), 1, "I1");
        }
        let last = self.last.insert(key.to_owned(), next);
        assert!(last.is_none_or(|last| last < next), "I2");
        self.token = next;
        format!("[{next} {ttl_ms}]")
    }

    fn renew(
        &mut self,
        (key, owner): (&str, &str),
        ttl_ms: i64,
        fence: Option<i64>,
        now: i64,
    ) -> String {
        let lock = self.lock(key, now);
        let Some(hold) = lock.holds.iter_mut().find(|one| one.owner == owner) else {
            return "nil".to_owned();
        };
        if fence.is_some_and(|fence| fence < hold.token) {
            return "-FENCED the lock was granted under a greater token".to_owned();
        }
        hold.ends_at = now + ttl_ms;
        hold.token = fence.unwrap_or(hold.token);
        let token = hold.token;
        self.token = self.token.max(token);
        token.to_string()
    }

    fn release(&mut self, key: &str, owner: &str, token: Option<i64>, now: i64) -> String {
        let lock = self.lock(key, now);
        let before = lock.holds.len();
        lock.holds.retain(|one| one.owner != owner || token.is_some_and(|t| t != one.token));
        ((before - lock.holds.len()) as i64).to_string()
    }

    fn check(&mut self, key: &str, token: i64, now: i64) -> String {
        let held = self.lock(key, now).holds.iter().any(|one| one.token == token);
        let fenced = "-FENCED the token is not that of a holder of the lock";
        if held { "OK" } else { fenced }.to_owned()
    }

    fn del(&mut self, key: &str, now: i64) -> String {
        let lock = self.lock(key, now);
        let there = !lock.holds.is_empty() || lock.closed_until > now;
        *lock = Lock::default();
        i64::from(there).to_string()
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// One random command as its arguments, and what the model answers.
fn step(dice: &mut Dice, model: &mut Model, now: i64) -> (String, String) {
    let key = ["k", "j"][dice.below(2) as usize];
    let owner = ["a", "b", "c", "an-owner-of-more-bytes-than-fit"][dice.below(4) as usize];
    let ttl_ms = 1 + dice.below(40) as i64;
    match dice.below(10) {
        0..=4 => {
            let (mode, permits, words) = match dice.below(3) {
                0 => (Mode::Exclusive, 1, String::new()),
                1 => (Mode::Shared, 1, " SHARED".to_owned()),
                _ => {
                    let (permits, limit) = (1 + dice.below(2), 2 + dice.below(2));
                    (Mode::Permits(limit), permits, format!(" PERMITS {permits} LIMIT {limit}"))
                }
            };
            let delay_ms = (dice.below(4) == 0).then(|| dice.below(20) as i64);
            let delay = delay_ms.map(|ms| format!(" DELAY {ms}")).unwrap_or_default();
            let line = format!("LOCK.ACQUIRE {key} {owner} {ttl_ms}{words}{delay}");
            let reply = model.acquire((key, owner), (mode, permits), (ttl_ms, delay_ms), now);
            (line, reply)
        }
        5 => {
            let fence =
                (dice.below(2) == 0).then(|| (model.token + 3 - dice.below(6) as i64).max(0));
            let words = fence.map(|token| format!(" FENCE {token}")).unwrap_or_default();
            let line = format!("LOCK.RENEW {key} {owner} {ttl_ms}{words}");
            (line, model.renew((key, owner), ttl_ms, fence, now))
        }
        6 | 7 => {
            let token = (dice.below(3) == 0).then(|| (model.token - dice.below(3) as i64).max(0));
            let words = token.map(|token| format!(" {token}")).unwrap_or_default();
            let line = format!("LOCK.RELEASE {key} {owner}{words}");
            (line, model.release(key, owner, token, now))
        }
        8 => {
            let token = (model.token - dice.below(4) as i64).max(0);
            (format!("LOCK.CHECK {key} {token}"), model.check(key, token, now))
        }
        _ => (format!("DEL {key}"), model.del(key, now)),
    }
}

#[test]
fn locks_are_as_their_model_over_random_times() {
    for seed in 0..300 {
        let (mut bench, mut model, mut dice) = (Bench::new(), Model::default(), Dice(seed));
        let mut told = Vec::new();
        for _ in 0..120 {
            let (line, expected) = step(&mut dice, &mut model, bench.now.0);
            let reply = bench.line(&line);
            told.push(format!("{} {line} -> {}", bench.now.0 % 100_000, show(&reply)));
            assert_eq!(show(&reply), expected, "seed {seed}:\n{}", told.join("\n"));
            assert_eq!(bench.engine.keyspace().locks().token(), model.token as u64);
            // I8: the same command again, as a client sends it that has lost the reply.
            if line.starts_with("LOCK.ACQUIRE") && matches!(reply, Reply::Record(_)) {
                assert_eq!(bench.line(&line), reply, "seed {seed}: {line} twice");
            }
            bench.pass_ms(dice.below(12) as i64);
        }
        // Whatever was taken is free again when its time is over.
        bench.pass_ms(100);
        for key in ["k", "j"] {
            assert_eq!(bench.show(&format!("EXISTS {key}")), "0", "seed {seed}");
        }
    }
}
