//! The manifest: which files make up the journal, in order.
//!
//! A text of lines, the last the CRC-32 of those before; replaced as a whole by rename.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::persist::files;

/// The first line; Redis's manifests begin otherwise.
const HEAD: &str = "holdfast-journal 1";

/// The files of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The snapshot it begins with, by number; none if it began with nothing.
    pub base: Option<u64>,
    /// The logs that follow, by number, ascending.
    pub logs: Vec<u64>,
}

/// Names of the files beside the manifest.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names that begin with `appendfilename`.
    #[must_use]
    pub fn new(prefix: &[u8]) -> Self {
        Self { prefix: String::from_utf8_lossy(prefix).into_owned() }
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        format!("{}.manifest", self.prefix)
    }

    /// The snapshot of this number.
    #[must_use]
    pub fn base(&self, number: u64) -> String {
        format!("{}.{number}.base.rdb", self.prefix)
    }

    /// The log of this number.
    #[must_use]
    pub fn log(&self, number: u64) -> String {
        format!("{}.{number}.log", self.prefix)
    }

    /// Whether a name is that of a snapshot or a log, or of a new version of a file of ours.
    fn is_ours(&self, name: &str) -> bool {
        let new = name.strip_prefix("temp-").and_then(|rest| rest.split_once('-'));
        let rest = new.map_or(name, |(_, rest)| rest).strip_prefix(&self.prefix);
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix('.')) else { return false };
        let number = rest.strip_suffix(".base.rdb").or_else(|| rest.strip_suffix(".log"));
        number.is_some_and(|number| number.parse::<u64>().is_ok())
            || new.is_some() && rest == "manifest"
    }
}

impl Manifest {
    /// Reads the manifest; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not one.
    pub fn read(dir: &Path, names: &Names) -> io::Result<Option<Self>> {
        let path = dir.join(names.manifest());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Self::parse(&text).map(Some).map_err(|reason| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()))
        })
    }

    /// Whether it names nothing: a journal was about to be begun.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.logs.is_empty()
    }

    /// Names of files that look like the journal's and that this manifest does not name: what
    /// a crash left behind, or a journal whose manifest is lost.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn strangers(&self, dir: &Path, names: &Names) -> io::Result<Vec<String>> {
        let named: Vec<String> = (self.base.iter().map(|number| names.base(*number)))
            .chain(self.logs.iter().map(|number| names.log(*number)))
            .collect();
        let found =
            fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(found.filter(|name| names.is_ours(name) && !named.contains(name)).collect())
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("file ") {
            return Err("this is the manifest of an append-only file of Redis, which is not read \
                        here: load its data set as an RDB file instead (start Redis, SAVE, and \
                        put dump.rdb into 'dir' with another 'appenddirname')"
                .to_owned());
        }
        let (lines, crc) = text
            .trim_end()
            .rsplit_once("\ncrc ")
            .ok_or("it is cut short: restore it from a backup")?;
        let told = u32::from_str_radix(crc.trim(), 16).map_err(|_| "its checksum is no number")?;
        if crc32fast::hash(lines.as_bytes()) != told {
            return Err("its checksum is wrong: restore it from a backup".to_owned());
        }
        let mut words = lines.lines();
        if words.next() != Some(HEAD) {
            return Err(format!("it does not begin with '{HEAD}'"));
        }
        let mut manifest = Self::default();
        for line in words {
            let (kind, number) = line.split_once(' ').unwrap_or((line, ""));
            let number = number.parse().map_err(|_| format!("'{line}' is no line of it"))?;
            match kind {
                "base" => manifest.base = Some(number),
                "log" => manifest.logs.push(number),
                _ => return Err(format!("'{line}' is no line of it")),
            }
        }
        Ok(manifest)
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        if let Some(base) = self.base {
            text.push_str(&format!("\nbase {base}"));
        }
        for log in &self.logs {
            text.push_str(&format!("\nlog {log}"));
        }
        let crc = crc32fast::hash(text.as_bytes());
        format!("{text}\ncrc {crc:08x}\n")
    }

    /// Puts this manifest in the place of the one that is there, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then still there.
    pub fn write(&self, dir: &Path, names: &Names) -> io::Result<()> {
        files::replace(&dir.join(names.manifest()), |file: &mut File| {
            io::Write::write_all(file, self.text().as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_come_back_and_damage_is_seen() {
        for manifest in [
            Manifest::default(),
            Manifest { base: Some(3), logs: vec![3, 4] },
            Manifest { base: None, logs: vec![1] },
        ] {
            let text = manifest.text();
            assert_eq!(Manifest::parse(&text), Ok(manifest));
            for cut in 1..text.len() - 1 {
                assert!(Manifest::parse(&text[..cut]).is_err(), "{:?}", &text[..cut]);
            }
        }
        let names = Names::new(b"a.aof");
        for ours in ["a.aof.1.log", "a.aof.12.base.rdb", "temp-77-a.aof.manifest"] {
            assert!(names.is_ours(ours), "{ours}");
        }
        for other in ["a.aof.manifest", "a.aof.1.log.cut-at-32", "b.aof.1.log", "a.aof.x.log"] {
            assert!(!names.is_ours(other), "{other}");
        }
        let other = Manifest::parse("file appendonly.aof.1.base.rdb seq 1 type b\n");
        assert!(other.is_err_and(|reason| reason.contains("Redis")));
    }
}
