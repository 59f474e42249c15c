//! Directives that bound who may come and how long they may stay, the ways to
//! reach a server, and how it starts and ends.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Received};
use holdfast_tests::server::{self, Kind, Server};
use holdfast_tests::skip_loudly;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn maxclients_turns_away_and_lets_in_again() {
    server::each(&["--maxclients", "5"], |server| {
        let deadline = Instant::now() + SOON;
        let mut held = Vec::new();
        while held.len() < 5 {
            // The harness's own probe may still count for a moment.
            let mut c = server.client();
            match (c.send(&["PING"]), c.receive(SOON)) {
                (Ok(()), Received::Reply(reply)) if !reply.is_error("ERR max") => held.push(c),
                _ => assert!(Instant::now() < deadline, "five were never let in"),
            }
        }
        let mut sixth = server.client();
        let reply = sixth.read();
        assert!(reply.is_error("ERR max number of clients reached"), "{reply:?}");
        assert!(sixth.closed_within(SOON));
        assert_eq!(held[0].line("PING").text(), "PONG");
        held.pop();
        loop {
            let mut c = server.client();
            let _ = c.send(&["PING"]);
            if matches!(c.receive(SOON), Received::Reply(r) if r.text() == "PONG") {
                break;
            }
            assert!(Instant::now() < deadline + SOON, "a free place is not given");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn an_idle_client_gives_its_buffer_back_and_is_served_again() {
    server::each(&[], |server| {
        let mut idle = server.client();
        idle.line("CLIENT SETNAME idler");
        let mut main = server.client();
        let buffer = |client: &mut Client| {
            let list = client.line("CLIENT LIST").text();
            let line = list.lines().find(|line| line.contains("name=idler")).unwrap().to_owned();
            let field = |name: &str| -> usize {
                let value = line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap();
                value.parse().unwrap()
            };
            field("qbuf=") + field("qbuf-free=")
        };
        assert!(buffer(&mut main) >= 16 * 1024);
        let deadline = Instant::now() + SOON;
        while buffer(&mut main) > 0 {
            assert!(Instant::now() < deadline, "the buffer stays");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(idle.line("PING").text(), "PONG");
        let long = "x".repeat(100_000);
        assert_eq!(idle.cmd(&["ECHO", &long]).text(), long);
    });
}

#[test]
fn timeout_closes_the_idle_but_not_subscribers() {
    server::each(&["--timeout", "1"], |server| {
        let mut idle = server.client();
        idle.line("PING");
        let mut subscriber = server.client();
        subscriber.line("SUBSCRIBE ch");
        assert!(idle.closed_within(SOON), "an idle client stays");
        assert_eq!(subscriber.receive(Duration::from_secs(2)), Received::Nothing);
        assert_eq!(server.client().line("PUBLISH ch x").int(), 1);
    });
}

#[test]
fn a_unix_socket_serves_too() {
    for kind in server::available() {
        let path = std::env::temp_dir().join(format!(
            "holdfast-{}-{}.sock",
            kind.name(),
            std::process::id()
        ));
        let server = Server::start(
            kind,
            &["--unixsocket", path.to_str().unwrap(), "--unixsocketperm", "700"],
        );
        let mut c = Client::connect_unix(&path).unwrap();
        assert!(c.line("SET k v").is_ok());
        assert_eq!(server.client().line("GET k").text(), "v");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(c.line("CLIENT LIST").text().contains("laddr="));
        drop(server);
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn ipv6_loopback_can_be_bound() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skip_loudly("no IPv6 loopback on this machine");
        return;
    }
    server::each(&["--bind", "127.0.0.1", "::1"], |server| {
        let addr = SocketAddr::from((Ipv6Addr::LOCALHOST, server.addr().port()));
        let mut c = Client::connect(addr).unwrap();
        assert_eq!(c.line("PING").text(), "PONG");
        assert!(c.line("CLIENT INFO").text().contains(" addr=[::1]:"));
        assert_eq!(server.client().line("PING").text(), "PONG");
    });
}

/// An address of this machine that is not loopback; nothing is sent.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn protected_mode_speaks_to_loopback_only() {
    let Some(ip) = outer_address() else {
        skip_loudly("protected-mode: this machine has no address but loopback");
        return;
    };
    server::each(&["--bind", "0.0.0.0", "--protected-mode", "yes"], |server| {
        assert_eq!(server.client().line("PING").text(), "PONG");
        let outer = SocketAddr::from((ip, server.addr().port()));
        let mut c = Client::connect(outer).unwrap();
        let reply = c.read();
        assert!(reply.is_error("DENIED "), "{reply:?}");
        assert!(c.closed_within(SOON));
        // With a password, or without the mode, all may come.
        assert!(server.client().line("CONFIG SET requirepass x").is_ok());
        let mut c = Client::connect(outer).unwrap();
        assert!(c.line("PING").is_error("NOAUTH"));
        assert!(c.line("AUTH x").is_ok());
        assert!(c.line("CONFIG SET requirepass  protected-mode no").is_error("ERR"));
        assert!(c.cmd(&["CONFIG", "SET", "requirepass", "", "protected-mode", "no"]).is_ok());
        let mut c = Client::connect(outer).unwrap();
        assert_eq!(c.line("PING").text(), "PONG");
    });
}

#[test]
fn a_configuration_file_is_read_and_rewritten() {
    for kind in server::available() {
        let path = std::env::temp_dir().join(format!(
            "holdfast-{}-{}.conf",
            kind.name(),
            std::process::id()
        ));
        let text = "# a comment\n\ntimeout 33\nmaxclients 50\nrequirepass \"from file\"\n\
                    maxmemory 100mb\nclient-output-buffer-limit pubsub 5mb 1mb 30\n";
        std::fs::write(&path, text).unwrap();
        let server = Server::start(kind, &[path.to_str().unwrap(), "--maxclients", "60"]);
        let mut c = server.client();
        assert!(c.cmd(&["AUTH", "from file"]).is_ok());
        let mut get = |name: &str| c.cmd(&["CONFIG", "GET", name]).elements()[1].text();
        assert_eq!(get("timeout"), "33");
        assert_eq!(get("maxclients"), "60", "the command line comes after the file");
        assert_eq!(get("maxmemory"), "104857600");
        assert!(get("client-output-buffer-limit").ends_with("pubsub 5242880 1048576 30"));
        assert!(c.line("CONFIG SET timeout 77").is_ok());
        assert!(c.line("CONFIG REWRITE").is_ok());
        let rewritten = std::fs::read_to_string(&path).unwrap();
        assert!(rewritten.contains("timeout 77"), "{rewritten}");
        assert!(rewritten.contains("# a comment"), "comments stay");
        drop(server);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_wrong_directive_ends_the_start() {
    for kind in server::available() {
        for wrong in [
            &["--nosuch", "1"][..],
            &["--port", "x"],
            &["--maxmemory", "1x"],
            &["/no/such/file.conf"],
        ] {
            let status = Command::new(kind.binary().unwrap())
                .args(wrong)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(1), "{} {wrong:?}", kind.name());
        }
    }
}

#[test]
fn signals_and_shutdown_end_it_in_order() {
    for kind in server::available() {
        for how in ["TERM", "INT", "NOSAVE", "NOW"] {
            let mut server = Server::start(kind, &[]);
            let mut c = server.client();
            assert!(c.line("SET k v").is_ok());
            match how {
                "TERM" | "INT" => {
                    let pid = server.pid().to_string();
                    let sent = Command::new("kill").args(["-s", how, &pid]).status().unwrap();
                    assert!(sent.success());
                }
                option => c.send(&["SHUTDOWN", option]).unwrap(),
            }
            assert!(c.closed_within(SOON));
            assert_eq!(server.wait_exit(SOON), Some(0), "{} after {how}", kind.name());
        }
    }
}

/// Starts our server with a limit of open files, listening on a socket in a directory of its own.
struct Limited {
    child: std::process::Child,
    dir: std::path::PathBuf,
}

impl Limited {
    fn start(name: &str, limits: &str, args: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("holdfast-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("ulimit {limits}; exec \"$0\" \"$@\"")])
            .arg(Kind::Ours.binary().unwrap())
            .args(["--port", "0", "--unixsocket", "socket", "--dir", dir.to_str().unwrap()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn client(&self) -> Client {
        let until = Instant::now() + SOON;
        loop {
            match Client::connect_unix(&self.dir.join("socket")) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < until, "{error}: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// As many clients as are let in, and what the next one is told.
    fn fill(&self, most: usize) -> (Vec<Client>, String) {
        let mut held = Vec::new();
        while held.len() < most {
            let mut client = self.client();
            let _ = client.send(&["PING"]);
            match client.receive(SOON) {
                Received::Reply(reply) if reply.text() == "PONG" => held.push(client),
                Received::Reply(reply) => return (held, reply.text()),
                _ => panic!("client {} has no answer", held.len()),
            }
        }
        (held, String::new())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn few_descriptors_mean_few_clients_that_are_told_so() {
    if !server::is_available(Kind::Ours) {
        return;
    }
    // The soft limit is raised as far as the hard one lets.
    let raised = Limited::start("raised", "-Sn 100", &["--maxclients", "400"]);
    assert_eq!(raised.fill(300).0.len(), 300);
    assert!(raised.log().contains("Increased maximum number of open files to 432"));
    // Otherwise there are fewer clients, and what is left is enough for files.
    let few = Limited::start("few", "-n 100", &["--appendonly", "yes"]);
    let (mut held, told) = few.fill(200);
    assert_eq!((held.len(), &told[..]), (68, "-ERR max number of clients reached"));
    let log = few.log();
    assert!(log.contains("maxclients has been reduced to 68"), "{log}");
    for line in ["SAVE", "CONFIG SET maxclients 60", "SET key value"] {
        let reply = held[0].line(line);
        assert!(reply.is_ok(), "{line}: {reply:?}");
    }
    let refused = held[0].line("CONFIG SET maxclients 1000").text();
    let why =
        "The operating system is not able to handle the specified number of clients, try with 68";
    assert!(refused.ends_with(why), "{refused}");
    assert_eq!(held[0].line("CONFIG GET maxclients").elements()[1].text(), "60");
    drop(held);
    // Descriptors that are gone although there should be some: the client is told, too.
    let limited = Command::new("prlimit")
        .args(["--pid", &few.child.id().to_string(), "--nofile=25:100"])
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        return skip_loudly("no prlimit, or it may not be used");
    }
    let (held, told) = few.fill(60);
    assert!(held.len() < 25, "{}", held.len());
    assert_eq!(told, "-ERR max number of clients reached");
    // None at all.
    let mut none = Limited::start("none", "-n 30", &[]);
    let status = none.child.wait().unwrap();
    assert!(!status.success() && none.log().contains("is not enough for the server to start"));
}
