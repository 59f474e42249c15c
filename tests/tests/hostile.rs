//! Clients that mean harm or are broken: none may end the server, stall the
//! others, or make it hold memory that is not theirs to take.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use holdfast_tests::client::{self, Client, Received};
use holdfast_tests::server::{self, Server};
use holdfast_tests::wire::Reply;

const MIB: usize = 1 << 20;
/// What closing a connection may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The server answers a newcomer, and quickly enough not to be called stalled.
fn is_well(server: &mut Server) {
    assert!(server.is_alive(), "the server ended");
    let started = Instant::now();
    let mut c = server.client();
    assert_eq!(c.line("PING"), Reply::Simple(b"PONG".to_vec()));
    assert!(c.line("SET well 1").is_ok());
    assert_eq!(c.line("GET well").text(), "1");
    assert!(started.elapsed() < Duration::from_secs(10), "stalled");
}

fn connected(c: &mut Client) -> i64 {
    let info = c.line("INFO clients").text();
    let field = info.lines().find_map(|l| l.strip_prefix("connected_clients:"));
    field.unwrap().trim().parse().unwrap()
}

#[test]
fn every_prefix_of_a_command_may_end() {
    server::each(&[], |server| {
        let whole = client::encode(&["SET", "half", "a\r\nb"]);
        for len in 1..whole.len() {
            let mut c = server.client();
            c.send_raw(&whole[..len]).unwrap();
        }
        is_well(server);
        let mut c = server.client();
        assert!(c.line("GET half").is_nil(), "half a command was run");
        // One byte at a time is a whole command in the end.
        for byte in &whole {
            c.send_raw(std::slice::from_ref(byte)).unwrap();
        }
        assert!(c.read().is_ok());
        assert_eq!(c.line("GET half").text(), "a\r\nb");
    });
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    server::each(&[], |server| {
        for depth in [2, 10_000, 200_000] {
            let mut c = server.client();
            let _ = c.send_raw("*1\r\n".repeat(depth).as_bytes());
            match c.receive(SOON) {
                Received::Reply(reply) => {
                    assert!(
                        reply.is_error("ERR Protocol error: expected '$', got '*'"),
                        "{reply:?}"
                    );
                    assert!(c.closed_within(SOON));
                }
                // Bytes we still had to send may turn the close into a reset.
                Received::Closed => {}
                Received::Nothing => panic!("no answer to {depth} levels"),
            }
        }
        is_well(server);
    });
}

#[test]
fn announced_sizes_take_no_memory() {
    server::each(&[], |server| {
        let before = server.rss_bytes();
        let mut held = Vec::new();
        for n in 0..60 {
            let mut c = server.client();
            let bytes: &[u8] = match n % 3 {
                0 => b"*2\r\n$4\r\nECHO\r\n$536870912\r\nstart",
                1 => b"*1048576\r\n$3\r\nDEL\r\n",
                _ => b"*1000\r\n$3\r\nDEL\r\n$536870912\r\n",
            };
            c.send_raw(bytes).unwrap();
            held.push(c);
        }
        is_well(server);
        let grown = server.rss_bytes().saturating_sub(before);
        assert!(grown < 400 * MIB as u64, "{grown} bytes for what was only announced");
        drop(held);
        is_well(server);
    });
}

#[test]
fn garbage_of_every_kind() {
    server::each(&[], |server| {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..300 {
            let mut bytes: Vec<u8> = match round % 3 {
                0 => Vec::new(),
                1 => b"*3\r\n$3\r\nSET\r\n$".to_vec(),
                _ => b"*".to_vec(),
            };
            let alphabet = b"*$:+-0123456789\r\n\r\n\"'\\ aGET\x00\xff";
            for _ in 0..random() % 2000 {
                let n = usize::try_from(random()).unwrap_or(usize::MAX);
                bytes.push(alphabet[n % alphabet.len()]);
            }
            let mut c = server.client();
            let _ = c.send_raw(&bytes);
        }
        is_well(server);
    });
}

