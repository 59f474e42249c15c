//! One channel or pattern: its subscribers, and the lock under which they get messages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::message::PushMessage;

/// Where a subscriber's messages go; the net room's outbox.
pub trait PushSink: Send + Sync {
    /// Takes one message.
    ///
    /// Invariant: never waits and never calls back into the registry, for it is called under
    /// the topic's lock. An outbox that is full marks its client to be closed and returns.
    fn push(&self, message: Arc<PushMessage>);
}

#[derive(Clone)]
struct Subscriber {
    client_id: u64,
    sink: Arc<dyn PushSink>,
}

/// The subscribers of one channel or pattern.
///
/// Its lock is held while a message is handed to them, which gives three things: all of them
/// see concurrent publishers in one order, as in Redis; one publisher's messages keep theirs;
/// and once a client has left, nothing more arrives, which a RESP2 client that goes on with
/// ordinary commands relies on. It is nobody else's lock, so other topics are not held up.
#[derive(Default)]
pub(super) struct Topic {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Most channels have one subscriber: it stands inside the topic.
    subscribers: SmallVec<[Subscriber; 1]>,
    /// Taken out of its map; whoever still holds it must look there again.
    closed: bool,
}

/// How entering a topic went.
pub(super) enum Entered {
    Yes,
    /// The topic was being removed: look it up again.
    Closed,
}

impl Topic {
    fn state(&self) -> MutexGuard<'_, State> {
        // A sink that panicked leaves the list itself whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a client, which must not be in yet.
    pub(super) fn enter(&self, client_id: u64, sink: &Arc<dyn PushSink>) -> Entered {
        let mut state = self.state();
        if state.closed {
            return Entered::Closed;
        }
        debug_assert!(state.subscribers.iter().all(|other| other.client_id != client_id));
        state.subscribers.push(Subscriber { client_id, sink: Arc::clone(sink) });
        Entered::Yes
    }

    /// Removes a client; `true` if none is left, and the topic must leave its map.
    pub(super) fn leave(&self, client_id: u64) -> bool {
        let mut state = self.state();
        if let Some(at) = state.subscribers.iter().position(|other| other.client_id == client_id) {
            state.subscribers.swap_remove(at);
        }
        state.closed = state.subscribers.is_empty();
        state.closed
    }

    /// Hands out the message `make` makes, if there is anyone to receive it; returns to how
    /// many it went.
    pub(super) fn publish(&self, make: impl FnOnce() -> PushMessage) -> usize {
        let state = self.state();
        if state.subscribers.is_empty() {
            return 0;
        }
        let message = Arc::new(make());
        for subscriber in &state.subscribers {
            subscriber.sink.push(Arc::clone(&message));
        }
        state.subscribers.len()
    }

    /// The numbers of its subscribers.
    pub(super) fn client_ids(&self) -> Vec<u64> {
        self.state().subscribers.iter().map(|subscriber| subscriber.client_id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.state().subscribers.len()
    }
}
