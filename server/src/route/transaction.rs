//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC proposes the engine's commands of the queue as one transaction; commands of the server
//! (SELECT, CLIENT, CONFIG, SUBSCRIBE, …) run on the session around it, and the replies come in
//! the order of the queue.

use std::sync::Arc;

use holdfast_engine::command::{Command, Flags, Group};
use holdfast_engine::engine::Step;
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};

use super::table::{Answer, Call, Entry, Run, ServerCommand, table};
use super::{Scratch, deliver, rights, tally};
use crate::commit;
use crate::node::Node;
use crate::session::tracking::Reads;
use crate::session::{Queue, Session};

/// `MULTI`: begins a transaction.
fn multi(call: &mut Call<'_>) -> Answer {
    if call.session.queue.is_some() {
        return CommandError::known("ERR MULTI calls can not be nested").into();
    }
    call.session.queue = Some(Queue::default());
    Reply::Ok.into()
}

/// `DISCARD`: forgets the queue and the watches.
fn discard(call: &mut Call<'_>) -> Answer {
    if call.session.queue.is_none() {
        return CommandError::known("ERR DISCARD without MULTI").into();
    }
    call.session.discard();
    Reply::Ok.into()
}

/// `WATCH key [key ...]`: EXEC will run only if these keys are then as they are now.
fn watch(call: &mut Call<'_>) -> Answer {
    if call.session.queue.is_some() {
        return CommandError::known("ERR WATCH inside MULTI is not allowed").into();
    }
    let context = commit::context(call.session.db, call.node.now(), call.session.touch);
    let mut keys: Vec<&[u8]> = call.args[1..].to_vec();
    let db = call.session.db;
    // A key watched before keeps the version it had then.
    keys.retain(|key| {
        !call.session.watches.iter().any(|watch| watch.db == db && watch.key == *key)
    });
    match call.node.engine.watch(&keys, context, &**call.node) {
        Ok(watches) => {
            call.session.watches.extend(watches);
            call.session.publish();
            Reply::Ok.into()
        }
        Err(error) => error.into(),
    }
}

/// `UNWATCH`: forgets the watches.
fn unwatch(call: &mut Call<'_>) -> Answer {
    call.session.watches.clear();
    call.session.watch_lost = false;
    call.session.publish();
    Reply::Ok.into()
}

/// `EXEC`: runs the queue as one; nil if a watched key has changed.
fn exec(call: &mut Call<'_>) -> Answer {
    let Some(queue) = call.session.queue.take() else {
        return CommandError::known("ERR EXEC without MULTI").into();
    };
    let watches = std::mem::take(&mut call.session.watches);
    let watch_lost = std::mem::take(&mut call.session.watch_lost);
    call.session.publish();
    if queue.failed {
        return CommandError::known("EXECABORT Transaction discarded because of previous errors.")
            .into();
    }
    if watch_lost {
        return Reply::NilArray.into();
    }
    let mut scratch = Scratch::default();
    match run_queue(call.node, call.session, &queue, &watches, &mut scratch) {
        Ok(Some(replies)) => Reply::Array(replies).into(),
        Ok(None) => Reply::NilArray.into(),
        Err(error) => error.into(),
    }
}

fn run_queue(
    node: &Arc<Node>,
    session: &mut Session,
    queue: &Queue,
    watches: &[holdfast_engine::engine::Watch],
    scratch: &mut Scratch,
) -> Result<Option<Vec<Reply>>, CommandError> {
    session.refresh_user(&node.acl);
    let commands: Vec<Vec<&[u8]>> =
        queue.commands.iter().map(|command| command.iter().map(Vec::as_slice).collect()).collect();
    let entries: Vec<&'static Entry> =
        commands.iter().map(|args| table().resolve(args)).collect::<Result<_, _>>()?;
    let writes = entries.iter().any(|entry| entry.row.flags.has(Flags::DENYOOM));
    if writes && !crate::memory::has_room(node) {
        return Err(CommandError::known(
            "EXECABORT Transaction discarded because of: OOM command not allowed when used \
             memory > 'maxmemory'.",
        ));
    }
    refused_by_files(node, &entries)?;
    if let Some((client_id, Reads::Tracked)) = crate::session::tracking::caller() {
        for (entry, args) in entries.iter().zip(&commands) {
            super::track_reads(node, client_id, entry.row, args);
        }
    }
    // What was allowed when it was queued may be so no longer.
    let refused: Vec<Option<CommandError>> = match session.unrestricted {
        true => Vec::new(),
        false => {
            let commands = entries.iter().zip(&commands);
            commands.map(|(entry, args)| rights::recheck(node, session, entry, args)).collect()
        }
    };
    let is_refused = |at: usize| refused.get(at).is_some_and(Option::is_some);
    let steps = steps_of(node, session.db, &entries, &commands, is_refused);
    let context = commit::context(session.db, node.now(), session.touch);
    scratch.effects.want(deliver::wanted_events(node));
    let began = scratch.tally.begin(node);
    let Some(outcomes) = rights::as_user(&session.caller(), || {
        node.engine.transaction(&steps, watches, context, &**node, &mut scratch.effects)
    })?
    else {
        return Ok(None);
    };
    // The time of the whole is shared out evenly: its commands ran under one lock.
    let share_ns = scratch.tally.elapsed_ns(node, began) / outcomes.len().max(1) as u64;
    scratch.effects.wait = None;
    let mut outcomes = outcomes.into_iter();
    let mut replies = Vec::with_capacity(entries.len());
    for (at, (entry, args)) in entries.iter().zip(&commands).enumerate() {
        if let Some(Some(error)) = refused.get(at) {
            node.observe.errors.record(error);
            replies.push(Reply::error(error.clone()));
            continue;
        }
        match entry.run {
            Run::Engine | Run::Script => {
                let Some(outcome) = outcomes.next() else {
                    break;
                };
                scratch.tally.lookups(outcome.hits, outcome.misses);
                scratch.tally.record(node, entry.id, share_ns, outcome.reply.is_error());
                tally::note_duration(node, &session.client, entry.row, args, share_ns / 1000);
                if let Reply::Error(error) = &outcome.reply {
                    node.observe.errors.record(error);
                }
                // After a SUBSCRIBE in the same transaction PING answers as to a subscriber.
                replies.push(match session.in_subscriber_mode() {
                    true => super::subscriber_pong(args),
                    false => outcome.reply,
                });
            }
            Run::Server(run) => {
                let began = scratch.tally.now_ns(node);
                let answer = run(&mut Call { node, session, args, in_transaction: true });
                let elapsed_ns = scratch.tally.elapsed_ns(node, began);
                match answer {
                    Answer::Reply(reply) | Answer::Attributed(_, reply) => {
                        scratch.tally.record(node, entry.id, elapsed_ns, reply.is_error());
                        replies.push(reply);
                    }
                    Answer::Many(several) => replies.extend(several),
                    // Nothing waits inside EXEC.
                    Answer::Wait(_) => replies.push(Reply::Nil),
                }
                tally::note_duration(node, &session.client, entry.row, args, elapsed_ns / 1000);
            }
            Run::Container => {}
        }
        if node.monitors.any() && !entry.row.flags.has(Flags::ADMIN) {
            node.monitors.show_client(node, session, args);
        }
    }
    scratch.tally.changes(&mut scratch.effects);
    deliver::deliver(node, &mut scratch.effects);
    scratch.tally.flush(node);
    Ok(Some(replies))
}

