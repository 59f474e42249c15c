use proptest::prelude::*;

use super::*;

type Command = Vec<Vec<u8>>;

/// Feeds `input` cut at `cuts`, keeping a buffer as a connection does.
fn feed(limits: Limits, input: &[u8], cuts: &[usize]) -> (Vec<Command>, Status) {
    let mut parser = RequestParser::new(limits);
    let mut batch = Batch::new();
    let (mut buf, mut commands) = (Vec::new(), Vec::new());
    let mut status = Status::Ready;
    let mut from = 0;
    for to in cuts.iter().copied().chain([input.len()]) {
        buf.extend_from_slice(&input[from..to]);
        from = to;
        let parsed = parser.parse(&buf, &mut batch);
        for index in 0..batch.len() {
            commands.push(batch.command(index, &buf).map(<[u8]>::to_vec).collect());
        }
        buf.drain(..parsed.consumed);
        status = parsed.status;
    }
    (commands, status)
}

fn whole(input: &[u8]) -> (Vec<Command>, Status) {
    feed(Limits::default(), input, &[])
}

fn command(args: &[&[u8]]) -> Command {
    args.iter().map(|arg| arg.to_vec()).collect()
}

#[test]
fn commands_are_found_whole_and_in_pieces() {
    let input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello world!\r\nPING\r\n\r\n*0\r\n*-1\r\n\
        *1\r\n$0\r\n\r\nset 'a b' \"\\x00\"\n*2\r\n$4\r\nECHO\r\n$1000\r\n";
    let mut input = input.to_vec();
    input.extend([b'x'; 1000]);
    input.extend(b"\r\n");
    let expected = [
        command(&[b"SET", b"k", b"hello world!"]),
        command(&[b"PING"]),
        command(&[b""]),
        command(&[b"set", b"a b", b"\0"]),
        command(&[b"ECHO", &[b'x'; 1000]]),
    ];
    assert_eq!(whole(&input), (expected.to_vec(), Status::Ready));
    let every_byte: Vec<usize> = (1..input.len()).collect();
    assert_eq!(feed(Limits::default(), &input, &every_byte).0, expected);
    for cut in 0..input.len() {
        assert_eq!(feed(Limits::default(), &input, &[cut]), (expected.to_vec(), Status::Ready));
    }
}

#[test]
fn errors_are_those_of_redis() {
    let long = |head: &str, fill: u8, len: usize| {
        let mut bytes = head.as_bytes().to_vec();
        bytes.resize(bytes.len() + len, fill);
        bytes
    };
    // Compared with Redis 7.0.15, but for the third row: its limit is 2^31 there.
    let rows: Vec<(Vec<u8>, &[u8])> = vec![
        (b"*3000000000\r\n".into(), b"invalid multibulk length"),
        (b"*03\r\n".into(), b"invalid multibulk length"),
        (b"*1048577\r\n".into(), b"invalid multibulk length"),
        (b"*\r\n".into(), b"invalid multibulk length"),
        (b"*+1\r\n".into(), b"invalid multibulk length"),
        (b"*1\r\nfoo\r\n".into(), b"expected '$', got 'f'"),
        (b"*1\r\n\r\n".into(), b"expected '$', got ' '"),
        (b"*1\r\n\nx\r\n".into(), b"expected '$', got ' '"),
        (b"*1\r\n\xffx\r\n".into(), b"expected '$', got '\xff'"),
        (b"*1\r\n:1\r\n".into(), b"expected '$', got ':'"),
        (b"*1\r\n$-1\r\n".into(), b"invalid bulk length"),
        (b"*1\r\n$a\r\n".into(), b"invalid bulk length"),
        (b"*1\r\n$536870913\r\n".into(), b"invalid bulk length"),
        (b"*1\r\n$9223372036854775807\r\n".into(), b"invalid bulk length"),
        (long("", b'a', LINE_LEN_MAX + 1), b"too big inline request"),
        (long("*", b'1', LINE_LEN_MAX), b"too big mbulk count string"),
        (long("*1\r\n$", b'1', LINE_LEN_MAX), b"too big bulk count string"),
        (b"set \"a\r\n".into(), b"unbalanced quotes in request"),
        (b"set 'a'b\r\n".into(), b"unbalanced quotes in request"),
    ];
    for (input, expected) in rows {
        let (commands, status) = whole(&[b"PING\r\n", &input[..]].concat());
        assert_eq!(commands, [command(&[b"PING"])], "what came before is delivered");
        let Status::Failed(error) = status else {
            panic!("{:?} for {}", status, input[..20.min(input.len())].escape_ascii());
        };
        let text = [b"Protocol error: ", expected].concat();
        assert_eq!(error.text().escape_ascii().to_string(), text.escape_ascii().to_string());
    }
}

#[test]
fn the_longest_lines_pass() {
    let (commands, _) = whole(&[&[b'a'; LINE_LEN_MAX][..], b"\n"].concat());
    assert_eq!(commands[0][0].len(), LINE_LEN_MAX);
    let (_, status) = whole(&[b'a'; LINE_LEN_MAX]);
    assert_eq!(status, Status::Partial { missing: 1 });
    assert!(matches!(whole(b"*1048576\r\n").1, Status::Partial { .. }));
    let missing = 512 * 1024 * 1024 + 2;
    assert_eq!(whole(b"*1\r\n$536870912\r\n").1, Status::Partial { missing });
}

#[test]
fn a_failed_parser_stays_failed() {
    let mut parser = RequestParser::default();
    parser.set_limits(Limits::default());
    let mut batch = Batch::new();
    let error = ProtocolError::InvalidMultibulkLength;
    for input in [&b"*x\r\n"[..], b"PING\r\n"] {
        let parsed = parser.parse(input, &mut batch);
        assert_eq!(parsed.status, Status::Failed(error));
        assert!(batch.is_empty());
    }
}

