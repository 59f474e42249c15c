//! RedLock on `N` servers with clocks that run alike, crashes and the restart quarantine.
//!
//! A client counts on the lock from the moment a majority has granted it until its time to live has
//! passed since it *sent* its requests. Requests arrive at any time, again and again, or never.
//! Times are kept as what is left of them, so that time and crashes need no bound.

use stateright::{Model, Property};

const CLIENTS: usize = 3;
/// Time to live of a lock, in ticks.
const TTL: u8 = 2;

/// The model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed<const N: usize> {
    /// Whether a server that restarts grants nothing for a time to live.
    pub(crate) quarantine: bool,
}

/// One server: who holds the lock for how long, and how long it grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Server {
    lock: Option<(u8, u8)>,
    closed_for: u8,
}

/// One acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Client {
    started: bool,
    /// How long it would count on the lock, if it had it.
    left: u8,
    /// The servers that have granted it, as bits.
    granted: u8,
}

/// The state of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State<const N: usize> {
    servers: [Server; N],
    clients: [Client; CLIENTS],
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Time passes.
    Tick,
    /// A client sends its requests to all servers.
    Start { client: usize },
    /// A request arrives where the lock is free, for the first time or again.
    Grant { client: usize, server: usize },
    /// The server crashes and comes back without the lock.
    Crash { server: usize },
}

/// The same state with the servers in a fixed order: they are alike.
pub(crate) fn with_servers_sorted<const N: usize>(state: &State<N>) -> State<N> {
    let bit = |client: &Client, server: usize| client.granted >> server & 1;
    let mut columns: Vec<_> = (0..N)
        .map(|server| (state.servers[server], state.clients.map(|client| bit(&client, server))))
        .collect();
    columns.sort();
    let mut sorted = state.clone();
    for client in &mut sorted.clients {
        client.granted = 0;
    }
    for (at, (server, bits)) in columns.into_iter().enumerate() {
        sorted.servers[at] = server;
        for (client, bit) in sorted.clients.iter_mut().zip(bits) {
            client.granted |= bit << at;
        }
    }
    sorted
}

impl<const N: usize> Model for Timed<N> {
    type State = State<N>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<N>> {
        vec![State { servers: [Server::default(); N], clients: Default::default() }]
    }

    fn actions(&self, state: &State<N>, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        // Clients are alike: they start in order.
        if let Some(client) = state.clients.iter().position(|client| !client.started) {
            actions.push(Action::Start { client });
        }
        for server in 0..N {
            let of = &state.servers[server];
            if of.lock.is_none() && of.closed_for == 0 {
                let started = (0..CLIENTS).filter(|client| state.clients[*client].started);
                actions.extend(started.map(|client| Action::Grant { client, server }));
            }
            actions.push(Action::Crash { server });
        }
    }

    fn next_state(&self, last: &State<N>, action: Action) -> Option<State<N>> {
        let mut state = last.clone();
        match action {
            Action::Tick => {
                for server in &mut state.servers {
                    server.closed_for = server.closed_for.saturating_sub(1);
                    server.lock = server
                        .lock
                        .map(|(owner, left)| (owner, left - 1))
                        .filter(|(_, left)| *left > 0);
                }
                for client in &mut state.clients {
                    client.left = client.left.saturating_sub(1);
                }
            }
            Action::Start { client } => {
                state.clients[client].started = true;
                state.clients[client].left = TTL;
            }
            Action::Grant { client, server } => {
                state.servers[server].lock = Some((client as u8, TTL));
                state.clients[client].granted |= 1 << server;
            }
            Action::Crash { server } => {
                state.servers[server].lock = None;
                state.servers[server].closed_for = if self.quarantine { TTL } else { 0 };
            }
        }
        for client in &mut state.clients {
            if client.left == 0 {
                // Its time is over, whoever grants it anything yet.
                client.granted = 0;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("one client at most counts on the lock", |_, state: &State<N>| {
            let counts =
                |client: &&Client| client.left > 0 && client.granted.count_ones() > N as u32 / 2;
            state.clients.iter().filter(counts).count() <= 1
        })]
    }
}
