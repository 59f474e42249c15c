//! The resumable request parser: multibulk and inline.
//!
//! Every complete command of a buffer is found in one call. On partial input the parser
//! remembers where it stopped, so that no byte is looked at twice however small the pieces
//! are. It holds positions only, relative to the first byte not yet consumed; it must never
//! copy or own the connection's bytes. See `batch` for what it fills.

use super::batch::{Batch, Span};
use super::inline;
use super::limits::{LINE_LEN_MAX, Limits, ProtocolError};

/// What one call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Parsed {
    /// Bytes the complete commands take. The caller drops so many from the front of its buffer
    /// before it parses again (the batch's arguments lie in them, so not before they are run).
    pub consumed: usize,
    /// What stands after them.
    pub status: Status,
}

/// What stands after the complete commands of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing, or, from [`RequestParser::parse_one`], commands to be parsed by the next call.
    Ready,
    /// The beginning of a command.
    Partial {
        /// How many bytes at least must arrive before another call can get further: exact for
        /// an argument whose length is known, so that the caller can reserve once and read
        /// straight into place.
        missing: usize,
    },
    /// Bytes that cannot be followed: run the batch, send the error, close.
    Failed(ProtocolError),
}

/// How many commands a call may deliver.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    One,
    All,
}

/// Why a command could not be read to its end.
enum Stop {
    Partial { missing: usize },
    Failed(ProtocolError),
}

/// A bulk whose length line was not read yet.
const LEN_UNKNOWN: usize = usize::MAX;

/// One connection's parser.
#[derive(Debug, Default)]
pub struct RequestParser {
    limits: Limits,
    /// Where to go on.
    at: usize,
    /// Arguments of the command under way not yet read; 0 between commands.
    args_left: usize,
    /// Length of the argument under way, or [`LEN_UNKNOWN`].
    bulk_len: usize,
    /// Bytes from `at` on that are known to hold no line end.
    searched: usize,
    /// Arguments of the command under way, relative to its first byte.
    pending: Vec<Span>,
    failed: Option<ProtocolError>,
}

