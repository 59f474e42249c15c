//! Readers of streams that wait, many at once: a group gives each entry to one of its members, a
//! reader of its own misses none, and nobody waits for what can no longer come.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_tests::client::{Client, Received};
use holdfast_tests::server::{self, Kind, Server};
use holdfast_tests::wire::Reply;

const PRODUCERS: usize = 3;
const ENTRIES_EACH: usize = 400;
const MEMBERS: usize = 4;
const FOLLOWERS: usize = 2;

/// The ids of the entries of the one stream that a reader was answered with.
fn ids(reply: &Reply) -> Vec<String> {
    if *reply == Reply::NilArray {
        return Vec::new();
    }
    let stream = reply.elements()[0].elements();
    stream[1].elements().iter().map(|entry| entry.elements()[0].text()).collect()
}

/// As a pair of numbers, for texts do not sort as ids do.
fn number(id: &str) -> (u64, u64) {
    let (ms, seq) = id.split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
}

#[test]
fn a_group_shares_entries_and_a_reader_of_its_own_sees_all() {
    server::each(&[], |server| {
        let server: &Server = server;
        let mut setup = server.client();
        setup.line("CONFIG SET stream-node-max-entries 7");
        assert!(setup.line("XGROUP CREATE s g $ MKSTREAM").is_ok());
        let producing = AtomicUsize::new(PRODUCERS);
        let (shared, followed) = std::thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let producing = &producing;
                scope.spawn(move || {
                    let mut client = server.client();
                    for n in 0..ENTRIES_EACH {
                        let added = client.line(&format!("XADD s * producer {producer} n {n}"));
                        assert!(!added.is_any_error(), "{added:?}");
                    }
                    producing.fetch_sub(1, Ordering::SeqCst);
                });
            }
            let members: Vec<_> = (0..MEMBERS)
                .map(|member| {
                    let line =
                        format!("XREADGROUP GROUP g m{member} COUNT 3 BLOCK 100 STREAMS s >");
                    let producing = &producing;
                    scope.spawn(move || read_all(server, producing, |_| line.clone()))
                })
                .collect();
            let followers: Vec<_> = (0..FOLLOWERS)
                .map(|_| {
                    let producing = &producing;
                    scope.spawn(move || {
                        read_all(server, producing, |last| {
                            format!("XREAD BLOCK 100 STREAMS s {last}")
                        })
                    })
                })
                .collect();
            let join = |threads: Vec<std::thread::ScopedJoinHandle<'_, Vec<String>>>| {
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            };
            (join(members), join(followers))
        });
        let all: Vec<String> = setup
            .line("XRANGE s - +")
            .elements()
            .iter()
            .map(|entry| entry.elements()[0].text())
            .collect();
        assert_eq!(all.len(), PRODUCERS * ENTRIES_EACH);
        assert!(all.is_sorted_by_key(|id| number(id)));
        for seen in followed {
            assert_eq!(seen, all, "a reader of its own sees each entry once, in order");
        }
        let mut given: Vec<String> = shared.into_iter().flatten().collect();
        given.sort_by_key(|id| number(id));
        assert_eq!(given, all, "a group gives each entry to one member");
        let pending = setup.line("XPENDING s g").elements()[0].int();
        assert_eq!(usize::try_from(pending).unwrap(), all.len());
    });
}

/// Reads until nothing has come for a while and nobody writes any more; `line` makes the command
/// from the last id seen.
fn read_all(
    server: &Server,
    producing: &AtomicUsize,
    line: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut client = server.client();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let over = producing.load(Ordering::SeqCst) == 0;
        let last = seen.last().map_or("0-0", String::as_str);
        let more = ids(&client.line(&line(last)));
        if more.is_empty() && over {
            return seen;
        }
        seen.extend(more);
    }
}

/// A client that waits in XREADGROUP, and has been seen to.
fn waiting(server: &Server, watcher: &mut Client) -> Client {
    let mut client = server.client();
    client.send(&["XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "k", ">"]).unwrap();
    while !watcher.line("INFO clients").text().contains("blocked_clients:1") {
        std::thread::sleep(Duration::from_millis(2));
    }
    client
}

#[test]
fn who_waits_is_told_when_the_group_has_gone() {
    if !server::is_available(Kind::Ours) {
        return;
    }
    let server = Server::start(Kind::Ours, &[]);
    let mut c = server.client();
    for (lines, code) in [
        (&["DEL k"][..], "NOGROUP"),
        (&["UNLINK k"], "NOGROUP"),
        (&["PEXPIRE k 30"], "NOGROUP"),
        (&["SET k x"], "WRONGTYPE"),
        (&["RENAME k other"], "NOGROUP"),
        (&["MOVE k 5"], "NOGROUP"),
        (&["XADD plain 1-1 a b", "RENAME plain k"], "NOGROUP"),
        (&["XADD plain 1-1 a b", "COPY plain k REPLACE"], "NOGROUP"),
        (&["RPUSH l b a", "SORT l ALPHA STORE k"], "WRONGTYPE"),
        (&["XGROUP DESTROY k g"], "NOGROUP"),
        (&["EVAL return{redis.call('del','k')} 0"], "NOGROUP"),
        (&["MULTI", "DEL k", "SADD k m", "EXEC"], "WRONGTYPE"),
        (&["SWAPDB 0 7"], "NOGROUP"),
        (&["FLUSHDB"], "NOGROUP"),
        (&["FLUSHALL"], "NOGROUP"),
    ] {
        c.line("FLUSHALL");
        assert!(c.line("XGROUP CREATE k g $ MKSTREAM").is_ok());
        let mut reader = waiting(&server, &mut c);
        for line in lines {
            assert!(!c.line(line).is_any_error(), "{line}");
        }
        match reader.receive(Duration::from_secs(5)) {
            Received::Reply(reply) => assert!(reply.is_error(code), "{lines:?}: {reply:?}"),
            other => panic!("{lines:?}: {other:?}"),
        }
    }
}

#[test]
fn a_waiting_reader_leaves_without_a_trace() {
    if !server::is_available(Kind::Ours) {
        return;
    }
    let server = Server::start(Kind::Ours, &[]);
    let mut c = server.client();
    assert!(c.line("XGROUP CREATE k g $ MKSTREAM").is_ok());
    drop(waiting(&server, &mut c));
    while !c.line("INFO clients").text().contains("blocked_clients:0") {
        std::thread::sleep(Duration::from_millis(2));
    }
    c.line("XADD k 1-1 f v");
    // The entry went to nobody: it is still there for the next one.
    assert_eq!(ids(&c.line("XREADGROUP GROUP g d STREAMS k >")), ["1-1"]);
    let mut reader = waiting(&server, &mut c);
    let id = c.line("CLIENT LIST").text();
    let blocked = id.lines().find(|line| line.contains("flags=b")).unwrap();
    let id = blocked.split(' ').next().unwrap().trim_start_matches("id=").to_owned();
    assert_eq!(c.line(&format!("CLIENT UNBLOCK {id} ERROR")).int(), 1);
    assert!(reader.read().is_error("UNBLOCKED"));
}
