//! Keys into other places and databases: COPY, MOVE.

use crate::command::options::{Options, database, is};
use crate::command::{Access, Args, Command, Flags, Group, KeySpec, Scope};
use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::DbIndex;

/// Runs `work` with another database selected.
fn in_db<T>(view: &mut View<'_>, db: DbIndex, work: impl FnOnce(&mut View<'_>) -> T) -> T {
    let selected = view.db();
    view.select(db);
    let result = work(view);
    view.select(selected);
    result
}

/// `COPY source destination [DB destination-db] [REPLACE]`: 1, or 0 if there is no source or,
/// without REPLACE, the destination is taken. The expiry is copied too. O(N).
fn copy(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let (key, new_key) = (args[1], args[2]);
    let (mut db, mut replace) = (view.db(), false);
    let mut options = Options::after(args, 3);
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB") {
            db = database(options.value()?, view.databases())?;
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    if db == view.db() && key == new_key {
        return Err(CommandError::SAME_OBJECT);
    }
    let Some(record) = view.get(key) else {
        effects.event(EventClass::KEY_MISS, "keymiss", view.db(), key);
        return Ok(Reply::Integer(0));
    };
    let copied = record.copy_under(new_key);
    let done = in_db(view, db, |view| {
        if view.peek(new_key).is_some() {
            if !replace {
                return false;
            }
            view.remove(new_key, effects);
        }
        view.put(copied, effects);
        effects.event(EventClass::GENERIC, "copy_to", db, new_key);
        true
    });
    effects.changed(u64::from(done));
    Ok(Reply::flag(done))
}

/// `MOVE key db`: 1, or 0 if there is no such key or the other database has one. O(1).
fn move_(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let key = args[1];
    let (from, to) = (view.db(), database(args[2], view.databases())?);
    if from == to {
        return Err(CommandError::SAME_OBJECT);
    }
    let taken = in_db(view, to, |view| view.peek(key).is_some());
    if view.get(key).is_none() || taken {
        return Ok(Reply::Integer(0));
    }
    let Some(record) = view.take(key, effects) else {
        return Ok(Reply::Integer(0));
    };
    in_db(view, to, |view| view.put(record, effects));
    effects.changed(1);
    effects.event(EventClass::GENERIC, "move_from", from, key);
    effects.event(EventClass::GENERIC, "move_to", to, key);
    Ok(Reply::Integer(1))
}

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("copy", -3, Group::Generic, copy)
        .keys(&[
            KeySpec::one(1, Access::Read),
            KeySpec::one(2, Access::Overwrite),
        ])
        .scope(Scope::KeysUnlessDb)
        .flags(Flags::DENYOOM)
        .doc(
            "6.2.0",
            "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
            "source destination [DB destination-db] [REPLACE]",
            "Copies the value of a key to a new key.",
        ),
    Command::write("move", 3, Group::Generic, move_)
        .keys(&[KeySpec::one(1, Access::Update)])
        .scope(Scope::All)
        .flags(Flags::FAST)
        .doc(
            "1.0.0",
            "O(1)",
            "key db",
            "Moves a key to another database.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use crate::time::DbIndex;

    #[test]
    fn copies_are_deep_and_keep_expiry_and_encoding() {
        let mut bench = Bench::new();
        let long = "x".repeat(50_000);
        bench.run(&["SET", "long", &long]);
        bench.check(&[
            ("SET a 12 EX 100", "OK"),
            ("COPY a b", "1"),
            ("TTL b", "100"),
            ("OBJECT ENCODING b", "\"int\""),
            ("APPEND a 3", "3"),
            ("GET b", "\"12\""),
            ("COPY a b", "0"),
            ("COPY a b REPLACE", "1"),
            ("GET b", "\"123\""),
            ("OBJECT ENCODING b", "\"raw\""),
            ("COPY none b", "0"),
            ("COPY long other", "1"),
            ("SETRANGE long 0 changed", "50000"),
            ("GETRANGE other 0 6", "\"xxxxxxx\""),
        ]);
    }

    #[test]
    fn databases_are_reached() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET a 1 EX 100", "OK"),
            ("COPY a a DB 1", "1"),
            ("COPY a b db 3 replace", "1"),
            ("MOVE a 1", "0"),
            ("MOVE a 2", "1"),
            ("EXISTS a", "0"),
            ("MOVE a 2", "0"),
        ]);
        for (db, key) in [(1, "a"), (3, "b"), (2, "a")] {
            bench.db = DbIndex(db);
            assert_eq!(bench.show(&format!("GET {key}")), "\"1\"", "{db}");
            assert_eq!(bench.show(&format!("TTL {key}")), "100", "{db}");
            assert_eq!(bench.show("DBSIZE"), "1", "{db}");
        }
    }

    #[test]
    fn errors() {
        let same = "-ERR source and destination objects are the same";
        let range = "-ERR DB index is out of range";
        let wide = "-ERR value is out of range, value must between -2147483648 and 2147483647";
        Bench::new().check(&[
            ("COPY a a", same),
            ("COPY a a DB 0", same),
            ("COPY a b FOO", "-ERR syntax error"),
            ("COPY a b DB", "-ERR syntax error"),
            ("COPY a b DB 16", range),
            ("COPY a b DB -1", range),
            ("COPY a b DB x", "-ERR value is not an integer or out of range"),
            ("MOVE a 0", same),
            ("MOVE a 16", range),
            ("MOVE a x", "-ERR value is not an integer or out of range"),
            ("MOVE a 99999999999", wide),
        ]);
    }

    #[test]
    fn events_are_redis_events() {
        Bench::new().check_events(&[
            ("SET g 1", "0:new g, 0:set g", 1),
            ("COPY g h", "0:new h, 0:copy_to h", 1),
            ("COPY g h", "", 0),
            ("COPY g h REPLACE", "0:new h, 0:copy_to h", 1),
            ("COPY g h DB 1", "1:new h, 1:copy_to h", 1),
            ("MOVE g 2", "2:new g, 0:move_from g, 2:move_to g", 1),
            ("COPY g x", "0:keymiss g", 0),
            ("MOVE g 2", "", 0),
        ]);
    }
}
