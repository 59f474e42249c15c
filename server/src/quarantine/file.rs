//! The file in the data directory that outlives what the process knew of its locks.
//!
//! `holdfast-locks` is text: a version, how the last run ended, a time in ms, the
//! tokens that may have been given out, and a checksum. It is written beside, synced and renamed,
//! so that it is always one whole state. Persisted: a new shape gets a new version.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::persist::files;

/// Its name.
const NAME: &str = "holdfast-locks";
const VERSION: &str = "holdfast-locks 1";

/// How the last run of the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It said what was left of its locks.
    Clean,
    /// It said nothing, or still runs.
    Unclean,
    /// The same, but each of its grants is in a journal that was synced before the reply.
    Journaled,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) stop: Stop,
    /// After a clean stop how long the longest lock had left; else no lock was granted for longer.
    pub(super) lifetime_ms: i64,
    /// No greater token was given out.
    pub(super) tokens: u64,
}

impl State {
    fn text(self) -> String {
        let end = match self.stop {
            Stop::Clean => "clean",
            Stop::Unclean => "unclean",
            Stop::Journaled => "journaled",
        };
        let body = format!(
            "{VERSION}\nend {end}\nlifetime-ms {}\ntokens {}\n",
            self.lifetime_ms, self.tokens
        );
        let sum = checksum(body.as_bytes());
        format!("{body}checksum {sum:016x}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.split_once("checksum ")?;
        if u64::from_str_radix(sum.trim_end(), 16).ok()? != checksum(body.as_bytes()) {
            return None;
        }
        let mut lines = body.strip_prefix(VERSION)?.strip_prefix('\n')?.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let stop = match value("end")? {
            "clean" => Stop::Clean,
            "unclean" => Stop::Unclean,
            "journaled" => Stop::Journaled,
            _ => return None,
        };
        let lifetime_ms = value("lifetime-ms")?.parse().ok()?;
        Some(Self { stop, lifetime_ms, tokens: value("tokens")?.parse().ok()? })
    }
}

/// FNV-1a: enough to see a flipped byte, and frozen by its definition.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Where the file of a data directory is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// What the file says; `None` if there is none.
///
/// # Errors
/// The system's, or `InvalidData` for a file that is not whole.
pub(super) fn read(dir: &Path) -> io::Result<Option<State>> {
    match fs::read(path(dir)) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(State::parse)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file; on return it is on the disk.
///
/// # Errors
/// The system's; then the file before still stands.
pub(super) fn write(dir: &Path, state: State) -> io::Result<()> {
    let beside = dir.join(format!("{NAME}.tmp"));
    let mut file = files::create(&beside)?;
    file.write_all(state.text().as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path(dir))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_frozen_and_a_flipped_byte_is_seen() {
        let state = State { stop: Stop::Unclean, lifetime_ms: 30_720, tokens: 1_048_577 };
        let text = state.text();
        assert_eq!(
            text,
            "holdfast-locks 1\nend unclean\nlifetime-ms 30720\ntokens 1048577\n\
             checksum 8e40ea919757d8d1\n"
        );
        assert_eq!(State::parse(&text), Some(state));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let read = std::str::from_utf8(&bytes).ok().and_then(State::parse);
            // A flipped bit of the checksum's case, or the final line end, changes nothing.
            assert!(read.is_none() || read == Some(state), "byte {at}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = std::env::temp_dir().join(format!("holdfast-locks-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(read(&dir).unwrap(), None);
        let state = State { stop: Stop::Clean, lifetime_ms: 5, tokens: 9 };
        write(&dir, state).unwrap();
        assert_eq!(read(&dir).unwrap(), Some(state));
        fs::write(path(&dir), "holdfast-locks 1\n").unwrap();
        assert_eq!(read(&dir).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::remove_dir_all(&dir).unwrap();
    }
}
