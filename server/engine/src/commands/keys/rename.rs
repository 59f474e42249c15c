//! Giving a key another name: RENAME, RENAMENX.

use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::lock::spare_lock;
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

/// Moves the value and its expiry from one key to another, over whatever that held.
fn rename_to(view: &mut View<'_>, key: &[u8], new_key: &[u8], effects: &mut Effects) {
    // Removed rather than replaced, so that the new name is told as a new key, as in Redis.
    view.remove(new_key, effects);
    let Some(mut record) = view.take(key, effects) else {
        return;
    };
    record.set_key(new_key);
    view.put(record, effects);
    effects.changed(1);
    effects.event(EventClass::GENERIC, "rename_from", view.db(), key);
    effects.event(EventClass::GENERIC, "rename_to", view.db(), new_key);
}

/// `RENAME key newkey`: OK; an error if there is no such key. O(1).
fn rename(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, new_key) = (args[1], args[2]);
    if view.get(key).is_none() {
        return Err(CommandError::NO_SUCH_KEY);
    }
    spare_lock(view, key)?;
    spare_lock(view, new_key)?;
    if key != new_key {
        rename_to(view, key, new_key, effects);
    }
    Ok(Reply::Ok)
}

/// `RENAMENX key newkey`: 1, or 0 if the new name is taken; an error if there is no such key.
/// O(1).
fn renamenx(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, new_key) = (args[1], args[2]);
    if view.get(key).is_none() {
        return Err(CommandError::NO_SUCH_KEY);
    }
    spare_lock(view, key)?;
    if view.peek(new_key).is_some() {
        return Ok(Reply::Integer(0));
    }
    rename_to(view, key, new_key, effects);
    Ok(Reply::Integer(1))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("rename", 3, Group::Generic, rename)
        .keys(&[KeySpec::one(1, Access::Take), KeySpec::one(2, Access::Overwrite)])
        .doc("1.0.0", "O(1)", "key newkey", "Renames a key and overwrites the destination."),
    Command::write("renamenx", 3, Group::Generic, renamenx)
        .keys(&[KeySpec::one(1, Access::Take), KeySpec::one(2, Access::Create)])
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(1)",
            "key newkey",
            "Renames a key only when the target key name doesn't exist.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn the_value_and_its_expiry_move() {
        let mut bench = Bench::new();
        let long = "x".repeat(70_000);
        bench.check(&[
            ("SET a 1 EX 100", "OK"),
            ("SET b 2", "OK"),
            ("RENAME a b", "OK"),
            ("GET b", "\"1\""),
            ("TTL b", "100"),
            ("EXISTS a", "0"),
            ("SET a 3", "OK"),
            ("RENAMENX a b", "0"),
            ("RENAMENX a c", "1"),
            ("MGET a b c", "[nil \"1\" \"3\"]"),
            ("RENAME c c", "OK"),
            ("RENAMENX c c", "0"),
            ("RENAME none c", "-ERR no such key"),
            ("RENAMENX none none", "-ERR no such key"),
        ]);
        bench.run(&["RENAME", "b", &long]);
        assert_eq!(bench.run(&["TTL", &long]), crate::Reply::Integer(100));
        bench.pass_ms(100_000);
        assert_eq!(bench.run(&["GET", &long]), crate::Reply::Nil);
        bench.check(&[("DBSIZE", "1")]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("MSET e 1 f 2", "0:new e, 0:set e, 0:new f, 0:set f", 2),
            ("RENAME e f", "0:new f, 0:rename_from e, 0:rename_to f", 1),
            ("RENAME f f", "", 0),
            ("RENAMENX f g", "0:new g, 0:rename_from f, 0:rename_to g", 1),
        ]);
    }

    #[test]
    fn both_names_have_new_versions() {
        let mut bench = Bench::new();
        bench.line("MSET a 1 b 2");
        let watches = [bench.watch("a"), bench.watch("b"), bench.watch("c")];
        bench.line("RENAME a b");
        let [a, b, c] = watches;
        assert_eq!(bench.transaction(&["PING"], &[a]), None);
        assert_eq!(bench.transaction(&["PING"], &[b]), None);
        assert!(bench.transaction(&["PING"], &[c]).is_some());
    }
}
