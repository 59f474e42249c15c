//! Who this node is: a small file beside its log, so that neither is used without the other.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::types::NodeId;
use crate::persist::files;

/// The first line of a file that ends in a checksum. Files of version 1 have none, and are read.
const VERSION: &str = "holdfast-identity 2";
const VERSION_UNSUMMED: &str = "holdfast-identity 1";

/// A node's place in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's number, drawn when it was made.
    pub cluster: u64,
    /// The node's number.
    pub id: NodeId,
    /// What the keyspace's order of iteration is made from; the same on all nodes.
    pub seed: u64,
    /// How many databases the cluster has.
    pub databases: u32,
    /// Whether it has been promoted: from then on its log is worth something to the others.
    pub member: bool,
    /// Where the others find it, as it said when it came.
    pub raft_addr: String,
    /// Where clients find it.
    pub client_addr: String,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("identity")
}

impl Identity {
    /// Whether a node has kept its part of a cluster in `dir`, or begun to.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        path(dir).exists() || dir.join("log").is_dir()
    }

    /// Reads the one in `dir`, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or is not one.
    pub fn load(dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path(dir)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Self::parse(&text).map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged, or no node's identity: restore it from a backup, or remove \
                     this node from its cluster and let it join anew with an empty directory",
                    path(dir).display()
                ),
            )
        })
    }

    fn text(&self) -> String {
        let state = if self.member { "member" } else { "joining" };
        let body = format!(
            "{VERSION}\ncluster {}\nid {}\nseed {}\ndatabases {}\nstate {state}\nraft {}\nclient {}\n",
            self.cluster, self.id, self.seed, self.databases, self.raft_addr, self.client_addr
        );
        let sum = crc32fast::hash(body.as_bytes());
        format!("{body}checksum {sum:08x}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        match text.rsplit_once("checksum ") {
            Some((body, sum)) => {
                let sum = u32::from_str_radix(sum.strip_suffix('\n')?, 16).ok()?;
                if sum != crc32fast::hash(body.as_bytes()) || !body.starts_with(VERSION) {
                    return None;
                }
            }
            None if text.starts_with(VERSION_UNSUMMED) => {}
            None => return None,
        }
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        let member = match field("state")? {
            "member" => true,
            "joining" => false,
            _ => return None,
        };
        Some(Self {
            cluster: number("cluster")?,
            id: number("id")?,
            seed: number("seed")?,
            databases: u32::try_from(number("databases")?).ok()?,
            member,
            raft_addr: field("raft")?.to_owned(),
            client_addr: field("client")?.to_owned(),
        })
    }

    /// Writes it to `dir`, so that a crash leaves the old one or this one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        files::create_dir(dir)?;
        let part = dir.join("identity.part");
        let mut file = files::create(&part)?;
        io::Write::write_all(&mut file, self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path(dir))?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn known() -> Identity {
        Identity {
            cluster: 7,
            id: 2,
            seed: 99,
            databases: 16,
            member: true,
            raft_addr: "10.0.0.2:16379".into(),
            client_addr: "10.0.0.2:6379".into(),
        }
    }

    #[test]
    fn the_text_is_frozen_and_a_flipped_bit_is_seen() {
        let text = known().text();
        assert_eq!(
            text,
            "holdfast-identity 2\ncluster 7\nid 2\nseed 99\ndatabases 16\nstate member\n\
             raft 10.0.0.2:16379\nclient 10.0.0.2:6379\nchecksum 37dc7630\n"
        );
        assert_eq!(Identity::parse(&text), Some(known()));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let read = std::str::from_utf8(&bytes).ok().and_then(Identity::parse);
                // The case of the checksum's digits changes nothing.
                assert!(read.is_none() || read == Some(known()), "byte {at}, bit {bit}");
            }
            assert_eq!(Identity::parse(&text[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_file_of_the_version_without_a_checksum_is_read() {
        let text = "holdfast-identity 1\ncluster 7\nid 2\nseed 99\ndatabases 16\n\
                    state member\nraft 10.0.0.2:16379\nclient 10.0.0.2:6379\n";
        assert_eq!(Identity::parse(text), Some(known()));
    }

    #[test]
    fn what_is_saved_is_read_and_is_the_servers_alone() {
        let dir = std::env::temp_dir().join(format!("holdfast-identity-{}", std::process::id()));
        assert_eq!(Identity::load(&dir).unwrap(), None);
        known().save(&dir).unwrap();
        assert_eq!(Identity::load(&dir).unwrap(), Some(known()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&path(&dir))), (0o700, 0o600));
        fs::write(path(&dir), "holdfast-identity 2\n").unwrap();
        let error = Identity::load(&dir).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
