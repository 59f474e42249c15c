//! The families of the server's own table.

use std::sync::Arc;

use holdfast_engine::command::{Args, Flags, Group};
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};

use super::{Answer, Call, Run, ServerCommand};
use crate::node::Node;
use crate::session::{Client, Session};

/// Every row of the server, family by family.
pub const FAMILIES: &[&[ServerCommand]] = &[
    super::transaction::ROWS,
    crate::admin::acl::ROWS,
    crate::admin::client::ROWS,
    crate::admin::cluster::ROWS,
    crate::admin::command::ROWS,
    crate::admin::config::ROWS,
    crate::admin::connection::ROWS,
    crate::admin::debug::ROWS,
    crate::admin::info::ROWS,
    crate::admin::migrate::ROWS,
    crate::admin::persistence::ROWS,
    crate::admin::raft::ROWS,
    crate::admin::reports::ROWS,
    crate::admin::script::ROWS,
    crate::admin::server::ROWS,
    crate::admin::subscribe::ROWS,
];

/// The database that `SELECT` with this argument chooses, if there is one.
#[must_use]
pub fn selected_db(node: &Node, text: &[u8]) -> Option<DbIndex> {
    let index = holdfast_engine::value::integer_text(text)?;
    let index = u16::try_from(index).ok()?;
    (u32::from(index) < node.settings.databases()).then_some(DbIndex(index))
}

/// A command of the server's own table that a script calls; `None` if there is none. What the row
/// says decides whether it may. It runs in a session of its own, so that it changes nothing of the
/// caller's, and waits for nothing.
#[must_use]
pub fn script_calls_server(node: &Arc<Node>, args: Args<'_>) -> Option<Reply> {
    const REFUSED: CommandError =
        CommandError::known("ERR This Redis command is not allowed from script");
    let entry = match super::table().resolve(args) {
        Ok(entry) => entry,
        Err(_) => {
            let named = super::table().find(args[0])?;
            let has_no_such_subcommand = matches!(named.run, Run::Container) && args.len() > 1;
            return Some(Reply::error(CommandError::known(match has_no_such_subcommand {
                true => "ERR Unknown Redis command called from script",
                false => "ERR Wrong number of args calling Redis command from script",
            })));
        }
    };
    if entry.row.name == "debug"
        && let Some(reply) = crate::admin::debug::from_script(node, args)
    {
        return Some(reply);
    }
    // Keys are held by the script itself: a command of the server would wait for them for ever.
    let needs_keys =
        !entry.row.keys.is_empty() || entry.row.group == Group::Cluster && node.raft().is_some();
    let Run::Server(run) = entry.run else { return Some(Reply::error(REFUSED)) };
    if entry.row.flags.has(Flags::NOSCRIPT) || needs_keys {
        return Some(Reply::error(REFUSED));
    }
    let (id, now_us) = (node.clients.next_id(), node.clock.monotonic_us());
    let client = Client::new(id, (String::new(), String::new()), -1, false, now_us);
    let mut session = Session::new(&node.pubsub, Arc::new(client), &node.acl);
    let mut call = Call { node, session: &mut session, args, in_transaction: true };
    Some(match run(&mut call) {
        // Scripts see no attributes.
        Answer::Reply(reply) | Answer::Attributed(_, reply) => reply,
        Answer::Many(mut replies) if replies.len() == 1 => replies.remove(0),
        Answer::Many(_) | Answer::Wait(_) => Reply::error(REFUSED),
    })
}
