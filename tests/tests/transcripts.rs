//! The corpus, played to our server and to the oracle.
//!
//! `HOLDFAST_TRANSCRIPTS=strings,keys` plays only those files.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use holdfast_tests::server::{Kind, Server, is_available};
use holdfast_tests::skip_loudly;
use holdfast_tests::transcript::Transcript;
use holdfast_tests::transcript::run::{Failure, Socket, play};

/// Servers at work at once: the test is waiting more than computing.
const WORKERS: usize = 4;

#[test]
fn our_server_follows_the_transcripts() {
    if !is_available(Kind::Ours) {
        return;
    }
    let pending = pending();
    let (skipped, corpus): (Vec<_>, Vec<_>) =
        corpus().into_iter().partition(|t| pending.contains(&t.name));
    if !skipped.is_empty() {
        let names: Vec<_> = skipped.iter().map(|t| t.name.as_str()).collect();
        skip_loudly(&format!("transcripts still pending for our server: {}", names.join(", ")));
    }
    play_all(Kind::Ours, corpus);
}

/// Transcripts that a cluster of one node need not follow, and why.
const NOT_IN_A_CLUSTER: &[(&str, &str)] = &[
    ("admin", "one server without a cluster"),
    ("min-replicas", "a majority has every write"),
    ("rename-command", "refused in a cluster"),
    ("tracking", "NOLOOP is not heeded, nor is what a transaction reads of its own"),
    ("tracking-own-changes", "a transaction is told of its own changes, whatever it had read"),
    ("scripting-resp3", "DEBUG in scripts"),
    ("scripting-server", "what a node tells of itself is not for scripts that all members run"),
];

/// Steps that are different in a cluster: the file, how what is sent begins, and why.
const DIFFERENT_IN_A_CLUSTER: &[(&str, &str, &str)] = &[
    ("dump", "DEBUG POPULATE", "members change only through the log"),
    ("migrate", "MIGRATE", "what it removes would not be in the log"),
    ("dump", "GET key:2", "not populated"),
    ("dump", "GET many:1", "not populated"),
    ("server", "INFO", "cluster_enabled is 1"),
    ("server", "ROLE", "the offset is the log's, and a follower is a slave"),
    ("connection", "HELLO", "the mode is cluster, and a follower's role replica"),
    ("server", "WAIT 0", "one of two members follows"),
    ("server", "WAIT 1 20", "one of two members follows"),
    ("server", "SAVE", "the log keeps the data set"),
    ("server", "BGSAVE", "the log keeps the data set"),
    ("server", "BGREWRITEAOF", "the log keeps the data set"),
    ("server", "DEBUG LOADAOF", "the log keeps the data set"),
    ("server", "DEBUG RELOAD", "the log keeps the data set"),
    ("protocol", "SETRANGE big", "the same for all members"),
    ("protocol", "APPEND big", "the same for all members"),
    ("pubsub", "EXEC", "receivers are not told inside a transaction"),
    ("pubsub", "EVAL return redis.call('publish'", "receivers are not told inside a script"),
];

#[test]
fn a_cluster_follows_the_transcripts() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut corpus = corpus();
    corpus.retain(|t| NOT_IN_A_CLUSTER.iter().all(|(name, _)| t.name != *name));
    play_all_but(Kind::Ours, Way::Leader, corpus, is_different_in_a_cluster);
}

#[test]
fn a_follower_follows_the_transcripts() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut corpus = corpus();
    corpus.retain(|t| NOT_IN_A_CLUSTER.iter().all(|(name, _)| t.name != *name));
    play_all_but(Kind::Ours, Way::Follower, corpus, is_different_in_a_cluster);
}

fn is_different_in_a_cluster(failure: &Failure) -> bool {
    DIFFERENT_IN_A_CLUSTER.iter().any(|(file, sent, _)| {
        failure.place.starts_with(&format!("{file}.txt:"))
            && failure.sent.starts_with(&format!("> {sent}"))
    })
}

