//! HyperLogLogs: strings that estimate how many different elements were added to them.
//!
//! The bytes are Redis's: a header of 16 (`HYLL`, the encoding, the cached estimate), then
//! 16,384 registers, either 6 bits each (dense) or as runs (sparse). Nothing here trusts them:
//! a client may have written anything into the string.
//!
//! The estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches").

/// How many registers there are.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of an element's hash that choose its register.
const INDEX_BITS: u32 = 14;
/// Bits of the hash that are left: a register holds at most one more than this.
const RANK_BITS: u32 = 64 - INDEX_BITS;
/// Bits of a register.
const REGISTER_BITS: usize = 6;
const HEADER_LEN: usize = 16;
/// Length of a dense one.
pub const DENSE_LEN: usize = HEADER_LEN + REGISTERS * REGISTER_BITS / 8;
const MAGIC: &[u8] = b"HYLL";
/// Where the header says the encoding.
const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// Where the cached estimate stands, eight bytes, the least first.
const CACHE_AT: usize = 8;
/// Set in the estimate's last byte while it does not hold.
const STALE: u8 = 0x80;

/// Longest run of zeros in one byte.
const ZERO_RUN_MAX: usize = 64;
/// Longest run of a value in one byte, and the greatest value that has a run.
const VALUE_RUN_MAX: usize = 4;
const RUN_VALUE_MAX: u8 = 32;

/// The bytes are no registers, though the header says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

/// How the registers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// All of them.
    Dense,
    /// As runs.
    Sparse,
}

/// All registers, one byte each.
pub type Registers = [u8; REGISTERS];

/// Some registers that follow each other and hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What they hold.
    pub value: u8,
    /// How many they are.
    pub count: usize,
    /// Bytes of its code: 2 for a long run of zeros.
    pub code_len: usize,
}

/// The encoding of a string, if its header is that of a HyperLogLog.
#[must_use]
pub fn encoding_of(bytes: &[u8]) -> Option<Encoding> {
    if bytes.len() < HEADER_LEN || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes[ENCODING_AT] {
        DENSE if bytes.len() == DENSE_LEN => Some(Encoding::Dense),
        SPARSE => Some(Encoding::Sparse),
        _ => None,
    }
}

/// An empty one, sparse.
#[must_use]
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = SPARSE;
    push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// The register of an element, and what it must hold at least.
#[must_use]
pub fn register_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur(element);
    let index = hash as usize & (REGISTERS - 1);
    // The bit above all others ends the count.
    let rank = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    (index, rank as u8)
}

/// MurmurHash64A with Redis's seed.
fn murmur(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

/// A register of a dense one.
#[must_use]
pub fn dense_get(bytes: &[u8], index: usize) -> u8 {
    let at = index * REGISTER_BITS;
    let (byte, shift) = (HEADER_LEN + at / 8, at % 8);
    let next = bytes.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([bytes[byte], next]) >> shift) as u8 & 63
}

/// Sets a register of a dense one.
pub fn dense_set(bytes: &mut [u8], index: usize, value: u8) {
    let at = index * REGISTER_BITS;
    let (byte, shift) = (HEADER_LEN + at / 8, at % 8);
    let next = bytes.get(byte + 1).copied().unwrap_or(0);
    let both = u16::from_le_bytes([bytes[byte], next]) & !(63 << shift);
    let [low, high] = (both | u16::from(value) << shift).to_le_bytes();
    bytes[byte] = low;
    if let Some(next) = bytes.get_mut(byte + 1) {
        *next = high;
    }
}

/// Says that the cached estimate no longer holds.
pub fn invalidate(bytes: &mut [u8]) {
    bytes[CACHE_AT + 7] |= STALE;
}

/// The cached estimate, if it holds.
#[must_use]
pub fn cached(bytes: &[u8]) -> Option<u64> {
    let cache: [u8; 8] = bytes.get(CACHE_AT..CACHE_AT + 8)?.try_into().ok()?;
    (cache[7] & STALE == 0).then(|| u64::from_le_bytes(cache))
}

/// Keeps an estimate.
pub fn cache(bytes: &mut [u8], estimate: u64) {
    bytes[CACHE_AT..CACHE_AT + 8].copy_from_slice(&estimate.to_le_bytes());
}

/// The run that begins at `at`.
fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let code = *bytes.get(at)?;
    Some(match code >> 6 {
        0 => Run { value: 0, count: usize::from(code & 63) + 1, code_len: 1 },
        1 => {
            let count = usize::from(code & 63) << 8 | usize::from(*bytes.get(at + 1)?);
            Run { value: 0, count: count + 1, code_len: 2 }
        }
        _ => {
            let count = usize::from(code & 3) + 1;
            Run { value: (code >> 2 & 31) + 1, count, code_len: 1 }
        }
    })
}

