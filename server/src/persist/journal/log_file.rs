//! A log file of the journal that is written to.
//!
//! Where each group is synced before the next, small groups overwrite zeros that were written ahead
//! of them: a sync that changes neither the file's length nor its blocks costs about two thirds of one that
//! does. What such a write leaves when the power fails is any part of one frame (see `frame`), so
//! no more than one frame is ever unsynced there.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Location;
use super::frame::{
    END_MARK, FILE_HEADER_LEN, OVERWRITE_LEN_MAX, ROOM_STEP, file_header, push_records,
};
use crate::persist::files;

/// So many small groups in a row are worth room ahead of them: who writes little need not have zeros
/// written, and groups of mixed length must not have them written again and again.
const SMALL_GROUPS_MIN: u32 = 64;

/// A log file that is written to.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    number: u64,
    /// Bytes that are good.
    len: u64,
    /// Bytes of the file: what is behind `len` is zeros.
    room_end: u64,
    /// The number of the next frame.
    next: u64,
    /// Groups of late that could have overwritten zeros.
    small_groups: u32,
}

impl LogFile {
    /// Creates the log of this number, durably.
    ///
    /// # Errors
    /// Those of the system.
    pub fn create(location: &Location, number: u64) -> io::Result<Self> {
        let path = location.dir.join(location.names.log(number));
        let mut file = files::create(&path)?;
        file.write_all(&file_header(number))?;
        file.sync_all()?;
        files::sync_dir(&location.dir)?;
        Ok(Self::at(file, number, FILE_HEADER_LEN as u64, 1))
    }

    fn at(file: File, number: u64, len: u64, next: u64) -> Self {
        Self { file, number, len, room_end: len, next, small_groups: 0 }
    }

    /// Opens a log that was replayed to go on behind its last frame; what follows is cut off.
    ///
    /// # Errors
    /// Those of the system.
    pub fn resume(path: &Path, number: u64, len: u64, next: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut len = len;
        if len < FILE_HEADER_LEN as u64 {
            file.set_len(0)?;
            file.write_all(&file_header(number))?;
            len = FILE_HEADER_LEN as u64;
        } else {
            file.set_len(len)?;
        }
        if next > 1 {
            // The mark of the last frame may be all that is missing of it.
            file.seek(SeekFrom::Start(len - 1))?;
            file.write_all(&[END_MARK])?;
        }
        file.seek(SeekFrom::Start(len))?;
        file.sync_all()?;
        Ok(Self::at(file, number, len, next))
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its length.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds nothing yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == 1
    }

    /// Whether zeros are behind the end.
    pub(super) fn has_room(&self) -> bool {
        self.room_end > self.len
    }

    /// Writes records; after an error the file is as before. `synced_at_once`: what was written
    /// before is synced, and these will be before others are.
    pub(super) fn write(
        &mut self,
        records: &[u8],
        frames: &mut Vec<u8>,
        synced_at_once: bool,
    ) -> io::Result<()> {
        frames.clear();
        let next = push_records(self.next, records, frames);
        let small = synced_at_once && frames.len() <= OVERWRITE_LEN_MAX;
        if !small {
            self.drop_room()?;
        }
        if let Err(error) = self.file.write_all(frames) {
            // A part of it may be there: nothing must follow a torn frame.
            self.cut()?;
            return Err(error);
        }
        self.len += frames.len() as u64;
        self.room_end = self.room_end.max(self.len);
        self.next = next;
        self.small_groups = if small { self.small_groups.saturating_add(1) } else { 0 };
        if self.small_groups >= SMALL_GROUPS_MIN {
            self.make_room();
        }
        Ok(())
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// The system's: what of it is on disk is not known.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives back the room behind the end, if that can be done.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.drop_room() {
            tracing::debug!("zeros stay at the end of the journal's log: {error}");
        }
    }

    /// Whatever is written next is no longer than the room. The next sync takes the zeros along.
    fn make_room(&mut self) {
        if self.room_end - self.len >= OVERWRITE_LEN_MAX as u64 {
            return;
        }
        let end = (self.len / ROOM_STEP + 2) * ROOM_STEP;
        let zeros = vec![0; (end - self.room_end) as usize];
        match self.file.write_all_at(&zeros, self.room_end) {
            Ok(()) => self.room_end = end,
            Err(error) => {
                // There may be room for records yet.
                tracing::debug!("no zeros can be written ahead of the journal: {error}");
                self.small_groups = 0;
                if let Err(error) = self.cut() {
                    tracing::debug!("zeros stay at the end of the journal's log: {error}");
                }
            }
        }
    }

    /// What was written there must be synced: nothing that follows may reach the disk before it.
    fn drop_room(&mut self) -> io::Result<()> {
        if self.has_room() { self.cut() } else { Ok(()) }
    }

    /// Cuts the file behind what is good.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.room_end = self.len;
        Ok(())
    }
}
