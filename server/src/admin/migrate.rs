//! MIGRATE: moves keys to another server, by DUMP here and RESTORE there.
//!
//! A key is deleted here only if it is still what was sent: one that has changed meanwhile is
//! sent again. So nothing is lost, whatever happens between the two servers; at worst a key
//! stands on both.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_engine::command::{Access, Args, Begin, Command, Find, Flags, Group, KeySpec};
use holdfast_engine::context::Touch;
use holdfast_engine::effects::Effects;
use holdfast_engine::engine::{Step, Watch};
use holdfast_engine::time::DbIndex;
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use super::config::with_files;
use crate::commit;
use crate::node::Node;
use crate::route::{Answer, Call, ServerCommand, deliver};

/// A key that changes while it is sent is sent again so often.
const TRIES_MAX: usize = 16;
/// A reply of the target is one line, and no longer than this.
const REPLY_LEN_MAX: u64 = 64 * 1024;

/// What a call asks for.
struct Request<'a> {
    host: &'a [u8],
    port: &'a [u8],
    keys: &'a [&'a [u8]],
    db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        const DEFAULT_TIMEOUT_MS: u64 = 1000;
        let mut request = Request {
            host: args[1],
            port: args[2],
            keys: &args[3..4],
            db: 0,
            timeout: Duration::from_millis(DEFAULT_TIMEOUT_MS),
            copy: false,
            replace: false,
            user: None,
            password: None,
        };
        let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
        let mut rest = &args[6..];
        while let [option, after @ ..] = rest {
            rest = after;
            match after {
                _ if is(option, "copy") => request.copy = true,
                _ if is(option, "replace") => request.replace = true,
                [password, tail @ ..] if is(option, "auth") => {
                    request.password = Some(password);
                    rest = tail;
                }
                [user, password, tail @ ..] if is(option, "auth2") => {
                    (request.user, request.password) = (Some(*user), Some(*password));
                    rest = tail;
                }
                _ if is(option, "keys") => {
                    if !args[3].is_empty() {
                        return Err(CommandError::known(
                            "ERR When using MIGRATE KEYS option, the key argument must be set \
                             to the empty string",
                        ));
                    }
                    request.keys = after;
                    break;
                }
                _ => return Err(CommandError::SYNTAX),
            }
        }
        let timeout_ms = integer_text(args[5]).ok_or(CommandError::NOT_AN_INTEGER)?;
        request.db = integer_text(args[4]).ok_or(CommandError::NOT_AN_INTEGER)?;
        if let Some(ms) = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0) {
            request.timeout = Duration::from_millis(ms);
        }
        Ok(request)
    }
}

/// A key as it is sent.
struct Item<'a> {
    key: &'a [u8],
    payload: Vec<u8>,
    /// 0 for none.
    ttl_ms: i64,
    /// What it was when it was read.
    watch: Watch,
}

/// Runs engine commands as one, unless the watched keys have changed; `None` then.
fn run(
    node: &Arc<Node>,
    db: DbIndex,
    commands: &[&[&[u8]]],
    watches: &[Watch],
) -> Result<Option<Vec<Reply>>, CommandError> {
    let table = holdfast_engine::engine::table();
    let rows = commands.iter().map(|args| table.rows().iter().find(|row| is_row(row, args[0])));
    let steps: Vec<Step<'_>> = rows
        .zip(commands)
        .filter_map(|(row, args)| row.map(|row| Step { row, args, db }))
        .collect();
    let context = commit::context(db, node.now(), Touch::Leaves);
    let mut effects = Effects::new(deliver::wanted_events(node));
    let outcomes = node.engine.transaction(&steps, watches, context, &**node, &mut effects)?;
    node.changes.fetch_add(std::mem::take(&mut effects.changes), Relaxed);
    deliver::deliver(node, &mut effects);
    Ok(outcomes.map(|all| all.into_iter().map(|outcome| outcome.reply).collect()))
}

/// By its own name, whatever `rename-command` says.
fn is_row(row: &Command, name: &[u8]) -> bool {
    row.name.as_bytes().eq_ignore_ascii_case(name)
}

/// A key's value as it is now; `None` if there is no such key.
fn read<'a>(
    node: &Arc<Node>,
    db: DbIndex,
    key: &'a [u8],
) -> Result<Option<Item<'a>>, CommandError> {
    for _ in 0..TRIES_MAX {
        let context = commit::context(db, node.now(), Touch::Leaves);
        let watches = node.engine.watch(&[key], context, &**node)?;
        let replies = run(node, db, &[&[b"DUMP", key], &[b"PTTL", key]], &watches)?;
        let Some([dumped, ttl]) = replies.as_deref() else { continue };
        let (payload, ttl_ms) = match (dumped, ttl) {
            (Reply::Nil, _) => return Ok(None),
            (Reply::Error(error), _) => return Err(CommandError::clone(error)),
            (Reply::Bulk(payload), Reply::Integer(ttl)) => {
                (payload.as_slice().to_vec(), if *ttl < 0 { 0 } else { (*ttl).max(1) })
            }
            _ => return Ok(None),
        };
        let watch = watches.into_iter().next();
        return Ok(watch.map(|watch| Item { key, payload, ttl_ms, watch }));
    }
    Err(changes_too_fast(key))
}