/// The runs of a sparse one, as far as they can be read.
pub fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> {
    let mut at = HEADER_LEN;
    std::iter::from_fn(move || {
        let run = run_at(bytes, at)?;
        at += run.code_len;
        Some(run)
    })
}

fn push_zeros(out: &mut Vec<u8>, count: usize) {
    let less = count - 1;
    if count > ZERO_RUN_MAX {
        out.extend([0x40 | (less >> 8) as u8, less as u8]);
    } else {
        out.push(less as u8);
    }
}

fn push_run(out: &mut Vec<u8>, value: u8, count: usize) {
    match value {
        0 => push_zeros(out, count),
        _ => out.push(0x80 | (value - 1) << 2 | (count - 1) as u8),
    }
}

/// Calls `found` for each run of registers, from the first register to the last.
///
/// # Errors
/// [`Corrupt`] if there are more or fewer registers than there must be.
fn each_run(bytes: &[u8], mut found: impl FnMut(usize, u8, usize)) -> Result<(), Corrupt> {
    if encoding_of(bytes) == Some(Encoding::Dense) {
        (0..REGISTERS).for_each(|index| found(index, dense_get(bytes, index), 1));
        return Ok(());
    }
    let (mut index, mut read) = (0, HEADER_LEN);
    for run in runs(bytes) {
        if index + run.count > REGISTERS {
            return Err(Corrupt);
        }
        found(index, run.value, run.count);
        index += run.count;
        read += run.code_len;
    }
    if index == REGISTERS && read == bytes.len() { Ok(()) } else { Err(Corrupt) }
}

/// Raises registers to those of a HyperLogLog, where they are greater.
///
/// # Errors
/// [`Corrupt`]
pub fn merge(registers: &mut Registers, bytes: &[u8]) -> Result<(), Corrupt> {
    each_run(bytes, |index, value, count| {
        for register in &mut registers[index..index + count] {
            *register = value.max(*register);
        }
    })
}

/// The estimate of a HyperLogLog.
///
/// # Errors
/// [`Corrupt`]
pub fn estimate(bytes: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0; 64];
    each_run(bytes, |_, value, count| histogram[usize::from(value)] += count)?;
    Ok(estimate_of(&histogram))
}

/// The estimate of registers.
#[must_use]
pub fn estimate_registers(registers: &Registers) -> u64 {
    let mut histogram = [0; 64];
    registers.iter().for_each(|value| histogram[usize::from(*value & 63)] += 1);
    estimate_of(&histogram)
}

/// The estimate, from how many registers hold each value.
fn estimate_of(histogram: &[usize; 64]) -> u64 {
    /// 0.5 / ln 2
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let count = REGISTERS as f64;
    let top = RANK_BITS as usize;
    let mut z = count * tau((count - histogram[top + 1] as f64) / count);
    for value in (1..=top).rev() {
        z = (z + histogram[value] as f64) * 0.5;
    }
    z += count * sigma(histogram[0] as f64 / count);
    (ALPHA * count * count / z).round() as u64
}

/// Ertl's σ.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Ertl's τ.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Makes a sparse one dense; whether it was sparse.
///
/// # Errors
/// [`Corrupt`]
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<bool, Corrupt> {
    if encoding_of(bytes) == Some(Encoding::Dense) {
        return Ok(false);
    }
    let mut dense = vec![0; DENSE_LEN];
    dense[..HEADER_LEN].copy_from_slice(&bytes[..HEADER_LEN]);
    dense[ENCODING_AT] = DENSE;
    each_run(bytes, |index, value, count| {
        if value > 0 {
            (index..index + count).for_each(|index| dense_set(&mut dense, index, value));
        }
    })?;
    *bytes = dense;
    Ok(true)
}

/// Raises a register, whatever the encoding; whether it held less. A sparse one that would be
/// longer than `sparse_len_max` becomes dense.
///
/// # Errors
/// [`Corrupt`]
pub fn raise(
    bytes: &mut Vec<u8>,
    (index, value): (usize, u8),
    sparse_len_max: usize,
) -> Result<bool, Corrupt> {
    if encoding_of(bytes) == Some(Encoding::Dense) {
        let less = dense_get(bytes, index) < value;
        if less {
            dense_set(bytes, index, value);
        }
        return Ok(less);
    }
    if value <= RUN_VALUE_MAX
        && let Some(raised) = raise_sparse(bytes, (index, value), sparse_len_max)?
    {
        return Ok(raised);
    }
    make_dense(bytes)?;
    dense_set(bytes, index, value);
    Ok(true)
}

