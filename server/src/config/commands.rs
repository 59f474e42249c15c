//! CONFIG GET and CONFIG SET, as pure functions of the arguments after the subcommand.
//!
//! CONFIG SET takes all pairs or none: values are read first, then stored, then the hooks run;
//! what any of them refuses restores the values as they were.

use std::sync::Arc;

use holdfast_engine::error::CommandError;
use holdfast_engine::reply::{CommandResult, Reply};

use super::directive::{Change, Class};
use super::load::default_of;
use super::settings::Origin;
use super::value::{Lines, Value};
use super::{Config, Hook, find, rows, words};

/// `CONFIG GET pattern [pattern …]`: a map of names and values. Aliases are answered under
/// their own names.
///
/// # Errors
/// Without a pattern.
pub fn get(config: &Config, patterns: &[&[u8]]) -> CommandResult {
    if patterns.is_empty() {
        return Err(CommandError::wrong_arity("config|get"));
    }
    let mut found: Vec<(Vec<u8>, usize)> = Vec::new();
    let add = |name: &[u8], index: usize, found: &mut Vec<(Vec<u8>, usize)>| {
        if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            found.push((name.to_vec(), index));
        }
    };
    for pattern in patterns {
        if !pattern.iter().any(|b| b"[*?".contains(b)) {
            // A name in full is answered as it was typed, and finds hidden directives too.
            if let Some(index) = find(pattern) {
                add(pattern, index, &mut found);
            }
            continue;
        }
        let pattern = pattern.to_ascii_lowercase();
        for (index, row) in rows().iter().enumerate().filter(|(_, row)| !row.hidden) {
            // An alias of other hyphens alone is found in full only: Redis lists none such.
            let alias = row.alias.filter(|alias| alias.replace('-', "_") != row.name);
            for name in std::iter::once(row.name).chain(alias) {
                if words::matches(&pattern, name.as_bytes()) {
                    add(name.as_bytes(), index, &mut found);
                }
            }
        }
    }
    let values = config.values.read();
    let pairs = found.into_iter().map(|(name, index)| {
        let value = rows()[index].print(&values[index]);
        (Reply::Bulk(name.into()), Reply::Bulk(value.into()))
    });
    Ok(Reply::Map(pairs.collect()))
}

/// One pair of a CONFIG SET.
struct Pair<'a> {
    /// The name as typed, in lower case.
    name: String,
    index: usize,
    value: &'a [u8],
}

/// `CONFIG SET name value [name value …]`: OK, or an error and nothing changed.
///
/// # Errors
/// Redis's texts; see the tests.
pub fn set(config: &Config, args: &[&[u8]], client: Origin) -> CommandResult {
    if args.len() < 2 {
        return Err(CommandError::wrong_arity("config|set"));
    }
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(CommandError::SYNTAX);
    };
    let pairs = named(config, pairs, client)?;
    let _changing = config.changing.lock();
    let before = config.values.read().clone();
    let mut after = before.clone();
    for pair in &pairs {
        after[pair.index] = read(pair, &after[pair.index])?;
    }
    let changed: Vec<&Pair> =
        pairs.iter().filter(|pair| before[pair.index] != after[pair.index]).collect();
    let hooks = hooks_of(config, &changed)?;
    store(config, &after, &changed);
    for (done, (hook, pair)) in hooks.iter().enumerate() {
        if let Err(reason) = (hook.run)(&config.settings) {
            store(config, &before, &changed);
            for (hook, _) in &hooks[..=done] {
                if let Err(reason) = (hook.run)(&config.settings) {
                    tracing::warn!("CONFIG SET could not be taken back: {reason}");
                }
            }
            return Err(failed(&pair.name, &reason));
        }
    }
    for pair in changed {
        if let Class::Inert(why) = rows()[pair.index].class {
            tracing::warn!("CONFIG SET: '{}' has no effect here: {why}", pair.name);
        }
    }
    Ok(Reply::Ok)
}

/// The pairs of a CONFIG SET by whom they concern: all members of a cluster, or this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Names and values of what the members share.
    pub shared: Vec<Vec<u8>>,
    /// Names and values of what is this node's.
    pub own: Vec<Vec<u8>>,
}

