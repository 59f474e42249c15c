//! Owner tokens, and the randomness for them and for retry delays.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// 160 random bits: two acquisitions anywhere, ever, do not share a token.
const OWNER_BYTES: usize = 20;

/// The unique value by which servers know one acquisition: 40 hexadecimal digits.
///
/// Every attempt draws its own, so a release that arrives late, or is sent twice, can never touch the
/// lock of whoever came after.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    pub(crate) fn random() -> Result<Self, Error> {
        let mut bytes = [0_u8; OWNER_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| Error::Randomness(e.to_string()))?;
        let mut text = String::with_capacity(2 * OWNER_BYTES);
        for byte in bytes {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        Ok(Self(text.into()))
    }

    /// The token as the servers store it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({})", self.0)
    }
}

/// A number in `[0, 1)` for jitter; the middle if the system has no randomness, which only costs spread.
pub(crate) fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_long_and_unique() {
        let owners: std::collections::HashSet<_> =
            (0..1000).map(|_| Owner::random().unwrap()).collect();
        assert_eq!(owners.len(), 1000);
        assert!(owners.iter().all(|o| o.as_str().len() == 40));
    }

    #[test]
    fn fractions_stay_below_one() {
        assert!((0..1000).map(|_| random_fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
