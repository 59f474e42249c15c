//! What a command is to a cluster: who may run it, and how it becomes a proposal.
//!
//! Only asked on nodes that run Raft. Commands of the engine go through the log or a read
//! barrier, whichever node leads; what touches the session or this node alone runs here.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_engine::command::{Access, Args, Command, Flags, Group, Handler};
use holdfast_engine::commands::would_wait;
use holdfast_engine::context::Context;
use holdfast_engine::effects::Audience;
use holdfast_engine::engine::Watch;
use holdfast_engine::script::Sha;
use holdfast_engine::time::{DbIndex, UnixMillis};
use holdfast_engine::{CommandError, Reply};

use super::rights::Heard;
use super::slots::slot_of;
use super::table::{Entry, Run, table};
use super::tally::note_duration;
use super::{Scratch, deliver, rights};
use crate::commit;
use crate::commit::raft::RaftNode;
use crate::commit::raft::batch::{Items, Seen, Tag};
use crate::commit::raft::forward::Publication;
use crate::node::Node;
use crate::session::tracking::Reads;
use crate::session::{Queue, Session};

/// What becomes of a command in a cluster.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// It runs here and now.
    Local,
    /// It runs on the leader, after what came before it.
    OnLeader,
    /// WATCH: it runs here once a read would be linearizable, and if it cannot, the next EXEC fails.
    Watch,
    /// It runs here once a read would be linearizable.
    AfterBarrier,
    /// A message for the subscribers on all nodes.
    Publish(&'static Entry),
    /// A read of data, which every node has.
    Read(&'static Entry),
    /// A read of what only the leader has: who waits for a lock.
    ReadAtLeader(&'static Entry),
    /// A proposal.
    Write(&'static Entry),
    /// EXEC of a queue that can run.
    Exec,
    /// RAFT.ONCE of a command that can run.
    Once(&'static Entry),
    /// SCRIPT LOAD or FLUSH.
    Script(&'static Entry),
}

impl Kind {
    /// The command's entry, if it does not run here by itself.
    #[must_use]
    pub fn entry(self) -> Option<&'static Entry> {
        match self {
            Self::Publish(entry)
            | Self::Read(entry)
            | Self::ReadAtLeader(entry)
            | Self::Write(entry)
            | Self::Once(entry)
            | Self::Script(entry) => Some(entry),
            Self::Exec => table().find(b"exec"),
            Self::Local | Self::OnLeader | Self::Watch | Self::AfterBarrier => None,
        }
    }
}

/// A client's name for itself is at most so long.
const CLIENT_LEN_MAX: usize = 256;

/// The engine's commands that look at no data.
const OF_NO_DATA: &[&str] = &["ping", "echo", "time"];

/// The server's commands that only the leader can run.
const AT_LEADER: &[&str] = &["raft.node|remove", "raft.transfer_leader"];

/// The engine's reads that tell who waits: the leader keeps the queues.
const OF_QUEUES: &[&str] = &["lock.info", "lock.list"];

/// What is told when a transaction that may grow memory meets a full one.
pub const EXEC_OUT_OF_MEMORY: CommandError = CommandError::known(
    "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
     'maxmemory'.",
);

/// Whether a command tells the time, which in a cluster goes on while nobody writes.
#[must_use]
pub fn asks_time(args: Args<'_>) -> bool {
    table().resolve(args).is_ok_and(|entry| entry.row.name == "time")
}

/// Whether a command sends a message and does nothing else.
fn is_publication(entry: &Entry) -> bool {
    entry.row.group == Group::PubSub
}

/// Whether only the leader can run a command of the server.
#[must_use]
pub fn runs_at_leader(entry: &Entry) -> bool {
    AT_LEADER.contains(&entry.full_name.as_str())
}

/// Whether a command of the engine changes nothing and does not wait.
#[must_use]
pub fn is_read(entry: &Entry) -> bool {
    match entry.row.handler {
        Handler::Read(_) => true,
        Handler::Script(_) => entry.row.flags.has(Flags::READONLY),
        _ => false,
    }
}

/// What becomes of a command.
///
/// # Errors
/// Why it may not run now. That is final, to be told by [`super::refuse`]: were it run here, it might
/// be admitted the next moment, and change this node alone.
pub fn classify(node: &Arc<Node>, session: &Session, args: Args<'_>) -> Result<Kind, CommandError> {
    let entry = super::check(node, session, args, Heard::No)?;
    if session.queue.is_some() && !entry.row.flags.has(Flags::NOT_QUEUED) {
        return Ok(Kind::Local);
    }
    Ok(match entry.run {
        Run::Engine if session.in_subscriber_mode() => Kind::Local,
        // What no data decides: a node is asked whether it lives, or what time it is.
        Run::Engine if OF_NO_DATA.contains(&entry.row.name) => Kind::Local,
        Run::Engine if is_publication(entry) => Kind::Publish(entry),
        Run::Engine | Run::Script => match entry.row.handler {
            Handler::Read(_) if OF_QUEUES.contains(&entry.row.name) => Kind::ReadAtLeader(entry),
            // Only what does wait goes through the log: there it is served when its turn comes.
            Handler::Wait(_) if !would_wait(args) => Kind::Read(entry),
            _ if is_read(entry) => Kind::Read(entry),
            _ => Kind::Write(entry),
        },
        Run::Server(_) => match entry.full_name.as_str() {
            "exec" if !session.watch_lost && session.queue.as_ref().is_some_and(is_runnable) => {
                Kind::Exec
            }
            "watch" if session.queue.is_none() => Kind::Watch,
            "script|exists" => Kind::AfterBarrier,
            "raft.once" if tagged(args).is_ok() => Kind::Once(entry),
            "script|load" => Kind::Script(entry),
            "script|flush" if is_flush(args) => Kind::Script(entry),
            _ if runs_at_leader(entry) => Kind::OnLeader,
            _ => Kind::Local,
        },
        Run::Container => Kind::Local,
    })
}

/// `MOVED …` for a client that knows Redis Cluster's ways, if the command names a key and another
/// node is known to lead.
#[must_use]
pub fn moved(session: &Session, raft: &RaftNode, kind: Kind, args: Args<'_>) -> Option<Reply> {
    let (Kind::Read(entry) | Kind::Write(entry)) = kind else { return None };
    let reads_here = session.readonly && matches!(kind, Kind::Read(_));
    if !session.moves || session.queue.is_some() || reads_here {
        return None;
    }
    let (_, leader) = raft.leadership().leader?;
    let mut first = None;
    let _ = entry.row.each_key(args, |index, access| {
        if access != Access::NotKey && first.is_none() {
            first = Some(args[index]);
        }
    });
    let slot = slot_of(first?);
    Some(Reply::error(CommandError::new(format!("MOVED {slot} {}", leader.client_addr))))
}

/// Enters the keys of a tracking client's command, which will be read in a moment.
pub fn track(node: &Node, session: &mut Session, kind: Kind, args: Args<'_>) {
    let Some(choice) = &mut session.tracking else { return };
    let reads = choice.reads();
    choice.caching = false;
    if reads != Reads::Tracked {
        return;
    }
    let client_id = session.client.id;
    let keys_max = node.settings.tracking_table_max_keys();
    let enter = |entry: &Entry, args: Args<'_>| {
        let is_script = matches!(entry.row.handler, Handler::Script(_));
        if !is_script && !entry.row.flags.has(Flags::READONLY) {
            return;
        }
        let _ = entry.row.each_key(args, |index, access| {
            if access != Access::NotKey {
                node.tracking.remember(&node.clients, client_id, args[index], keys_max);
            }
        });
    };
    match kind {
        Kind::Read(entry) | Kind::Write(entry) => enter(entry, args),
        Kind::Exec => {
            for command in session.queue.iter().flat_map(|queue| &queue.commands) {
                let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                if let Ok(entry) = table().resolve(&args) {
                    enter(entry, &args);
                }
            }
        }
        _ => {}
    }
}

/// What RAFT.ONCE is to run: the tag, and the command.
///
/// # Errors
/// When it has no number, or the command is none that can be tagged.
pub fn tagged<'a, 'b>(args: Args<'b>) -> Result<(Tag<'b>, &'a [&'b [u8]]), CommandError>
where
    'b: 'a,
    Args<'b>: 'a,
{
    let number = holdfast_engine::value::integer_text(args[2]);
    let number = number.and_then(|number| u64::try_from(number).ok());
    let number = number.ok_or(CommandError::NOT_AN_INTEGER)?;
    if args[1].is_empty() || args[1].len() > CLIENT_LEN_MAX {
        return Err(CommandError::known("ERR a client's name has 1 to 256 bytes"));
    }
    let command = &args[3..];
    let entry = table().resolve(command)?;
    let runs = entry.is_of_engine() && !entry.row.flags.has(Flags::BLOCKING);
    if !runs || entry.row.name == "evalsha" {
        return Err(CommandError::known(
            "ERR only commands on keys, and EVAL, can be tagged, and none that blocks",
        ));
    }
    Ok(((args[1], number), command))
}

/// Whether SCRIPT FLUSH has the arguments it may have.
fn is_flush(args: Args<'_>) -> bool {
    match args {
        [_, _] => true,
        [_, _, mode] => [&b"sync"[..], b"async"].iter().any(|word| mode.eq_ignore_ascii_case(word)),
        _ => false,
    }
}

/// Whether EXEC has anything to propose.
fn is_runnable(queue: &Queue) -> bool {
    let of_engine = |command: &Vec<Vec<u8>>| {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        table().resolve(&args).is_ok_and(Entry::is_of_engine)
    };
    !queue.failed && queue.commands.iter().any(of_engine)
}

/// The rules that bound what a script may call: every member runs it from the log, and users are
/// each node's own, so they go with it.
#[must_use]
pub fn bounds(session: &Session, entry: &Entry) -> Option<Vec<u8>> {
    let is_bound = !session.unrestricted && matches!(entry.run, Run::Script);
    is_bound.then(|| session.user.rules())
}

/// What RAFT.ONCE of a command that this session may run is to run; see [`tagged`].
///
/// # Errors
/// As [`tagged`], and `NOPERM …`.
pub fn tagged_for<'a, 'b>(
    node: &Node,
    session: &Session,
    args: Args<'b>,
) -> Result<(Tag<'b>, &'a [&'b [u8]]), CommandError>
where
    'b: 'a,
    Args<'b>: 'a,
{
    let (tag, command) = tagged(args)?;
    if !session.unrestricted {
        let entry = table().resolve(command)?;
        rights::check(node, session, entry, command, Heard::Yes)?;
    }
    Ok((tag, command))
}

/// The script's text in place of its name: a log must not depend on what scripts a node knows.
fn with_body<'a>(
    node: &Node,
    entry: &Entry,
    args: Args<'a>,
    body: &'a mut Vec<u8>,
) -> Result<Vec<&'a [u8]>, CommandError> {
    let mut args = args.to_vec();
    if entry.row.name == "evalsha" {
        let script = Sha::parse(args[1]).and_then(|sha| node.engine.scripts().find(&sha));
        *body = script.ok_or(CommandError::NO_SCRIPT)?.body.to_vec();
        args[0] = b"eval";
        args[1] = body;
    }
    Ok(args)
}

/// Whether a command, or one of a transaction, names a script that this node does not know.
#[must_use]
pub fn names_unknown_script(node: &Node, session: &Session, kind: Kind, args: Args<'_>) -> bool {
    let is_unknown = |entry: &Entry, args: Args<'_>| {
        entry.row.name == "evalsha"
            && Sha::parse(args[1]).is_some_and(|sha| node.engine.scripts().find(&sha).is_none())
    };
    match kind {
        Kind::Write(entry) => is_unknown(entry, args),
        Kind::Exec => session.queue.iter().flat_map(|queue| &queue.commands).any(|command| {
            let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            table().resolve(&args).is_ok_and(|entry| is_unknown(entry, &args))
        }),
        _ => false,
    }
}

/// Appends a command of the engine to what will be proposed.
///
/// # Errors
/// `NOSCRIPT …`
pub fn propose(
    node: &Node,
    session: &Session,
    entry: &Entry,
    args: Args<'_>,
    items: &mut Items,
) -> Result<(), CommandError> {
    let mut body = Vec::new();
    let args = with_body(node, entry, args, &mut body)?;
    items.bind(bounds(session, entry));
    items.command(session.db, session.touch, &args);
    if matches!(entry.row.handler, Handler::Write(_) | Handler::Script(_)) {
        items.note(seen(node, [(session.db, entry.row, &args[..])]));
    }
    Ok(())
}

/// What this node, which leads, sees that decides how commands run, and the others cannot: whether
/// clients wait for a lock that is asked for, and whether memory is full.
pub fn seen<'a>(
    node: &Node,
    commands: impl IntoIterator<Item = (DbIndex, &'a Command, Args<'a>)>,
) -> Seen {
    let (queues, is_full) = (node.blocked.locks(), crate::memory::is_full(node));
    let mut stands_behind = false;
    if !queues.is_empty() {
        for (db, row, args) in commands {
            let _ = row.each_key(args, |index, _| {
                stands_behind |= queues.is_awaited(db, args[index]);
            });
        }
    }
    Seen { stands_behind, is_full }
}