/// As [`raise`] for a sparse one; `None` if it would be too long.
fn raise_sparse(
    bytes: &mut Vec<u8>,
    (index, value): (usize, u8),
    sparse_len_max: usize,
) -> Result<Option<bool>, Corrupt> {
    let (mut at, mut first, mut before) = (HEADER_LEN, 0, None);
    let run = loop {
        let run = run_at(bytes, at).ok_or(Corrupt)?;
        if index < first + run.count {
            break run;
        }
        before = Some(at);
        at += run.code_len;
        first += run.count;
    };
    if run.value >= value {
        return Ok(Some(false));
    }
    let mut codes = Vec::with_capacity(5);
    let (left, right) = (index - first, first + run.count - index - 1);
    if left > 0 {
        push_run(&mut codes, run.value, left);
    }
    push_run(&mut codes, value, 1);
    if right > 0 {
        push_run(&mut codes, run.value, right);
    }
    let longer = codes.len().saturating_sub(run.code_len);
    if longer > 0 && bytes.len() + longer > sparse_len_max {
        return Ok(None);
    }
    bytes.splice(at..at + run.code_len, codes);
    join(bytes, before.unwrap_or(HEADER_LEN));
    Ok(Some(true))
}

/// Joins runs of one value that follow each other, among the next few from `at` on.
fn join(bytes: &mut Vec<u8>, mut at: usize) {
    /// So many codes are looked at: those that a change may have made neighbours.
    const CODES: usize = 5;
    for _ in 0..CODES {
        let Some(run) = run_at(bytes, at) else { return };
        let next = run_at(bytes, at + run.code_len);
        match next.filter(|next| run.value > 0 && next.value == run.value) {
            Some(next) if run.count + next.count <= VALUE_RUN_MAX => {
                let mut code = Vec::with_capacity(1);
                push_run(&mut code, run.value, run.count + next.count);
                bytes.splice(at..at + run.code_len + next.code_len, code);
            }
            _ => at += run.code_len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain registers, and a string of either encoding, after the same elements.
    fn filled(count: u64, sparse_len_max: usize) -> (Registers, Vec<u8>) {
        let (mut registers, mut bytes) = ([0; REGISTERS], empty());
        for n in 0..count {
            let (index, value) = register_of(format!("element:{n}").as_bytes());
            let less = registers[index] < value;
            registers[index] = registers[index].max(value);
            assert_eq!(raise(&mut bytes, (index, value), sparse_len_max), Ok(less));
        }
        (registers, bytes)
    }

    #[test]
    fn both_encodings_hold_what_plain_registers_hold() {
        for (count, max) in
            [(0, 3000), (1, 3000), (700, 3000), (3000, 3000), (3000, 1 << 20), (500, 0)]
        {
            let (registers, mut bytes) = filled(count, max);
            let mut merged = [0; REGISTERS];
            merge(&mut merged, &bytes).expect("whole");
            assert!(merged == registers, "{count} elements, at most {max} bytes");
            let expected = estimate_registers(&registers);
            assert_eq!(estimate(&bytes), Ok(expected));
            make_dense(&mut bytes).expect("whole");
            assert_eq!(estimate(&bytes), Ok(expected));
            let error = expected.abs_diff(count) as f64;
            assert!(error <= 0.03 * count as f64 + 1.0, "{count} elements count {expected}");
        }
    }

    #[test]
    fn runs_are_joined_and_split() {
        let mut bytes = empty();
        for index in [5, 7, 6, 8, 9] {
            raise(&mut bytes, (index, 3), 3000).expect("whole");
        }
        let shown = |bytes: &[u8]| {
            runs(bytes).map(|run| format!("{}x{}", run.value, run.count)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&bytes), ["0x5", "3x4", "3x1", "0x16374"]);
        raise(&mut bytes, (6, 4), 3000).expect("whole");
        assert_eq!(shown(&bytes), ["0x5", "3x1", "4x1", "3x3", "0x16374"]);
    }

    #[test]
    fn what_is_no_registers_is_found_out() {
        let (_, bytes) = filled(300, 3000);
        assert_eq!(estimate(&bytes[..bytes.len() - 1]), Err(Corrupt));
        assert_eq!(estimate(&[&bytes[..], b"x"].concat()), Err(Corrupt));
        for at in HEADER_LEN..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x5a;
            let _ = estimate(&other);
            let _ = merge(&mut [0; REGISTERS], &other);
            for index in [0, 8000, REGISTERS - 1] {
                let _ = raise(&mut other.clone(), (index, 20), 3000);
            }
            let _ = make_dense(&mut other);
        }
        assert_eq!(encoding_of(b"HYLL"), None);
        assert_eq!(encoding_of(&[b"HYLL\x02", &[0; 20][..]].concat()), None);
    }
}
