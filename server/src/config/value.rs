//! Values of directives: read from words, printed as CONFIG GET prints them, and written as
//! lines of a configuration file.
//!
//! Reasons of refusal are Redis's to the letter, for clients and operators match on them.
//! The types that are more than a number or a text are in `special`.

use std::borrow::Cow;
use std::sync::Arc;

use super::directive::{Directive, Kind, Words};
use super::special::{self, BufferLimit, EventFlags, SavePoint};

/// Why a value was refused.
pub type Reason = Cow<'static, str>;

/// What a directive is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// yes or no.
    Flag(bool),
    /// A count, a size in bytes or a file mode.
    Number(i128),
    /// A percentage of maxmemory.
    Percent(u8),
    /// The number a word stands for, or the sum of several.
    Word(i64),
    /// Bytes; a shared slice, for the hot readers keep clones.
    Text(Arc<[u8]>),
    /// When to save.
    SavePoints(Vec<SavePoint>),
    /// Limits of normal, replica and pub/sub clients.
    BufferLimits([BufferLimit; 3]),
    /// Event classes.
    Events(EventFlags),
    /// Adjustments for primary, replica and child.
    OomScores([i32; 3]),
    /// Addresses, unresolved.
    Addresses(Vec<String>),
    /// Percentiles between 0 and 100.
    Percentiles(Vec<f64>),
    /// A primary, none if empty.
    HostPort(Option<(String, u16)>),
}

impl Value {
    /// The bytes of a text, empty for anything else.
    #[must_use]
    pub fn as_text(&self) -> &[u8] {
        match self {
            Self::Text(bytes) => bytes,
            _ => b"",
        }
    }

    /// The value as 64 bits, for the atomics hot readers look at: signed numbers in two's
    /// complement, everything that is not a number 0.
    #[must_use]
    pub fn bits(&self) -> u64 {
        match self {
            Self::Flag(yes) => u64::from(*yes),
            // Bounds in the table keep numbers within 64 bits, signed or not.
            Self::Number(n) => *n as u64,
            Self::Word(n) => *n as u64,
            Self::Percent(n) => u64::from(*n),
            Self::Events(flags) => u64::from(flags.bits()),
            _ => 0,
        }
    }
}

/// Whether several lines of a directive add up or each replaces the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// CONFIG SET, or the first line of a file: starts afresh.
    Replace,
    /// A further line of a file.
    AddUp,
}

impl Directive {
    /// Reads `words`, the arguments after the name.
    ///
    /// `before` is the present value: some directives change a part of it.
    ///
    /// # Errors
    /// The reason, in Redis's words.
    pub fn read(&self, words: &[&[u8]], before: &Value, lines: Lines) -> Result<Value, Reason> {
        let value = match self.kind {
            Kind::FlagWords(list) => flag_words(list, words)?,
            Kind::SavePoints => special::save_points(words, before, lines)?,
            Kind::BufferLimits => special::buffer_limits(words, before)?,
            Kind::OomScores => special::oom_scores(words)?,
            Kind::Addresses => special::addresses(words)?,
            Kind::Percentiles => special::percentiles(words)?,
            Kind::HostPort => special::host_port(words)?,
            _ => {
                let &[word] = words else {
                    return Err("wrong number of arguments".into());
                };
                self.read_word(word)?
            }
        };
        if let Some(check) = self.check {
            check(&value)?;
        }
        Ok(value)
    }

    fn read_word(&self, word: &[u8]) -> Result<Value, Reason> {
        let number =
            |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        match self.kind {
            Kind::YesNo => match () {
                () if word.eq_ignore_ascii_case(b"yes") => Ok(Value::Flag(true)),
                () if word.eq_ignore_ascii_case(b"no") => Ok(Value::Flag(false)),
                () => Err("argument must be 'yes' or 'no'".into()),
            },
            Kind::Int(min, max) => {
                let n = number(word).ok_or("argument couldn't be parsed into an integer")?;
                let n = within(i128::from(n), min, max)?;
                Ok(Value::Number(self.clamp.map_or(n, |(low, high)| n.clamp(low, high))))
            }
            Kind::Octal(min, max) => {
                let n = std::str::from_utf8(word)
                    .ok()
                    .and_then(|text| i128::from_str_radix(text, 8).ok())
                    .ok_or("argument couldn't be parsed into an integer")?;
                if n < min || n > max {
                    let reason = format!("argument must be between {min:o} and {max:o} inclusive");
                    return Err(reason.into());
                }
                Ok(Value::Number(n))
            }
            Kind::Size(min, max) => {
                let n = size(word).ok_or("argument must be a memory value")?;
                Ok(Value::Number(within(n, min, max)?))
            }
            Kind::SizeOrPercent => {
                if let Some(percent) = word.strip_suffix(b"%") {
                    let percent = number(percent)
                        .and_then(|n| u8::try_from(n).ok().or((n > 0).then_some(u8::MAX)))
                        .ok_or("argument must be a memory or percent value")?;
                    if percent > 100 {
                        return Err("percentage argument must be less or equal to 100".into());
                    }
                    return Ok(Value::Percent(percent));
                }
                let n = size(word).ok_or("argument must be a memory or percent value")?;
                Ok(Value::Number(within(n, 0, i128::from(i64::MAX))?))
            }
            Kind::OneOf(list) => lookup(list, word).map(Value::Word).ok_or_else(|| one_of(list)),
            Kind::Events => EventFlags::parse(word)
                .map(Value::Events)
                .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            Kind::Directory => special::directory(word),
            _ => Ok(Value::Text(word.into())),
        }
    }

