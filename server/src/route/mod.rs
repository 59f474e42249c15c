//! From a command's arguments to its answer: find the row, check, choose the path, deliver.
//!
//! [`dispatch`] runs on the connection's task and never waits: what cannot be answered at once
//! comes back as [`Flow::Wait`]. It must not know how replies are spelt on the wire.

pub mod blocked;
pub mod cluster;
pub mod deliver;
pub mod forwarded;
pub mod lock_queue;
pub mod monitor;
pub mod pause;
pub mod rename;
pub mod rights;
pub mod rows;
pub mod scripts;
pub mod shared;
pub mod slots;
pub mod table;
pub mod tally;
pub mod transaction;
pub mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use holdfast_engine::command::{Access, Args, Command, Flags, Handler};
use holdfast_engine::effects::{Effects, EventClass, Wait};
use holdfast_engine::engine::Outcome;
use holdfast_engine::{CommandError, Reply};

use rights::Heard;
pub use table::{Answer, Call, Entry, Run, ServerCommand, table};
pub use tally::Tally;
pub use waiting::Waiting;

use crate::commit;
use crate::memory;
use crate::node::Node;
use crate::observe::CommandId;
use crate::resp::{Output, encode, encode_attributes};
use crate::session::tracking::{self, Reads, as_caller};
use crate::session::{Queue, ReplyMode, Session};

/// What becomes of a command.
#[derive(Debug)]
pub enum Flow {
    /// Its replies are in the output.
    Done,
    /// Its reply comes later.
    Wait(Waiting),
}

/// What one worker reuses from command to command.
#[derive(Debug)]
pub struct Scratch {
    /// What the last command did.
    pub effects: Effects,
    /// Counters not yet added to the node's.
    pub tally: Tally,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { effects: Effects::new(EventClass::NONE), tally: Tally::default() }
    }
}

/// Runs one command of a session and writes its replies to `out`.
pub fn dispatch(
    node: &Arc<Node>,
    session: &mut Session,
    args: Args<'_>,
    scratch: &mut Scratch,
    out: &mut Output,
) -> Flow {
    match answer(node, session, args, scratch) {
        Ok(Answer::Reply(reply)) => {
            if let Reply::Error(error) = &reply {
                node.observe.errors.record(error);
            }
            send(session, &reply, out);
            if session.client.has_pushes() {
                // A message that the command itself caused comes right after its reply.
                session.client.take_pushes(|bytes| out.push(&bytes));
            }
        }
        Ok(Answer::Attributed(attributes, reply)) => {
            encode_attributes(&attributes, session.protocol, out);
            send(session, &reply, out);
        }
        Ok(Answer::Many(replies)) => {
            for reply in replies {
                send(session, &reply, out);
            }
        }
        Ok(Answer::Wait(waiting)) => return Flow::Wait(waiting),
        Err(refusal) => send_refusal(node, session, args, refusal, out),
    }
    after_command(session);
    Flow::Done
}

/// Answers a command that was found not to be admitted, and does not look again.
pub fn refuse(
    node: &Arc<Node>,
    session: &mut Session,
    args: Args<'_>,
    refusal: CommandError,
    out: &mut Output,
) {
    // Only for ACL LOG to hear of it.
    let _ = check(node, session, args, Heard::Yes);
    let refusal = note_refusal(node, session, args, refusal);
    send_refusal(node, session, args, refusal, out);
    after_command(session);
}

fn send_refusal(
    node: &Arc<Node>,
    session: &mut Session,
    args: Args<'_>,
    refusal: CommandError,
    out: &mut Output,
) {
    if is_http(args[0]) {
        // A browser lured into sending commands here must not get any further.
        tracing::warn!(
            client = session.client.id,
            "possible cross-protocol attack: closing a client that speaks HTTP ({refusal})"
        );
        session.closing = true;
        return;
    }
    node.observe.errors.record(&refusal);
    send(session, &Reply::error(refusal), out);
}

