//! ACL users in a cluster: wherever a client connects, and in scripts that every member runs.
#![allow(clippy::unwrap_used)]

use holdfast_tests::client::Client;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::wire::Reply;

const ALICE: &str = "ACL SETUSER alice on >pw resetkeys ~app:* resetchannels +@all -flushall";

/// A client of each node in turn, as that user: one of them leads, the others pass on.
fn as_alice(cluster: &mut Cluster) -> Vec<Client> {
    let log_in = |mut client: Client| {
        assert!(client.line("AUTH alice pw").is_ok());
        client
    };
    cluster.nodes.iter().map(|node| log_in(node.client())).collect()
}

#[test]
fn a_limited_user_is_limited_on_every_node_and_in_scripts() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    for node in &cluster.nodes {
        assert!(node.client().line(ALICE).is_ok());
    }
    for mut c in as_alice(&mut cluster) {
        assert!(c.line("SET app:k v").is_ok());
        assert!(c.line("SET other v").is_error("NOPERM No permissions to access a key"));
        assert!(c.line("FLUSHALL").is_error("NOPERM User alice has no permissions to run"));
        assert_eq!(c.line("ACL WHOAMI").text(), "alice");
        let set = "return redis.call('set', ARGV[1], 'v')";
        assert!(c.cmd(&["EVAL", set, "0", "app:s"]).is_ok());
        let refused = c.cmd(&["EVAL", set, "0", "other"]);
        assert!(refused.is_error("ERR ACL failure in script: No permissions"), "{refused:?}");
        let flush = c.cmd(&["EVAL", "return redis.call('flushall')", "0"]);
        assert!(flush.is_error("ERR ACL failure in script: User alice"), "{flush:?}");
        let ask = "return redis.acl_check_cmd('get', ARGV[1])";
        assert!(c.cmd(&["EVAL", ask, "0", "other"]).is_nil());
        assert_eq!(c.cmd(&["EVAL", ask, "0", "app:k"]).int(), 1);
        let read = "return redis.call('get', ARGV[1])";
        assert!(c.cmd(&["EVAL_RO", read, "0", "other"]).is_error("ERR ACL failure in script"));
        assert_eq!(c.cmd(&["EVAL_RO", read, "0", "app:k"]).text(), "v");
        // In a transaction, and tagged to run once.
        assert!(c.line("MULTI").is_ok());
        assert_eq!(c.cmd(&["EVAL", set, "0", "other"]).text(), "QUEUED");
        match c.line("EXEC") {
            Reply::Array(replies) => assert!(replies[0].is_error("ERR ACL failure in script")),
            other => panic!("{other:?}"),
        }
        let once = c.line("RAFT.ONCE me 1 SET other v");
        assert!(once.is_error("NOPERM No permissions to access a key"), "{once:?}");
        let once = c.cmd(&["RAFT.ONCE", "me", "2", "EVAL", set, "0", "other"]);
        assert!(once.is_error("ERR ACL failure in script"), "{once:?}");
    }
    // Every member came to the same, whoever asked.
    for node in &cluster.nodes {
        let mut c = node.client();
        assert!(c.line("READONLY").is_ok());
        assert!(c.line("GET other").is_nil());
    }
}

/// Rights are looked at by the node that the client is connected to, so a user need only be known there.
#[test]
fn a_user_is_judged_where_its_client_is() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let leader = cluster.leader();
    for (at, node) in cluster.nodes.iter().enumerate() {
        if at != leader {
            let mut c = node.client();
            assert!(c.line(ALICE).is_ok());
            assert!(c.line("AUTH alice pw").is_ok());
            assert!(c.line("SET app:k v").is_ok());
            assert_eq!(c.line("GET app:k").text(), "v");
            assert!(c.line("SET other v").is_error("NOPERM"));
        }
    }
}
