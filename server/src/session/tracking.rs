//! Server-assisted client side caching: who is told that a key has changed.
//!
//! A tracking client's reads enter their keys in a table; whoever changes a key takes its
//! entry out and tells those in it. In BCAST mode clients are told of every key with one of
//! their prefixes instead. A key is entered before it is read and a client's messages follow
//! its reply, so a value that changes meanwhile is always invalidated after it was sent.
//!
//! Unlike Redis, BCAST tells of each command at once rather than once per event loop.
//! Ids of clients that went stay in the table until their keys change, as in Redis; they are
//! never used again, and `tracking-table-max-keys` bounds the table.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use dashmap::DashMap;
use holdfast_engine::Reply;

use super::{Client, Registry};
use crate::pubsub::PushMessage;

thread_local! {
    /// The tracking client whose command this thread runs, and whether its reads count.
    static CALLER: Cell<Option<(u64, Reads)>> = const { Cell::new(None) };
    /// What it has read and not changed since: of its own changes before that it need not hear.
    static CURRENT: RefCell<BTreeSet<Vec<u8>>> = const { RefCell::new(BTreeSet::new()) };
    /// Keys it had read before a command that may change them: a change invalidates its cached copy,
    /// even if it has read the new value since (in a transaction or a script).
    static OUTDATED: RefCell<BTreeSet<Vec<u8>>> = const { RefCell::new(BTreeSet::new()) };
}

/// Whether the keys a command reads are entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// They are.
    Tracked,
    /// They are not: BCAST mode, or OPTIN and OPTOUT say so.
    Untracked,
}

/// Which keys a client hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those it has read.
    #[default]
    Normal,
    /// Those it has read right after CLIENT CACHING YES.
    OptIn,
    /// Those it has read, but for right after CLIENT CACHING NO.
    OptOut,
    /// All that begin with one of these prefixes.
    Broadcast,
}

/// What CLIENT TRACKING ON chose; kept by the session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Which keys it hears of.
    pub mode: Mode,
    /// Its own changes are not told to it.
    pub no_loop: bool,
    /// The client that is told in its stead.
    pub redirect: Option<u64>,
    /// The prefixes of BCAST; the empty one is every key.
    pub prefixes: Vec<Bytes>,
    /// CLIENT CACHING was called for the next command.
    pub caching: bool,
}

impl Choice {
    /// The client that is told instead: 0 for none, -1 without tracking.
    #[must_use]
    pub fn redirection(choice: Option<&Self>) -> i64 {
        let id = |id| i64::try_from(id).unwrap_or(i64::MAX);
        choice.map_or(-1, |choice| choice.redirect.map_or(0, id))
    }

    /// Whether the next command's reads are entered.
    #[must_use]
    pub fn reads(&self) -> Reads {
        match self.mode {
            Mode::Broadcast => Reads::Untracked,
            Mode::OptIn if !self.caching => Reads::Untracked,
            Mode::OptOut if self.caching => Reads::Untracked,
            Mode::Normal | Mode::OptIn | Mode::OptOut => Reads::Tracked,
        }
    }
}

/// A tracking client as those see it who change keys.
#[derive(Debug, Clone)]
struct Tracker {
    client: Arc<Client>,
    /// It hears of prefixes, and no longer of keys it read before.
    broadcast: bool,
    no_loop: bool,
    redirect: Option<u64>,
}

/// A change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A client's command.
    Command,
    /// Its time, or the memory limit: nobody's own doing.
    Server,
}

/// All tracking clients of the server and the keys they have read.
#[derive(Debug, Default)]
pub struct Tracking {
    count: AtomicUsize,
    trackers: DashMap<u64, Tracker>,
    keys: DashMap<Bytes, BTreeSet<u64>>,
    keys_len: AtomicUsize,
    /// Clients at all keys together.
    items_len: AtomicUsize,
    prefixes: RwLock<HashMap<Bytes, BTreeSet<u64>>>,
}

