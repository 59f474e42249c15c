//! LZF, the compression of long strings in RDB.
//!
//! A control byte below 32 announces that many literal bytes plus one; any other holds a length
//! (three bits, 7 continues in the next byte) and a distance (thirteen bits) of what is repeated.
//! Source: the format of Marc Lehmann's LibLZF, as RDB files hold it.

/// Longest run of literals.
const LITERALS_MAX: usize = 32;
/// Longest repetition, and how far back it may lie.
const MATCH_MAX: usize = 264;
const DISTANCE_MAX: usize = 8192;
/// Places of the table that remembers where three bytes were last seen.
const PLACES: usize = 1 << 14;

/// Compresses; keeps its table from string to string.
#[derive(Debug)]
pub struct Compressor {
    /// Position plus `base` of the last occurrence, by three bytes; less than `base` is stale.
    seen: Box<[u32]>,
    base: u32,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { seen: vec![0; PLACES].into(), base: 1 }
    }
}

#[inline]
fn place(bytes: &[u8]) -> usize {
    let word = u32::from(bytes[0]) << 16 | u32::from(bytes[1]) << 8 | u32::from(bytes[2]);
    (word.wrapping_mul(0x9e37_79b1) >> (32 - PLACES.trailing_zeros())) as usize
}

impl Compressor {
    /// Appends `input` compressed to `out`; false, and `out` as it was, if that saves nothing.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        // Redis asks for four bytes less, or stores the string as it is.
        let Some(limit) = input.len().checked_sub(4).filter(|limit| *limit > 0) else {
            return false;
        };
        if (self.base as usize).saturating_add(input.len()) >= u32::MAX as usize {
            if input.len() >= u32::MAX as usize - 1 {
                return false;
            }
            self.seen.fill(0);
            self.base = 1;
        }
        let mut literals = 0;
        let mut at = 0;
        while at < input.len() {
            let found = if at + 3 <= input.len() { self.find(input, at) } else { None };
            let Some((distance, len)) = found else {
                at += 1;
                if at - literals == LITERALS_MAX {
                    push_literals(&input[literals..at], out);
                    literals = at;
                }
                if out.len() - begin + (at - literals) >= limit {
                    out.truncate(begin);
                    self.base += input.len() as u32;
                    return false;
                }
                continue;
            };
            push_literals(&input[literals..at], out);
            let (high, low) = ((distance >> 8) as u8, distance as u8);
            match len - 2 {
                short @ ..7 => out.extend([(short as u8) << 5 | high, low]),
                long => out.extend([7 << 5 | high, (long - 7) as u8, low]),
            }
            // Every third place is enough to find most of what repeats.
            for inside in (at + 1..at + len).step_by(3) {
                if inside + 3 <= input.len() {
                    self.seen[place(&input[inside..])] = self.base + inside as u32;
                }
            }
            at += len;
            literals = at;
        }
        push_literals(&input[literals..], out);
        self.base += input.len() as u32;
        let saves = out.len() - begin < limit;
        if !saves {
            out.truncate(begin);
        }
        saves
    }

    /// An earlier occurrence of what stands at `at`: its distance minus one, and its length.
    #[inline]
    fn find(&mut self, input: &[u8], at: usize) -> Option<(usize, usize)> {
        let slot = &mut self.seen[place(&input[at..])];
        let before = std::mem::replace(slot, self.base + at as u32);
        let before = before.checked_sub(self.base)? as usize;
        let distance = at - before - 1;
        if distance >= DISTANCE_MAX || input[before..before + 3] != input[at..at + 3] {
            return None;
        }
        let most = MATCH_MAX.min(input.len() - at);
        let same = input[before..].iter().zip(&input[at..at + most]).skip(3);
        Some((distance, 3 + same.take_while(|(one, other)| one == other).count()))
    }
}

fn push_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

/// The `len` bytes that `input` stands for, or nothing if it stands for anything else.
#[must_use]
pub fn decompress(input: &[u8], len: usize) -> Option<Vec<u8>> {
    // Three bytes stand for at most 264: what claims more is damaged, and gets no memory.
    if len > input.len().saturating_mul(MATCH_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = input;
    while let [control, after @ ..] = rest {
        let control = usize::from(*control);
        if control < LITERALS_MAX {
            let (literals, after) = after.split_at_checked(control + 1)?;
            out.extend_from_slice(literals);
            rest = after;
        } else {
            let mut count = control >> 5;
            let mut after = after;
            if count == 7 {
                let (more, behind) = after.split_first()?;
                count += usize::from(*more);
                after = behind;
            }
            let (low, after) = after.split_first()?;
            let distance = (control & 0x1f) << 8 | usize::from(*low);
            let from = out.len().checked_sub(distance + 1)?;
            if out.len() + count + 2 > len {
                return None;
            }
            // What is repeated may overlap what it makes.
            for nth in 0..count + 2 {
                out.push(out[from + nth]);
            }
            rest = after;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_shrinks() {
        let mut compressor = Compressor::default();
        for input in [b"a".repeat(1000), b"abcabcabd".repeat(50), vec![0; 100_000]] {
            let mut out = b"before".to_vec();
            assert!(compressor.compress(&input, &mut out));
            assert!(out.len() < input.len() / 5, "{} of {}", out.len(), input.len());
            assert_eq!(decompress(&out[6..], input.len()), Some(input));
        }
        let mut out = Vec::new();
        assert!(!compressor.compress(b"nothing to gain", &mut out) && out.is_empty());
    }

    #[test]
    fn damage_is_seen() {
        assert_eq!(decompress(b"\x00", 1), None);
        assert_eq!(decompress(b"\x00a", 2), None);
        assert_eq!(decompress(b"\x00a\x20\x01", 4), None);
        assert_eq!(decompress(b"\x00a\x20\x00", 4), Some(b"aaaa".to_vec()));
        assert_eq!(decompress(b"\x00a\xe0\x00\x00", usize::MAX), None);
    }

    proptest! {
        #[test]
        fn comes_back(input in prop::collection::vec(0u8..4, 0..3000), again in 1usize..4) {
            let mut compressor = Compressor::default();
            for _ in 0..again {
                let mut out = Vec::new();
                if compressor.compress(&input, &mut out) {
                    prop_assert!(out.len() < input.len());
                    let back = decompress(&out, input.len());
                    prop_assert_eq!(back.as_ref(), Some(&input));
                }
            }
        }

        #[test]
        fn never_panics(input in prop::collection::vec(any::<u8>(), 0..200), len in 0usize..2000) {
            if let Some(out) = decompress(&input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
