//! Whether keys are there, of which type, and away with them.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::lock::break_lock;
use crate::effects::{Effects, EventClass};
use crate::keyspace::View;
use crate::raw::{Record, Value};
use crate::reply::{CommandResult, Reply};

/// The name TYPE gives a record's value.
pub(super) fn type_name(record: &Record) -> &'static str {
    match record.value() {
        Value::Integer(_) | Value::String(_) => "string",
        Value::Object(object) => object.type_name(),
    }
}

/// `DEL key [key ...]`, `UNLINK key [key ...]`: how many keys were there. O(N).
///
/// Both free what is large where no one waits for it.
fn del(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let mut removed = 0;
    for key in &args[1..] {
        break_lock(view, key, effects);
        if view.remove(key, effects) {
            removed += 1;
            effects.event(EventClass::GENERIC, "del", view.db(), key);
        }
    }
    effects.changed(removed);
    Ok(Reply::Integer(removed as i64))
}

/// `EXISTS key [key ...]`: how many are there, each as often as it is named. O(N).
fn exists(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::count(args[1..].iter().filter(|key| view.look(key).is_some()).count()))
}

/// `TOUCH key [key ...]`: how many are there; their idle time begins anew. O(N).
fn touch(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::count(args[1..].iter().filter(|key| view.get(key).is_some()).count()))
}

/// `TYPE key`: the type's name, or `none`. O(1).
fn type_(view: &View<'_>, args: Args<'_>) -> CommandResult {
    Ok(Reply::simple(view.look(args[1]).map_or("none", type_name)))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("del", -2, Group::Generic, del)
        .keys(&[KeySpec::range(1, -1, 1, Access::Delete)])
        .doc(
            "1.0.0",
            "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
            "key [key ...]",
            "Deletes one or more keys.",
        ),
    Command::write("unlink", -2, Group::Generic, del)
        .keys(&[KeySpec::range(1, -1, 1, Access::Delete)])
        .flags(Flags::FAST)
        .doc(
            "4.0.0",
            "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
            "key [key ...]",
            "Asynchronously deletes one or more keys.",
        ),
    Command::read("exists", -2, Group::Generic, exists)
        .keys(&[KeySpec::range(1, -1, 1, Access::Look)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(N) where N is the number of keys to check.",
            "key [key ...]",
            "Determines whether one or more keys exist.",
        ),
    Command::read("touch", -2, Group::Generic, touch)
        .keys(&[KeySpec::range(1, -1, 1, Access::Look)])
        .flags(Flags::FAST)
        .doc(
            "3.2.1",
            "O(N) where N is the number of keys that will be touched.",
            "key [key ...]",
            "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
        ),
    Command::read("type", 2, Group::Generic, type_)
        .keys(&[KeySpec::one(1, Access::Look)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(1)",
            "key",
            "Determines the type of value stored at a key.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn keys_are_counted_as_often_as_named() {
        let mut bench = Bench::new();
        bench.check(&[
            ("MSET a 1 b text", "OK"),
            ("EXISTS a a none b", "3"),
            ("TOUCH a none b", "2"),
            ("TYPE a", "string"),
            ("TYPE none", "none"),
            ("DEL a a none", "1"),
            ("UNLINK a b", "1"),
            ("DBSIZE", "0"),
        ]);
    }

    #[test]
    fn an_expired_key_is_absent_from_its_very_millisecond() {
        let mut bench = Bench::new();
        bench.line("SET k v PX 5");
        bench.pass_ms(4);
        bench.check(&[("EXISTS k", "1"), ("DBSIZE", "1")]);
        bench.pass_ms(1);
        bench.check(&[
            ("EXISTS k", "0"),
            ("DBSIZE", "0"),
            ("TYPE k", "none"),
            ("RANDOMKEY", "nil"),
            ("KEYS *", "[]"),
            ("SCAN 0", "[\"0\" []]"),
        ]);
        bench.check_events(&[("DEL k", "0:expired k", 0), ("DEL k", "", 0)]);
    }

    #[test]
    fn only_touch_touches() {
        let mut bench = Bench::new();
        bench.line("SET k v");
        bench.pass_ms(100_000);
        for line in ["EXISTS k", "TYPE k", "TTL k", "OBJECT ENCODING k"] {
            bench.line(line);
            bench.check(&[("OBJECT IDLETIME k", "100")]);
        }
        bench.check(&[("TOUCH k", "1"), ("OBJECT IDLETIME k", "0")]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("MSET a 1 b 2", "0:new a, 0:set a, 0:new b, 0:set b", 2),
            ("DEL a a none", "0:del a", 1),
            ("UNLINK b", "0:del b", 1),
            ("DEL b", "", 0),
        ]);
    }
}
