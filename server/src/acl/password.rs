//! Passwords: only their SHA-256 is kept, as 64 hexadecimal digits.

use sha2::{Digest, Sha256};

/// The digits of a password's hash.
pub(super) type Hash = [u8; 64];

/// The hash of a password.
pub(super) fn hash(password: &[u8]) -> Hash {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

/// Reads a hash; `None` unless it is 64 digits, lower-case ones.
pub(super) fn read(text: &[u8]) -> Option<Hash> {
    let digits: Hash = text.try_into().ok()?;
    let fits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.iter().all(fits).then_some(digits)
}

/// Compares without telling by its duration where the first difference is.
pub(super) fn is_same(a: &Hash, b: &Hash) -> bool {
    let bytes = a.iter().zip(b).fold(0u8, |sum, (x, y)| sum | (x ^ y));
    std::hint::black_box(bytes) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_sha_256() {
        let expected = b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(&hash(b"abc"), expected);
        assert_eq!(read(expected), Some(*expected));
        assert_eq!(read(&expected.to_ascii_uppercase()), None);
        assert_eq!(read(&expected[1..]), None);
        assert!(is_same(&hash(b"abc"), expected) && !is_same(&hash(b"abd"), expected));
    }
}
