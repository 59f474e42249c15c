//! The style that a machine can hold: floors, sizes, headers, what may not be written, and that
//! every command stands in a transcript. Reads the sources as text.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_engine::command::Command;

/// A file longer than this is told of.
const LINES_WARN: usize = 500;
/// A file longer than this fails.
const LINES_MAX: usize = 800;
/// A module's header is at most so long.
const HEADER_LINES_MAX: usize = 15;

/// The engine's rooms, lowest first; rooms of one floor may know each other.
const ENGINE_FLOORS: &[&[&str]] = &[
    &["access", "collections", "error", "random", "reply", "time", "limits"],
    &["command", "keyspace", "value", "raw", "context", "effects", "host", "dump"],
    &["commands", "script", "scripts"],
    &["engine"],
];

/// The server's rooms, as `lib.rs` orders them. `node` holds what `route` works on.
const SERVER_FLOORS: &[&[&str]] = &[
    &["alloc", "clock"],
    &["session", "pubsub", "resp", "config", "persist", "acl"],
    &["commit", "quarantine"],
    &["route", "node", "limits", "memory"],
    &["net", "admin", "observe"],
];

/// Imports that point up as yet. A new one fails, and so does one that is gone from the code.
const KNOWN_UPWARD: &[&str] = &[
    // A row's script handler takes the engine, to run other commands.
    "engine: command -> engine",
    // EVAL's handler runs commands on the engine.
    "engine: commands -> engine",
    // The room of unsafe code holds the Lua bridge.
    "engine: raw -> script",
    // Counters are kept by those who count; what prints them belongs to `admin`.
    "server: memory -> observe",
    "server: node -> observe",
    "server: route -> observe",
    // The server's rows, and what MONITOR and SLOWLOG hide, stand in `admin`.
    "server: route -> admin",
];

/// Files longer than that as yet: to be split by meaning.
const KNOWN_LONG: &[&str] = &[];

/// Commands that stand in no transcript yet.
const WITHOUT_TRANSCRIPT: &[&str] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A source file: its path from the project's root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let dirs = ["tests/tests/", "server/tests/", "redlock-client/tests/"];
        let names = ["/tests.rs", "/testing.rs", "/oracle_tests.rs", "/cve_tests.rs", "/model.rs"];
        dirs.iter().any(|dir| self.path.starts_with(dir))
            || self.path.contains("/tests/")
            || names.iter().any(|name| self.path.ends_with(name))
    }

    /// The lines of code with their numbers: no comments, and nothing from the module of unit
    /// tests on, which closes a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let mut lines = lines.peekable();
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let (number, line) = lines.next()?;
            let tests = line.trim() == "#[cfg(test)]"
                && lines.peek().is_some_and(|(_, next)| {
                    next.trim_start().starts_with("mod ") && next.trim_end().ends_with('{')
                });
            if tests {
                ended = true;
                return None;
            }
            Some((number, line))
        })
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            let skipped = ["target", "node_modules", "corpus", "artifacts"];
            if !name.starts_with('.') && !skipped.contains(&name) {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// All files whose names end in one of `ends`.
fn files(ends: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found
        .into_iter()
        .filter(|path| ends.iter().any(|end| path.to_str().unwrap().ends_with(end)))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            Some(Source { path, text })
        })
        .collect()
}

fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// The rooms that a file's code names after `crate::`.
fn imports(source: &Source) -> BTreeSet<String> {
    let code: String = source.code().flat_map(|(_, line)| [line, "\n"]).collect();
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        rooms.insert(first_word(&word));
                        word.clear();
                    }
                    c => word.push(c),
                }
            }
            rooms.insert(first_word(&word));
        } else {
            rooms.insert(first_word(rest));
        }
    }
    rooms
}

