//! The first line `#!lua flags=…` of a script: what it promises about itself.

use crate::CommandError;
use crate::command::ScriptFlags;

/// A script's body with its first line understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shebang<'a> {
    /// The promises; `None` without a shebang, which is Redis's compatibility mode.
    pub flags: Option<ScriptFlags>,
    /// What is compiled: the body without its `#!` line. The line break stays, so that line
    /// numbers in errors are those of the body.
    pub code: &'a [u8],
}

impl<'a> Shebang<'a> {
    /// Reads the first line of `body`.
    ///
    /// # Errors
    /// Redis's texts for a line without end, another engine, an unknown option or flag.
    pub fn parse(body: &'a [u8]) -> Result<Self, CommandError> {
        if !body.starts_with(b"#!") {
            return Ok(Self { flags: None, code: body });
        }
        let Some(end) = body.iter().position(|byte| *byte == b'\n') else {
            return Err(CommandError::known("ERR Invalid script shebang"));
        };
        let (line, code) = body.split_at(end);
        let line = String::from_utf8_lossy(line);
        if line.contains(['"', '\'']) {
            // Redis splits the line by its quoting rules, under which these words break.
            return Err(CommandError::known("ERR Invalid engine in script shebang"));
        }
        let mut words = line.split_ascii_whitespace();
        let engine = words.next().unwrap_or("#!");
        if engine != "#!lua" {
            return Err(CommandError::new(format!(
                "ERR Unexpected engine in script shebang: {engine}"
            )));
        }
        let mut flags = ScriptFlags::default();
        for word in words {
            let Some(list) = word.strip_prefix("flags=") else {
                return Err(CommandError::new(format!("ERR Unknown lua shebang option: {word}")));
            };
            if !list.is_empty() {
                if let Some(name) = list.split(',').find(|name| !flags.set(name)) {
                    return Err(CommandError::new(format!(
                        "ERR Unexpected flag in script shebang: {name}"
                    )));
                }
            }
        }
        Ok(Self { flags: Some(flags), code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str) -> String {
        Shebang::parse(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn flags_are_read_and_the_line_break_stays() {
        let parsed = Shebang::parse(b"#!lua flags=no-writes,allow-oom\nreturn 1").unwrap();
        let expected = ScriptFlags { no_writes: true, allow_oom: true, ..ScriptFlags::default() };
        assert_eq!(parsed.flags, Some(expected));
        assert_eq!(parsed.code, b"\nreturn 1");
        assert_eq!(Shebang::parse(b"return 1").unwrap().flags, None);
        assert_eq!(Shebang::parse(b"#!lua flags=\n").unwrap().flags, Some(ScriptFlags::default()));
    }

    #[test]
    fn errors_are_worded_as_redis_words_them() {
        assert_eq!(error("#!lua"), "ERR Invalid script shebang");
        assert_eq!(error("#!luax\n"), "ERR Unexpected engine in script shebang: #!luax");
        assert_eq!(error("#!\n"), "ERR Unexpected engine in script shebang: #!");
        assert_eq!(error("#!lua name=x\n"), "ERR Unknown lua shebang option: name=x");
        assert_eq!(error("#!lua flags=foo\n"), "ERR Unexpected flag in script shebang: foo");
        assert_eq!(error("#!lua flags=no-writes,\n"), "ERR Unexpected flag in script shebang: ");
    }
}