/// Judges the pairs of a CONFIG SET without storing any.
///
/// # Errors
/// As [`set`], but for what only a change itself can tell.
pub fn split(config: &Config, args: &[&[u8]], client: Origin) -> Result<Split, CommandError> {
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(CommandError::SYNTAX);
    };
    let values = config.values.read().clone();
    let mut split = Split::default();
    for pair in named(config, pairs, client)? {
        read(&pair, &values[pair.index])?;
        let side = if rows()[pair.index].shared { &mut split.shared } else { &mut split.own };
        side.push(pair.name.into_bytes());
        side.push(pair.value.to_vec());
    }
    Ok(split)
}

fn failed(name: &str, reason: &str) -> CommandError {
    CommandError::new(format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
    ))
}

/// Finds the directives and judges whether they may be set at all.
fn named<'a>(
    config: &Config,
    pairs: &[[&'a [u8]; 2]],
    client: Origin,
) -> Result<Vec<Pair<'a>>, CommandError> {
    let mut found: Vec<Pair> = Vec::with_capacity(pairs.len());
    for [typed, value] in pairs {
        let name = String::from_utf8_lossy(typed).into_owned();
        let Some(index) = find(typed) else {
            return Err(CommandError::new(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            )));
        };
        match rows()[index].change {
            Change::Immutable => return Err(failed(&name, "can't set immutable config")),
            Change::Protected if !config.settings.enable_protected_configs().admits(client) => {
                return Err(failed(&name, "can't set protected config"));
            }
            _ => {}
        }
        let lower = name.to_ascii_lowercase();
        // By name, not by directive: a name and its alias may both be set, the later one wins.
        if found.iter().any(|pair| pair.name == lower) {
            return Err(failed(&name, "duplicate parameter"));
        }
        found.push(Pair { name: lower, index, value });
    }
    Ok(found)
}

fn read(pair: &Pair, before: &Value) -> Result<Value, CommandError> {
    let row = rows()[pair.index];
    let pieces;
    let arguments: Vec<&[u8]> = if row.kind.takes_several() && !pair.value.is_empty() {
        pieces = words::split(pair.value)
            .ok_or_else(|| failed(&pair.name, "Unbalanced quotes in configuration line"))?;
        pieces.iter().map(Vec::as_slice).collect()
    } else {
        vec![pair.value]
    };
    let value = row
        .read(&arguments, before, Lines::Replace)
        .map_err(|reason| failed(&pair.name, &reason))?;
    match row.class {
        Class::Refused(instead) if value != default_of(row) => Err(failed(&pair.name, instead)),
        _ => Ok(value),
    }
}

/// The hooks the changed directives need, each once, with the pair it is blamed on.
fn hooks_of<'a>(
    config: &Config,
    changed: &[&'a Pair<'a>],
) -> Result<Vec<(Arc<Hook>, &'a Pair<'a>)>, CommandError> {
    let all = config.hooks.read();
    let mut found: Vec<(Arc<Hook>, &Pair)> = Vec::new();
    for pair in changed {
        let row = rows()[pair.index];
        let mut any = false;
        for hook in all.iter().filter(|hook| hook.names.contains(&row.name)) {
            any = true;
            if !found.iter().any(|(known, _)| Arc::ptr_eq(known, hook)) {
                found.push((Arc::clone(hook), pair));
            }
        }
        if row.change == Change::ByHook && !any {
            return Err(failed(&pair.name, "it cannot be changed while the server runs"));
        }
    }
    Ok(found)
}

/// Puts the values of the changed directives in force, together.
fn store(config: &Config, values: &[Value], changed: &[&Pair]) {
    let mut current = config.values.write();
    for pair in changed {
        current[pair.index] = values[pair.index].clone();
        config.settings.store(rows()[pair.index].name, &values[pair.index]);
    }
}

/// Whether the value of `name` is a secret, to be kept out of SLOWLOG and MONITOR.
#[must_use]
pub fn is_sensitive(name: &[u8]) -> bool {
    find(name).is_some_and(|index| rows()[index].sensitive)
}

/// `CONFIG HELP`.
#[must_use]
pub fn help() -> Reply {
    Reply::Array(
        [
            "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "REWRITE",
            "    Rewrite the configuration file.",
            "HELP",
            "    Prints this help.",
        ]
        .map(Reply::simple)
        .into(),
    )
}