/// A transaction is refused as a whole where one of its commands would be.
fn refused_by_files(node: &Node, entries: &[&'static Entry]) -> Result<(), CommandError> {
    let any = |wanted: fn(Flags) -> bool| entries.iter().any(|entry| wanted(entry.row.flags));
    let reason = if node.persist.loading.is_active() && any(|flags| !flags.has(Flags::LOADING)) {
        Some(super::IS_LOADING)
    } else if node.engine.keyspace().refuses_changes() && any(|flags| flags.has(Flags::WRITE)) {
        node.persist.refusal()
    } else {
        None
    };
    match reason {
        Some(error) => Err(CommandError::new(format!(
            "EXECABORT Transaction discarded because of: {}",
            error.text()
        ))),
        None => Ok(()),
    }
}

/// The engine's steps of a queue, each with the database that is selected when its turn comes.
fn steps_of<'a>(
    node: &Node,
    mut db: DbIndex,
    entries: &[&'static Entry],
    commands: &'a [Vec<&'a [u8]>],
    is_refused: impl Fn(usize) -> bool,
) -> Vec<Step<'a>> {
    let mut steps = Vec::with_capacity(entries.len());
    for (at, (entry, args)) in entries.iter().zip(commands).enumerate() {
        match entry.run {
            _ if is_refused(at) => {}
            Run::Engine | Run::Script => steps.push(Step { row: entry.row, args, db }),
            Run::Server(_) if entry.row.name == "select" => {
                if let Some(selected) = super::rows::selected_db(node, args[1]) {
                    db = selected;
                }
            }
            Run::Server(_) | Run::Container => {}
        }
    }
    steps
}

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("multi", 1, Group::Transactions)
            .flags(Flags::NOSCRIPT)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .flags(Flags::FAST)
            .flags(Flags::ALLOW_BUSY)
            .flags(Flags::NOT_QUEUED)
            .doc("1.2.0", "O(1)", "", "Starts a transaction."),
        multi,
    ),
    ServerCommand::new(
        Command::server("exec", 1, Group::Transactions)
            .flags(Flags::NOSCRIPT)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .flags(Flags::SKIP_SLOWLOG)
            .flags(Flags::NOT_QUEUED)
            .doc(
                "1.2.0",
                "Depends on commands in the transaction",
                "",
                "Executes all commands in a transaction.",
            ),
        exec,
    ),
    ServerCommand::new(
        Command::server("discard", 1, Group::Transactions)
            .flags(Flags::NOSCRIPT)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .flags(Flags::FAST)
            .flags(Flags::ALLOW_BUSY)
            .flags(Flags::NOT_QUEUED)
            .doc(
                "2.0.0",
                "O(N), when N is the number of queued commands",
                "",
                "Discards a transaction.",
            ),
        discard,
    ),
    ServerCommand::new(
        Command::server("watch", -2, Group::Transactions)
            .keys(&[holdfast_engine::command::KeySpec::range(
                1,
                -1,
                1,
                holdfast_engine::command::Access::Look,
            )])
            .flags(Flags::NOSCRIPT)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .flags(Flags::FAST)
            .flags(Flags::ALLOW_BUSY)
            .flags(Flags::NOT_QUEUED)
            .doc(
                "2.2.0",
                "O(1) for every key.",
                "key [key ...]",
                "Monitors changes to keys to determine the execution of a transaction.",
            ),
        watch,
    ),
    ServerCommand::new(
        Command::server("unwatch", 1, Group::Transactions)
            .flags(Flags::NOSCRIPT)
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .flags(Flags::FAST)
            .flags(Flags::ALLOW_BUSY)
            .doc("2.2.0", "O(1)", "", "Forgets about watched keys of a transaction."),
        unwatch,
    ),
];
