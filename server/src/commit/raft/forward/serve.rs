//! Answering other members' requests on behalf of their clients.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use holdfast_engine::effects::Wait;
use tokio::sync::mpsc;

use super::super::node::RaftNode;
use super::super::outcome::Refusal;
use super::super::transport::frame::{Connection, FrameReader};
use super::super::transport::message as msg;
use super::link::{request_of, write_answers};
use super::message::{Answer, Request, VERSION};

type Answers = mpsc::UnboundedSender<(u64, Answer)>;
/// What a parked command's node says of it; `None` when it is over.
type Standings = mpsc::UnboundedReceiver<Option<Wait>>;

/// The leader's end of a parked command.
pub struct Turns {
    answers: Answers,
    place: u64,
    standings: Standings,
}

impl Turns {
    /// Says that it is the command's turn.
    pub fn give(&self) {
        let _ = self.answers.send((self.place, Answer::Turn));
    }

    /// Says that this node can no longer tell whose turn it is.
    pub fn refuse(&self, refusal: Refusal) {
        let _ = self.answers.send((self.place, Answer::Refused(refusal)));
    }

    /// What the command came to: `Some` if it waits on. `None` when it is over, or its node is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn standing(&mut self) -> Option<Wait> {
        self.standings.recv().await.flatten()
    }
}

/// Serves a member's requests until its connection ends.
pub(in super::super) async fn serve(
    node: &Arc<RaftNode>,
    mut connection: Connection,
) -> io::Result<()> {
    let version = match connection.reader.next().await? {
        Some((msg::FORWARD, bytes)) => bytes.first().copied(),
        _ => None,
    };
    if version != Some(VERSION) {
        let text = format!(
            "this node passes clients' requests on in version {VERSION}, the other in {}",
            version.map_or("an earlier one".to_owned(), |version| version.to_string())
        );
        tracing::warn!("refused a member: {text}. Run one release on all members");
        return connection
            .writer
            .send(msg::FAILED, |out| out.extend_from_slice(text.as_bytes()))
            .await;
    }
    connection.writer.send(msg::FORWARD, |out| out.push(VERSION)).await?;
    let (tell, answers) = mpsc::unbounded_channel();
    tokio::select! {
        read = read(node, connection.reader, tell) => read,
        written = write_answers(connection.writer, answers) => written,
    }
}

async fn read(node: &Arc<RaftNode>, mut reader: FrameReader, answers: Answers) -> io::Result<()> {
    // Parked commands by their places. Those of a connection that ends hear so by its channel's end.
    let mut parked: HashMap<u64, mpsc::UnboundedSender<Option<Wait>>> = HashMap::new();
    while let Some((kind, bytes)) = reader.next().await? {
        if kind != msg::REQUEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of kind {kind}"),
            ));
        }
        let (id, request) = request_of(bytes.freeze())?;
        match request {
            Request::Parked(standing) => {
                if let Some(tell) = parked.get(&id) {
                    let _ = tell.send(standing);
                }
                if standing.is_none() {
                    parked.remove(&id);
                }
            }
            Request::Park(park) => {
                let (tell, standings) = mpsc::unbounded_channel();
                parked.insert(id, tell);
                let turns = Turns { answers: answers.clone(), place: id, standings };
                tokio::spawn(Arc::clone(&node.surroundings).park(park, turns));
            }
            request => {
                let (node, answers) = (Arc::clone(node), answers.clone());
                tokio::spawn(async move {
                    let answer = answer(&node, request).await;
                    let _ = answers.send((id, answer));
                });
            }
        }
    }
    Ok(())
}

async fn answer(node: &Arc<RaftNode>, request: Request) -> Answer {
    match request {
        Request::ReadAt => match node.read_barrier().await {
            // Read behind the barrier: whoever reads there sees at least what it judged by.
            Ok(now) => Answer::ReadAt(node.applied().next_index(), now),
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::Acked(index) if node.leads() => match node.acked_at(index).await {
            Ok((index, count)) => Answer::Acked(index, count),
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::Acked(_) => Answer::Refused(Refusal::NotLeader),
        Request::Silences => match node.silences() {
            Some(silences) => Answer::Silences(
                silences
                    .into_iter()
                    .map(|(id, silent)| (id, u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)))
                    .collect(),
            ),
            None => Answer::Refused(Refusal::NotLeader),
        },
        request => Arc::clone(&node.surroundings).serve(request).await,
    }
}
