//! What other members ask of this node on behalf of their clients.
//!
//! A proposal that comes from another member passes here what it would have passed had its client
//! been connected to this node: CLIENT PAUSE, memory, and who waits for a lock. The client's rights
//! were looked at by its own node. Must never trust what another member saw of these.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_engine::command::{Flags, Handler};
use holdfast_engine::effects::{Audience, Effects, EventClass};
use holdfast_engine::time::DbIndex;
use holdfast_engine::value::glob::Glob;
use holdfast_engine::{CommandError, Reply};
use tokio::sync::{mpsc, oneshot};

use super::table::{Answer as Answered, Call, Entry, Run, table};
use super::waiting::Waiting;
use super::{cluster, rights};
use crate::acl::User;
use crate::commit::raft::batch::{Decoder, Item, Items, Seen};
use crate::commit::raft::forward::serve::Turns;
use crate::commit::raft::forward::{Answer, Listeners, Park, Publication, Request};
use crate::commit::raft::{Outcome, RaftNode, Refusal};
use crate::node::Node;
use crate::session::client::Unblock;
use crate::session::{Client, Session};
use crate::{commit, memory};

/// A member that is told that its client's turn has come answers within this, or loses its place.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// Answers a request; `user_of` reads the rules of a user that came with a proposal.
pub async fn serve(
    node: &Arc<Node>,
    request: Request,
    user_of: impl Fn(&[u8]) -> Arc<User> + Send,
) -> Answer {
    let Some(raft) = node.raft().map(Arc::clone) else {
        return Answer::Refused(Refusal::NotLeader);
    };
    match request {
        Request::Submit(items) => submit(node, &raft, &items, false).await,
        Request::SubmitTurn(items) => submit(node, &raft, &items, true).await,
        Request::Read(items) => match raft.read_barrier().await {
            Ok(_) => read(node, &raft, &items, user_of),
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::Run(args) => run(node, &raft, &args).await,
        Request::Publish(messages) => Answer::Counts(publish(node, &messages)),
        Request::Listeners(listeners) => look_for_listeners(node, &listeners),
        Request::ReadAt
        | Request::Acked(_)
        | Request::Silences
        | Request::Park(_)
        | Request::Parked(_) => Answer::Refused(Refusal::NotLeader),
    }
}

fn malformed(error: &crate::commit::raft::wire::Malformed) -> Answer {
    tracing::warn!("a member passed on what this node cannot read: {error}");
    Answer::Refused(Refusal::Failed(format!("the leader cannot read the request: {error}")))
}

/// The commands of a proposal, each with its database.
fn commands<'a>(
    item: &'a Item<'_>,
    decoder: &'a Decoder<'_>,
) -> Vec<(DbIndex, &'static Entry, &'a [&'a [u8]])> {
    let resolve = |db: DbIndex, args: &'a [&'a [u8]]| {
        let entry = table().resolve(args).ok().filter(|entry| entry.is_of_engine())?;
        Some((db, entry, args))
    };
    match item {
        Item::Command | Item::Once(_) => resolve(decoder.db, &decoder.args).into_iter().collect(),
        Item::Transaction { steps, .. } => {
            steps.iter().filter_map(|(db, args)| resolve(*db, args)).collect()
        }
        Item::ScriptLoad(_) | Item::ScriptFlush | Item::NewMember | Item::Settings | Item::User => {
            Vec::new()
        }
    }
}

