//! SET with its options, and what sets or reads a string together with its expiry.

use super::basic::{read_for_reply, string_bytes};
use crate::command::options::{ExpiryArg, ExpiryForm, Options, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::lock::lease::tie_string;
use crate::commands::lock::spare_lock;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::host::{Grant, GrantKind};
use crate::keyspace::View;
use crate::raw::StringValue;
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;

/// What must be true of the key for SET to set it.
#[derive(Debug, Clone, Copy)]
enum Condition<'a> {
    Always,
    /// `NX`
    Absent,
    /// `XX`
    Present,
    /// `IFEQ`
    Equals(&'a [u8]),
    /// `IFNE`; an absent key differs from every value.
    Differs(&'a [u8]),
}

/// What becomes of the key's expiry.
#[derive(Debug, Clone, Copy)]
enum Lifetime<'a> {
    /// SET clears it, GETEX leaves it.
    Default,
    /// `KEEPTTL`
    Kept,
    /// `PERSIST`
    Cleared,
    Until(ExpiryArg<'a>),
    /// `LEASE`: as long as the lease of this number.
    Leased(&'a [u8]),
}

impl<'a> Lifetime<'a> {
    /// Reads `option` if it is one of EX, PX, EXAT and PXAT; whether it was. As in Redis, one
    /// may stand twice, but two different ones exclude each other.
    fn read_expiry(
        &mut self,
        option: &[u8],
        options: &mut Options<'a>,
    ) -> Result<bool, CommandError> {
        let Some(form) = ExpiryForm::of_option(option) else {
            return Ok(false);
        };
        match self {
            Self::Default => {}
            Self::Until(before) if before.form == form => {}
            _ => return Err(CommandError::SYNTAX),
        }
        let text = options.value()?;
        *self = Self::Until(ExpiryArg { form, text });
        Ok(true)
    }
}

/// What SET answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// OK, or nil if the condition failed.
    Done,
    /// `GET`: the value before.
    Before,
}

struct SetOptions<'a> {
    condition: Condition<'a>,
    lifetime: Lifetime<'a>,
    answer: Answer,
}

impl<'a> SetOptions<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let mut parsed = Self {
            condition: Condition::Always,
            lifetime: Lifetime::Default,
            answer: Answer::Done,
        };
        let mut options = Options::after(args, 3);
        while let Some(option) = options.next() {
            let (condition, lifetime) = (parsed.condition, parsed.lifetime);
            if is(option, "NX") && matches!(condition, Condition::Always | Condition::Absent) {
                parsed.condition = Condition::Absent;
            } else if is(option, "XX")
                && matches!(condition, Condition::Always | Condition::Present)
            {
                parsed.condition = Condition::Present;
            } else if is(option, "IFEQ") && matches!(condition, Condition::Always) {
                parsed.condition = Condition::Equals(options.value()?);
            } else if is(option, "IFNE") && matches!(condition, Condition::Always) {
                parsed.condition = Condition::Differs(options.value()?);
            } else if is(option, "GET") {
                parsed.answer = Answer::Before;
            } else if is(option, "LEASE") && matches!(lifetime, Lifetime::Default) {
                parsed.lifetime = Lifetime::Leased(options.value()?);
            } else if is(option, "KEEPTTL")
                && matches!(lifetime, Lifetime::Default | Lifetime::Kept)
            {
                parsed.lifetime = Lifetime::Kept;
            } else if !parsed.lifetime.read_expiry(option, &mut options)? {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(parsed)
    }
}

/// Whether the key is as the condition wants it.
fn holds(condition: Condition<'_>, view: &View<'_>, key: &[u8]) -> Result<bool, CommandError> {
    let equals = |value: &[u8]| match view.get(key) {
        None => Ok(false),
        Some(record) => Ok(string_bytes(record, &mut itoa::Buffer::new())? == value),
    };
    match condition {
        Condition::Always => Ok(true),
        Condition::Absent => Ok(view.get(key).is_none()),
        Condition::Present => Ok(view.get(key).is_some()),
        Condition::Equals(value) => equals(value),
        Condition::Differs(value) => Ok(!equals(value)?),
    }
}

