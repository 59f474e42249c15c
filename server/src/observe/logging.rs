//! The log, in Redis's form: `pid:role day month year time level message`.
//!
//! `tracing`'s levels are Redis's: warn and error `#`, info `*` (notice), debug `-` (verbose),
//! trace `.` (debug). Times are UTC. The file is opened for each line, as Redis does, so that a
//! rotated log needs no signal; lines are rare enough for that.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

use crate::config::Config;
use crate::config::settings::{LogLevel, Settings, path};

/// What the letter after the process id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Starting.
    Starting = b'C',
    /// Serving writes: alone, or a leader.
    Master = b'M',
    /// Following a leader.
    Follower = b'S',
}

static ROLE: AtomicU8 = AtomicU8::new(Role::Starting as u8);

/// Changes the letter of the lines to come.
pub fn set_role(role: Role) {
    ROLE.store(role as u8, Relaxed);
}

/// Starts the log as `config` says, follows CONFIG SET loglevel, and says what is starting with
/// what configuration, warnings included. To be called once, by `main`.
///
/// # Errors
/// If `logfile` cannot be opened, or a log was started before.
pub fn start(config: &Config) -> io::Result<()> {
    let settings = config.settings();
    let file = settings.logfile();
    let target = match file.is_empty() {
        true => Target::Stdout,
        false => {
            // Absolute, for the working directory may change.
            let target = Target::File(std::path::absolute(path(&file))?);
            target.write(b"")?;
            target
        }
    };
    let (filter, handle) = reload::Layer::new(filter_of(settings));
    let layer = RedisForm { target };
    let subscriber = Registry::default().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    config.on_change(&["loglevel"], move |settings| {
        handle.reload(filter_of(settings)).map_err(|error| error.to_string())
    });
    announce(config);
    Ok(())
}

fn announce(config: &Config) {
    tracing::info!(
        "Holdfast {} is starting: pid {}, {} worker threads; to clients it is Redis 7.2.4",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        config.settings().worker_threads(),
    );
    match config.path() {
        Some(path) => tracing::info!("Configuration loaded from {}", path.display()),
        None => tracing::info!(
            "No config file: defaults and command line are used. To use one: \
             holdfast-server /path/to/holdfast.conf"
        ),
    }
    for warning in config.warnings() {
        tracing::warn!("WARNING {warning}");
    }
    let maxmemory = config.settings().maxmemory();
    if maxmemory > 0 && maxmemory < 1 << 20 {
        tracing::warn!("WARNING maxmemory is only {maxmemory} bytes: is a unit missing?");
    }
}

fn filter_of(settings: &Settings) -> Targets {
    // Raft's library tells of every retry; what an operator must know we say ourselves.
    let (level, library) = match settings.loglevel() {
        LogLevel::Debug => (LevelFilter::TRACE, LevelFilter::DEBUG),
        LogLevel::Verbose => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Notice => (LevelFilter::INFO, LevelFilter::ERROR),
        LogLevel::Warning => (LevelFilter::WARN, LevelFilter::ERROR),
    };
    Targets::new().with_default(level).with_target("openraft", library)
}

enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    fn write(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(line),
            // One write of a whole line in append mode: lines of two threads do not mix.
            Self::File(path) => {
                File::options().append(true).create(true).open(path)?.write_all(line)
            }
        }
    }
}

struct RedisForm {
    target: Target,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RedisForm {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let role = char::from(ROLE.load(Relaxed));
        let line = line(std::process::id(), role, since_epoch, *event.metadata().level(), &fields);
        // A log that cannot be written must not stop the server, nor is there a place to say so.
        let _ = self.target.write(line.as_bytes());
    }
}

/// An event's message, and its other fields as ` name=value`.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => _ = write!(self.rest, " {name}={value}"),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => _ = write!(self.message, "{value:?}"),
            name => _ = write!(self.rest, " {name}={value:?}"),
        }
    }
}

fn line(pid: u32, role: char, since_epoch: Duration, level: Level, fields: &Fields) -> String {
    let mark = match level {
        Level::ERROR | Level::WARN => '#',
        Level::INFO => '*',
        Level::DEBUG => '-',
        Level::TRACE => '.',
    };
    let Fields { message, rest } = fields;
    // A message may quote what a client sent: it must not forge a line of its own.
    let text = format!("{message}{rest}").replace(['\n', '\r'], " ");
    format!("{pid}:{role} {} {mark} {text}\n", date(since_epoch))
}

/// `21 Nov 2026 01:01:54.476`, in UTC.
fn date(since_epoch: Duration) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let month = MONTHS[month];
    let ms = since_epoch.subsec_millis();
    format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// The year, month (from 0) and day of a day since 1970.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let len = 365 + u64::from(leap(year));
        if days < len {
            break;
        }
        days -= len;
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < len {
            break;
        }
        days -= len;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "01 Jan 1970 00:00:00.000"),
            (951_782_399, "28 Feb 2000 23:59:59.000"),
            (951_782_400, "29 Feb 2000 00:00:00.000"),
            (1_795_222_914, "21 Nov 2026 01:01:54.000"),
            (4_107_542_400, "01 Mar 2100 00:00:00.000"),
        ] {
            assert_eq!(date(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn lines_have_the_form_of_redis_and_stay_one() {
        let fields = Fields { message: "a\r\nb".into(), rest: " port=1".into() };
        let line = line(7, 'M', Duration::from_millis(476), Level::INFO, &fields);
        assert_eq!(line, "7:M 01 Jan 1970 00:00:00.476 * a  b port=1\n");
    }

    #[test]
    fn events_reach_the_file_by_level() {
        let path = std::env::temp_dir().join(format!("holdfast-log-{}", std::process::id()));
        let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
        let layer = RedisForm { target: Target::File(path.clone()) };
        let subscriber = Registry::default().with(filter).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(port = 6379, "listening on {}", "all");
            tracing::debug!("not yet");
            handle.modify(|filter| *filter = LevelFilter::WARN).expect("there");
            tracing::info!("no longer");
            tracing::warn!("careful");
        });
        let text = std::fs::read_to_string(&path).expect("written");
        std::fs::remove_file(&path).expect("removed");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with(" * listening on all port=6379"), "{text}");
        assert!(lines[1].ends_with(" # careful"), "{text}");
        assert!(lines[0].starts_with(&format!("{}:C ", std::process::id())), "{text}");
    }
}