impl RequestParser {
    /// A parser at the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, bulk_len: LEN_UNKNOWN, ..Self::default() }
    }

    /// The limits that hold now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Sets the limits for what is parsed from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the beginning of a command was read.
    #[must_use]
    pub fn is_mid_command(&self) -> bool {
        self.args_left > 0 || self.searched > 0
    }

    /// Finds every complete command of `buf` and puts them into `batch`, which is cleared first.
    ///
    /// `buf` begins with the first byte that earlier calls did not consume.
    pub fn parse(&mut self, buf: &[u8], batch: &mut Batch) -> Parsed {
        self.run(buf, batch, Take::All)
    }

    /// Finds at most one command.
    ///
    /// For clients that still owe a password: AUTH in front of larger commands in the same
    /// buffer must lift the limits before those are judged. Between calls the caller runs the
    /// command, sets the limits and drops the consumed bytes.
    pub fn parse_one(&mut self, buf: &[u8], batch: &mut Batch) -> Parsed {
        self.run(buf, batch, Take::One)
    }

    fn run(&mut self, buf: &[u8], batch: &mut Batch, take: Take) -> Parsed {
        batch.clear();
        if let Some(error) = self.failed {
            return Parsed { consumed: 0, status: Status::Failed(error) };
        }
        // The arguments found so far go on in the batch; swapping makes that free of charge.
        std::mem::swap(&mut batch.spans, &mut self.pending);
        let mut start = 0;
        let status = loop {
            let read = if self.args_left > 0 {
                self.arguments(buf, batch)
            } else {
                if self.searched == 0 && buf.len() == self.at {
                    break Status::Ready;
                }
                self.first_line(buf, batch)
            };
            match read {
                Ok(()) => {
                    start = self.at;
                    if take == Take::One && !batch.is_empty() {
                        break Status::Ready;
                    }
                }
                Err(Stop::Partial { missing }) => {
                    self.set_aside(batch, start);
                    break Status::Partial { missing };
                }
                Err(Stop::Failed(error)) => {
                    self.failed = Some(error);
                    batch.spans.truncate(batch.spans_complete());
                    break Status::Failed(error);
                }
            }
        };
        self.at -= start;
        Parsed { consumed: start, status }
    }

    /// Moves the arguments of the command under way from the batch to the parser.
    fn set_aside(&mut self, batch: &mut Batch, start: usize) {
        let complete = batch.spans_complete();
        if batch.is_empty() && start == 0 {
            // The command has been under way before, may be long, and is moved as a whole.
            std::mem::swap(&mut batch.spans, &mut self.pending);
        } else {
            self.pending.extend(batch.spans.drain(complete..).map(|span| span.moved_back(start)));
        }
    }

    /// Reads the line a command begins with and, if it is a count, the arguments.
    fn first_line(&mut self, buf: &[u8], batch: &mut Batch) -> Result<(), Stop> {
        if buf[self.at] != b'*' {
            return self.inline(buf, batch);
        }
        let (count, next) = match small_number(&buf[self.at..]) {
            Some((count, len)) => (count, self.at + len),
            None => {
                let (line, next) = self.line(buf, b'\r', ProtocolError::TooBigCountLine)?;
                match holdfast_engine::value::number::parse_i64(&line[1..]) {
                    None => return Err(Stop::Failed(ProtocolError::InvalidMultibulkLength)),
                    // Redis skips a command without arguments, and takes less than none for it.
                    Some(count) => (usize::try_from(count).unwrap_or(0), next),
                }
            }
        };
        if count > self.limits.args_allowed() {
            return Err(Stop::Failed(self.limits.args_error(count)));
        }
        self.at = next;
        self.searched = 0;
        if count == 0 {
            return Ok(());
        }
        self.args_left = count;
        self.bulk_len = LEN_UNKNOWN;
        self.arguments(buf, batch)
    }

    /// Reads arguments until the command is complete.
    #[inline]
    fn arguments(&mut self, buf: &[u8], batch: &mut Batch) -> Result<(), Stop> {
        let bulk_len_allowed = self.limits.bulk_len_allowed();
        // The state lives in locals while arguments come in whole: that is the hot loop.
        let (mut at, mut left) = (self.at, self.args_left);
        let mut known_len = self.bulk_len;
        self.bulk_len = LEN_UNKNOWN;
        while left > 0 {
            let len = if known_len == LEN_UNKNOWN {
                let rest = &buf[at..];
                match small_number(rest) {
                    Some((len, line_len)) if rest[0] == b'$' && len <= bulk_len_allowed => {
                        at += line_len;
                        len
                    }
                    _ => {
                        (self.at, self.args_left) = (at, left);
                        let len = self.bulk_line(buf)?;
                        at = self.at;
                        len
                    }
                }
            } else {
                std::mem::replace(&mut known_len, LEN_UNKNOWN)
            };
            // The two bytes after an argument are its line end; Redis does not look at them.
            let next = at + len + 2;
            if next > buf.len() {
                (self.at, self.args_left) = (at, left);
                (self.bulk_len, self.searched) = (len, 0);
                return Err(Stop::Partial { missing: next - buf.len() });
            }
            batch.spans.push(Span::new(at, len));
            at = next;
            left -= 1;
            // What was searched in vain was the line now read.
            self.searched = 0;
        }
        (self.at, self.args_left) = (at, 0);
        batch.end_command();
        Ok(())
    }

    /// Reads a `$` line that is not of the shortest kind.
    fn bulk_line(&mut self, buf: &[u8]) -> Result<usize, Stop> {
        let (line, next) = self.line(buf, b'\r', ProtocolError::TooBigBulkLine)?;
        let first = line.first().copied().unwrap_or(b'\r');
        if first != b'$' {
            return Err(Stop::Failed(ProtocolError::ExpectedBulk(first)));
        }
        let len = holdfast_engine::value::number::parse_i64(&line[1..])
            .and_then(|len| usize::try_from(len).ok())
            .ok_or(Stop::Failed(ProtocolError::InvalidBulkLength))?;
        if len > self.limits.bulk_len_allowed() {
            return Err(Stop::Failed(self.limits.bulk_error(len)));
        }
        self.at = next;
        self.searched = 0;
        Ok(len)
    }

    fn inline(&mut self, buf: &[u8], batch: &mut Batch) -> Result<(), Stop> {
        let (line, next) = self.line(buf, b'\n', ProtocolError::TooBigInline)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(line, self.at, batch).map_err(Stop::Failed)?;
        self.at = next;
        self.searched = 0;
        Ok(())
    }

    /// The line at `at` up to its `end`, and where the next begins. A line that ends in `\r` is
    /// complete when one more byte is there, whichever it is: so Redis reads it.
    fn line<'a>(
        &mut self,
        buf: &'a [u8],
        end: u8,
        too_big: ProtocolError,
    ) -> Result<(&'a [u8], usize), Stop> {
        let rest = &buf[self.at..];
        // Invariant: how far a line may reach does not depend on how the bytes were split.
        let window = &rest[..rest.len().min(LINE_LEN_MAX + 1)];
        match memchr::memchr(end, &window[self.searched..]) {
            Some(found) => {
                let len = self.searched + found;
                let next = len + if end == b'\r' { 2 } else { 1 };
                if next > rest.len() {
                    self.searched = len;
                    return Err(Stop::Partial { missing: 1 });
                }
                Ok((&rest[..len], self.at + next))
            }
            None if window.len() > LINE_LEN_MAX => Err(Stop::Failed(too_big)),
            None => {
                self.searched = window.len();
                Err(Stop::Partial { missing: 1 })
            }
        }
    }
}

/// Reads `X1\r\n` to `X999\r\n`: the number, and the length of the line. Anything else, right or
/// wrong, is for the slow path to judge.
#[inline(always)]
fn small_number(rest: &[u8]) -> Option<(usize, usize)> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    match *rest {
        [_, a @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a), 4)),
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a) * 10 + digit(b), 5)),
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', _, ..] => {
            Some((digit(a) * 100 + digit(b) * 10 + digit(c), 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
