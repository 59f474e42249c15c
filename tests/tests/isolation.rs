//! Many connections at once, and invariants over several keys that no reader
//! may ever see broken: a half of an MSET, a transfer between its two steps.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::client::Client;
use holdfast_tests::server::{self, Server};
use holdfast_tests::wire::Reply;

const HAMMER: Duration = Duration::from_secs(3);
const ACCOUNTS: u64 = 10;
const START: i64 = 100;
/// Enough work to call it a hammer, little enough for a slow machine.
const ROUNDS_MIN: u64 = 50;

/// One round of work, on the worker's own connection.
type Worker<'a> = dyn Fn(&mut Client, u64) + Sync + 'a;

/// Runs each worker on its own connection until the time is up; every worker
/// must have come round often enough for the test to mean something.
fn hammer(server: &Server, workers: &[&Worker<'_>]) {
    let stop = AtomicBool::new(false);
    let rounds: Vec<AtomicU64> = workers.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for (worker, rounds) in workers.iter().zip(&rounds) {
            let stop = &stop;
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    // A failed check must end the others too.
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        worker(&mut client, round);
                    }));
                    if let Err(panic) = outcome {
                        stop.store(true, Ordering::Relaxed);
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
        let end = Instant::now() + HAMMER;
        let slow_end = end + HAMMER * 9;
        let enough = || rounds.iter().all(|r| r.load(Ordering::Relaxed) >= ROUNDS_MIN);
        while !stop.load(Ordering::Relaxed)
            && (Instant::now() < end || (!enough() && Instant::now() < slow_end))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (n, rounds) in rounds.iter().enumerate() {
        let rounds = rounds.load(Ordering::Relaxed);
        assert!(rounds >= ROUNDS_MIN, "worker {n} came round only {rounds} times");
    }
}

fn account(n: u64) -> String {
    format!("account:{}", n % ACCOUNTS)
}

fn sum(reply: &Reply) -> i64 {
    reply.elements().iter().map(Reply::int).sum()
}

fn with_keys(command: &str, keys: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(command.to_owned()).chain(keys).collect()
}

#[test]
fn transfers_never_show_half_done() {
    server::each(&[], |server| {
        let mut setup = server.client();
        for n in 0..ACCOUNTS {
            assert!(setup.cmd(&["SET", &account(n), &START.to_string()]).is_ok());
        }
        let total = START * i64::try_from(ACCOUNTS).unwrap();

        let by_script = |c: &mut Client, n: u64| {
            let script = "redis.call('decrby', KEYS[1], ARGV[1]) \
                          return redis.call('incrby', KEYS[2], ARGV[1])";
            let (from, to) = (account(n * 7), account(n * 7 + 3));
            let reply = c.cmd(&["EVAL", script, "2", &from, &to, "5"]);
            assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
        };
        let undeclared = |c: &mut Client, n: u64| {
            let script = "redis.call('decr', ARGV[1]) return redis.call('incr', ARGV[2])";
            let reply = c.cmd(&["EVAL", script, "0", &account(n), &account(n + 1)]);
            assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
        };
        let by_exec = |c: &mut Client, n: u64| {
            assert!(c.cmd(&["MULTI"]).is_ok());
            c.cmd(&["DECRBY", &account(n * 3), "2"]);
            c.cmd(&["INCRBY", &account(n * 3 + 1), "2"]);
            assert_eq!(c.cmd(&["EXEC"]).elements().len(), 2);
        };
        let by_watch = |c: &mut Client, n: u64| {
            let (from, to) = (account(n), account(n + 5));
            assert!(c.cmd(&["WATCH", &from, &to]).is_ok());
            let a = c.cmd(&["GET", &from]).int();
            let b = c.cmd(&["GET", &to]).int();
            c.cmd(&["MULTI"]);
            c.cmd(&["SET", &from, &(a - 1).to_string()]);
            c.cmd(&["SET", &to, &(b + 1).to_string()]);
            // A null means that someone else was first, which is fine.
            let reply = c.cmd(&["EXEC"]);
            assert!(reply.is_nil() || reply.elements().len() == 2, "{reply:?}");
        };
        let by_mset = |c: &mut Client, n: u64| {
            // Swaps two balances under WATCH, with one command that sets both.
            let (x, y) = (account(n * 9), account(n * 9 + 4));
            assert!(c.cmd(&["WATCH", &x, &y]).is_ok());
            let got = c.cmd(&["MGET", &x, &y]);
            let (a, b) = (got.elements()[0].int(), got.elements()[1].int());
            c.cmd(&["MULTI"]);
            c.cmd(&["MSET", &x, &b.to_string(), &y, &a.to_string()]);
            c.cmd(&["EXEC"]);
        };
        let read_mget = |c: &mut Client, _: u64| {
            let got = c.cmd(&with_keys("MGET", (0..ACCOUNTS).map(account)));
            assert_eq!(sum(&got), total, "MGET saw a transfer half done: {got:?}");
        };
        let read_exec = |c: &mut Client, _: u64| {
            c.cmd(&["MULTI"]);
            for n in 0..ACCOUNTS {
                c.cmd(&["GET", &account(n)]);
            }
            let got = c.cmd(&["EXEC"]);
            assert_eq!(sum(&got), total, "EXEC saw a transfer half done: {got:?}");
        };
        let read_script = |c: &mut Client, _: u64| {
            let script = "local s = 0 for n = 0, tonumber(ARGV[1]) - 1 do \
                          s = s + redis.call('get', 'account:' .. n) end return s";
            let got = c.cmd(&["EVAL", script, "0", &ACCOUNTS.to_string()]);
            assert_eq!(got, Reply::Int(total), "a script saw a transfer half done");
        };
        hammer(
            server,
            &[
                &by_script,
                &by_script,
                &undeclared,
                &by_exec,
                &by_exec,
                &by_watch,
                &by_watch,
                &by_mset,
                &read_mget,
                &read_mget,
                &read_exec,
                &read_script,
            ],
        );
        let got = setup.cmd(&with_keys("MGET", (0..ACCOUNTS).map(account)));
        assert_eq!(sum(&got), total, "money was made or lost");
    });
}

