//! How a transcript writes replies, and how an expected one is compared.

use super::quote::{Saved, expand, quote, unquote};
use crate::wire::Reply;

/// An expected reply: as [`Reply`], but strings may hold `${saved}` values and
/// any part may be a glob.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// This reply, after expansion; never an aggregate.
    Scalar(Reply),
    /// An aggregate: its type byte and its elements (keys and values in turn
    /// for a map).
    Aggregate(u8, Vec<Pattern>),
    /// `@match glob`: the rendering on one line must match; `*` is any text.
    Glob(String),
    /// `...`: any further elements of the aggregate it stands in.
    Rest,
}

/// Writes a reply as a transcript does, one line per element.
#[must_use]
pub fn render(reply: &Reply) -> String {
    let mut out = String::new();
    render_at(reply, 0, &mut out);
    out.truncate(out.trim_end_matches('\n').len());
    out
}

/// How much of a reply a failed assertion shows.
const DEBUG_CHARS_MAX: usize = 300;

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = render_line(self);
        match line.char_indices().nth(DEBUG_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}… ({} characters)", &line[..end], line.len()),
            None => f.write_str(&line),
        }
    }
}

/// Writes a reply on one line: what `@match` globs are held against.
#[must_use]
pub fn render_line(reply: &Reply) -> String {
    let text = render(reply);
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    lines.join(" ")
}

fn render_at(reply: &Reply, depth: usize, out: &mut String) {
    let mut aggregate = |kind: char, count: usize, items: &mut dyn Iterator<Item = &Reply>| {
        out.push_str(&format!("{}{kind}{count}\n", "  ".repeat(depth)));
        for item in items {
            render_at(item, depth + 1, out);
        }
    };
    match reply {
        Reply::Array(items) => aggregate('*', items.len(), &mut items.iter()),
        Reply::Set(items) => aggregate('~', items.len(), &mut items.iter()),
        Reply::Push(items) => aggregate('>', items.len(), &mut items.iter()),
        Reply::Map(pairs) => {
            aggregate('%', pairs.len(), &mut pairs.iter().flat_map(|(k, v)| [k, v]));
        }
        scalar => {
            let text = match scalar {
                Reply::Simple(b) => format!("+{}", plain(b)),
                Reply::Error(b) => format!("-{}", plain(b)),
                Reply::Int(n) => format!(":{n}"),
                Reply::Bulk(b) => format!("${}", quote(b)),
                Reply::Nil => "_".to_owned(),
                Reply::NilArray => "*_".to_owned(),
                Reply::Double(d) => format!(",{d}"),
                Reply::Bool(true) => "#t".to_owned(),
                Reply::Bool(false) => "#f".to_owned(),
                Reply::BigNumber(b) => format!("({}", plain(b)),
                Reply::Verbatim(b) => format!("={}", quote(b)),
                _ => unreachable!("aggregates are above"),
            };
            out.push_str(&format!("{}{text}\n", "  ".repeat(depth)));
        }
    }
}

/// Line replies cannot hold line ends, but they can hold any other byte.
fn plain(bytes: &[u8]) -> String {
    let quoted = quote(bytes);
    let text = quoted[1..quoted.len() - 1].replace("\\\"", "\"");
    // A space at a line's end would be lost to the next editor.
    match text.strip_suffix(' ') {
        Some(front) => format!("{front}\\x20"),
        None => text,
    }
}

fn unplain(text: &str) -> Result<Vec<u8>, String> {
    unquote(&format!("\"{}\"", text.replace('"', "\\\"")))
}

/// Reads the pattern written on `lines`, all of which must belong to it.
///
/// # Errors
/// Text that names the line that makes no sense.
pub fn parse(lines: &[&str]) -> Result<Pattern, String> {
    let mut at = 0;
    let pattern = parse_at(lines, &mut at, 0)?;
    match lines.get(at) {
        None => Ok(pattern),
        Some(extra) => Err(format!("this is past the end of the reply: {extra}")),
    }
}

