//! One kept connection to another member: many requests under way, answered in any order.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::super::transport::frame::{Connection, FrameReader, FrameWriter};
use super::super::transport::message as msg;
use super::message::{Answer, Request, VERSION, put_with_id, split_id};

/// Frames are gathered up to this length before they are written.
const WRITE_LEN_AIM: usize = 256 << 10;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It never left this node.
    NotSent,
    /// It may have arrived.
    Sent,
}

/// Who waits for answers to a request.
enum Waiting {
    Once(oneshot::Sender<Answer>),
    /// A parked command, which may hear several times.
    Often(mpsc::UnboundedSender<Answer>),
}

#[derive(Default)]
struct Pending {
    by_id: HashMap<u64, Waiting>,
    closed: bool,
}

/// A kept connection.
pub(super) struct Link {
    sender: mpsc::UnboundedSender<(u64, Request)>,
    pending: Arc<Mutex<Pending>>,
    next_id: AtomicU64,
    /// How many answers have come.
    heard: Arc<AtomicU64>,
    alive: Arc<AtomicBool>,
    end: tokio::sync::watch::Sender<bool>,
}

fn locked(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the entry of a request away whose asker has gone.
struct Entry<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        locked(&self.link.pending).by_id.remove(&self.id);
    }
}

impl Link {
    /// Agrees on the version over an authenticated connection and begins to carry requests.
    ///
    /// # Errors
    /// When the connection fails, or the other end speaks another version.
    pub(super) async fn begin(mut connection: Connection) -> io::Result<Arc<Self>> {
        let (kind, bytes) = connection.ask(msg::FORWARD, |out| out.push(VERSION)).await?;
        if kind == msg::FAILED {
            return Err(io::Error::other(String::from_utf8_lossy(&bytes).into_owned()));
        }
        if kind != msg::FORWARD || bytes[..] != [VERSION] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer out of turn"));
        }
        let (sender, requests) = mpsc::unbounded_channel();
        let (end, ended) = tokio::sync::watch::channel(false);
        let link = Arc::new(Self {
            sender,
            pending: Arc::default(),
            next_id: AtomicU64::new(1),
            heard: Arc::default(),
            alive: Arc::new(AtomicBool::new(true)),
            end,
        });
        let Connection { reader, writer } = connection;
        let (pending, heard) = (Arc::clone(&link.pending), Arc::clone(&link.heard));
        let alive = Arc::clone(&link.alive);
        tokio::spawn(async move {
            let mut ended = ended;
            let result = tokio::select! {
                result = read(reader, &pending, &heard) => result,
                result = write(writer, requests) => result,
                _ = ended.wait_for(|ended| *ended) => Ok(()),
            };
            if let Err(error) = result {
                tracing::debug!("the connection for clients' requests ended: {error}");
            }
            alive.store(false, Release);
            let mut pending = locked(&pending);
            pending.closed = true;
            pending.by_id.clear();
        });
        Ok(link)
    }

    /// Whether it still carries requests.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Acquire)
    }

    /// How many answers have come; one that is silent has hung or was cut off.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Ends it: whoever waits hears that the answer is lost.
    pub(super) fn close(&self) {
        self.alive.store(false, Release);
        let _ = self.end.send(true);
    }

    fn enter(&self, waiting: Waiting) -> Result<u64, Lost> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let mut pending = locked(&self.pending);
        if pending.closed {
            return Err(Lost::NotSent);
        }
        pending.by_id.insert(id, waiting);
        Ok(id)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the connection has ended or ends.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, Lost> {
        let (tell, told) = oneshot::channel();
        let id = self.enter(Waiting::Once(tell))?;
        let _entry = Entry { link: self, id };
        self.sender.send((id, request)).map_err(|_| Lost::NotSent)?;
        told.await.map_err(|_| Lost::Sent)
    }

    /// Sends a request that is answered more than once; its id, and the answers as they come.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(super) fn follow(
        &self,
        request: Request,
    ) -> Result<(u64, mpsc::UnboundedReceiver<Answer>), Lost> {
        let (tell, answers) = mpsc::unbounded_channel();
        let id = self.enter(Waiting::Often(tell))?;
        self.sender.send((id, request)).map_err(|_| Lost::NotSent)?;
        Ok((id, answers))
    }

    /// Says something more about an earlier request.
    pub(super) fn say(&self, id: u64, request: Request) {
        let _ = self.sender.send((id, request));
    }

    /// Forgets a request that was followed.
    pub(super) fn forget(&self, id: u64) {
        locked(&self.pending).by_id.remove(&id);
    }
}

async fn read(
    mut reader: FrameReader,
    pending: &Mutex<Pending>,
    heard: &AtomicU64,
) -> io::Result<()> {
    while let Some((kind, bytes)) = reader.next().await? {
        if kind != msg::ANSWER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of kind {kind}"),
            ));
        }
        heard.fetch_add(1, Relaxed);
        let (id, body) = split_id(bytes.freeze())?;
        let mut pending = locked(pending);
        if let Some(Waiting::Often(tell)) = pending.by_id.get(&id) {
            let tell = tell.clone();
            drop(pending);
            let _ = tell.send(Answer::read(&body)?);
            continue;
        }
        let waiting = pending.by_id.remove(&id);
        drop(pending);
        if let Some(Waiting::Once(tell)) = waiting {
            let _ = tell.send(Answer::read(&body)?);
        }
    }
    Ok(())
}

async fn write(
    mut writer: FrameWriter,
    mut requests: mpsc::UnboundedReceiver<(u64, Request)>,
) -> io::Result<()> {
    while let Some((id, request)) = requests.recv().await {
        writer.push(msg::REQUEST, |out| put_with_id(out, id, |out| request.put(out)))?;
        while writer.pushed_len() < WRITE_LEN_AIM
            && let Ok((id, request)) = requests.try_recv()
        {
            writer.push(msg::REQUEST, |out| put_with_id(out, id, |out| request.put(out)))?;
        }
        writer.flush().await?;
    }
    Ok(())
}

/// Sends answers as they come, several at a time.
pub(super) async fn write_answers(
    mut writer: FrameWriter,
    mut answers: mpsc::UnboundedReceiver<(u64, Answer)>,
) -> io::Result<()> {
    while let Some((id, answer)) = answers.recv().await {
        push_answer(&mut writer, id, &answer)?;
        while writer.pushed_len() < WRITE_LEN_AIM
            && let Ok((id, answer)) = answers.try_recv()
        {
            push_answer(&mut writer, id, &answer)?;
        }
        writer.flush().await?;
    }
    Ok(())
}

fn push_answer(writer: &mut FrameWriter, id: u64, answer: &Answer) -> io::Result<()> {
    let pushed = writer.push(msg::ANSWER, |out| put_with_id(out, id, |out| answer.put(out)));
    pushed.or_else(|_| {
        // The change was made; only its reply is too long to travel.
        let text = "the reply is larger than members can pass on; the command was done";
        let told = Answer::Refused(super::super::outcome::Refusal::Failed(text.to_owned()));
        writer.push(msg::ANSWER, |out| put_with_id(out, id, |out| told.put(out)))
    })
}

/// The frame's body, for whoever reads requests.
pub(super) fn request_of(bytes: Bytes) -> io::Result<(u64, Request)> {
    let (id, body) = split_id(bytes)?;
    Ok((id, Request::read(&body)?))
}
