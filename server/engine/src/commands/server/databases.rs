//! Whole databases: FLUSHDB, FLUSHALL, SWAPDB.

use crate::command::options::{database, is};
use crate::command::{Args, Command, Flags, Group, Scope};
use crate::effects::{Effects, Notice};
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::time::DbIndex;

/// Checks `[ASYNC | SYNC]`. Both free the memory where no one waits for it.
fn check_mode(args: Args<'_>) -> Result<(), CommandError> {
    match args {
        [_] => Ok(()),
        [_, mode] if is(mode, "ASYNC") || is(mode, "SYNC") => Ok(()),
        _ => Err(CommandError::SYNTAX),
    }
}

/// `FLUSHDB [ASYNC | SYNC]`: OK; the selected database is empty. O(shards).
fn flushdb(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    check_mode(args)?;
    let removed = view.clear_db(effects);
    effects.changed(removed as u64);
    effects.notices.push(Notice::Flushed);
    Ok(Reply::Ok)
}

/// `FLUSHALL [ASYNC | SYNC]`: OK; every database is empty. O(shards).
fn flushall(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    check_mode(args)?;
    let selected = view.db();
    for db in 0..view.databases() {
        view.select(DbIndex(db));
        let removed = view.clear_db(effects);
        effects.changed(removed as u64);
    }
    view.select(selected);
    effects.notices.push(Notice::Flushed);
    Ok(Reply::Ok)
}

/// `SWAPDB index1 index2`: OK; clients of either database see the other's keys. O(shards).
fn swapdb(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let parse = |arg, invalid| match database(arg, view.databases()) {
        Err(error) if error != CommandError::DB_OUT_OF_RANGE => Err(invalid),
        other => Ok(other),
    };
    let first = parse(args[1], CommandError::known("ERR invalid first DB index"))?;
    let second = parse(args[2], CommandError::known("ERR invalid second DB index"))?;
    let (first, second) = (first?, second?);
    view.swap_dbs(first, second, effects);
    effects.changed(1);
    Ok(Reply::Ok)
}

const FLAGS: Flags = Flags::KEYSPACE.with(Flags::DANGEROUS);

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("flushdb", -1, Group::Server, flushdb)
        .scope(Scope::Db)
        .flags(FLAGS)
        .doc(
            "1.0.0",
            "O(N) where N is the number of keys in the selected database",
            "[ASYNC | SYNC]",
            "Remove all keys from the current database.",
        ),
    Command::write("flushall", -1, Group::Server, flushall)
        .scope(Scope::All)
        .flags(FLAGS)
        .doc(
            "1.0.0",
            "O(N) where N is the total number of keys in all databases",
            "[ASYNC | SYNC]",
            "Removes all keys from all databases.",
        ),
    Command::write("swapdb", 3, Group::Server, swapdb)
        .scope(Scope::All)
        .flags(FLAGS.with(Flags::FAST))
        .doc(
            "4.0.0",
            "O(N) where N is the count of clients watching or blocking on keys from both databases.",
            "index1 index2",
            "Swaps two Redis databases.",
        ),
];

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use crate::time::DbIndex;

    #[test]
    fn flushing_one_or_all() {
        let mut bench = Bench::new();
        bench.check(&[
            ("FLUSHALL", "OK"),
            ("MSET a 1 b 2", "OK"),
            ("COPY a a DB 5", "1"),
            ("FLUSHDB x", "-ERR syntax error"),
            ("FLUSHALL ASYNC SYNC", "-ERR syntax error"),
            ("DBSIZE", "2"),
            ("FLUSHDB async", "OK"),
        ]);
        assert_eq!(bench.effects.changes, 2);
        bench.check(&[("DBSIZE", "0"), ("SCAN 0", "[\"0\" []]")]);
        bench.db = DbIndex(5);
        bench.check(&[("DBSIZE", "1"), ("FLUSHALL SYNC", "OK"), ("DBSIZE", "0")]);
        assert!(bench.engine.keyspace().sizes(bench.now).is_empty());
    }

    #[test]
    fn a_swap_exchanges_keys_and_expiries() {
        let mut bench = Bench::new();
        bench.check(&[
            ("SET a 0 PX 50", "OK"),
            ("SWAPDB 0 9", "OK"),
            ("DBSIZE", "0"),
            ("SET b 1", "OK"),
            ("SWAPDB 9 0", "OK"),
            ("PTTL a", "50"),
            ("SWAPDB 0 0", "OK"),
        ]);
        bench.pass_ms(50);
        assert!(bench.engine.keyspace().has_due(bench.now));
        bench.check(&[("DBSIZE", "0")]);
        bench.db = DbIndex(9);
        bench.check(&[
            ("GET b", "\"1\""),
            ("SWAPDB x 0", "-ERR invalid first DB index"),
            ("SWAPDB 0 y", "-ERR invalid second DB index"),
            ("SWAPDB 16 y", "-ERR invalid second DB index"),
            ("SWAPDB 99999999999 0", "-ERR invalid first DB index"),
            ("SWAPDB 0 16", "-ERR DB index is out of range"),
            ("SWAPDB -1 0", "-ERR DB index is out of range"),
        ]);
    }
}