fn first_word(text: &str) -> String {
    let text = text.trim_start();
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn upward(package: &str, src: &str, floors: &[&[&str]]) -> BTreeSet<String> {
    let floor = |room: &str| floors.iter().position(|rooms| rooms.contains(&room));
    let mut found = BTreeSet::new();
    for source in files(&[".rs"]).iter().filter(|file| file.path.starts_with(src)) {
        let inside = &source.path[src.len()..];
        let room = inside.split(['/', '.']).next().unwrap();
        if ["lib", "main", "testing"].contains(&room) || source.is_test() {
            continue;
        }
        let own = floor(room).unwrap_or_else(|| panic!("{package}: `{room}` stands on no floor"));
        for import in imports(source) {
            if floor(&import).is_some_and(|other| other > own) {
                found.insert(format!("{package}: {room} -> {import}"));
            }
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let mut found = upward("engine", "server/engine/src/", ENGINE_FLOORS);
    found.extend(upward("server", "server/src/", SERVER_FLOORS));
    let known: BTreeSet<String> = KNOWN_UPWARD.iter().map(|line| (*line).to_owned()).collect();
    let new: Vec<_> = found.difference(&known).cloned().collect();
    none(&new, "imports that point up a floor");
    let gone: Vec<_> = known.difference(&found).cloned().collect();
    none(&gone, "no longer in the code, take them off KNOWN_UPWARD");
}

#[test]
fn the_engine_knows_no_world() {
    let manifest = fs::read_to_string(root().join("server/engine/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
    for absent in ["tokio", "openraft", "socket2", "rand", "getrandom", "rustix", "holdfast ="] {
        assert!(!dependencies.contains(absent), "the engine does not depend on {absent}");
    }
}

#[test]
fn files_are_short_and_open_with_a_header() {
    let mut found = Vec::new();
    for source in files(&[".rs"]) {
        let lines = source.code().last().map_or(0, |(number, _)| number);
        if source.is_test() {
            // Tests are as long as what they list, and open with what they test.
            continue;
        }
        let known = KNOWN_LONG.contains(&source.path.as_str());
        if known && lines <= LINES_MAX {
            found.push(format!("{}: short enough now, take it off KNOWN_LONG", source.path));
        } else if lines > LINES_MAX && !known {
            found.push(format!("{}: {lines} lines, at most {LINES_MAX}", source.path));
        } else if lines > LINES_WARN {
            println!("warning: {} has {lines} lines", source.path);
        }
        if source.path.starts_with("fuzz/fuzz_targets/") {
            continue;
        }
        let header = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        if header == 0 {
            found.push(format!("{}: no `//!` header", source.path));
        } else if header > HEADER_LINES_MAX {
            found.push(format!("{}: a header of {header} lines", source.path));
        }
    }
    none(&found, "files");
}

#[test]
fn nothing_is_left_undone_and_nothing_unwraps() {
    // In pieces, so that this file does not find itself.
    let words = [".unwrap", "()"].concat();
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let mut found = Vec::new();
    for source in files(&[".rs"]).iter().filter(|source| !source.is_test()) {
        // Fuzz bodies and benches are tests; the tests' own library may say why it panics.
        if ["fuzz/", "benches/", "tests/"].iter().any(|dir| source.path.starts_with(dir)) {
            continue;
        }
        for (number, line) in source.code() {
            if line.contains(&words) || macros.iter().any(|name| line.contains(name)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(&found, "not outside tests");
}

#[test]
fn unsafe_code_keeps_to_its_rooms() {
    let mut found = Vec::new();
    for source in files(&[".rs"]) {
        let allowed = source.path.starts_with("server/engine/src/raw/")
            || source.path == "server/src/alloc.rs";
        if allowed {
            continue;
        }
        for (number, line) in source.code() {
            let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
            let quoted = line.contains(&format!("\"{}", words[0]));
            if !quoted
                && words[..].iter().any(|word| line.contains(word))
                && !line.contains("let words")
            {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(&found, "unsafe outside engine::raw and alloc");
}

#[test]
fn no_runtime_file_is_tracked() {
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        holdfast_tests::skip_loudly("tracked runtime files: this is no git checkout");
        return;
    };
    let tracked = String::from_utf8(listed.stdout).unwrap();
    let is_runtime = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        ["holdfast-locks", "holdfast-clock"].iter().any(|start| name.starts_with(start))
            || [".rdb", ".aof", ".manifest"].iter().any(|end| name.ends_with(end))
            || path.split('/').any(|dir| dir == "appendonlydir")
            || path.starts_with("raft/")
    };
    let found: Vec<String> = tracked.lines().filter(is_runtime).map(str::to_owned).collect();
    none(
        &found,
        "files that a running server writes are tracked; a fresh clone would start with them",
    );
}

#[test]
fn nothing_names_this_machine() {
    let words: Vec<String> = [
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/tmp/", "wt"],
        ["/tmp/", "target"],
        ["127.0.0.1:", "80"],
        ["crates-", "mirror"],
        ["artifact", "ory"],
    ]
    .iter()
    .map(|pieces| pieces.concat())
    .collect();
    let ends = [".rs", ".toml", ".md", ".sh", ".py", ".js", ".json", ".txt", ".conf", ".lock"];
    let mut all = files(&ends);
    all.extend(files(&["/run", "/check", "/test", "/demo", "/bench", "/compat", "/clients"]));
    let mut found = Vec::new();
    for source in &all {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
            let registry = source.path.ends_with("Cargo.lock")
                && line.starts_with("source = \"registry")
                && !line.contains("github.com/rust-lang/crates.io-index");
            if registry {
                found.push(format!("{}:{}: a registry of ours", source.path, number + 1));
            }
        }
    }
    none(&found, "committed files name a machine");
}

fn leaves(row: &Command, found: &mut BTreeSet<String>) {
    if row.subcommands.is_empty() {
        found.insert(row.full_name());
    }
    for row in row.subcommands {
        leaves(row, found);
    }
}

fn entries(entries: &[holdfast::route::Entry], found: &mut BTreeSet<String>) {
    for entry in entries {
        if entry.children.is_empty() {
            found.insert(entry.full_name.clone());
        }
        self::entries(&entry.children, found);
    }
}

#[test]
fn every_command_stands_in_a_transcript() {
    let mut rows = BTreeSet::new();
    for row in holdfast_engine::engine::table().rows() {
        leaves(row, &mut rows);
    }
    entries(holdfast::route::table().entries(), &mut rows);
    let mut told = BTreeSet::new();
    for source in files(&[".txt"]).iter().filter(|file| file.path.starts_with("tests/transcripts/"))
    {
        for line in source.text.lines().filter_map(|line| line.strip_prefix("> ")) {
            let mut words = line.split_ascii_whitespace().map(str::to_ascii_lowercase);
            let Some(name) = words.next() else { continue };
            if let Some(sub) = words.next() {
                told.insert(format!("{name}|{sub}"));
            }
            told.insert(name);
        }
    }
    let allowed: BTreeSet<String> = WITHOUT_TRANSCRIPT.iter().map(|n| (*n).to_owned()).collect();
    let missing: BTreeSet<String> = rows.difference(&told).cloned().collect();
    let new: Vec<_> = missing.difference(&allowed).cloned().collect();
    none(&new, "commands without a transcript");
    let done: Vec<_> = allowed.difference(&missing).cloned().collect();
    none(&done, "they have a transcript now (or no row), take them off WITHOUT_TRANSCRIPT");
}