/// What the transcripts are played to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One server.
    Alone,
    /// A cluster of one node.
    Leader,
    /// The other of two nodes.
    Follower,
}

/// A server that is ready to be played to, and the leader it follows.
fn start(kind: Kind, way: Way, args: &[&str]) -> (Server, Option<Server>) {
    if way == Way::Alone {
        return (Server::start(kind, args), None);
    }
    let mut args = args.to_vec();
    // Long enough for a busy machine: nobody shall lose leadership.
    args.extend(["--raft", "yes", "--raft-election-timeout", "2000"]);
    let password = args.iter().position(|arg| *arg == "--requirepass").map(|at| args[at + 1]);
    let tell = |server: &Server, words: &[&str]| {
        let mut client = server.client();
        if let Some(password) = password {
            assert!(client.cmd(&["AUTH", password]).is_ok());
        }
        let reply = client.cmd(words);
        assert!(reply.text().starts_with("OK"), "{reply:?}");
    };
    let leader = Server::start(kind, &args);
    tell(&leader, &["RAFT.CLUSTER", "INIT"]);
    if way == Way::Leader {
        return (leader, None);
    }
    let follower = Server::start(kind, &args);
    tell(&follower, &["RAFT.CLUSTER", "JOIN", &leader.addr().to_string()]);
    (follower, Some(leader))
}

#[test]
fn the_oracle_follows_the_transcripts() {
    if !is_available(Kind::Oracle) {
        return;
    }
    play_all(Kind::Oracle, corpus());
}

#[test]
fn pending_names_files_that_exist() {
    let names: BTreeSet<_> = corpus().into_iter().map(|t| t.name).collect();
    if std::env::var_os("HOLDFAST_TRANSCRIPTS").is_none() {
        for name in pending() {
            assert!(names.contains(&name), "PENDING names {name}, which is gone");
        }
    }
}

fn play_all(kind: Kind, corpus: Vec<Transcript>) {
    play_all_but(kind, Way::Alone, corpus, |_| false);
}

/// Plays all; steps that are known to be different do not count.
fn play_all_but(
    kind: Kind,
    way: Way,
    corpus: Vec<Transcript>,
    is_known: impl Fn(&Failure) -> bool,
) {
    // One corpus at a time: transcripts that count milliseconds need a machine that keeps up.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let queue = Mutex::new(corpus);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(transcript) = queue.lock().unwrap().pop() else {
                        return;
                    };
                    let args: Vec<_> = transcript.server_args.iter().map(String::as_str).collect();
                    let (server, _leader) = start(kind, way, &args);
                    let outcome = play(&transcript, kind, &mut Socket::new(&server));
                    results.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let checked: usize = results.iter().map(|r| r.checked).sum();
    let failures: Vec<_> =
        results.iter().flat_map(|r| &r.failures).filter(|f| !is_known(f)).collect();
    let shown: String = failures.iter().map(ToString::to_string).collect();
    assert!(
        failures.is_empty(),
        "{} of {checked} steps went wrong on {}:\n{shown}",
        failures.len(),
        kind.name()
    );
    println!("{checked} steps of {} transcripts hold on {}", results.len(), kind.name());
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

fn corpus() -> Vec<Transcript> {
    let wanted = std::env::var("HOLDFAST_TRANSCRIPTS").ok();
    let wanted: Option<Vec<&str>> = wanted.as_ref().map(|w| w.split(',').collect());
    let mut corpus = Vec::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if wanted.as_ref().is_some_and(|w| !w.contains(&name.as_str())) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        corpus.push(Transcript::parse(&name, &text).unwrap());
    }
    corpus.sort_by(|a, b| a.name.cmp(&b.name));
    corpus
}

/// Transcripts whose commands our server does not have yet.
fn pending() -> BTreeSet<String> {
    fs::read_to_string(directory().join("PENDING"))
        .unwrap_or_default()
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}