fn changes_too_fast(key: &[u8]) -> CommandError {
    let key = String::from_utf8_lossy(key);
    CommandError::new(format!(
        "ERR key '{key}' changes too often to be moved: it stands here, and may stand at the target"
    ))
}

/// Deletes a key that was sent, if it is still that; whether it is gone.
fn remove(node: &Arc<Node>, db: DbIndex, item: &Item<'_>) -> Result<bool, CommandError> {
    let watches = std::slice::from_ref(&item.watch);
    match run(node, db, &[&[b"DEL", item.key]], watches)? {
        Some(replies) => match replies.into_iter().next() {
            Some(Reply::Error(error)) => Err(*error),
            _ => Ok(true),
        },
        None => Ok(false),
    }
}

/// Why the target could not be told, or did not answer.
enum Failure {
    Connecting,
    Writing,
    Reading,
    /// It answered this.
    Told(String),
    /// Ours.
    Here(CommandError),
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::Here(error)
    }
}

impl Failure {
    fn error(self) -> CommandError {
        match self {
            Self::Connecting => {
                CommandError::known("IOERR error or timeout connecting to the client")
            }
            Self::Writing => {
                CommandError::known("IOERR error or timeout writing to target instance")
            }
            Self::Reading => {
                CommandError::known("IOERR error or timeout reading from target instance")
            }
            Self::Told(text) => {
                CommandError::new(format!("ERR Target instance replied with error: {text}"))
            }
            Self::Here(error) => error,
        }
    }
}

/// A connection to the target.
struct Target {
    stream: BufReader<TcpStream>,
}

impl Target {
    fn connect(request: &Request<'_>) -> Result<Self, Failure> {
        let host = std::str::from_utf8(request.host).map_err(|_| Failure::Connecting)?;
        let port = std::str::from_utf8(request.port).ok().and_then(|port| port.parse().ok());
        let port: u16 = port.ok_or(Failure::Connecting)?;
        let addresses = (host, port).to_socket_addrs().map_err(|_| Failure::Connecting)?;
        let mut failure = Failure::Connecting;
        let mut stream = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, request.timeout) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
                // Redis finds out only when it writes.
                Err(_) => failure = Failure::Writing,
            }
        }
        let stream = stream.ok_or(failure)?;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(request.timeout)))
            .and_then(|()| stream.set_write_timeout(Some(request.timeout)));
        prepared.map_err(|_| Failure::Connecting)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn send(&mut self, commands: &[u8]) -> Result<(), Failure> {
        self.stream.get_mut().write_all(commands).map_err(|_| Failure::Writing)
    }

    /// One reply: `Err` if it is an error, without its `-`.
    fn reply(&mut self) -> Result<Result<(), String>, Failure> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(REPLY_LEN_MAX);
        limited.read_until(b'\n', &mut line).map_err(|_| Failure::Reading)?;
        let text = line.strip_suffix(b"\r\n").ok_or(Failure::Reading)?;
        Ok(match text.strip_prefix(b"-") {
            Some(error) => Err(String::from_utf8_lossy(error).into_owned()),
            None => Ok(()),
        })
    }
}

/// A command as a client sends it.
fn encode(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend(format!("*{}\r\n", args.len()).bytes());
    for arg in args {
        out.extend(format!("${}\r\n", arg.len()).bytes());
        out.extend_from_slice(arg);
        out.extend(b"\r\n");
    }
}

fn encode_restore(out: &mut Vec<u8>, item: &Item<'_>, replace: bool) {
    let ttl = item.ttl_ms.to_string();
    let args: [&[u8]; 5] = [b"RESTORE", item.key, ttl.as_bytes(), &item.payload, b"REPLACE"];
    encode(out, &args[..if replace { 5 } else { 4 }]);
}

