//! Finding a row by name.

use std::collections::hash_map::Entry;

use super::Command;
use crate::collections::FixedMap;

/// Longest command name; anything longer is unknown without a look. Room for the random names
/// that `rename-command` is used with.
pub const NAME_LEN_MAX: usize = 64;

/// The names that commands go by instead of their own, in lower case; none for a command that
/// is removed.
pub type Renamed = Vec<(&'static str, Option<&'static str>)>;

/// Rows by lower-case name, with the rows in their written order.
#[derive(Debug)]
pub struct CommandTable {
    rows: Vec<&'static Command>,
    by_name: FixedMap<&'static [u8], &'static Command>,
}

impl CommandTable {
    /// A table of all rows of `families`, each under its name in `renamed` if it stands there.
    ///
    /// # Panics
    /// Panics when two rows bear one name: that is our own mistake, found by every test.
    #[must_use]
    pub fn new<'a>(
        families: impl IntoIterator<Item = &'a &'static [Command]>,
        renamed: &Renamed,
    ) -> Self {
        let mut rows = Vec::new();
        let mut by_name = FixedMap::default();
        for row in families.into_iter().flat_map(|family| family.iter()) {
            rows.push(row);
            let Some(name) = visible_name(row.name, renamed) else { continue };
            match by_name.entry(name.as_bytes()) {
                Entry::Occupied(_) => panic!("Invariant: one row per command, not so {name}"),
                Entry::Vacant(place) => place.insert(row),
            };
        }
        Self { rows, by_name }
    }

    /// All rows, subcommands inside their containers; also those that were removed.
    #[must_use]
    pub fn rows(&self) -> &[&'static Command] {
        &self.rows
    }

    /// The row of a name in any case.
    #[inline]
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&'static Command> {
        let mut lower = [0; NAME_LEN_MAX];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower).copied()
    }

    /// The row of a container's subcommand, in any case.
    #[must_use]
    pub fn find_sub(&self, container: &Command, name: &[u8]) -> Option<&'static Command> {
        container.subcommands.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The name a command goes by; `None` if it was removed.
#[must_use]
pub fn visible_name(name: &'static str, renamed: &Renamed) -> Option<&'static str> {
    renamed.iter().find(|(own, _)| *own == name).map_or(Some(name), |(_, visible)| *visible)
}
