//! The number INCRBYFLOAT and HINCRBYFLOAT compute with: x86's 80-bit long double.
//!
//! Redis adds in `long double` and prints `%.17Lf` without trailing zeros; 10.5 + 0.1 is 10.6
//! only because of the extra eleven bits. Rust has no such type, so it is computed here with
//! integers: 64-bit mantissa, round to nearest even, the same on every machine. Must never
//! fall back on `f64`: replicas of one log must print the same text.

use super::number::{Format, is_infinity, scan_exponent, scan_hex};

/// The 80-bit format.
const X87: Format = Format { bits: 64, exponent_min: -16445, exponent_max: 16320 };

/// The longest text Redis reads as such a number.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;

/// Decimals that are printed at most.
const DECIMALS: usize = 17;
const DECIMALS_SCALE: u128 = 10u128.pow(DECIMALS as u32);

/// A finite or infinite extended-precision number; never NaN.
///
/// Shape: `mantissa * 2^exponent`, the mantissa's top bit set unless the exponent is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    /// 0 for zero, and for infinity.
    mantissa: u64,
    exponent: i32,
    infinite: bool,
}

impl LongDouble {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, mantissa: 0, exponent: 0, infinite: false };

    /// Reads `text` as Redis does: the whole of it, decimal or hexadecimal, `inf`; not NaN, not
    /// spaces, nothing that overflows or underflows to zero.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if is_infinity(unsigned) {
            return Some(Self { negative, infinite: true, ..Self::ZERO });
        }
        let rounded = if let [b'0', b'x' | b'X', hex @ ..] = unsigned {
            let (mantissa, exponent, sticky) = scan_hex(hex)?;
            if mantissa == 0 { None } else { Some(X87.round(mantissa, exponent, sticky)?) }
        } else {
            let decimal = Decimal::scan(unsigned)?;
            if decimal.digits == 0 { None } else { Some(decimal.round()?) }
        };
        match rounded {
            None => Some(Self { negative, ..Self::ZERO }),
            Some((0, _)) => None,
            Some((mantissa, exponent)) => {
                Some(Self { negative, mantissa, exponent, infinite: false })
            }
        }
    }

    /// The sum, rounded once; `None` if it is infinite or not a number, which Redis refuses.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.infinite || other.infinite {
            return None;
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            if self.mantissa == other.mantissa {
                return Some(Self { negative: self.negative && other.negative, ..Self::ZERO });
            }
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let swap = (other.exponent, other.mantissa) > (self.exponent, self.mantissa);
        let (large, small) = if swap { (other, self) } else { (self, other) };
        // Two bits of room above: for the carry. 62 below: more than rounding can need, so that
        // what falls off them matters only in being there.
        let scale = large.exponent - 62;
        let distance = (large.exponent - small.exponent).unsigned_abs();
        let high = u128::from(large.mantissa) << 62;
        let (low, sticky) = match distance {
            0..=62 => (u128::from(small.mantissa) << (62 - distance), false),
            63..126 => {
                let shift = distance - 62;
                let low = small.mantissa >> shift;
                (u128::from(low), low << shift != small.mantissa)
            }
            _ => (0, true),
        };
        let sum = if large.negative == small.negative {
            high + low
        } else {
            high - low - u128::from(sticky)
        };
        if sum == 0 {
            return Some(Self::ZERO);
        }
        let (mantissa, exponent) = X87.round(sum, scale, sticky)?;
        Some(Self { negative: large.negative, mantissa, exponent, infinite: false })
    }

    /// The text Redis stores and replies: up to 17 decimals, no trailing zeros, no exponent.
    #[must_use]
    pub fn to_text(self) -> String {
        if self.infinite {
            return if self.negative { "-inf".into() } else { "inf".into() };
        }
        let magnitude = if self.exponent >= 0 {
            Big::from_u64(self.mantissa).shifted_left(self.exponent as usize).to_decimal()
        } else {
            fixed_text(self.mantissa, self.exponent.unsigned_abs())
        };
        if self.negative && magnitude != "0" { format!("-{magnitude}") } else { magnitude }
    }
}

