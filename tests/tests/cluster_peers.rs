//! What comes to the Raft port from who knows the secret and who does not: refused in words,
//! closed, and nothing of the cluster changed.
#![allow(clippy::unwrap_used)]

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast::commit::raft::transport::frame::{Connection, FRAME_LEN_MAX, open_stream};
use holdfast::commit::raft::transport::handshake::{Hello, Purpose, Secret};
use holdfast::commit::raft::transport::message as msg;
use holdfast_tests::cluster::{Cluster, Node, SECRET};
use holdfast_tests::server::{Kind, is_available};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Closing a connection takes no longer on a busy machine.
const SOON: Duration = Duration::from_secs(10);
const HELLO_LEN: usize = 65;
const NONCE_AND_PROOF_LEN: usize = 64;
const PURPOSES: [Purpose; 5] =
    [Purpose::Control, Purpose::Append, Purpose::Snapshot, Purpose::Forward, Purpose::Join];

fn secret() -> Secret {
    Secret::new(SECRET.as_bytes())
}

fn raft_addr(node: &Node) -> String {
    format!("127.0.0.1:{}", node.raft_port)
}

/// What another member would say to this node.
fn hello(node: &Node, purpose: Purpose) -> Hello {
    let cluster = u64::from_str_radix(&node.info("raft_cluster_id").unwrap(), 16).unwrap();
    let to = node.number("raft_node_id");
    Hello { purpose, cluster, group: 0, from: to % 3 + 1, to }
}

/// How a cluster is before something is tried on it, and whether it is as well afterwards.
struct Before {
    leader: usize,
    term: u64,
}

impl Before {
    fn new(cluster: &mut Cluster) -> Self {
        let leader = cluster.leader();
        Self { leader, term: cluster.nodes[leader].number("raft_term") }
    }

    fn is_unchanged(&self, cluster: &mut Cluster) {
        assert!(cluster.client().line("SET still here").is_ok());
        assert_eq!(cluster.leader(), self.leader);
        assert_eq!(cluster.nodes[self.leader].number("raft_term"), self.term);
        for node in &mut cluster.nodes {
            assert!(node.is_alive());
            assert_eq!(node.info("raft_error").unwrap(), "");
            assert!(!node.log().contains("panicked"), "{}", node.log());
        }
        cluster.assert_alike();
    }
}

/// Waits until the other end closes; what it sent until then.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut told)).await;
    // A reset is as good as an end.
    let _ = read.expect("the connection stays open");
    told
}

#[tokio::test]
async fn strangers_are_refused_with_words() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let before = Before::new(&mut cluster);
    let (leader, follower) = (before.leader, (before.leader + 1) % 3);
    let node = &cluster.nodes[leader];
    let sound = hello(node, Purpose::Control);
    for (hello, told) in [
        (Hello { cluster: sound.cluster ^ 2, ..sound }, "this node belongs to another cluster"),
        (Hello { to: sound.to + 7, ..sound }, "this is node"),
        (Hello { group: 1, ..sound }, "there is no such Raft group here"),
        (hello(&cluster.nodes[follower], Purpose::Join), "this node does not lead the cluster"),
    ] {
        let place = if hello.purpose == Purpose::Join { follower } else { leader };
        let addr = raft_addr(&cluster.nodes[place]);
        let error = open_stream(&addr, &hello, &secret()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    // It proves that it knows the secret before we have to; who asks can tell a wrong one.
    let wrong = Secret::new(b"another secret");
    let error = open_stream(&raft_addr(node), &sound, &wrong).await.unwrap_err();
    assert!(error.to_string().contains("does not know this node's raft-secret"), "{error}");
    // Who does not look at its proof, and has none.
    let mut stream = TcpStream::connect(raft_addr(node)).await.unwrap();
    let mut bytes = [0; HELLO_LEN];
    bytes[..4].copy_from_slice(b"HFR\x01");
    bytes[5..13].copy_from_slice(&sound.cluster.to_le_bytes());
    stream.write_all(&bytes).await.unwrap();
    stream.read_exact(&mut [0; NONCE_AND_PROOF_LEN]).await.unwrap();
    stream.write_all(&[0; 32]).await.unwrap();
    assert_eq!(until_closed(stream).await, b"", "told nothing");
    let refusal = "refused a connection to the Raft port: it does not know this node's raft-secret";
    assert!(node.log().contains(refusal), "{}", node.log());
    before.is_unchanged(&mut cluster);
}

#[tokio::test]
async fn garbage_from_strangers_changes_nothing() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let before = Before::new(&mut cluster);
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..60_usize {
        let mut bytes = vec![0; 1 << (round % 14)];
        for byte in &mut bytes {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (noise >> 56) as u8;
        }
        if round % 3 == 0 {
            bytes.fill(0xff);
        }
        let addr = raft_addr(&cluster.nodes[before.leader]);
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        assert_eq!(until_closed(stream).await, b"", "told nothing");
    }
    before.is_unchanged(&mut cluster);
}

