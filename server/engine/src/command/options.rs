//! What the options of many commands have in common: walking them, numbers, times.
//!
//! A handler reads all of its options before it changes anything. The walk is hand-written per
//! command, for Redis's rules of which options exclude each other follow no grammar; the parts
//! that do repeat are here.

use super::Args;
use crate::error::CommandError;
use crate::time::{DbIndex, UnixMillis};
use crate::value::integer_text;

/// Milliseconds in a second.
const SECOND_MS: i64 = 1000;

/// Whether `arg` is this option, in any case.
#[inline]
#[must_use]
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// An integer argument.
///
/// # Errors
/// `ERR value is not an integer or out of range`
#[inline]
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    integer_text(arg).ok_or(CommandError::NOT_AN_INTEGER)
}

/// An integer argument that Redis keeps in a C `int`.
///
/// # Errors
/// As [`integer`], or the text that names the bounds.
pub fn small_integer(arg: &[u8]) -> Result<i32, CommandError> {
    i32::try_from(integer(arg)?).map_err(|_| {
        CommandError::known(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )
    })
}

/// The number of a database among `databases`.
///
/// # Errors
/// Those of [`small_integer`], or `ERR DB index is out of range`.
pub fn database(arg: &[u8], databases: u16) -> Result<DbIndex, CommandError> {
    match u16::try_from(small_integer(arg)?) {
        Ok(index) if index < databases => Ok(DbIndex(index)),
        _ => Err(CommandError::DB_OUT_OF_RANGE),
    }
}

/// The arguments from one place on, option by option.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: Args<'a>,
}

impl<'a> Options<'a> {
    /// The options of `args` from index `first` on.
    #[must_use]
    pub fn after(args: Args<'a>, first: usize) -> Self {
        Self { rest: args.get(first..).unwrap_or_default() }
    }

    /// How many arguments are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The value that follows the option just read.
    ///
    /// # Errors
    /// `ERR syntax error` when nothing follows.
    pub fn value(&mut self) -> Result<&'a [u8], CommandError> {
        self.next().ok_or(CommandError::SYNTAX)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }
}

/// How a command's number says when a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryForm {
    /// `EX`: so many seconds from now.
    InSeconds,
    /// `PX`: so many milliseconds from now.
    InMillis,
    /// `EXAT`: at this second since the epoch.
    AtSecond,
    /// `PXAT`: at this millisecond since the epoch.
    AtMilli,
}

impl ExpiryForm {
    /// The form that an option of SET or GETEX names.
    #[must_use]
    pub fn of_option(word: &[u8]) -> Option<Self> {
        [
            ("EX", Self::InSeconds),
            ("PX", Self::InMillis),
            ("EXAT", Self::AtSecond),
            ("PXAT", Self::AtMilli),
        ]
        .into_iter()
        .find_map(|(name, form)| is(word, name).then_some(form))
    }

    /// Whether it names a point in time rather than a duration.
    #[must_use]
    pub const fn is_absolute(self) -> bool {
        matches!(self, Self::AtSecond | Self::AtMilli)
    }

    /// The instant that `number` means at `now`; `None` when it overflows.
    #[must_use]
    pub fn instant(self, number: i64, now: UnixMillis) -> Option<UnixMillis> {
        let ms = match self {
            Self::InSeconds | Self::AtSecond => number.checked_mul(SECOND_MS)?,
            Self::InMillis | Self::AtMilli => number,
        };
        if self.is_absolute() { Some(UnixMillis(ms)) } else { now.checked_add_ms(ms) }
    }
}

/// The expiry that SET, SETEX or GETEX is given: its form and the text of its number.
#[derive(Debug, Clone, Copy)]
pub struct ExpiryArg<'a> {
    /// What the number means.
    pub form: ExpiryForm,
    /// The number.
    pub text: &'a [u8],
}

impl ExpiryArg<'_> {
    /// The instant, which must lie after the epoch but may lie in the past.
    ///
    /// # Errors
    /// Not an integer; `ERR invalid expire time in '…' command` for a number that is not
    /// positive or too large.
    pub fn resolve(self, now: UnixMillis, command: &str) -> Result<UnixMillis, CommandError> {
        let number = integer(self.text)?;
        Some(number)
            .filter(|number| *number > 0)
            .and_then(|number| self.form.instant(number, now))
            .ok_or_else(|| CommandError::invalid_expire(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_bounded_on_both_sides() {
        let now = UnixMillis(1_000);
        let resolve = |form, text: &'static str| {
            let text = text.as_bytes();
            ExpiryArg { form, text }.resolve(now, "set")
        };
        assert_eq!(resolve(ExpiryForm::InSeconds, "1"), Ok(UnixMillis(2_000)));
        assert_eq!(resolve(ExpiryForm::AtMilli, "1"), Ok(UnixMillis(1)));
        for (form, text) in [
            (ExpiryForm::InSeconds, "0"),
            (ExpiryForm::InMillis, "-1"),
            (ExpiryForm::InMillis, "9223372036854775807"),
            (ExpiryForm::AtSecond, "9223372036854775807"),
        ] {
            let error = CommandError::invalid_expire("set");
            assert_eq!(resolve(form, text), Err(error));
        }
        assert_eq!(resolve(ExpiryForm::InMillis, "1x"), Err(CommandError::NOT_AN_INTEGER));
    }

    #[test]
    fn databases_are_told_from_numbers_and_from_ints() {
        assert_eq!(database(b"15", 16), Ok(DbIndex(15)));
        assert_eq!(database(b"16", 16), Err(CommandError::DB_OUT_OF_RANGE));
        assert_eq!(database(b"-1", 16), Err(CommandError::DB_OUT_OF_RANGE));
        assert_eq!(database(b"x", 16), Err(CommandError::NOT_AN_INTEGER));
        assert!(database(b"99999999999", 16).is_err());
    }
}
