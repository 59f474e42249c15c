use proptest::prelude::*;

use super::*;

fn text(value: f64) -> String {
    String::from_utf8(DoubleText::new(value).as_bytes().to_vec()).unwrap()
}

#[test]
fn integers_are_read_strictly() {
    let good: &[(&str, i64)] = &[
        ("0", 0),
        ("7", 7),
        ("-7", -7),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ];
    for (text, value) in good {
        assert_eq!(parse_i64(text.as_bytes()), Some(*value), "{text}");
    }
    let bad = [
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        "00",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "1e3",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999",
        "1\0",
    ];
    for text in bad {
        assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn doubles_are_read_strictly() {
    let good: &[(&str, f64)] = &[
        ("0", 0.0),
        ("-0", 0.0),
        ("+1.5", 1.5),
        ("007", 7.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1E3", 1000.0),
        ("1e-320", 1e-320),
        ("0e999999", 0.0),
        ("inf", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
        ("+INF", f64::INFINITY),
        ("0x10", 16.0),
        ("-0X1.8p1", -3.0),
        ("0x.1", 0.0625),
        ("0x1p-1074", 5e-324),
        ("0x0p5", 0.0),
        ("0x20000000000001", 9007199254740992.0),
        ("0x20000000000003", 9007199254740996.0),
        ("0x1.fffffffffffffp1023", f64::MAX),
    ];
    for (text, value) in good {
        assert_eq!(parse_f64(text.as_bytes()), Some(*value), "{text}");
    }
    let bad = [
        "",
        "+",
        "-",
        ".",
        "e5",
        " 1",
        "1 ",
        "1e",
        "1e+",
        "1.2.3",
        "nan",
        "-nan",
        "NaN(1)",
        "1e400",
        "-1e400",
        "1e-400",
        "0x",
        "0x.",
        "0xg",
        "0x1p",
        "0x1p1024",
        "0x1p-1080",
        "infi",
        "1_000",
        "--1",
        "+-1",
        "1\0",
        "1f",
    ];
    for text in bad {
        assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn doubles_print_as_redis_7_2_does() {
    let rows: &[(f64, &str)] = &[
        (3.1, "3.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e20, "1e+20"),
        (1e-10, "1e-10"),
        (1e15, "1000000000000000"),
        (4e18, "4000000000000000000"),
        (5e18, "5e+18"),
        (-1.5e300, "-1.5e+300"),
        (1.2345e-7, "1.2345e-7"),
        (0.000001, "0.000001"),
        (0.0000001, "1e-7"),
        (0.00012345, "1.2345e-4"),
        (0.0012345, "0.0012345"),
        (123456.789, "123456.789"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (1.2345678901234567e19, "12345678901234567000"),
        (-0.0, "-0"),
        (0.0, "0"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
        (-42.0, "-42"),
    ];
    for (value, expected) in rows {
        assert_eq!(text(*value), *expected);
    }
}

#[test]
fn g17_prints_as_c_does() {
    let rows: &[(f64, &str)] = &[
        (3.1, "3.1000000000000001"),
        (1e20, "1e+20"),
        (1e16, "10000000000000000"),
        (1e17, "1e+17"),
        (1e-4, "0.0001"),
        (1e-5, "1.0000000000000001e-05"),
        (1e-10, "1e-10"),
        (-2.5, "-2.5"),
        (0.0, "0"),
        (-0.0, "-0"),
        // A tie at the seventeenth digit goes to the even one.
        (900_719_925_474_099.0 + 0.125, "900719925474099.12"),
        (900_719_925_474_099.0 + 0.375, "900719925474099.38"),
        (1e300, "1.0000000000000001e+300"),
        (f64::INFINITY, "inf"),
    ];
    for (value, expected) in rows {
        assert_eq!(format_g17(*value), *expected);
    }
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(!value.is_nan());
        prop_assert_eq!(parse_f64(DoubleText::new(value).as_bytes()), Some(value));
        prop_assert_eq!(parse_f64(format_g17(value).as_bytes()), Some(value));
    }

    #[test]
    fn the_plain_layout_is_no_exception(value in prop_oneof![any::<f64>(), -1e6..1e6, -0.1..0.1]) {
        // The same rules, by exponent and digits, for what was not taken as it came.
        let mut buffer = ryu::Buffer::new();
        prop_assume!(value.is_finite() && value.trunc() != value);
        let shortest = buffer.format_finite(value.abs()).as_bytes();
        let mut digits = [0; 20];
        let (count, scale) = shortest_digits(shortest, &mut digits);
        let exponent = (count as i32 + scale - 1).unsigned_abs();
        prop_assert_eq!(is_plain(shortest), scale < 0 && (scale > -7 || exponent < 4));
    }

    #[test]
    fn ordinary_doubles_read_back(whole in -1_000_000i64..1_000_000, cents in 0u8..100) {
        let typed = format!("{whole}.{cents:02}");
        let value: f64 = typed.parse().unwrap();
        let printed = text(value);
        prop_assert_eq!(printed.parse::<f64>().unwrap(), value);
        prop_assert!(printed.len() <= typed.len());
    }

    #[test]
    fn integers_read_back(value: i64) {
        prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
    }

    #[test]
    fn arbitrary_text_never_panics(text in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = (parse_i64(&text), parse_f64(&text));
    }

    #[test]
    fn number_like_text_is_read_as_by_the_standard_library(text in "[+-]?[0-9]{0,4}(\\.[0-9]{0,4})?(e[+-]?[0-9]{0,3})?") {
        let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
        let got = parse_f64(text.as_bytes());
        if got != expected {
            // The one difference: Redis refuses what underflows to zero.
            prop_assert_eq!(expected, Some(0.0));
        }
    }

    #[test]
    fn hexadecimal_text_is_exact(mantissa in 1u64..1 << 53, exponent in -1000i32..900) {
        let value = mantissa as f64 * 2f64.powi(exponent);
        prop_assume!(value.is_finite() && value != 0.0);
        let text = format!("0x{mantissa:x}p{exponent}");
        prop_assert_eq!(parse_f64(text.as_bytes()), Some(value));
    }
}