#[test]
fn mget_never_sees_half_an_mset() {
    const KEYS: u64 = 24;
    server::each(&[], |server| {
        let key = |n: u64| format!("part:{n}");
        let write = |tag: u64| {
            move |c: &mut Client, round: u64| {
                let value = format!("{tag}-{round}");
                let mut args = vec!["MSET".to_owned()];
                // Each writer names the keys in another order.
                for n in 0..KEYS {
                    args.extend([key((n * (2 * tag + 1)) % KEYS), value.clone()]);
                }
                // An even step might not reach every key; then set them all.
                if tag % 3 == 1 {
                    args.truncate(1);
                    for n in (0..KEYS).rev() {
                        args.extend([key(n), value.clone()]);
                    }
                }
                assert!(c.cmd(&args).is_ok());
            }
        };
        let remove_and_set = |c: &mut Client, round: u64| {
            let value = format!("x-{round}");
            c.send(&["MULTI"]).unwrap();
            c.send(&with_keys("DEL", (0..KEYS).map(key))).unwrap();
            for n in 0..KEYS {
                c.send(&["SET", &key(n), &value]).unwrap();
            }
            c.send(&["EXEC"]).unwrap();
            for _ in 0..KEYS + 2 {
                c.read();
            }
            let done = c.read();
            assert_eq!(done.elements().len(), usize::try_from(KEYS).unwrap() + 1);
        };
        let read = |c: &mut Client, _: u64| {
            let got = c.cmd(&with_keys("MGET", (0..KEYS).map(key)));
            let first = &got.elements()[0];
            assert!(got.elements().iter().all(|v| v == first), "half a write was seen: {got:?}");
        };
        let count = |c: &mut Client, round: u64| {
            let got = c.cmd(&with_keys("EXISTS", (0..KEYS).map(key))).int();
            let all = i64::try_from(KEYS).unwrap();
            assert!(got == all || (got == 0 && round == 0), "{got} keys of {all}");
        };
        let mut setup = server.client();
        write(1)(&mut setup, 0);
        let (first, second) = (write(1), write(4));
        hammer(server, &[&first, &second, &remove_and_set, &read, &read, &read, &count]);
    });
}

#[test]
fn increments_are_never_lost() {
    const WORKERS: usize = 16;
    const EACH: usize = 500;
    server::each(&[], |server| {
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let server = &*server;
                scope.spawn(move || {
                    let mut c = server.client();
                    for n in 0..EACH {
                        let reply = match (worker + n) % 3 {
                            0 => c.cmd(&["INCR", "counter"]),
                            1 => c.cmd(&[
                                "EVAL",
                                "return redis.call('incr', KEYS[1])",
                                "1",
                                "counter",
                            ]),
                            _ => {
                                c.cmd(&["MULTI"]);
                                c.cmd(&["INCR", "counter"]);
                                c.cmd(&["EXEC"]).elements()[0].clone()
                            }
                        };
                        assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
                    }
                });
            }
        });
        let got = server.client().cmd(&["GET", "counter"]).int();
        assert_eq!(got, i64::try_from(WORKERS * EACH).unwrap());
    });
}