#[test]
fn inline_commands_up_to_64_kilobytes() {
    server::each(&[], |server| {
        let mut c = server.client();
        let text = "x".repeat(60_000);
        c.send_raw(format!("ECHO {text}\r\n").as_bytes()).unwrap();
        assert_eq!(c.read().text(), text);
        let _ = c.send_raw("y".repeat(80 * 1024).as_bytes());
        match c.receive(SOON) {
            Received::Reply(reply) => {
                assert!(reply.is_error("ERR Protocol error: too big inline request"), "{reply:?}");
            }
            Received::Closed => {}
            Received::Nothing => panic!("80 kB without a line end are waited for"),
        }
        assert!(c.closed_within(SOON));
        is_well(server);
    });
}

#[test]
fn binary_keys_and_large_values() {
    server::each(&[], |server| {
        let mut c = server.client();
        let all: Vec<u8> = (0..=255).collect();
        assert!(c.cmd(&[b"SET", all.as_slice(), all.as_slice()]).is_ok());
        assert_eq!(c.cmd(&[b"GET", all.as_slice()]), Reply::Bulk(all));
        let large = vec![b'z'; 48 * MIB];
        assert!(c.cmd(&[b"SET", b"large".as_slice(), &large]).is_ok());
        assert_eq!(c.line("STRLEN large").int(), 48 * MIB as i64);
        assert!(c.line("GET large") == Reply::Bulk(large));
        assert_eq!(c.line("DEL large").int(), 1);
        let long_key = vec![b'k'; MIB];
        assert!(c.cmd(&[b"SET", long_key.as_slice(), b"v"]).is_ok());
        assert_eq!(c.cmd(&[b"EXISTS", long_key.as_slice()]).int(), 1);
        // Many arguments
        let mut many = vec!["DEL".to_owned()];
        many.extend((0..200_000).map(|n| format!("nosuch:{n}")));
        assert_eq!(c.cmd(&many).int(), 0);
    });
}

#[test]
fn a_reader_that_is_slow_is_cut_off_alone() {
    server::each(&["--client-output-buffer-limit", "normal", "2mb", "0", "0"], |server| {
        let mut good = server.client();
        let value = vec![b'v'; 64 * 1024];
        assert!(good.cmd(&[b"SET", b"v".as_slice(), &value]).is_ok());
        let before = server.rss_bytes();
        let mut slow = server.client();
        slow.set_write_timeout(Duration::from_secs(2));
        // 256 MiB of replies that nobody reads.
        let asks = client::encode(&["GET", "v"]).repeat(4096);
        let _ = slow.send_raw(&asks);
        for _ in 0..200 {
            assert_eq!(good.line("PING").text(), "PONG");
        }
        assert!(slow.closed_within(Duration::from_secs(60)), "it may take all memory");
        let grown = server.rss_bytes().saturating_sub(before);
        assert!(grown < 200 * MIB as u64, "{grown} bytes held for a reader that is slow");
        is_well(server);
    });
}

#[test]
fn a_subscriber_that_is_slow_is_cut_off_alone() {
    server::each(&["--client-output-buffer-limit", "pubsub", "1mb", "0", "0"], |server| {
        let mut slow = server.client();
        slow.line("SUBSCRIBE ch");
        let mut good = server.client();
        good.line("SUBSCRIBE ch");
        let mut publisher = server.client();
        let message = "m".repeat(128 * 1024);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let heard = publisher.cmd(&["PUBLISH", "ch", &message]).int();
            if let Received::Reply(push) = good.receive(SOON) {
                assert_eq!(push.elements()[2].text().len(), message.len());
            } else {
                panic!("the reader that keeps up was cut off");
            }
            if heard == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "the slow subscriber is still served");
        }
        assert!(slow.closed_within(SOON));
        is_well(server);
    });
}

