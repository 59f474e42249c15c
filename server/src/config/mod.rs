//! The configuration: read at the start from a file and the command line, changed by
//! CONFIG SET, kept by CONFIG REWRITE.
//!
//! - [`table`]: every directive, one row each; [`directive`]: what a row says.
//! - [`value`] and [`special`]: values, how they are read and printed.
//! - [`settings`]: the typed getters the rest of the server reads while serving.
//! - [`words`] (quoting, globs); `load` (files), `args` (the command line), `help`.
//! - [`commands`]: CONFIG GET and SET as pure functions; [`rewrite`]: CONFIG REWRITE.
//!
//! Invariant: [`Settings`] and the values CONFIG GET prints change together, under one lock.

mod args;
pub mod commands;
pub mod directive;
mod help;
mod load;
pub mod rewrite;
pub mod settings;
pub mod special;
pub mod table;
#[cfg(test)]
mod tests;
pub mod value;
pub mod words;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use parking_lot::{Mutex, RwLock};

pub use args::Request;
use directive::Directive;
use load::Draft;
pub use load::{Place, Renaming};
pub use settings::Settings;
use value::Value;

/// The Redis whose place we take, as INFO and RDB files tell it.
pub const REDIS_VERSION: &str = "7.2.4";

/// Why the server does not start; `Display` is what to print to standard error, and the exit
/// code is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A line that is wrong.
    Line {
        /// Where it stands.
        place: Place,
        /// The line, without secrets.
        text: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file that cannot be read.
    Open {
        /// Its path.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line { place, text, reason } => write!(
                f,
                "\n*** FATAL CONFIG FILE ERROR (Holdfast {}) ***\n{place}\n>>> '{text}'\n{reason}",
                env!("CARGO_PKG_VERSION"),
            ),
            Self::Open { path, reason } => {
                write!(f, "Fatal error, can't open config file '{}': {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// All rows of the table, in its order; an index into it names a directive.
fn rows() -> &'static [&'static Directive] {
    static ROWS: LazyLock<Vec<&'static Directive>> =
        LazyLock::new(|| table::THEMES.iter().copied().flatten().collect());
    &ROWS
}

/// The index of the directive called `name`, by name or alias, in any case.
fn find(name: &[u8]) -> Option<usize> {
    rows().iter().position(|row| row.is_named(name))
}

type HookFn = dyn Fn(&Settings) -> Result<(), String> + Send + Sync;

/// What a room does when its directives change.
struct Hook {
    names: &'static [&'static str],
    run: Box<HookFn>,
}

/// The configuration of one server.
pub struct Config {
    values: RwLock<Vec<Value>>,
    settings: Arc<Settings>,
    hooks: RwLock<Vec<Arc<Hook>>>,
    /// Held through a whole CONFIG SET or REWRITE, so that two never mix.
    changing: Mutex<()>,
    path: Option<PathBuf>,
    renamed: Vec<Renaming>,
    users: Vec<Vec<Vec<u8>>>,
    warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        // The defaults hold nothing that could be refused.
        Self::assemble(Draft::new(), None, Vec::new())
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values are left out: some are secret.
        f.debug_struct("Config").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the command line and the files it names; the program's name comes first.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_args<I, S>(argv: I) -> Result<Request, ConfigError>
    where
        I: IntoIterator<Item = S>,
        S: Into<std::ffi::OsString>,
    {
        use std::os::unix::ffi::OsStringExt;
        let argv: Vec<_> = argv.into_iter().map(|arg| arg.into().into_vec()).collect();
        args::read(&argv)
    }

    fn from_draft(draft: Draft, path: Option<PathBuf>) -> Result<Self, ConfigError> {
        let warnings = draft.judge()?;
        Ok(Self::assemble(draft, path, warnings))
    }

    fn assemble(draft: Draft, path: Option<PathBuf>, warnings: Vec<String>) -> Self {
        let settings = Arc::new(Settings::default());
        for (row, value) in rows().iter().zip(&draft.values) {
            settings.store(row.name, value);
        }
        Self {
            values: RwLock::new(draft.values),
            settings,
            hooks: RwLock::default(),
            changing: Mutex::new(()),
            path,
            renamed: draft.renamed,
            users: draft.users.into_iter().map(|(_, words)| words).collect(),
            warnings,
        }
    }

    /// What is in force; a room may keep the `Arc`.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The file read at the start, absolute.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Makes `dir` the working directory of the process, so that relative paths of the
    /// configuration mean what they mean to Redis. For `main`, before the log is started.
    ///
    /// # Errors
    /// If the directory is gone.
    pub fn enter_dir(&self) -> std::io::Result<()> {
        std::env::set_current_dir(self.settings.dir())
    }

    /// The `rename-command` lines, in order.
    #[must_use]
    pub fn renamed_commands(&self) -> &[Renaming] {
        &self.renamed
    }

    /// The `user` lines, in order: each a name and its rules.
    #[must_use]
    pub fn users(&self) -> &[Vec<Vec<u8>>] {
        &self.users
    }

    /// What an operator should be told at the start: directives without effect.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Has `run` called after each CONFIG SET of any of `names`, with the new settings in force.
    /// An error takes the whole CONFIG SET back; `run` is then called again with the old
    /// settings. `run` may read the configuration, and must neither change it nor block long.
    ///
    /// # Panics
    /// If a name is no directive's: a slip of the caller.
    pub fn on_change<F>(&self, names: &'static [&'static str], run: F)
    where
        F: Fn(&Settings) -> Result<(), String> + Send + Sync + 'static,
    {
        for name in names {
            assert!(rows().iter().any(|row| row.name == *name), "no directive '{name}'");
        }
        self.hooks.write().push(Arc::new(Hook { names, run: Box::new(run) }));
    }

    /// Puts directives back to their defaults, before anything has looked at them; those that were
    /// set otherwise.
    pub fn use_defaults(&self, names: &[&'static str]) -> Vec<&'static str> {
        let mut values = self.values.write();
        let mut changed = Vec::new();
        for (index, row) in rows().iter().enumerate().filter(|(_, row)| names.contains(&row.name)) {
            let default = load::default_of(row);
            if values[index] != default {
                changed.push(row.name);
                self.settings.store(row.name, &default);
                values[index] = default;
            }
        }
        changed
    }

    /// The value of a directive as CONFIG GET prints it; `None` for an unknown name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let index = find(name.as_bytes())?;
        Some(rows()[index].print(&self.values.read()[index]))
    }
}
