//! When keys expire: TTL and its forms.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;

/// The reply for a key that is not there.
const NO_KEY: i64 = -2;
/// The reply for a key that does not expire.
const NO_EXPIRY: i64 = -1;

/// What `tell` makes of the expiry of the command's key.
fn of_expiry(
    view: &View<'_>,
    args: Args<'_>,
    tell: impl FnOnce(UnixMillis) -> i64,
) -> CommandResult {
    Ok(Reply::Integer(match view.look(args[1]) {
        None => NO_KEY,
        Some(record) => record.own_expiry().map_or(NO_EXPIRY, tell),
    }))
}

/// The nearest second, half a second counting up. An expiry lies after the epoch, or its key
/// is gone.
fn seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

/// `TTL key`: seconds left, rounded; -1 without an expiry, -2 without a key. O(1).
fn ttl(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiry(view, args, |at| seconds(at.ms_since(view.now())))
}

/// `PTTL key`: milliseconds left; -1 without an expiry, -2 without a key. O(1).
fn pttl(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiry(view, args, |at| at.ms_since(view.now()))
}

/// `EXPIRETIME key`: the second it expires at, rounded; -1 and -2 as TTL. O(1).
fn expiretime(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiry(view, args, |at| seconds(at.0))
}

/// `PEXPIRETIME key`: the millisecond it expires at; -1 and -2 as TTL. O(1).
fn pexpiretime(view: &View<'_>, args: Args<'_>) -> CommandResult {
    of_expiry(view, args, |at| at.0)
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Read)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("ttl", 2, Group::Generic, ttl).keys(KEY).flags(Flags::FAST).doc(
        "1.0.0",
        "O(1)",
        "key",
        "Returns the expiration time in seconds of a key.",
    ),
    Command::read("pttl", 2, Group::Generic, pttl).keys(KEY).flags(Flags::FAST).doc(
        "2.6.0",
        "O(1)",
        "key",
        "Returns the expiration time in milliseconds of a key.",
    ),
    Command::read("expiretime", 2, Group::Generic, expiretime).keys(KEY).flags(Flags::FAST).doc(
        "7.0.0",
        "O(1)",
        "key",
        "Returns the expiration time of a key as a Unix timestamp.",
    ),
    Command::read("pexpiretime", 2, Group::Generic, pexpiretime).keys(KEY).flags(Flags::FAST).doc(
        "7.0.0",
        "O(1)",
        "key",
        "Returns the expiration time of a key as a Unix milliseconds timestamp.",
    ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        Bench::new().check(&[
            ("TTL k", "-2"),
            ("PEXPIRETIME k", "-2"),
            ("SET k v", "OK"),
            ("TTL k", "-1"),
            ("PTTL k", "-1"),
            ("EXPIRETIME k", "-1"),
            ("PEXPIRE k 1499", "1"),
            ("TTL k", "1"),
            ("EXPIRETIME k", "1700000001"),
            ("PEXPIRE k 1500", "1"),
            ("TTL k", "2"),
            ("EXPIRETIME k", "1700000002"),
            ("PTTL k", "1500"),
            ("PEXPIRETIME k", "1700000001500"),
        ]);
    }
}
