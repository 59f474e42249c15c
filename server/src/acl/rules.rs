//! What may be wrong with a rule, in Redis's words, and rules that are split into words.

/// Why a rule was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleError {
    /// It names no command or category.
    Unknown,
    /// It is no rule.
    Syntax,
    /// A key pattern after `~*`.
    KeysAreAll,
    /// A channel pattern after `&*`.
    ChannelsAreAll,
    /// A password to be removed is not there.
    NoSuchPassword,
    /// A hash that is none.
    BadHash,
    /// `+container|sub|arg`
    FirstArgOfSubcommand,
}

impl RuleError {
    /// Redis's text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown command or category name in ACL",
            Self::Syntax => "Syntax error",
            Self::KeysAreAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and \
                 does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            Self::ChannelsAreAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid \
                 and does not have any effect. Try 'resetchannels' to start with an empty list of \
                 channels"
            }
            Self::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            Self::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase \
                 hexadecimal characters"
            }
            Self::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        }
    }
}

/// Whether a name or pattern holds white space or a zero byte, which the lines of a file could
/// not carry.
#[must_use]
pub fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

/// Joins the words of a selector that a client sent as several: `(+get`, `~a)`.
///
/// # Errors
/// The word that opens a selector which is never closed.
pub fn merge_selectors<'a>(words: &[&'a [u8]]) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut merged: Vec<Vec<u8>> = Vec::with_capacity(words.len());
    let mut open: Option<(&'a [u8], Vec<u8>)> = None;
    for word in words {
        match &mut open {
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if word.ends_with(b")") {
                    merged.extend(open.take().map(|(_, selector)| selector));
                }
            }
            None if word.starts_with(b"(") && !word.ends_with(b")") => {
                open = Some((word, word.to_vec()));
            }
            None => merged.push(word.to_vec()),
        }
    }
    match open {
        Some((first, _)) => Err(first),
        None => Ok(merged),
    }
}
