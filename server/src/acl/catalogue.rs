//! The commands as rules name them: by their own names, whatever `rename-command` says.

use std::collections::HashMap;

use holdfast_engine::command::{CATEGORIES, Command, categories};

/// Every command and subcommand, by the number under which its permission is kept.
#[derive(Debug)]
pub struct Catalogue {
    rows: Vec<&'static Command>,
    by_name: HashMap<String, u16>,
    /// Of each container, its subcommands.
    children: HashMap<u16, Vec<u16>>,
}

impl Catalogue {
    /// The catalogue of these rows; the place of a row is its number.
    #[must_use]
    pub fn new(rows: &[&'static Command]) -> Self {
        let number = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let by_name: HashMap<String, u16> =
            rows.iter().enumerate().map(|(at, row)| (row.full_name(), number(at))).collect();
        let mut children: HashMap<u16, Vec<u16>> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            if let Some(parent) = row.parent.and_then(|parent| by_name.get(parent)) {
                children.entry(*parent).or_default().push(number(at));
            }
        }
        Self { rows: rows.to_vec(), by_name, children }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of `name` or `container|name`, in any case.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        let name = std::str::from_utf8(name).ok()?;
        self.by_name.get(&name.to_ascii_lowercase()).copied()
    }

    /// The row of a number.
    #[must_use]
    pub fn row(&self, id: u16) -> &'static Command {
        self.rows[usize::from(id)]
    }

    /// The subcommands of a container; none of any other command.
    #[must_use]
    pub fn subcommands(&self, id: u16) -> &[u16] {
        self.children.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The commands of a category, given in any case and without its `@`; `None` if there is no
    /// such category.
    #[must_use]
    pub fn of_category(&self, name: &[u8]) -> Option<Vec<u16>> {
        let known = CATEGORIES.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        let with_sign = format!("@{known}");
        let is_in = |row: &Command| categories(row).contains(&with_sign.as_str());
        let found = self.rows.iter().enumerate().filter(|(_, row)| is_in(row));
        Some(found.map(|(at, _)| u16::try_from(at).unwrap_or(u16::MAX)).collect())
    }
}
