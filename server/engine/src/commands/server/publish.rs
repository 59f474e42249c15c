//! PUBLISH and SPUBLISH as proposals: the effects carry the message to every node's subscribers.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec, Scope};
use crate::effects::{Audience, Effects};
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

fn send(
    audience: Audience,
    view: &View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
) -> CommandResult {
    effects.message(audience, args[1], args[2]);
    Ok(Reply::Integer(view.host().receivers(audience, args[1])))
}

/// `PUBLISH channel message`: how many clients of this node receive it. O(N + M).
fn publish(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    send(Audience::Channel, view, args, effects)
}

/// `SPUBLISH shardchannel message`: how many clients of this node receive it. O(N).
fn spublish(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    send(Audience::Shard, view, args, effects)
}

const FLAGS: Flags = Flags::PUBSUB
    .with(Flags::LOADING)
    .with(Flags::STALE)
    .with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("publish", 3, Group::PubSub, publish)
        .without_key_flags()
        .scope(Scope::Free)
        .flags(FLAGS)
        .doc(
            "2.0.0",
            "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).",
            "channel message",
            "Posts a message to a channel.",
        ),
    Command::write("spublish", 3, Group::PubSub, spublish)
        .without_key_flags()
        .keys(&[KeySpec::one(1, Access::NotKey)])
        .scope(Scope::Free)
        .flags(FLAGS)
        .doc(
            "7.0.0",
            "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            "shardchannel message",
            "Post a message to a shard channel",
        ),
];
