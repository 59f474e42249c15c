//! The values with a grammar of their own: save points, buffer limits, event classes,
//! addresses and the like.

use std::path::Path;

use super::directive::BIND_MAX;
use super::value::{Lines, Reason, Value, size};

/// Save if at least `changes` keys changed within `seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    /// The period.
    pub seconds: u64,
    /// How many changes.
    pub changes: u64,
}

/// When a client that does not read its replies is disconnected; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BufferLimit {
    /// At once beyond this.
    pub hard_bytes: u64,
    /// After [`soft_seconds`](Self::soft_seconds) beyond this.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// How CONFIG GET names the classes of clients.
pub(super) const LIMIT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];
/// How CONFIG REWRITE names them.
pub(super) const LIMIT_NAMES: [&str; 3] = ["normal", "replica", "pubsub"];

/// Which keyspace events are published; the letters of `notify-keyspace-events`.
///
/// Source: <https://redis.io/docs/latest/develop/use/keyspace-notifications/>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventFlags(u32);

impl EventFlags {
    /// `K`: publish to `__keyspace@<db>__`.
    pub const KEYSPACE: Self = Self(1 << 0);
    /// `E`: publish to `__keyevent@<db>__`.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: DEL, EXPIRE, RENAME and other commands of any type.
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`
    pub const STRING: Self = Self(1 << 3);
    /// `l`
    pub const LIST: Self = Self(1 << 4);
    /// `s`
    pub const SET: Self = Self(1 << 5);
    /// `h`
    pub const HASH: Self = Self(1 << 6);
    /// `z`
    pub const ZSET: Self = Self(1 << 7);
    /// `x`: a key expired.
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`: a key was evicted.
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`
    pub const STREAM: Self = Self(1 << 10);
    /// `d`: events of modules.
    pub const MODULE: Self = Self(1 << 11);
    /// `m`: a read missed.
    pub const KEY_MISS: Self = Self(1 << 12);
    /// `n`: a key was created.
    pub const NEW: Self = Self(1 << 13);
    /// `k`: locks; Holdfast's own.
    pub const LOCK: Self = Self(1 << 14);
    /// `A`: every class but `k`, `m` and `n`.
    pub const ALL: Self = Self(0b1111_1111_1100);

    /// In the order Redis prints them.
    const LETTERS: [(char, Self); 15] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::ZSET),
        ('x', Self::EXPIRED),
        ('e', Self::EVICTED),
        ('t', Self::STREAM),
        ('k', Self::LOCK),
        ('d', Self::MODULE),
        ('n', Self::NEW),
        ('K', Self::KEYSPACE),
        ('E', Self::KEYEVENT),
        ('m', Self::KEY_MISS),
    ];

    /// The flags of `letters`, `None` for an unknown letter.
    #[must_use]
    pub fn parse(letters: &[u8]) -> Option<Self> {
        let mut bits = 0;
        for &letter in letters {
            bits |= match letter {
                b'A' => Self::ALL.0,
                _ => Self::LETTERS.iter().find(|(l, _)| *l == char::from(letter))?.1.0,
            };
        }
        Some(Self(bits))
    }

    /// As one word.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From [`bits`](Self::bits).
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether every flag of `other` is set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether an event of `class` is published anywhere.
    #[inline]
    #[must_use]
    pub const fn publishes(self, class: Self) -> bool {
        self.0 & class.0 != 0 && self.0 & (Self::KEYSPACE.0 | Self::KEYEVENT.0) != 0
    }
}

impl std::fmt::Display for EventFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.contains(Self::ALL);
        if all {
            f.write_str("A")?;
        }
        for (letter, flag) in Self::LETTERS {
            // Redis leaves `n` out beside `A` though it is no part of it; we keep what was set.
            if self.contains(flag) && !(all && Self::ALL.contains(flag)) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    text(word)?.parse().ok()
}

pub(super) fn save_points(words: &[&[u8]], before: &Value, lines: Lines) -> Result<Value, Reason> {
    if let [b""] | [] = words {
        return Ok(Value::SavePoints(Vec::new()));
    }
    let mut points = match (lines, before) {
        (Lines::AddUp, Value::SavePoints(points)) => points.clone(),
        _ => Vec::new(),
    };
    let (pairs, []) = words.as_chunks::<2>() else {
        return Err("Invalid save parameters".into());
    };
    for [seconds, changes] in pairs {
        let (Some(seconds), Some(changes)) = (number::<u64>(seconds), number(changes)) else {
            return Err("Invalid save parameters".into());
        };
        if seconds == 0 {
            return Err("Invalid save parameters".into());
        }
        points.push(SavePoint { seconds, changes });
    }
    Ok(Value::SavePoints(points))
}

pub(super) fn buffer_limits(words: &[&[u8]], before: &Value) -> Result<Value, Reason> {
    const BAD: &str = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
    let mut limits = match before {
        Value::BufferLimits(limits) => *limits,
        _ => Default::default(),
    };
    let (quads, []) = words.as_chunks::<4>() else {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    };
    for [class, hard, soft, seconds] in quads {
        let class = match class.to_ascii_lowercase().as_slice() {
            b"normal" => 0,
            b"replica" | b"slave" => 1,
            b"pubsub" => 2,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        let bytes = |word| size(word).and_then(|n| u64::try_from(n).ok());
        let (Some(hard_bytes), Some(soft_bytes)) = (bytes(hard), bytes(soft)) else {
            return Err(BAD.into());
        };
        let soft_seconds = number(seconds).ok_or(BAD)?;
        limits[class] = BufferLimit { hard_bytes, soft_bytes, soft_seconds };
    }
    Ok(Value::BufferLimits(limits))
}

pub(super) fn oom_scores(words: &[&[u8]]) -> Result<Value, Reason> {
    let words: [&[u8]; 3] = words.try_into().map_err(|_| "wrong number of arguments")?;
    let mut scores = [0; 3];
    for (score, word) in scores.iter_mut().zip(words) {
        *score = number(word)
            .filter(|n| (-2000..=2000).contains(n))
            .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
    }
    Ok(Value::OomScores(scores))
}

pub(super) fn addresses(words: &[&[u8]]) -> Result<Value, Reason> {
    if words.len() > BIND_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    // `bind ""` listens on no TCP address at all.
    let words = if let [b""] = words { &[] } else { words };
    let list: Option<Vec<_>> = words.iter().map(|word| text(word).map(str::to_owned)).collect();
    list.map(Value::Addresses).ok_or("bind address is not text".into())
}

pub(super) fn percentiles(words: &[&[u8]]) -> Result<Value, Reason> {
    if let [b""] | [] = words {
        return Ok(Value::Percentiles(Vec::new()));
    }
    let mut list = Vec::with_capacity(words.len());
    for word in words {
        let percentile =
            number::<f64>(word).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&percentile) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .into(),
            );
        }
        list.push(percentile);
    }
    Ok(Value::Percentiles(list))
}

pub(super) fn host_port(words: &[&[u8]]) -> Result<Value, Reason> {
    match words {
        [b""] | [] => Ok(Value::HostPort(None)),
        [no, one] if no.eq_ignore_ascii_case(b"no") && one.eq_ignore_ascii_case(b"one") => {
            Ok(Value::HostPort(None))
        }
        [host, port] => {
            let port = number(port).ok_or("Invalid master port")?;
            Ok(Value::HostPort(Some((String::from_utf8_lossy(host).into_owned(), port))))
        }
        _ => Err("wrong number of arguments".into()),
    }
}

pub(super) fn directory(word: &[u8]) -> Result<Value, Reason> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let path = Path::new(std::ffi::OsStr::from_bytes(if word.is_empty() { b"." } else { word }));
    let path = path.canonicalize().map_err(|error| reason_of(&error))?;
    if !path.is_dir() {
        return Err("Not a directory".into());
    }
    Ok(Value::Text(path.into_os_string().into_vec().into()))
}

/// An operating error in the system's words, without Rust's `(os error 2)`.
pub(crate) fn reason_of(error: &std::io::Error) -> Reason {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned().into()
}
