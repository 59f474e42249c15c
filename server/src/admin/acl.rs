//! ACL: users and what they may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_engine::command::{CATEGORIES, Command, Flags, Group};
use holdfast_engine::value::integer_text;
use holdfast_engine::{CommandError, Reply};

use super::config::{proposed, shared_in_transaction, with_files};
use crate::acl::{Entry, Selector, User, file};
use crate::commit::raft::RaftNode;
use crate::commit::raft::batch::Items;
use crate::config::settings::path;
use crate::node::{Node, random_hex};
use crate::route::{Answer, Call, ServerCommand, rights, shared};
use crate::session::Kill;

fn bulk(text: impl AsRef<[u8]>) -> Reply {
    Reply::bulk(text.as_ref())
}

/// `ACL WHOAMI`
fn whoami(call: &mut Call<'_>) -> Answer {
    bulk(call.session.user.name()).into()
}

/// `ACL USERS`
fn users(call: &mut Call<'_>) -> Answer {
    Reply::Array(call.node.acl.all().iter().map(|user| bulk(user.name())).collect()).into()
}

/// `ACL LIST`
fn list(call: &mut Call<'_>) -> Answer {
    Reply::Array(call.node.acl.all().iter().map(|user| bulk(user.line())).collect()).into()
}

/// The three rules of a selector, as GETUSER tells them.
fn rules(selector: &Selector) -> Vec<(Reply, Reply)> {
    vec![
        (bulk("commands"), bulk(selector.commands())),
        (bulk("keys"), bulk(selector.keys())),
        (bulk("channels"), bulk(selector.channels())),
    ]
}

/// `ACL GETUSER username`
fn getuser(call: &mut Call<'_>) -> Answer {
    let Some(user) = call.node.acl.get(call.args[2]) else { return Reply::Nil.into() };
    let flags = user.flags().iter().map(bulk).collect();
    let passwords = user.passwords().iter().map(bulk).collect();
    let selectors = user.selectors().iter().map(|selector| Reply::Map(rules(selector)));
    let mut map =
        vec![(bulk("flags"), Reply::Set(flags)), (bulk("passwords"), Reply::Array(passwords))];
    map.extend(rules(user.root()));
    map.push((bulk("selectors"), Reply::Array(selectors.collect())));
    Reply::Map(map).into()
}

/// The node's Raft, if users are shared through its log.
fn sharing(call: &Call<'_>) -> Option<Arc<RaftNode>> {
    call.node.raft().filter(|raft| raft.running().is_some()).map(Arc::clone)
}

/// Proposes changes of users, and answers once they hold here.
fn share(call: &Call<'_>, raft: Arc<RaftNode>, items: Items, reply: Reply) -> Answer {
    if call.in_transaction {
        return shared_in_transaction("a change of users");
    }
    let client = Arc::clone(&call.session.client);
    proposed(async move {
        client.set_changes_users(true);
        let done = shared::propose(&raft, items).await;
        client.set_changes_users(false);
        done.map(|()| reply)
    })
}

fn add_user(items: &mut Items, user: &User) {
    let words = shared::words_of(user);
    items.user(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

/// `ACL SETUSER username [rule [rule ...]]`: all of the rules, or none; on all members of a
/// cluster.
fn setuser(call: &mut Call<'_>) -> Answer {
    if let Some(raft) = sharing(call) {
        return match call.node.acl.draft(call.args[2], &call.args[3..]) {
            Ok(user) => {
                let mut items = Items::default();
                add_user(&mut items, &user);
                share(call, raft, items, Reply::Ok)
            }
            Err(error) => error.into(),
        };
    }
    match call.node.acl.set(call.args[2], &call.args[3..]) {
        Ok(user) => {
            changing(call, |node| shared::end_listeners(node, &user));
            Reply::Ok.into()
        }
        Err(error) => error.into(),
    }
}

/// Ends clients as a change of users asks; should the caller be among them, it is answered first.
fn changing(call: &mut Call<'_>, end: impl FnOnce(&Node)) {
    call.session.client.set_changes_users(true);
    end(call.node);
    call.session.client.set_changes_users(false);
    call.session.closing |= call.session.client.killed() != Kill::No;
    call.session.refresh_user(&call.node.acl);
}

/// `ACL DELUSER username [username ...]`
fn deluser(call: &mut Call<'_>) -> Answer {
    let names = &call.args[2..];
    if names.contains(&&b"default"[..]) {
        return CommandError::known("ERR The 'default' user cannot be removed").into();
    }
    if let Some(raft) = sharing(call) {
        let mut items = Items::default();
        let known: BTreeSet<&[u8]> =
            names.iter().copied().filter(|name| call.node.acl.get(name).is_some()).collect();
        if known.is_empty() {
            return Reply::Integer(0).into();
        }
        known.iter().for_each(|name| items.user(&[name]));
        let count = Reply::count(known.len());
        return share(call, raft, items, count);
    }
    let mut removed = 0;
    for name in names {
        if call.node.acl.remove(name) {
            removed += 1;
            changing(call, |node| shared::end_clients(node, name));
        }
    }
    Reply::Integer(removed).into()
}

/// `ACL CAT [category]`
fn cat(call: &mut Call<'_>) -> Answer {
    let names: Vec<Reply> = match call.args[2..] {
        [] => CATEGORIES.iter().map(bulk).collect(),
        [category] => {
            let catalogue = call.node.acl.catalogue();
            let Some(ids) = catalogue.of_category(category) else {
                let name = String::from_utf8_lossy(&category[..category.len().min(128)]);
                return CommandError::new(format!("ERR Unknown category '{name}'")).into();
            };
            ids.iter().map(|id| bulk(catalogue.row(*id).full_name())).collect()
        }
        _ => return wrong_count(call),
    };
    Reply::Array(names).into()
}

fn wrong_count(call: &Call<'_>) -> Answer {
    let name = String::from_utf8_lossy(call.args[1]);
    CommandError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP."
    ))
    .into()
}

