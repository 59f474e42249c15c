//! The families of the server's own table.

use holdfast_engine::Reply;
use holdfast_engine::command::Args;
use holdfast_engine::time::DbIndex;

use super::ServerCommand;
use crate::node::Node;

/// Every row of the server, family by family.
pub const FAMILIES: &[&[ServerCommand]] = &[
    super::transaction::ROWS,
    crate::admin::connection::ROWS,
    crate::admin::script::ROWS,
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
    let _ = (node, args);
    None
}
