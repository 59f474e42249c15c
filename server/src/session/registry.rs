//! Every connected client, by number.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use dashmap::DashMap;

use super::{Client, Kill};

/// The connected clients. One that was told to go at once is no longer found.
#[derive(Debug, Default)]
pub struct Registry {
    clients: DashMap<u64, Arc<Client>>,
    last_id: AtomicU64,
}

impl Registry {
    /// A number for a new client; numbers grow and are never used twice.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    /// Adds a client.
    pub fn add(&self, client: Arc<Client>) {
        self.clients.insert(client.id, client);
    }

    /// Removes a client.
    pub fn remove(&self, id: u64) {
        self.clients.remove(&id);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The client of this number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        let found = self.clients.get(&id).map(|entry| Arc::clone(&entry));
        found.filter(|client| client.killed() != Kill::Now)
    }

    /// Visits all clients, in no order.
    pub fn each(&self, mut visit: impl FnMut(&Arc<Client>)) {
        for entry in self.clients.iter() {
            if entry.value().killed() != Kill::Now {
                visit(entry.value());
            }
        }
    }

    /// All clients, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Client>> {
        let mut clients = Vec::with_capacity(self.clients.len());
        self.each(|client| clients.push(Arc::clone(client)));
        clients.sort_unstable_by_key(|client| client.id);
        clients
    }
}
