//! A cluster of real processes under load and faults, and a judgement of what its clients saw.
//!
//! Faults are SIGKILL, SIGSTOP, SIGTERM, leadership moved, disks that dawdle, and, where network
//! namespaces may be made, links that are cut: whole nodes, one way, in halves, with a bridge.
//! Clocks that are set are the simulation's, in `commit::raft::sim`.

mod faults;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::client::{Client, Received};
use faults::Faults;

use crate::cluster::{Cluster, Place};
use crate::history::{Event, Held, Op, Token, shared_locks, tokens_out_of_order, violations};
use crate::netns::Net;
use crate::wire::Reply;
use crate::{skip_loudly, slow_disk};

/// Clients at work at a time.
const CLIENTS: u64 = 8;
/// A key is written for so long, then others take its place: short histories are soon judged.
const KEY_LIFE: Duration = Duration::from_millis(1_500);
/// A lock's time to live.
const LOCK_TTL: Duration = Duration::from_millis(300);
/// Some wait so long for a lock.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// A client waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nodes of the cluster.
    pub nodes: usize,
    /// For how long.
    pub time: Duration,
    /// What chance is drawn from.
    pub seed: u64,
    /// Whether progress is told on standard error.
    pub tell: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Operations that were answered.
    pub answered: usize,
    /// Those refused: nothing was done.
    pub refused: usize,
    /// Those of which nobody knows.
    pub unknown: usize,
    /// Locks given.
    pub locks: usize,
    /// Keys judged.
    pub keys: usize,
    /// Keys whose history no order explains.
    pub violations: Vec<String>,
    /// Pairs that held one lock at one time.
    pub shared_locks: usize,
    /// Fencing tokens given out.
    pub tokens: usize,
    /// Those not greater than one that was given out before.
    pub tokens_out_of_order: usize,
    /// The longest time without an answer to anybody.
    pub longest_silence: Duration,
}

/// A generator of numbers from a seed.
pub struct Random(u64);

impl Random {
    /// One that begins with `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    /// By SET NX, and by the native family.
    held: [Vec<Held>; 2],
    tokens: Vec<Token>,
    refused: usize,
    /// When answers came.
    last_answer: u64,
    longest_silence: u64,
}

/// What became of one command.
enum Told {
    Reply(Reply),
    Refused,
    Unknown,
}

struct Worker<'a> {
    addrs: &'a [SocketAddr],
    began: Instant,
    random: Random,
    number: u64,
    client: Option<Client>,
    next: i64,
    seen: &'a Mutex<Seen>,
}

/// Where the nodes run, and what can be done to them; what this machine does not allow is said.
fn surroundings(count: usize) -> (Vec<Place>, Faults) {
    let net = Net::new(count).map_err(|why| skip_loudly(&format!("cut links: {why}"))).ok();
    // Two plans may begin at once in one process; they have different numbers of nodes.
    let probe = format!("holdfast-torture-{}-{count}", std::process::id());
    let probe = std::env::temp_dir().join(probe);
    let dawdle = std::fs::create_dir_all(&probe)
        .map_err(|error| error.to_string())
        .and_then(|()| slow_disk::environment(&probe))
        .map_err(|why| skip_loudly(&format!("slow disks: {why}")))
        .is_ok();
    let _ = std::fs::remove_dir_all(&probe);
    let place = |place: usize| match &net {
        Some(net) => Place {
            host: net.addr(place),
            prefix: net.prefix(place),
            dawdles: dawdle,
            ..Place::default()
        },
        None => Place { dawdles: dawdle, ..Place::default() },
    };
    let places = (0..count).map(place).collect();
    (places, Faults { net, dawdle })
}

