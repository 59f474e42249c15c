//! The command families: one folder per type, one file per group of commands, rows at the end
//! of each file beside their handlers.

pub mod functions;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod keys;
pub mod list;
pub mod lock;
#[cfg(test)]
mod model;
#[cfg(test)]
mod oracle_tests;
pub mod scripting;
pub mod server;
pub mod set;
pub mod sorted_set;
pub mod stream;
pub mod string;

pub use stream::read::would_wait;

use crate::command::Command;

/// Every row of the engine, family by family.
pub const FAMILIES: &[&[Command]] = &[
    string::basic::ROWS,
    string::set::ROWS,
    string::conditional::ROWS,
    string::counter::ROWS,
    string::range::ROWS,
    string::lcs::ROWS,
    string::bits::ROWS,
    string::bitop::ROWS,
    string::bitfield::ROWS,
    keys::basic::ROWS,
    keys::expire::ROWS,
    keys::ttl::ROWS,
    keys::rename::ROWS,
    keys::copy::ROWS,
    keys::dump::ROWS,
    keys::browse::ROWS,
    keys::object::ROWS,
    keys::sort::ROWS,
    scripting::ROWS,
    functions::ROWS,
    server::basic::ROWS,
    server::databases::ROWS,
    server::publish::ROWS,
    hash::fields::ROWS,
    hash::whole::ROWS,
    hash::counter::ROWS,
    hash::expire::ROWS,
    hash::lifetime::ROWS,
    list::ends::ROWS,
    list::read::ROWS,
    list::inside::ROWS,
    list::moves::ROWS,
    list::blocking::ROWS,
    lock::acquire::ROWS,
    lock::hold::ROWS,
    lock::inspect::ROWS,
    lock::lease::ROWS,
    set::basic::ROWS,
    set::random::ROWS,
    set::algebra::ROWS,
    set::scan::ROWS,
    sorted_set::add::ROWS,
    sorted_set::lookup::ROWS,
    sorted_set::range::ROWS,
    sorted_set::remove::ROWS,
    sorted_set::pop::ROWS,
    sorted_set::algebra::ROWS,
    sorted_set::random::ROWS,
    sorted_set::scan::ROWS,
    stream::add::ROWS,
    stream::remove::ROWS,
    stream::range::ROWS,
    stream::read::ROWS,
    stream::group::ROWS,
    stream::pending::ROWS,
    stream::claim::ROWS,
    stream::info::ROWS,
    geo::add::ROWS,
    geo::read::ROWS,
    geo::search::ROWS,
    hyperloglog::ROWS,
];