impl Tracking {
    /// Whether any client tracks.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Acquire) != 0
    }

    /// Begins or changes a client's tracking.
    pub fn begin(&self, client: &Arc<Client>, choice: &Choice) {
        let tracker = Tracker {
            client: Arc::clone(client),
            broadcast: choice.mode == Mode::Broadcast,
            no_loop: choice.no_loop,
            redirect: choice.redirect,
        };
        if self.trackers.insert(client.id, tracker).is_none() {
            self.count.fetch_add(1, Release);
        }
        let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        for prefix in &choice.prefixes {
            prefixes.entry(prefix.clone()).or_default().insert(client.id);
        }
    }

    /// Ends a client's tracking.
    pub fn end(&self, client_id: u64, choice: &Choice) {
        if self.trackers.remove(&client_id).is_some() && self.count.fetch_sub(1, Release) == 1 {
            self.forget_the_gone();
        }
        let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        for prefix in &choice.prefixes {
            if let Some(clients) = prefixes.get_mut(prefix) {
                clients.remove(&client_id);
                if clients.is_empty() {
                    prefixes.remove(prefix);
                }
            }
        }
    }

    /// Empties the table of clients that no longer track: while nobody does, nothing else would.
    fn forget_the_gone(&self) {
        // One that begins meanwhile has entered itself before its keys.
        self.keys.retain(|_, readers| {
            let len = readers.len();
            readers.retain(|reader| self.trackers.contains_key(reader));
            self.items_len.fetch_sub(len - readers.len(), Relaxed);
            self.keys_len.fetch_sub(usize::from(readers.is_empty()), Relaxed);
            !readers.is_empty()
        });
    }

    /// How many clients track, keys are in the table, clients stand at them, and prefixes.
    #[must_use]
    pub fn sizes(&self) -> [usize; 4] {
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner).len();
        let load = |count: &AtomicUsize| count.load(Relaxed);
        [load(&self.count), load(&self.keys_len), load(&self.items_len), prefixes]
    }

    /// Enters a key that a client is about to read; over `keys_max` another key is given up.
    pub fn remember(&self, clients: &Registry, client_id: u64, key: &[u8], keys_max: usize) {
        let mut is_new = false;
        let entered = self
            .keys
            .entry(Bytes::copy_from_slice(key))
            .or_insert_with(|| {
                is_new = true;
                BTreeSet::new()
            })
            .insert(client_id);
        self.items_len.fetch_add(usize::from(entered), Relaxed);
        if is_new && self.keys_len.fetch_add(1, Relaxed) >= keys_max && keys_max > 0 {
            self.give_up(clients, 1, Some(key));
        }
    }

    /// Gives up keys over `keys_max`, a bounded number of them: the limit may have been lowered.
    pub fn limit(&self, clients: &Registry, keys_max: usize) {
        /// So many keys take well under a millisecond.
        const KEYS_PER_ROUND: usize = 1000;
        let over = self.keys_len.load(Relaxed).saturating_sub(keys_max);
        if keys_max > 0 && over > 0 {
            self.give_up(clients, over.min(KEYS_PER_ROUND), None);
        }
    }

    /// Tells the readers of some keys, whichever but `kept`, that these have changed.
    fn give_up(&self, clients: &Registry, count: usize, kept: Option<&[u8]>) {
        let others = self.keys.iter().filter(|entry| kept != Some(&entry.key()[..]));
        let keys: Vec<Bytes> = others.take(count).map(|entry| entry.key().clone()).collect();
        for key in keys {
            self.invalidate_read(clients, &key, Cause::Server);
        }
    }

    /// Tells of changed keys, those of one command together.
    pub fn invalidate(&self, clients: &Registry, changed: &[(Bytes, Cause)]) {
        for (key, cause) in changed {
            self.invalidate_read(clients, key, *cause);
        }
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        for (prefix, listeners) in prefixes.iter() {
            for cause in [Cause::Command, Cause::Server] {
                let keys: BTreeSet<&Bytes> = changed
                    .iter()
                    .filter(|(key, by)| *by == cause && key.starts_with(prefix))
                    .map(|(key, _)| key)
                    .collect();
                if !keys.is_empty() {
                    let message = Arc::new(PushMessage::invalidation(keys));
                    for listener in listeners {
                        self.tell(clients, *listener, cause, &message);
                    }
                }
            }
        }
    }

    /// Takes a key out of the table and tells those who have read it.
    fn invalidate_read(&self, clients: &Registry, key: &Bytes, cause: Cause) {
        let Some(readers) = self.take(key, cause) else { return };
        let message = Arc::new(PushMessage::invalidation(std::slice::from_ref(key)));
        for reader in readers {
            if !self.trackers.get(&reader).is_some_and(|tracker| tracker.broadcast) {
                self.tell(clients, reader, cause, &message);
            }
        }
    }

    /// Takes out the readers of a key. The caller stays if it has read its own change, and is
    /// among those to tell only if it had read the key before that change, too.
    fn take(&self, key: &Bytes, cause: Cause) -> Option<BTreeSet<u64>> {
        if let Some((caller, _)) = caller()
            && cause == Cause::Command
            && CURRENT.with_borrow(|current| current.contains(&key[..]))
        {
            let mut entry = self.keys.get_mut(key)?;
            if entry.contains(&caller) {
                let mut readers = std::mem::replace(&mut *entry, BTreeSet::from([caller]));
                if !OUTDATED.with_borrow_mut(|outdated| outdated.remove(&key[..])) {
                    readers.remove(&caller);
                }
                let gone = readers.len() - usize::from(readers.contains(&caller));
                self.items_len.fetch_sub(gone, Relaxed);
                return Some(readers);
            }
        }
        let (_, readers) = self.keys.remove(key)?;
        self.keys_len.fetch_sub(1, Relaxed);
        self.items_len.fetch_sub(readers.len(), Relaxed);
        Some(readers)
    }

    /// Tells everyone that all keys are gone.
    pub fn flushed(&self, clients: &Registry) {
        self.keys.retain(|_, readers| {
            self.keys_len.fetch_sub(1, Relaxed);
            self.items_len.fetch_sub(readers.len(), Relaxed);
            false
        });
        let message = Arc::new(PushMessage::invalidation_of_all());
        let trackers: Vec<u64> = self.trackers.iter().map(|entry| *entry.key()).collect();
        for tracker in trackers {
            self.tell(clients, tracker, Cause::Server, &message);
        }
    }

    fn tell(&self, clients: &Registry, id: u64, cause: Cause, message: &Arc<PushMessage>) {
        let Some(tracker) = self.trackers.get(&id).map(|entry| entry.value().clone()) else {
            return;
        };
        let own = cause == Cause::Command && caller().is_some_and(|(caller, _)| caller == id);
        if tracker.no_loop && own {
            return;
        }
        let Some(redirect) = tracker.redirect else {
            tracker.client.push_invalidation(message, false);
            return;
        };
        match clients.get(redirect) {
            Some(target) => target.push_invalidation(message, true),
            None => {
                tracker.client.shown.broken_redirect.store(true, Relaxed);
                let broken = PushMessage::new(vec![
                    Reply::bulk(b"tracking-redir-broken"),
                    Reply::Integer(i64::try_from(redirect).unwrap_or(i64::MAX)),
                ]);
                tracker.client.push_invalidation(&Arc::new(broken), false);
            }
        }
    }
}