/// Prints `mantissa / 2^shift` with 17 decimals, ties to even, and trims them.
fn fixed_text(mantissa: u64, shift: u32) -> String {
    // 64 bits times 10^17 is less than 2^121, so this is exact.
    let scaled = u128::from(mantissa) * DECIMALS_SCALE;
    let rounded = if shift >= 128 {
        0
    } else {
        let kept = scaled >> shift;
        let cut = scaled & ((1 << shift) - 1);
        let half = 1 << (shift - 1);
        kept + u128::from(cut > half || cut == half && kept & 1 == 1)
    };
    let text = format!("{}.{:017}", rounded / DECIMALS_SCALE, rounded % DECIMALS_SCALE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A decimal number taken apart: `significant digits * 10^scale`.
struct Decimal<'a> {
    /// From the first nonzero digit to the last one, a point perhaps among them.
    text: &'a [u8],
    /// How many digits `text` has.
    digits: usize,
    scale: i64,
}

impl<'a> Decimal<'a> {
    fn scan(text: &'a [u8]) -> Option<Self> {
        let mut len = 0;
        let (mut seen, mut point) = (false, None);
        for byte in text {
            match byte {
                b'0'..=b'9' => seen = true,
                b'.' if point.is_none() => point = Some(len),
                _ => break,
            }
            len += 1;
        }
        if !seen {
            return None;
        }
        let exponent = match &text[len..] {
            [] => 0,
            [b'e' | b'E', rest @ ..] => scan_exponent(rest)?,
            _ => return None,
        };
        let body = &text[..len];
        let nonzero = |byte: &u8| matches!(byte, b'1'..=b'9');
        let Some(first) = body.iter().position(nonzero) else {
            return Some(Self { text: b"", digits: 0, scale: 0 });
        };
        let last = body.iter().rposition(nonzero).unwrap_or(first);
        let point = point.unwrap_or(len);
        let inside = usize::from(first < point && point < last);
        // Digits between the last nonzero one and the point count up, those behind it down.
        let scale =
            if last < point { (point - last - 1) as i64 } else { point as i64 - last as i64 };
        Some(Self {
            text: &body[first..=last],
            digits: last - first + 1 - inside,
            scale: scale + exponent,
        })
    }

    /// The nearest extended-precision number; `None` if too large.
    fn round(&self) -> Option<(u64, i32)> {
        let magnitude = self.digits as i64 + self.scale;
        if magnitude > 5000 {
            return None;
        }
        if magnitude < -5000 {
            return Some((0, 0));
        }
        let scale = self.scale as i32;
        if self.digits <= 19 && scale.unsigned_abs() <= 27 {
            self.round_short(scale)
        } else {
            self.round_long(scale)
        }
    }

    fn digit_values(&self) -> impl Iterator<Item = u64> {
        self.text.iter().filter(|byte| **byte != b'.').map(|byte| u64::from(byte - b'0'))
    }

    /// The common case, in machine integers: 5^27 and 10^19 both fit 64 bits.
    fn round_short(&self, scale: i32) -> Option<(u64, i32)> {
        let value = u128::from(self.digit_values().fold(0, |value, digit| value * 10 + digit));
        let five = u128::from(5u64.pow(scale.unsigned_abs()));
        if scale >= 0 {
            return X87.round(value * five, scale, false);
        }
        // With the dividend's top bit set the quotient has more than 65 bits.
        let shift = value.leading_zeros();
        let dividend = value << shift;
        let (quotient, rest) = (dividend / five, dividend % five);
        X87.round(quotient, scale - shift as i32, rest != 0)
    }

    /// Anything else, in long integers.
    fn round_long(&self, scale: i32) -> Option<(u64, i32)> {
        let mut value = Big::from_u64(0);
        for digit in self.digit_values() {
            value.multiply_add(10, digit);
        }
        let mut five = Big::from_u64(1);
        for _ in 0..scale.unsigned_abs() {
            five.multiply_add(5, 0);
        }
        if scale >= 0 {
            let product = value.times(&five);
            let (top, dropped, sticky) = product.top_bits();
            return X87.round(top, scale + dropped as i32, sticky);
        }
        // Align both, then divide bit by bit until rounding has all it needs.
        let (value_len, five_len) = (value.bit_len(), five.bit_len());
        let mut exponent = scale;
        if value_len < five_len {
            value = value.shifted_left(five_len - value_len);
            exponent -= (five_len - value_len) as i32;
        } else {
            five = five.shifted_left(value_len - five_len);
            exponent += (value_len - five_len) as i32;
        }
        let mut quotient = 0u128;
        for _ in 0..70 {
            quotient <<= 1;
            if value.subtract_if_not_less(&five) {
                quotient |= 1;
            }
            value = value.shifted_left(1);
        }
        X87.round(quotient, exponent - 69, !value.is_zero())
    }
}

/// A long unsigned integer, least limb first, no zero limb on top.
struct Big {
    limbs: Vec<u64>,
}

impl Big {
    fn from_u64(value: u64) -> Self {
        Self { limbs: if value == 0 { Vec::new() } else { vec![value] } }
    }

    fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    fn bit_len(&self) -> usize {
        self.limbs.last().map_or(0, |top| self.limbs.len() * 64 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u64, add: u64) {
        let mut carry = u128::from(add);
        for limb in &mut self.limbs {
            let wide = u128::from(*limb) * u128::from(factor) + carry;
            *limb = wide as u64;
            carry = wide >> 64;
        }
        if carry != 0 {
            self.limbs.push(carry as u64);
        }
    }

    fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0u64; self.limbs.len() + other.limbs.len()];
        for (i, a) in self.limbs.iter().enumerate() {
            let mut carry = 0u128;
            for (j, b) in other.limbs.iter().enumerate() {
                let wide = u128::from(*a) * u128::from(*b) + u128::from(limbs[i + j]) + carry;
                limbs[i + j] = wide as u64;
                carry = wide >> 64;
            }
            limbs[i + other.limbs.len()] = carry as u64;
        }
        Self { limbs }.trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        self
    }

    fn shifted_left(&self, by: usize) -> Self {
        let mut limbs = vec![0; by / 64];
        let bits = by % 64;
        if bits == 0 {
            limbs.extend_from_slice(&self.limbs);
        } else {
            let mut carry = 0;
            for limb in &self.limbs {
                limbs.push(limb << bits | carry);
                carry = limb >> (64 - bits);
            }
            limbs.push(carry);
        }
        Self { limbs }.trimmed()
    }

    /// Subtracts `other` if it is not greater; tells whether it did.
    fn subtract_if_not_less(&mut self, other: &Self) -> bool {
        let order = self.limbs.len().cmp(&other.limbs.len());
        if order.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev())).is_lt() {
            return false;
        }
        let mut borrow = false;
        for (i, limb) in self.limbs.iter_mut().enumerate() {
            let (less, first) = limb.overflowing_sub(other.limbs.get(i).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            *limb = less;
            borrow = first || second;
        }
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        true
    }

    /// The top 128 bits, how many bits lie below them, and whether any of those is set.
    fn top_bits(&self) -> (u128, usize, bool) {
        let dropped = self.bit_len().saturating_sub(128);
        let (skip, bits) = (dropped / 64, dropped % 64);
        let limb = |i: usize| u128::from(self.limbs.get(i).copied().unwrap_or(0));
        let low = limb(skip) | limb(skip + 1) << 64;
        let top = if bits == 0 { low } else { low >> bits | limb(skip + 2) << (128 - bits) };
        let sticky =
            self.limbs[..skip].iter().any(|limb| *limb != 0) || limb(skip) & ((1 << bits) - 1) != 0;
        (top, dropped, sticky)
    }

    fn to_decimal(&self) -> String {
        /// The largest power of ten in a limb.
        const CHUNK: u64 = 10u64.pow(19);
        let mut limbs = self.limbs.clone();
        let mut chunks = Vec::new();
        while !limbs.is_empty() {
            let mut rest = 0u128;
            for limb in limbs.iter_mut().rev() {
                let wide = rest << 64 | u128::from(*limb);
                *limb = (wide / u128::from(CHUNK)) as u64;
                rest = wide % u128::from(CHUNK);
            }
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
            chunks.push(rest as u64);
        }
        let Some(top) = chunks.pop() else {
            return "0".into();
        };
        let mut text = top.to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:019}"));
        }
        text
    }
}

#[cfg(test)]
mod tests;
