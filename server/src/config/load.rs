//! Reads configuration files and command-line directives into a draft, line by line.
//!
//! Everything is read before anything is judged as a whole: `daemonize yes` in a file may be
//! taken back by `--daemonize no`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::directive::{Class, Directive, Kind};
use super::special::{self, reason_of};
use super::value::{Lines, Value};
use super::{ConfigError, rows, words};

/// How deep `include` may nest; a file that includes itself ends here.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, counted from 1; the path is `-` for standard input.
    File(PathBuf, usize),
    /// An option of the command line.
    CommandLine,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path, line) => {
                write!(f, "Reading the configuration file, at line {line} of {}", path.display())
            }
            Self::CommandLine => f.write_str("Reading the options of the command line"),
        }
    }
}

/// A line as read, kept so that a later judgement can name it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) place: Place,
    /// As an operator may see it: without secrets.
    pub(super) text: String,
}

impl Line {
    pub(super) fn error(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Line {
            place: self.place.clone(),
            text: self.text.clone(),
            reason: reason.into(),
        }
    }
}

/// A command's name and the one it is to have; empty to remove the command.
pub type Renaming = (Vec<u8>, Vec<u8>);

/// A configuration in the making.
pub(super) struct Draft {
    pub(super) values: Vec<Value>,
    /// The line that set each value last.
    pub(super) lines: Vec<Option<Line>>,
    pub(super) renamed: Vec<Renaming>,
    /// The `user` lines, each a name and its rules.
    pub(super) users: Vec<(Line, Vec<Vec<u8>>)>,
}

impl Draft {
    pub(super) fn new() -> Self {
        let values = rows().iter().map(|row| default_of(row)).collect::<Vec<_>>();
        let lines = vec![None; values.len()];
        Self { values, lines, renamed: Vec::new(), users: Vec::new() }
    }

    /// Reads a file, or standard input for `-`.
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.read_nested(path, 0)
    }

    fn read_nested(&mut self, path: &Path, depth: usize) -> Result<(), ConfigError> {
        let cannot = |error: std::io::Error| ConfigError::Open {
            path: path.to_owned(),
            reason: reason_of(&error).into_owned(),
        };
        let mut content = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().read_to_end(&mut content).map_err(cannot)?;
        } else {
            content = std::fs::read(path).map_err(cannot)?;
        }
        for (index, line) in content.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let place = Place::File(path.to_owned(), index + 1);
            let Some(words) = words::split(line) else {
                let name = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                let text = match super::commands::is_sensitive(name) {
                    true => b"(hidden)",
                    false => line,
                };
                return Err(ConfigError::Line {
                    place,
                    text: String::from_utf8_lossy(text).into_owned(),
                    reason: "Unbalanced quotes in configuration line".into(),
                });
            };
            self.read_line(&words, String::from_utf8_lossy(line).into_owned(), place, depth)?;
        }
        Ok(())
    }

    /// Reads one directive with its arguments.
    pub(super) fn read_line(
        &mut self,
        words: &[Vec<u8>],
        text: String,
        place: Place,
        depth: usize,
    ) -> Result<(), ConfigError> {
        let [name, rest @ ..] = words else { return Ok(()) };
        let rest: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
        let mut line = Line { place, text };
        let Some(index) = super::find(name) else {
            return self.read_statement(name, &rest, &line, depth);
        };
        let row = rows()[index];
        if row.sensitive {
            line.text = format!("{} (hidden)", row.name);
        }
        let pieces;
        // One argument that holds several, as in `--save "900 1"`.
        let split = match rest.as_slice() {
            [only] if row.kind.takes_several() && !only.is_empty() => {
                pieces = words::split(only).unwrap_or_default();
                pieces.iter().map(Vec::as_slice).collect()
            }
            _ => rest,
        };
        let lines = match self.lines[index] {
            Some(_) => Lines::AddUp,
            None => Lines::Replace,
        };
        let value =
            row.read(&split, &self.values[index], lines).map_err(|reason| line.error(reason))?;
        self.values[index] = value;
        self.lines[index] = Some(line);
        Ok(())
    }

    /// Lines that set no value.
    fn read_statement(
        &mut self,
        name: &[u8],
        rest: &[&[u8]],
        line: &Line,
        depth: usize,
    ) -> Result<(), ConfigError> {
        match (name.to_ascii_lowercase().as_slice(), rest) {
            (b"include", [pattern]) => {
                if depth == INCLUDE_DEPTH_MAX {
                    return Err(line.error("Includes are nested too deep"));
                }
                for path in matching_files(&super::settings::path(pattern)) {
                    self.read_nested(&path, depth + 1)?;
                }
                Ok(())
            }
            (b"rename-command", [from, to]) => {
                self.renamed.push((from.to_vec(), to.to_vec()));
                Ok(())
            }
            (b"user", [name, ..]) => {
                if self.users.iter().any(|(_, known)| known.first().is_some_and(|n| n == name)) {
                    return Err(line.error(
                        "Duplicate user found. A user can only be defined once in config files",
                    ));
                }
                let words = rest.iter().map(|word| word.to_vec()).collect();
                // Passwords may stand in it.
                let text = format!("user {} (hidden)", String::from_utf8_lossy(name));
                self.users.push((Line { place: line.place.clone(), text }, words));
                Ok(())
            }
            (b"loadmodule", [_, ..]) => {
                Err(line.error("modules cannot be loaded here: remove the line"))
            }
            (b"sentinel", _) => Err(line.error("sentinel directive while not in sentinel mode")),
            // What Redis itself takes without a word.
            (
                b"list-max-ziplist-entries" | b"list-max-ziplist-value" | b"lua-replicate-commands",
                [_],
            ) => Ok(()),
            _ => {
                let hint = nearest(name).map(|row| format!(" (did you mean '{}'?)", row.name));
                let hint = hint.unwrap_or_default();
                Err(line.error(format!("Bad directive or wrong number of arguments{hint}")))
            }
        }
    }

    /// Judges the whole.
    ///
    /// # Errors
    /// A directive that would mislead if it were ignored.
    pub(super) fn judge(&self) -> Result<Vec<String>, ConfigError> {
        let has_file = |row: &&Directive| row.name == "aclfile";
        let aclfile = rows().iter().zip(&self.values).find(|(row, _)| has_file(row));
        if let Some((line, _)) = self.users.first()
            && aclfile.is_some_and(|(_, value)| !value.as_text().is_empty())
        {
            return Err(line.error(
                "Configuring Redis with users defined in redis.conf and at the same setting an \
                 ACL file path is invalid. This setup is very likely to lead to configuration \
                 errors and security holes, please define either an ACL file or declare users \
                 directly in your redis.conf, but not both.",
            ));
        }
        let mut warnings = Vec::new();
        for ((row, value), line) in rows().iter().zip(&self.values).zip(&self.lines) {
            let Some(line) = line else { continue };
            if *value == default_of(row) {
                continue;
            }
            match row.class {
                Class::Active => {}
                Class::Inert(why) => {
                    warnings.push(format!("'{}' has no effect here: {why}", row.name));
                }
                Class::Refused(instead) => return Err(line.error(instead)),
            }
        }
        Ok(warnings)
    }
}