/// Runs a plan on a new cluster.
///
/// # Panics
/// When the cluster cannot be formed, or does not come to itself in the end.
#[must_use]
pub fn run(plan: Plan) -> Report {
    let (places, faults) = surroundings(plan.nodes);
    let mut cluster = Cluster::at(&places, &[]);
    let addrs: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.addr()).collect();
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    let began = Instant::now();
    let mut report = Report::default();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let random = Random::new(plan.seed.wrapping_mul(1_000_003) + number);
            let (addrs, seen, stop) = (&addrs, &seen, &stop);
            scope.spawn(move || {
                let mut worker =
                    Worker { addrs, began, random, number, client: None, next: 0, seen };
                while !stop.load(Relaxed) {
                    worker.work();
                }
            });
        }
        let mut random = Random::new(plan.seed);
        while began.elapsed() < plan.time {
            std::thread::sleep(Duration::from_millis(200 + random.below(900)));
            let fault = faults.disturb(&mut cluster, &mut random);
            *report.faults.entry(fault).or_default() += 1;
            if plan.tell {
                let seen = seen.lock().expect("what was seen");
                let (done, events) = (began.elapsed().as_secs(), seen.events.len());
                eprintln!("{done:>6} s  {events:>8} operations  {fault}");
            }
        }
        for node in &mut cluster.nodes {
            if !node.is_alive() {
                node.start();
            }
        }
        stop.store(true, Relaxed);
    });
    cluster.assert_alike();
    let seen = seen.into_inner().expect("what was seen");
    report.unknown = seen.events.iter().filter(|event| event.returned.is_none()).count();
    report.answered = seen.events.len() - report.unknown;
    report.refused = seen.refused;
    report.locks = seen.held.iter().map(Vec::len).sum();
    report.tokens = seen.tokens.len();
    report.tokens_out_of_order = tokens_out_of_order(&seen.tokens);
    let keys: std::collections::BTreeSet<_> = seen.events.iter().map(|event| &event.key).collect();
    report.keys = keys.len();
    report.violations = violations(&seen.events);
    report.shared_locks = seen.held.iter().map(|held| shared_locks(held)).sum();
    report.longest_silence = Duration::from_nanos(seen.longest_silence);
    report
}

