//! Inline requests: a line of words, as typed into telnet, with Redis's quoting rules.
//!
//! Words that need no unquoting stay where they are; the others are written to the batch. Must
//! never look beyond the line it is given.

use super::batch::{Batch, Span};
use super::limits::ProtocolError;

/// Splits `line`, which begins at `base` of the buffer, and pushes its words as one command.
/// Returns whether there was any word.
///
/// Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/#inline-commands>
pub(super) fn split(line: &[u8], base: usize, batch: &mut Batch) -> Result<bool, ProtocolError> {
    let mut at = 0;
    let mut any = false;
    loop {
        while line.get(at).copied().is_some_and(is_space) {
            at += 1;
        }
        if at == line.len() {
            break;
        }
        any = true;
        at = word(line, at, base, batch)?;
    }
    if any {
        batch.end_command();
    }
    Ok(any)
}

/// Reads the word at `start` and returns where it ends.
fn word(line: &[u8], start: usize, base: usize, batch: &mut Batch) -> Result<usize, ProtocolError> {
    let plain = line[start..]
        .iter()
        .position(|byte| ends_word(*byte) || matches!(byte, b'"' | b'\''))
        .map_or(line.len(), |len| start + len);
    match line.get(plain) {
        Some(b'"' | b'\'') => {}
        _ => {
            batch.spans.push(Span::new(base + start, plain - start));
            return Ok(plain);
        }
    }
    let mark = batch.unquoted_mark();
    batch.push_unquoted(&line[start..plain]);
    // A closing quote ends the word, so that at most one quoted part stands in it.
    let end = if line[plain] == b'"' {
        double_quoted(line, plain + 1, batch)?
    } else {
        single_quoted(line, plain + 1, batch)?
    };
    if line.get(end).is_some_and(|byte| !is_space(*byte)) {
        return Err(ProtocolError::UnbalancedQuotes);
    }
    batch.end_unquoted(mark);
    Ok(end)
}

/// Copies what stands between double quotes; returns the position after the closing one.
fn double_quoted(line: &[u8], mut at: usize, batch: &mut Batch) -> Result<usize, ProtocolError> {
    loop {
        match line[at..] {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                batch.push_unquoted(&[hex(high) << 4 | hex(low)]);
                at += 4;
            }
            [b'\\', escaped, ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                };
                batch.push_unquoted(&[byte]);
                at += 2;
            }
            [b'"', ..] => return Ok(at + 1),
            [byte, ..] => {
                batch.push_unquoted(&[byte]);
                at += 1;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

/// Copies what stands between single quotes; only `\'` is an escape there.
fn single_quoted(line: &[u8], mut at: usize, batch: &mut Batch) -> Result<usize, ProtocolError> {
    loop {
        match line[at..] {
            [b'\\', b'\'', ..] => {
                batch.push_unquoted(b"'");
                at += 2;
            }
            [b'\'', ..] => return Ok(at + 1),
            [byte, ..] => {
                batch.push_unquoted(&[byte]);
                at += 1;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// C's `isspace`: what is skipped before a word and may follow a closing quote.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// What ends a word without quotes: fewer bytes than `is_space` knows, as in Redis.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut batch = Batch::new();
        if !split(line, 0, &mut batch)? {
            return Ok(Vec::new());
        }
        Ok(batch.command(0, line).map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn words_split_as_in_redis() {
        // Each row was compared with what Redis 7.0.15 made of the same line.
        let rows: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t\x0b\x0c ", &[]),
            (b"PING", &[b"PING"]),
            (b"  SET a  b ", &[b"SET", b"a", b"b"]),
            (b"PI\tNG", &[b"PI", b"NG"]),
            (b"ECHO\x0b\x0chi", &[b"ECHO\x0b\x0chi"]),
            (b"a\rb", &[b"a", b"b"]),
            (b"\"\"", &[b""]),
            (b"'' \"\"", &[b"", b""]),
            (br#"get "a b" 'c\'d\n'"#, &[b"get", b"a b", br"c'd\n"]),
            (br#""\x41\x4g\n\r\t\b\a\q\"""#, &[b"Ax4g\n\r\t\x08\x07q\""]),
            (b"ab\"c d\"", &[b"abc d"]),
            (b"a'b c' d", &[b"ab c", b"d"]),
            (b"a\\n", &[b"a\\n"]),
            (b"\xff\x00 \xfe", &[b"\xff\x00", b"\xfe"]),
        ];
        for (line, expected) in rows {
            assert_eq!(words(line).unwrap(), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quotes_that_do_not_close_are_an_error() {
        for line in [&b"\""[..], b"'", b"a \"b", b"\"a\"b", b"'b'c", b"ab\"", b"\"\\\"", b"\"a\\"] {
            let got = words(line);
            assert_eq!(got, Err(ProtocolError::UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }
}
