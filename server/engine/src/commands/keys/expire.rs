//! EXPIRE and its forms, and PERSIST.

use crate::command::options::{ExpiryForm, Options, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::lock::spare_lock;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;

/// Which expiries may be replaced; XX may stand beside GT or LT.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    /// `NX`: only none.
    absent: bool,
    /// `XX`: only an existing one.
    present: bool,
    /// `GT`: only an earlier one; none at all counts as infinitely late.
    greater: bool,
    /// `LT`: only a later one, or none.
    less: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        let mut parsed = Self::default();
        for option in Options::after(args, 3) {
            if is(option, "NX") {
                parsed.absent = true;
            } else if is(option, "XX") {
                parsed.present = true;
            } else if is(option, "GT") {
                parsed.greater = true;
            } else if is(option, "LT") {
                parsed.less = true;
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(CommandError::new(format!("ERR Unsupported option {option}")));
            }
        }
        if parsed.absent && (parsed.present || parsed.greater || parsed.less) {
            return Err(CommandError::known(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if parsed.greater && parsed.less {
            return Err(CommandError::known(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(parsed)
    }

    fn allow(self, current: Option<UnixMillis>, wanted: UnixMillis) -> bool {
        !(self.absent && current.is_some()
            || self.present && current.is_none()
            || self.greater && current.is_none_or(|at| wanted <= at)
            || self.less && current.is_some_and(|at| wanted >= at))
    }
}

fn set_expiry(
    view: &mut View<'_>,
    args: Args<'_>,
    (form, command): (ExpiryForm, &str),
    effects: &mut Effects,
) -> CommandResult {
    let key = args[1];
    let conditions = Conditions::parse(args)?;
    let expires_at = form
        .instant(integer(args[2])?, view.now())
        .ok_or_else(|| CommandError::invalid_expire(command))?;
    spare_lock(view, key)?;
    let Some(record) = view.get(key) else {
        return Ok(Reply::Integer(0));
    };
    if !conditions.allow(record.own_expiry(), expires_at) {
        return Ok(Reply::Integer(0));
    }
    effects.changed(1);
    if expires_at <= view.now() {
        view.remove(key, effects);
        effects.event(EventClass::GENERIC, "del", view.db(), key);
    } else {
        view.set_expiry(key, Some(expires_at), effects);
        effects.event(EventClass::GENERIC, "expire", view.db(), key);
    }
    Ok(Reply::Integer(1))
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`: 1 if it was set, 0 if there is no such key or a
/// condition forbade it. A time that has passed deletes the key. O(1).
fn expire(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::InSeconds, "expire"), effects)
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`, as EXPIRE. O(1).
fn pexpire(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::InMillis, "pexpire"), effects)
}

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`, as EXPIRE. O(1).
fn expireat(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::AtSecond, "expireat"), effects)
}

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`, as EXPIRE. O(1).
fn pexpireat(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_expiry(view, args, (ExpiryForm::AtMilli, "pexpireat"), effects)
}

/// `PERSIST key`: 1 if the key had an expiry, which is gone now, else 0. O(1).
fn persist(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    spare_lock(view, key)?;
    let expires = view.get(key).is_some_and(|record| record.own_expiry().is_some());
    if expires {
        view.set_expiry(key, None, effects);
        effects.changed(1);
        effects.event(EventClass::GENERIC, "persist", view.db(), key);
    }
    Ok(Reply::flag(expires))
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Modify)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("expire", -3, Group::Generic, expire).keys(KEY).flags(Flags::FAST).doc(
        "1.0.0",
        "O(1)",
        "key seconds [NX | XX | GT | LT]",
        "Sets the expiration time of a key in seconds.",
    ),
    Command::write("pexpire", -3, Group::Generic, pexpire).keys(KEY).flags(Flags::FAST).doc(
        "2.6.0",
        "O(1)",
        "key milliseconds [NX | XX | GT | LT]",
        "Sets the expiration time of a key in milliseconds.",
    ),
    Command::write("expireat", -3, Group::Generic, expireat).keys(KEY).flags(Flags::FAST).doc(
        "1.2.0",
        "O(1)",
        "key unix-time-seconds [NX | XX | GT | LT]",
        "Sets the expiration time of a key to a Unix timestamp.",
    ),
    Command::write("pexpireat", -3, Group::Generic, pexpireat).keys(KEY).flags(Flags::FAST).doc(
        "2.6.0",
        "O(1)",
        "key unix-time-milliseconds [NX | XX | GT | LT]",
        "Sets the expiration time of a key to a Unix milliseconds timestamp.",
    ),
    Command::write("persist", 2, Group::Generic, persist).keys(KEY).flags(Flags::FAST).doc(
        "2.2.0",
        "O(1)",
        "key",
        "Removes the expiration time of a key.",
    ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn every_form_sets_the_same_instant() {
        let mut bench = Bench::new();
        bench.line("SET k v");
        for line in [
            "EXPIRE k 100",
            "PEXPIRE k 100000",
            "EXPIREAT k 1700000100",
            "PEXPIREAT k 1700000100000",
        ] {
            bench.check(&[(line, "1"), ("PEXPIRETIME k", "1700000100000")]);
            bench.check(&[("PERSIST k", "1"), ("PTTL k", "-1"), ("PERSIST k", "0")]);
        }
        bench.check(&[("EXPIRE none 1", "0"), ("PERSIST none", "0")]);
    }

    #[test]
    fn conditions_compare_with_the_expiry_that_is() {
        Bench::new().check(&[
            ("SET k v", "OK"),
            ("EXPIRE k 100 XX", "0"),
            ("EXPIRE k 100 GT", "0"),
            ("EXPIRE k 100 NX", "1"),
            ("EXPIRE k 200 NX", "0"),
            ("EXPIRE k 100 GT", "0"),
            ("EXPIRE k 101 gt", "1"),
            ("EXPIRE k 101 LT", "0"),
            ("EXPIRE k 50 LT XX", "1"),
            ("EXPIRE k 60 XX GT", "1"),
            ("TTL k", "60"),
            ("PERSIST k", "1"),
            ("EXPIRE k 60 LT", "1"),
            ("TTL k", "60"),
            ("EXPIRE k -1 GT", "0"),
            ("EXPIRE k -1 LT", "1"),
            ("EXISTS k", "0"),
        ]);
    }

    #[test]
    fn errors() {
        let overflow = |name| format!("-ERR invalid expire time in '{name}' command");
        let mut bench = Bench::new();
        bench.check(&[
            ("SET k v", "OK"),
            ("EXPIRE k x", "-ERR value is not an integer or out of range"),
            ("EXPIRE k x FOO", "-ERR Unsupported option FOO"),
            (
                "EXPIRE k 1 NX XX",
                "-ERR NX and XX, GT or LT options at the same time are not compatible",
            ),
            (
                "EXPIRE k 1 NX GT",
                "-ERR NX and XX, GT or LT options at the same time are not compatible",
            ),
            ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("EXPIRE k 9223372036854775807", &overflow("expire")),
            ("EXPIRE k -9223372036854775807", &overflow("expire")),
            ("PEXPIRE k 9223372036854775807", &overflow("pexpire")),
            ("EXPIREAT k 9223372036854775807", &overflow("expireat")),
            ("TTL k", "-1"),
            ("PEXPIREAT k 9223372036854775807", "1"),
            ("PEXPIRETIME k", "9223372036854775807"),
            ("EXPIRETIME k", "9223372036854776"),
            ("PEXPIRE k -9223372036854775808", "1"),
            ("EXISTS k", "0"),
        ]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("SET h v", "0:new h, 0:set h", 1),
            ("EXPIRE h 100", "0:expire h", 1),
            ("PEXPIRE h 5 GT", "", 0),
            ("PERSIST h", "0:persist h", 1),
            ("PERSIST h", "", 0),
            ("PEXPIREAT h 1", "0:del h", 1),
            ("EXPIRE h 1", "", 0),
        ]);
    }

    #[test]
    fn the_expiry_cycle_finds_what_was_set() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET a 1 PX 10", "OK"),
            ("SET b 1", "OK"),
            ("PEXPIRE b 20", "1"),
            ("SET c 1 PX 10", "OK"),
            ("PERSIST c", "1"),
        ]);
        bench.pass_ms(10);
        let keyspace = bench.engine.keyspace();
        assert!(keyspace.has_due(bench.now));
        while keyspace.expire_due(bench.now, 100, &mut bench.effects) {}
        assert_eq!(bench.effects.expired_keys, 1);
        assert_eq!(keyspace.sizes(bench.now)[0].1.keys, 2);
        bench.check(&[("MGET a b c", "[nil \"1\" \"1\"]")]);
    }
}
