//! `--repair-journal`: cutting a damaged journal where it is still good.
//!
//! An operator's decision, never taken by itself: what lies behind the damage is moved to a file
//! beside the log and no longer replayed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::frame::{Fault, FrameReader};
use super::{Location, Manifest};
use crate::persist::{claim, files, rdb};

/// Cuts the journal at its first damage; returns what was done, in lines.
///
/// # Errors
/// When there is no journal, its manifest or its base is damaged, or the disk fails.
pub fn repair(location: &Location) -> io::Result<Vec<String>> {
    let none = || {
        let path = location.dir.join(location.names.manifest());
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no journal: {} does not exist", path.display()),
        )
    };
    if !location.dir.join(location.names.manifest()).exists() {
        return Err(none());
    }
    // Before the manifest is read: a server that runs writes it, too.
    let _lock = claim::lock_inner(&location.dir)?;
    let mut manifest = Manifest::read(&location.dir, &location.names)?.ok_or_else(none)?;
    let mut told = Vec::new();
    if let Some(number) = manifest.base {
        let path = location.dir.join(location.names.base(number));
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if let Some(reason) = rdb::verify(&path).map_err(named)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{}, which it begins with, is damaged: {reason}. What follows says nothing \
                     without it: restore it from a backup. Nothing was changed",
                    path.display()
                ),
            ));
        }
        told.push(format!("{} is good", path.display()));
    }
    let logs = manifest.logs.clone();
    for (nth, number) in logs.iter().enumerate() {
        let path = location.dir.join(location.names.log(*number));
        let len = match fs::metadata(&path) {
            Ok(meta) => meta.len(),
            // An earlier repair was cut short.
            Err(error) if error.kind() == io::ErrorKind::NotFound && nth > 0 => {
                told.push(format!("{} is gone and no longer replayed", path.display()));
                manifest.logs.truncate(nth);
                manifest.write(&location.dir, &location.names)?;
                break;
            }
            Err(error) => return Err(error),
        };
        let Some((good, reason)) = first_fault(&path, len, *number)? else {
            told.push(format!("{} is good", path.display()));
            continue;
        };
        let kept = path.with_extension(format!("log.cut-at-{good}"));
        let mut file = File::options().read(true).write(true).open(&path)?;
        file.seek(SeekFrom::Start(good))?;
        io::copy(&mut file, &mut files::create(&kept)?)?;
        File::open(&kept)?.sync_all()?;
        file.set_len(good)?;
        file.sync_all()?;
        told.push(format!(
            "{}: {reason} at byte {good}; {} bytes moved to {}",
            path.display(),
            len - good,
            kept.display()
        ));
        for later in &logs[nth + 1..] {
            let path = location.dir.join(location.names.log(*later));
            let kept = path.with_extension("log.cut");
            fs::rename(&path, &kept)?;
            told.push(format!(
                "{} follows the damage and is no longer replayed; it is now {}",
                path.display(),
                kept.display()
            ));
        }
        manifest.logs.truncate(nth + 1);
        manifest.write(&location.dir, &location.names)?;
        files::sync_dir(&location.dir)?;
        break;
    }
    Ok(told)
}

/// Up to where a log is good, and what is wrong there; `None` if nothing is.
fn first_fault(path: &std::path::Path, len: u64, number: u64) -> io::Result<Option<(u64, String)>> {
    fn fault(fault: Fault) -> io::Result<Option<(u64, String)>> {
        match fault {
            Fault::Torn { good } => Ok(Some((good, "it was not written whole".to_owned()))),
            Fault::Damaged { offset, reason } => Ok(Some((offset, reason))),
            Fault::Io(error) => Err(error),
        }
    }
    let input: BufReader<Box<dyn Read>> = BufReader::new(Box::new(File::open(path)?));
    let mut reader = match FrameReader::new(input, len, number) {
        Ok(reader) => reader,
        Err(found) => return fault(found),
    };
    let mut payload = Vec::new();
    loop {
        match reader.next_frame(&mut payload) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(found) => return fault(found),
        }
    }
}
