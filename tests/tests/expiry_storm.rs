//! A million keys that run out at one moment: nobody waits for their removal.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_tests::client::{self, Client};
use holdfast_tests::server;

const KEYS: usize = 1_000_000;
const BATCH: usize = 5_000;

fn wall_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

fn load(c: &mut Client, from: usize, to: usize, expire_at_ms: u128) {
    let at = expire_at_ms.to_string();
    for batch in (from..to).step_by(BATCH) {
        let mut bytes = Vec::new();
        for n in batch..to.min(batch + BATCH) {
            let key = format!("k:{n}");
            bytes.extend(client::encode(&["SET", &key, "x", "PXAT", &at]));
        }
        c.send_raw(&bytes).unwrap();
        let count = to.min(batch + BATCH) - batch;
        let replies = c.receive_raw(5 * count, Duration::from_secs(60));
        assert_eq!(replies, b"+OK\r\n".repeat(count));
    }
}

#[test]
fn a_million_keys_run_out_at_once() {
    server::each(&[], |server| {
        let mut c = server.client();
        // The first part tells how long the rest will take here.
        let started = Instant::now();
        load(&mut c, KEYS, KEYS + KEYS / 20, wall_ms() + 3_600_000);
        let whole = started.elapsed() * 20;
        c.line("FLUSHALL");
        let expire_at = wall_ms() + whole.as_millis() * 2 + 2_000;
        load(&mut c, 0, KEYS, expire_at);
        let loaded = c.line("DBSIZE").int();
        if wall_ms() < expire_at {
            assert_eq!(loaded, i64::try_from(KEYS).unwrap());
        }
        // The server's clock may be a little behind wall time, which it follows slowly.
        while wall_ms() < expire_at + 100 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // From here on every key is gone, removed or not.
        let mut slowest = Duration::ZERO;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut n = 0;
        loop {
            let asked = Instant::now();
            n = (n + 7919) % KEYS;
            assert!(c.cmd(&["GET", &format!("k:{n}")]).is_nil(), "k:{n} outlived its time");
            assert!(c.cmd(&["SET", "alive", "1"]).is_ok());
            slowest = slowest.max(asked.elapsed());
            if c.line("DBSIZE").int() == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "{} are not removed", c.line("DBSIZE").int());
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(slowest < Duration::from_secs(3), "a client waited {slowest:?}");
    });
}