#[tokio::test]
async fn members_that_send_nonsense_are_hung_up_on() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let before = Before::new(&mut cluster);
    let node = &cluster.nodes[before.leader];
    let long = u32::try_from(FRAME_LEN_MAX).unwrap() + 1;
    let frame = |kind: u8, body: &[u8]| {
        let mut bytes = (body.len() as u32 + 1).to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(body);
        bytes
    };
    let mut nonsense = vec![
        ("nothing", Vec::new()),
        ("a frame that is too long", long.to_le_bytes().to_vec()),
        ("a frame of no length", vec![0; 4]),
        ("garbage", vec![0xff; 300]),
        ("a truncated frame", frame(msg::APPEND, &[7; 90])[..40].to_vec()),
        ("an unknown kind", frame(200, b"what is this")),
        // Of a million entries none is there.
        (
            "entries that are not there",
            frame(msg::APPEND, &{
                let mut body = vec![0; 17 + 2];
                body.extend(1_000_000_u32.to_le_bytes());
                body
            }),
        ),
    ];
    for kind in 1..=msg::ANSWER {
        nonsense.push(("a body that is none", frame(kind, &[0xee; 30])));
        nonsense.push(("no body", frame(kind, b"")));
    }
    for purpose in PURPOSES {
        let hello = hello(node, purpose);
        for (what, bytes) in &nonsense {
            let mut stream = open_stream(&raft_addr(node), &hello, &secret()).await.unwrap();
            // It may hang up amid what we send.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let told = until_closed(stream).await;
            assert!(told.len() < 1000, "{purpose:?}, {what}: {} bytes", told.len());
        }
    }
    before.is_unchanged(&mut cluster);
}

/// A snapshot whose bytes are not what they should be is said so to the sender, and not installed.
#[tokio::test]
async fn a_snapshot_that_is_none_is_not_installed() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(3, &[]);
    let before = Before::new(&mut cluster);
    let node = &cluster.nodes[(before.leader + 1) % 3];
    let keys = cluster.nodes[before.leader].client().line("DBSIZE").int();
    let bytes = vec![0x5a; 4_000];
    let mut announced = Vec::new();
    // The leader's vote, elected; no last entry; a membership of nobody; the length and a sum.
    announced.extend(before.term.to_le_bytes());
    announced.extend(cluster.nodes[before.leader].number("raft_node_id").to_le_bytes());
    announced.extend([1, 0, 0]);
    announced.extend(0_u32.to_le_bytes());
    announced.extend(0_u32.to_le_bytes());
    announced.extend((bytes.len() as u64).to_le_bytes());
    announced.extend(7_u32.to_le_bytes());
    let hello = hello(node, Purpose::Snapshot);
    let mut connection = Connection::open(&raft_addr(node), &hello, &secret()).await.unwrap();
    let (kind, _) = connection.ask(msg::SNAPSHOT, |out| out.extend(&announced)).await.unwrap();
    assert_eq!(kind, msg::SNAPSHOT_FROM);
    let (kind, told) = connection.ask(msg::SNAPSHOT_BYTES, |out| out.extend(&bytes)).await.unwrap();
    assert_eq!(kind, msg::FAILED, "{told:?}");
    // More than was announced.
    let mut connection = Connection::open(&raft_addr(node), &hello, &secret()).await.unwrap();
    connection.ask(msg::SNAPSHOT, |out| out.extend(&announced)).await.unwrap();
    let more = connection.ask(msg::SNAPSHOT_BYTES, |out| out.extend(vec![0; 5_000])).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(cluster.client().line("DBSIZE").int(), keys);
    before.is_unchanged(&mut cluster);
}

#[tokio::test]
async fn a_node_whose_clock_is_far_off_does_not_join() {
    if !is_available(Kind::Ours) {
        return;
    }
    let mut cluster = Cluster::new(2, &[]);
    let before = Before::new(&mut cluster);
    let node = &cluster.nodes[before.leader];
    let hello = Hello { purpose: Purpose::Join, cluster: 0, group: 0, from: 0, to: 0 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for (clock, told) in [
        (now + 3_600_000, "s ahead of the leader's"),
        (now - 3_600_000, "s behind the leader's"),
        (0, "s behind the leader's"),
    ] {
        let mut connection = Connection::open(&raft_addr(node), &hello, &secret()).await.unwrap();
        let asked = connection.ask(msg::JOIN, |out| {
            out.extend(0_u64.to_le_bytes());
            for addr in ["127.0.0.1:1", "127.0.0.1:2"] {
                out.extend((addr.len() as u32).to_le_bytes());
                out.extend(addr.as_bytes());
            }
            out.extend(clock.to_le_bytes());
        });
        let (kind, text) = asked.await.unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(kind, msg::FAILED, "{text}");
        assert!(text.contains("this node's clock is") && text.contains(told), "{text}");
        assert!(text.contains("NTP"), "{text}");
    }
    assert!(node.log().contains("a node could not join: "), "{}", node.log());
    assert_eq!(node.number("raft_members"), 2);
    before.is_unchanged(&mut cluster);
}
