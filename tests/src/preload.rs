//! Libraries that are preloaded into a process under test, to stand between it and the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables of an environment, by name.
pub type Environment = Vec<(String, String)>;

const PRELOAD: &str = "LD_PRELOAD";

/// The environment of a process into which the library `name`, compiled from `source` in `dir`, is
/// preloaded, and which finds a file of `dir` in `variable`.
pub(crate) fn environment(
    dir: &Path,
    name: &str,
    source: &str,
    (variable, file): (&str, &str),
) -> Result<Environment, String> {
    let text = |path: PathBuf| path.display().to_string();
    Ok(vec![
        (PRELOAD.to_owned(), text(compile(dir, name, source)?)),
        (variable.to_owned(), text(dir.join(file))),
    ])
}

fn compile(dir: &Path, name: &str, source: &str) -> Result<PathBuf, String> {
    let (file, library) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    fs::write(&file, source).map_err(|error| error.to_string())?;
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
        .args([&library, &file])
        .args(["-ldl", "-lpthread"])
        .output();
    let done = done.map_err(|error| format!("cc: {error}"))?;
    match done.status.success() {
        true => Ok(library),
        false => Err(format!("cc: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}

/// One environment of several, with all that they preload.
#[must_use]
pub fn together(environments: impl IntoIterator<Item = Environment>) -> Environment {
    let (preloads, mut others): (Vec<_>, Vec<_>) =
        environments.into_iter().flatten().partition(|(name, _)| name == PRELOAD);
    if !preloads.is_empty() {
        let libraries: Vec<_> = preloads.into_iter().map(|(_, library)| library).collect();
        others.push((PRELOAD.to_owned(), libraries.join(":")));
    }
    others
}
