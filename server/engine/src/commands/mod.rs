//! The command families: one folder per type, one file per group of commands, rows at the end
//! of each file beside their handlers.

pub mod keys;
pub mod server;
pub mod string;

use crate::command::Command;

/// Every row of the engine, family by family.
pub const FAMILIES: &[&[Command]] = &[
    string::basic::ROWS,
    string::set::ROWS,
    string::conditional::ROWS,
    string::counter::ROWS,
    string::range::ROWS,
    string::lcs::ROWS,
    keys::basic::ROWS,
    keys::expire::ROWS,
    keys::ttl::ROWS,
    keys::rename::ROWS,
    keys::copy::ROWS,
    keys::browse::ROWS,
    keys::object::ROWS,
    server::basic::ROWS,
    server::databases::ROWS,
    server::publish::ROWS,
];
