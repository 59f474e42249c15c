//! The families of the server's own table.

use holdfast_engine::command::Args;
use holdfast_engine::time::DbIndex;
use holdfast_engine::{CommandError, Reply};

use super::ServerCommand;
use crate::node::Node;

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

/// A command of the server's own table that a script calls; `None` if scripts may not.
#[must_use]
pub fn script_calls_server(node: &Node, args: Args<'_>) -> Option<Reply> {
    let entry = match super::table().resolve(args) {
        Ok(entry) => entry,
        Err(_) => {
            super::table().find(args[0])?;
            return Some(Reply::error(CommandError::known(
                "ERR Wrong number of args calling Redis command from script",
            )));
        }
    };
    // Only what tells about the server without a session can run inside a script.
    if entry.row.name == "info" {
        let text = crate::admin::info::text(node, &args[1..]);
        return Some(Reply::Verbatim(text.into()));
    }
    if entry.row.name == "debug"
        && let Some(reply) = crate::admin::debug::from_script(node, args)
    {
        return Some(reply);
    }
    Some(Reply::error(CommandError::known("ERR This Redis command is not allowed from script")))
}