/// `ACL GENPASS [bits]`: random hexadecimal digits.
fn genpass(call: &mut Call<'_>) -> Answer {
    let bits = match call.args[2..] {
        [] => 256,
        [bits] => match integer_text(bits) {
            Some(bits @ 1..=4096) => bits as usize,
            Some(_) => {
                return CommandError::known(
                    "ERR ACL GENPASS argument must be the number of bits for the output \
                     password, a positive number up to 4096",
                )
                .into();
            }
            None => return CommandError::NOT_AN_INTEGER.into(),
        },
        _ => return wrong_count(call),
    };
    bulk(random_hex(bits.div_ceil(4))).into()
}

fn logged(entry: &Entry, now_ms: u64) -> Reply {
    let age_s = now_ms.saturating_sub(entry.created_ms) as f64 / 1000.0;
    let (created, updated) = (entry.created_ms as i64, entry.updated_ms as i64);
    Reply::Map(vec![
        (bulk("count"), Reply::Integer(entry.count as i64)),
        (bulk("reason"), bulk(entry.event.reason.name())),
        (bulk("context"), bulk(entry.event.context.name())),
        (bulk("object"), bulk(&entry.event.object)),
        (bulk("username"), bulk(&entry.event.username)),
        (bulk("age-seconds"), Reply::Double(age_s)),
        (bulk("client-info"), bulk(&entry.client)),
        (bulk("entry-id"), Reply::Integer(entry.id as i64)),
        (bulk("timestamp-created"), Reply::Integer(created)),
        (bulk("timestamp-last-updated"), Reply::Integer(updated)),
    ])
}

/// `ACL LOG [count | RESET]`
fn log(call: &mut Call<'_>) -> Answer {
    let count = match call.args[2..] {
        [] => 10,
        [word] if word.eq_ignore_ascii_case(b"reset") => {
            call.node.acl.log.reset();
            return Reply::Ok.into();
        }
        [count] => match integer_text(count) {
            Some(count) => usize::try_from(count).unwrap_or(0),
            None => return CommandError::NOT_AN_INTEGER.into(),
        },
        _ => return wrong_count(call),
    };
    let now_ms = call.node.clock.now_ms();
    let entries = call.node.acl.log.newest(count);
    Reply::Array(entries.iter().map(|entry| logged(entry, now_ms)).collect()).into()
}

/// `ACL DRYRUN username command [arg [arg ...]]`
fn dryrun(call: &mut Call<'_>) -> Answer {
    let Some(user) = call.node.acl.get(call.args[2]) else {
        let name = String::from_utf8_lossy(call.args[2]);
        return CommandError::new(format!("ERR User '{name}' not found")).into();
    };
    match rights::dry_run(&user, &call.args[3..]) {
        Ok(None) => Reply::Ok.into(),
        Ok(Some(reason)) => bulk(reason).into(),
        Err(error) => error.into(),
    }
}

/// What SAVE and LOAD answer where the users have no file.
const NO_FILE: CommandError = CommandError::known(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users \
     via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis \
     configuration file set) in order to store users in the Redis configuration.",
);

/// `ACL SAVE`
fn save(call: &mut Call<'_>) -> Answer {
    let name = call.node.settings.aclfile();
    if name.is_empty() {
        return NO_FILE.into();
    }
    match with_files(|| file::save(&call.node.acl, &path(&name))) {
        Ok(()) => Reply::Ok.into(),
        Err(error) => {
            tracing::warn!("ACL SAVE: {error}");
            CommandError::known(
                "ERR There was an error trying to save the ACLs. Please check the server logs \
                 for more information",
            )
            .into()
        }
    }
}