#[test]
fn the_limits_before_auth_are_lifted_between_commands() {
    let unauthenticated = Limits::default().unauthenticated();
    let (_, status) = feed(unauthenticated, b"*11\r\n", &[]);
    assert_eq!(status, Status::Failed(ProtocolError::UnauthenticatedMultibulkLength));
    let (_, status) = feed(unauthenticated, b"*10\r\n$16385\r\n", &[]);
    assert_eq!(status, Status::Failed(ProtocolError::UnauthenticatedBulkLength));
    let (_, status) = feed(unauthenticated, b"*1048577\r\n", &[]);
    assert_eq!(status, Status::Failed(ProtocolError::InvalidMultibulkLength));

    let mut buf = b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*11\r\n".to_vec();
    buf.extend(b"$1\r\nx\r\n".repeat(11));
    let mut parser = RequestParser::new(unauthenticated);
    let mut batch = Batch::new();
    let parsed = parser.parse_one(&buf, &mut batch);
    assert_eq!((batch.len(), parsed.status), (1, Status::Ready));
    buf.drain(..parsed.consumed);
    parser.set_limits(parser.limits().authenticated());
    let parsed = parser.parse(&buf, &mut batch);
    assert_eq!((batch.len(), parsed.status, parsed.consumed), (1, Status::Ready, buf.len()));
    assert_eq!(batch.command(0, &buf).len(), 11);
}

#[test]
fn a_known_bulk_tells_how_much_is_missing() {
    let mut parser = RequestParser::new(Limits::default());
    let mut batch = Batch::new();
    let mut buf = b"PING\r\n*2\r\n$3\r\nGET\r\n$100000\r\nabc".to_vec();
    let parsed = parser.parse(&buf, &mut batch);
    assert_eq!(parsed, Parsed { consumed: 6, status: Status::Partial { missing: 99_999 } });
    assert!(parser.is_mid_command());
    buf.drain(..6);
    buf.resize(buf.len() + 99_999, b'x');
    let parsed = parser.parse(&buf, &mut batch);
    assert_eq!(parsed, Parsed { consumed: buf.len(), status: Status::Ready });
    assert!(!parser.is_mid_command());
    assert_eq!(batch.command(0, &buf).map(<[u8]>::len).collect::<Vec<_>>(), [3, 100_000]);
}

#[test]
fn a_million_arguments_in_small_pieces_are_read_once() {
    let count = 1 << 20;
    let mut input = format!("*{count}\r\n").into_bytes();
    input.extend(b"$2\r\nab\r\n".repeat(count));
    let cuts: Vec<usize> = (0..input.len()).step_by(1000).collect();
    let mut parser = RequestParser::new(Limits::default());
    let mut batch = Batch::new();
    let began = std::time::Instant::now();
    for (i, cut) in cuts.iter().enumerate() {
        let parsed = parser.parse(&input[..*cut], &mut batch);
        assert_eq!((parsed.consumed, batch.len()), (0, 0), "piece {i}");
    }
    let parsed = parser.parse(&input, &mut batch);
    assert_eq!(parsed, Parsed { consumed: input.len(), status: Status::Ready });
    assert_eq!(batch.command(0, &input).len(), count);
    // Parsing from the start each time would take minutes.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn commands_come_as_slices() {
    let buf = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nECHO \"a b\"\r\n";
    let mut parser = RequestParser::new(Limits::default());
    let (mut batch, mut room) = (Batch::new(), super::super::ArgRoom::new());
    let _ = parser.parse(buf, &mut batch);
    let commands = batch.commands(buf, &mut room);
    let all: Vec<_> = commands.iter().collect();
    assert_eq!(all, [&[&b"GET"[..], b"k"][..], &[b"ECHO", b"a b"]]);
    assert_eq!(commands.get(1), Some(all[1]));
    room.take_back(commands);
}

/// Bytes that are often, but not always, requests.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let arg = prop::collection::vec(any::<u8>(), 0..30);
    let multibulk = prop::collection::vec(arg, 0..5).prop_map(|args| {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        bytes
    });
    let inline = "[a-c \"'\\\\x41n]{0,20}\r?\n".prop_map(String::into_bytes);
    let noise = "[*$0-9\r\n a\"-]{0,12}".prop_map(String::into_bytes);
    let piece = prop_oneof![6 => multibulk, 3 => inline, 1 => noise];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn how_bytes_are_split_changes_nothing(
        input in requests(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let (commands, status) = whole(&input);
        prop_assert_eq!(feed(Limits::default(), &input, &cuts), (commands.clone(), status));
        let every_byte: Vec<usize> = (1..input.len()).collect();
        prop_assert_eq!(feed(Limits::default(), &input, &every_byte), (commands, status));
    }

    #[test]
    fn one_at_a_time_is_the_same_as_all_at_once(input in requests()) {
        let (expected, last) = whole(&input);
        let mut parser = RequestParser::new(Limits::default());
        let (mut batch, mut rest, mut commands) = (Batch::new(), &input[..], Vec::new());
        let status = loop {
            let parsed = parser.parse_one(rest, &mut batch);
            prop_assert!(batch.len() <= 1);
            if !batch.is_empty() {
                commands.push(batch.command(0, rest).map(<[u8]>::to_vec).collect());
            }
            rest = &rest[parsed.consumed..];
            if batch.is_empty() {
                break parsed.status;
            }
        };
        prop_assert_eq!((commands, status), (expected, last));
    }
}