fn parse_at(lines: &[&str], at: &mut usize, depth: usize) -> Result<Pattern, String> {
    let Some(raw) = lines.get(*at) else {
        return Err("the reply ends before its last element".into());
    };
    let line = raw
        .strip_prefix(&"  ".repeat(depth))
        .filter(|l| !l.starts_with(' '))
        .ok_or_else(|| format!("expected an element indented by {}: {raw}", depth * 2))?;
    *at += 1;
    if let Some(glob) = line.strip_prefix("@match ") {
        return Ok(Pattern::Glob(glob.to_owned()));
    }
    if line == "..." {
        return Ok(Pattern::Rest);
    }
    let bad = |what: &str| format!("{what}: {raw}");
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| bad("empty line"))?;
    let scalar = match kind {
        "+" => Reply::Simple(unplain(rest)?),
        "-" => Reply::Error(unplain(rest)?),
        ":" => match rest.parse() {
            Ok(n) => Reply::Int(n),
            // `:${id}` is known when the transcript runs.
            Err(_) if rest.starts_with("${") => return Ok(Pattern::Glob(line.to_owned())),
            Err(_) => return Err(bad("not an integer")),
        },
        "$" => Reply::Bulk(unquote(rest)?),
        "_" if rest.is_empty() => Reply::Nil,
        "*" if rest == "_" => Reply::NilArray,
        "," => Reply::Double(rest.parse().map_err(|_| bad("not a double"))?),
        "#" if rest == "t" || rest == "f" => Reply::Bool(rest == "t"),
        "(" => Reply::BigNumber(unplain(rest)?),
        "=" => Reply::Verbatim(unquote(rest)?),
        "*" | "~" | ">" | "%" => {
            let count: usize = rest.parse().map_err(|_| bad("not a count"))?;
            let count = if kind == "%" { count * 2 } else { count };
            let mut items = Vec::with_capacity(count);
            while items.len() < count {
                let item = parse_at(lines, at, depth + 1)?;
                let is_rest = item == Pattern::Rest;
                items.push(item);
                if is_rest {
                    break;
                }
            }
            return Ok(Pattern::Aggregate(kind.as_bytes()[0], items));
        }
        _ => return Err(bad("not a reply")),
    };
    Ok(Pattern::Scalar(scalar))
}

/// Whether elements must come in the order written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As written.
    Written,
    /// The elements of the outermost aggregate in any order.
    Any,
}

impl Pattern {
    /// Whether `reply` is what was expected.
    ///
    /// # Errors
    /// When the pattern names a value that was never saved.
    pub fn matches(&self, reply: &Reply, saved: &Saved, order: Order) -> Result<bool, String> {
        Ok(match self {
            Self::Rest => false,
            Self::Glob(glob) => {
                let glob = expand(glob.as_bytes(), saved)?;
                glob_matches(&glob, render_line(reply).as_bytes())
            }
            Self::Scalar(want) => scalar_matches(want, reply, saved)?,
            Self::Aggregate(kind, items) => {
                let (got_kind, pairs, got) = match reply {
                    Reply::Array(items) => (b'*', 1, items.clone()),
                    Reply::Set(items) => (b'~', 1, items.clone()),
                    Reply::Push(items) => (b'>', 1, items.clone()),
                    Reply::Map(pairs) => {
                        let flat = pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]);
                        (b'%', 2, flat.collect())
                    }
                    _ => return Ok(false),
                };
                if got_kind != *kind {
                    return Ok(false);
                }
                let (want, open) = match items.split_last() {
                    Some((Self::Rest, front)) => (front, true),
                    _ => (items.as_slice(), false),
                };
                if got.len() < want.len() || (got.len() > want.len() && !open) {
                    return Ok(false);
                }
                match order {
                    Order::Written => all_match(want, &got, saved)?,
                    Order::Any => any_order(want, &got, pairs, saved)?,
                }
            }
        })
    }
}