/// The tracking client whose command this thread runs.
#[must_use]
pub fn caller() -> Option<(u64, Reads)> {
    CALLER.get()
}

/// Runs a tracking client's command, so that what it reads and changes is known as its own.
pub fn as_caller<T>(client_id: u64, reads: Reads, run: impl FnOnce() -> T) -> T {
    CALLER.set(Some((client_id, reads)));
    let result = run();
    CALLER.set(None);
    CURRENT.with_borrow_mut(BTreeSet::clear);
    OUTDATED.with_borrow_mut(BTreeSet::clear);
    result
}

/// Runs what is nobody's command, though a client's command brought it about.
pub fn as_nobody<T>(run: impl FnOnce() -> T) -> T {
    let before = CALLER.take();
    let result = run();
    CALLER.set(before);
    result
}

/// Notes that the caller's command reads a key, in the order of its commands.
pub fn note_read(key: &[u8]) {
    CURRENT.with_borrow_mut(|current| current.insert(key.to_vec()));
}

/// Notes that the caller's command may change a key.
pub fn note_change(tracking: &Tracking, client_id: u64, key: &[u8]) {
    CURRENT.with_borrow_mut(|current| current.remove(key));
    if tracking.keys.get(key).is_some_and(|readers| readers.contains(&client_id)) {
        OUTDATED.with_borrow_mut(|outdated| outdated.insert(key.to_vec()));
    }
}
