//! Libraries of functions: part of the data, beside the databases.
//!
//! [`Libraries`] is a value; a change makes a new one, which takes the old one's place while
//! every shard is held. So a change of libraries has its place among all other changes, and a
//! snapshot's cut falls before or after it. What the code does is `script`'s business.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::Keyspace;
use crate::collections::FixedMap;
use crate::command::{Reach, ScriptFlags};
use crate::error::CommandError;

/// One function of a library.
#[derive(Debug)]
pub struct Function {
    /// Letters, digits and underscores.
    pub name: String,
    /// What its author says of it.
    pub description: Option<Box<[u8]>>,
    /// What it promises.
    pub flags: ScriptFlags,
    /// Whether it keeps to the keys it declares.
    pub reach: Reach,
}

/// A library.
#[derive(Debug)]
pub struct Library {
    /// Letters, digits and underscores.
    pub name: String,
    /// The whole code with its first line.
    pub code: Box<[u8]>,
    /// In the order of their registration.
    pub functions: Vec<Function>,
    /// A number that no other library of this process bears: what compiled code is kept by.
    pub id: u64,
}

impl Library {
    /// A library whose code has registered these functions.
    #[must_use]
    pub fn new(name: String, code: &[u8], functions: Vec<Function>) -> Arc<Self> {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        let id = LAST_ID.fetch_add(1, Relaxed) + 1;
        Arc::new(Self { name, code: code.into(), functions, id })
    }
}

/// All libraries.
#[derive(Debug, Clone, Default)]
pub struct Libraries {
    by_name: BTreeMap<String, Arc<Library>>,
    /// By name in lower case: calls do not heed the case.
    functions: FixedMap<String, (Arc<Library>, usize)>,
}

impl Libraries {
    /// The library of this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.by_name.get(std::str::from_utf8(name).ok()?)
    }

    /// The function of this name in any case, and its library.
    #[must_use]
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &Function)> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let (library, place) = self.functions.get(&name)?;
        Some((library, &library.functions[*place]))
    }

    /// Every library, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    /// How many libraries and functions there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.by_name.len(), self.iter().map(|library| library.functions.len()).sum())
    }

    /// Adds a library, in place of the one of its name.
    ///
    /// # Errors
    /// When another library has a function of the same name; nothing has changed then.
    pub fn put(&mut self, library: &Arc<Library>) -> Result<(), CommandError> {
        let others = |(owner, _): &(Arc<Library>, usize)| owner.name != library.name;
        for function in &library.functions {
            if self.functions.get(&function.name.to_ascii_lowercase()).is_some_and(others) {
                return Err(CommandError::new(format!(
                    "ERR Function {} already exists",
                    function.name
                )));
            }
        }
        self.remove(library.name.as_bytes());
        for (place, function) in library.functions.iter().enumerate() {
            // Of two that differ in case alone the first is called.
            self.functions
                .entry(function.name.to_ascii_lowercase())
                .or_insert_with(|| (Arc::clone(library), place));
        }
        self.by_name.insert(library.name.clone(), Arc::clone(library));
        Ok(())
    }

    /// Removes a library; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Some(library) =
            std::str::from_utf8(name).ok().and_then(|name| self.by_name.remove(name))
        else {
            return false;
        };
        self.functions.retain(|_, (owner, _)| !Arc::ptr_eq(owner, &library));
        true
    }
}

impl Keyspace {
    /// The libraries as they are now.
    #[must_use]
    pub fn libraries(&self) -> Arc<Libraries> {
        Arc::clone(&self.libraries.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in their place. To be called while every shard is held, or before the first
    /// client.
    pub fn set_libraries(&self, libraries: Libraries) {
        *self.libraries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(libraries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Arc<Library> {
        let function = |name: &&str| Function {
            name: (*name).to_owned(),
            description: None,
            flags: ScriptFlags::default(),
            reach: Reach::default(),
        };
        Library::new(name.to_owned(), b"", functions.iter().map(function).collect())
    }

    #[test]
    fn names_are_unique_over_all_libraries() {
        let mut all = Libraries::default();
        all.put(&library("one", &["a", "B"])).expect("nothing is there");
        let refused = all.put(&library("two", &["c", "b"])).expect_err("B is there");
        assert_eq!(refused.text(), "ERR Function b already exists");
        assert_eq!(all.counts(), (1, 2));
        all.put(&library("one", &["b", "d"])).expect("it gives way to itself");
        assert!(all.function(b"a").is_none());
        assert_eq!(all.function(b"D").map(|(library, _)| library.name.as_str()), Some("one"));
        all.put(&library("twins", &["X", "x"])).expect("they are its own");
        assert_eq!(all.function(b"x").map(|(_, function)| function.name.as_str()), Some("X"));
        assert!(all.remove(b"one") && !all.remove(b"ONE"));
        assert_eq!((all.counts(), all.function(b"b").is_none()), ((1, 2), true));
    }
}
