//! Numbers as text, the ways Lua and Redis write them.

use std::fmt::Write as _;
use std::ops::Range;

/// The doubles whose whole part an i64 holds: from -2^63 up to, not including, 2^63.
const I64_RANGE: Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;

/// The text of a number given to a command or read from a double reply: an integer in full,
/// anything else with the fewest digits that read back the same, as Redis 7.2 writes it.
pub(crate) struct Text {
    room: [u8; Text::LEN_MAX],
    len: u8,
}

impl Text {
    /// Sign, seventeen digits, point, `0.00000` and exponent, with some to spare.
    const LEN_MAX: usize = 32;

    pub(crate) fn new(n: f64) -> Self {
        let mut text = Self { room: [0; Self::LEN_MAX], len: 0 };
        if I64_RANGE.contains(&n) && n.trunc() == n {
            text.push(itoa::Buffer::new().format(n as i64).as_bytes());
        } else if n.is_nan() {
            text.push(b"nan");
        } else if n.is_infinite() {
            text.push(if n > 0.0 { b"inf" } else { b"-inf" });
        } else {
            text.push_shortest(n);
        }
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.room[..usize::from(self.len)]
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        let end = (start + bytes.len()).min(Self::LEN_MAX);
        self.room[start..end].copy_from_slice(&bytes[..end - start]);
        self.len = end as u8;
    }

    fn push_shortest(&mut self, n: f64) {
        // Rust's `{:e}` gives the shortest digits as d.ddde±x.
        let scientific = format!("{:e}", n.abs());
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        // The power of ten of the last digit.
        let last = exponent - (digits.len() as i32 - 1);
        if n < 0.0 {
            self.push(b"-");
        }
        if last >= 0 && exponent < digits.len() as i32 + 7 {
            self.push(&digits);
            self.push(&b"0000000"[..last as usize]);
        } else if last < 0 && (last > -7 || exponent.abs() < 4) {
            let whole = digits.len() as i32 + last;
            if whole <= 0 {
                self.push(b"0.");
                self.push(&b"0000000"[..(-whole) as usize]);
                self.push(&digits);
            } else {
                self.push(&digits[..whole as usize]);
                self.push(b".");
                self.push(&digits[whole as usize..]);
            }
        } else {
            self.push(&digits[..1]);
            if digits.len() > 1 {
                self.push(b".");
                self.push(&digits[1..]);
            }
            self.push(if exponent < 0 { b"e-" } else { b"e+" });
            self.push(itoa::Buffer::new().format(exponent.abs()).as_bytes());
        }
    }
}

/// C's `%.{precision}g`.
pub(crate) fn format_g(n: f64, precision: usize) -> String {
    if n.is_nan() {
        return if n.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{:.*e}", precision - 1, n);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        let mut text = without_trailing_zeros(mantissa).to_owned();
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "e{sign}{:02}", exponent.abs());
        text
    } else {
        let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
        without_trailing_zeros(&format!("{n:.decimals$}")).to_owned()
    }
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A number as an integer reply: truncated toward zero; what does not fit is the smallest
/// integer, as C's conversion gives it on x86 and as Redis therefore answers.
pub(crate) fn truncate(n: f64) -> i64 {
    if I64_RANGE.contains(&n) { n as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_arguments_are_written_in_full_or_shortest() {
        for (n, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (1e15, "1000000000000000"),
            (3.1, "3.1"),
            (0.1, "0.1"),
            (-0.001_5, "-0.0015"),
            (1.5e-7, "1.5e-7"),
            (1e20, "1e+20"),
            (1.234_567_890_123_456_7e300, "1.2345678901234567e+300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(Text::new(n).as_bytes(), text.as_bytes(), "{n}");
        }
    }

    #[test]
    fn g_formats_as_c_does() {
        for (n, text) in [
            (1e14, "1e+14"),
            (123_456.0, "123456"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (0.000_1, "0.0001"),
            (123_456_789_012_345_678.0, "1.2345678901235e+17"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (99_999_999_999_999.9, "1e+14"),
        ] {
            assert_eq!(format_g(n, 14), text, "{n}");
        }
    }

    #[test]
    fn truncation_never_saturates_upward() {
        assert_eq!(truncate(-1.9), -1);
        assert_eq!(truncate(f64::INFINITY), i64::MIN);
        assert_eq!(truncate(f64::NAN), i64::MIN);
    }

    proptest::proptest! {
        #[test]
        fn shortest_text_reads_back(n in proptest::num::f64::NORMAL) {
            let text = Text::new(n);
            let text = std::str::from_utf8(text.as_bytes()).unwrap();
            proptest::prop_assert_eq!(text.parse::<f64>().unwrap(), n, "{}", text);
        }
    }
}
