//! Clients of a simulated cluster, and what they may expect.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::Reply;
use holdfast_engine::context::Touch;
use holdfast_engine::time::DbIndex;
use openraft::AsyncRuntime;
use openraft::errors::{ClientWriteError, RaftError};
use openraft_rt_sim::SimRuntime;

use super::super::batch::{Header, Items, encode};
use super::super::outcome::Outcome;
use super::super::reader::READ_POLICY;
use super::super::types::{Batch, NodeId};
use super::world::{SimRaft, World, assert_holds, now_us};

/// Clients at work.
pub(super) const COUNT: u64 = 3;
/// So long a client waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_millis(900);
/// Half the time it waits only so long, and asks elsewhere: else all clients would soon hang on a
/// leader that is cut off, and nobody would see what its successor does.
const HASTE: Duration = Duration::from_millis(60);
/// A lock is held for so long.
const LOCK_TTL_MS: u64 = 400;
/// A clock on its way to wall time gains at most one part in so many.
const SLEW_PARTS: u64 = 2_000;

/// What became of a write.
pub(super) enum Written {
    Done(Vec<Outcome>),
    NotDone,
    Unknown,
}

struct Client {
    world: Arc<World>,
    number: u64,
    next: u64,
}

/// Writes at one node, and waits for so long at most.
pub(super) async fn write_at(
    world: &World,
    id: NodeId,
    raft: &SimRaft,
    items: &Items,
    patience: Duration,
) -> Written {
    let Some(stamp) = world.stamp(id) else { return Written::NotDone };
    let seed = world.random.below(u64::MAX);
    let header = Header { stamp, seed, instruction_limit: 100_000 };
    let bytes = encode(header, [items].into_iter());
    let write = raft.client_write(Batch(bytes));
    match SimRuntime::timeout(patience, write).await {
        Ok(Ok(response)) => {
            world.tally.acknowledged.fetch_add(1, Relaxed);
            Written::Done(response.data)
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Written::NotDone,
        Ok(Err(_)) | Err(_) => {
            world.tally.unknown.fetch_add(1, Relaxed);
            Written::Unknown
        }
    }
}

/// Reads at one node. A linearizable read must see all that anyone was promised before it began.
pub(super) async fn read_at(world: &World, id: NodeId, raft: &SimRaft, patience: Duration) {
    let before = world.promised.lock().expect("the promises").clone();
    let read = raft.ensure_linearizable(READ_POLICY);
    let Ok(Ok(_)) = SimRuntime::timeout(patience, read).await else { return };
    for (client, promised) in &before {
        let Some(list) = world.list(id, *client) else { return };
        assert_holds(&list, promised, *client);
    }
    world.tally.reads.fetch_add(1, Relaxed);
}

/// Reads, and nothing else, until the clients are stopped.
pub(super) async fn watch(world: Arc<World>) {
    while world.clients_go_on() {
        SimRuntime::sleep(Duration::from_millis(1 + world.random.below(40))).await;
        let Some((id, raft)) = world.leader() else { continue };
        read_at(&world, id, &raft, HASTE).await;
    }
}

/// Works until the clients are stopped.
pub(super) async fn run(world: Arc<World>, number: u64) {
    let mut client = Client { world, number, next: 0 };
    while client.world.clients_go_on() {
        let pause = 1 + client.world.random.below(25);
        SimRuntime::sleep(Duration::from_millis(pause)).await;
        client.world.note_leaders();
        match client.world.random.below(13) {
            0..=4 => client.push().await,
            5 => client.read().await,
            6 => client.lock().await,
            7 => client.draw().await,
            8 => client.transact().await,
            9 => client.script().await,
            10 => client.native_lock().await,
            11 => client.lease().await,
            _ => client.function().await,
        }
    }
}

impl Client {
    async fn write(&self, items: Items) -> Written {
        let Some((id, raft)) = self.world.leader() else { return Written::NotDone };
        write_at(&self.world, id, &raft, &items, self.patience()).await
    }

    fn patience(&self) -> Duration {
        if self.world.random.below(2) == 0 { HASTE } else { PATIENCE }
    }

    async fn command(&self, args: &[&[u8]]) -> Option<Reply> {
        let mut items = Items::default();
        items.command(DbIndex(0), Touch::Counts, args);
        match self.write(items).await {
            Written::Done(outcomes) => match outcomes.into_iter().next()? {
                Outcome::Reply { reply, .. } => Some(reply),
                Outcome::Wait(_) | Outcome::Transaction(_) => None,
            },
            Written::NotDone | Written::Unknown => None,
        }
    }

    fn promise(&self, number: u64) {
        self.world.promise(self.number, number);
    }

    /// A number at the end of the client's own list.
    async fn push(&mut self) {
        self.next += 1;
        let (key, value) = (format!("list:{}", self.number), self.next.to_string());
        if self.command(&[b"rpush", key.as_bytes(), value.as_bytes()]).await.is_some() {
            self.promise(self.next);
        }
    }

    /// The same by a transaction that also writes elsewhere.
    async fn transact(&mut self) {
        self.next += 1;
        let (key, value) = (format!("list:{}", self.number), self.next.to_string());
        let push: &[&[u8]] = &[b"rpush", key.as_bytes(), value.as_bytes()];
        let incr: &[&[u8]] = &[b"incr", b"transactions"];
        let mut items = Items::default();
        let steps = [(DbIndex(0), push), (DbIndex(1), incr)];
        items.transaction(DbIndex(0), Touch::Counts, &steps, &[]);
        if let Written::Done(_) = self.write(items).await {
            self.promise(self.next);
        }
    }

    /// And by a script.
    async fn script(&mut self) {
        self.next += 1;
        let (key, value) = (format!("list:{}", self.number), self.next.to_string());
        let body = b"redis.call('set', 'random', math.random(1000)) \
            redis.call('zadd', 'z', redis.call('time')[1], ARGV[1]) \
            return redis.call('rpush', KEYS[1], ARGV[1])";
        let args: &[&[u8]] = &[b"eval", body, b"1", key.as_bytes(), value.as_bytes()];
        if let Some(reply) = self.command(args).await {
            assert!(matches!(reply, Reply::Integer(_)), "{reply:?}");
            self.promise(self.next);
        }
    }

    /// What depends on seed and time: members drawn at random, keys that expire.
    async fn draw(&mut self) {
        self.next += 1;
        let value = self.next.to_string();
        self.command(&[b"sadd", b"set", value.as_bytes(), b"a", b"b", b"c"]).await;
        self.command(&[b"spop", b"set", b"2"]).await;
        let key = format!("expiring:{}", self.next % 7);
        self.command(&[b"set", key.as_bytes(), value.as_bytes(), b"px", b"120"]).await;
    }

    async fn read(&self) {
        let Some((id, raft)) = self.world.leader() else { return };
        read_at(&self.world, id, &raft, self.patience()).await;
    }

    /// A lock: while one client holds it, no other gets it, whatever wall clocks say.
    async fn lock(&self) {
        let asked_us = now_us();
        let (owner, ttl) = (self.number.to_string(), LOCK_TTL_MS.to_string());
        let args: &[&[u8]] = &[b"set", b"lock", owner.as_bytes(), b"nx", b"px", ttl.as_bytes()];
        let Some(reply) = self.command(args).await else { return };
        if reply == Reply::Ok {
            self.hold("set nx", asked_us);
        }
    }

    /// Notes that a lock was granted that was asked for at `asked_us`.
    fn hold(&self, name: &'static str, asked_us: u64) {
        self.world.tally.locks.fetch_add(1, Relaxed);
        let got_us = now_us();
        let ttl_us = LOCK_TTL_MS * 1000;
        // It was given between asking and getting; it lasts the TTL, less what clocks may gain and
        // the millisecond in which it was given.
        let until_us = asked_us + ttl_us - ttl_us / SLEW_PARTS - 1_000;
        let others = self.world.hold_lock(name, until_us);
        assert!(
            others.is_none_or(|held_until_us| held_until_us <= got_us),
            "the lock '{name}' was given at {got_us}, though it was held until {others:?}"
        );
    }

    /// The same by the native family, whose tokens grow from grant to grant; some are given back.
    async fn native_lock(&mut self) {
        self.next += 1;
        let asked_us = now_us();
        let before = self.world.greatest_token();
        let owner = format!("{}:{}", self.number, self.next);
        let ttl = LOCK_TTL_MS.to_string();
        let args: &[&[u8]] = &[b"lock.acquire", b"native", owner.as_bytes(), ttl.as_bytes()];
        let Some(Reply::Record(fields)) = self.command(args).await else { return };
        let Some((_, Reply::Integer(token))) = fields.first() else { panic!("no token") };
        let token = *token as u64;
        assert!(token > before, "token {token} after {before}");
        self.world.note_token(token);
        self.hold("native", asked_us);
        if self.world.random.below(2) == 0 {
            // From here on others may have it.
            self.world.hold_lock("native", now_us());
            let token = token.to_string();
            let args: &[&[u8]] = &[b"lock.release", b"native", owner.as_bytes(), token.as_bytes()];
            self.command(args).await;
        }
    }

    /// A lease, a string and a shared lock that depend on it; some are renewed or revoked.
    async fn lease(&mut self) {
        self.next += 1;
        let value = self.next.to_string();
        let Some(Reply::Integer(lease)) = self.command(&[b"lease.grant", b"150"]).await else {
            return;
        };
        let (lease, key) = (lease.to_string(), format!("leased:{}", self.number));
        let lease = lease.as_bytes();
        self.command(&[b"set", key.as_bytes(), value.as_bytes(), b"lease", lease]).await;
        let owner = format!("{}:{value}", self.number);
        let args: &[&[u8]] =
            &[b"lock.acquire", b"shared", owner.as_bytes(), b"lease", lease, b"shared"];
        self.command(args).await;
        match self.world.random.below(3) {
            0 => drop(self.command(&[b"lease.renew", lease]).await),
            1 => drop(self.command(&[b"lease.revoke", lease]).await),
            _ => {}
        }
    }

    /// A number at the end of the client's list by a function of a library.
    async fn function(&mut self) {
        self.next += 1;
        if self.world.random.below(4) == 0 {
            let code = format!(
                "#!lua name=lib\n-- {} {}\n redis.register_function('push', function(keys, args) \
                 return redis.call('rpush', keys[1], args[1]) end)",
                self.number, self.next
            );
            self.command(&[b"function", b"load", b"replace", code.as_bytes()]).await;
        }
        let (key, value) = (format!("list:{}", self.number), self.next.to_string());
        let args: &[&[u8]] = &[b"fcall", b"push", b"1", key.as_bytes(), value.as_bytes()];
        // Until somebody has loaded it there is no such function.
        if let Some(Reply::Integer(_)) = self.command(args).await {
            self.promise(self.next);
        }
    }
}
