//! Scripts that do not end, recurse, or build what no memory holds.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::server::{self, Kind, Server};

const SOON: Duration = Duration::from_secs(20);
/// Old name and new name of the same directive are both understood.
const SHORT: [&str; 2] = ["--lua-time-limit", "100"];

/// Waits until the server says BUSY to a plain command.
fn wait_busy(c: &mut Client) {
    let deadline = Instant::now() + SOON;
    loop {
        let reply = c.cmd(&["GET", "k"]);
        if reply.is_error("BUSY ") {
            return;
        }
        assert!(Instant::now() < deadline, "never BUSY: {reply:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_endless_script_is_told_of_and_killed() {
    server::each(&SHORT, |server| {
        for endless in [
            "while true do end",
            "while true do redis.call('get', KEYS[1]) end",
            "while true do pcall(redis.call, 'get', KEYS[1]) end",
            "while true do redis.pcall('nosuch') end",
            "local function f() return f() end f()",
            "repeat local ok = pcall(function() while true do end end) until ok == 7",
        ] {
            let mut runaway = server.client();
            runaway.send(&["EVAL", endless, "1", "k"]).unwrap();
            let mut c = server.client();
            wait_busy(&mut c);
            // Ours holds up only those who need what the script holds; Redis holds up everyone.
            let ping = c.line("PING");
            match server.kind() {
                Kind::Ours => assert_eq!(ping.text(), "PONG"),
                Kind::Oracle => assert!(ping.is_error("BUSY Redis is busy running a script.")),
            }
            assert!(c.line("SCRIPT KILL").is_ok());
            let reply = runaway.read();
            assert!(
                reply.is_error("ERR ") && reply.text().contains("Script killed by user"),
                "{reply:?}"
            );
            if server.kind() == Kind::Ours {
                // As Redis 7.2 words it; the oracle is older.
                let text = reply.text();
                let told = "ERR Script killed by user with SCRIPT KILL... script: ";
                assert!(text.contains(told) && text.contains(", on @user_script:"), "{text}");
            }
            assert_eq!(runaway.line("PING").text(), "PONG");
            assert!(c.line("SCRIPT KILL").is_error("NOTBUSY"));
            assert!(c.line("GET k").is_nil());
        }
    });
}

/// Under `busy-reply-scope all` a script that holds no key makes everybody wait, as in Redis.
#[test]
fn everybody_is_told_busy_where_that_is_asked_for() {
    for kind in [Kind::Ours, Kind::Oracle] {
        if !server::is_available(kind) {
            continue;
        }
        let all: &[&str] = match kind {
            Kind::Ours => &["--lua-time-limit", "100", "--busy-reply-scope", "all"],
            Kind::Oracle => &SHORT,
        };
        let server = Server::start(kind, all);
        let mut queued = server.client();
        assert!(queued.line("MULTI").is_ok());
        assert_eq!(queued.line("INCR n").text(), "QUEUED");
        let mut spoilt = server.client();
        assert!(spoilt.line("MULTI").is_ok());

        for (load, begin, kill, way_out) in [
            (None, "EVAL|while true do end|0", "SCRIPT KILL", "SCRIPT KILL"),
            (
                Some(
                    "#!lua name=l\nredis.register_function('f', function() while true do end end)",
                ),
                "FCALL|f|0",
                "FUNCTION KILL",
                "FUNCTION KILL",
            ),
        ] {
            let mut c = server.client();
            if let Some(library) = load {
                assert_eq!(c.cmd(&["FUNCTION", "LOAD", library]).text(), "l");
            }
            let mut runaway = server.client();
            runaway.send(&begin.split('|').collect::<Vec<_>>()).unwrap();
            wait_busy(&mut c);
            let busy = format!(
                "BUSY Redis is busy running a script. You can only call {way_out} or SHUTDOWN NOSAVE."
            );
            assert!(c.line("PING").is_error(&busy));
            assert!(c.line("PUBLISH c m").is_error(&busy));
            // Who is in a transaction loses it: half of it may have been refused.
            assert!(spoilt.line("INCR n").is_error("BUSY "));
            let exec = queued.line("EXEC");
            assert!(
                exec.is_error("EXECABORT Transaction discarded because of: BUSY ")
                    || exec.is_error("ERR EXEC without MULTI"),
                "{exec:?}"
            );
            assert!(c.line(kill).is_ok());
            assert!(runaway.read().text().contains("killed by user"));
            assert_eq!(c.line("PING").text(), "PONG");
        }
        assert!(spoilt.line("EXEC").is_error("EXECABORT Transaction discarded because of prev"));
        assert!(server.client().line("GET n").is_nil());
    }
}

#[test]
fn a_script_that_has_written_is_not_killed() {
    server::each(&SHORT, |server| {
        let mut runaway = server.client();
        let script = "redis.call('set', KEYS[1], 1) while true do end";
        runaway.send(&["EVAL", script, "1", "k"]).unwrap();
        let mut c = server.client();
        wait_busy(&mut c);
        let reply = c.line("SCRIPT KILL");
        assert!(reply.is_error("UNKILLABLE "), "{reply:?}");
        // A transaction may be queued meanwhile, but not run.
        assert!(c.line("MULTI").is_ok() || c.line("PING").is_error("BUSY"));
        let mut c = server.client();
        c.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
        assert_eq!(server.wait_exit(SOON), Some(0));
    });
}

#[test]
fn recursion_ends_in_an_error() {
    server::each(&[], |server| {
        let mut c = server.client();
        for script in [
            "local function f() return 1 + f() end return f()",
            "local t = setmetatable({}, {}) \
             getmetatable(t).__index = function(t, k) return t[k .. 'x'] end return t.a",
            "return string.find('x', string.rep('(', 300))",
            "return cjson.encode(cjson.decode(string.rep('[', 900) .. string.rep(']', 1200)))",
            "local s = string.rep('{', 250) return loadstring('return ' .. s)()",
        ] {
            let reply = c.cmd(&["EVAL", script, "0"]);
            assert!(reply.is_error("ERR "), "{script}: {reply:?}");
        }
        assert_eq!(c.line("PING").text(), "PONG");
    });
}

#[test]
fn deep_and_large_replies_are_answered() {
    server::each(&[], |server| {
        let mut c = server.client();
        let big = c.cmd(&["EVAL", "return #string.rep('x', 64 * 1024 * 1024)", "0"]);
        assert_eq!(big.int(), 64 << 20);
        let returned = c.cmd(&["EVAL", "return string.rep('x', 4 * 1024 * 1024)", "0"]);
        assert_eq!(returned.text().len(), 4 << 20);
        let many = c.cmd(&["EVAL", "local t = {} for i = 1, 200000 do t[i] = i end return t", "0"]);
        assert_eq!(many.elements().len(), 200_000);
        // A table that holds itself has no end; Redis stops at some depth.
        c.send(&["EVAL", "local t = {} t[1] = t return t", "0"]).unwrap();
        let bytes = c.receive_raw(usize::MAX, Duration::from_secs(2));
        assert!(bytes.starts_with(b"*1\r\n") || bytes.starts_with(b"-"), "{} bytes", bytes.len());
        assert!(String::from_utf8_lossy(&bytes).contains("reached lua stack limit"));
        assert_eq!(server.client().line("PING").text(), "PONG");
    });
}

/// Ours only: the oracle takes what the machine has, and the machine with it.
#[test]
fn a_string_that_no_memory_holds_is_an_error() {
    if !server::is_available(Kind::Ours) {
        return;
    }
    let mut server = Server::start(Kind::Ours, &[]);
    for script in [
        "local s = string.rep('x', 1048576) while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = string.rep('x', 1048576) .. #t end",
        "return string.rep('x', 2000 * 1024 * 1024)",
        "return string.format('%999999999999d', 1)",
    ] {
        let mut c = server.client();
        c.send(&["EVAL", script, "0"]).unwrap();
        match c.receive(Duration::from_secs(60)) {
            Received::Reply(reply) => assert!(reply.is_error("ERR "), "{script}: {reply:?}"),
            other => panic!("{script}: {other:?}"),
        }
        assert!(server.is_alive());
        assert_eq!(server.client().line("PING").text(), "PONG");
    }
}
