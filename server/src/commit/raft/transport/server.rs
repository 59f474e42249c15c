//! Listening to other members.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::cluster;
use super::super::forward;
use super::super::node::{RaftNode, Running};
use super::super::snapshot::SnapshotFile;
use super::super::wire;
use super::frame::{Connection, FrameReader};
use super::handshake::{self, Hello, Purpose};
use super::message as msg;

/// Connections whose handshake is not done yet; more are closed at once.
const STRANGERS_MAX: usize = 64;

static STRANGERS: AtomicUsize = AtomicUsize::new(0);

/// Accepts members until the task is dropped.
pub async fn run(node: Arc<RaftNode>, listener: TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accepting a member failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if STRANGERS.fetch_add(1, Relaxed) >= STRANGERS_MAX {
            STRANGERS.fetch_sub(1, Relaxed);
            continue;
        }
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
            if let Err(error) = serve(&node, stream).await {
                tracing::debug!("the connection of {peer} to the Raft port ended: {error}");
            }
        });
    }
}

async fn serve(node: &Arc<RaftNode>, mut stream: TcpStream) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let shaken = handshake::accept(&mut stream, node.secret(), |hello| judge(node, hello)).await;
    STRANGERS.fetch_sub(1, Relaxed);
    let hello = shaken.inspect_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            tracing::warn!("refused a connection to the Raft port: {error}");
        }
    })?;
    if hello.purpose == Purpose::Join {
        return cluster::admit(node, Connection::new(stream)).await;
    }
    let Some(running) = node.running() else { return Ok(()) };
    match hello.purpose {
        Purpose::Append => appends(running, Connection::new(stream)).await,
        Purpose::Control => control(running, Connection::new(stream)).await,
        Purpose::Snapshot => snapshot(running, Connection::new(stream), hello.from).await,
        Purpose::Forward => forward::serve::serve(node, Connection::new(stream)).await,
        Purpose::Client | Purpose::Join => Ok(()),
    }
}

/// Why a peer that knows the secret may not speak here, if it may not.
fn judge(node: &RaftNode, hello: &Hello) -> Result<(), String> {
    if hello.purpose == Purpose::Join {
        return if node.leads() {
            Ok(())
        } else {
            Err("this node does not lead the cluster".to_owned())
        };
    }
    if hello.purpose == Purpose::Client {
        return Err(
            "this release does not take over clients' connections: run one release on all \
                    members"
                .to_owned(),
        );
    }
    let Some(running) = node.running() else {
        return Err("this node belongs to no cluster yet".to_owned());
    };
    if hello.cluster != running.cluster {
        return Err("this node belongs to another cluster".to_owned());
    }
    if hello.to != running.id && hello.to != 0 {
        return Err(format!("this is node {}, not node {}", running.id, hello.to));
    }
    if hello.group != 0 {
        return Err("there is no such Raft group here".to_owned());
    }
    Ok(())
}

/// Requests as they come; ends with the connection or with one that is not sound.
async fn next_append(
    mut reader: FrameReader,
) -> Option<(openraft::raft::AppendEntriesRequest<super::super::types::Group>, FrameReader)> {
    match reader.next().await {
        Ok(Some((msg::APPEND, bytes))) => match msg::append(&bytes) {
            Ok(request) => Some((request, reader)),
            Err(error) => {
                tracing::warn!("closing the connection of a member that sent a {error}");
                None
            }
        },
        Ok(Some((kind, _))) => {
            tracing::warn!("closing the connection of a member that sent a frame of kind {kind}");
            None
        }
        Ok(None) | Err(_) => None,
    }
}

async fn appends(running: &Running, connection: Connection) -> io::Result<()> {
    let Connection { reader, mut writer } = connection;
    let requests = futures_util::stream::unfold(reader, next_append);
    let mut answers = std::pin::pin!(running.raft.stream_append(requests));
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(io::Error::other)?;
        writer.send(msg::APPENDED, |out| msg::put_appended(out, &answer)).await?;
        if answer.is_err() {
            // The other end begins anew after this.
            break;
        }
    }
    Ok(())
}

async fn control(running: &Running, mut connection: Connection) -> io::Result<()> {
    while let Some((kind, bytes)) = connection.reader.next().await? {
        let raft = &running.raft;
        match kind {
            msg::VOTE | msg::PRE_VOTE => {
                let request = msg::vote_request(&bytes)?;
                let answer = match kind {
                    msg::VOTE => raft.vote(request).await,
                    _ => raft.pre_vote(request).await,
                };
                let answer = answer.map_err(io::Error::other)?;
                connection.writer.send(msg::VOTED, |out| msg::put_voted(out, &answer)).await?;
            }
            msg::TRANSFER => {
                let answer = raft.handle_transfer_leader(msg::transfer(&bytes)?).await;
                let answer = answer.map_err(io::Error::other)?;
                connection
                    .writer
                    .send(msg::TRANSFERRED, |out| msg::put_transferred(out, &answer))
                    .await?;
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown request")),
        }
    }
    Ok(())
}

/// Receives a snapshot into a file. One that broke off goes on where it was.
async fn snapshot(running: &Running, mut connection: Connection, from: u64) -> io::Result<()> {
    let Some((msg::SNAPSHOT, bytes)) = connection.reader.next().await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let announced = msg::announcement(&bytes)?;
    // One at a time: two would write to one file.
    let _receiving = running.receiving.lock().await;
    let index = announced.meta.last_log_id.map_or(0, |id| id.index);
    let name = format!("receive-{index}-{}-{:08x}", announced.len, announced.sum);
    let path = running.snapshots.part(&name);
    let file = crate::persist::files::private().create(true).append(true).open(&path)?;
    let mut have = file.metadata()?.len();
    if have > announced.len {
        file.set_len(0)?;
        have = 0;
    }
    connection.writer.send(msg::SNAPSHOT_FROM, |out| wire::put_u64(out, have)).await?;
    tracing::info!(
        "receiving a snapshot of {} bytes from node {from}, from {have} on",
        announced.len
    );
    let mut file = tokio::fs::File::from_std(file);
    while have < announced.len {
        let Some((msg::SNAPSHOT_BYTES, bytes)) = connection.reader.next().await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        have += bytes.len() as u64;
        if have > announced.len {
            return Err(io::ErrorKind::InvalidData.into());
        }
        file.write_all(&bytes).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    drop(file);
    let snapshot = SnapshotFile::at(&path)?;
    if let Err(error) = snapshot.verify() {
        // Nothing of it can be trusted: the next one begins anew.
        let _ = std::fs::remove_file(&path);
        let text = error.to_string();
        return connection
            .writer
            .send(msg::FAILED, |out| out.extend_from_slice(text.as_bytes()))
            .await;
    }
    let snapshot = openraft::storage::Snapshot { meta: announced.meta, snapshot };
    let installed = running.raft.install_full_snapshot(announced.vote, snapshot).await;
    let answer = installed.map_err(io::Error::other)?;
    connection.writer.send(msg::INSTALLED, |out| wire::put_vote(out, answer.vote)).await
}
