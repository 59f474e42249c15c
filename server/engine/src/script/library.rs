//! The first line `#!lua name=…` of a library, and what its code registered.

use crate::command::{Reach, ScriptFlags};
use crate::keyspace::Function;
use crate::{CommandError, Reply};

/// Instructions that the code of a library may take to register its functions; Redis gives it
/// half a second. They are counted, not timed, so that every node comes to the same verdict.
pub(crate) const LOAD_INSTRUCTIONS_MAX: u64 = 20_000_000;

const BAD_NAME: CommandError = CommandError::known(
    "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least \
     one character long",
);
const BAD_METADATA: CommandError = CommandError::known("ERR Invalid library metadata");

/// A library's code with its first line understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metadata<'a> {
    /// The library's name.
    pub(crate) name: String,
    /// What is compiled: the code without its `#!` line, but with its line break, so that line
    /// numbers in errors are those of the whole.
    pub(crate) code: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Reads the first line.
    ///
    /// # Errors
    /// Redis's texts for a line that is none, another engine, or a name that is missing or bad.
    pub(crate) fn parse(library: &'a [u8]) -> Result<Self, CommandError> {
        if !library.starts_with(b"#!") {
            return Err(CommandError::known("ERR Missing library metadata"));
        }
        let end = library.iter().position(|byte| *byte == b'\n').ok_or(BAD_METADATA)?;
        let (line, code) = library.split_at(end);
        let mut words = split_words(line).ok_or(BAD_METADATA)?.into_iter();
        let engine = words.next().ok_or(BAD_METADATA)?;
        let mut name = None;
        for word in words {
            match word.split_at_checked(b"name=".len()) {
                Some((key, value)) if key.eq_ignore_ascii_case(b"name=") => {
                    if name.replace(value.to_vec()).is_some() {
                        return Err(CommandError::known(
                            "ERR Invalid metadata value, name argument was given multiple times",
                        ));
                    }
                }
                _ => {
                    return Err(CommandError::new(format!(
                        "ERR Invalid metadata value given: {}",
                        String::from_utf8_lossy(&word)
                    )));
                }
            }
        }
        let name = name.ok_or(CommandError::known("ERR Library name was not given"))?;
        let name = String::from_utf8(name).map_err(|_| BAD_NAME)?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(BAD_NAME);
        }
        let engine = &engine[2..];
        if !engine.eq_ignore_ascii_case(b"lua") {
            return Err(CommandError::new(format!(
                "ERR Engine '{}' not found",
                String::from_utf8_lossy(engine)
            )));
        }
        Ok(Self { name, code })
    }
}

/// Splits a line by Redis's rules: words may be quoted, with escapes inside double quotes.
/// `None` when a quote is not closed, or closed within a word.
fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [space, after @ ..] = rest
            && space.is_ascii_whitespace()
        {
            rest = after;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let [byte, after @ ..] = rest {
            rest = after;
            match byte {
                b'"' | b'\'' => {
                    rest = quoted(*byte, rest, &mut word)?;
                    if rest.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return None;
                    }
                    break;
                }
                byte if byte.is_ascii_whitespace() => break,
                byte => word.push(*byte),
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing quote and returns what follows it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    loop {
        rest = match rest {
            [] => return None,
            [b'\\', b'x', high, low, after @ ..]
                if quote == b'"'
                    && let (Some(high), Some(low)) = (digit(*high), digit(*low)) =>
            {
                word.push(high << 4 | low);
                after
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] if *byte == quote => return Some(after),
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

/// The functions that a load answered with: `{name, description or false, {flag, …}}` each.
pub(crate) fn registered(reply: Reply) -> Vec<Function> {
    let Reply::Array(rows) = reply else { return Vec::new() };
    rows.into_iter().filter_map(function).collect()
}

fn function(row: Reply) -> Option<Function> {
    let Reply::Array(fields) = row else { return None };
    let [Reply::Bulk(name), description, Reply::Array(names)] = &fields[..] else { return None };
    let mut flags = ScriptFlags::default();
    for name in names {
        if let Reply::Bulk(name) = name {
            flags.set(std::str::from_utf8(name).ok()?);
        }
    }
    let description = match description {
        Reply::Bulk(text) => Some(Box::from(&text[..])),
        _ => None,
    };
    let name = std::str::from_utf8(name).ok()?.to_owned();
    Some(Function { name, description, flags, reach: Reach::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(library: &str) -> String {
        match Metadata::parse(library.as_bytes()) {
            Ok(metadata) => metadata.name,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_line_is_read_as_redis_reads_it() {
        assert_eq!(Metadata::parse(b"#!LUA name=l_1\nx").map(|read| read.code), Ok(&b"\nx"[..]));
        assert_eq!(name("#!lua  NAME=\"a\\x62\" \n"), "ab");
        assert_eq!(name("#!lua name='a'\n"), "a");
        assert_eq!(name("lua name=a\n"), "ERR Missing library metadata");
        for bad in ["#!lua name=a", "#!lua name='a\n", "#!lua name='a'b\n", "#!lua name=\"a\\\n"] {
            assert_eq!(name(bad), "ERR Invalid library metadata", "{bad:?}");
        }
        assert_eq!(name("#!lua\n"), "ERR Library name was not given");
        assert_eq!(name("#!x name=a\n"), "ERR Engine 'x' not found");
        assert_eq!(name("#! name=a\n"), "ERR Engine '' not found");
        assert_eq!(name("#!lua name=a b=c\n"), "ERR Invalid metadata value given: b=c");
        assert!(name("#!lua name=a name=a\n").ends_with("given multiple times"));
        for bad in ["", "a-b", "\"a b\"", "ä"] {
            assert_eq!(name(&format!("#!lua name={bad}\n")), BAD_NAME.to_string(), "{bad:?}");
        }
    }
}
