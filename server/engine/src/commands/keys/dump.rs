//! Values as bytes, to carry them elsewhere: DUMP, RESTORE.

use crate::command::options::{Options, integer, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::dump::payload;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::UnixMillis;

/// `DUMP key`: the value in Redis's serialization, or nil. O(N).
fn dump(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(view.get(args[1]).map_or(Reply::Nil, |record| Reply::Bulk(payload::dump(record).into())))
}

/// How RESTORE is to note the key's past use.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// As new.
    New,
    /// Seconds since the last one.
    Idle(i64),
    /// The frequency counter.
    Frequency(u8),
}

/// What follows RESTORE's payload.
struct Extras {
    replace: bool,
    absolute: bool,
    used: Use,
}

impl Extras {
    fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        const BAD_IDLE: CommandError =
            CommandError::known("ERR Invalid IDLETIME value, must be >= 0");
        const BAD_FREQUENCY: CommandError =
            CommandError::known("ERR Invalid FREQ value, must be >= 0 and <= 255");
        let mut extras = Self { replace: false, absolute: false, used: Use::New };
        let mut options = Options::after(args, 4);
        while let Some(option) = options.next() {
            if is(option, "REPLACE") {
                extras.replace = true;
            } else if is(option, "ABSTTL") {
                extras.absolute = true;
            } else if is(option, "IDLETIME") && !matches!(extras.used, Use::Frequency(_)) {
                let seconds = integer(options.value()?)?;
                extras.used = Use::Idle(if seconds < 0 { return Err(BAD_IDLE) } else { seconds });
            } else if is(option, "FREQ") && !matches!(extras.used, Use::Idle(_)) {
                let counter = integer(options.value()?)?;
                extras.used = Use::Frequency(u8::try_from(counter).map_err(|_| BAD_FREQUENCY)?);
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(extras)
    }
}

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`: OK.
/// The payload is checked in full, whatever wrote it. O(N).
fn restore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    const BAD_TTL: CommandError = CommandError::known("ERR Invalid TTL value, must be >= 0");
    let (key, now) = (args[1], view.now());
    let extras = Extras::parse(args)?;
    if !extras.replace && view.peek(key).is_some() {
        return Err(CommandError::known("BUSYKEY Target key name already exists."));
    }
    let ttl = integer(args[2])?;
    let expires_at = match ttl {
        ..=-1 => return Err(BAD_TTL),
        0 => None,
        at if extras.absolute => Some(UnixMillis(at)),
        ms => Some(now.checked_add_ms(ms).ok_or(BAD_TTL)?),
    };
    let body = payload::unframe(args[3])
        .ok_or(CommandError::known("ERR DUMP payload version or checksum are wrong"))?;
    let value = payload::restore(body, view.limits())
        .map_err(|_| CommandError::known("ERR Bad data format"))?;
    if expires_at.is_some_and(|at| at <= now) {
        if view.remove(key, effects) {
            effects.event(EventClass::GENERIC, "del", view.db(), key);
            effects.changed(1);
        }
        return Ok(Reply::Ok);
    }
    // What stood there counts as deleted, so that its use is not inherited.
    view.remove(key, effects);
    view.put(value.into_record(key, expires_at), effects);
    if let Some(record) = view.peek(key) {
        let lfu = view.limits().lfu_policy() != 0;
        match extras.used {
            Use::Idle(seconds) if !lfu => {
                let clock = i64::from(view.context().access_clock());
                record.touch(clock.wrapping_sub(seconds) as u32 & 0x00ff_ffff);
            }
            Use::Frequency(counter) if lfu => {
                record.touch(crate::access::with_counter(now, counter));
            }
            _ => {}
        }
    }
    effects.changed(1);
    effects.event(EventClass::GENERIC, "restore", view.db(), key);
    Ok(Reply::Ok)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("dump", 2, Group::Generic, dump).keys(&[KeySpec::one(1, Access::Read)]).doc(
        "2.6.0",
        "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
        "key",
        "Returns a serialized representation of the value stored at a key.",
    ),
    Command::write("restore", -4, Group::Generic, restore)
        .keys(&[KeySpec::one(1, Access::Overwrite)])
        .flags(Flags::DENYOOM.with(Flags::DANGEROUS))
        .doc(
            "2.6.0",
            "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).",
            "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
            "Creates a key from the serialized representation of a value.",
        ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Record;
    use crate::testing::Bench;

    fn dumped(bench: &mut Bench, key: &str) -> Vec<u8> {
        match bench.run(&["DUMP", key]) {
            Reply::Bulk(payload) => payload.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn restored(bench: &mut Bench, args: &[&[u8]]) -> String {
        crate::testing::show(&bench.run(args))
    }

    #[test]
    fn every_encoding_comes_back() {
        let mut bench = Bench::new();
        let long = "long ".repeat(2000);
        bench.run(&["SET", "long", &long]);
        for (line, range) in [
            ("SET int 12345", 0..0),
            ("SET big 123456789012345", 0..0),
            ("SET text hello", 0..0),
            ("APPEND raw 12", 0..0),
            ("RPUSH list a 1 -5 300 b", 0..0),
            ("SADD ints 1 2 70000", 0..0),
            ("SADD small b 1 a", 0..0),
            ("ZADD zset 1 a 1.5 b -inf c 1e300 d", 0..0),
            ("HSET hash f v 1 2", 0..0),
            ("RPUSH biglist", 0..3000),
            ("SADD bigset", 0..600),
            ("ZADD bigzset 7", 0..0),
            ("SADD strings x", 0..300),
        ] {
            let mut args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            args.extend(range.map(|n| format!("element-{n}")));
            if args.len() > 2 {
                bench.run(&args);
            }
        }
        for n in 0..300 {
            bench.line(&format!("ZADD bigzset {n}.25 m{n}"));
            bench.line(&format!("HSET bighash f{n} v{n}"));
        }
        bench.line("HSET expiring f v g w");
        bench.line("HPEXPIRE expiring 5000 FIELDS 1 f");
        for key in [
            "long", "int", "big", "text", "raw", "list", "ints", "small", "zset", "hash",
            "biglist", "bigset", "bigzset", "strings", "bighash", "expiring",
        ] {
            let payload = dumped(&mut bench, key);
            let copy = format!("{key}-copy");
            let reply = restored(&mut bench, &[b"RESTORE", copy.as_bytes(), b"0", &payload]);
            assert_eq!(reply, "OK", "{key}");
            let (one, other) = [key, &copy]
                .map(|key| {
                    bench.engine.describe(bench.db, key.as_bytes(), bench.now).expect("it is there")
                })
                .into();
            assert_eq!(one.digest, other.digest, "{key}");
            if key != "raw" {
                assert_eq!(one.encoding, other.encoding, "{key}");
            }
            for cut in [0, 1, payload.len() / 2, payload.len() - 1] {
                let reply = restored(&mut bench, &[b"RESTORE", b"cut", b"0", &payload[..cut]]);
                assert_eq!(reply, "-ERR DUMP payload version or checksum are wrong");
            }
        }
        assert_eq!(bench.show("HPEXPIRETIME expiring-copy FIELDS 2 f g"), "[1700000005000 -1]");
    }

    #[test]
    fn restore_heeds_its_options() {
        let mut bench = Bench::new();
        bench.line("SET k v");
        let payload = dumped(&mut bench, "k");
        let mut check = |args: &[&[u8]], expected: &str| {
            let mut all: Vec<&[u8]> = vec![b"RESTORE", args[0], args[1], &payload];
            all.extend(&args[2..]);
            assert_eq!(restored(&mut bench, &all), expected, "{args:?}");
        };
        check(&[b"k", b"0"], "-BUSYKEY Target key name already exists.");
        check(&[b"k", b"0", b"replace"], "OK");
        check(&[b"n", b"-1"], "-ERR Invalid TTL value, must be >= 0");
        check(&[b"n", b"x"], "-ERR value is not an integer or out of range");
        check(&[b"n", b"0", b"IDLETIME", b"-1"], "-ERR Invalid IDLETIME value, must be >= 0");
        check(&[b"n", b"0", b"FREQ", b"256"], "-ERR Invalid FREQ value, must be >= 0 and <= 255");
        check(&[b"n", b"0", b"FREQ", b"1", b"IDLETIME", b"1"], "-ERR syntax error");
        check(&[b"n", b"0", b"IDLETIME"], "-ERR syntax error");
        check(&[b"n", b"5000", b"IDLETIME", b"100"], "OK");
        check(&[b"p", b"1", b"ABSTTL"], "OK");
        bench.check(&[("PTTL n", "5000"), ("OBJECT IDLETIME n", "100"), ("EXISTS p", "0")]);
    }

    #[test]
    fn what_redis_wrote_is_read() {
        // From Redis's own suite and documentation: a string, and an old ziplist of three.
        let limits = crate::limits::Limits::default();
        let text = b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb";
        let body = payload::unframe(text).expect("a valid frame");
        let value = payload::restore(body, &limits).expect("a valid value");
        let record: Record = value.into_record(b"k", None);
        assert!(matches!(record.value(), crate::raw::Value::Integer(10)));
    }
}
