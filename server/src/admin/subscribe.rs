//! SUBSCRIBE and its kin, and PUBSUB.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_engine::command::{Access, Command, Flags, Group, KeySpec};
use holdfast_engine::effects::Audience;
use holdfast_engine::{CommandError, Reply};

use crate::commit::raft::forward::{Answer as Found, Listeners, Request};
use crate::route::forwarded::look_for_listeners;
use crate::route::waiting::Later;
use crate::route::{Answer, Call, ServerCommand, Waiting};

/// Which of the three kinds of subscription.
#[derive(Clone, Copy)]
enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Channel => ("subscribe", "unsubscribe"),
            Self::Pattern => ("psubscribe", "punsubscribe"),
            Self::Shard => ("ssubscribe", "sunsubscribe"),
        }
    }
}

/// The count a confirmation carries.
fn count(call: &Call<'_>, kind: Kind) -> Reply {
    Reply::count(match kind {
        Kind::Shard => call.session.subscriptions.shard_count(),
        Kind::Channel | Kind::Pattern => call.session.subscriptions.count(),
    })
}

fn enter(call: &mut Call<'_>, kind: Kind) -> Answer {
    let mut replies = Vec::with_capacity(call.args.len() - 1);
    for name in &call.args[1..] {
        let subscriptions = &mut call.session.subscriptions;
        match kind {
            Kind::Channel => subscriptions.subscribe(name),
            Kind::Pattern => subscriptions.subscribe_pattern(name),
            Kind::Shard => subscriptions.subscribe_shard(name),
        };
        replies.push(Reply::Push(vec![
            Reply::bulk(kind.names().0.as_bytes()),
            Reply::bulk(name),
            count(call, kind),
        ]));
    }
    call.session.publish();
    listens_still(call);
    Answer::Many(replies)
}

/// Closes a client whose rights were taken away while it subscribed: whoever took them may have
/// looked for listeners too early to find it.
fn listens_still(call: &mut Call<'_>) {
    call.session.refresh_user(&call.node.acl);
    let session = &mut *call.session;
    if session.unrestricted {
        return;
    }
    let listened = &session.subscriptions;
    let mut channels = listened.channels().chain(listened.shard_channels());
    if !channels.all(|name| session.user.may_listen(name, false))
        || !listened.patterns().all(|name| session.user.may_listen(name, true))
    {
        session.closing = true;
    }
}

fn leave(call: &mut Call<'_>, kind: Kind) -> Answer {
    let names: Vec<Bytes> = if call.args.len() > 1 {
        call.args[1..].iter().map(|name| Bytes::copy_from_slice(name)).collect()
    } else {
        let subscriptions = &call.session.subscriptions;
        match kind {
            Kind::Channel => subscriptions.channels().cloned().collect(),
            Kind::Pattern => subscriptions.patterns().cloned().collect(),
            Kind::Shard => subscriptions.shard_channels().cloned().collect(),
        }
    };
    let confirmation = |call: &Call<'_>, name: Reply| {
        Reply::Push(vec![Reply::bulk(kind.names().1.as_bytes()), name, count(call, kind)])
    };
    if names.is_empty() {
        let reply = confirmation(call, Reply::Nil);
        return Answer::Many(vec![reply]);
    }
    let mut replies = Vec::with_capacity(names.len());
    for name in names {
        let subscriptions = &mut call.session.subscriptions;
        match kind {
            Kind::Channel => subscriptions.unsubscribe(&name),
            Kind::Pattern => subscriptions.unsubscribe_pattern(&name),
            Kind::Shard => subscriptions.unsubscribe_shard(&name),
        };
        let reply = confirmation(call, Reply::bulk(&name));
        replies.push(reply);
    }
    call.session.publish();
    Answer::Many(replies)
}

fn subscribe(call: &mut Call<'_>) -> Answer {
    enter(call, Kind::Channel)
}

fn psubscribe(call: &mut Call<'_>) -> Answer {
    enter(call, Kind::Pattern)
}

fn ssubscribe(call: &mut Call<'_>) -> Answer {
    enter(call, Kind::Shard)
}

fn unsubscribe(call: &mut Call<'_>) -> Answer {
    leave(call, Kind::Channel)
}

fn punsubscribe(call: &mut Call<'_>) -> Answer {
    leave(call, Kind::Pattern)
}