async fn submit(node: &Arc<Node>, raft: &Arc<RaftNode>, bytes: &Bytes, is_turn: bool) -> Answer {
    if !raft.leads() {
        return Answer::Refused(Refusal::NotLeader);
    }
    let now_us = node.clock.monotonic_us();
    let mut is_paused = false;
    let mut releases = Vec::new();
    let judged = Items::from_member(bytes, |item, decoder| {
        let commands = commands(item, decoder);
        let flagged = |flag| commands.iter().any(|(_, entry, _)| entry.row.flags.has(flag));
        is_paused |= node.pause.any()
            && commands.iter().any(|(_, entry, _)| node.pause.holds(entry.row, now_us));
        if flagged(Flags::DENYOOM) && !memory::has_room(node) {
            return Err(match item {
                Item::Transaction { .. } => cluster::EXEC_OUT_OF_MEMORY,
                _ => CommandError::OUT_OF_MEMORY,
            });
        }
        for (db, entry, args) in &commands {
            if entry.row.name == "lock.release" && matches!(item, Item::Command) {
                let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
                releases.push((*db, args));
            }
        }
        let writes = commands
            .iter()
            .filter(|(_, entry, _)| {
                matches!(entry.row.handler, Handler::Write(_) | Handler::Script(_))
            })
            .map(|(db, entry, args)| (*db, entry.row, *args));
        let seen = cluster::seen(node, writes);
        Ok(Seen { stands_behind: seen.stands_behind && !is_turn, ..seen })
    });
    let (items, refused) = match judged {
        Ok(judged) => judged,
        Err(error) => return malformed(&error),
    };
    if is_paused {
        return Answer::Refused(Refusal::Paused);
    }
    let outcomes = if items.count() == 0 {
        Ok(Vec::new())
    } else {
        let told = raft.submit(items);
        for (db, args) in &releases {
            node.blocked.follow_release(node, *db, args);
        }
        told.await.unwrap_or(Err(Refusal::Unknown))
    };
    // Whoever waits for what was pushed is served before the one who pushed goes on.
    if node.blocked.any() && !is_turn {
        node.blocked.served().await;
    }
    let mut outcomes = match outcomes {
        Ok(outcomes) => outcomes.into_iter(),
        Err(refusal) => return Answer::Refused(refusal),
    };
    let told = refused.into_iter().map(|refused| match refused {
        Some(error) => reply(Reply::error(error)),
        None => outcomes.next().unwrap_or_else(|| reply(Reply::Nil)),
    });
    Answer::Done(raft.applied().next_index(), told.collect())
}

fn reply(reply: Reply) -> Outcome {
    Outcome::Reply { reply, hits: 0, misses: 0, took_us: 0 }
}

/// Runs reads here, behind a barrier.
fn read(
    node: &Arc<Node>,
    raft: &RaftNode,
    bytes: &Bytes,
    user_of: impl Fn(&[u8]) -> Arc<User>,
) -> Answer {
    let mut outcomes = Vec::new();
    let judged = Items::from_member(bytes, |item, decoder| {
        outcomes.push(match commands(item, decoder).as_slice() {
            [(db, entry, args)] if cluster::is_read(entry) && matches!(item, Item::Command) => {
                let user = decoder.rules.map(&user_of);
                read_one(node, raft, (*db, decoder), (entry, args), user)
            }
            _ => reply(Reply::error(CommandError::known("ERR only reads run without the log"))),
        });
        Ok(Seen::default())
    });
    match judged {
        Ok(_) => Answer::Done(raft.applied().next_index(), outcomes),
        Err(error) => malformed(&error),
    }
}