    /// The value as CONFIG GET prints it.
    #[must_use]
    pub fn print(&self, value: &Value) -> Vec<u8> {
        match value {
            Value::Flag(yes) => if *yes { "yes" } else { "no" }.into(),
            Value::Number(n) if matches!(self.kind, Kind::Octal(..)) => format!("{n:o}").into(),
            Value::Number(n) => n.to_string().into(),
            Value::Percent(n) => format!("{n}%").into(),
            Value::Word(n) => match self.kind {
                Kind::OneOf(list) => word_of(list, *n).into(),
                Kind::FlagWords(list) => words_of(list, *n).into(),
                _ => n.to_string().into(),
            },
            Value::Text(bytes) => bytes.to_vec(),
            Value::SavePoints(points) => {
                joined(points.iter().map(|p| format!("{} {}", p.seconds, p.changes)))
            }
            Value::BufferLimits(limits) => {
                joined(special::LIMIT_CLASSES.iter().zip(limits).map(|(class, limit)| {
                    let BufferLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
                    format!("{class} {hard_bytes} {soft_bytes} {soft_seconds}")
                }))
            }
            Value::Events(flags) => flags.to_string().into(),
            Value::OomScores(scores) => joined(scores.iter().map(ToString::to_string)),
            Value::Addresses(list) => list.join(" ").into(),
            Value::Percentiles(list) => joined(list.iter().map(ToString::to_string)),
            Value::HostPort(None) => Vec::new(),
            Value::HostPort(Some((host, port))) => format!("{host} {port}").into(),
        }
    }

    /// The lines of a file that set `value`, without line ends; none if it is a text left empty.
    #[must_use]
    pub fn lines(&self, value: &Value) -> Vec<Vec<u8>> {
        let line = |rest: &[u8]| [self.name.as_bytes(), b" ", rest].concat();
        match value {
            Value::Number(n) if matches!(self.kind, Kind::Size(..) | Kind::SizeOrPercent) => {
                vec![line(size_text(*n).as_bytes())]
            }
            Value::Text(bytes) if bytes.is_empty() && self.default.is_empty() => Vec::new(),
            Value::Text(bytes) => vec![line(&super::words::quoted(bytes))],
            Value::SavePoints(points) if !points.is_empty() => points
                .iter()
                .map(|p| line(format!("{} {}", p.seconds, p.changes).as_bytes()))
                .collect(),
            Value::BufferLimits(limits) => special::LIMIT_NAMES
                .iter()
                .zip(limits)
                .map(|(class, limit)| {
                    let (hard, soft) = (limit.hard_bytes.into(), limit.soft_bytes.into());
                    let (hard, soft) = (size_text(hard), size_text(soft));
                    line(format!("{class} {hard} {soft} {}", limit.soft_seconds).as_bytes())
                })
                .collect(),
            Value::HostPort(None) => Vec::new(),
            _ => {
                let text = self.print(value);
                vec![line(if text.is_empty() { b"\"\"" } else { &text })]
            }
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> Vec<u8> {
    parts.collect::<Vec<_>>().join(" ").into()
}

fn within(n: i128, min: i128, max: i128) -> Result<i128, Reason> {
    if n < min || n > max {
        return Err(format!("argument must be between {min} and {max} inclusive").into());
    }
    Ok(n)
}

fn lookup(list: Words, word: &[u8]) -> Option<i64> {
    list.iter()
        .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
        .map(|(_, number)| *number)
}

fn one_of(list: Words) -> Reason {
    // A word that only repeats another's number is a spelling Redis lists too.
    let names: Vec<_> = list.iter().map(|(name, _)| *name).collect();
    format!("argument(s) must be one of the following: {}", names.join(", ")).into()
}

fn flag_words(list: Words, words: &[&[u8]]) -> Result<Value, Reason> {
    if words.is_empty() {
        return Err(one_of(list));
    }
    let mut bits = 0;
    for word in words {
        bits |= lookup(list, word).ok_or_else(|| one_of(list))?;
    }
    Ok(Value::Word(bits))
}

fn word_of(list: Words, number: i64) -> &'static str {
    list.iter().find(|(_, n)| *n == number).map_or("unknown", |(name, _)| name)
}

fn words_of(list: Words, bits: i64) -> String {
    if bits == 0 {
        return word_of(list, 0).to_owned();
    }
    let set = list.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| *name);
    set.collect::<Vec<_>>().join(" ")
}

/// Bytes from digits and a unit. A number too large for 64 bits becomes the largest, as in Redis.
pub(super) fn size(word: &[u8]) -> Option<i128> {
    let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = word.split_at(digits);
    let factor: i128 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1_000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    if digits == 0 {
        return None;
    }
    let most = i128::from(u64::MAX);
    let number = std::str::from_utf8(number).ok()?.parse::<i128>().unwrap_or(most);
    Some(number.saturating_mul(factor).min(most))
}

/// Bytes with the largest unit that divides them.
fn size_text(bytes: i128) -> String {
    for (unit, shift) in [("gb", 30), ("mb", 20), ("kb", 10)] {
        if bytes != 0 && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}
