//! The name of a script: the SHA-1 of its body.

use std::fmt;

/// Forty lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha([u8; Sha::LEN]);

impl Sha {
    /// How many digits there are.
    pub const LEN: usize = 40;

    /// The name of the script `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; Self::LEN];
        for (i, byte) in sha1_smol::Sha1::from(body).digest().bytes().into_iter().enumerate() {
            hex[2 * i] = DIGITS[usize::from(byte >> 4)];
            hex[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        Self(hex)
    }

    /// Reads a name as a client writes it, in either case; `None` if it cannot be one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut hex: [u8; Self::LEN] = text.try_into().ok()?;
        hex.make_ascii_lowercase();
        hex.iter().all(u8::is_ascii_hexdigit).then_some(Self(hex))
    }

    /// The digits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The digits as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Invariant: the bytes are ASCII digits, so this never takes the fallback.
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_read_in_any_case() {
        let sha = Sha::of(b"");
        assert_eq!(sha.as_str(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(Sha::parse(sha.as_str().to_uppercase().as_bytes()), Some(sha));
        assert_eq!(Sha::parse(b"da39"), None);
        assert_eq!(Sha::parse(&[b'g'; 40]), None);
    }
}