/// Sends all keys; the first error of the target is told once all is done.
fn transfer(
    node: &Arc<Node>,
    db: DbIndex,
    request: &Request<'_>,
    items: Vec<Item<'_>>,
) -> Result<(), Failure> {
    let mut target = Target::connect(request)?;
    let db_text = request.db.to_string();
    let mut greeting: Vec<Vec<&[u8]>> = match (request.user, request.password) {
        (Some(user), Some(password)) => vec![vec![b"AUTH", user, password]],
        (None, Some(password)) => vec![vec![b"AUTH", password]],
        _ => Vec::new(),
    };
    greeting.push(vec![b"SELECT", db_text.as_bytes()]);
    // Before the keys nothing may fail: they would be restored where they do not belong.
    for command in greeting {
        let mut out = Vec::new();
        encode(&mut out, &command);
        target.send(&out)?;
        target.reply()?.map_err(Failure::Told)?;
    }
    let mut out = Vec::new();
    for item in &items {
        encode_restore(&mut out, item, request.replace);
    }
    target.send(&out)?;
    let (mut told, mut changed) = (None, Vec::new());
    for item in items {
        match target.reply()? {
            Ok(()) if request.copy || remove(node, db, &item)? => {}
            Ok(()) => changed.push(item.key),
            Err(error) => told = told.or(Some(error)),
        }
    }
    for key in changed {
        move_again(node, db, &mut target, key)?;
    }
    told.map_or(Ok(()), |text| Err(Failure::Told(text)))
}

/// Moves a key that has changed since it was sent. The target has what was sent before.
fn move_again(
    node: &Arc<Node>,
    db: DbIndex,
    target: &mut Target,
    key: &[u8],
) -> Result<(), Failure> {
    for _ in 0..TRIES_MAX {
        // If another has deleted it meanwhile, it was moved before that.
        let Some(item) = read(node, db, key)? else { return Ok(()) };
        let mut out = Vec::new();
        encode_restore(&mut out, &item, true);
        target.send(&out)?;
        target.reply()?.map_err(Failure::Told)?;
        if remove(node, db, &item)? {
            return Ok(());
        }
    }
    Err(changes_too_fast(key).into())
}

/// `MIGRATE host port <key | ""> destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2
/// username password] [KEYS key [key ...]]`: OK, or NOKEY if there is none of the keys.
fn migrate(call: &mut Call<'_>) -> Answer {
    let request = match Request::parse(call.args) {
        Ok(request) => request,
        Err(error) => return error.into(),
    };
    let (node, db) = (call.node, call.session.db);
    if node.log_time().is_some() {
        return CommandError::known(
            "ERR MIGRATE does not run in a cluster: what it removes would not be in the log; use DUMP, \
             RESTORE and DEL",
        )
        .into();
    }
    if !request.copy
        && node.engine.keyspace().refuses_changes()
        && let Some(error) = node.persist.refusal()
    {
        return error.into();
    }
    let mut items = Vec::with_capacity(request.keys.len());
    for key in request.keys {
        match read(node, db, key) {
            Ok(item) => items.extend(item),
            Err(error) => return error.into(),
        }
    }
    if items.is_empty() {
        return Reply::simple("NOKEY").into();
    }
    // Other tasks of this worker go on elsewhere meanwhile.
    match with_files(|| transfer(node, db, &request, items)) {
        Ok(()) => Reply::Ok.into(),
        Err(failure) => failure.error().into(),
    }
}

/// Where the keys behind KEYS begin, the arguments of other options aside.
fn keys_option(args: Args<'_>) -> Option<usize> {
    let is = |arg: &[u8], word: &str| arg.eq_ignore_ascii_case(word.as_bytes());
    let mut at = 6;
    loop {
        let option = args.get(at)?;
        at += match option {
            _ if is(option, "keys") => return Some(at + 1),
            _ if is(option, "auth") => 2,
            _ if is(option, "auth2") => 3,
            _ => 1,
        };
    }
}

/// Behind KEYS there are keys only if none stands before.
fn more_keys(args: Args<'_>) -> Option<usize> {
    keys_option(args).filter(|_| args.get(3).is_some_and(|key| key.is_empty()))
}

fn has_one_key(args: Args<'_>) -> bool {
    keys_option(args).is_none()
}

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::new(
    Command::server("migrate", -6, Group::Generic)
        .keys(&[
            KeySpec {
                begin: Begin::IndexIf(3, has_one_key),
                find: Find::Range { last: 0, step: 1, limit: 0 },
                access: Access::Take,
            },
            KeySpec {
                begin: Begin::Keyword("KEYS", -2, more_keys),
                find: Find::Range { last: -1, step: 1, limit: 0 },
                access: Access::Take,
            },
        ])
        // Inside MULTI it would run after the data commands, not in its place among them.
        .flags(Flags::WRITE.with(Flags::DANGEROUS).with(Flags::MOVABLE_KEYS).with(Flags::NO_MULTI))
        .doc(
            "2.6.0",
            "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target instance. See the pages of these commands for time complexity. Also an O(N) data transfer between the two instances is performed.",
            "host port <key | \"\"> destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password] [KEYS key [key ...]]",
            "Atomically transfers a key from one Redis instance to another.",
        )
        .differs("not inside MULTI nor from scripts; a key that changes while it is sent is sent again"),
    migrate,
)];
