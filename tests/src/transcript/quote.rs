//! Words and strings as transcripts write them: redis-cli's quoting.

/// Parts a command line into arguments: bare words, `"…"` with `\n \r \t \b
/// \a \\ \" \xNN`, and `'…'` where only `\'` means anything.
///
/// # Errors
/// Text that says which quote is wrong.
pub fn split_args(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = line.as_bytes();
    let mut at = 0;
    let mut args = Vec::new();
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let Some(&first) = bytes.get(at) else {
            return Ok(args);
        };
        let arg = match first {
            b'"' => double_quoted(bytes, &mut at)?,
            b'\'' => single_quoted(bytes, &mut at)?,
            _ => {
                let start = at;
                while bytes.get(at).is_some_and(|b| !b.is_ascii_whitespace()) {
                    at += 1;
                }
                bytes[start..at].to_vec()
            }
        };
        if bytes.get(at).is_some_and(|b| !b.is_ascii_whitespace()) {
            return Err(format!("a closing quote is followed by text: {line}"));
        }
        args.push(arg);
    }
}

/// Reads a whole `"…"` string and nothing after it.
///
/// # Errors
/// Text that says what is wrong with it.
pub fn unquote(text: &str) -> Result<Vec<u8>, String> {
    let mut at = 0;
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return Err(format!("expected a \"string\": {text}"));
    }
    let value = double_quoted(bytes, &mut at)?;
    if at != bytes.len() {
        return Err(format!("text after the closing quote: {text}"));
    }
    Ok(value)
}

/// Writes bytes as a `"…"` string that [`unquote`] reads back.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for &b in bytes {
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(char::from(b)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push('"');
    out
}

fn double_quoted(bytes: &[u8], at: &mut usize) -> Result<Vec<u8>, String> {
    *at += 1;
    let mut out = Vec::new();
    loop {
        let Some(&b) = bytes.get(*at) else {
            return Err("an unclosed double quote".into());
        };
        *at += 1;
        match b {
            b'"' => return Ok(out),
            b'\\' => {
                let Some(&escape) = bytes.get(*at) else {
                    return Err("a backslash at the end".into());
                };
                *at += 1;
                match escape {
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'b' => out.push(8),
                    b'a' => out.push(7),
                    b'x' => {
                        let byte = bytes
                            .get(*at..*at + 2)
                            .and_then(|hex| std::str::from_utf8(hex).ok())
                            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                            .ok_or("\\x wants two hex digits")?;
                        *at += 2;
                        out.push(byte);
                    }
                    other => out.push(other),
                }
            }
            other => out.push(other),
        }
    }
}

fn single_quoted(bytes: &[u8], at: &mut usize) -> Result<Vec<u8>, String> {
    *at += 1;
    let mut out = Vec::new();
    loop {
        match (bytes.get(*at), bytes.get(*at + 1)) {
            (None, _) => return Err("an unclosed single quote".into()),
            (Some(b'\\'), Some(b'\'')) => {
                out.push(b'\'');
                *at += 2;
            }
            (Some(b'\''), _) => {
                *at += 1;
                return Ok(out);
            }
            (Some(&b), _) => {
                out.push(b);
                *at += 1;
            }
        }
    }
}

/// Values a transcript has put by with `@save`.
pub type Saved = std::collections::BTreeMap<String, Vec<u8>>;

/// Replaces `${name}` by a saved value and `${text*n}` by n copies of text.
///
/// # Errors
/// Text that names what is unknown.
pub fn expand(text: &[u8], saved: &Saved) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = find(rest, b"${") {
        let Some(end) = find(&rest[start..], b"}") else {
            break;
        };
        out.extend_from_slice(&rest[..start]);
        let name = String::from_utf8_lossy(&rest[start + 2..start + end]).into_owned();
        match (saved.get(&name), repetition(&name)) {
            (Some(value), _) => out.extend_from_slice(value),
            (None, Some((unit, count))) => out.extend(unit.repeat(count).into_bytes()),
            (None, None) => return Err(format!("${{{name}}} was never saved")),
        }
        rest = &rest[start + end + 1..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// The arguments of a command, with `${a..b}` standing for the integers from
/// a to b, each an argument; `${p:a..b}` puts `p` before each.
///
/// # Errors
/// As [`expand`].
pub fn expand_args(args: &[Vec<u8>], saved: &Saved) -> Result<Vec<Vec<u8>>, String> {
    let mut out = Vec::with_capacity(args.len());
    for arg in args {
        match range(arg) {
            Some((prefix, from, to)) => {
                out.extend((from..=to).map(|n| format!("{prefix}{n}").into_bytes()));
            }
            None => out.push(expand(arg, saved)?),
        }
    }
    Ok(out)
}

fn range(arg: &[u8]) -> Option<(String, i64, i64)> {
    let inner = std::str::from_utf8(arg).ok()?;
    let inner = inner.strip_prefix("${")?.strip_suffix('}')?;
    let (prefix, numbers) = inner.rsplit_once(':').unwrap_or(("", inner));
    let (from, to) = numbers.split_once("..")?;
    Some((prefix.to_owned(), from.parse().ok()?, to.parse().ok()?))
}

fn repetition(name: &str) -> Option<(&str, usize)> {
    let (unit, count) = name.rsplit_once('*')?;
    Some((unit, count.parse().ok()?))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unquote(&quote(&all)).unwrap(), all);
    }

    #[test]
    fn arguments_are_parted_as_redis_cli_does() {
        let args = split_args(r#"SET "a b\x00" 'it\'s' plain """#).unwrap();
        let want: [&[u8]; 5] = [b"SET", b"a b\0", b"it's", b"plain", b""];
        assert_eq!(args, want);
        assert!(split_args(r#"GET "open"#).is_err());
        assert!(split_args(r#"GET "a"b"#).is_err());
    }

    #[test]
    fn saved_values_and_repetitions_expand() {
        let mut saved = Saved::new();
        saved.insert("id".into(), b"7".to_vec());
        assert_eq!(expand(b"<${id}${ab*3}>", &saved).unwrap(), b"<7ababab>");
        assert!(expand(b"${nope}", &saved).is_err());
        let args = expand_args(&[b"${m:1..3}".to_vec()], &saved).unwrap();
        assert_eq!(args, [b"m1", b"m2", b"m3"]);
    }
}
