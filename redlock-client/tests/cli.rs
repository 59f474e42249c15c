//! `holdfast-lock`: its exit codes, its token, and what becomes of a command whose lock is lost; and a
//! client that is paused past its TTL, with fencing and without.
//!
//! Runs against Holdfast (`HOLDFAST_SERVER_BIN`), and what needs no token against redis-server too.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "clippy sees the helpers as no tests")]

mod common;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::server::{Server, binaries, nowhere, ours};
use common::{BOUND, LONG, eventually};
use redlock_client::{RedLock, Retry};
use tokio::process::Command;

fn holdfast_lock(servers: &[Server], args: &[&str]) -> Command {
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-lock"));
    // Patient enough for a busy machine.
    command.args(["--nodes", &urls.join(","), "--node-timeout", "2s"]).args(args);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(servers: &[Server], args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        tokio::time::timeout(3 * BOUND, holdfast_lock(servers, args).output())
            .await
            .unwrap()
            .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn a_command_runs_under_the_lock_and_its_status_is_returned() {
    for (name, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let script = "echo \"$HOLDFAST_LOCK ${HOLDFAST_TOKEN-none}\"; exit 7";
        let (code, said, errors) = output(&servers, &["job", "--", "sh", "-c", script]).await;
        assert_eq!(code, Some(7), "{errors}");
        let (lock, token) = said.trim().split_once(' ').unwrap();
        assert_eq!(lock, "job");
        match name {
            "holdfast-server" => assert!(token.parse::<u64>().unwrap() > 0),
            _ => assert_eq!(token, "none"),
        }
        nowhere(&servers, "job").await;
        let (code, ..) = output(&servers, &["job", "--", "sh", "-c", "kill -9 $$"]).await;
        assert_eq!(code, Some(128 + 9));
        let (code, ..) = output(&servers, &["job", "--", "/no/such/command"]).await;
        assert_eq!(code, Some(127));
        nowhere(&servers, "job").await;
    }
}

#[tokio::test]
async fn each_failure_has_its_exit_code() {
    for (_, binary) in binaries() {
        let mut servers = Server::many(&binary, 3).await;
        let redlock = RedLock::builder()
            .nodes(servers.iter().map(Server::url))
            .node_timeout(Duration::from_secs(2))
            .build()
            .unwrap();
        let guard = redlock.lock("job", LONG).acquire().await.unwrap();
        for wait in ["0", "200ms"] {
            let args = ["--wait", wait, "job", "--", "echo", "ran"];
            let (code, said, errors) = output(&servers, &args).await;
            assert_eq!((code, said.as_str()), (Some(75), ""), "{errors}");
            assert!(errors.contains("held by somebody else"), "{errors}");
        }
        guard.release().await.unwrap();
        servers[0].kill();
        servers[1].kill();
        for wait in [&["--wait", "0"][..], &[]] {
            let args = [wait, &["job", "--", "echo"]].concat();
            let (code, said, errors) = output(&servers, &args).await;
            assert_eq!((code, said.as_str()), (Some(69), ""), "{errors}");
        }
        let (code, ..) =
            output(&servers, &["--wait", "0", "--ttl", "1ms", "job", "--", "echo"]).await;
        assert_eq!(code, Some(64));
        let (code, ..) = output(&servers, &["job"]).await;
        assert_eq!(code, Some(64));
        let (code, help, _) = output(&servers, &["--help"]).await;
        assert_eq!(code, Some(0));
        assert!(help.contains("HOLDFAST_TOKEN") && help.contains("somebody else holds the lock"));
    }
}

#[tokio::test]
async fn a_command_is_stopped_when_the_lock_is_lost() {
    for (_, binary) in binaries() {
        let servers = Server::many(&binary, 3).await;
        let dir = servers[0].dir();
        let (started, after) = (dir.join("started"), dir.join("after"));
        // Deaf to SIGTERM, and with a child of its own.
        let script = format!(
            "trap '' TERM; touch {}; (sleep 60); touch {}",
            started.display(),
            after.display()
        );
        let args = ["--ttl", "1500ms", "--grace", "300ms", "job", "--", "sh", "-c", &script];
        let running = holdfast_lock(&servers, &args).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the command runs", || started.exists()).await;
        let start = Instant::now();
        for server in &servers {
            server.call("DEL job").await;
        }
        let Output { status, stderr, .. } = running.wait_with_output().await.unwrap();
        assert_eq!(status.code(), Some(74), "{}", String::from_utf8_lossy(&stderr));
        assert!(String::from_utf8_lossy(&stderr).contains("was lost"));
        assert!(start.elapsed() < BOUND && !after.exists());
    }
}

/// What the paused client writes to, with or without a look at the token.
#[derive(Default)]
struct Register {
    newest: u64,
    value: String,
}

impl Register {
    fn write(&mut self, token: u64, value: &str, is_checked: bool) -> bool {
        if is_checked && token < self.newest {
            return false;
        }
        (self.newest, self.value) = (token.max(self.newest), value.to_owned());
        true
    }
}

async fn read(path: &Path) -> String {
    let mut text = String::new();
    eventually(&path.display().to_string(), || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    })
    .await;
    text.trim().to_owned()
}

/// A client stops past its TTL, somebody else works under the lock, the client goes on and writes.
async fn paused_client(servers: &[Server], is_checked: bool) -> (Register, bool) {
    let dir = servers[0].dir();
    let (held, late) = (dir.join("held"), dir.join("late"));
    for path in [&held, &late] {
        let _ = std::fs::remove_file(path);
    }
    // It has looked at its lock and is about to write when both it and its keeper freeze.
    let script = format!(
        "echo \"$HOLDFAST_TOKEN $$ $PPID\" > {}; kill -STOP $PPID $$; echo \"$HOLDFAST_TOKEN\" > {}",
        held.display(),
        late.display()
    );
    let args = ["--ttl", "1s", "register", "--", "sh", "-c", &script];
    let mut paused = holdfast_lock(servers, &args).stderr(Stdio::null()).spawn().unwrap();
    let text = read(&held).await;
    let words: Vec<&str> = text.split(' ').collect();

    let redlock = RedLock::builder()
        .nodes(servers.iter().map(Server::url))
        .node_timeout(Duration::from_secs(2))
        .retry(Retry::forever(Duration::from_millis(20)))
        .build()
        .unwrap();
    let lock = redlock.lock("register", LONG);
    let guard = lock.acquire_before(Instant::now() + BOUND).await.unwrap();
    let mut register = Register::default();
    assert!(register.write(guard.token().unwrap(), "successor", is_checked));

    for id in &words[1..] {
        let status = Command::new("kill").args(["-CONT", id]).status().await.unwrap();
        assert!(status.success());
        if *id == words[1] {
            // The command first: its keeper would stop it at once.
            let token: u64 = read(&late).await.parse().unwrap();
            assert_eq!(token.to_string(), words[0]);
        }
    }
    let accepted = register.write(words[0].parse().unwrap(), "late", is_checked);
    assert_eq!(paused.wait().await.unwrap().code(), Some(74));
    guard.release().await.unwrap();
    (register, accepted)
}

#[tokio::test]
async fn a_paused_client_loses_a_write_unless_tokens_are_checked() {
    let Some(servers) = ours(3).await else { return };
    let (register, accepted) = paused_client(&servers, false).await;
    assert!(accepted && register.value == "late", "the control must lose the successor's write");
    let (register, accepted) = paused_client(&servers, true).await;
    assert!(!accepted && register.value == "successor");
}