/// Sets a string with an expiry and says both.
fn assign_until(
    view: &mut View<'_>,
    (key, value): (&[u8], &[u8]),
    expires_at: UnixMillis,
    effects: &mut Effects,
) -> Result<(), CommandError> {
    if !view.try_set_string(key, StringValue::Bytes(value), Some(expires_at), effects) {
        return Err(CommandError::WRONG_TYPE);
    }
    effects.changed(1);
    effects.event(EventClass::STRING, "set", view.db(), key);
    effects.event(EventClass::GENERIC, "expire", view.db(), key);
    Ok(())
}

/// `SET key value [NX | XX | IFEQ v | IFNE v] [GET] [EX s | PX ms | EXAT t | PXAT t | KEEPTTL]`:
/// OK, or nil when the condition does not hold; with GET the value before, or nil. O(1).
///
/// IFEQ sets only over an equal string, IFNE over a different one or none, as in Redis 8.4 and
/// Valkey 8.1; a key that is no string is then an error.
#[inline]
fn set(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    if args.len() > 3 {
        return set_with_options(view, args, effects);
    }
    if !view.try_set_string(args[1], StringValue::Bytes(args[2]), None, effects) {
        return Err(CommandError::WRONG_TYPE);
    }
    effects.changed(1);
    effects.event(EventClass::STRING, "set", view.db(), args[1]);
    Ok(Reply::Ok)
}

fn set_with_options(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, value) = (args[1], args[2]);
    let options = SetOptions::parse(args)?;
    let until = match options.lifetime {
        Lifetime::Until(expiry) => Some(expiry.resolve(view.now(), "set")?),
        _ => None,
    };
    let before = match options.answer {
        Answer::Before => Some(read_for_reply(view, key, effects)?),
        Answer::Done => None,
    };
    if !holds(options.condition, view, key)? {
        return Ok(before.unwrap_or(Reply::Nil));
    }
    let until = match options.lifetime {
        Lifetime::Leased(id) => {
            spare_lock(view, key)?;
            Some(tie_string(view, key, id)?)
        }
        _ => until,
    };
    if let (Condition::Absent, Some(expires_at)) = (options.condition, until) {
        let lifetime_ms = expires_at.ms_since(view.now());
        let token = view.locks().token();
        view.host().may_grant(Grant { kind: GrantKind::Plain, lifetime_ms, token })?;
    }
    match (until, options.lifetime) {
        (Some(expires_at), _) => assign_until(view, (key, value), expires_at, effects)?,
        (None, lifetime) => {
            let kept = match lifetime {
                Lifetime::Kept => view.peek(key).and_then(|record| record.expires_at()),
                _ => None,
            };
            if !view.try_set_string(key, StringValue::Bytes(value), kept, effects) {
                return Err(CommandError::WRONG_TYPE);
            }
            effects.changed(1);
            effects.event(EventClass::STRING, "set", view.db(), key);
        }
    }
    Ok(before.unwrap_or(Reply::Ok))
}

fn set_for(
    view: &mut View<'_>,
    args: Args<'_>,
    (form, command): (ExpiryForm, &str),
    effects: &mut Effects,
) -> CommandResult {
    let text = args[2];
    let expires_at = ExpiryArg { form, text }.resolve(view.now(), command)?;
    assign_until(view, (args[1], args[3]), expires_at, effects)?;
    Ok(Reply::Ok)
}

/// `SETEX key seconds value`: OK. O(1).
fn setex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_for(view, args, (ExpiryForm::InSeconds, "setex"), effects)
}

/// `PSETEX key milliseconds value`: OK. O(1).
fn psetex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    set_for(view, args, (ExpiryForm::InMillis, "psetex"), effects)
}

