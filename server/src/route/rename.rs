//! `rename-command`: other names for commands, or none at all.
//!
//! The names hold for clients and scripts alike. COMMAND, the statistics and error texts keep a
//! command's own name, as in Redis.

use std::collections::BTreeMap;

use holdfast_engine::command::{NAME_LEN_MAX, Renamed};

use crate::config::Renaming;

/// Gives commands the names the configuration asks for: once, before any command is looked up.
///
/// # Errors
/// A line that names no command, or whose new name is taken or too long; with the line.
pub fn apply(renamings: &[Renaming]) -> Result<(), String> {
    if renamings.is_empty() {
        return Ok(());
    }
    let renamed = renamed(renamings)?;
    match holdfast_engine::engine::rename(renamed) {
        true => Ok(()),
        false => Err("rename-command: commands have been looked up already".to_owned()),
    }
}

fn renamed(renamings: &[Renaming]) -> Result<Renamed, String> {
    let own = own_names();
    let mut by_name: BTreeMap<String, &'static str> =
        own.iter().map(|name| ((*name).to_owned(), *name)).collect();
    for (from, to) in renamings {
        let (from, to) = (lower(from), lower(to));
        let line = |reason: &str| format!("'rename-command {from} \"{to}\"': {reason}");
        let Some(name) = by_name.remove(&from) else {
            return Err(line("No such command in rename-command"));
        };
        if to.len() > NAME_LEN_MAX {
            return Err(line(&format!("a command's name has at most {NAME_LEN_MAX} bytes")));
        }
        if !to.is_empty() && by_name.insert(to.clone(), name).is_some() {
            return Err(line("Target command name already exists"));
        }
    }
    let mut visible: BTreeMap<&'static str, Option<&'static str>> =
        own.into_iter().map(|name| (name, None)).collect();
    for (name, own) in by_name {
        // The names live as long as the process, like the tables made of them.
        visible.insert(own, Some(if name == own { own } else { String::leak(name) }));
    }
    Ok(visible.into_iter().filter(|(own, name)| *name != Some(*own)).collect())
}

fn own_names() -> Vec<&'static str> {
    let engine = holdfast_engine::commands::FAMILIES.iter().copied().flatten();
    let server = super::rows::FAMILIES.iter().copied().flatten();
    engine.map(|row| row.name).chain(server.map(|command| command.row.name)).collect()
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, &str)]) -> Result<Renamed, String> {
        let lines: Vec<Renaming> =
            lines.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect();
        renamed(&lines)
    }

    #[test]
    fn lines_hold_in_their_order() {
        let renamed = of(&[("FLUSHALL", ""), ("config", "Secret"), ("get", "x"), ("SET", "get")]);
        let mut renamed = renamed.expect("all can be done");
        renamed.sort_unstable();
        assert_eq!(
            renamed,
            [
                ("config", Some("secret")),
                ("flushall", None),
                ("get", Some("x")),
                ("set", Some("get"))
            ]
        );
        assert_eq!(of(&[("get", "x"), ("x", "GET")]), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_done_is_told_with_its_line() {
        assert_eq!(
            of(&[("nosuch", "x")]),
            Err("'rename-command nosuch \"x\"': No such command in rename-command".to_owned())
        );
        assert_eq!(
            of(&[("flushall", ""), ("flushall", "x")]),
            Err("'rename-command flushall \"x\"': No such command in rename-command".to_owned())
        );
        assert_eq!(
            of(&[("get", "SET")]),
            Err("'rename-command get \"set\"': Target command name already exists".to_owned())
        );
        assert!(of(&[("get", &"x".repeat(65))]).is_err_and(|error| error.contains("64 bytes")));
    }
}
