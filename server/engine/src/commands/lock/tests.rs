//! Tests of the lock commands on a bare engine.

use crate::effects::Wait;
use crate::testing::{Bench, START};
use crate::time::{DbIndex, UnixMillis};

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const FENCED: &str = "-FENCED the token is not that of a holder of the lock";

#[test]
fn an_exclusive_lock_has_one_owner_and_its_token_grows() {
    let mut bench = Bench::new();
    bench.check(&[
        ("LOCK.ACQUIRE k a 1000", "[1 1000]"),
        ("LOCK.ACQUIRE k b 1000", "nil"),
        ("TYPE k", "lock"),
        ("OBJECT ENCODING k", "\"holder\""),
        ("PTTL k", "1000"),
        ("SCAN 0 TYPE lock COUNT 100", "[\"0\" [\"k\"]]"),
    ]);
    bench.pass_ms(400);
    bench.check(&[
        // The same owner again, whatever became of the reply.
        ("LOCK.ACQUIRE k a 1000", "[1 1000]"),
        ("LOCK.RENEW k a 500", "1"),
        ("LOCK.RENEW k b 500", "nil"),
        ("LOCK.RENEW none a 500", "nil"),
        ("PTTL k", "500"),
        ("LOCK.CHECK k 1", "OK"),
        ("LOCK.CHECK k 2", FENCED),
        ("LOCK.CHECK none 1", FENCED),
        ("LOCK.RELEASE k b", "0"),
        ("LOCK.RELEASE k a 2", "0"),
        ("LOCK.RELEASE k a 1", "1"),
        ("LOCK.RELEASE k a", "0"),
        ("EXISTS k", "0"),
        ("LOCK.ACQUIRE k b 10", "[2 10]"),
    ]);
    bench.pass_ms(10);
    bench.check(&[
        ("LOCK.RENEW k b 500", "nil"),
        ("LOCK.CHECK k 2", FENCED),
        ("LOCK.RELEASE k b", "0"),
        ("LOCK.ACQUIRE k a 10", "[3 10]"),
        ("DEL k", "1"),
        ("FLUSHALL", "OK"),
        ("LOCK.ACQUIRE other a 10", "[4 10]"),
    ]);
}

#[test]
fn readers_share_and_permits_are_counted() {
    let mut bench = Bench::new();
    let other = "-ERR this owner holds the lock in another mode";
    bench.check(&[
        ("LOCK.ACQUIRE r a 100 SHARED", "[1 100]"),
        ("LOCK.ACQUIRE r b 200 SHARED", "[2 200]"),
        ("LOCK.ACQUIRE r w 200", "nil"),
        ("LOCK.ACQUIRE r a 100", other),
        ("PTTL r", "200"),
        ("LOCK.RELEASE r b", "1"),
        ("PTTL r", "100"),
        ("LOCK.RELEASE r a", "1"),
        ("EXISTS r", "0"),
        ("LOCK.ACQUIRE s a 100 PERMITS 2 LIMIT 3", "[3 100]"),
        ("LOCK.ACQUIRE s b 200 PERMITS 2 LIMIT 3", "nil"),
        ("LOCK.ACQUIRE s b 200 PERMITS 1 LIMIT 3", "[4 200]"),
        ("LOCK.ACQUIRE s c 200 PERMITS 1 LIMIT 4", "-ERR the semaphore has LIMIT 3"),
        ("LOCK.ACQUIRE s c 200 SHARED", "nil"),
        ("LOCK.ACQUIRE s b 200 PERMITS 2 LIMIT 3", other),
        ("LOCK.ACQUIRE s b 300 PERMITS 1 LIMIT 3", "[4 300]"),
        ("LOCK.ACQUIRE s c 1 PERMITS 4 LIMIT 3", "-ERR PERMITS is greater than LIMIT"),
    ]);
    bench.pass_ms(100);
    // One holder's time is over, the other's not.
    bench.check_events(&[(
        "LOCK.ACQUIRE s c 50 PERMITS 2 LIMIT 3",
        "0:lock.expired s, 0:lock.granted s",
        1,
    )]);
    bench.check(&[
        ("LOCK.CHECK s 3", FENCED),
        ("LOCK.CHECK s 4", "OK"),
        ("LOCK.CHECK s 5", "OK"),
        ("PTTL s", "200"),
    ]);
}

