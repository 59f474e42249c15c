use bytes::Buf;

use super::*;

fn both(reply: &Reply) -> (String, String) {
    let spell = |protocol| {
        let mut plain = Vec::new();
        encode_into(reply, protocol, &mut plain);
        let mut output = Output::new();
        encode(reply, protocol, &mut output);
        let len = output.len();
        assert_eq!(output.copy_to_bytes(len), plain, "both sinks say the same");
        String::from_utf8(plain).unwrap()
    };
    (spell(Protocol::Resp2), spell(Protocol::Resp3))
}

fn bulk_list(items: &[&str]) -> BulkList {
    items.iter().map(|item| item.as_bytes()).collect()
}

#[test]
fn every_variant_has_both_spellings() {
    let one = || Reply::Integer(1);
    let with_nil = {
        let mut list = bulk_list(&["ab"]);
        list.push_nil();
        list
    };
    let rows = [
        (Reply::Ok, "+OK\r\n", "+OK\r\n"),
        (Reply::simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
        (Reply::Nil, "$-1\r\n", "_\r\n"),
        (Reply::NilArray, "*-1\r\n", "_\r\n"),
        (Reply::Integer(7), ":7\r\n", ":7\r\n"),
        (Reply::Integer(-12), ":-12\r\n", ":-12\r\n"),
        (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (Reply::Double(3.1), "$3\r\n3.1\r\n", ",3.1\r\n"),
        (Reply::Double(3.0), "$1\r\n3\r\n", ",3\r\n"),
        (Reply::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
        (Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (Reply::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
        (Reply::Bool(true), ":1\r\n", "#t\r\n"),
        (Reply::Bool(false), ":0\r\n", "#f\r\n"),
        (Reply::bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Reply::bulk(b"abc"), "$3\r\nabc\r\n", "$3\r\nabc\r\n"),
        (Reply::Verbatim(Blob::copy_from(b"hi")), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        (Reply::BigNumber(Blob::copy_from(b"123")), "$3\r\n123\r\n", "(123\r\n"),
        (Reply::Array(vec![]), "*0\r\n", "*0\r\n"),
        (Reply::Array(vec![one(), Reply::Nil]), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
        (Reply::Bulks(with_nil), "*2\r\n$2\r\nab\r\n$-1\r\n", "*2\r\n$2\r\nab\r\n_\r\n"),
        (Reply::Map(vec![(one(), Reply::Ok)]), "*2\r\n:1\r\n+OK\r\n", "%1\r\n:1\r\n+OK\r\n"),
        (
            Reply::BulkMap(bulk_list(&["f", "v"])),
            "*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            "%1\r\n$1\r\nf\r\n$1\r\nv\r\n",
        ),
        (Reply::Set(vec![one()]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
        (Reply::BulkSet(bulk_list(&["a"])), "*1\r\n$1\r\na\r\n", "~1\r\n$1\r\na\r\n"),
        (
            Reply::Pairs(vec![(Reply::bulk(b"m"), Reply::Double(0.5))]),
            "*2\r\n$1\r\nm\r\n$3\r\n0.5\r\n",
            "*1\r\n*2\r\n$1\r\nm\r\n,0.5\r\n",
        ),
        (Reply::Push(vec![one()]), "*1\r\n:1\r\n", ">1\r\n:1\r\n"),
        (Reply::error(CommandError::SYNTAX), "-ERR syntax error\r\n", "-ERR syntax error\r\n"),
    ];
    for (reply, resp2, resp3) in rows {
        assert_eq!(both(&reply), (resp2.into(), resp3.into()), "{reply:?}");
    }
}

#[test]
fn bulks_of_every_length_have_their_header() {
    for len in (0..130).chain([999, 1000, SHARED_LEN_MIN - 1, SHARED_LEN_MIN, 100_000]) {
        let text = "x".repeat(len);
        let expected = format!("${len}\r\n{text}\r\n");
        assert_eq!(both(&Reply::bulk(text.as_bytes())).0, expected);
        let heap = Reply::Bulk(Blob::Heap(Bytes::from(text)));
        assert_eq!(both(&heap).0, expected);
    }
}

#[test]
fn long_values_are_not_copied() {
    let value = Bytes::from(vec![b'x'; SHARED_LEN_MIN]);
    let mut output = Output::new();
    encode(&Reply::Bulk(Blob::Heap(value.clone())), Protocol::Resp2, &mut output);
    output.advance(b"$16384\r\n".len());
    assert_eq!(output.chunk().as_ptr(), value.as_ptr());
}

#[test]
fn text_cannot_forge_a_line() {
    let reply = Reply::Simple("a\r\n+OK".to_owned().into());
    assert_eq!(both(&reply).0, "+a  +OK\r\n");
}

#[test]
fn a_protocol_error_is_an_error_reply() {
    let mut output = Output::new();
    encode_protocol_error(ProtocolError::ExpectedBulk(b'\r'), &mut output);
    assert_eq!(output.chunk(), b"-ERR Protocol error: expected '$', got ' '\r\n");
}

#[test]
fn integers_of_every_length_are_printed() {
    let powers = (0..19).map(|exponent| 10i64.pow(exponent));
    let around = powers.flat_map(|power| [power - 1, power, power + 1, -power, 1 - power]);
    for n in around.chain([i64::MIN, i64::MAX, 42, -42, 1234567]) {
        assert_eq!(both(&Reply::Integer(n)).0, format!(":{n}\r\n"));
    }
}

#[test]
fn deep_replies_do_not_exhaust_the_stack() {
    let mut reply = Reply::Nil;
    for _ in 0..10_000 {
        reply = Reply::Array(vec![reply]);
    }
    let (resp2, _) = both(&reply);
    assert!(resp2.starts_with("*1\r\n*1\r\n") && resp2.ends_with("$-1\r\n"));
}