fn parse_getex(args: Args<'_>) -> Result<Lifetime<'_>, CommandError> {
    let mut lifetime = Lifetime::Default;
    let mut options = Options::after(args, 2);
    while let Some(option) = options.next() {
        if is(option, "PERSIST") && matches!(lifetime, Lifetime::Default | Lifetime::Cleared) {
            lifetime = Lifetime::Cleared;
        } else if !lifetime.read_expiry(option, &mut options)? {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok(lifetime)
}

/// `GETEX key [EX s | PX ms | EXAT t | PXAT t | PERSIST]`: the value, or nil. O(1).
///
/// A time that has passed deletes the key. As in Redis, a time out of range is an error only
/// if the key is there.
fn getex(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let lifetime = parse_getex(args)?;
    let value = read_for_reply(view, key, effects)?;
    if value == Reply::Nil {
        return Ok(value);
    }
    let db = view.db();
    match lifetime {
        Lifetime::Default | Lifetime::Kept | Lifetime::Leased(_) => {}
        Lifetime::Cleared => {
            let had_one = view.peek(key).is_some_and(|record| record.expires_at().is_some());
            if had_one && view.set_expiry(key, None, effects) {
                effects.changed(1);
                effects.event(EventClass::GENERIC, "persist", db, key);
            }
        }
        Lifetime::Until(expiry) => {
            let expires_at = expiry.resolve(view.now(), "getex")?;
            effects.changed(1);
            if expires_at <= view.now() {
                view.remove(key, effects);
                effects.event(EventClass::GENERIC, "del", db, key);
            } else {
                view.set_expiry(key, Some(expires_at), effects);
                effects.event(EventClass::GENERIC, "expire", db, key);
            }
        }
    }
    Ok(value)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("set", -3, Group::String, set)
        .keys(&[KeySpec::one(1, Access::UpdateVaries)])
        .flags(Flags::DENYOOM)
        .doc(
            "1.0.0",
            "O(1)",
            "key value [NX | XX | IFEQ ifeq-value | IFNE ifne-value] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL | LEASE id]",
            "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
        )
        .differs("Has IFEQ and IFNE, as Redis 8.4; IFDEQ and IFDNE are not there. Has LEASE. A lock is left as it is: WRONGTYPE."),
    Command::write("setex", 4, Group::String, setex)
        .keys(&[KeySpec::one(1, Access::Overwrite)])
        .flags(Flags::DENYOOM)
        .doc(
            "2.0.0",
            "O(1)",
            "key seconds value",
            "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
        ),
    Command::write("psetex", 4, Group::String, psetex)
        .keys(&[KeySpec::one(1, Access::Overwrite)])
        .flags(Flags::DENYOOM)
        .doc(
            "2.6.0",
            "O(1)",
            "key milliseconds value",
            "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.",
        ),
    Command::write("getex", -2, Group::String, getex)
        .keys(&[KeySpec::one(1, Access::Update)])
        .flags(Flags::FAST)
        .doc(
            "6.2.0",
            "O(1)",
            "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
            "Returns the string value of a key after setting its expiration time.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    const SYNTAX: &str = "-ERR syntax error";

    #[test]
    fn conditions_decide() {
        Bench::new().check(&[
            ("SET k 1 XX", "nil"),
            ("SET k 1 NX", "OK"),
            ("SET k 2 NX NX", "nil"),
            ("SET k 2 xx", "OK"),
            ("SET k 3 GET", "\"2\""),
            ("SET k 4 NX GET", "\"3\""),
            ("SET k 4 XX GET GET", "\"3\""),
            ("GET k", "\"4\""),
            ("SET none 1 XX GET", "nil"),
            ("SET new 1 NX GET", "nil"),
            ("GET new", "\"1\""),
            ("SET k v NX XX", SYNTAX),
            ("SET k v XX NX", SYNTAX),
            ("SET k v FOO", SYNTAX),
        ]);
    }

    #[test]
    fn comparisons_decide() {
        Bench::new().check(&[
            ("SET k new IFEQ old", "nil"),
            ("EXISTS k", "0"),
            ("SET k 1 IFNE old", "OK"),
            ("SET k 2 IFEQ 01", "nil"),
            ("SET k 2 IFEQ 1 EX 10", "OK"),
            ("TTL k", "10"),
            ("SET k 3 IFNE 2", "nil"),
            ("SET k 3 IFNE 1 KEEPTTL GET", "\"2\""),
            ("TTL k", "10"),
            ("SET k 4 IFEQ 9 GET", "\"3\""),
            ("GET k", "\"3\""),
            ("SET k 4 IFEQ", SYNTAX),
            ("SET k 4 IFEQ 3 NX", SYNTAX),
            ("SET k 4 XX IFEQ 3", SYNTAX),
            ("SET k 4 IFEQ 3 IFNE 4", SYNTAX),
        ]);
    }

    #[test]
    fn expiries_and_their_errors() {
        let mut bench = Bench::new();
        let invalid = "-ERR invalid expire time in 'set' command";
        bench.check(&[
            ("SET k v EX 10", "OK"),
            ("PTTL k", "10000"),
            ("SET k v KEEPTTL", "OK"),
            ("PTTL k", "10000"),
            ("SET k v", "OK"),
            ("PTTL k", "-1"),
            ("SET k v KEEPTTL", "OK"),
            ("PTTL k", "-1"),
            ("SET k v PX 15 PX 16", "OK"),
            ("PTTL k", "16"),
            ("SET k v EXAT 1700000001", "OK"),
            ("PTTL k", "1000"),
            ("SET k v PXAT 1700000000001", "OK"),
            ("PTTL k", "1"),
            ("SET k v PXAT 5", "OK"),
            ("GET k", "nil"),
            ("SET k v EX 1 PX 2", SYNTAX),
            ("SET k v KEEPTTL EX 2", SYNTAX),
            ("SET k v EX 2 KEEPTTL", SYNTAX),
            ("SET k v PERSIST", SYNTAX),
            ("SET k v EX", SYNTAX),
            ("SET k v EX a", "-ERR value is not an integer or out of range"),
            ("SET k v EX 0", invalid),
            ("SET k v PX -1", invalid),
            ("SET k v EX 9223372036854775807", invalid),
            ("SET k v PX 9223372036854775807", invalid),
            ("SETEX k 2 v", "OK"),
            ("PTTL k", "2000"),
            ("PSETEX k 3 v", "OK"),
            ("PTTL k", "3"),
            ("SETEX k -1 v", "-ERR invalid expire time in 'setex' command"),
            ("PSETEX k 0 v", "-ERR invalid expire time in 'psetex' command"),
            ("GET k", "\"v\""),
        ]);
        bench.pass_ms(2);
        bench.check(&[("GET k", "\"v\"")]);
        bench.pass_ms(1);
        bench.check(&[("GET k", "nil"), ("SET k w NX", "OK")]);
    }

    #[test]
    fn getex_changes_only_the_expiry() {
        Bench::new().check(&[
            ("GETEX none EX 0", "nil"),
            ("SET k v", "OK"),
            ("GETEX k", "\"v\""),
            ("GETEX k EX 10", "\"v\""),
            ("PTTL k", "10000"),
            ("GETEX k", "\"v\""),
            ("PTTL k", "10000"),
            ("GETEX k PERSIST PERSIST", "\"v\""),
            ("PTTL k", "-1"),
            ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
            ("GETEX k EX x", "-ERR value is not an integer or out of range"),
            ("GETEX k PERSIST EX 1", SYNTAX),
            ("GETEX k EX 1 PERSIST", SYNTAX),
            ("GETEX k KEEPTTL", SYNTAX),
            ("GETEX k NX", SYNTAX),
            ("GETEX k PXAT 1", "\"v\""),
            ("EXISTS k", "0"),
        ]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("SET a 2 EX 100", "0:new a, 0:set a, 0:expire a", 1),
            ("SET a 1 KEEPTTL", "0:set a", 1),
            ("SET a 1 NX", "", 0),
            ("SET a 1 IFEQ 2", "", 0),
            ("SET a 2 GET", "0:set a", 1),
            ("SET none 1 GET XX", "0:keymiss none", 0),
            ("GETEX a EX 100", "0:expire a", 1),
            ("GETEX a PERSIST", "0:persist a", 1),
            ("GETEX a PERSIST", "", 0),
            ("GETEX a PXAT 1", "0:del a", 1),
            ("GETEX a", "0:keymiss a", 0),
            ("SETEX e 100 v", "0:new e, 0:set e, 0:expire e", 1),
        ]);
    }

    #[test]
    fn an_error_changes_nothing() {
        let mut bench = Bench::new();
        bench.line("SET k v");
        let before = bench.engine.keyspace().digest(bench.now);
        for line in ["SET k w EX 0", "SET k w BAD", "SETEX k x w", "GETEX k EX 0"] {
            assert!(bench.line(line).is_error(), "{line}");
        }
        assert_eq!(bench.engine.keyspace().digest(bench.now), before);
    }
}
