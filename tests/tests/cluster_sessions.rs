//! Commands that frame others (MULTI, WATCH, CLIENT REPLY) on a node that does not lead: whatever
//! becomes of them, what is sent behind them keeps its meaning.
#![allow(clippy::unwrap_used)]

use holdfast_tests::client::Client;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::server::{Kind, is_available};
use holdfast_tests::wire::Reply;

/// The place of a node that follows.
fn follower(cluster: &mut Cluster) -> usize {
    let leader = cluster.leader();
    (0..cluster.nodes.len()).find(|place| *place != leader).unwrap()
}

/// Sends the lines at once and reads a reply to each.
fn pipeline(client: &mut Client, lines: &[&str]) -> Vec<Reply> {
    let text: String = lines.iter().flat_map(|line| [*line, "\r\n"]).collect();
    client.send_raw(text.as_bytes()).unwrap();
    lines.iter().map(|_| client.read()).collect()
}

#[test]
fn nothing_of_a_transaction_runs_outside_it_without_a_leader() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let place = follower(&mut cluster);
    cluster.settle();
    // One connection is asked while there is no leader, one is idle until there is one again.
    let mut client = cluster.nodes[place].client();
    let mut watching = cluster.nodes[place].client();
    let others: Vec<usize> = (0..3).filter(|other| *other != place).collect();
    for other in &others {
        cluster.nodes[*other].kill();
    }
    let body = ["MULTI", "SET t 1", "INCR n", "EXEC"];
    let replies = pipeline(&mut client, &body);
    assert!(replies[0].is_ok(), "{replies:?}");
    assert!(replies[1].text() == "QUEUED" && replies[2].text() == "QUEUED", "{replies:?}");
    assert!(replies[3].is_error("EXECABORT"), "{replies:?}");
    let replies = pipeline(&mut client, &["MULTI", "SET t 1", "DISCARD"]);
    assert!(replies[2].is_ok(), "{replies:?}");
    // A WATCH that was refused fails the next EXEC, and only that.
    assert!(watching.line("WATCH w").is_error("CLUSTERDOWN"));
    for other in &others {
        cluster.nodes[*other].start();
    }
    let _ = cluster.leader();
    let mut replies = pipeline(&mut watching, &body);
    while replies[3].is_error("EXECABORT") {
        // Its node does not know the new leader yet; then the transaction is tried again.
        assert!(watching.line("WATCH w").is_error("CLUSTERDOWN"), "{replies:?}");
        replies = pipeline(&mut watching, &body);
    }
    assert!(matches!(replies[3], Reply::NilArray), "{replies:?}");
    assert_eq!(cluster.client().line("EXISTS t n").text(), "0");
    let replies = pipeline(&mut watching, &body);
    assert_eq!(replies[3].elements().len(), 2, "{replies:?}");
    assert_eq!(cluster.client().line("EXISTS t n").text(), "2");
}

#[test]
fn client_reply_skip_and_off_hold_on_a_follower() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let place = follower(&mut cluster);
    let mut client = cluster.nodes[place].client();
    client.send_raw(b"CLIENT REPLY SKIP\r\nSET a 1\r\nGET a\r\n").unwrap();
    assert_eq!(client.read().text(), "1");
    assert_eq!(client.line("ECHO next").text(), "next");
    let mut client = cluster.nodes[place].client();
    client.send_raw(b"CLIENT REPLY OFF\r\nSET a 2\r\nGET a\r\nCLIENT REPLY ON\r\n").unwrap();
    assert_eq!(client.read().text(), "OK");
    assert_eq!(client.line("GET a").text(), "2");
}
