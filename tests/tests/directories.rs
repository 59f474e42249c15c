//! Directories of state: one process at a time, nobody else's eyes, and no start without the data
//! that is there.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::server::{Kind, Server, is_available};

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs our program to its end, as a second server would be started in `dir`.
fn second(dir: &Path, args: &[&str]) -> Output {
    let socket = text(&dir.join("second.sock"));
    let mut child = Command::new(Kind::Ours.binary().unwrap())
        .args(["--port", "0", "--raft-port", "1", "--unixsocket", &socket, "--dir", &text(dir)])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // One that starts after all would never end.
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

fn refused(output: &Output, by: u32) {
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("another server uses this directory"), "{told}");
    assert!(told.contains(&format!("process {by}")), "{told}");
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn of_two_servers_that_keep_state_in_one_directory_the_second_does_not_start() {
    if !is_available(Kind::Ours) {
        return;
    }
    for first in [&["--raft", "yes"][..], &["--appendonly", "yes"], &["--save", "3600 1"]] {
        let mut server = Server::start(Kind::Ours, first);
        let dir = server.dir().to_owned();
        if first[0] == "--raft" {
            assert!(!server.client().line("RAFT.CLUSTER INIT").is_any_error());
        }
        for other in [&["--raft", "yes"][..], &["--appendonly", "yes"], &["--save", "60 1"]] {
            // With a member's data there, a server without Raft is refused for that, too.
            refused(&second(&dir, other), server.pid());
        }
        if first[0] == "--appendonly" {
            let repair = Command::new(Kind::Ours.binary().unwrap())
                .args(["--repair-journal", &text(&dir.join("appendonlydir"))])
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&repair.stderr).into_owned();
            assert!(!repair.status.success() && told.contains("is held by process"), "{told}");
        }
        // The claim ends with the process, however it ends.
        server.crash();
        server.start_again(first).unwrap();
    }
}

#[test]
fn servers_that_write_no_file_run_in_one_directory_until_one_grants_a_lock_or_saves() {
    if !is_available(Kind::Ours) {
        return;
    }
    let first = Server::start(Kind::Ours, &[]);
    let dir = text(first.dir());
    let other = Server::start(Kind::Ours, &["--dir", &dir]);
    assert!(first.client().line("SET key first").is_ok());
    assert!(other.client().line("SET key other").is_ok());
    assert_eq!(names(first.dir()), ["log"], "nothing is written unasked");
    assert!(other.client().line("SAVE").is_ok());
    // Neither the snapshot nor the locks of another server are overwritten.
    let held = format!("process {}", other.pid());
    for words in [
        &["SAVE"][..],
        &["LOCK.ACQUIRE", "lock", "owner", "1000"],
        &["CONFIG", "SET", "appendonly", "yes"],
        &["CONFIG", "SET", "save", "60 1"],
    ] {
        let reply = first.client().cmd(words);
        assert!(reply.is_any_error() && reply.text().contains(&held), "{words:?}: {reply:?}");
    }
    assert_eq!(first.client().line("CONFIG GET appendonly").elements()[1].text(), "no");
    assert!(!other.client().line("LOCK.ACQUIRE lock owner 60000").is_any_error());
    // A server that starts now would take over the quarantine and tokens of the one that runs.
    refused(&second(first.dir(), &[]), other.pid());
    drop(other);
    // It knows nothing of the tokens that the other gave.
    let reply = first.client().line("LOCK.ACQUIRE lock owner 1000");
    assert!(reply.text().contains("another server has granted locks"), "{reply:?}");
}

#[test]
fn a_members_data_is_not_started_without_raft() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut server = Server::start(Kind::Ours, &["--raft", "yes"]);
    let mut c = server.client();
    assert!(!c.line("RAFT.CLUSTER INIT").is_any_error());
    assert!(c.line("SET key value").is_ok());
    let log = server.start_again(&[]).unwrap_err();
    assert!(log.contains("holds the data of a cluster's member"), "{log}");
    assert!(log.contains("--raft yes"), "{log}");
    server.start_again(&["--raft", "yes"]).unwrap();
    let mut c = server.client();
    let until = Instant::now() + Duration::from_secs(20);
    while c.line("GET key").text() != "value" {
        assert!(Instant::now() < until, "the member does not lead");
        std::thread::sleep(Duration::from_millis(50));
    }
    // A node that never belonged to a cluster left nothing that could be missed.
    let mut server = Server::start(Kind::Ours, &["--raft", "yes"]);
    server.start_again(&[]).unwrap();
}

fn modes(dir: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::metadata(&path).unwrap();
        found.push((path.clone(), meta.permissions().mode() & 0o777));
        if meta.is_dir() {
            modes(&path, found);
        }
    }
}

#[test]
fn files_of_state_are_the_servers_alone() {
    if !is_available(Kind::Ours) {
        return;
    }
    let acl = ["--aclfile", "users.acl"];
    let files: &[(&str, &[u8])] = &[("users.acl", b"user default on nopass ~* &* +@all\n")];
    for args in [&["--appendonly", "yes", "--save", "3600 1"][..], &["--raft", "yes"]] {
        let server = Server::start_with_files(Kind::Ours, &[args, &acl].concat(), files);
        fs::set_permissions(server.dir().join("users.acl"), fs::Permissions::from_mode(0o640))
            .unwrap();
        let mut c = server.client();
        let raft = args[0] == "--raft";
        if raft {
            assert!(!c.line("RAFT.CLUSTER INIT").is_any_error());
        } else {
            assert!(c.line("SAVE").is_ok());
            assert!(!c.line("BGREWRITEAOF").is_any_error());
        }
        assert!(!c.line("LOCK.ACQUIRE lock owner 1000").is_any_error());
        assert!(c.line("ACL SAVE").is_ok());
        let mut found = Vec::new();
        modes(server.dir(), &mut found);
        assert!(found.len() > 5, "{found:?}");
        for (path, mode) in found {
            let name = path.file_name().unwrap().to_str().unwrap();
            let expected = match name {
                // The harness's own.
                "log" if path.is_file() => continue,
                "users.acl" => 0o640,
                _ if path.is_dir() => 0o700,
                _ => 0o600,
            };
            assert_eq!(mode, expected, "{}: {mode:o}", path.display());
        }
    }
}
