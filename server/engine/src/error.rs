//! Errors a client is told, with Redis's texts to the letter.

use std::borrow::Cow;

/// An error that a command answers with; the command changed nothing unless it says so.
///
/// `Display` gives the whole error line without the leading `-`, its code first
/// (`ERR syntax error`, `WRONGTYPE Operation against …`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    text: Cow<'static, str>,
}

impl CommandError {
    /// `WRONGTYPE …`
    pub const WRONG_TYPE: Self =
        Self::known("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// `ERR syntax error`
    pub const SYNTAX: Self = Self::known("ERR syntax error");
    /// `ERR value is not an integer or out of range`
    pub const NOT_AN_INTEGER: Self = Self::known("ERR value is not an integer or out of range");
    /// `ERR value is not a valid float`
    pub const NOT_A_FLOAT: Self = Self::known("ERR value is not a valid float");
    /// `ERR min or max is not a float`
    pub const MIN_MAX_NOT_A_FLOAT: Self = Self::known("ERR min or max is not a float");
    /// `ERR value is out of range, must be positive`
    pub const NOT_POSITIVE: Self = Self::known("ERR value is out of range, must be positive");
    /// `ERR value is out of range`
    pub const OUT_OF_RANGE: Self = Self::known("ERR value is out of range");
    /// `ERR no such key`
    pub const NO_SUCH_KEY: Self = Self::known("ERR no such key");
    /// `ERR index out of range`
    pub const INDEX_OUT_OF_RANGE: Self = Self::known("ERR index out of range");
    /// `ERR source and destination objects are the same`
    pub const SAME_OBJECT: Self = Self::known("ERR source and destination objects are the same");
    /// `ERR DB index is out of range`
    pub const DB_OUT_OF_RANGE: Self = Self::known("ERR DB index is out of range");
    /// `ERR increment or decrement would overflow`
    pub const INCREMENT_OVERFLOW: Self = Self::known("ERR increment or decrement would overflow");
    /// `ERR string exceeds maximum allowed size (proto-max-bulk-len)`
    pub const STRING_TOO_LONG: Self =
        Self::known("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    /// `OOM …`
    pub const OUT_OF_MEMORY: Self =
        Self::known("OOM command not allowed when used memory > 'maxmemory'.");
    /// `NOREPLICAS …`
    pub const NOT_ENOUGH_REPLICAS: Self =
        Self::known("NOREPLICAS Not enough good replicas to write.");
    /// `NOSCRIPT …`
    pub const NO_SCRIPT: Self = Self::known("NOSCRIPT No matching script. Please use EVAL.");
    /// `NOTBUSY …`
    pub const NOT_BUSY: Self = Self::known("NOTBUSY No scripts in execution right now.");
    /// `BUSY …` for a function; FUNCTION KILL is the way out.
    pub const BUSY_FUNCTION: Self = Self::known(
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
    );
    /// `BUSY …` for a script; SCRIPT KILL is the way out.
    pub const BUSY_SCRIPT: Self = Self::known(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    );

    /// An error whose text is known at compile time; begins with its code.
    #[must_use]
    pub const fn known(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text) }
    }

    /// An error made at run time; begins with its code. CR and LF become spaces, for an error
    /// is one line on the wire.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.contains(['\r', '\n']) {
            text = text.replace(['\r', '\n'], " ");
        }
        Self { text: Cow::Owned(text) }
    }

    /// `ERR wrong number of arguments for 'name' command`
    #[must_use]
    pub fn wrong_arity(name: &str) -> Self {
        Self::new(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// `ERR invalid expire time in 'name' command`
    #[must_use]
    pub fn invalid_expire(name: &str) -> Self {
        Self::new(format!("ERR invalid expire time in '{name}' command"))
    }

    /// `ERR unknown subcommand 'sub'. Try NAME HELP.`
    #[must_use]
    pub fn unknown_subcommand(name: &str, sub: &[u8]) -> Self {
        let sub = String::from_utf8_lossy(&sub[..sub.len().min(128)]).into_owned();
        Self::new(format!("ERR unknown subcommand '{sub}'. Try {} HELP.", name.to_uppercase()))
    }

    /// The whole line, code first.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The code: `ERR`, `WRONGTYPE`, `NOSCRIPT`; what INFO errorstats counts by.
    #[must_use]
    pub fn code(&self) -> &str {
        self.text.split(' ').next().unwrap_or("ERR")
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for CommandError {}
