//! Finding a row by name.

use std::collections::hash_map::Entry;

use super::Command;
use crate::collections::FixedMap;

/// Longest command name; anything longer is unknown without a look.
const NAME_LEN_MAX: usize = 32;

/// Rows by lower-case name, with the rows in their written order.
#[derive(Debug)]
pub struct CommandTable {
    rows: Vec<&'static Command>,
    by_name: FixedMap<&'static [u8], &'static Command>,
}

impl CommandTable {
    /// A table of all rows of `families`.
    ///
    /// # Panics
    /// Panics when two rows bear one name: that is our own mistake, found by every test.
    #[must_use]
    pub fn new<'a>(families: impl IntoIterator<Item = &'a &'static [Command]>) -> Self {
        let mut rows = Vec::new();
        let mut by_name = FixedMap::default();
        for row in families.into_iter().flat_map(|family| family.iter()) {
            match by_name.entry(row.name.as_bytes()) {
                Entry::Occupied(_) => panic!("Invariant: one row per command, not so {}", row.name),
                Entry::Vacant(place) => place.insert(row),
            };
            rows.push(row);
        }
        Self { rows, by_name }
    }

    /// All rows, subcommands inside their containers.
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
        let rows = self.by_name.get(container.name.as_bytes())?.subcommands;
        rows.iter().find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
    }
}
