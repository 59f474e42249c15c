//! The command line: `holdfast-server [conf | -] [--directive value …]`.

use std::path::{Path, PathBuf};

use super::load::{Draft, Place};
use super::{Config, ConfigError, words};

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Serve with this configuration.
    Serve(Box<Config>),
    /// Say what is wrong with this configuration, or print the text, and exit.
    Check(Box<Config>, String),
    /// Print the text to standard output and exit with 0.
    Print(String),
    /// Cut the journal of this directory where it is damaged, and exit.
    RepairJournal(PathBuf),
}

/// Reads `argv`, the program's name first.
pub(super) fn read(argv: &[Vec<u8>]) -> Result<Request, ConfigError> {
    let options = argv.get(1..).unwrap_or_default();
    match options.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Ok(Request::Print(super::help::version())),
        Some(b"-h" | b"--help") => return Ok(Request::Print(super::help::usage())),
        _ => {}
    }
    if let [first, dir] = options
        && first == b"--repair-journal"
    {
        return Ok(Request::RepairJournal(super::settings::path(dir)));
    }
    let (check, options) = match options {
        [first, rest @ ..] if first == b"--check" => (true, rest),
        _ => (false, options),
    };
    let mut draft = Draft::new();
    let (path, options) = match options {
        [first, rest @ ..] if !first.starts_with(b"-") => {
            let path = super::settings::path(first);
            // Absolute, for CONFIG REWRITE must find it after a change of directory.
            (Some(std::path::absolute(&path).unwrap_or(path)), rest)
        }
        _ => (None, options),
    };
    if let Some(path) = &path {
        draft.read_file(path)?;
    }
    let options = match options {
        [first, rest @ ..] if first == b"-" => {
            draft.read_file(Path::new("-"))?;
            rest
        }
        [rest @ .., last] if last == b"-" => {
            draft.read_file(Path::new("-"))?;
            rest
        }
        _ => options,
    };
    for words in directives(options)? {
        let text = words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>().join(" ");
        draft.read_line(&words, format!("--{text}"), Place::CommandLine, 0)?;
    }
    let config = Config::from_draft(draft, path.clone())?;
    if check {
        let text = checked(&config, path);
        return Ok(Request::Check(config.into(), text));
    }
    Ok(Request::Serve(config.into()))
}

/// Options as directives: `--name` opens one, what follows up to the next belongs to it. The
/// first argument is taken even if it begins with `--`, for a password may.
fn directives(options: &[Vec<u8>]) -> Result<Vec<Vec<Vec<u8>>>, ConfigError> {
    let mut found: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut wants_argument = false;
    for (index, option) in options.iter().enumerate() {
        match option.strip_prefix(b"--") {
            Some(name) if !wants_argument => {
                let mut pieces = words::split(name).unwrap_or_else(|| vec![name.to_vec()]);
                let next_is_option = options.get(index + 1).is_none_or(|o| o.starts_with(b"--"));
                wants_argument = pieces.len() == 1;
                // `--save` with nothing after it is `--save ""`, as scripts write it.
                let bare_save = wants_argument && name.eq_ignore_ascii_case(b"save");
                if bare_save && next_is_option {
                    pieces.push(Vec::new());
                    wants_argument = false;
                }
                found.push(pieces);
            }
            _ => match found.last_mut() {
                Some(words) => {
                    words.push(option.clone());
                    wants_argument = false;
                }
                None => {
                    return Err(ConfigError::Line {
                        place: Place::CommandLine,
                        text: String::from_utf8_lossy(option).into_owned(),
                        reason: "an option begins with --, and a configuration file comes first; \
                                 see --help"
                            .into(),
                    });
                }
            },
        }
    }
    Ok(found)
}

fn checked(config: &Config, path: Option<PathBuf>) -> String {
    let mut text = String::new();
    for warning in config.warnings() {
        text += &format!("warning: {warning}\n");
    }
    let path = path.map_or("the command line".into(), |path| path.display().to_string());
    text + &format!("The configuration of {path} is valid.\n")
}