/// The message that a PUBLISH or SPUBLISH sends.
#[must_use]
pub fn publication(entry: &Entry, args: Args<'_>) -> Publication {
    // Only a shard channel has a slot, as keys have.
    let is_shard = !entry.row.keys.is_empty();
    Publication {
        audience: if is_shard { Audience::Shard } else { Audience::Channel },
        channel: Bytes::copy_from_slice(args[1]),
        payload: Bytes::copy_from_slice(args[2]),
    }
}

/// Appends SCRIPT LOAD or SCRIPT FLUSH.
pub fn propose_script(entry: &Entry, args: Args<'_>, items: &mut Items) {
    if entry.row.name == "load" {
        items.script_load(args[2]);
    } else {
        items.script_flush();
    }
}

/// A command of a transaction that was proposed.
#[derive(Debug)]
pub struct QueuedCommand {
    entry: &'static Entry,
    args: Vec<Vec<u8>>,
    /// Why its user may no longer run it: it is answered so, and the others run.
    refused: Option<CommandError>,
}

impl QueuedCommand {
    fn is_proposed(&self) -> bool {
        self.refused.is_none() && self.entry.is_of_engine()
    }
}

/// The commands of a transaction, to be answered in order.
pub type Queued = Vec<QueuedCommand>;

/// Appends the session's queue as a transaction, and takes it from the session.
///
/// # Errors
/// `EXECABORT …` and `NOSCRIPT …`
pub fn propose_queue(
    node: &Node,
    session: &mut Session,
    items: &mut Items,
) -> Result<Queued, CommandError> {
    let queue = session.queue.take().unwrap_or_default();
    let watches: Vec<Watch> = std::mem::take(&mut session.watches);
    session.publish();
    let mut queued: Queued = Vec::new();
    for command in queue.commands {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let entry = table().resolve(&args)?;
        let refused = match session.unrestricted {
            true => None,
            false => rights::recheck(node, session, entry, &args),
        };
        queued.push(QueuedCommand { entry, args: command, refused });
    }
    let writes = queued.iter().any(|queued| queued.entry.row.flags.has(Flags::DENYOOM));
    if writes && crate::memory::is_full(node) {
        return Err(EXEC_OUT_OF_MEMORY);
    }
    let mut db = session.db;
    let mut steps = Vec::new();
    let mut bodies: Vec<Vec<u8>> = vec![Vec::new(); queued.len()];
    for (QueuedCommand { entry, args: command, refused }, body) in queued.iter().zip(&mut bodies) {
        match entry.run {
            _ if refused.is_some() => {}
            Run::Engine | Run::Script => {
                let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                // A script that nobody knows fails in its place, as it does alone.
                let owned: Vec<Vec<u8>> = match with_body(node, entry, &args, body) {
                    Ok(args) => args.into_iter().map(<[u8]>::to_vec).collect(),
                    Err(_) => command.clone(),
                };
                steps.push((db, owned));
            }
            Run::Server(_) if entry.row.name == "select" => {
                if let Some(selected) = super::rows::selected_db(node, &command[1]) {
                    db = selected;
                }
            }
            Run::Server(_) | Run::Container => {}
        }
    }
    let borrowed: Vec<Vec<&[u8]>> =
        steps.iter().map(|(_, args)| args.iter().map(Vec::as_slice).collect()).collect();
    let steps: Vec<_> =
        steps.iter().zip(&borrowed).map(|((db, _), args)| (*db, args.as_slice())).collect();
    items.bind(queued.iter().find_map(|queued| bounds(session, queued.entry)));
    items.transaction(session.db, session.touch, &steps, &watches);
    let rows = queued.iter().filter(|queued| queued.is_proposed());
    let commands = rows.zip(&steps).map(|(queued, (db, args))| (*db, queued.entry.row, *args));
    items.note(seen(node, commands));
    Ok(queued)
}