#[test]
fn a_fence_raises_the_token_and_all_later_ones() {
    let mut bench = Bench::new();
    bench.check(&[
        ("LOCK.ACQUIRE k a 1000", "[1 1000]"),
        ("LOCK.RENEW k a 1000 FENCE 0", "-FENCED the lock was granted under a greater token"),
        ("LOCK.RENEW k a 1000 FENCE 101", "101"),
        ("LOCK.RENEW k a 1000 FENCE 101", "101"),
        ("LOCK.RENEW k a 1000 FENCE 100", "-FENCED the lock was granted under a greater token"),
        ("LOCK.RENEW k b 1000 FENCE 200", "nil"),
        ("LOCK.ACQUIRE k a 1000", "[101 1000]"),
        ("LOCK.CHECK k 1", FENCED),
        ("LOCK.CHECK k 101", "OK"),
        ("LOCK.RENEW k a 1000", "101"),
        ("LOCK.ACQUIRE j a 1000", "[102 1000]"),
        ("LOCK.RENEW k a 1000 FENCE 4503599627370497", "-ERR token is out of range"),
        ("LOCK.RENEW k a 1000 FENCE -1", "-ERR token is out of range"),
        ("LOCK.RENEW k a 1000 FENCE x", "-ERR value is not an integer or out of range"),
        ("LOCK.RENEW k a 1000 FOO 1", "-ERR syntax error"),
    ]);
}

#[test]
fn a_check_is_a_condition_of_a_transaction() {
    let mut bench = Bench::new();
    bench.line("LOCK.ACQUIRE k a 1000");
    let ran = bench.transaction(&["LOCK.CHECK k 1", "SET data new"], &[]).unwrap();
    assert_eq!(ran.iter().map(crate::testing::show).collect::<Vec<_>>(), ["OK", "OK"]);
    // It is judged before anything runs, wherever it stands.
    let ran = bench.transaction(&["LOCK.RELEASE k a", "LOCK.CHECK k 1"], &[]).unwrap();
    assert_eq!(ran.iter().map(crate::testing::show).collect::<Vec<_>>(), ["1", "OK"]);
    assert!(bench.transaction(&["SET data stale", "LOCK.CHECK k 1"], &[]).is_none());
    bench.line("LOCK.ACQUIRE k b 1000");
    assert!(bench.transaction(&["SET data stale", "LOCK.CHECK k 1"], &[]).is_none());
    bench.check(&[("GET data", "\"new\""), ("SET plain v", "OK")]);
    assert!(bench.transaction(&["LOCK.CHECK plain 1", "SET data stale"], &[]).is_none());
    let ran = bench.transaction(&["LOCK.CHECK k x", "SET data newer"], &[]).unwrap();
    assert!(crate::testing::show(&ran[0]).starts_with("-ERR value"));
}

#[test]
fn locks_and_plain_keys_exclude_one_another() {
    let mut bench = Bench::new();
    bench.check(&[
        ("LOCK.ACQUIRE k a 1000", "[1 1000]"),
        ("SET k v NX", "nil"),
        ("SETNX k v", "0"),
        ("MSETNX k v j w", "0"),
        ("SET k v", WRONG),
        ("SET k v XX", WRONG),
        ("SET k v PX 5", WRONG),
        ("SET k v GET", WRONG),
        ("SETEX k 5 v", WRONG),
        ("MSET j v k w", WRONG),
        ("EXISTS j", "0"),
        ("GETSET k v", WRONG),
        ("GET k", WRONG),
        ("INCR k", WRONG),
        ("LPUSH k v", WRONG),
        ("EXPIRE k 5", WRONG),
        ("PERSIST k", WRONG),
        ("SET s v", "OK"),
        ("RENAME k j", WRONG),
        ("RENAME s k", WRONG),
        ("RENAMENX k j", WRONG),
        ("RENAMENX s k", "0"),
        ("COPY k j", WRONG),
        ("COPY s k REPLACE", WRONG),
        ("COPY s k", "0"),
        ("MOVE k 1", WRONG),
        ("SADD set 1 2", "2"),
        ("SUNIONSTORE k set", WRONG),
        ("SINTERSTORE k none", WRONG),
        ("ZUNIONSTORE k 1 set", WRONG),
        ("SORT set STORE k", WRONG),
        ("BITOP NOT k s", WRONG),
        ("LOCK.RENEW s a 5", WRONG),
        ("LOCK.RELEASE s a", WRONG),
        ("LOCK.CHECK s 1", WRONG),
        ("LOCK.INFO s", WRONG),
        ("LOCK.ACQUIRE s a 5", "nil"),
        ("PTTL k", "1000"),
        ("LOCK.CHECK k 1", "OK"),
    ]);
    bench.check_events(&[
        ("DEL k", "0:lock.broken k, 0:del k", 1),
        ("LOCK.ACQUIRE k b 5", "0:new k, 0:lock.granted k", 1),
        ("LOCK.RELEASE k b", "0:lock.released k", 1),
        ("LOCK.ACQUIRE k b 5", "0:new k, 0:lock.granted k", 1),
    ]);
    bench.pass_ms(5);
    bench.check_events(&[("DEL k", "0:expired k, 0:lock.expired k", 0)]);
}