#[test]
fn floods_leave_others_their_turn() {
    const FLOODERS: usize = 6;
    const COMMANDS: usize = 100_000;
    server::each(&[], |server| {
        let request = client::encode(&["SET", "flood", "1"]).repeat(1000);
        std::thread::scope(|scope| {
            let flooders: Vec<_> = (0..FLOODERS)
                .map(|_| {
                    let (server, request) = (&*server, &request);
                    scope.spawn(move || {
                        let mut c = server.client();
                        for _ in 0..COMMANDS / 1000 {
                            c.send_raw(request).unwrap();
                            let bytes = c.receive_raw(5 * 1000, Duration::from_secs(60));
                            assert_eq!(bytes.len(), 5 * 1000, "replies were lost");
                        }
                    })
                })
                .collect();
            let mut good = server.client();
            let mut slowest = Duration::ZERO;
            while flooders.iter().any(|f| !f.is_finished()) {
                let asked = Instant::now();
                assert_eq!(good.line("PING").text(), "PONG");
                slowest = slowest.max(asked.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            assert!(slowest < Duration::from_secs(5), "a PING waited {slowest:?}");
        });
        is_well(server);
    });
}

#[test]
fn a_pipeline_may_be_sent_whole_before_a_reply_is_read() {
    const COUNT: usize = 200_000;
    server::each(&[], |server| {
        let mut c = server.client();
        let request = client::encode(&["INCR", "n"]).repeat(COUNT);
        // The server must go on reading, or keep what it cannot send: were it
        // to stop at the first full socket, both sides would wait for ever.
        c.set_write_timeout(Duration::from_secs(60));
        c.send_raw(&request).expect("the server stopped reading");
        for n in 1..=COUNT {
            assert_eq!(c.read(), Reply::Int(i64::try_from(n).unwrap()));
        }
    });
}

#[test]
fn connections_that_go_away_leave_nothing() {
    server::each(&[], |server| {
        let mut c = server.client();
        for round in 0..5 {
            let mut held: Vec<Client> = (0..100).map(|_| server.client()).collect();
            for (n, client) in held.iter_mut().enumerate() {
                let _ = match n % 5 {
                    0 => client.send_raw(b"*2\r\n$3\r\nGET\r\n$10\r\nabc"),
                    1 => client.send(&["SUBSCRIBE", &format!("ch:{n}")]),
                    2 => client.send(&["MULTI"]),
                    3 => client.send(&["WATCH", "k"]),
                    _ => client.send(&["GET", "k"]),
                };
            }
            if round % 2 == 0 {
                // Half-open: we say no more, and still listen for a while.
                held.iter_mut().for_each(Client::finish_sending);
            }
            drop(held);
        }
        let deadline = Instant::now() + SOON;
        while connected(&mut c) > 2 {
            assert!(Instant::now() < deadline, "{} remain", connected(&mut c));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(c.line("PUBSUB CHANNELS").elements().len(), 0);
        is_well(server);
    });
}

#[test]
fn strangers_get_little_before_auth() {
    server::each(&["--requirepass", "sesame"], |server| {
        for (bytes, error) in [
            ("*11\r\n", "ERR Protocol error: unauthenticated multibulk length"),
            ("*1\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"),
            ("*1048576\r\n", "ERR Protocol error: unauthenticated multibulk length"),
        ] {
            let mut c = server.client();
            c.send_raw(bytes.as_bytes()).unwrap();
            let reply = c.read();
            assert!(reply.is_error(error), "{bytes:?}: {reply:?}");
            assert!(c.closed_within(SOON));
        }
        let mut c = server.client();
        for command in
            ["GET k", "CONFIG GET requirepass", "CLIENT LIST", "KEYS *", "MONITOR", "EVAL x 0"]
        {
            assert!(c.line(command).is_error("NOAUTH"), "{command}");
        }
        assert!(c.line("AUTH sesame").is_ok());
        assert!(c.line("GET k").is_nil());
    });
}
