//! What others see of a client and do to it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use holdfast_engine::Reply;
use holdfast_engine::time::DbIndex;

use crate::pubsub::{PushMessage, PushSink};
use crate::resp::{Protocol, encode_into};

/// How a client is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kill {
    /// It stays.
    No = 0,
    /// At once.
    Now = 1,
    /// Once it has been sent what it was answered (CLIENT KILL of oneself).
    AfterReply = 2,
}

/// The facts CLIENT LIST shows; written by the client's own task once per batch.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each bears the name of CLIENT LIST's field")]
pub struct Shown {
    pub db: AtomicU32,
    pub resp: AtomicU8,
    /// -1 outside MULTI.
    pub multi: AtomicI64,
    pub multi_mem: AtomicUsize,
    pub watches: AtomicUsize,
    pub sub: AtomicUsize,
    pub psub: AtomicUsize,
    pub ssub: AtomicUsize,
    pub monitor: AtomicBool,
    pub closing: AtomicBool,
    pub no_touch: AtomicBool,
    pub no_evict: AtomicBool,
    pub tracking: AtomicBool,
    pub broadcast: AtomicBool,
    pub broken_redirect: AtomicBool,
    /// The client its invalidations go to, 0 for none, -1 without tracking.
    pub redir: AtomicI64,
    pub blocked: AtomicBool,
    /// Held up by CLIENT PAUSE, which CLIENT UNBLOCK does not end.
    pub paused: AtomicBool,
    pub query_buffer_len: AtomicUsize,
    pub query_buffer_free: AtomicUsize,
    pub output_len: AtomicUsize,
    /// Clock of the last command, monotonic microseconds.
    pub last_used_us: AtomicU64,
    /// Id of the last command's row, plus one.
    pub last_command: AtomicU32,
    pub commands: AtomicU64,
}

/// The names a client gives itself.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
}

/// Messages on their way to a client, outside the order of its replies.
#[derive(Debug, Default)]
struct Outbox {
    chunks: VecDeque<Bytes>,
    len_bytes: usize,
    /// Messages are dropped from here on: the connection is gone or the limit was hit.
    closed: bool,
}

/// A connected client, as others hold it.
#[derive(Debug)]
pub struct Client {
    /// Its number, never used twice.
    pub id: u64,
    /// Its address as CLIENT LIST shows it.
    pub addr: String,
    /// The server's end of the connection.
    pub local_addr: String,
    /// The file descriptor.
    pub fd: i32,
    /// Whether it came by the Unix socket.
    pub is_unix: bool,
    /// When it connected, monotonic microseconds.
    pub connected_us: u64,
    /// What CLIENT LIST shows of its session.
    pub shown: Shown,
    names: Mutex<Names>,
    /// The name of its user; none for `default`.
    user: Mutex<Option<Arc<[u8]>>>,
    outbox: Mutex<Outbox>,
    outbox_used: AtomicBool,
    killed: AtomicU8,
    to_release: AtomicBool,
    /// Whether it is changing users: should that end it, it is told first.
    changes_users: AtomicBool,
    unblock: Mutex<Option<Unblock>>,
    protocol_is_3: AtomicBool,
    /// Most bytes of messages that may wait; 0 for no limit. From client-output-buffer-limit pubsub.
    pub push_limit_bytes: AtomicUsize,
    waker: AtomicWaker,
}