fn all_match(want: &[Pattern], got: &[Reply], saved: &Saved) -> Result<bool, String> {
    for (pattern, reply) in want.iter().zip(got) {
        if !pattern.matches(reply, saved, Order::Written)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any_order(want: &[Pattern], got: &[Reply], group: usize, saved: &Saved) -> Result<bool, String> {
    let mut left: Vec<&[Reply]> = got.chunks(group).collect();
    for patterns in want.chunks(group) {
        let mut found = None;
        for (at, replies) in left.iter().enumerate() {
            if all_match(patterns, replies, saved)? {
                found = Some(at);
                break;
            }
        }
        match found {
            Some(at) => left.swap_remove(at),
            None => return Ok(false),
        };
    }
    Ok(true)
}

fn scalar_matches(want: &Reply, got: &Reply, saved: &Saved) -> Result<bool, String> {
    Ok(match (want, got) {
        (Reply::Simple(w), Reply::Simple(g))
        | (Reply::Error(w), Reply::Error(g))
        | (Reply::Bulk(w), Reply::Bulk(g))
        | (Reply::BigNumber(w), Reply::BigNumber(g))
        | (Reply::Verbatim(w), Reply::Verbatim(g)) => expand(w, saved)? == *g,
        (Reply::Double(w), Reply::Double(g)) => w == g || (w.is_nan() && g.is_nan()),
        (w, g) => w == g,
    })
}

/// Whether `text` matches a glob whose only special character is `*`. Linear
/// but for the length of one star's text, so no transcript can hang the run.
#[must_use]
pub fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, t));
            g += 1;
        } else if g < glob.len() && glob[g] == text[t] {
            g += 1;
            t += 1;
        } else if let Some((star_g, star_t)) = star {
            g = star_g + 1;
            t = star_t + 1;
            star = Some((star_g, star_t + 1));
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_read_back() {
        let reply = Reply::Array(vec![
            Reply::Simple(b"OK \"quoted\"".to_vec()),
            Reply::Error(b"ERR no\\".to_vec()),
            Reply::Int(-3),
            Reply::Bulk(vec![0, 255, b'"', b'\n']),
            Reply::Nil,
            Reply::NilArray,
            Reply::Map(vec![(Reply::Int(1), Reply::Set(vec![]))]),
            Reply::Push(vec![Reply::Bool(true), Reply::Double(f64::INFINITY)]),
            Reply::BigNumber(b"123456789012345678901".to_vec()),
            Reply::Verbatim(b"txt:hi".to_vec()),
        ]);
        let text = render(&reply);
        let pattern = parse(&text.lines().collect::<Vec<_>>()).unwrap();
        assert!(pattern.matches(&reply, &Saved::new(), Order::Written).unwrap());
        let other = Reply::Array(vec![Reply::Nil]);
        assert!(!pattern.matches(&other, &Saved::new(), Order::Written).unwrap());
    }

    #[test]
    fn order_may_be_free_and_the_end_open() {
        let got = Reply::Array([b"a", b"b", b"c"].map(|b| Reply::Bulk(b.to_vec())).to_vec());
        let free = parse(&["*3", "  $\"c\"", "  @match $\"a*", "  $\"b\""]).unwrap();
        assert!(free.matches(&got, &Saved::new(), Order::Any).unwrap());
        assert!(!free.matches(&got, &Saved::new(), Order::Written).unwrap());
        let open = parse(&["*3", "  $\"a\"", "  ..."]).unwrap();
        assert!(open.matches(&got, &Saved::new(), Order::Written).unwrap());
    }

    #[test]
    fn globs_know_only_the_star() {
        assert!(glob_matches(b"a*c*", b"abcd"));
        assert!(glob_matches(b"[?]", b"[?]"));
        assert!(!glob_matches(b"a*d", b"abc"));
    }
}
