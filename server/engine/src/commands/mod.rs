//! The command families: one folder per type, one file per group of commands, rows at the end
//! of each file beside their handlers.

pub mod string;

use crate::command::Command;

/// Every row of the engine, family by family.
pub const FAMILIES: &[&[Command]] = &[string::basic::ROWS];
