//! What a connection remembers between commands.
//!
//! A [`Session`] belongs to its connection's task alone; what others may see or do of a client
//! (CLIENT LIST, CLIENT KILL, messages) goes through its [`Client`], which is shared.

pub mod client;
pub mod registry;
pub mod tracking;

use std::sync::Arc;

pub use client::{Client, Kill};
use holdfast_engine::context::Touch;
use holdfast_engine::engine::Watch;
use holdfast_engine::time::DbIndex;
pub use registry::Registry;

use crate::acl::{User, Users};
use crate::pubsub::{PushSink, Registry as PubSub, Subscriptions};
use crate::resp::Protocol;

/// Whether replies are sent, CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// They are.
    #[default]
    On,
    /// None until CLIENT REPLY ON.
    Off,
    /// Not the one of the next command.
    SkipNext,
    /// Not the one of this command.
    Skip,
}

/// A user, and the client that runs a command for it.
pub type Caller = (Arc<User>, Arc<Client>);

/// A queue of commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Queue {
    /// The commands' arguments, in order.
    pub commands: Vec<Vec<Vec<u8>>>,
    /// Bytes the arguments take.
    pub len_bytes: usize,
    /// A command was refused while queueing: EXEC will answer EXECABORT.
    pub failed: bool,
}

/// A connection's state.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// The selected database.
    pub db: DbIndex,
    /// RESP2 or RESP3.
    pub protocol: Protocol,
    /// Whether it has logged in, or need not.
    pub authenticated: bool,
    /// Its user, as it was when `users_version` was the users'.
    pub user: Arc<User>,
    users_version: u64,
    /// Whether nobody need ask what it may do: the one thing that every command looks at.
    pub unrestricted: bool,
    /// Between MULTI and EXEC.
    pub queue: Option<Queue>,
    /// What WATCH saw.
    pub watches: Vec<Watch>,
    /// A WATCH came to nothing: it was refused, or its leader lost leadership. The next EXEC must
    /// fail, because nobody knows whether the watched keys have changed.
    pub watch_lost: bool,
    /// Whether replies are sent.
    pub reply_mode: ReplyMode,
    /// Whether its looks at keys count as uses.
    pub touch: Touch,
    /// What CLIENT TRACKING chose, if it tracks.
    pub tracking: Option<Box<tracking::Choice>>,
    /// What it listens to.
    pub subscriptions: Subscriptions,
    /// Whether every command of the server is sent to it.
    pub monitor: bool,
    /// Whether it reads on this node, though another leads (READONLY).
    pub readonly: bool,
    /// Whether it knows Redis Cluster's ways: then it is told where the leader is (`MOVED`)
    /// rather than served through it.
    pub moves: bool,
    /// In a cluster: what it has written is below this index of the log.
    pub seen_index: u64,
    /// Close once what was answered is sent.
    pub closing: bool,
}

impl Session {
    /// A new connection's session.
    #[must_use]
    pub fn new(pubsub: &Arc<PubSub>, client: Arc<Client>, users: &Users) -> Self {
        let sink: Arc<dyn PushSink> = Arc::clone(&client) as _;
        let subscriptions = Subscriptions::new(Arc::clone(pubsub), client.id, sink);
        let mut session = Self {
            client,
            db: DbIndex(0),
            protocol: Protocol::Resp2,
            authenticated: false,
            user: users.default_user(),
            users_version: 0,
            unrestricted: false,
            queue: None,
            watches: Vec::new(),
            watch_lost: false,
            reply_mode: ReplyMode::On,
            touch: Touch::Counts,
            tracking: None,
            subscriptions,
            monitor: false,
            readonly: false,
            moves: false,
            seen_index: 0,
            closing: false,
        };
        session.log_out(users);
        session
    }

    /// Becomes `default`, as every connection begins.
    pub fn log_out(&mut self, users: &Users) {
        self.authenticated = !users.asks_password();
        self.become_user(users.default_user(), users);
    }

    /// Becomes a user whose password it has shown.
    pub fn log_in(&mut self, user: Arc<User>, users: &Users) {
        self.authenticated = true;
        self.become_user(user, users);
    }

    fn become_user(&mut self, user: Arc<User>, users: &Users) {
        self.client.set_user(user.name());
        self.user = user;
        self.renew_user(users);
    }

    /// Takes up what has changed of its user since it last looked. Called whenever commands are
    /// about to be run, so that a change holds for all that comes after it.
    #[inline]
    pub fn refresh_user(&mut self, users: &Users) {
        if users.version() != self.users_version {
            self.renew_user(users);
        }
    }

    #[cold]
    fn renew_user(&mut self, users: &Users) {
        // First the version: what changes meanwhile is seen next time.
        self.users_version = users.version();
        match users.get(self.user.name()) {
            Some(user) if self.client.killed() != Kill::Now => self.user = user,
            // It was removed, and all that use it are to go.
            _ => self.closing = true,
        }
        let known = self.authenticated || !users.asks_password();
        self.unrestricted = known && self.user.is_unrestricted();
    }

    /// Whose rights bound what its scripts call; `None` if nothing does.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        let caller = || (Arc::clone(&self.user), Arc::clone(&self.client));
        (!self.unrestricted).then(caller)
    }

    /// Whether it has any subscription.
    #[must_use]
    pub fn is_subscriber(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether only the subscriber commands are allowed: with a subscription in RESP2.
    #[must_use]
    pub fn in_subscriber_mode(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.is_subscriber()
    }

    /// Forgets MULTI and WATCH.
    pub fn discard(&mut self) {
        self.queue = None;
        self.watches.clear();
        self.watch_lost = false;
        self.publish();
    }

    /// Opens a transaction that can only fail: MULTI could not run, and what is sent behind it must
    /// not run by itself.
    pub fn begin_failed_transaction(&mut self) {
        self.queue = Some(Queue { failed: true, ..Queue::default() });
        self.publish();
    }

    /// Gives up the watches, which nobody can check any more.
    pub fn lose_watches(&mut self) {
        self.watches.clear();
        self.watch_lost = true;
        self.publish();
    }

    /// Lets CLIENT LIST see the state as it is now.
    pub fn publish(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let shown = &self.client.shown;
        shown.db.store(u32::from(self.db.0), Relaxed);
        shown.resp.store(if self.protocol == Protocol::Resp3 { 3 } else { 2 }, Relaxed);
        let queued = self.queue.as_ref().map_or(-1, |queue| queue.commands.len() as i64);
        shown.multi.store(queued, Relaxed);
        shown.multi_mem.store(self.queue.as_ref().map_or(0, |queue| queue.len_bytes), Relaxed);
        shown.watches.store(self.watches.len(), Relaxed);
        shown.sub.store(self.subscriptions.channels().len(), Relaxed);
        shown.psub.store(self.subscriptions.patterns().len(), Relaxed);
        shown.ssub.store(self.subscriptions.shard_count(), Relaxed);
        shown.monitor.store(self.monitor, Relaxed);
        shown.closing.store(self.closing, Relaxed);
        let tracking = self.tracking.as_deref();
        shown.tracking.store(tracking.is_some(), Relaxed);
        let broadcast = tracking.is_some_and(|choice| choice.mode == tracking::Mode::Broadcast);
        shown.broadcast.store(broadcast, Relaxed);
        shown.redir.store(tracking::Choice::redirection(tracking), Relaxed);
        shown.no_touch.store(self.touch == Touch::Leaves, Relaxed);
    }
}
