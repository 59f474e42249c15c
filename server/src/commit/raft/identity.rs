//! Who this node is: a small file beside its log, so that neither is used without the other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::types::NodeId;

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
        let bad = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not a node's identity", path(dir).display()),
            )
        };
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or_else(bad)
        };
        let number = |name: &str| field(name)?.parse::<u64>().map_err(|_| bad());
        if field("holdfast-identity")? != "1" {
            return Err(bad());
        }
        Ok(Some(Self {
            cluster: number("cluster")?,
            id: number("id")?,
            seed: number("seed")?,
            databases: u32::try_from(number("databases")?).map_err(|_| bad())?,
            member: field("state")? == "member",
            raft_addr: field("raft")?.to_owned(),
            client_addr: field("client")?.to_owned(),
        }))
    }

    /// Writes it to `dir`, so that a crash leaves the old one or this one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let part = dir.join("identity.part");
        let mut file = File::create(&part)?;
        let state = if self.member { "member" } else { "joining" };
        write!(
            file,
            "holdfast-identity 1\ncluster {}\nid {}\nseed {}\ndatabases {}\nstate {state}\nraft {}\nclient {}\n",
            self.cluster, self.id, self.seed, self.databases, self.raft_addr, self.client_addr
        )?;
        file.sync_all()?;
        fs::rename(&part, path(dir))?;
        File::open(dir)?.sync_all()
    }
}
