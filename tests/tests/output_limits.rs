//! What a client that does not read can make the server hold.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use holdfast_tests::server::{Kind, Server, is_available};

const MIB: u64 = 1 << 20;
/// A socket that takes nothing for this long is full on both sides.
const FULL: Duration = Duration::from_secs(2);

/// Sends `bytes` again and again without reading a reply. Returns whether the server closed the
/// connection before `sent_max` bytes were sent or it stopped reading.
fn is_closed_while_sending(server: &Server, bytes: &[u8], sent_max: u64) -> bool {
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket.set_write_timeout(Some(FULL)).unwrap();
    let mut sent = 0;
    while sent < sent_max {
        match socket.write(bytes) {
            Ok(0) => return true,
            Ok(count) => sent += count as u64,
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
    false
}

/// The greatest resident size, in bytes.
fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_client_that_has_not_logged_in_and_never_reads_is_closed() {
    if !is_available(Kind::Ours) {
        return;
    }
    for mode in [&[][..], &["--raft", "yes"]] {
        let args = [&["--requirepass", "secret"], mode].concat();
        let server = Server::start(Kind::Ours, &args);
        let commands = b"PING\r\n".repeat(10_000);
        assert!(is_closed_while_sending(&server, &commands, 64 * MIB), "{mode:?}");
        assert!(peak_bytes(&server) < 100 * MIB, "{mode:?}: {}", peak_bytes(&server));
    }
}

#[test]
fn the_output_limit_holds_while_a_pipeline_runs() {
    if !is_available(Kind::Ours) {
        return;
    }
    let always = &["--appendonly", "yes", "--appendfsync", "always"][..];
    for mode in [&[][..], always, &["--raft", "yes"]] {
        let server = Server::start(Kind::Ours, mode);
        let mut main = server.client();
        if mode.contains(&"--raft") {
            assert!(main.line("RAFT.CLUSTER INIT").text().starts_with("OK"));
        }
        let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 2mb 0 0"];
        assert!(main.cmd(&limit).is_ok());
        let member = "x".repeat(20_000);
        for _ in 0..100 {
            main.cmd(&["RPUSH", "list", &member]);
        }
        let before = peak_bytes(&server);
        let mut reader = TcpStream::connect(server.addr()).unwrap();
        reader.write_all(&b"LRANGE list 0 -1\r\n".repeat(200)).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while !server.log().contains("output buffer limits") {
            assert!(Instant::now() < end, "{mode:?}: the client is kept");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Two replies of 2 MB at a time, and what the allocator keeps of them.
        let more = peak_bytes(&server) - before;
        assert!(more < 60 * MIB, "{mode:?}: {more} bytes for a client with a limit of 2 MB");
        assert_eq!(main.line("PING").text(), "PONG");
    }
}