/// The replies of a transaction whose commands of the engine have run: those of the server run
/// now, and all come in the order of the queue.
pub fn finish_queue(
    node: &Arc<Node>,
    session: &mut Session,
    queued: &Queued,
    (replies, took_us): (Vec<Reply>, u64),
    scratch: &mut Scratch,
) -> Reply {
    let share_us = took_us / replies.len().max(1) as u64;
    let mut replies = replies.into_iter();
    let mut all = Vec::with_capacity(queued.len());
    for QueuedCommand { entry, args: command, refused } in queued {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        if let Some(error) = refused {
            node.observe.errors.record(error);
            all.push(Reply::error(error.clone()));
            continue;
        }
        match entry.run {
            Run::Engine | Run::Script => {
                let Some(reply) = replies.next() else { break };
                scratch.tally.record(node, entry.id, share_us * 1000, reply.is_error());
                note_duration(node, &session.client, entry.row, &args, share_us);
                all.push(match session.in_subscriber_mode() {
                    true => super::subscriber_pong(&args),
                    false => reply,
                });
            }
            Run::Server(run) => {
                let began_ns = scratch.tally.now_ns(node);
                let mut call = super::Call { node, session, args: &args, in_transaction: true };
                let answer = run(&mut call);
                let took_ns = scratch.tally.elapsed_ns(node, began_ns);
                note_duration(node, &session.client, entry.row, &args, took_ns / 1000);
                match answer {
                    super::Answer::Reply(reply) | super::Answer::Attributed(_, reply) => {
                        scratch.tally.record(node, entry.id, took_ns, reply.is_error());
                        all.push(reply);
                    }
                    super::Answer::Many(several) => all.extend(several),
                    super::Answer::Wait(_) => all.push(Reply::Nil),
                }
            }
            Run::Container => {}
        }
        if node.monitors.any() && !entry.row.flags.has(Flags::ADMIN) {
            node.monitors.show_client(node, session, &args);
        }
    }
    Reply::Array(all)
}

