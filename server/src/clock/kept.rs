//! Where the clock was, in the data directory, so that the next process of this boot goes on from there.
//!
//! Locks in a journal end by the server clock. If the next process began at wall time, and that had been
//! set an hour ahead meanwhile, it would take all of them for expired while their holders count on
//! them; set back, it would keep them for an hour. `holdfast-clock` is text: a version, the boot it
//! is of, a reading of the boot clock, the server clock's beside it, and a checksum. After a boot it
//! says nothing. It is never synced: only the end of the process must not lose it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Its name.
const NAME: &str = "holdfast-clock";
const VERSION: &str = "holdfast-clock 1";
/// A clock that has moved by less against the boot clock need not be written again.
const MOVED_NS_MIN: i64 = 1_000_000;

/// A reading of the server clock and of the boot clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since boot.
    pub boot_ns: i64,
    /// Since 1970.
    pub clock_ns: i64,
}

impl Moment {
    fn ahead_ns(self) -> i64 {
        self.clock_ns.saturating_sub(self.boot_ns)
    }

    fn text(self, boot: &str) -> String {
        let Self { boot_ns, clock_ns } = self;
        let body = format!("{VERSION}\nboot {boot}\nboot-ns {boot_ns}\nclock-ns {clock_ns}\n");
        let sum = crc32fast::hash(body.as_bytes());
        format!("{body}checksum {sum:08x}\n")
    }

    fn parse(text: &str, boot: &str) -> Option<Self> {
        let (body, sum) = text.split_once("checksum ")?;
        if u32::from_str_radix(sum.trim_end(), 16).ok()? != crc32fast::hash(body.as_bytes()) {
            return None;
        }
        let mut lines = body.strip_prefix(VERSION)?.strip_prefix('\n')?.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        if value("boot")? != boot {
            return None;
        }
        let boot_ns = value("boot-ns")?.parse().ok()?;
        Some(Self { boot_ns, clock_ns: value("clock-ns")?.parse().ok()? })
    }
}

/// What tells this boot from others; `None` where the system does not say.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Where the clock of the last process was, if that was in this boot. A file that is damaged says
/// nothing.
#[must_use]
pub fn read(dir: &Path) -> Option<Moment> {
    Moment::parse(&fs::read_to_string(path(dir)).ok()?, &boot()?)
}

/// Writes down where the clock is, unless the file says so.
///
/// # Errors
/// The system's.
pub fn keep(dir: &Path, moment: Moment) -> io::Result<()> {
    let moved = |kept: Moment| (kept.ahead_ns() - moment.ahead_ns()).abs() >= MOVED_NS_MIN;
    match boot() {
        Some(boot) if read(dir).is_none_or(moved) => {
            let beside = dir.join(format!("{NAME}.tmp"));
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(moment.text(&boot).as_bytes())?;
            fs::rename(beside, path(dir))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Moment = Moment { boot_ns: 5_000_000_000, clock_ns: 1_800_000_000_000_000_000 };

    #[test]
    fn the_text_is_frozen_and_a_flipped_byte_or_another_boot_says_nothing() {
        let text = MOMENT.text("b-1");
        assert_eq!(
            text,
            "holdfast-clock 1\nboot b-1\nboot-ns 5000000000\nclock-ns 1800000000000000000\n\
             checksum a0bcc0a3\n"
        );
        assert_eq!(Moment::parse(&text, "b-1"), Some(MOMENT));
        assert_eq!(Moment::parse(&text, "b-2"), None);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let read = std::str::from_utf8(&bytes).ok().and_then(|text| Moment::parse(text, "b-1"));
            assert!(read.is_none() || read == Some(MOMENT), "byte {at}");
        }
    }

    #[test]
    fn what_is_kept_is_read_and_written_again_only_if_it_moved() {
        let dir = std::env::temp_dir().join(format!("holdfast-clock-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(read(&dir), None);
        keep(&dir, MOMENT).unwrap();
        if boot().is_some() {
            assert_eq!(read(&dir), Some(MOMENT));
            let later = Moment { boot_ns: MOMENT.boot_ns + 9, clock_ns: MOMENT.clock_ns + 9 };
            keep(&dir, later).unwrap();
            assert_eq!(read(&dir), Some(MOMENT));
            let moved = Moment { clock_ns: later.clock_ns + MOVED_NS_MIN, ..later };
            keep(&dir, moved).unwrap();
            assert_eq!(read(&dir), Some(moved));
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
