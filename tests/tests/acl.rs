//! ACL users from outside: files, and changes that reach connections in the midst of their work.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use holdfast_tests::server::{Kind, Server, available, is_available};

/// A command that succeeded after the change that forbade it would break the promise; `B` may
/// only be refused once `A` has its OK.
#[test]
fn a_change_holds_for_all_that_comes_after_its_reply() {
    const ROUNDS: usize = 200;
    if !is_available(Kind::Ours) {
        return;
    }
    let server = Server::start(Kind::Ours, &[]);
    let mut admin = server.client();
    admin.line("ACL SETUSER b on nopass ~* +set +ping");
    let mut b = server.client();
    assert!(b.line("AUTH b x").is_ok());
    // Another that hammers all the time, pipelining.
    let (done, mut hammer) = (AtomicBool::new(false), server.client());
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            hammer.line("AUTH b x");
            while !done.load(SeqCst) {
                for _ in 0..100 {
                    hammer.send(&["SET", "h", "v"]).unwrap();
                }
                for _ in 0..100 {
                    let reply = hammer.read();
                    assert!(reply.is_ok() || reply.is_error("NOPERM"), "{reply:?}");
                }
            }
        });
        for round in 0..ROUNDS {
            assert!(admin.line("ACL SETUSER b -set").is_ok());
            assert!(b.line("SET k v").is_error("NOPERM"), "round {round}");
            assert!(admin.line("ACL SETUSER b +@all ~* &*").is_ok());
            assert!(b.line("SET k v").is_ok(), "round {round}");
        }
        done.store(true, SeqCst);
    });
    assert_eq!(admin.line("ACL DELUSER b").int(), 1);
    assert!(b.closed_within(Duration::from_secs(5)));
}

#[test]
fn users_come_from_the_command_line_and_from_a_file_and_go_back_to_it() {
    for kind in available() {
        let args = ["--user", "alice", "on", ">pw", "~a*", "+get"];
        let server = Server::start(kind, &args);
        let mut client = server.client();
        assert!(client.line("AUTH alice pw").is_ok(), "{}", kind.name());
        assert!(client.line("GET a").is_nil());
        assert!(client.line("GET b").is_error("NOPERM"));

        let file = b"user alice on >pw ~a* +get +acl\nuser default on nopass ~* &* +@all\n";
        let mut server =
            Server::start_with_files(kind, &["--aclfile", "users.acl"], &[("users.acl", file)]);
        let mut client = server.client();
        assert_eq!(client.line("ACL USERS").texts(), ["alice", "default"]);
        assert!(client.line("ACL SETUSER bob on nopass +ping").is_ok());
        assert!(client.line("ACL SAVE").is_ok());
        assert!(server.start_again(&["--aclfile", "users.acl"]).is_ok());
        let mut client = server.client();
        assert_eq!(client.line("ACL USERS").texts(), ["alice", "bob", "default"]);
        assert!(client.line("AUTH bob x").is_ok());
        // A file that is wrong changes nothing; one that is gone stops the start.
        let mut admin = server.client();
        std::fs::write(server.dir().join("users.acl"), "user alice +nosuch\n").unwrap();
        let told = admin.line("ACL LOAD");
        assert!(told.text().contains("Unknown command or category name in ACL"), "{told:?}");
        assert_eq!(admin.line("ACL USERS").elements().len(), 3);
        assert!(client.line("PING").text().contains("PONG"));
        assert!(server.start_again(&["--aclfile", "users.acl"]).is_err());
        assert!(server.start_again(&["--aclfile", "gone.acl"]).is_err());
        assert!(server.start_again(&["--user", "x", "on", "--aclfile", "users.acl"]).is_err());
        assert!(server.start_again(&["--user", "x", "+nosuch"]).is_err());
    }
}

#[test]
fn rewriting_the_configuration_keeps_the_users() {
    if !is_available(Kind::Ours) {
        return;
    }
    let server = Server::start(Kind::Ours, &[]);
    let path = server.dir().join("users.conf");
    std::fs::write(&path, "# mine\nuser bob on nopass +get\nhz 20\n").unwrap();
    let conf = path.to_str().unwrap().to_owned();
    let mut server = Server::start(Kind::Ours, &[&conf]);
    let mut client = server.client();
    client.line("ACL SETUSER bob -get +set ~b*");
    client.cmd(&["ACL", "SETUSER", "eve", "on", ">a\"b", "~'*"]);
    client.line("CONFIG SET requirepass pw");
    assert!(client.line("CONFIG REWRITE").is_ok());
    let before = client.line("ACL LIST").texts();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# mine\nuser bob on nopass sanitize-payload ~b*"), "{text}");
    assert!(!text.contains("user default"), "requirepass alone says it: {text}");
    assert!(server.start_again(&[&conf]).is_ok());
    let mut client = server.client();
    assert!(client.line("AUTH pw").is_ok());
    assert_eq!(client.line("ACL LIST").texts(), before);
}
