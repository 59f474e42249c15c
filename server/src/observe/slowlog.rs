//! SLOWLOG: the last commands that took long.

use std::collections::VecDeque;

use holdfast_engine::error::CommandError;
use holdfast_engine::reply::{Blob, CommandResult, Reply};
use parking_lot::Mutex;

/// Arguments kept of a command; the last one then tells how many more there were.
const ARGS_MAX: usize = 32;
/// Bytes kept of an argument.
const ARG_LEN_MAX: usize = 128;
/// Entries SLOWLOG GET answers without a count.
const GET_DEFAULT: usize = 10;

/// A slow command.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    id: u64,
    unix_s: u64,
    duration_us: u64,
    args: Vec<Blob>,
    address: Box<str>,
    name: Box<str>,
}

/// Who sent a command: `ip:port` and the name given by CLIENT SETNAME, or empty.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// `ip:port`, or the path of the Unix socket.
    pub address: &'a str,
    /// The client's name.
    pub name: &'a str,
}

/// The slow log; the newest entry first.
#[derive(Debug, Default)]
pub struct SlowLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl SlowLog {
    /// Logs a command and keeps the newest `len_max` entries. Whether it was slow is the
    /// caller's to judge (see [`is_slow`]), and secrets among `args` are the caller's to replace.
    pub fn record(
        &self,
        len_max: usize,
        unix_s: u64,
        duration_us: u64,
        args: &[&[u8]],
        sender: Sender<'_>,
    ) {
        let args = trimmed(args);
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.entries.push_front(Entry {
            id,
            unix_s,
            duration_us,
            args,
            address: sender.address.into(),
            name: sender.name.into(),
        });
        inner.entries.truncate(len_max);
    }

    /// `SLOWLOG GET [count]`: id, time, microseconds, arguments, address and name of each.
    ///
    /// # Errors
    /// For a count below -1; -1 asks for all.
    pub fn get(&self, count: Option<&[u8]>) -> CommandResult {
        let count = match count {
            None => GET_DEFAULT,
            Some(text) => {
                let n = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
                match n {
                    Some(-1) => usize::MAX,
                    Some(n @ 0..) => usize::try_from(n).unwrap_or(usize::MAX),
                    _ => {
                        return Err(CommandError::known(
                            "ERR count should be greater than or equal to -1",
                        ));
                    }
                }
            }
        };
        let inner = self.inner.lock();
        Ok(Reply::Array(inner.entries.iter().take(count).map(reply_of).collect()))
    }

    /// `SLOWLOG LEN`
    #[must_use]
    pub fn len(&self) -> Reply {
        Reply::count(self.inner.lock().entries.len())
    }

    /// `SLOWLOG RESET`; ids go on.
    pub fn reset(&self) -> Reply {
        self.inner.lock().entries.clear();
        Reply::Ok
    }

    /// `SLOWLOG HELP`
    #[must_use]
    pub fn help() -> Reply {
        Reply::Array(
            [
                "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "GET [<count>]",
                "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
                "    Entries are made of:",
                "    id, timestamp, time in microseconds, arguments array, client IP and port,",
                "    client name",
                "LEN",
                "    Return the length of the slowlog.",
                "RESET",
                "    Reset the slowlog.",
                "HELP",
                "    Prints this help.",
            ]
            .map(Reply::simple)
            .into(),
        )
    }
}

/// Whether a command is slow under `slowlog-log-slower-than`: a negative threshold logs none,
/// zero logs all.
#[inline]
#[must_use]
pub fn is_slow(threshold_us: i64, duration_us: u64) -> bool {
    u64::try_from(threshold_us).is_ok_and(|threshold| duration_us >= threshold)
}

fn trimmed(args: &[&[u8]]) -> Vec<Blob> {
    let kept = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut trimmed: Vec<Blob> = args[..kept]
        .iter()
        .map(|arg| match arg.len().checked_sub(ARG_LEN_MAX) {
            None | Some(0) => Blob::copy_from(arg),
            Some(more) => {
                let mut text = arg[..ARG_LEN_MAX].to_vec();
                text.extend(format!("... ({more} more bytes)").bytes());
                text.into()
            }
        })
        .collect();
    if kept < args.len() {
        trimmed.push(format!("... ({} more arguments)", args.len() - kept).into());
    }
    trimmed
}

fn reply_of(entry: &Entry) -> Reply {
    let number = |n: u64| Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    Reply::Array(vec![
        number(entry.id),
        number(entry.unix_s),
        number(entry.duration_us),
        Reply::Array(entry.args.iter().cloned().map(Reply::Bulk).collect()),
        Reply::bulk(entry.address.as_bytes()),
        Reply::bulk(entry.name.as_bytes()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Sender<'_> = Sender { address: "127.0.0.1:5", name: "me" };

    fn ids(reply: &Reply) -> Vec<i64> {
        let Reply::Array(entries) = reply else { panic!("{reply:?}") };
        let id = |entry: &Reply| match entry {
            Reply::Array(fields) => match fields[0] {
                Reply::Integer(id) => id,
                _ => panic!("{entry:?}"),
            },
            _ => panic!("{entry:?}"),
        };
        entries.iter().map(id).collect()
    }

    #[test]
    fn the_newest_entries_stay_newest_first() {
        let log = SlowLog::default();
        for n in 0..20 {
            log.record(12, 1_000 + n, n, &[b"GET", b"k"], SENDER);
        }
        assert_eq!(log.len(), Reply::Integer(12));
        assert_eq!(ids(&log.get(None).expect("ok")), (10..20).rev().collect::<Vec<_>>());
        assert_eq!(ids(&log.get(Some(b"2")).expect("ok")), [19, 18]);
        assert_eq!(ids(&log.get(Some(b"-1")).expect("ok")).len(), 12);
        for bad in [&b"-2"[..], b"a"] {
            let error = log.get(Some(bad)).expect_err("out of range");
            assert_eq!(error.text(), "ERR count should be greater than or equal to -1");
        }
        assert_eq!(log.reset(), Reply::Ok);
        log.record(12, 5, 7, &[b"PING"], SENDER);
        assert_eq!(
            log.get(None).expect("ok"),
            Reply::Array(vec![Reply::Array(vec![
                Reply::Integer(20),
                Reply::Integer(5),
                Reply::Integer(7),
                Reply::Array(vec![Reply::bulk(b"PING")]),
                Reply::bulk(b"127.0.0.1:5"),
                Reply::bulk(b"me"),
            ])])
        );
        log.record(0, 5, 7, &[b"PING"], SENDER);
        assert_eq!(log.len(), Reply::Integer(0));
    }

    #[test]
    fn long_commands_are_cut_as_redis_cuts_them() {
        let long = vec![b'x'; 129];
        let cut = trimmed(&[&long, &long[..128]]);
        assert!(cut[0].ends_with(b"x... (1 more bytes)"));
        assert_eq!(cut[1].len(), 128);
        let many: Vec<&[u8]> = vec![b"a"; 33];
        let cut = trimmed(&many);
        assert_eq!(cut.len(), 32);
        assert_eq!(&*cut[31], b"... (2 more arguments)");
        assert_eq!(trimmed(&many[..32]).len(), 32);
    }

    #[test]
    fn the_threshold_is_inclusive_and_negative_is_never() {
        assert!(is_slow(0, 0) && is_slow(10, 10));
        assert!(!is_slow(10, 9) && !is_slow(-1, u64::MAX));
    }
}
