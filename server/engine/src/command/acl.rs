//! ACL categories, derived from a row's flags and group as Redis derives them.

use super::{Command, Flags, Group};

/// The categories in the order `ACL CAT` lists them; the last is ours.
pub const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
    "lock",
];

/// The categories of `command`, each with its `@`, in the order `ACL CAT` lists them.
#[must_use]
pub fn categories(command: &Command) -> Vec<&'static str> {
    let flags = command.flags;
    let mut names = Vec::new();
    let mut when = |yes: bool, name| {
        if yes {
            names.push(name);
        }
    };
    let scripting = command.group == Group::Scripting;
    let collections = flags.has(Flags::COLLECTIONS);
    let generic = command.group == Group::Generic && !command.keys.is_empty() && !collections;
    when(generic || flags.has(Flags::KEYSPACE), "@keyspace");
    when(flags.has(Flags::READONLY) && !scripting, "@read");
    when(flags.has(Flags::WRITE) && !scripting, "@write");
    for name in ["@set", "@sortedset", "@list"] {
        when(collections, name);
    }
    match command.group {
        Group::Set => when(true, "@set"),
        Group::SortedSet => when(true, "@sortedset"),
        Group::List => when(true, "@list"),
        Group::Hash => when(true, "@hash"),
        Group::String => when(true, "@string"),
        Group::Bitmap => when(true, "@bitmap"),
        // Of the containers only the subcommands are told of.
        Group::Stream => when(command.subcommands.is_empty(), "@stream"),
        Group::HyperLogLog => when(true, "@hyperloglog"),
        Group::Geo => when(true, "@geo"),
        Group::Lock => when(true, "@lock"),
        _ => {}
    }
    when(flags.has(Flags::PUBSUB), "@pubsub");
    when(flags.has(Flags::ADMIN), "@admin");
    when(flags.has(Flags::FAST), "@fast");
    when(!flags.has(Flags::FAST), "@slow");
    when(flags.has(Flags::BLOCKING), "@blocking");
    when(flags.has(Flags::ADMIN) || flags.has(Flags::DANGEROUS), "@dangerous");
    when(command.group == Group::Connection, "@connection");
    when(command.group == Group::Transactions, "@transaction");
    when(scripting, "@scripting");
    names
}
