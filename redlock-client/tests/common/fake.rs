//! A node in this process that can be made to misbehave in any way, one command at a time.
//!
//! It knows the commands the client uses, scripts included (by the name in their first line), keeps
//! script digests as a real server does, and lets each test say what to do with each command.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What to do with a command.
#[derive(Clone, Debug)]
pub enum Act {
    Obey,
    /// Neither do it nor answer it, nor anything after it on this connection.
    Ignore,
    /// Do it, but never answer anything on this connection again: the reply is lost.
    Mute,
    /// Do it after a delay; what is behind it on the connection waits.
    Delay(Duration),
    /// Do it at once, answer after a delay.
    AnswerLate(Duration),
    Error(&'static str),
    /// Do it, then close the connection instead of answering.
    HangUp,
    /// Close the connection without doing it.
    Refuse,
}

type Rule = Box<dyn FnMut(&str) -> Act + Send>;

struct State {
    keys: HashMap<String, (String, Instant)>,
    scripts: HashMap<String, String>,
    digests: HashSet<String>,
    rule: Rule,
    log: Vec<String>,
    connections: usize,
    ttl_factor: u32,
    /// Knows the native lock commands.
    native: bool,
    /// The greatest token given.
    counter: u64,
    tokens: HashMap<String, u64>,
}

pub struct FakeNode {
    port: u16,
    state: Arc<Mutex<State>>,
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl FakeNode {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(State {
                keys: HashMap::new(),
                scripts: HashMap::new(),
                digests: HashSet::new(),
                rule: Box::new(|_| Act::Obey),
                log: Vec::new(),
                connections: 0,
                ttl_factor: 1,
                native: false,
                counter: 0,
                tokens: HashMap::new(),
            })),
            tasks: Mutex::new(None),
        };
        node.serve(listener);
        node
    }

    pub async fn many(count: usize) -> Vec<Self> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Self::start().await);
        }
        nodes
    }

    /// Native nodes whose counters differ, so that a grant needs its second phase.
    pub async fn native(count: usize) -> Vec<Self> {
        let nodes = Self::many(count).await;
        for (index, node) in nodes.iter().enumerate() {
            let mut state = node.state.lock().unwrap();
            (state.native, state.counter) = (true, 10 * index as u64);
        }
        nodes
    }

    /// The greatest token the node has given or fenced.
    pub fn counter(&self) -> u64 {
        self.state.lock().unwrap().counter
    }

    /// Gives out tokens from here on, as a node that lost its counter would.
    pub fn set_counter(&self, counter: u64) {
        self.state.lock().unwrap().counter = counter;
    }

    fn serve(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Dropping this task closes every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().unwrap().connections += 1;
                connections.spawn(connection(stream, Arc::clone(&state)));
            }
        });
        *self.tasks.lock().unwrap() = Some(tasks);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Says what to do with each command from now on; it is told the command's name, or the script's.
    pub fn rule(&self, rule: impl FnMut(&str) -> Act + Send + 'static) {
        self.state.lock().unwrap().rule = Box::new(rule);
    }

    pub fn obey(&self) {
        self.rule(|_| Act::Obey);
    }

    /// The same for every command but those that set up the connection.
    pub fn always(&self, act: Act) {
        self.rule(
            move |name| {
                if matches!(name, "PING" | "COMMAND") { Act::Obey } else { act.clone() }
            },
        );
    }

    /// Accepts connections and says nothing, ever.
    pub fn blackhole(&self) {
        self.rule(|_| Act::Ignore);
    }

    /// As a process that is killed: connections break, nothing listens. What it knew stays.
    pub fn stop(&self) {
        *self.tasks.lock().unwrap() = None;
    }

    pub async fn restart(&self) {
        let start = Instant::now();
        loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => return self.serve(listener),
                Err(e) => assert!(start.elapsed() < super::BOUND, "cannot bind again: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Keeps keys so many times longer than asked, as a clock that is far too slow would.
    pub fn stretch_ttls(&self, factor: u32) {
        self.state.lock().unwrap().ttl_factor = factor;
    }

    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        state.keys.clear();
        state.digests.clear();
    }

    /// Forgets one script, by name.
    pub fn forget_script(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        let known = state.scripts.clone();
        state.digests.retain(|digest| known.get(digest).is_none_or(|known| known != name));
    }

    pub fn keys(&self) -> Vec<String> {
        let mut state = self.state.lock().unwrap();
        state.expire();
        state.keys.keys().cloned().collect()
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let mut state = self.state.lock().unwrap();
        state.expire();
        state.keys.get(key).map(|(owner, _)| owner.clone())
    }

    pub fn ttl(&self, key: &str) -> Option<Duration> {
        let state = self.state.lock().unwrap();
        state.keys.get(key).map(|(_, at)| at.saturating_duration_since(Instant::now()))
    }

    /// Makes another owner hold a key.
    pub fn occupy(&self, key: &str, owner: &str) {
        let entry = (owner.to_owned(), Instant::now() + super::LONG);
        self.state.lock().unwrap().keys.insert(key.to_owned(), entry);
    }

    pub fn vacate(&self, key: &str) {
        self.state.lock().unwrap().keys.remove(key);
    }

    /// How often a command or script was received, whatever was done with it.
    pub fn count(&self, name: &str) -> usize {
        self.state.lock().unwrap().log.iter().filter(|entry| *entry == name).count()
    }

    pub fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (mut silent, mut idle) = (false, false);
    while let Some(args) = read_command(&mut reader).await {
        let (name, act) = {
            let mut state = state.lock().unwrap();
            let name = state.name(&args);
            state.log.push(name.clone());
            let act = (state.rule)(&name);
            (name, act)
        };
        match act {
            Act::Ignore => idle = true,
            Act::Mute => silent = true,
            Act::Delay(delay) => tokio::time::sleep(delay).await,
            Act::Refuse => return,
            _ => {}
        }
        if idle {
            continue;
        }
        if let Some(block) = args.iter().position(|arg| arg == "BLOCK") {
            let until = Instant::now() + Duration::from_millis(args[block + 1].parse().unwrap());
            // As a real server: a waiter that is gone is passed over.
            while Instant::now() < until && state.lock().unwrap().is_held(&args[1]) {
                let mut byte = [0];
                let peek = reader.get_mut().peek(&mut byte);
                let gone = tokio::time::timeout(Duration::from_millis(1), peek).await;
                if gone.is_ok_and(|read| read.is_ok_and(|read| read == 0)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let reply = match act {
            Act::Error(text) => format!("-{text}\r\n"),
            _ => state.lock().unwrap().execute(&name, &args),
        };
        match act {
            Act::HangUp => return,
            Act::AnswerLate(delay) => tokio::time::sleep(delay).await,
            _ => {}
        }
        if !silent && writer.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_command(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Vec<String>> {
    let count = read_prefix(reader).await?;
    let mut args = Vec::new();
    for _ in 0..count {
        let mut bytes = vec![0; read_prefix(reader).await? + 2];
        reader.read_exact(&mut bytes).await.ok()?;
        bytes.truncate(bytes.len() - 2);
        args.push(String::from_utf8(bytes).unwrap());
    }
    Some(args)
}

async fn read_prefix(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    Some(line[1..].trim_end().parse().unwrap())
}

impl State {
    fn is_held(&mut self, key: &str) -> bool {
        self.expire();
        self.keys.contains_key(key)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.keys.retain(|_, (_, at)| *at > now);
    }

    /// The script's name for a script, also one whose digest the node does not keep yet.
    fn name(&mut self, args: &[String]) -> String {
        if args[0] == "EVAL" {
            let sha = Sha1::digest(args[1].as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
            let line = args[1].lines().next().unwrap();
            let name = line.strip_prefix("-- redlock:").unwrap().to_owned();
            self.scripts.insert(sha, name);
        }
        match args[0].as_str() {
            "EVAL" => args[1].lines().next().unwrap()["-- redlock:".len()..].to_owned(),
            "EVALSHA" if self.digests.contains(&args[1]) => self.scripts[&args[1]].clone(),
            other => other.to_owned(),
        }
    }

    fn execute(&mut self, name: &str, args: &[String]) -> String {
        self.expire();
        if args[0] == "EVAL" {
            let digests =
                self.scripts.iter().filter(|(_, known)| *known == name).map(|(sha, _)| sha.clone());
            self.digests.extend(digests.collect::<Vec<_>>());
        }
        let int = |n: i64| format!(":{n}\r\n");
        match name {
            "PING" => "+PONG\r\n".to_owned(),
            "COMMAND" if self.native => "*1\r\n*1\r\n$12\r\nlock.acquire\r\n".to_owned(),
            "COMMAND" => "*1\r\n*-1\r\n".to_owned(),
            lock if lock.starts_with("LOCK.") && self.native => self.lock(args),
            "SET" => {
                assert_eq!((&args[3][..], &args[4][..]), ("NX", "PX"));
                if self.keys.contains_key(&args[1]) {
                    return "$-1\r\n".to_owned();
                }
                self.set(&args[1], &args[2], &args[5]);
                "+OK\r\n".to_owned()
            }
            "EVALSHA" => "-NOSCRIPT No matching script.\r\n".to_owned(),
            lock if lock.starts_with("LOCK.") => format!("-ERR unknown command '{lock}'\r\n"),
            _ => {
                let count: usize = args[2].parse().unwrap();
                let (keys, values) = args[3..].split_at(count);
                let owner = &values[0];
                let owners: Vec<_> =
                    keys.iter().map(|k| self.keys.get(k).map(|(o, _)| o.clone())).collect();
                let foreign = owners.iter().flatten().any(|o| o != owner);
                match name {
                    "take" if foreign => int(0),
                    "take" => {
                        keys.iter().for_each(|key| self.set(key, owner, &values[1]));
                        int(1)
                    }
                    "extend" if foreign => int(-1),
                    "extend" if owners.contains(&None) => int(0),
                    "extend" => {
                        let until =
                            Instant::now() + Duration::from_millis(values[1].parse().unwrap());
                        for key in keys {
                            let at = &mut self.keys.get_mut(key).unwrap().1;
                            *at = until.max(*at);
                        }
                        int(1)
                    }
                    "release" => {
                        let before = self.keys.len();
                        self.keys.retain(|key, (o, _)| !(keys.contains(key) && o == owner));
                        int(i64::from(before - self.keys.len() == keys.len()))
                    }
                    other => format!("-ERR unknown command '{other}'\r\n"),
                }
            }
        }
    }

    /// The native lock of one exclusive holder. BLOCK is the connection's business.
    fn lock(&mut self, args: &[String]) -> String {
        let (key, owner) = (&args[1], &args[2]);
        let ours = self.keys.get(key).is_some_and(|(o, _)| o == owner);
        match args[0].as_str() {
            "LOCK.ACQUIRE" => {
                if !ours && self.keys.contains_key(key) {
                    return "*-1\r\n".to_owned();
                }
                if !ours {
                    self.counter += 1;
                    self.tokens.insert(key.clone(), self.counter);
                }
                self.set(key, owner, &args[3]);
                format!("*2\r\n:{}\r\n:{}\r\n", self.tokens[key], args[3])
            }
            "LOCK.RENEW" if !ours => "$-1\r\n".to_owned(),
            "LOCK.RENEW" => {
                let token = args.get(5).map_or(self.tokens[key], |token| token.parse().unwrap());
                if token < self.tokens[key] {
                    return "-FENCED the lock was granted under a greater token\r\n".to_owned();
                }
                self.tokens.insert(key.clone(), token);
                self.counter = self.counter.max(token);
                self.set(key, owner, &args[3]);
                format!(":{token}\r\n")
            }
            "LOCK.RELEASE" => {
                if ours {
                    self.keys.remove(key);
                }
                format!(":{}\r\n", i32::from(ours))
            }
            other => format!("-ERR unknown command '{other}'\r\n"),
        }
    }

    fn set(&mut self, key: &str, owner: &str, ttl_ms: &str) {
        let ttl = Duration::from_millis(ttl_ms.parse().unwrap()) * self.ttl_factor;
        self.keys.insert(key.to_owned(), (owner.to_owned(), Instant::now() + ttl));
    }
}
