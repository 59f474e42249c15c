//! Client side caching under fire: whatever races, no client keeps a value that is gone.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_tests::client::{Client, Received};
use holdfast_tests::server;
use holdfast_tests::wire::{Protocol, Reply};

const KEYS: usize = 16;
const ROUNDS: usize = 60;

/// A client that keeps what it has read until it is told that it changed.
struct Caching {
    client: Client,
    cache: HashMap<String, String>,
}

impl Caching {
    fn note(&mut self, push: &[Reply]) {
        assert_eq!(push[0].text(), "invalidate");
        for key in push[1].elements() {
            self.cache.remove(&key.text());
        }
    }

    /// Reads one reply, and before it whatever was pushed.
    fn reply(&mut self) -> Reply {
        loop {
            match self.client.read() {
                Reply::Push(items) => self.note(&items),
                reply => return reply,
            }
        }
    }

    /// Takes all that was pushed and has arrived.
    fn settle(&mut self) {
        while let Received::Reply(reply) = self.client.receive(Duration::from_millis(50)) {
            match reply {
                Reply::Push(items) => self.note(&items),
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }
}

#[test]
fn no_cached_value_outlives_its_invalidation() {
    for options in ["", " BCAST"] {
        server::each(&[], |server| {
            let mut client = server.client();
            client.hello(Protocol::Resp3);
            assert!(client.line(&format!("CLIENT TRACKING ON{options}")).is_ok());
            let mut caching = Caching { client, cache: HashMap::new() };
            let addr = server.addr();
            for round in 0..ROUNDS {
                let stop = AtomicBool::new(false);
                std::thread::scope(|scope| {
                    for writer in 0..2 {
                        let stop = &stop;
                        scope.spawn(move || {
                            let mut client = Client::connect(addr).unwrap();
                            let mut n = 0;
                            while !stop.load(Relaxed) {
                                let key = format!("k{}", n % KEYS);
                                let value = format!("{writer}-{round}-{n}");
                                assert!(client.cmd(&["SET", &key, &value]).is_ok());
                                n += 1;
                            }
                        });
                    }
                    for n in 0..200 {
                        let key = format!("k{}", n % KEYS);
                        // What was pushed meanwhile comes before the reply.
                        caching.client.send(&["PING"]).unwrap();
                        assert_eq!(caching.reply().text(), "PONG");
                        if !caching.cache.contains_key(&key) {
                            caching.client.send(&["GET", &key]).unwrap();
                            let value = caching.reply().text();
                            caching.cache.insert(key, value);
                        }
                    }
                    stop.store(true, Relaxed);
                });
                caching.settle();
                let mut other = server.client();
                for (key, value) in &caching.cache {
                    let now = other.cmd(&["GET", key.as_str()]).text();
                    assert_eq!(&now, value, "{key} in round {round}{options}");
                }
            }
        });
    }
}