/// `ACL LOAD`: the users of the file instead of those that are, on all members of a cluster; all
/// clients of users other than `default` are ended.
fn load(call: &mut Call<'_>) -> Answer {
    let name = call.node.settings.aclfile();
    if name.is_empty() {
        return NO_FILE.into();
    }
    let before = call.node.acl.all();
    if let Some(raft) = sharing(call) {
        let read = match with_files(|| file::read(&call.node.acl, &path(&name))) {
            Ok(users) => users,
            Err(errors) => return CommandError::new(format!("ERR {errors}")).into(),
        };
        let mut items = Items::default();
        // Removed first, so that the clients of all of them end.
        for user in before.iter().filter(|user| !user.is_default()) {
            items.user(&[user.name()]);
        }
        read.iter().for_each(|user| add_user(&mut items, user));
        return share(call, raft, items, Reply::Ok);
    }
    if let Err(errors) = with_files(|| file::load(&call.node.acl, &path(&name))) {
        return CommandError::new(format!("ERR {errors}")).into();
    }
    let default = call.node.acl.default_user();
    changing(call, |node| {
        for user in before.iter().filter(|user| !user.is_default()) {
            shared::end_clients(node, user.name());
        }
        shared::end_listeners(node, &default);
    });
    Reply::Ok.into()
}

/// `ACL HELP`
fn help(_call: &mut Call<'_>) -> Answer {
    super::help_reply(super::help_texts::ACL)
}

const ANYONE: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE);
const ADMIN: Flags = ANYONE.with(Flags::ADMIN);

const fn sub(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command::server(name, arity, Group::Server).of("acl").flags(flags)
}

const ACL: &[ServerCommand] = &[
    ServerCommand::new(
        sub("cat", -2, ANYONE).doc(
            "6.0.0",
            "O(1) since the categories and commands are a fixed set.",
            "[category]",
            "Lists the ACL categories, or the commands inside a category.",
        ),
        cat,
    ),
    ServerCommand::new(
        sub("deluser", -3, ADMIN).doc(
            "6.0.0",
            "O(1) amortized time considering the typical user.",
            "username [username ...]",
            "Deletes ACL users, and terminates their connections.",
        ),
        deluser,
    ),
    ServerCommand::new(
        sub("dryrun", -4, ADMIN).doc(
            "7.0.0",
            "O(1).",
            "username command [arg [arg ...]]",
            "Simulates the execution of a command by a user, without executing the command.",
        ),
        dryrun,
    ),
    ServerCommand::new(
        sub("genpass", -2, ANYONE).doc(
            "6.0.0",
            "O(1)",
            "[bits]",
            "Generates a pseudorandom, secure password that can be used to identify ACL users.",
        ),
        genpass,
    ),
    ServerCommand::new(
        sub("getuser", 3, ADMIN).doc(
            "6.0.0",
            "O(N). Where N is the number of password, command and pattern rules that the user has.",
            "username",
            "Lists the ACL rules of a user.",
        ),
        getuser,
    ),
    ServerCommand::new(
        Command::server("help", 2, Group::Server)
            .of("acl")
            .flags(Flags::LOADING)
            .flags(Flags::STALE)
            .doc("6.0.0", "O(1)", "", "Returns helpful text about the different subcommands."),
        help,
    ),
    ServerCommand::new(
        sub("list", 2, ADMIN).doc(
            "6.0.0",
            "O(N). Where N is the number of configured users.",
            "",
            "Dumps the effective rules in ACL file format.",
        ),
        list,
    ),
    ServerCommand::new(
        sub("load", 2, ADMIN).doc(
            "6.0.0",
            "O(N). Where N is the number of configured users.",
            "",
            "Reloads the rules from the configured ACL file.",
        ),
        load,
    ),
    ServerCommand::new(
        sub("log", -2, ADMIN).doc(
            "6.0.0",
            "O(N) with N being the number of entries shown.",
            "[count | RESET]",
            "Lists recent security events generated due to ACL rules.",
        ),
        log,
    ),
    ServerCommand::new(
        sub("save", 2, ADMIN).doc(
            "6.0.0",
            "O(N). Where N is the number of configured users.",
            "",
            "Saves the effective ACL rules in the configured ACL file.",
        ),
        save,
    ),
    ServerCommand::new(
        sub("setuser", -3, ADMIN).doc(
            "6.0.0",
            "O(N). Where N is the number of rules provided.",
            "username [rule [rule ...]]",
            "Creates and modifies an ACL user and its rules.",
        ),
        setuser,
    ),
    ServerCommand::new(
        sub("users", 2, ADMIN).doc(
            "6.0.0",
            "O(N). Where N is the number of configured users.",
            "",
            "Lists all ACL users.",
        ),
        users,
    ),
    ServerCommand::new(
        sub("whoami", 2, ANYONE).doc(
            "6.0.0",
            "O(1)",
            "",
            "Returns the authenticated username of the current connection.",
        ),
        whoami,
    ),
];

/// The rows of this file.
pub const ROWS: &[ServerCommand] = &[ServerCommand::container(
    Command::container("acl", Group::Server, &[]).doc(
        "6.0.0",
        "Depends on subcommand.",
        "",
        "A container for Access List Control commands.",
    ),
    ACL,
)];