/// Runs a read on this node's data.
pub fn read(
    node: &Arc<Node>,
    session: &Session,
    entry: &'static Entry,
    args: Args<'_>,
    now: UnixMillis,
    scratch: &mut Scratch,
) -> Reply {
    let context = commit::context(session.db, now, session.touch);
    // Versions come from the log alone; a read writes none.
    let context = Context { sequence: 0, ..context };
    scratch.effects.want(deliver::wanted_events(node));
    let began_ns = scratch.tally.now_ns(node);
    let outcome = rights::as_user(&session.caller(), || {
        node.engine.run(entry.row, args, context, &**node, &mut scratch.effects)
    });
    let took_ns = scratch.tally.elapsed_ns(node, began_ns);
    scratch.tally.record(node, entry.id, took_ns, outcome.reply.is_error());
    note_duration(node, &session.client, entry.row, args, took_ns / 1000);
    scratch.tally.lookups(outcome.hits, outcome.misses);
    if outcome.misses > 0 && matches!(entry.row.handler, Handler::Read(_)) {
        deliver::note_misses(node, session.db, entry.row, args, &mut scratch.effects);
    }
    scratch.effects.wait = None;
    if !scratch.effects.is_quiet() {
        deliver::deliver(node, &mut scratch.effects);
    }
    outcome.reply
}