impl Worker<'_> {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn command(&mut self, args: &[String]) -> Told {
        if self.client.is_none() || self.random.below(40) == 0 {
            let place = self.random.below(self.addrs.len() as u64) as usize;
            self.client = Client::connect(self.addrs[place]).ok();
        }
        let Some(client) = &mut self.client else {
            std::thread::sleep(Duration::from_millis(5));
            return Told::Refused;
        };
        if client.send(args).is_err() {
            self.client = None;
            return Told::Unknown;
        }
        match client.receive(PATIENCE) {
            Received::Reply(reply)
                if ["CLUSTERDOWN", "LOADING", "UNBLOCKED"].iter().any(|no| reply.is_error(no)) =>
            {
                self.client = None;
                Told::Refused
            }
            Received::Reply(reply) if reply.is_error("UNKNOWN") => {
                self.client = None;
                Told::Unknown
            }
            Received::Reply(reply) => {
                assert!(!matches!(reply, Reply::Error(_)), "{args:?}: {reply:?}");
                Told::Reply(reply)
            }
            Received::Nothing | Received::Closed => {
                self.client = None;
                Told::Unknown
            }
        }
    }

    fn note(&self, key: &str, op: Op, called: u64, is_known: bool) {
        let now = self.now();
        let mut seen = self.seen.lock().expect("what was seen");
        if is_known {
            seen.longest_silence =
                seen.longest_silence.max(now.saturating_sub(seen.last_answer.max(called.min(now))));
            let silence = now.saturating_sub(seen.last_answer);
            seen.longest_silence = seen.longest_silence.max(silence);
            seen.last_answer = now;
        }
        let returned = is_known.then_some(now);
        seen.events.push(Event { key: key.to_owned(), op, called, returned });
    }

    fn work(&mut self) {
        let life = self.began.elapsed().as_nanos() / KEY_LIFE.as_nanos();
        let kind = self.random.below(12);
        if kind == 11 {
            return self.lock();
        }
        self.next += 1;
        let value = self.next * CLIENTS as i64 + self.number as i64;
        let some = self.random.below(2);
        let (key, args, op) = match kind {
            0..=2 => {
                let key = format!("register:{some}:{life}");
                (key.clone(), vec!["SET".into(), key, value.to_string()], Op::Write(value))
            }
            3 | 4 => {
                let key = format!("register:{some}:{life}");
                (key.clone(), vec!["GET".into(), key], Op::Read(None))
            }
            5 => {
                let key = format!("register:{some}:{life}");
                let Some(from) = self.current(&key) else { return };
                let args = ["SET", &key, &value.to_string(), "IFEQ", &from.to_string()];
                (
                    key.clone(),
                    args.map(str::to_owned).to_vec(),
                    Op::CompareAndSet(from, value, None),
                )
            }
            6 => {
                let key = format!("counter:{some}:{life}");
                (key.clone(), vec!["INCR".into(), key], Op::Increment(None))
            }
            7 => {
                let key = format!("counter:{some}:{life}");
                (key.clone(), vec!["GET".into(), key], Op::Read(None))
            }
            8 => {
                let key = format!("list:{some}:{life}");
                (key.clone(), vec!["RPUSH".into(), key, value.to_string()], Op::Push(value, None))
            }
            9 => {
                let key = format!("list:{some}:{life}");
                (key.clone(), vec!["LPOP".into(), key], Op::Pop(None))
            }
            _ => {
                let key = format!("list:{some}:{life}");
                let args = ["LRANGE", &key, "0", "-1"].map(str::to_owned).to_vec();
                (key.clone(), args, Op::ReadAll(None))
            }
        };
        self.perform(&key, &args, op);
    }

    /// What a register holds now, by a read of its own.
    fn current(&mut self, key: &str) -> Option<i64> {
        let told = self.perform(key, &["GET".into(), key.to_owned()], Op::Read(None))?;
        told.text().parse().ok()
    }

    fn perform(&mut self, key: &str, args: &[String], op: Op) -> Option<Reply> {
        let called = self.now();
        let reply = match self.command(args) {
            Told::Refused => {
                self.seen.lock().expect("what was seen").refused += 1;
                return None;
            }
            Told::Unknown => {
                // A read of which nothing is known says nothing.
                if !matches!(op, Op::Read(_) | Op::ReadAll(_)) {
                    self.note(key, op, called, false);
                }
                return None;
            }
            Told::Reply(reply) => reply,
        };
        let number = |reply: &Reply| reply.text().parse().ok();
        let op = match op {
            Op::Read(_) => Op::Read(Some(number(&reply))),
            Op::Write(value) => Op::Write(value),
            Op::CompareAndSet(from, to, _) => Op::CompareAndSet(from, to, Some(reply.is_ok())),
            Op::Increment(_) => Op::Increment(Some(reply.int())),
            Op::Push(value, _) => Op::Push(value, Some(reply.int() as usize)),
            Op::Pop(_) => Op::Pop(Some(number(&reply))),
            Op::ReadAll(_) => {
                Op::ReadAll(Some(reply.elements().iter().filter_map(number).collect()))
            }
        };
        self.note(key, op, called, true);
        Some(reply)
    }

    /// Takes a lock, holds it for a moment, and lets it go or lets its time run out.
    fn lock(&mut self) {
        let owner = format!("{}:{}", self.number, self.next);
        self.next += 1;
        let ttl = LOCK_TTL.as_millis().to_string();
        let is_native = self.random.below(2) == 0;
        let mut args = match is_native {
            false => ["SET", "lock", &owner, "NX", "PX", &ttl].map(str::to_owned).to_vec(),
            true => ["LOCK.ACQUIRE", "native", &owner, &ttl].map(str::to_owned).to_vec(),
        };
        if is_native && self.random.below(2) == 0 {
            args.extend(["BLOCK".to_owned(), LOCK_PATIENCE.as_millis().to_string()]);
        }
        let called = self.now();
        let Told::Reply(reply) = self.command(&args) else { return };
        if reply.is_nil() {
            return;
        }
        let returned = self.now();
        if is_native {
            let token = reply.elements()[0].int();
            let token = Token { called, returned, token };
            self.seen.lock().expect("what was seen").tokens.push(token);
        }
        // What clocks may gain on their way to wall time.
        let mut until = called + LOCK_TTL.as_nanos() as u64 * 1_999 / 2_000 - 1_000_000;
        if self.random.below(2) == 0 {
            std::thread::sleep(Duration::from_millis(self.random.below(40)));
            until = until.min(self.now());
            let _ = match is_native {
                false => self.command(&["DELIFEQ".to_owned(), "lock".to_owned(), owner]),
                true => self.command(&["LOCK.RELEASE".to_owned(), "native".to_owned(), owner]),
            };
        }
        if until > returned {
            let held = Held { called, returned, until };
            self.seen.lock().expect("what was seen").held[usize::from(is_native)].push(held);
        }
    }
}