#[test]
fn who_would_wait_says_until_when() {
    let mut bench = Bench::new();
    let wait =
        |timeout_ms, at: i64| Some(Wait { timeout_ms, retry_at: Some(UnixMillis(START + at)) });
    bench.line("LOCK.ACQUIRE k a 1000");
    bench.check(&[("LOCK.ACQUIRE k b 10 BLOCK 50", "nil")]);
    assert_eq!(bench.effects.wait, wait(Some(50), 1000));
    bench.check(&[("LOCK.ACQUIRE k b 10", "nil")]);
    assert_eq!(bench.effects.wait, None);
    bench.check(&[("LOCK.ACQUIRE k b 10 BLOCK 0 AGE 7", "nil")]);
    assert_eq!(bench.effects.wait, wait(None, 1000));
    bench.line("LOCK.ACQUIRE s a 300 PERMITS 2 LIMIT 3");
    bench.line("LOCK.ACQUIRE s b 200 PERMITS 1 LIMIT 3");
    bench.check(&[("LOCK.ACQUIRE s c 10 PERMITS 1 LIMIT 3 BLOCK 0", "nil")]);
    assert_eq!(bench.effects.wait, wait(None, 200));
    bench.line("SET plain v PX 70");
    bench.check(&[("LOCK.ACQUIRE plain c 10 BLOCK 0", "nil")]);
    assert_eq!(bench.effects.wait, wait(None, 70));
    let syntax = "-ERR syntax error";
    let invalid = "-ERR invalid expire time in 'lock.acquire' command";
    bench.check(&[
        ("LOCK.ACQUIRE k b 10 BLOCK", syntax),
        ("LOCK.ACQUIRE k b 10 AGE 5", "-ERR AGE is for BLOCK"),
        ("LOCK.ACQUIRE k b 10 BLOCK -1", "-ERR timeout is negative"),
        ("LOCK.ACQUIRE k b 10 BLOCK x", "-ERR value is not an integer or out of range"),
        ("LOCK.ACQUIRE k b 10 BLOCK 9223372036854775807", "-ERR timeout is out of range"),
        ("LOCK.ACQUIRE k b 0", invalid),
        ("LOCK.ACQUIRE k b -5", invalid),
        ("LOCK.ACQUIRE k b 9223372036854775807", invalid),
        ("LOCK.ACQUIRE k b x", "-ERR value is not an integer or out of range"),
        ("LOCK.ACQUIRE k b 10 SHARED PERMITS 1 LIMIT 2", syntax),
        ("LOCK.ACQUIRE k b 10 PERMITS 1", syntax),
        ("LOCK.ACQUIRE k b 10 PERMITS 0 LIMIT 1", "-ERR PERMITS and LIMIT must be 1 to 1073741824"),
        ("LOCK.ACQUIRE k b 10 FOO", syntax),
        ("LOCK.ACQUIRE k b LEASE", syntax),
        ("LOCK.ACQUIRE k b LEASE 99", "-ERR no such lease"),
        ("LOCK.ACQUIRE k", "-ERR wrong number of arguments for 'lock.acquire' command"),
    ]);
}