/// Whether a word begins an HTTP request.
fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// Writes a reply, unless CLIENT REPLY says not to.
#[inline]
pub fn send(session: &Session, reply: &Reply, out: &mut Output) {
    match session.reply_mode {
        ReplyMode::On | ReplyMode::SkipNext => encode(reply, session.protocol, out),
        // Messages are no replies: CLIENT REPLY does not concern them.
        ReplyMode::Off | ReplyMode::Skip if matches!(reply, Reply::Push(_)) => {
            encode(reply, session.protocol, out);
        }
        ReplyMode::Off | ReplyMode::Skip => {}
    }
}

/// Moves CLIENT REPLY SKIP on by one command.
#[inline]
pub fn after_command(session: &mut Session) {
    match session.reply_mode {
        ReplyMode::SkipNext => session.reply_mode = ReplyMode::Skip,
        ReplyMode::Skip => session.reply_mode = ReplyMode::On,
        ReplyMode::On | ReplyMode::Off => {}
    }
}

/// Checks a command and runs or queues it; an error is a refusal, before anything ran.
fn answer(
    node: &Arc<Node>,
    session: &mut Session,
    args: Args<'_>,
    scratch: &mut Scratch,
) -> Result<Answer, CommandError> {
    let entry = check(node, session, args, Heard::Yes)
        .map_err(|refusal| note_refusal(node, session, args, refusal))?;
    if session.queue.is_some() && !entry.row.flags.has(Flags::NOT_QUEUED) {
        return enqueue(node, session, entry, args).map(Answer::Reply);
    }
    if node.pause.any()
        && !entry.row.flags.has(Flags::ALLOW_BUSY)
        && node.pause.holds(entry.row, node.clock.monotonic_us())
    {
        return Ok(Answer::Wait(Waiting::Pause));
    }
    if session.tracking.is_some() {
        return Ok(run_tracking(node, session, entry, args, scratch));
    }
    if node.monitors.any() {
        return Ok(run_monitored(node, session, entry, args, scratch));
    }
    Ok(run_entry(node, session, entry, args, scratch))
}

/// What a refusal does to a transaction and to statistics; what the client is told.
fn note_refusal(
    node: &Arc<Node>,
    session: &mut Session,
    args: Args<'_>,
    refusal: CommandError,
) -> CommandError {
    if args[0].eq_ignore_ascii_case(b"exec") {
        // An EXEC that is itself refused ends the transaction, and says both.
        session.discard();
        return CommandError::new(format!(
            "EXECABORT Transaction discarded because of: {}",
            refusal.text().strip_prefix("ERR ").unwrap_or(refusal.text())
        ));
    }
    if let Some(queue) = &mut session.queue {
        queue.failed = true;
    }
    if let Ok(entry) = table().resolve(args) {
        node.observe.commands.record_rejected(CommandId(entry.id));
    }
    refusal
}

/// Runs a tracking client's command: its reads are remembered, its changes known as its own.
#[cold]
fn run_tracking(
    node: &Arc<Node>,
    session: &mut Session,
    entry: &'static Entry,
    args: Args<'_>,
    scratch: &mut Scratch,
) -> Answer {
    let reads = session.tracking.as_ref().map_or(Reads::Untracked, |choice| choice.reads());
    let client_id = session.client.id;
    if reads == Reads::Tracked {
        track_reads(node, client_id, entry.row, args);
    }
    let answer = as_caller(client_id, reads, || match node.monitors.any() {
        true => run_monitored(node, session, entry, args, scratch),
        false => run_entry(node, session, entry, args, scratch),
    });
    if let Some(choice) = &mut session.tracking
        && entry.row.parent != Some("client")
        && session.queue.is_none()
    {
        choice.caching = false;
    }
    answer
}

