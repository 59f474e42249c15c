//! What the members of a cluster share besides the data: settings and users that were changed
//! through the log.
//!
//! Each member begins with its own configuration and its own users; what the log has changed holds
//! instead, on every member alike, and goes with snapshots.

use std::collections::BTreeMap;

use super::surroundings::Surroundings;
use super::wire::{self, Malformed, Reader};

/// Names and values; a user without rules was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shared {
    settings: BTreeMap<Vec<u8>, Vec<u8>>,
    users: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Shared {
    /// Notes settings that were changed: names and values in turn.
    pub(crate) fn note_settings(&mut self, pairs: &[&[u8]]) {
        for [name, value] in pairs.as_chunks::<2>().0 {
            self.settings.insert(name.to_vec(), value.to_vec());
        }
    }

    /// Notes what a user is from now on: its name and its rules.
    pub(crate) fn note_user(&mut self, name_and_rules: &[&[u8]]) {
        if let [name, rules @ ..] = name_and_rules {
            let rules = rules.iter().map(|rule| rule.to_vec()).collect();
            self.users.insert(name.to_vec(), rules);
        }
    }

    /// Puts all of it in force on this node.
    pub(crate) fn put_in_force(&self, node: &dyn Surroundings) {
        for (name, value) in &self.settings {
            if let Err(error) = node.change_settings(&[name, value]) {
                let name = String::from_utf8_lossy(name);
                tracing::warn!("the cluster's '{name}' cannot be put in force here: {error}");
            }
        }
        for (name, rules) in &self.users {
            let words: Vec<&[u8]> =
                std::iter::once(name.as_slice()).chain(rules.iter().map(Vec::as_slice)).collect();
            if let Err(error) = node.change_user(&words) {
                let name = String::from_utf8_lossy(name);
                tracing::warn!("the cluster's user '{name}' cannot be made here: {error}");
            }
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        wire::put_u32(out, self.settings.len() as u32);
        for (name, value) in &self.settings {
            wire::put_bytes(out, name);
            wire::put_bytes(out, value);
        }
        wire::put_u32(out, self.users.len() as u32);
        for (name, rules) in &self.users {
            wire::put_bytes(out, name);
            wire::put_u32(out, rules.len() as u32);
            rules.iter().for_each(|rule| wire::put_bytes(out, rule));
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut shared = Self::default();
        for _ in 0..from.count(8, "settings")? {
            let name = from.bytes("setting")?.to_vec();
            shared.settings.insert(name, from.bytes("value")?.to_vec());
        }
        for _ in 0..from.count(8, "users")? {
            let name = from.bytes("user")?.to_vec();
            let count = from.count(4, "rules")?;
            let rules = (0..count).map(|_| Ok(from.bytes("rule")?.to_vec()));
            let rules = rules.collect::<Result<_, _>>()?;
            shared.users.insert(name, rules);
        }
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_read_as_written() {
        let mut shared = Shared::default();
        shared.note_settings(&[b"a", b"1", b"b", b""]);
        shared.note_settings(&[b"a", b"2"]);
        shared.note_user(&[b"alice", b"on", b"~*"]);
        shared.note_user(&[b"bob"]);
        let mut bytes = Vec::new();
        shared.put(&mut bytes);
        assert_eq!(Shared::read(&mut Reader::new(&bytes)), Ok(shared));
        for len in 0..bytes.len() {
            assert!(Shared::read(&mut Reader::new(&bytes[..len])).is_err(), "cut at {len}");
        }
    }
}