#[test]
fn a_lock_that_expires_stays_closed_for_its_delay() {
    let mut bench = Bench::new();
    bench.check(&[
        ("LOCK.ACQUIRE k a 100 DELAY 50", "[1 100]"),
        ("LOCK.RELEASE k a", "1"),
        ("LOCK.ACQUIRE k a 100 DELAY 50", "[2 100]"),
    ]);
    bench.pass_ms(100);
    bench.check(&[
        ("LOCK.CHECK k 2", FENCED),
        ("LOCK.RENEW k a 100", "nil"),
        ("LOCK.ACQUIRE k b 100 BLOCK 0", "nil"),
        ("LOCK.ACQUIRE k a 100", "nil"),
    ]);
    bench.check(&[(
        "LOCK.INFO k",
        "{\"mode\": \"exclusive\", \"holders\": [], \"remaining\": 50, \"delayed\": 50, \
         \"waiters\": []}",
    )]);
    bench.pass_ms(50);
    bench.check(&[("LOCK.ACQUIRE k b 100", "[3 100]")]);
}

#[test]
fn what_is_known_of_a_lock_is_told() {
    let mut bench = Bench::new();
    bench.check(&[
        ("LOCK.ACQUIRE k a 100 DATA here", "[1 100]"),
        (
            "LOCK.INFO k",
            "{\"mode\": \"exclusive\", \"holders\": [{\"owner\": \"a\", \"token\": 1, \"pttl\": 100, \
             \"permits\": 1, \"data\": \"here\"}], \"remaining\": 100, \"waiters\": []}",
        ),
        ("LOCK.INFO none", "nil"),
        ("SET plain v", "OK"),
        (
            "LOCK.LIST 0 MATCH k* COUNT 100",
            "[\"0\" [{\"key\": \"k\", \"mode\": \"exclusive\", \"holders\": [{\"owner\": \"a\", \
             \"token\": 1, \"pttl\": 100, \"permits\": 1, \"data\": \"here\"}], \"remaining\": 100, \
             \"waiters\": []}]]",
        ),
        ("LOCK.LIST 0 MATCH x* COUNT 100", "[\"0\" []]"),
        ("LOCK.LIST x", "-ERR invalid cursor"),
        ("LOCK.LIST 0 COUNT 0", "-ERR syntax error"),
    ]);
}

#[test]
fn keys_vanish_with_their_lease() {
    let mut bench = Bench::new();
    bench.check(&[
        ("LEASE.GRANT 100", "1"),
        ("LEASE.INFO 1", "{\"ttl\": 100, \"pttl\": 100, \"keys\": []}"),
        ("SET s v LEASE 1", "OK"),
        ("SET gone v LEASE 1", "OK"),
        ("SET gone v", "OK"),
        ("LOCK.ACQUIRE k a LEASE 1", "[2 100]"),
        ("LOCK.ACQUIRE r a LEASE 1 SHARED", "[3 100]"),
        ("LOCK.ACQUIRE r b 1000 SHARED", "[4 1000]"),
        ("LOCK.RENEW k a 5", "-ERR the lock depends on a lease: use LEASE.RENEW"),
        ("SET s v LEASE 9", "-ERR no such lease"),
        ("SET s v LEASE 1 PX 5", "-ERR syntax error"),
        ("SET s v EX 5 LEASE 1", "-ERR syntax error"),
        ("SET k v LEASE 1", WRONG),
    ]);
    bench.pass_ms(60);
    bench.check(&[
        ("LEASE.RENEW 1", "100"),
        ("PTTL s", "100"),
        ("PTTL k", "100"),
        ("PTTL r", "940"),
        ("PTTL gone", "-1"),
        (
            "LEASE.INFO 1",
            "{\"ttl\": 100, \"pttl\": 100, \"keys\": [[0 \"k\"] [0 \"r\"] [0 \"s\"]]}",
        ),
    ]);
    bench.pass_ms(60);
    bench.db = DbIndex(3);
    bench.check(&[("SET t v LEASE 1", "OK"), ("PTTL t", "40"), ("LEASE.RENEW 1", "100")]);
    bench.pass_ms(100);
    bench.check(&[("EXISTS t", "0"), ("LEASE.RENEW 1", "nil"), ("LEASE.REVOKE 1", "0")]);
    bench.db = DbIndex(0);
    bench.check(&[
        ("EXISTS s k r gone", "2"),
        ("LOCK.CHECK r 3", FENCED),
        ("LOCK.CHECK r 4", "OK"),
        ("LEASE.GRANT 100", "5"),
        ("LOCK.ACQUIRE k a LEASE 5 DELAY 1000", "[6 100]"),
        ("LOCK.ACQUIRE r a LEASE 5 SHARED", "[7 100]"),
        ("SET s v LEASE 5", "OK"),
    ]);
    bench.check_events(&[("LEASE.REVOKE 5", "0:lock.released k, 0:lock.released r, 0:del s", 1)]);
    bench.check(&[
        ("EXISTS s k r", "1"),
        ("LEASE.INFO 5", "nil"),
        ("LEASE.GRANT 0", "-ERR invalid expire time in 'lease.grant' command"),
        ("LEASE.RENEW x", "-ERR value is not an integer or out of range"),
    ]);
}

