//! What a request may ask for, and the errors that end a connection when it asks for more.
//!
//! Texts and numbers are those of Redis 7. Nothing here reads bytes; see `parse`.

/// Arguments of one command, the documented limit of the protocol.
pub const ARGS_MAX_DEFAULT: usize = 1024 * 1024;
/// `proto-max-bulk-len`: 512 MB.
pub const BULK_LEN_MAX_DEFAULT: usize = 512 * 1024 * 1024;
/// The longest inline request or length line, without its line end.
pub const LINE_LEN_MAX: usize = 64 * 1024;
/// Arguments before AUTH: enough for AUTH and HELLO, too few to hurt.
pub const UNAUTHENTICATED_ARGS_MAX: usize = 10;
/// Bytes of one argument before AUTH.
pub const UNAUTHENTICATED_BULK_LEN_MAX: usize = 16 * 1024;

/// What one connection may send now; changes at AUTH, RESET and CONFIG SET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    args_max: usize,
    bulk_len_max: usize,
    authenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { args_max: ARGS_MAX_DEFAULT, bulk_len_max: BULK_LEN_MAX_DEFAULT, authenticated: true }
    }
}

impl Limits {
    /// The limits of an authenticated client where `proto-max-bulk-len` is `bulk_len_max`.
    #[must_use]
    pub fn with_bulk_len_max(bulk_len_max: usize) -> Self {
        // Two bytes of CRLF follow every bulk, so a length near usize::MAX must not wrap.
        Self { bulk_len_max: bulk_len_max.min(isize::MAX as usize / 2), ..Self::default() }
    }

    /// The same limits with another number of arguments.
    #[must_use]
    pub fn args_max(self, args_max: usize) -> Self {
        Self { args_max, ..self }
    }

    /// The same limits for a client that still owes a password.
    #[must_use]
    pub fn unauthenticated(self) -> Self {
        Self { authenticated: false, ..self }
    }

    /// The same limits for a client that has shown its password or needs none.
    #[must_use]
    pub fn authenticated(self) -> Self {
        Self { authenticated: true, ..self }
    }

    /// Whether the larger limits hold.
    #[must_use]
    pub fn is_authenticated(self) -> bool {
        self.authenticated
    }

    /// The count up to which no check can fail: the hot path compares with this alone.
    pub(super) fn args_allowed(self) -> usize {
        if self.authenticated { self.args_max } else { self.args_max.min(UNAUTHENTICATED_ARGS_MAX) }
    }

    /// The bulk length up to which no check can fail.
    pub(super) fn bulk_len_allowed(self) -> usize {
        if self.authenticated {
            self.bulk_len_max
        } else {
            self.bulk_len_max.min(UNAUTHENTICATED_BULK_LEN_MAX)
        }
    }

    /// Why `count` arguments are too many.
    #[cold]
    pub(super) fn args_error(self, count: usize) -> ProtocolError {
        if count > self.args_max {
            ProtocolError::InvalidMultibulkLength
        } else {
            ProtocolError::UnauthenticatedMultibulkLength
        }
    }

    /// Why a bulk of `len` bytes is too long.
    #[cold]
    pub(super) fn bulk_error(self, len: usize) -> ProtocolError {
        if len > self.bulk_len_max {
            ProtocolError::InvalidBulkLength
        } else {
            ProtocolError::UnauthenticatedBulkLength
        }
    }
}

/// Why a connection's bytes cannot be followed any further: answer and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// `*` with something that is no count, or too great a count.
    InvalidMultibulkLength,
    /// More than ten arguments before AUTH.
    UnauthenticatedMultibulkLength,
    /// `$` with something that is no length, or above `proto-max-bulk-len`.
    InvalidBulkLength,
    /// More than 16 KiB in an argument before AUTH.
    UnauthenticatedBulkLength,
    /// Another byte where an argument's `$` had to stand.
    ExpectedBulk(u8),
    /// A `*` line without an end.
    TooBigCountLine,
    /// A `$` line without an end.
    TooBigBulkLine,
    /// An inline request without an end.
    TooBigInline,
    /// An inline request whose quotes do not close, or close in the middle of a word.
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The text after `-ERR `, as Redis words it; bytes, for it may quote one of the client's.
    #[must_use]
    pub fn text(self) -> Vec<u8> {
        let known: &[u8] = match self {
            Self::InvalidMultibulkLength => b"Protocol error: invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => {
                b"Protocol error: unauthenticated multibulk length"
            }
            Self::InvalidBulkLength => b"Protocol error: invalid bulk length",
            Self::UnauthenticatedBulkLength => b"Protocol error: unauthenticated bulk length",
            Self::ExpectedBulk(got) => {
                let mut text = b"Protocol error: expected '$', got '".to_vec();
                // An error is one line; Redis, too, sends a blank for a line end.
                text.push(if matches!(got, b'\r' | b'\n') { b' ' } else { got });
                text.push(b'\'');
                return text;
            }
            Self::TooBigCountLine => b"Protocol error: too big mbulk count string",
            Self::TooBigBulkLine => b"Protocol error: too big bulk count string",
            Self::TooBigInline => b"Protocol error: too big inline request",
            Self::UnbalancedQuotes => b"Protocol error: unbalanced quotes in request",
        };
        known.to_vec()
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl std::error::Error for ProtocolError {}