fn read_one(
    node: &Arc<Node>,
    raft: &RaftNode,
    (db, decoder): (DbIndex, &Decoder<'_>),
    (entry, args): (&'static Entry, &[&[u8]]),
    user: Option<Arc<User>>,
) -> Outcome {
    let context = commit::context(db, raft.applied().now(), decoder.touch);
    let mut effects = Effects::new(EventClass::NONE);
    let caller = user.map(|user| (user, stand_in(node, String::new())));
    let began_us = node.clock.monotonic_us();
    let outcome = rights::as_user(&caller, || {
        node.engine.run(entry.row, args, context, &**node, &mut effects)
    });
    Outcome::Reply {
        reply: outcome.reply,
        hits: outcome.hits,
        misses: outcome.misses,
        took_us: node.clock.monotonic_us().saturating_sub(began_us),
    }
}

/// Stands for the client of another member.
fn stand_in(node: &Node, addr: String) -> Arc<Client> {
    let (id, now_us) = (node.clients.next_id(), node.clock.monotonic_us());
    Arc::new(Client::new(id, (addr, String::new()), -1, false, now_us))
}

/// Runs a command of the server that only the leader can.
async fn run(node: &Arc<Node>, raft: &RaftNode, args: &[Vec<u8>]) -> Answer {
    if !raft.leads() {
        return Answer::Refused(Refusal::NotLeader);
    }
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let entry = match table().resolve(&args) {
        Ok(entry) => entry,
        Err(error) => return Answer::Reply(Reply::error(error)),
    };
    let Run::Server(run) = entry.run else {
        return Answer::Reply(Reply::error(CommandError::known("ERR not a command of the server")));
    };
    if !cluster::runs_at_leader(entry) {
        return Answer::Reply(Reply::error(CommandError::known(
            "ERR members do not pass this command on",
        )));
    }
    // The client's rights were looked at by its own node.
    let later = {
        let client = stand_in(node, String::new());
        let mut session = Session::new(&node.pubsub, client, &node.acl);
        let mut call = Call { node, session: &mut session, args: &args, in_transaction: false };
        match run(&mut call) {
            Answered::Reply(reply) => return Answer::Reply(reply),
            Answered::Wait(Waiting::Later(later)) => later,
            _ => return Answer::Refused(Refusal::Unknown),
        }
    };
    Answer::Reply(later.0.await)
}

/// Hands messages to this node's subscribers; how many receive each.
pub fn publish(node: &Node, messages: &[Publication]) -> Vec<u64> {
    let publish = |message: &Publication| match message.audience {
        Audience::Channel => node.pubsub.publish(&message.channel, &message.payload),
        Audience::Shard => node.pubsub.publish_shard(&message.channel, &message.payload),
    };
    messages.iter().map(|message| publish(message) as u64).collect()
}

/// What this node's clients listen to.
pub fn look_for_listeners(node: &Node, asked: &Listeners) -> Answer {
    let pubsub = &node.pubsub;
    match asked {
        Listeners::Channels(audience, pattern) => {
            let glob = pattern.as_ref().map(|pattern| Glob::new(pattern));
            Answer::Names(match audience {
                Audience::Channel => pubsub.channels(glob.as_ref()),
                Audience::Shard => pubsub.shard_channels(glob.as_ref()),
            })
        }
        Listeners::Counts(audience, channels) => {
            let count = |channel: &Bytes| match audience {
                Audience::Channel => pubsub.subscriber_count(channel),
                Audience::Shard => pubsub.shard_subscriber_count(channel),
            };
            Answer::Counts(channels.iter().map(|channel| count(channel) as u64).collect())
        }
        Listeners::Patterns => Answer::Names(pubsub.patterns()),
    }
}

/// Lets a command of another member's client wait in this node's queues until it is over.
pub async fn park(node: &Arc<Node>, park: Park, mut turns: Turns) {
    let leads = node.raft().is_some_and(|raft| raft.leads());
    let args: Vec<&[u8]> = park.args.iter().map(Vec::as_slice).collect();
    let entry = table().resolve(&args).ok().filter(|entry| {
        entry.row.flags.has(Flags::BLOCKING) && !matches!(entry.row.handler, Handler::Wait(_))
    });
    let Some(entry) = entry.filter(|_| leads) else {
        turns.refuse(Refusal::NotLeader);
        return;
    };
    let client = stand_in(node, park.addr.clone());
    let (give, mut given) = mpsc::unbounded_channel();
    node.blocked.park_for_member(node, Arc::clone(&client), (entry.row, &args), park.db, give);
    let mut turn: Option<oneshot::Sender<Result<Vec<Outcome>, Refusal>>> = None;
    loop {
        tokio::select! {
            Some(told) = given.recv(), if turn.is_none() => {
                turn = Some(told);
                turns.give();
            }
            standing = turns.standing() => match standing {
                Some(wait) => {
                    if let Some(told) = turn.take() {
                        let _ = told.send(Ok(vec![Outcome::Wait(wait)]));
                    }
                }
                None => {
                    if let Some(told) = turn.take() {
                        // It was served, or has gone: either way its place is free.
                        let _ = told.send(Ok(vec![reply(Reply::Nil)]));
                    }
                    break;
                }
            },
            how = unblocked(&client) => {
                if how == Some(Unblock::Moved) {
                    turns.refuse(Refusal::NotLeader);
                }
                break;
            }
            () = tokio::time::sleep(TURN_PATIENCE), if turn.is_some() => {
                turns.refuse(Refusal::Unknown);
                break;
            }
        }
    }
    drop(turn);
    node.blocked.leave(client.id);
    client.end_block();
}

/// Waits until a client's block is ended by another.
async fn unblocked(client: &Client) -> Option<Unblock> {
    std::future::poll_fn(|context| {
        client.register(context);
        match client.is_unblocked() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    client.end_block()
}