/// Enters the keys that a client's command is about to read. Called in the order in which the
/// commands of a transaction or script run.
pub(crate) fn track_reads(node: &Node, client_id: u64, row: &Command, args: Args<'_>) {
    // A script's keys are those of the commands it calls.
    if matches!(row.handler, Handler::Script(_)) {
        return;
    }
    let reads = row.flags.has(Flags::READONLY);
    let keys_max = node.settings.tracking_table_max_keys();
    let _ = row.each_key(args, |index, access| {
        if access == Access::NotKey {
            return;
        }
        if reads {
            tracking::note_read(args[index]);
            node.tracking.remember(&node.clients, client_id, args[index], keys_max);
        } else {
            tracking::note_change(&node.tracking, client_id, args[index]);
        }
    });
}

/// Runs an entry and shows it: after it ran, but for scripts, which come before what they call.
#[cold]
fn run_monitored(
    node: &Arc<Node>,
    session: &mut Session,
    entry: &'static Entry,
    args: Args<'_>,
    scratch: &mut Scratch,
) -> Answer {
    if entry.row.flags.has(Flags::SKIP_MONITOR) {
        node.monitors.show_client(node, session, args);
        return run_entry(node, session, entry, args, scratch);
    }
    let answer = run_entry(node, session, entry, args, scratch);
    if !entry.row.flags.has(Flags::ADMIN) {
        node.monitors.show_client(node, session, args);
    }
    answer
}

/// What clients are told while data is loaded.
const IS_LOADING: CommandError =
    CommandError::known("LOADING Redis is loading the dataset in memory");

/// Finds the entry and refuses what may not run now.
#[inline]
fn check(
    node: &Arc<Node>,
    session: &Session,
    args: Args<'_>,
    heard: Heard,
) -> Result<&'static Entry, CommandError> {
    let entry = table().resolve(args)?;
    let flags = entry.row.flags;
    if !session.unrestricted {
        rights::check(node, session, entry, args, heard)?;
    }
    if session.in_subscriber_mode() && !flags.has(Flags::IN_SUBSCRIBER_MODE) {
        return Err(CommandError::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context",
            entry.full_name
        )));
    }
    if node.persist.loading.is_active() && !flags.has(Flags::LOADING) {
        return Err(IS_LOADING);
    }
    if !flags.has(Flags::ALLOW_BUSY) {
        node.scripts.admit()?;
    }
    if !memory::has_room(node) && flags.has(Flags::DENYOOM) {
        return Err(CommandError::OUT_OF_MEMORY);
    }
    if session.queue.is_some() && flags.has(Flags::NO_MULTI) {
        return Err(CommandError::known("ERR Command not allowed inside a transaction"));
    }
    Ok(entry)
}

fn enqueue(
    node: &Node,
    session: &mut Session,
    entry: &Entry,
    args: Args<'_>,
) -> Result<Reply, CommandError> {
    /// A transaction may hold so many bytes of arguments before it is refused.
    const QUEUE_LEN_BYTES_MAX: usize = 1 << 30;
    let queue = session.queue.get_or_insert_with(Queue::default);
    let len: usize = args.iter().map(|arg| arg.len() + size_of::<Vec<u8>>()).sum();
    if queue.len_bytes + len > QUEUE_LEN_BYTES_MAX {
        queue.failed = true;
        return Err(CommandError::known("ERR transaction too large"));
    }
    if node.engine.keyspace().refuses_changes()
        && entry.row.flags.has(Flags::WRITE)
        && let Some(error) = node.persist.refusal()
    {
        queue.failed = true;
        return Err(error);
    }
    queue.len_bytes += len;
    queue.commands.push(args.iter().map(|arg| arg.to_vec()).collect());
    Ok(Reply::simple("QUEUED"))
}

/// PING's reply to a RESP2 subscriber, who tells replies from messages by their shape.
pub(crate) fn subscriber_pong(args: Args<'_>) -> Reply {
    let text = args.get(1).copied().unwrap_or_default();
    Reply::Array(vec![Reply::bulk(b"pong"), Reply::bulk(text)])
}