fn sunsubscribe(call: &mut Call<'_>) -> Answer {
    leave(call, Kind::Shard)
}

fn wrong_count(name: &[u8]) -> CommandError {
    let name = String::from_utf8_lossy(name);
    CommandError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
    ))
}

/// What the clients of all nodes listen to: this node's answer, and those of the others that answer
/// in time. Inside a transaction only this node is asked.
fn everywhere(
    call: &Call<'_>,
    asked: Listeners,
    told: impl FnOnce(Vec<Found>) -> Reply + Send + 'static,
) -> Answer {
    let own = look_for_listeners(call.node, &asked);
    let raft = call.node.raft().filter(|_| !call.in_transaction).map(Arc::clone);
    let Some(raft) = raft else { return told(vec![own]).into() };
    Answer::Wait(Waiting::Later(Later(Box::pin(async move {
        let mut found = raft.ask_others(&Request::Listeners(asked)).await;
        found.insert(0, own);
        told(found)
    }))))
}

/// The names in all answers, each once.
fn names(found: Vec<Found>) -> BTreeSet<Bytes> {
    let names = found.into_iter().flat_map(|found| match found {
        Found::Names(names) => names,
        _ => Vec::new(),
    });
    names.collect()
}

fn channels_of(call: &mut Call<'_>, audience: Audience) -> Answer {
    if call.args.len() > 3 {
        return wrong_count(call.args[1]).into();
    }
    let pattern = call.args.get(2).map(|pattern| Bytes::copy_from_slice(pattern));
    everywhere(call, Listeners::Channels(audience, pattern), |found| {
        Reply::Array(names(found).iter().map(|name| Reply::bulk(name)).collect())
    })
}

/// `PUBSUB CHANNELS [pattern]`
fn channels(call: &mut Call<'_>) -> Answer {
    channels_of(call, Audience::Channel)
}

/// `PUBSUB SHARDCHANNELS [pattern]`
fn shardchannels(call: &mut Call<'_>) -> Answer {
    channels_of(call, Audience::Shard)
}

/// `PUBSUB NUMSUB [channel [channel ...]]`
fn numsub(call: &mut Call<'_>) -> Answer {
    counts(call, Audience::Channel)
}

/// `PUBSUB SHARDNUMSUB [channel [channel ...]]`
fn shardnumsub(call: &mut Call<'_>) -> Answer {
    counts(call, Audience::Shard)
}

fn counts(call: &Call<'_>, audience: Audience) -> Answer {
    let channels: Vec<Bytes> =
        call.args[2..].iter().map(|name| Bytes::copy_from_slice(name)).collect();
    let asked = Listeners::Counts(audience, channels.clone());
    everywhere(call, asked, move |found| {
        let mut totals = vec![0_u64; channels.len()];
        for found in found {
            if let Found::Counts(counts) = found {
                totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
            }
        }
        let pairs = channels.iter().zip(totals);
        Reply::Array(
            pairs
                .flat_map(|(name, total)| {
                    [Reply::bulk(name), Reply::count(usize::try_from(total).unwrap_or(usize::MAX))]
                })
                .collect(),
        )
    })
}

/// `PUBSUB NUMPAT`
fn numpat(call: &mut Call<'_>) -> Answer {
    everywhere(call, Listeners::Patterns, |found| Reply::count(names(found).len()))
}

/// `PUBSUB HELP`
fn help(_call: &mut Call<'_>) -> Answer {
    const LINES: &[&str] = &[
        "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CHANNELS [<pattern>]",
        "    Return the currently active channels matching a <pattern> (default: '*').",
        "NUMPAT",
        "    Return number of subscriptions to patterns.",
        "NUMSUB [<channel> ...]",
        "    Return the number of subscribers for the specified channels, excluding",
        "    pattern subscriptions(default: no channels).",
        "SHARDCHANNELS [<pattern>]",
        "    Return the currently active shard level channels matching a <pattern> (default: '*').",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    Return the number of subscribers for the specified shard level channel(s)",
        "HELP",
        "    Print this help.",
    ];
    super::help_reply(LINES)
}

const FLAGS: Flags = Flags::PUBSUB
    .with(Flags::NOSCRIPT)
    .with(Flags::LOADING)
    .with(Flags::STALE)
    .with(Flags::IN_SUBSCRIBER_MODE);

const LOOK_FLAGS: Flags = Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE);

