//! Numbers as text, to Redis's letter: which spellings are read, and how results are printed.
//!
//! Three forms of printing exist in Redis and all three are here or next door:
//! [`DoubleText`] (ZSCORE, RESP3 doubles: shortest), [`format_g17`] (`%.17g`) and
//! [`LongDouble`](super::long_double::LongDouble) (INCRBYFLOAT: `%.17Lf` without zeros).
//! Must never consult a locale or round differently on another machine.

/// Reads an integer as strictly as Redis: digits, perhaps a leading `-`; no `+`, no spaces, no
/// leading zeros, no `-0`.
#[inline]
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match *text {
        [b'0'] => return Some(0),
        [b'1'..=b'9', ..] => {}
        [b'-', b'1'..=b'9', ..] => return parse_negative(&text[1..]),
        _ => return None,
    }
    // Nineteen digits at most; eighteen cannot overflow.
    if text.len() > 19 {
        return None;
    }
    let mut value: u64 = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    i64::try_from(value).ok()
}

fn parse_negative(digits: &[u8]) -> Option<i64> {
    if digits.len() > 19 {
        return None;
    }
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    0i64.checked_sub_unsigned(value)
}

/// Reads a double as strictly as Redis's scores: the whole text, in decimal or hexadecimal,
/// `inf` and `infinity` in any case; not NaN, not spaces, nothing that overflows or that
/// underflows to zero.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let unsigned = match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    };
    match unsigned {
        [b'0', b'x' | b'X', hex @ ..] => {
            let (mantissa, exponent, sticky) = scan_hex(hex)?;
            let value = if mantissa == 0 {
                0.0
            } else {
                let (mantissa, exponent) = F64.round(mantissa, exponent, sticky)?;
                if mantissa == 0 {
                    return None;
                }
                f64_from_parts(mantissa, exponent)
            };
            Some(if text[0] == b'-' { -value } else { value })
        }
        [b'0'..=b'9' | b'.', ..] => {
            let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            let underflow = value == 0.0 && has_nonzero_digit(unsigned);
            (value.is_finite() && !underflow).then_some(value)
        }
        _ if is_infinity(unsigned) => {
            Some(if text[0] == b'-' { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        _ => None,
    }
}

/// Whether `text`, without its sign, is one of C's spellings of infinity.
pub(super) fn is_infinity(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

fn has_nonzero_digit(decimal: &[u8]) -> bool {
    decimal
        .iter()
        .take_while(|byte| !matches!(byte, b'e' | b'E'))
        .any(|byte| matches!(byte, b'1'..=b'9'))
}

/// Reads what follows `0x`: mantissa, binary exponent, and whether nonzero digits were cut off.
pub(super) fn scan_hex(text: &[u8]) -> Option<(u128, i32, bool)> {
    let (mut mantissa, mut exponent, mut sticky) = (0u128, 0i64, false);
    let (mut digits, mut after_point) = (0usize, false);
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        match byte {
            b'.' if !after_point => after_point = true,
            byte if byte.is_ascii_hexdigit() => {
                let digit = (*byte as char).to_digit(16)?;
                digits += 1;
                // 30 digits leave room for the rounding done by whoever asked.
                if mantissa >> 116 == 0 {
                    mantissa = mantissa << 4 | u128::from(digit);
                    exponent -= if after_point { 4 } else { 0 };
                } else {
                    sticky |= digit != 0;
                    exponent += if after_point { 0 } else { 4 };
                }
            }
            _ => break,
        }
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    if let [b'p' | b'P', tail @ ..] = rest {
        exponent += scan_exponent(tail)?;
    } else if !rest.is_empty() {
        return None;
    }
    // Beyond any type's range already; the cast must not wrap.
    Some((mantissa, exponent.clamp(-1_000_000, 1_000_000) as i32, sticky))
}

/// Reads a signed decimal exponent; saturates, for what is beyond range is beyond range.
pub(super) fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = (value * 10 + i64::from(digit)).min(1_000_000_000);
    }
    Some(if negative { -value } else { value })
}

/// A binary floating-point format, to round an exact value into.
pub(super) struct Format {
    pub(super) bits: u32,
    /// Exponent of the last mantissa bit of the smallest numbers.
    pub(super) exponent_min: i32,
    pub(super) exponent_max: i32,
}

pub(super) const F64: Format = Format { bits: 53, exponent_min: -1074, exponent_max: 971 };

impl Format {
    /// `mantissa * 2^exponent`, plus something less than its last bit if `sticky`, rounded to
    /// nearest, ties to even; `None` if too large. `mantissa` is not 0 and, if `sticky`, has
    /// at least two bits more than the format keeps.
    pub(super) fn round(&self, mantissa: u128, exponent: i32, sticky: bool) -> Option<(u64, i32)> {
        let length = (128 - mantissa.leading_zeros()) as i32;
        let mut target = exponent + length - self.bits as i32;
        target = target.max(self.exponent_min);
        let shift = target - exponent;
        if shift <= 0 {
            debug_assert!(!sticky, "a rounded value needs bits to round away");
            let rounded = (mantissa << -shift) as u64;
            return (target <= self.exponent_max).then_some((rounded, target));
        }
        if shift > 128 {
            return Some((0, target));
        }
        let (kept, half, below) = if shift == 128 {
            (0, mantissa >> 127 & 1 == 1, mantissa << 1 != 0)
        } else {
            let cut = mantissa & ((1 << shift) - 1);
            (mantissa >> shift, cut >> (shift - 1) == 1, cut & ((1 << (shift - 1)) - 1) != 0)
        };
        let up = half && (below || sticky || kept & 1 == 1);
        let mut rounded = kept + u128::from(up);
        if rounded >> self.bits != 0 {
            rounded >>= 1;
            target += 1;
        }
        (target <= self.exponent_max).then_some((rounded as u64, target))
    }
}

fn f64_from_parts(mantissa: u64, exponent: i32) -> f64 {
    // A mantissa without its top bit stands at the smallest exponent only: a subnormal.
    if mantissa >> 52 == 0 {
        f64::from_bits(mantissa)
    } else {
        let biased = (exponent + 1075) as u64;
        f64::from_bits(biased << 52 | mantissa & ((1 << 52) - 1))
    }
}

/// Room for the longest double: sign, 17 digits, point, `e-308` or leading zeros.
const DOUBLE_TEXT_MAX: usize = 32;

/// The text of a double as ZSCORE and RESP3 print it: the fewest digits that read back as the
/// same number, `1e+20` beyond 2^62, `inf`, `-inf`, `nan`.
///
/// This is Redis 7.2's spelling; 7.0 printed `%.17g` ([`format_g17`]), hence
/// `3.1000000000000001` where 7.2 says `3.1`.
#[derive(Clone, Copy)]
pub struct DoubleText {
    text: [u8; DOUBLE_TEXT_MAX],
    len: usize,
}

impl DoubleText {
    /// Prints `value`.
    #[must_use]
    pub fn new(value: f64) -> Self {
        /// Up to here whole numbers print all their digits.
        const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
        let mut out = Self { text: [0; DOUBLE_TEXT_MAX], len: 0 };
        if value.is_nan() {
            out.put(b"nan");
        } else if value.is_infinite() {
            out.put(if value < 0.0 { b"-inf" } else { b"inf" });
        } else if value == 0.0 {
            out.put(if value.is_sign_negative() { b"-0" } else { b"0" });
        } else if value.abs() <= WHOLE_MAX && value.trunc() == value {
            out.put(itoa::Buffer::new().format(value as i64).as_bytes());
        } else {
            out.put_shortest(value);
        }
        out
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.text[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Lays out the shortest digits: plain from 1e-6 on and for whole numbers with few zeros,
    /// with an exponent otherwise.
    fn put_shortest(&mut self, value: f64) {
        let mut buffer = ryu::Buffer::new();
        let shortest = buffer.format_finite(value.abs()).as_bytes();
        if is_plain(shortest) {
            self.put(if value < 0.0 { b"-" } else { b"" });
            self.put(shortest);
            return;
        }
        let mut digits = [0; 20];
        let (count, scale) = shortest_digits(shortest, &mut digits);
        let digits = &digits[..count];
        if value < 0.0 {
            self.put(b"-");
        }
        // The value is 0.digits * 10^point.
        let point = count as i32 + scale;
        let exponent = (point - 1).unsigned_abs();
        if scale >= 0 && (exponent as usize) < count + 7 {
            self.put(digits);
            self.put(&b"0000000"[..scale as usize]);
        } else if scale < 0 && (scale > -7 || exponent < 4) {
            if point <= 0 {
                self.put(b"0.");
                self.put(&b"0000000"[..point.unsigned_abs() as usize]);
                self.put(digits);
            } else {
                let (whole, fraction) = digits.split_at(point as usize);
                self.put(whole);
                self.put(b".");
                self.put(fraction);
            }
        } else {
            self.put(&digits[..1]);
            if count > 1 {
                self.put(b".");
                self.put(&digits[1..]);
            }
            self.put(if point < 1 { b"e-" } else { b"e+" });
            self.put(itoa::Buffer::new().format(exponent).as_bytes());
        }
    }
}

impl std::fmt::Debug for DoubleText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// Whether ryu's text of a number that is not whole is laid out as it should be: so it is for
/// all but the very small and those of many decimals.
fn is_plain(text: &[u8]) -> bool {
    let Some(point) = text.iter().position(|byte| *byte == b'.') else {
        return false;
    };
    let decimals = &text[point + 1..];
    if decimals == b"0" || decimals.contains(&b'e') {
        return false;
    }
    let small_exponent = if text[0] == b'0' { !decimals.starts_with(b"000") } else { point <= 4 };
    decimals.len() < 7 || small_exponent
}

/// Takes ryu's text apart: digits without outer zeros, and the power of ten of the last one.
fn shortest_digits(text: &[u8], digits: &mut [u8; 20]) -> (usize, i32) {
    let (mut count, mut scale, mut after_point) = (0, 0i32, false);
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'.' => after_point = true,
            b'e' => {
                scale += parse_i64(rest).unwrap_or(0) as i32;
                break;
            }
            digit => {
                scale -= i32::from(after_point);
                if (count > 0 || *digit != b'0') && count < digits.len() {
                    digits[count] = *digit;
                    count += 1;
                }
            }
        }
    }
    while count > 1 && digits[count - 1] == b'0' {
        count -= 1;
        scale += 1;
    }
    (count, scale)
}

/// The text of a double as C's `%.17g`: what Redis 7.0 printed, and Lua numbers in replies.
#[must_use]
pub fn format_g17(value: f64) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan".into() } else { "nan".into() };
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf".into() } else { "inf".into() };
    }
    let scientific = format!("{value:.16e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..17).contains(&exponent) {
        return trim(&format!("{value:.*}", (16 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs())
}

#[cfg(test)]
mod tests;