/// Runs an entry, counts and times it.
#[inline]
fn run_entry(
    node: &Arc<Node>,
    session: &mut Session,
    entry: &'static Entry,
    args: Args<'_>,
    scratch: &mut Scratch,
) -> Answer {
    let began = scratch.tally.begin(node);
    session.client.shown.last_command.store(u32::from(entry.id) + 1, Relaxed);
    let answer = match entry.run {
        Run::Engine if session.in_subscriber_mode() => {
            // Only PING is let through to the engine then.
            Answer::Reply(subscriber_pong(args))
        }
        Run::Engine => run_in_engine(node, session, entry, args, scratch),
        Run::Script => run_script(node, session, entry, args, scratch),
        Run::Server(run) => {
            let mut call = Call { node, session, args, in_transaction: false };
            run(&mut call)
        }
        Run::Container => CommandError::wrong_arity(&entry.full_name).into(),
    };
    if !matches!(answer, Answer::Wait(Waiting::Keys { .. } | Waiting::Pause)) {
        let failed = matches!(&answer, Answer::Reply(Reply::Error(_)));
        let elapsed_us = scratch.tally.end(node, entry.id, began, failed);
        tally::note_duration(node, &session.client, entry.row, args, elapsed_us);
    }
    answer
}

/// Runs what calls other commands: within the rights of whoever asked for it.
#[inline(never)]
fn run_script(
    node: &Arc<Node>,
    session: &mut Session,
    entry: &'static Entry,
    args: Args<'_>,
    scratch: &mut Scratch,
) -> Answer {
    let caller = session.caller();
    rights::as_user(&caller, || run_in_engine(node, session, entry, args, scratch))
}

#[inline]
fn run_in_engine(
    node: &Arc<Node>,
    session: &mut Session,
    entry: &'static Entry,
    args: Args<'_>,
    scratch: &mut Scratch,
) -> Answer {
    let context = commit::context(session.db, scratch.tally.now(), session.touch);
    let effects = &mut scratch.effects;
    effects.want(deliver::wanted_events(node));
    let blocking = entry.row.flags.has(Flags::BLOCKING);
    if blocking
        && node.blocked.any()
        && let Some(answer) = node.blocked.queue_behind(session.db, entry.row, args, context)
    {
        return answer;
    }
    let outcome = node.engine.run(entry.row, args, context, &**node, effects);
    scratch.tally.lookups(outcome.hits, outcome.misses);
    finish(node, session, entry, args, outcome, scratch)
}

/// Delivers what the engine did and makes its answer.
#[inline]
fn finish(
    node: &Arc<Node>,
    session: &Session,
    entry: &'static Entry,
    args: Args<'_>,
    outcome: Outcome,
    scratch: &mut Scratch,
) -> Answer {
    let effects = &mut scratch.effects;
    if outcome.overdue {
        deliver::expire_met(node, session.db, entry.row, args, effects);
    }
    if outcome.misses > 0 && matches!(entry.row.handler, Handler::Read(_) | Handler::Wait(_)) {
        deliver::note_misses(node, session.db, entry.row, args, effects);
    }
    if let Some(wait) = effects.wait.take() {
        // XREADGROUP may have made its consumer.
        scratch.tally.changes(effects);
        if !effects.is_quiet() {
            deliver::deliver(node, effects);
        }
        return waiting_for_keys(wait);
    }
    scratch.tally.changes(effects);
    if !effects.is_quiet() {
        deliver::deliver(node, effects);
    }
    Answer::Reply(outcome.reply)
}

/// The answer of a blocking command that found nothing.
pub(crate) fn waiting_for_keys(wait: Wait) -> Answer {
    let timeout = wait.timeout_ms.map(std::time::Duration::from_millis);
    Answer::Wait(Waiting::Keys { timeout, reply: Reply::NilArray })
}

/// A command of the server's own table that a script calls; `None` if scripts may not.
#[must_use]
pub fn script_calls_server(node: &Arc<Node>, args: Args<'_>) -> Option<Reply> {
    rows::script_calls_server(node, args)
}
