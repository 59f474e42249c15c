//! The kept connections of a node to the other members.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::transport::frame::Connection;
use super::super::transport::handshake::{Hello, Purpose, Secret};
use super::super::types::NodeId;
use super::link::{Link, Lost};
use super::message::Request;

/// Whoever finds that connecting has just failed does not try again at once.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// A member that let a request go unanswered is left alone for this long.
const SILENCE: Duration = Duration::from_secs(1);
/// Connecting and agreeing on the version takes at most this long.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests above this length have a connection of their own, so that others need not wait behind.
const LARGE_LEN: usize = 64 << 10;

/// Which of the connections to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Small,
    Large,
}

#[derive(Default)]
struct Place {
    link: Option<Arc<Link>>,
    failed: Option<Instant>,
    silent_until: Option<Instant>,
}

/// A connection's place; locked while it is being opened.
type Shared = Arc<tokio::sync::Mutex<Place>>;

/// The connections, opened when they are first needed.
#[derive(Default)]
pub struct Links {
    places: Mutex<HashMap<(NodeId, Lane), Shared>>,
}

/// Where a member is, and how to prove who asks.
pub(super) struct Target<'a> {
    pub id: NodeId,
    pub addr: &'a str,
    pub from: NodeId,
    pub cluster: u64,
    pub secret: &'a Secret,
}

fn lane_of(request: &Request) -> Lane {
    match request {
        Request::Submit(items) | Request::SubmitTurn(items) | Request::Read(items)
            if items.len() > LARGE_LEN =>
        {
            Lane::Large
        }
        _ => Lane::Small,
    }
}

impl Links {
    /// Notes that a member did not answer: it is not asked again at once.
    pub(super) fn note_silence(&self, id: NodeId) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.get(&(id, Lane::Small)).map(Arc::clone);
        drop(places);
        if let Some(mut place) = place.as_ref().and_then(|place| place.try_lock().ok()) {
            place.link = None;
            place.silent_until = Some(Instant::now() + SILENCE);
        }
    }

    /// A connection to a member for this request; opens one if there is none.
    ///
    /// # Errors
    /// When the member cannot be reached or does not let this node in.
    pub(super) async fn get(&self, to: &Target<'_>, request: &Request) -> Result<Arc<Link>, Lost> {
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry((to.id, lane_of(request))).or_default())
        };
        let mut place = place.lock().await;
        if let Some(link) = place.link.as_ref().filter(|link| link.is_alive()) {
            return Ok(Arc::clone(link));
        }
        place.link = None;
        let is_silent = place.silent_until.is_some_and(|until| Instant::now() < until);
        if is_silent || place.failed.is_some_and(|failed| failed.elapsed() < RETRY_AFTER) {
            return Err(Lost::NotSent);
        }
        let hello = Hello {
            purpose: Purpose::Forward,
            cluster: to.cluster,
            group: 0,
            from: to.from,
            to: to.id,
        };
        let opened =
            async { Link::begin(Connection::open(to.addr, &hello, to.secret).await?).await };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opened).await;
        match opened.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(link) => {
                place.failed = None;
                place.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                tracing::debug!("node {} at {} cannot be asked: {error}", to.id, to.addr);
                place.failed = Some(Instant::now());
                Err(Lost::NotSent)
            }
        }
    }
}