/// The value a row has when nothing sets it.
pub(super) fn default_of(row: &Directive) -> Value {
    if matches!(row.kind, Kind::Directory) {
        // The directory we were started in, even after we went elsewhere.
        static START: LazyLock<Value> =
            LazyLock::new(|| special::directory(b"").unwrap_or_else(|_| Value::Text([].into())));
        return START.clone();
    }
    let nothing = Value::Flag(false);
    let pieces: Vec<&[u8]> = match row.kind.takes_several() {
        true => row.default.split(' ').map(str::as_bytes).collect(),
        false => vec![row.default.as_bytes()],
    };
    // Invariant: every default in the table is valid; a test reads them all.
    row.read(&pieces, &nothing, Lines::Replace).unwrap_or_else(|_| Value::Text([].into()))
}

/// The directive whose name differs from `name` by a slip or two.
fn nearest(name: &[u8]) -> Option<&'static Directive> {
    const SLIPS_MAX: usize = 2;
    let name = name.to_ascii_lowercase();
    if name.len() > 64 {
        return None;
    }
    let near = rows()
        .iter()
        .filter(|row| !row.hidden)
        .map(|row| (distance(row.name.as_bytes(), &name), *row));
    let (slips, row) = near.min_by_key(|(slips, _)| *slips)?;
    (slips <= SLIPS_MAX).then_some(row)
}

/// How many insertions, deletions and substitutions make one of the other (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

/// The files a path with wildcards names, sorted; a path without is taken as it is, so that a
/// missing file is an error while an empty directory is not.
fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let wild = |part: &[u8]| part.iter().any(|b| b"*?[".contains(b));
    if !wild(pattern.as_os_str().as_bytes()) {
        return vec![pattern.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        if !wild(part.as_bytes()) {
            found.iter_mut().for_each(|path| path.push(part));
            found.retain(|path| path.exists());
            continue;
        }
        found = found
            .iter()
            .flat_map(|base| {
                let here = if base.as_os_str().is_empty() { Path::new(".") } else { base };
                let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
                entries
                    .map(|entry| entry.file_name())
                    .filter_map(|name| {
                        // As in a shell, a wildcard does not match a leading dot.
                        let hidden = name.as_bytes()[0] == b'.' && part.as_bytes()[0] != b'.';
                        let fits = words::matches(part.as_bytes(), name.as_bytes());
                        (fits && !hidden).then(|| base.join(name))
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    found.sort();
    found
}
