//! MONITOR: showing every command to whoever asked.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, PoisonError, RwLock};

use holdfast_engine::Reply;
use holdfast_engine::command::Args;
use holdfast_engine::time::DbIndex;

use crate::node::Node;
use crate::session::{Client, Session};

/// The clients that see every command.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    clients: RwLock<Vec<Arc<Client>>>,
}

impl Monitors {
    /// Whether there is any; the only question the hot path asks.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Acquire) != 0
    }

    /// Adds a client.
    pub fn add(&self, client: Arc<Client>) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.push(client);
        self.count.store(clients.len(), Release);
    }

    /// Removes a client.
    pub fn remove(&self, id: u64) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| client.id != id);
        self.count.store(clients.len(), Release);
    }

    /// Shows a client's command, with its database as it is now.
    pub(crate) fn show_client(&self, node: &Node, session: &Session, args: Args<'_>) {
        let client = &session.client;
        if client.is_unix {
            let from = format!("unix:{}", client.addr.trim_end_matches(":0"));
            self.show(node, session.db, &from, args);
        } else {
            self.show(node, session.db, &client.addr, args);
        }
    }

    /// Shows a command that a script calls.
    pub fn show_script(&self, node: &Node, db: DbIndex, args: Args<'_>) {
        self.show(node, db, "lua", args);
    }

    /// Shows a command: `1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`.
    fn show(&self, node: &Node, db: DbIndex, from: &str, args: Args<'_>) {
        let args = crate::admin::without_secrets(args);
        let unix_us = node.now().0 * 1000;
        let mut line = format!(
            "{}.{:06} [{} {from}]",
            unix_us.div_euclid(1_000_000),
            unix_us.rem_euclid(1_000_000),
            db.0
        );
        for arg in args {
            line.push(' ');
            push_quoted(&mut line, arg);
        }
        let reply = Reply::Simple(line.into());
        for client in self.clients.read().unwrap_or_else(PoisonError::into_inner).iter() {
            client.push_reply(&reply);
        }
    }
}

/// Appends `bytes` in double quotes, unprintable ones escaped as Redis escapes them.
pub fn push_quoted(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for byte in bytes {
        match byte {
            b'\\' | b'"' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
}