#[test]
fn a_lock_inside_a_script_only_tries() {
    let mut bench = Bench::new();
    let call = "return redis.call('LOCK.ACQUIRE', KEYS[1], ARGV[1], 1000, 'BLOCK', 0)";
    let run = |bench: &mut Bench, owner| {
        crate::testing::show(&bench.run(&["EVAL", call, "1", "k", owner]))
    };
    assert_eq!(run(&mut bench, "a"), "[1 1000]");
    assert_eq!(run(&mut bench, "b"), "nil");
    assert_eq!(bench.effects.wait, None);
}

#[test]
fn the_digest_counts_the_counter_in() {
    let (mut one, mut other) = (Bench::new(), Bench::new());
    let digest = |bench: &Bench| bench.engine.keyspace().digest(bench.now);
    one.line("LOCK.ACQUIRE k a 1000");
    other.line("LOCK.ACQUIRE k a 1000");
    assert_eq!(digest(&one), digest(&other));
    one.line("LOCK.RELEASE k a");
    other.line("DEL k");
    assert_eq!(digest(&one), digest(&other));
    one.line("LOCK.ACQUIRE j a 1000");
    one.line("LOCK.RELEASE j a");
    assert_ne!(digest(&one), digest(&other));
}

#[test]
fn a_lock_is_never_evicted() {
    use crate::keyspace::{Among, First, Pool};
    let mut bench = Bench::new();
    bench.line("LOCK.ACQUIRE k a 100000");
    bench.line("LOCK.ACQUIRE r a 100000 SHARED");
    let draw = |bench: &Bench| {
        let mut pool = Pool::default();
        let keyspace = bench.engine.keyspace();
        for among in [Among::All, Among::Volatile] {
            for first in [First::Any, First::Soonest, First::LeastRecent] {
                for random in 0..20 {
                    keyspace.draw_candidates((among, first), 5, bench.now, random, &mut pool);
                }
            }
        }
        pool.pop().map(|candidate| candidate.key)
    };
    assert_eq!(draw(&bench), None);
    bench.line("SET s v PX 200000");
    assert_eq!(draw(&bench), Some(b"s".to_vec()));
}

#[test]
fn who_waits_again_elsewhere_keeps_its_age() {
    let aged = |text: &str, ms| {
        let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        let aged = super::acquire::aged(&args, ms)?;
        let words = aged.iter().map(|arg| String::from_utf8_lossy(arg).into_owned());
        Some(words.collect::<Vec<_>>().join(" "))
    };
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(aged("LOCK.ACQUIRE k o 100", 5), None);
    assert_eq!(aged("LOCK.ACQUIRE k o 100 BLOCK 0", 5), told("LOCK.ACQUIRE k o 100 BLOCK 0 AGE 5"));
    assert_eq!(
        aged("LOCK.ACQUIRE k o LEASE 7 SHARED BLOCK 9 age 20 DATA AGE", 5),
        told("LOCK.ACQUIRE k o LEASE 7 SHARED BLOCK 9 DATA AGE AGE 25")
    );
    assert_eq!(
        aged("LOCK.ACQUIRE k o 100 PERMITS 1 LIMIT 2 AGE 1 BLOCK 3 DELAY 4", 0),
        told("LOCK.ACQUIRE k o 100 PERMITS 1 LIMIT 2 BLOCK 3 DELAY 4 AGE 1")
    );
}