/// How a blocked client goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Unblock {
    /// It is served: this is its reply.
    Served(Reply, DbIndex),
    /// This node no longer leads, and nothing was done: the wait goes on at the next leader.
    Moved,
    /// CLIENT UNBLOCK id TIMEOUT.
    Timeout,
    /// CLIENT UNBLOCK id ERROR.
    Error,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client that has just connected.
    #[must_use]
    pub fn new(
        id: u64,
        (addr, local_addr): (String, String),
        fd: i32,
        is_unix: bool,
        connected_us: u64,
    ) -> Self {
        let client = Self {
            id,
            addr,
            local_addr,
            fd,
            is_unix,
            connected_us,
            shown: Shown::default(),
            names: Mutex::default(),
            user: Mutex::default(),
            outbox: Mutex::default(),
            outbox_used: AtomicBool::new(false),
            killed: AtomicU8::new(0),
            to_release: AtomicBool::new(false),
            changes_users: AtomicBool::new(false),
            unblock: Mutex::new(None),
            protocol_is_3: AtomicBool::new(false),
            push_limit_bytes: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        };
        client.shown.multi.store(-1, Relaxed);
        client.shown.redir.store(-1, Relaxed);
        client.shown.resp.store(2, Relaxed);
        client.shown.last_used_us.store(connected_us, Relaxed);
        client
    }

    /// A copy of its names.
    #[must_use]
    pub fn names(&self) -> Names {
        locked(&self.names).clone()
    }

    /// Changes its names.
    pub fn rename(&self, change: impl FnOnce(&mut Names)) {
        change(&mut locked(&self.names));
    }

    /// The name of its user.
    #[must_use]
    pub fn user(&self) -> Arc<[u8]> {
        locked(&self.user).clone().unwrap_or_else(|| Arc::from(&b"default"[..]))
    }

    /// Notes the name of its user.
    pub fn set_user(&self, name: &Arc<[u8]>) {
        *locked(&self.user) = (**name != *b"default").then(|| Arc::clone(name));
    }

    /// Sets the protocol in which messages are encoded for it.
    pub fn set_protocol(&self, protocol: Protocol) {
        self.protocol_is_3.store(protocol == Protocol::Resp3, Release);
    }

    fn protocol(&self) -> Protocol {
        if self.protocol_is_3.load(Acquire) { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    /// Tells it to go.
    pub fn kill(&self, how: Kill) {
        self.killed.store(how as u8, Release);
        self.waker.wake();
    }

    /// Whether it was told to go.
    #[must_use]
    pub fn killed(&self) -> Kill {
        match self.killed.load(Acquire) {
            0 => Kill::No,
            1 => Kill::Now,
            _ => Kill::AfterReply,
        }
    }

    /// Notes whether it is changing users.
    pub fn set_changes_users(&self, yes: bool) {
        self.changes_users.store(yes, Release);
    }

    /// Whether it is changing users.
    #[must_use]
    pub fn changes_users(&self) -> bool {
        self.changes_users.load(Acquire)
    }

    /// Tells it to give back the buffer it reads into: it is idle.
    pub fn release_buffer(&self) {
        self.to_release.store(true, Release);
        self.waker.wake();
    }

    /// Whether it was told to give its buffer back; once.
    #[must_use]
    pub fn is_to_release(&self) -> bool {
        self.to_release.load(Relaxed) && self.to_release.swap(false, Acquire)
    }

    /// Notes that its task waits, so that what others do wakes it.
    pub fn register(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
    }

    /// Wakes its task.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Queues encoded bytes to be sent outside the order of replies. A client that does not read
    /// is cut off at its limit.
    pub fn push_bytes(&self, bytes: Bytes) {
        let mut outbox = locked(&self.outbox);
        if outbox.closed {
            return;
        }
        outbox.len_bytes += bytes.len();
        let limit = self.push_limit_bytes.load(Relaxed);
        if limit > 0 && outbox.len_bytes > limit {
            outbox.closed = true;
            outbox.chunks.clear();
            drop(outbox);
            self.kill(Kill::Now);
            return;
        }
        outbox.chunks.push_back(bytes);
        self.outbox_used.store(true, Release);
        drop(outbox);
        self.waker.wake();
    }

    /// Queues a reply to be sent outside the order of replies (MONITOR's lines).
    pub fn push_reply(&self, reply: &Reply) {
        let mut out = Vec::new();
        encode_into(reply, self.protocol(), &mut out);
        self.push_bytes(out.into());
    }

    /// Queues an invalidation. In RESP2 it needs a client that others redirect theirs to, and
    /// that listens.
    pub fn push_invalidation(&self, message: &Arc<PushMessage>, redirected: bool) {
        let protocol = self.protocol();
        let listens = || self.shown.sub.load(Relaxed) + self.shown.psub.load(Relaxed) > 0;
        if protocol == Protocol::Resp3 || redirected && listens() {
            self.push_bytes(message.encoded(protocol).clone());
        }
    }

    /// Takes the messages that wait.
    pub fn take_pushes(&self, mut each: impl FnMut(Bytes)) {
        if !self.outbox_used.load(Acquire) {
            return;
        }
        let mut outbox = locked(&self.outbox);
        self.outbox_used.store(false, Release);
        outbox.len_bytes = 0;
        for chunk in outbox.chunks.drain(..) {
            each(chunk);
        }
    }

    /// Bytes of messages that wait.
    #[must_use]
    pub fn pushes_len(&self) -> usize {
        locked(&self.outbox).len_bytes
    }

    /// Whether messages wait.
    #[inline]
    #[must_use]
    pub fn has_pushes(&self) -> bool {
        self.outbox_used.load(Acquire)
    }

    /// Drops what waits and all that comes.
    pub fn close_outbox(&self) {
        let mut outbox = locked(&self.outbox);
        outbox.closed = true;
        outbox.chunks.clear();
    }

    /// Marks it as blocked; an earlier answer that came too late is forgotten.
    pub fn begin_block(&self) {
        *locked(&self.unblock) = None;
        self.shown.blocked.store(true, Release);
    }

    /// Ends the block and returns how, if it was ended by another.
    pub fn end_block(&self) -> Option<Unblock> {
        self.shown.blocked.store(false, Release);
        locked(&self.unblock).take()
    }

    /// Lets a blocked client go on; false if it is not blocked or already goes on.
    pub fn unblock(&self, how: Unblock) -> bool {
        let mut place = locked(&self.unblock);
        if !self.shown.blocked.load(Acquire) || place.is_some() {
            return false;
        }
        *place = Some(how);
        drop(place);
        self.waker.wake();
        true
    }

    /// Whether something has ended its block.
    #[must_use]
    pub fn is_unblocked(&self) -> bool {
        self.shown.blocked.load(Acquire) && locked(&self.unblock).is_some()
    }

    /// Whether others have done anything that its task must see.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_pushes()
            || self.killed() != Kill::No
            || self.is_unblocked()
            || self.to_release.load(Relaxed)
    }

    /// Sets CLIENT NO-EVICT.
    pub fn set_no_evict(&self, on: bool) {
        self.shown.no_evict.store(on, Release);
    }
}

impl PushSink for Client {
    fn push(&self, message: Arc<PushMessage>) {
        self.push_bytes(message.encoded(self.protocol()).clone());
    }
}