const SHARD_CHANNELS: &[KeySpec] = &[KeySpec::range(1, -1, 1, Access::NotKey)];

const PUBSUB: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("channels", -2, Group::PubSub).of("pubsub").flags(LOOK_FLAGS).doc(
            "2.8.0",
            "O(N) where N is the number of active channels, and assuming constant time pattern \
             matching (relatively short channels and patterns)",
            "[pattern]",
            "Returns the active channels.",
        ),
        channels,
    ),
    ServerCommand::new(
        Command::server("help", 2, Group::PubSub)
            .of("pubsub")
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .doc("6.2.0", "O(1)", "", "Returns helpful text about the different subcommands."),
        help,
    ),
    ServerCommand::new(
        Command::server("numpat", 2, Group::PubSub).of("pubsub").flags(LOOK_FLAGS).doc(
            "2.8.0",
            "O(1)",
            "",
            "Returns a count of unique pattern subscriptions.",
        ),
        numpat,
    ),
    ServerCommand::new(
        Command::server("numsub", -2, Group::PubSub).of("pubsub").flags(LOOK_FLAGS).doc(
            "2.8.0",
            "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
            "[channel [channel ...]]",
            "Returns a count of subscribers to channels.",
        ),
        numsub,
    ),
    ServerCommand::new(
        Command::server("shardchannels", -2, Group::PubSub).of("pubsub").flags(LOOK_FLAGS).doc(
            "7.0.0",
            "O(N) where N is the number of active shard channels, and assuming constant time \
             pattern matching (relatively short shard channels).",
            "[pattern]",
            "Returns the active shard channels.",
        ),
        shardchannels,
    ),
    ServerCommand::new(
        Command::server("shardnumsub", -2, Group::PubSub).of("pubsub").flags(LOOK_FLAGS).doc(
            "7.0.0",
            "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
            "[shardchannel [shardchannel ...]]",
            "Returns the count of subscribers of shard channels.",
        ),
        shardnumsub,
    ),
];

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[
    ServerCommand::new(
        Command::server("subscribe", -2, Group::PubSub).flags(FLAGS).doc(
            "2.0.0",
            "O(N) where N is the number of channels to subscribe to.",
            "channel [channel ...]",
            "Listens for messages published to channels.",
        ),
        subscribe,
    ),
    ServerCommand::new(
        Command::server("psubscribe", -2, Group::PubSub).flags(FLAGS).doc(
            "2.0.0",
            "O(N) where N is the number of patterns to subscribe to.",
            "pattern [pattern ...]",
            "Listens for messages published to channels that match one or more patterns.",
        ),
        psubscribe,
    ),
    ServerCommand::new(
        Command::server("ssubscribe", -2, Group::PubSub).keys(SHARD_CHANNELS).flags(FLAGS).doc(
            "7.0.0",
            "O(N) where N is the number of shard channels to subscribe to.",
            "shardchannel [shardchannel ...]",
            "Listens for messages published to shard channels.",
        ),
        ssubscribe,
    ),
    ServerCommand::new(
        Command::server("unsubscribe", -1, Group::PubSub).flags(FLAGS).doc(
            "2.0.0",
            "O(N) where N is the number of channels to unsubscribe.",
            "[channel [channel ...]]",
            "Stops listening to messages posted to channels.",
        ),
        unsubscribe,
    ),
    ServerCommand::new(
        Command::server("punsubscribe", -1, Group::PubSub).flags(FLAGS).doc(
            "2.0.0",
            "O(N) where N is the number of patterns to unsubscribe.",
            "[pattern [pattern ...]]",
            "Stops listening to messages published to channels that match one or more patterns.",
        ),
        punsubscribe,
    ),
    ServerCommand::new(
        Command::server("sunsubscribe", -1, Group::PubSub).keys(SHARD_CHANNELS).flags(FLAGS).doc(
            "7.0.0",
            "O(N) where N is the number of shard channels to unsubscribe.",
            "[shardchannel [shardchannel ...]]",
            "Stops listening to messages posted to shard channels.",
        ),
        sunsubscribe,
    ),
    ServerCommand::container(
        Command::container("pubsub", Group::PubSub, &[]).doc(
            "2.8.0",
            "Depends on subcommand.",
            "",
            "A container for Pub/Sub commands.",
        ),
        PUBSUB,
    ),
];
