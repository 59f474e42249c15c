//! Whole databases: FLUSHDB, FLUSHALL, SWAPDB.

use crate::command::options::{database, is};
use crate::command::{Args, Command, Flags, Group, Scope};
use crate::effects::Effects;
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
