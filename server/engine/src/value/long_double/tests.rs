use proptest::prelude::*;

use super::*;

fn sum(a: &str, b: &str) -> Option<String> {
    let a = LongDouble::parse(a.as_bytes())?;
    let b = LongDouble::parse(b.as_bytes())?;
    Some(a.checked_add(b)?.to_text())
}

#[test]
fn sums_are_those_of_redis() {
    // Each row was taken from INCRBYFLOAT of Redis 7.0.15 on x86-64.
    let rows: &[(&str, &str, &str)] = &[
        ("10.5", "0.1", "10.6"),
        ("3.0e3", "200", "3200"),
        ("5.0e3", "2.0e2", "5200"),
        ("0.1", "0.2", "0.3"),
        ("1", "-1", "0"),
        ("-1", "0.5", "-0.5"),
        ("0", "1e-17", "0.00000000000000001"),
        ("0", "1e-18", "0"),
        ("0", "-1e-30", "0"),
        ("12345678901234567890", "1", "12345678901234567891"),
        ("1e20", "0.5", "100000000000000000000"),
        ("0", "0x1.8p1", "3"),
        // Here the sixty-four bits do not suffice, and Redis shows it.
        ("-457.78", "4.68", "-453.10000000000000001"),
        ("0", "123456.123456", "123456.12345599999999735"),
        ("0", "1e25", "10000000000000000000000000"),
        ("0", "1e26", "100000000000000000000000000"),
    ];
    for (a, b, expected) in rows {
        assert_eq!(sum(a, b).as_deref(), Some(*expected), "{a} + {b}");
    }
}

#[test]
fn what_is_no_number_is_refused() {
    let bad = [
        "",
        ".",
        "-",
        "+",
        "e1",
        "1e",
        "1e+",
        "nan",
        " 1",
        "1 ",
        "1e5000",
        "-1e5000",
        "1e-5000",
        "0x",
        "0x1p16384",
        "0x1p-16500",
        "1..2",
        "1\0",
        "infinit",
        "1e99999999999999999999",
    ];
    for text in bad {
        assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(LongDouble::parse(&[b'1'; 6000]), None);
    assert_eq!(sum("inf", "1"), None);
    assert_eq!(sum("inf", "-inf"), None);
    assert_eq!(sum("1.1e4932", "1.1e4932"), None);
}

#[test]
fn huge_and_tiny_numbers_are_exact() {
    let large = LongDouble::parse(b"1e4932").unwrap().to_text();
    assert_eq!(large.len(), 4933);
    assert!(large.starts_with("1000000000000000000"));
    assert!(LongDouble::parse(b"1e-4950").is_some(), "subnormals are numbers");
    assert_eq!(LongDouble::parse(b"0e99999").unwrap().to_text(), "0");
    let long = format!("0.{}1", "0".repeat(4900));
    assert_eq!(LongDouble::parse(long.as_bytes()).unwrap().to_text(), "0");
    let long = format!("1{}", "0".repeat(4900));
    assert_eq!(LongDouble::parse(long.as_bytes()), LongDouble::parse(b"1e4900"));
}

proptest! {
    #[test]
    fn the_short_and_the_long_way_agree(digits in 1u64..u64::MAX / 10, scale in -27i32..=27) {
        let text = digits.to_string();
        let decimal = Decimal::scan(text.as_bytes()).unwrap();
        prop_assume!(decimal.digits <= 19);
        // Trailing zeros move into the scale.
        let scale = scale.clamp(-27, 27 - decimal.scale as i32) + decimal.scale as i32;
        prop_assert_eq!(decimal.round_short(scale), decimal.round_long(scale));
    }

    #[test]
    fn small_decimals_survive(whole in 0u32..60, fraction in 0u32..1_000_000) {
        let text = format!("{whole}.{fraction:06}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        prop_assert_eq!(LongDouble::parse(text.as_bytes()).unwrap().to_text(), text);
    }

    #[test]
    fn sums_of_small_decimals_are_decimal(a in -20_000i64..20_000, b in -20_000i64..20_000) {
        let show = |n: i64| {
            let text = format!("{}{}.{:03}", if n < 0 { "-" } else { "" }, n.abs() / 1000, n.abs() % 1000);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let expected = if a + b == 0 { "0".into() } else { show(a + b) };
        prop_assert_eq!(sum(&show(a), &show(b)), Some(expected));
    }

    #[test]
    fn integers_add_exactly(a in i64::MIN / 2..i64::MAX / 2, b in i64::MIN / 2..i64::MAX / 2) {
        prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some((a + b).to_string()));
    }

    #[test]
    fn addition_commutes(a in "-?[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,3})?", b in "-?[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,3})?") {
        prop_assert_eq!(sum(&a, &b), sum(&b, &a));
    }

    #[test]
    fn arbitrary_text_never_panics(text in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Some(value) = LongDouble::parse(&text) {
            let _ = value.to_text();
        }
    }
}
