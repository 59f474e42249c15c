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

const FLAGS: Flags = Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST);

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

#[cfg(test)]
mod tests {
    use crate::effects::{Audience, Message, Notice};
    use crate::host::Host;
    use crate::reply::Reply;
    use crate::testing::Bench;

    struct Listeners;

    impl Host for Listeners {
        fn receivers(&self, audience: Audience, channel: &[u8]) -> i64 {
            match audience {
                Audience::Channel => channel.len() as i64,
                Audience::Shard => 0,
            }
        }
    }

    #[test]
    fn a_message_is_an_effect_and_its_receivers_are_the_hosts_to_count() {
        let mut bench = Bench::new();
        for (name, audience, receivers) in
            [("PUBLISH", Audience::Channel, 4), ("SPUBLISH", Audience::Shard, 0)]
        {
            let reply = bench.run_with(&Listeners, &[name, "news", "hello"]);
            assert_eq!(reply, Reply::Integer(receivers));
            let message = Notice::Message(Message {
                audience,
                channel: b"news"[..].into(),
                payload: b"hello"[..].into(),
            });
            assert_eq!(bench.effects.notices, [message]);
            assert_eq!(bench.effects.changes, 0);
        }
    }
}
