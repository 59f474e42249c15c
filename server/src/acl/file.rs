//! Users as lines of a file: `aclfile`, and the `user` lines of a configuration file.

use std::path::Path;
use std::sync::Arc;

use super::user::DEFAULT;
use super::users::ByName;
use super::{RuleError, User, Users, has_spaces, merge_selectors};
use crate::config::rewrite::replace;
use crate::config::special::reason_of;
use crate::config::words;

/// Puts the users of a file in the place of all that are there; of `default`, if the file does
/// not name it, the one that may do everything.
///
/// # Errors
/// Everything that is wrong with the file, in Redis's words; then nothing has changed.
pub fn load(users: &Users, path: &Path) -> Result<(), String> {
    let read = read(users, path)?;
    users.replace(read.into_iter().map(|user| (user.name().to_vec(), user)).collect());
    Ok(())
}

/// The users of a file, `default` among them.
///
/// # Errors
/// As [`load`].
pub fn read(users: &Users, path: &Path) -> Result<Vec<Arc<User>>, String> {
    let shown = path.display().to_string();
    let content = std::fs::read(path).map_err(|error| {
        format!("Error loading ACLs, opening file '{shown}': {}", reason_of(&error))
    })?;
    let mut errors = String::new();
    let mut by_name = ByName::new();
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match read_line(users, line, &by_name, (&shown, number + 1)) {
            Ok(user) => drop(by_name.insert(user.name().to_vec(), Arc::new(user))),
            Err(error) => errors.push_str(&error),
        }
    }
    if !errors.is_empty() {
        return Err(errors
            + "WARNING: ACL errors detected, no change to the previously active ACL rules was \
               performed");
    }
    let reading = users.reading();
    by_name.entry(DEFAULT.to_vec()).or_insert_with(|| Arc::new(User::new_default(&reading)));
    Ok(by_name.into_values().collect())
}

fn read_line(
    users: &Users,
    line: &[u8],
    known: &ByName,
    (path, number): (&str, usize),
) -> Result<User, String> {
    let text = String::from_utf8_lossy;
    let words: Vec<&[u8]> =
        line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    let [b"user", name, rules @ ..] = &words[..] else {
        return Err(format!(
            "{path}:{number} should start with user keyword followed by the username. "
        ));
    };
    if has_spaces(name) {
        let name = text(name);
        return Err(format!("'{path}:{number}: username '{name}' contains invalid characters. "));
    }
    if known.contains_key(*name) {
        let name = text(name);
        return Err(format!("WARNING: Duplicate user '{name}' found on line {number}. "));
    }
    let Ok(rules) = merge_selectors(rules) else {
        return Err(format!("{path}:{number}: Unmatched parenthesis in selector definition."));
    };
    let reading = users.reading();
    let mut user = User::new(name, &reading);
    let (mut errors, mut told) = (String::new(), false);
    for rule in &rules {
        let rule = rule.trim_ascii();
        match user.apply(rule, &reading) {
            Ok(()) => {}
            // The name of a command is no secret.
            Err(error @ RuleError::Unknown) => errors.push_str(&format!(
                "{path}:{number}: Error in applying operation '{}': {}. ",
                text(rule),
                error.text()
            )),
            Err(error) if !told => {
                told = true;
                errors.push_str(&format!("{path}:{number}: {}. ", error.text()));
            }
            Err(_) => {}
        }
    }
    if errors.is_empty() { Ok(user) } else { Err(errors) }
}

/// Writes all users to a file, such that a crash leaves the old one or the new one.
///
/// # Errors
/// The system's.
pub fn save(users: &Users, path: &Path) -> std::io::Result<()> {
    let mut content = Vec::new();
    for user in users.all() {
        content.extend(user.line());
        content.push(b'\n');
    }
    replace(path, &content)
}

/// Takes up the users of the configuration: of its `user` lines, or of `aclfile`.
///
/// # Errors
/// What is wrong with them; the server must not start then.
pub fn begin(users: &Users, lines: &[Vec<Vec<u8>>], aclfile: &[u8]) -> Result<(), String> {
    if aclfile.is_empty() {
        return configure(users, lines);
    }
    load(users, &crate::config::settings::path(aclfile))
}

/// Takes up `user` lines: each is a name and its rules.
fn configure(users: &Users, lines: &[Vec<Vec<u8>>]) -> Result<(), String> {
    for line in lines {
        let [name, rules @ ..] = &line[..] else { continue };
        let mut all: Vec<&[u8]> = vec![b"reset"];
        all.extend(rules.iter().map(Vec::as_slice));
        let user = users.set(name, &all).map_err(|error| {
            let reason = error.text().strip_prefix("ERR ").unwrap_or(error.text());
            format!("Error loading the ACL user '{}': {reason}", String::from_utf8_lossy(name))
        })?;
        if !user.is_enabled() {
            tracing::info!(
                "The user '{}' is disabled (there is no 'on' modifier in the user description). \
                 Make sure this is not a configuration error.",
                user.shown_name()
            );
        }
    }
    Ok(())
}

/// The `user` lines that CONFIG REWRITE writes: of `default` only if its rules are not those
/// that `requirepass` alone gives it.
#[must_use]
pub fn configuration(users: &Users) -> Vec<Vec<u8>> {
    let plain = users.configured_default().line();
    let lines = users.all().into_iter().map(|user| user.line()).filter(|line| *line != plain);
    lines
        .map(|line| line.split(|byte| *byte == b' ').map(quoted).collect::<Vec<_>>().join(&b' '))
        .collect()
}

/// A word as a configuration file spells it: in quotes only where it must be.
fn quoted(word: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if word.iter().all(is_plain) { word.to_vec() } else { words::quoted(word) }
}
