//! Why a log cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why a log cannot be opened; the text says what an operator can do.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The disk or the file system.
    Io(PathBuf, io::Error),
    /// Bytes that are neither sound nor the torn end of the log.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The log ends before what is known to have been written.
    TooShort {
        /// The log's directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
}

const ADVICE: &str = "This node must not vote with a log that has lost entries. Restore its \
    directory from the disk it was on, or take the node out of the cluster (RAFT.NODE REMOVE on \
    another member), delete its directory and let it join anew";

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Corrupt { file, offset, what } => write!(
                f,
                "the Raft log is corrupt: {} at offset {offset}: {what}. {ADVICE}",
                file.display()
            ),
            Self::TooShort { dir, what } => {
                write!(f, "the Raft log in {} is too short: {what}. {ADVICE}", dir.display())
            }
        }
    }
}

impl std::error::Error for LogError {}
