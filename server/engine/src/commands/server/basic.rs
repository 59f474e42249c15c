//! PING, ECHO and TIME.

use crate::command::{Args, Command, Flags, Group, Scope};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

/// `PING [message]`: PONG, or the message. O(1).
///
/// A RESP2 subscriber gets an array instead; that is the session's to know.
fn ping(_view: &View<'_>, args: Args<'_>) -> CommandResult {
    match args {
        [_] => Ok(Reply::simple("PONG")),
        [_, message] => Ok(Reply::bulk(message)),
        _ => Err(CommandError::wrong_arity("ping")),
    }
}

/// `ECHO message`: the message. O(1).
fn echo(_view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::bulk(args[1]))
}

/// `TIME`: seconds since the epoch, and microseconds in that second. O(1).
///
/// The time is the proposal's, in milliseconds, so that a script replays to the same result.
fn time(view: &View<'_>, _args: Args<'_>) -> CommandResult {
    let now = view.now().0;
    let part = |number: i64| Reply::bulk(itoa::Buffer::new().format(number).as_bytes());
    Ok(Reply::Array(vec![part(now.div_euclid(1000)), part(now.rem_euclid(1000) * 1000)]))
}

const ANY_TIME: Flags = Flags::LOADING.with(Flags::STALE).with(Flags::FAST);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("ping", -1, Group::Connection, ping)
        .without_key_flags()
        .scope(Scope::Free)
        .flags(Flags::FAST.with(Flags::IN_SUBSCRIBER_MODE))
        .doc("1.0.0", "O(1)", "[message]", "Returns the server's liveliness response."),
    Command::read("echo", 2, Group::Connection, echo)
        .without_key_flags()
        .scope(Scope::Free)
        .flags(ANY_TIME)
        .doc("1.0.0", "O(1)", "message", "Returns the given string."),
    Command::read("time", 1, Group::Server, time)
        .without_key_flags()
        .scope(Scope::Free)
        .flags(ANY_TIME)
        .doc("2.6.0", "O(1)", "", "Returns the server time.")
        .differs("Counts whole milliseconds, on the clock that never jumps."),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn greetings_and_the_time() {
        let mut bench = Bench::new();
        bench.pass_ms(1_234);
        bench.check(&[
            ("PING", "PONG"),
            ("PING hello", "\"hello\""),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
            ("ECHO x", "\"x\""),
            ("TIME", "[\"1700000001\" \"234000\"]"),
        ]);
    }
}
